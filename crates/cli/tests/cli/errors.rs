//! A failure is one clear line on stderr, and an exit code.

use std::{fs, process::Command};

use crate::common::{Desk, Said};

#[test]
fn a_store_has_to_be_there() {
    let desk = Desk::empty();

    for line in ["runs list", "runs cancel x", "runs answer x --node n 1", "graph"] {
        let error = desk.flowstone(line).failed();
        assert!(error.starts_with("error: cannot open the store `desk.db`: "), "{error}");
    }
    assert!(!desk.store().exists());
}

#[test]
fn a_store_has_to_be_one() {
    let desk = Desk::empty();
    fs::write(desk.path("notes.txt"), "not a database, but long enough to have a header: ".repeat(20)).unwrap();
    let other = rusqlite::Connection::open(desk.path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    drop(other);

    let text = desk.flowstone("runs list --store notes.txt").failed();
    let database = desk.flowstone("runs list --store other.db").failed();

    assert_eq!(text, "error: `notes.txt` is not a store of Flowstone: it is no SQLite database");
    assert_eq!(database, "error: `other.db` is not a store of Flowstone: it is a SQLite database of another program");
}

#[test]
fn runs_and_steps_have_to_be_there() {
    let desk = Desk::with_runs();

    for line in ["show x", "state x", "diff x 0 1", "cancel x", "retry x", "delete x", "fork x --step 0 --to y"] {
        assert_eq!(desk.flowstone(&format!("runs {line}")).failed(), "error: there is no run `x`");
    }
    assert_eq!(desk.flowstone("runs state march --step 9").failed(), "error: run `march` has no step 9; its last is 2");
    assert_eq!(desk.flowstone("runs diff march 0 9").failed(), "error: run `march` has no step 9; its last is 2");
}

#[test]
fn an_error_stays_one_line_of_bounded_length() {
    let desk = Desk::with_runs();
    let long = "x".repeat(50_000);

    let steering = desk.flowstone_with(&["runs", "show", "a\nb\u{1b}[31m"]).failed();
    let lengthy = desk.flowstone_with(&["runs", "show", &long]).failed();

    assert_eq!(steering, "error: there is no run `a\\nb\\u{1b}[31m`");
    assert!(lengthy.len() < 1100, "{}", lengthy.len());
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let desk = Desk::with_runs();

    for line in [
        "",
        "runs",
        "runs show",
        "runs answer march",
        "new",
        "runs fork april --to x",
        "runs list --status done",
        "runs list --since yesterday",
        "runs list --limit 0",
        "runs prune --older-than 2 --dry-run",
        "runs prune --keep 0 --status running",
        "runs fork april --step 1 --to x --set /city=Rome",
        "graph --dot --mermaid",
        "completions tcl",
        "run invoice --id x",
    ] {
        desk.flowstone(line).usage();
    }
}

#[test]
fn the_store_has_to_be_named() {
    let named = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowstone"));
        Said::of(command.args(line.split_whitespace()).env_remove("FLOWSTONE_STORE")).usage()
    };

    assert!(named("runs list").contains("--store <FILE>"));
    assert!(named("graph").contains("--store FILE"));
}
