//! `invoices`, killed again and again: what was extracted is not asked for again, and each invoice is posted once.
//!
//! Kills are SIGKILL on Unix, as soon as the service or the ledger has so many lines. The service, a process of its
//! own, must then end by itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use flowstone::durable::{Reader, Requests, Status};
use serde_json::json;
use tempfile::TempDir;

const COUNT: usize = 150;
const RUN: &str = "150-invoices-of-seed-7-limit-2500";

/// A folder with a store, and what is beside it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("invoices.db")
    }

    fn reader(&self) -> Reader {
        Reader::open(self.store()).unwrap()
    }

    /// The program over this store.
    fn command(&self) -> Command {
        let this = env::current_exe().unwrap();
        let examples = this.ancestors().nth(2).unwrap().join("examples");
        let mut command = Command::new(examples.join("invoices").with_extension(env::consts::EXE_EXTENSION));
        command.args(["--count", &COUNT.to_string(), "--limit", "2500", "--latency", "10"]);
        command.arg("--store").arg(self.store()).stdin(Stdio::null()).env("RUST_BACKTRACE", "0");
        command
    }

    fn start(&self) -> Program {
        let child = self.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it is built");
        Program::of(child)
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Returns how often the service served each invoice.
    fn served(&self) -> BTreeMap<u32, usize> {
        let mut served = BTreeMap::new();
        for line in self.lines("invoices.db.requests.txt") {
            if let Some(number) = line.strip_suffix(" served") {
                *served.entry(number.parse().unwrap()).or_default() += 1;
            }
        }
        served
    }

    fn status(&self) -> Status {
        self.reader().run(RUN).unwrap().status
    }

    /// The numbers of the invoices in the ledger, in order.
    fn posted(&self) -> Vec<u32> {
        let number = |line: &String| line.split(';').nth(1).unwrap().parse().unwrap();
        let mut numbers: Vec<u32> = self.lines("invoices.db.ledger.csv").iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// The program under way, killed when it is dropped.
struct Program {
    child: Child,
    /// The address of its service.
    service: String,
}

impl Program {
    fn of(mut child: Child) -> Self {
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let service = lines.find_map(|line| Some(line.split_once("served at http://")?.1.to_owned())).unwrap();
        // Somebody has to read the rest, or the program waits once the pipe is full.
        thread::spawn(move || lines.for_each(drop));
        Self { child, service }
    }

    /// Kills it, and waits until its service is gone, too.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        until("the service has ended", || TcpStream::connect(&self.service).is_err());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Kills the program whenever the service has served so many, and returns how many were served but not recorded.
fn kill_while_extracting(folder: &Folder, at: &[usize]) -> usize {
    let mut lost = 0;
    for served in at {
        let before = folder.served().values().sum::<usize>();
        let program = folder.start();
        until("so many were served", || folder.served().values().sum::<usize>() >= before.max(*served));
        program.kill();

        let recorded = usize::try_from(folder.reader().items_done(RUN).unwrap()).unwrap();
        lost = folder.served().values().sum::<usize>() - recorded;
    }
    lost
}

#[test]
fn killed_again_and_again_it_posts_each_invoice_once() {
    let folder = Folder::new();

    let lost = kill_while_extracting(&folder, &[1, 40, 80, 120]);
    let recorded = folder.reader().items_done(RUN).unwrap();
    let program = folder.start();
    until("the person is asked", || folder.status() == Status::Paused);
    program.kill();
    let over = folder.reader().questions(RUN).unwrap().pop().unwrap().question;
    let rejected = over[0]["number"].as_u64().unwrap();
    let mut requests = Requests::open(folder.store()).unwrap();
    requests.answer(RUN, "approve", json!({ "all_but": [rejected] })).unwrap();
    for posted in [1, 40, 80, 120] {
        let program = folder.start();
        until("so many were posted", || folder.posted().len() >= posted);
        program.kill();
    }
    let ended = folder.command().output().unwrap();

    let approved = (1..=COUNT as u32).filter(|number| u64::from(*number) != rejected);
    assert_eq!(folder.posted(), approved.collect::<Vec<_>>());
    assert_ended(&ended, &format!("{COUNT} invoices: {} posted, ", COUNT - 1));
    let served = folder.served();
    assert_eq!((served.len(), served.values().sum::<usize>()), (COUNT, COUNT + lost));
    let extract = folder.reader().steps(RUN, 1, 1).unwrap().remove(0).items.unwrap();
    assert_eq!((extract.recorded, extract.recalled), (COUNT as u64, recorded));
}

#[test]
fn an_answer_from_another_process_is_taken_up_while_it_waits() {
    let folder = Folder::new();
    let mut program = folder.start();
    until("the store is there", || Reader::open(folder.store()).is_ok_and(|reader| reader.run(RUN).is_ok()));
    until("the person is asked", || folder.status() == Status::Paused);

    let mut requests = Requests::open(folder.store()).unwrap();
    requests.answer(RUN, "approve", json!("all")).unwrap();

    assert!(program.child.wait().unwrap().success());
    assert_eq!(folder.posted().len(), COUNT);
}

#[test]
fn an_ended_batch_is_not_posted_again() {
    let folder = Folder::new();
    let approving = || folder.command().arg("--approve").output().unwrap();

    let (first, second) = (approving(), approving());

    assert_ended(&first, &format!("{COUNT} invoices: {COUNT} posted, "));
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(folder.posted(), (1..=COUNT as u32).collect::<Vec<_>>());
}

#[test]
fn half_a_line_in_the_ledger_is_posted_anew() {
    let folder = Folder::new();
    let ledger = folder.0.path().join("invoices.db.ledger.csv");
    fs::write(&ledger, format!("{RUN}:2:post[0];1;2026-0")).unwrap();

    let ended = folder.command().arg("--approve").output().unwrap();

    assert_ended(&ended, &format!("{COUNT} invoices: {COUNT} posted, "));
    assert_eq!(folder.posted(), (1..=COUNT as u32).collect::<Vec<_>>());
}

#[track_caller]
fn assert_ended(output: &Output, line: &str) {
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.starts_with(line), "{}:\n{printed}{errors}", output.status);
}

#[test]
fn a_store_that_is_none_is_said_in_one_error() {
    let folder = Folder::new();
    fs::write(folder.store(), "this is a text").unwrap();

    let ended = folder.command().output().unwrap();

    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("is not a store of Flowstone"));
    assert!(!Path::exists(&folder.0.path().join("invoices.db.requests.txt")));
}
