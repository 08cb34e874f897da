//! Six seeds, others in each run: the first comes from the clock, and is printed.

use std::process::Command;

#[test]
fn what_is_committed_is_done_once_whenever_the_process_is_killed() {
    let program = env!("CARGO_BIN_EXE_flowstone-crash");

    let finished = Command::new(program).args(["--seeds", "6"]).output().unwrap();

    let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    assert!(finished.status.success(), "{out}\n{err}");
    assert!(out.contains("6 seeds, 0 failed"), "{out}\n{err}");
}

#[test]
fn a_wrong_option_is_refused() {
    let finished = Command::new(env!("CARGO_BIN_EXE_flowstone-crash")).arg("--seed").output().unwrap();

    assert_eq!(finished.status.code(), Some(2));
}
