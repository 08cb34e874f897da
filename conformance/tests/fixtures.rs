//! The hand-written specs of the kit, with the traces that PocketFlow 0.0.3 produced for them, compared without Python.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use flowstone_conformance::{
    normalize::{difference, normalize},
    run::Runner,
    spec::Spec,
    trace::Answer,
};

#[test]
fn every_fixture_has_the_trace_of_pocketflow() {
    let runner = Runner::new().unwrap();
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 31, "21 that run, 10 that are refused");

    let differences: Vec<String> = fixtures
        .iter()
        .filter_map(|path| {
            let spec = Spec::parse(&read(path)).unwrap();
            let expected: Answer = serde_json::from_str(&read(&path.with_extension("trace.json"))).unwrap();
            let told = judge(&spec, &expected, &runner.answer(&spec))?;
            Some(format!("{}: {told}", path.display()))
        })
        .collect();

    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn one_flow_after_another_gives_the_same_trace_again() {
    let runner = Runner::new().unwrap();

    for path in fixtures() {
        let spec = Spec::parse(&read(&path)).unwrap();
        let (first, second) = (runner.answer(&spec), runner.answer(&spec));
        assert_eq!(judge(&spec, &first, &second), None, "{}", path.display());
    }
}

#[test]
fn a_run_without_an_end_is_stopped() {
    let flow = r#"{"name": "main", "kind": "flow", "start": "a", "nodes": [{"name": "a", "kind": "node"}],
        "edges": [{"from": "a", "to": "a"}]}"#;
    let spec = Spec::parse(&format!(r#"{{"shared": {{}}, "flow": {flow}}}"#)).unwrap();

    let Answer::Ran(trace) = Runner::new().unwrap().answer(&spec) else { panic!("the flow is right") };

    assert!(trace.error.is_some_and(|error| error.path == "main/a" && error.message.contains("100000 visits")));
}

#[test]
fn what_does_not_follow_the_format_is_an_error() {
    let node = |fields: &str| {
        let nodes = format!(r#"[{{"name": "a", "kind": "node"{fields}}}]"#);
        format!(r#"{{"shared": {{}}, "flow": {{"name": "main", "kind": "flow", "start": "a", "nodes": {nodes}}}}}"#)
    };
    let cases = [
        ("{", "EOF"),
        ("[]", "expected struct Spec"),
        (&node(r#", "retries": 3"#), "unknown field `retries`"),
        (&node(r#", "exec": {"fn": "sum", "k": 1}"#), "unknown field `k`"),
        (&node(r#", "exec": {"fn": "mul", "k": 1, "m": 0}"#), "nonzero"),
        (&node(r#", "exec": {"fn": "pow"}"#), "unknown variant `pow`"),
        (&node(r#", "prep": {"key": "k", "param": "p"}"#), "Source"),
        (&node(r#", "fallback": {"echo": false}"#), "has to be true"),
        (&node(r#", "fallback": {"echo": true, "value": 1}"#), "single key"),
        (&node(r#", "fail": [{"phase": "prep", "item": 1}]"#), "only `exec` has items"),
        (&node(r#", "fail": [{"visit": null}]"#), "null"),
        (&node(r#", "wait_ms": 1.5"#), "1.5 is no integer"),
        (&node(r#", "attempts": 2147483648"#), "2147483648 is no integer"),
        (&node("").replace(r#""a", "kind""#, r#""A", "kind""#), "bad name `A`"),
        (&node("").replace(r#""kind": "flow""#, r#""kind": "batch_flow""#), "batch flows have items"),
    ];

    for (text, expected) in cases {
        let error = Spec::parse(text).map(|_| ()).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn the_program_answers_each_line_and_names_the_line_that_is_no_spec() {
    let good = read(&fixtures()[0]).replace('\n', " ");

    let output = program(&format!("{good}\n{good}\n{{\"shared\": 1}}\n{good}\n"));

    assert!(!output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    assert!(String::from_utf8(output.stderr).unwrap().contains("line 3: "));
}

fn program(input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowstone-conformance"));
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    stdin.write_all(input.as_bytes()).expect("the program reads");
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

/// Says how an answer differs from the expected one; `None` if it does not.
fn judge(spec: &Spec, expected: &Answer, actual: &Answer) -> Option<String> {
    match (expected, actual) {
        (Answer::Ran(expected), Answer::Ran(actual)) => {
            difference(&normalize(spec, expected), &normalize(spec, actual))
        }
        _ => (expected != actual).then(|| format!("expected {expected:?}, got {actual:?}")),
    }
}

/// The specs of the fixtures, those in `invalid/` with them.
fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let files = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).expect("the folder is there");
        entries.map(|entry| entry.expect("the folder can be read").path()).collect()
    };
    let mut paths = [files(&folder), files(&folder.join("invalid"))].concat();
    let is_spec = |path: &PathBuf| path.to_str().is_some_and(|p| p.ends_with(".json") && !p.ends_with(".trace.json"));
    paths.retain(is_spec);
    paths.sort();
    paths
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
