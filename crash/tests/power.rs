//! Sixty power cuts, others in each run: the first seed comes from the clock, and is printed.

use std::process::Command;

#[test]
fn what_a_caller_was_told_survives_a_power_cut_and_is_done_once() {
    let program = env!("CARGO_BIN_EXE_flowstone-crash");

    let finished = Command::new(program).args(["--power", "60", "--jobs", "4"]).output().unwrap();

    let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    assert!(finished.status.success(), "{out}\n{err}");
    assert!(out.contains(", 0 failed"), "{out}\n{err}");
}
