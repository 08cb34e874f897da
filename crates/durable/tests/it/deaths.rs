//! Visits that kill their process: each test starts processes of its own, which drive a store until nothing is left to
//! do or one of their nodes aborts.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use flowstone_core::{Action, AsyncBatchNode, AsyncFlow, Context, END, Event, EventKind, NodeExt, Result};
use flowstone_durable::{DriveError, Finished, FlowOptions, Reader, RunFailure, Runs, Status, Store};
use serde::{Deserialize, Serialize};

use crate::common::{Folder, Gate, Ledger, gated, until, work};

/// The names of the variables that tell a process of these tests which store to drive, and as what.
const STORE: &str = "FLOWSTONE_TEST_DRIVES";
const PART: &str = "FLOWSTONE_TEST_PART";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Walk {
    /// The visit that kills the process, if one does.
    dies_at: Option<u32>,
    visits: u32,
    /// The duration of a visit.
    millis: u64,
}

/// Four visits; one of them may abort the process.
fn walk() -> AsyncFlow<Walk> {
    let mut flow = AsyncFlow::builder("walk");
    let step = flowstone_core::step(
        |walk: &Walk| walk.clone(),
        |walk: Walk| async move {
            tokio::time::sleep(Duration::from_millis(walk.millis)).await;
            if walk.dies_at == Some(walk.visits) {
                std::process::abort();
            }
            Ok(())
        },
        |walk: &mut Walk, _, ()| {
            walk.visits += 1;
            Action::from(if walk.visits < 4 { "again" } else { "done" })
        },
    );
    let step = flow.add("step", step);
    flow.start(step);
    flow.route(step - "again" >> step);
    flow.route(step - "done" >> END);
    flow.build().unwrap()
}

/// A journaled batch of ten items; each but the first kills the process once it is begun, so that a process gets
/// through one.
struct OneEach;

impl AsyncBatchNode<u32> for OneEach {
    type Item = u32;
    type Output = u32;
    type Outcome = u32;
    type Action = ();

    async fn prep(&self, _: &u32) -> Result<Vec<u32>> {
        Ok((0..10).collect())
    }

    async fn exec(&self, item: &u32, _: &Context) -> Result<u32> {
        static BEGUN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        if BEGUN.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
            std::process::abort();
        }
        Ok(*item)
    }

    async fn post(&self, sum: &mut u32, _: Vec<u32>, outputs: Vec<u32>) -> Result<()> {
        *sum = outputs.iter().sum();
        Ok(())
    }
}

fn one_each() -> AsyncFlow<u32> {
    let mut flow = AsyncFlow::builder("each");
    let node = flow.add("node", OneEach.journaled());
    flow.start(node);
    flow.build().unwrap()
}

/// The runs of each test: where the one that kills its process stands among those that do not.
fn walks(part: &str) -> Vec<(String, Walk)> {
    let at = match part {
        "first" => vec![0],
        "last" => vec![10],
        "two" => vec![3, 7],
        _ => vec![5],
    };
    let millis = |n: u64| if part == "slow" { 150 } else { 20 + n };
    (0..11)
        .map(|n| match at.contains(&n) {
            true => (format!("{n:02}-poison"), Walk { dies_at: Some(1), visits: 0, millis: 10 }),
            false => (format!("{n:02}"), Walk { dies_at: None, visits: 0, millis: millis(n) }),
        })
        .collect()
}

/// A process drives the store: it does all that there is to do, unless it dies of it.
async fn drive(path: &Path, part: &str) {
    let store = Store::open(path).await.unwrap();
    if part == "each" {
        let runs = store.runs(one_each()).await.unwrap();
        runs.start("each", 0).await.unwrap().settled().await.unwrap();
        return store.close().await;
    }
    let runs = store.runs_with(walk(), FlowOptions::new().max_resumes(5)).await.unwrap();
    store.resume_all().await.unwrap();
    for (id, walk) in walks(part) {
        let run = runs.start(id, walk).await.unwrap();
        drop(run);
    }
    for (id, _) in walks(part) {
        runs.get(id).await.unwrap().settled().await.unwrap();
    }
    store.close().await;
}

/// Starts processes, one after the other, until one has done all; returns how many died.
fn deaths(test: &str, path: &Path, part: &str) -> usize {
    for died in 0..40 {
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", &format!("deaths::{test}")]).env(STORE, path).env(PART, part);
        let output = process.output().unwrap();
        if output.status.success() {
            return died;
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!said.contains("panicked"), "{said}");
    }
    panic!("processes die for ever");
}

/// In a process that a test has started: does its part, and returns `true`.
async fn is_a_part() -> bool {
    let (Some(path), Ok(part)) = (std::env::var_os(STORE), std::env::var(PART)) else { return false };
    drive(Path::new(&path), &part).await;
    true
}

#[tokio::test]
async fn a_run_that_kills_its_process_fails_and_the_others_go_on() {
    if is_a_part().await {
        return;
    }
    for part in ["first", "middle", "last", "two", "slow"] {
        let folder = Folder::new();

        let died = deaths("a_run_that_kills_its_process_fails_and_the_others_go_on", &folder.store(), part);

        let reader = Reader::open(folder.store()).unwrap();
        let poisons = walks(part).iter().filter(|(_, walk)| walk.dies_at.is_some()).count();
        assert!((6..=6 * poisons).contains(&died), "{part}: {died} processes died");
        for (id, walk) in walks(part) {
            let info = reader.run(id.as_str()).unwrap();
            if walk.dies_at.is_none() {
                assert_eq!((info.status, info.resumes), (Status::Ended, 0), "{part}: run {id}");
                continue;
            }
            let error = info.error.unwrap();
            assert_eq!((info.status, error.deaths, info.step), (Status::Failed, Some(6), 1), "{part}: run {id}");
            assert!(error.message.contains("has died 6 times while node `step` was visited"), "{}", error.message);
        }
    }
}

#[tokio::test]
async fn a_visit_that_gets_further_each_time_is_no_danger() {
    if is_a_part().await {
        return;
    }
    let folder = Folder::new();

    let died = deaths("a_visit_that_gets_further_each_time_is_no_danger", &folder.store(), "each");

    let reader = Reader::open(folder.store()).unwrap();
    assert_eq!((died, reader.run("each").unwrap().status), (9, Status::Ended));
    assert_eq!(reader.state("each", None).unwrap(), 45);
}

/// Sets what a process leaves that died.
fn die(folder: &Folder) {
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    db.execute("UPDATE owner SET clean = 0", []).unwrap();
}

#[tokio::test]
async fn only_what_was_under_way_at_a_death_is_counted_and_a_retry_begins_at_none() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let failures = Arc::new(AtomicU32::new(0));
    let options = || {
        let failures = Arc::clone(&failures);
        FlowOptions::new().max_resumes(1).listen(move |event: &Event| {
            failures.fetch_add(u32::from(matches!(event.kind, EventKind::Failed { .. })), Ordering::SeqCst);
        })
    };
    let open = async || Store::open(folder.store()).await.unwrap().runs_with(gated(&ledger, &gate), options()).await;
    let runs = open().await.unwrap();
    runs.start("r", crate::common::Count::to(2)).await.unwrap();
    until("it waits", async || ledger.len() == 1).await;
    let resumes = async |runs: &Runs<crate::common::Count>| runs.get("r").await.unwrap().info().await.unwrap().resumes;

    // Closed, not dead.
    runs.store().close().await;
    let runs = open().await.unwrap();
    runs.resume_all().await.unwrap();
    assert_eq!(resumes(&runs).await, 0);
    until("it waits", async || ledger.len() == 2).await;
    // A process that died; twice resumed in the next is once counted.
    runs.store().close().await;
    die(&folder);
    let runs = open().await.unwrap();
    assert_eq!(runs.resume_all().await.unwrap().runs.len(), 1);
    runs.get("r").await.unwrap().resume();
    assert_eq!(resumes(&runs).await, 1);
    until("it waits", async || ledger.len() == 3).await;
    runs.store().close().await;
    die(&folder);
    // Once more is too often.
    let runs = open().await.unwrap();
    let refused = runs.resume_all().await.unwrap().refused;
    assert!(matches!(&refused[..], [DriveError::KillsItsProcess { deaths: 2, .. }]), "{refused:?}");
    until("its listener hears of it", async || failures.load(Ordering::SeqCst) == 1).await;
    let end = runs.get("r").await.unwrap().finished().await.unwrap();
    assert!(
        matches!(&end, Finished::Failed(RunFailure { node, deaths: Some(2), .. }) if node.as_str() == "wait"),
        "{end:?}"
    );

    let run = runs.retry_failed("r").await.unwrap();
    assert_eq!(run.info().await.unwrap().resumes, 0);
    gate.open();
    assert_eq!(run.finished().await.unwrap().ended().unwrap().state.n, 2);
}

#[tokio::test]
async fn what_was_parked_at_a_death_is_not_counted() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let open = async || Runs::open(folder.store(), crate::common::approving(&ledger)).await.unwrap();
    let runs = open().await;
    for id in ["here", "beside"] {
        runs.start(id, crate::common::Invoice::default()).await.unwrap().settled().await.unwrap();
    }
    runs.store().close().await;
    die(&folder);
    flowstone_durable::Requests::open(folder.store()).unwrap().answer("beside", "ask", true).unwrap();

    let runs = open().await;
    runs.resume_all().await.unwrap();
    runs.answer("here", "ask", true).await.unwrap();

    for id in ["here", "beside"] {
        runs.get(id).await.unwrap().finished().await.unwrap().ended().unwrap();
    }
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    let counted = db.query_row("SELECT max(resumes) FROM runs", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(counted, 0);
    drop(work::<u32, _>(|_| async { Ok(0) }, |_, _| "".into()));
}
