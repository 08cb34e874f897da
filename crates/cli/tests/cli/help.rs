//! Help, completions, colours and pipes.

use std::process::{Command, Stdio};

use crate::common::{Desk, Said};

const COMMANDS: [&str; 10] = ["list", "show", "state", "diff", "answer", "cancel", "retry", "fork", "prune", "delete"];

#[test]
fn every_command_has_help_with_an_example() {
    let desk = Desk::empty();

    let help = desk.flowstone("help runs").ok();
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let help = desk.flowstone(&format!("help runs {command}")).ok();
        assert!(help.contains(&format!("\n  flowstone runs {command} ")), "{help}");
        assert!(help.contains("[env: FLOWSTONE_STORE]"), "{help}");
    }
}

#[test]
fn a_program_calls_itself_by_its_name() {
    let desk = Desk::empty();

    let help = desk.desk("help run").ok();

    assert!(help.contains("\n  desk run trip --id trip-42"), "{help}");
    assert!(help.contains("[possible values: invoice, year, reminder]"), "{help}");
    assert!(!desk.flowstone("help").ok().contains("\n  resume "));
}

#[test]
fn completions_are_there_for_the_common_shells() {
    let desk = Desk::empty();

    assert!(desk.flowstone("completions bash").ok().contains("complete -F _flowstone"));
    assert!(desk.flowstone("completions zsh").ok().starts_with("#compdef flowstone"));
    assert!(desk.flowstone("completions fish").ok().contains("complete -c flowstone"));
    let own = desk.desk("completions bash").ok();
    assert!(own.contains("invoice year reminder"), "{own}");
}

#[test]
fn nothing_into_a_pipe_has_colours() {
    let desk = Desk::with_runs();

    for line in
        ["help", "help runs list", "runs list", "runs show march", "runs show nobody", "runs list --bad", "graph"]
    {
        let Said { out, err, .. } = desk.flowstone(line);
        assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "{line}: {out}{err}");
    }
}

/// A reader that is gone before a word is written, as `| head -0`.
#[test]
fn a_broken_pipe_is_no_failure() {
    let desk = Desk::with_runs();
    for line in ["runs list", "runs show march", "graph", "completions bash"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowstone"));
        command.args(line.split_whitespace()).arg("--store").arg(desk.store());
        if line.starts_with("completions") {
            command = Command::new(env!("CARGO_BIN_EXE_flowstone"));
            command.args(line.split_whitespace());
        }

        let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();

        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{line}");
    }
}
