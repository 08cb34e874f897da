//! The programs that speak with a model, without one: the scripted model replies, and what they print is in
//! `expected/`.
//!
//! `UPDATE_EXPECT=1` writes those files anew. `cargo test -p flowstone-examples-models` builds the programs first; with
//! `--test programs` besides it does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env, fs,
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use flowstone::durable::{Reader, Requests, Status};
use serde_json::json;
use tempfile::TempDir;

fn program(name: &str, arguments: &[&str]) -> Command {
    let this = env::current_exe().unwrap();
    let examples = this.ancestors().nth(2).unwrap().join("examples");
    let mut command = Command::new(examples.join(name).with_extension(env::consts::EXE_EXTENSION));
    command.args(arguments).env("RUST_BACKTRACE", "0").env_remove("FLOWSTONE_MODEL");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a program to its end, with these lines typed.
fn run(name: &str, arguments: &[&str], typed: &str) -> Output {
    let mut child = program(name, arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a program with the scripted model, and compares what it prints with `expected/FILE.txt`.
#[track_caller]
fn expect(file: &str, name: &str, arguments: &[&str], typed: &str) {
    let output = run(name, &[&["--model", "scripted"], arguments].concat(), typed);

    assert!(output.status.success(), "{name} ended with {}:\n{}", output.status, errors(&output));
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "expected", &format!("{file}.txt")].iter().collect();
    let printed = String::from_utf8(output.stdout).unwrap();
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &printed).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert_eq!(printed, expected, "see {}; UPDATE_EXPECT=1 writes it anew", path.display());
}

/// A folder with a store that the scripted model is used with.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("runs.db")
    }

    fn reader(&self) -> Reader {
        Reader::open(self.store()).unwrap()
    }

    fn run(&self, name: &str, arguments: &[&str], typed: &str) -> Output {
        let store = self.store();
        run(name, &[&["--model", "scripted", "--store", store.to_str().unwrap()], arguments].concat(), typed)
    }
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "a minute has gone by before {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn chat_remembers() {
    expect("chat", "chat", &[], "Hello!\nHow are you?\nGoodbye.\n");
}

#[test]
fn chat_goes_on_after_a_restart() {
    let folder = Folder::new();

    let first = folder.run("chat", &[], "Hello!\n");
    let second = folder.run("chat", &[], "How are you?\n");

    assert!(first.status.success() && second.status.success(), "{}{}", errors(&first), errors(&second));
    let printed = String::from_utf8(second.stdout).unwrap();
    assert!(printed.starts_with("… You say “Hello!”. Before that you said 0 things.\n"), "{printed}");
    let chat = folder.reader().state("chat", None).unwrap();
    assert_eq!(chat[3]["parts"][0]["text"], "You say “How are you?”. Before that you said 1 things.");
}

#[test]
fn extract_makes_a_table() {
    expect("extract", "extract", &[], "");
}

/// Invoices enough to be killed among.
fn invoices(folder: &Folder, count: usize) -> PathBuf {
    let invoice = |n| format!("Vendor {n}\nInvoice no. {n} of 2026-03-04\n\nGoods\nTotal due: EUR {n}.50\n");
    let path = folder.0.path().join("invoices.txt");
    fs::write(&path, (1..=count).map(invoice).collect::<Vec<_>>().join("---\n")).unwrap();
    path
}

#[test]
fn extract_asks_for_no_invoice_twice_though_it_is_killed() {
    let folder = Folder::new();
    let (store, file) = (folder.store(), invoices(&folder, 40));
    let (store, file) = (store.to_str().unwrap(), file.to_str().unwrap());
    let run_of = || Reader::open(folder.store()).ok()?.list(&Default::default()).ok()?.pop();
    let done = || run_of().and_then(|run| folder.reader().items_done(run.id).ok()).unwrap_or_default();

    let slow = ["--model", "scripted", "--script-takes", "20", "--store", store, file];
    let mut child = program("extract", &slow).spawn().unwrap();
    until("ten are read", || done() >= 10);
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = done();
    let ended = folder.run("extract", &[file], "");

    assert!(ended.status.success(), "{}", errors(&ended));
    let printed = String::from_utf8(ended.stdout).unwrap();
    assert!((1..=40).all(|n| printed.contains(&format!(" Vendor {n} "))), "{printed}");
    let run = run_of().unwrap();
    let items = folder.reader().steps(run.id, 1, 1).unwrap().remove(0).items.unwrap();
    assert!((10..40).contains(&kept), "killed too late: {kept} were read");
    assert_eq!((run.status, items.recorded, items.recalled), (Status::Ended, 40, kept));
}

#[test]
fn extract_says_which_file_it_cannot_read() {
    let output = run("extract", &["--model", "scripted", "no_such_file.txt"], "");

    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("no_such_file.txt is no text file"), "{}", errors(&output));
}

#[test]
fn judge_is_asked_until_it_is_satisfied() {
    expect("judge", "judge", &[], "");
}

#[test]
fn judge_gives_up_after_the_last_round() {
    expect("judge_given_up", "judge", &["--rounds", "1"], "");
}

#[test]
fn support_pays_back_what_a_person_approves() {
    expect("support", "support", &[], "yes\n");
}

#[test]
fn support_pays_nothing_that_a_person_refuses() {
    expect("support_refused", "support", &[], "The teapot was whole.\n");
}

#[test]
fn support_looks_orders_up_without_asking_anybody() {
    expect("support_delivery", "support", &["Where is order 1042?"], "");
}

#[test]
fn support_waits_in_its_store_for_an_answer_from_elsewhere() {
    let folder = Folder::new();

    let waits = folder.run("support", &[], "");
    let status = folder.reader().run("ticket-1").unwrap().status;
    let approve = json!({ "all": { "decision": "approve" } });
    Requests::open(folder.store()).unwrap().answer("ticket-1", "refunds/approve", approve).unwrap();
    let ended = folder.run("support", &[], "");

    assert!(waits.status.success() && ended.status.success(), "{}{}", errors(&waits), errors(&ended));
    assert_eq!(status, Status::Paused);
    assert!(errors(&waits).contains("runs answer ticket-1 --node refunds/approve"), "{}", errors(&waits));
    let printed = |output: Output| String::from_utf8(output.stdout).unwrap();
    assert!(!printed(waits).contains("paid back"));
    assert!(printed(ended).contains("[paid back: 18.90 for order 1042]"));
}

#[test]
fn research_names_its_sources() {
    expect("research", "research", &[], "");
}

#[test]
fn research_says_what_it_looked_for_in_vain() {
    let folder = Folder::new();

    let docs = folder.0.path().to_str().unwrap();
    let output = run("research", &["--model", "scripted", "--docs", docs], "");

    assert_eq!(output.status.code(), Some(1));
    let said = errors(&output);
    assert!(
        said.contains(
            "no document says anything of green tea brewed, black tea leaves, how green and black tea differ"
        ),
        "{said}"
    );
}

#[test]
fn sql_tells_the_model_what_was_wrong() {
    expect("sql", "sql", &[], "");
}

#[test]
fn sql_gives_up_after_the_last_try() {
    let output = run("sql", &["--model", "scripted", "--tries", "1"], "");

    assert_eq!(output.status.code(), Some(1));
    let said = errors(&output);
    assert!(said.contains("none of 1 statements works") && said.contains("no such column: price"), "{said}");
}

#[test]
fn sql_says_which_file_is_no_database() {
    let folder = Folder::new();
    let file = folder.0.path().join("text.db");
    fs::write(&file, "this is a text, and long enough not to be taken for an empty file").unwrap();

    let output = run("sql", &["--model", "scripted", "--db", file.to_str().unwrap()], "");

    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("text.db is no database"), "{}", errors(&output));
}

#[test]
fn rag_indexes_each_paragraph_once() {
    let folder = Folder::new();
    let index = folder.0.path().join("index.db");
    let index = index.to_str().unwrap();

    expect("rag", "rag", &["--index", index], "");
    let again = run("rag", &["--model", "scripted", "--index", index], "");

    assert!(String::from_utf8(again.stdout).unwrap().contains("0 paragraphs were new."));
}

#[test]
fn mcp_lets_the_agent_use_the_tools_of_a_server() {
    let Ok(python) = env::var("FLOWSTONE_PEERS_PYTHON") else {
        assert!(env::var_os("CI").is_none(), "FLOWSTONE_PEERS_PYTHON is not set");
        eprintln!("not tested with an MCP server: FLOWSTONE_PEERS_PYTHON is not set; see `cargo xtask test`");
        return;
    };
    expect("mcp", "mcp", &["How late is it in Tokyo?", "--", &python, "-m", "mcp_server_time"], "");
}

#[test]
fn mcp_says_which_server_does_not_start() {
    let output = run("mcp", &["--model", "scripted", "What?", "--", "no_such_program"], "");

    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("no_such_program"), "{}", errors(&output));
}

#[test]
fn a_model_that_nobody_knows_is_one_clear_error() {
    let output = run("judge", &["--model", "nonsense"], "");

    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("`nonsense` does not say who serves it"), "{}", errors(&output));
}

#[test]
fn a_model_that_is_not_there_is_one_clear_error() {
    // A port that is free, since what had it has gone.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let model = format!("http://127.0.0.1:{port}/v1#none");

    let output = run("chat", &["--model", &model], "Hello!\n");

    assert_eq!(output.status.code(), Some(1));
    let said = errors(&output);
    assert!(said.contains("node `reply` failed") && said.contains("cannot be reached"), "{said}");
    assert!(said.contains(&format!("model `127.0.0.1:{port}:none`")), "{said}");
}
