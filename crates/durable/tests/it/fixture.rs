//! A store that an earlier version wrote opens, lists, reads and resumes.
//!
//! The files `tests/fixtures/schema-*.db` are never changed, only others are added, one for each schema. They were
//! written by this module: `FLOWSTONE_WRITE_FIXTURE=1 cargo test -p flowstone-durable --test it fixture`.
//!
//! Since schema 2 there is what visits used: in a run that ended, and in one whose second visit failed.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, AsyncFlow, Usage};
use flowstone_durable::{Filter, OpenError, Reader, Requests, RunInfo, Status, Store, StoreOptions};
use serde_json::json;

use crate::{
    common::{
        Count, Folder, Invoice, Ledger, approving, counting, doubling, failure, numbers, sleeping, soon, until, work,
    },
    usage::{calls, spending},
};

/// The newest schema, which is written.
const NEWEST: u32 = 3;

fn fixture(schema: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/schema-{schema}.db"))
}

/// A copy of a fixture, to be driven.
fn copy(schema: u32) -> Folder {
    let folder = Folder::new();
    std::fs::copy(fixture(schema), folder.store()).unwrap();
    folder
}

/// Makes a call at each visit, and fails after that of the second.
fn paying(broken: bool) -> AsyncFlow<Count> {
    spending(move |cx| async move { if broken && cx.visit() == 2 { Err(failure("down")) } else { Ok(()) } })
}

/// Counts, then fails.
fn failing(broken: bool) -> AsyncFlow<Count> {
    let mut flow = AsyncFlow::builder("failing");
    let first = flow.add("first", |count: &mut Count| count.n += 1);
    let second = work(
        move |_| async move { if broken { Err(failure("the service is down")) } else { Ok(10) } },
        |count: &mut Count, ten| {
            count.n += ten as u32;
            Action::from("done")
        },
    );
    let second = flow.add("second", second);
    flow.start(first);
    flow.route(first >> second);
    flow.build().unwrap()
}

/// Writes the fixture, if it is asked for: a run in each status, one of them in the middle of a batch.
#[tokio::test]
async fn a_store_of_this_schema_can_be_written_as_a_fixture() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    // A day ago, so that whoever sleeps an hour is awake when the fixture is read.
    let yesterday = SystemTime::now() - Duration::from_secs(24 * 3600);
    let store = StoreOptions::new().clock(move || yesterday).open(folder.store()).await.unwrap();
    let counts = store.runs(counting(&ledger)).await.unwrap();
    counts.start("ended", Count::to(30)).await.unwrap().finished().await.unwrap().ended().unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    for id in ["paused", "cancelled"] {
        let run = approvals.start(id, Invoice { amount: 7, ..Invoice::default() }).await.unwrap();
        run.settled().await.unwrap();
    }
    approvals.cancel("cancelled").await.unwrap();
    let failed = store.runs(failing(true)).await.unwrap().start("failed", Count::to(0)).await.unwrap();
    failed.finished().await.unwrap().ended().unwrap_err();
    let asleep = store.runs(sleeping()).await.unwrap().start("sleeping", Count::default()).await.unwrap();
    asleep.settled().await.unwrap();
    store.runs(doubling(&ledger, 6)).await.unwrap().start("running", numbers(10)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("six items", async || reader.items_done("running").unwrap() == 6).await;
    drop(reader);
    let pays = store.runs(paying(true)).await.unwrap();
    pays.start("paid", Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
    pays.start("overdue", Count::to(2)).await.unwrap().finished().await.unwrap().ended().unwrap_err();
    store.close().await;

    if std::env::var_os("FLOWSTONE_WRITE_FIXTURE").is_some() && !fixture(NEWEST).exists() {
        std::fs::copy(folder.store(), fixture(NEWEST)).unwrap();
    }
    assert_eq!(statuses(&Reader::open(folder.store()).unwrap()), wanted(NEWEST));
}

fn statuses(reader: &Reader) -> Vec<(String, Status, u64)> {
    let told = |run: RunInfo| (run.id.to_string(), run.status, run.step);
    reader.list(&Filter::new()).unwrap().into_iter().map(told).collect()
}

fn wanted(schema: u32) -> Vec<(String, Status, u64)> {
    let since_2 = [("overdue", Status::Failed, 2), ("paid", Status::Ended, 2)];
    let wanted = [
        ("running", Status::Running, 0),
        ("sleeping", Status::Sleeping, 0),
        ("failed", Status::Failed, 1),
        ("cancelled", Status::Cancelled, 0),
        ("paused", Status::Paused, 0),
        ("ended", Status::Ended, 30),
    ];
    let wanted = since_2.into_iter().filter(|_| schema >= 2).chain(wanted);
    wanted.map(|(id, status, step)| (id.to_owned(), status, step)).collect()
}

#[tokio::test]
async fn a_store_of_any_schema_is_listed_and_read() {
    for schema in 1..=NEWEST {
        let folder = copy(schema);
        // Nobody has upgraded it.
        read(&Reader::open(folder.store()).unwrap(), schema);
        let before = Reader::open(folder.store()).unwrap();

        // Whoever drives it upgrades it, if there is something to upgrade.
        Store::open(folder.store()).await.unwrap().close().await;

        read(&Reader::open(folder.store()).unwrap(), schema);
        read(&before, schema);
    }
}

#[tokio::test]
async fn a_store_of_an_older_schema_is_written_by_nobody_but_who_upgrades_it() {
    let folder = copy(1);
    let bytes = std::fs::read(folder.store()).unwrap();

    let refused = Requests::open(folder.store()).unwrap_err();

    let wanted = "schema 1 is upgraded when a program drives the store: start that program once";
    assert!(matches!(refused, OpenError::NotAStore { what, .. } if what == wanted));
    assert_eq!(std::fs::read(folder.store()).unwrap(), bytes);
}

fn read(reader: &Reader, schema: u32) {
    assert_eq!(statuses(reader), wanted(schema));
    assert_eq!(reader.usage("ended").unwrap(), Usage::default());
    assert_eq!(reader.steps("ended", 0, 2).unwrap()[1].usage, Usage::default());
    for step in [0, 1, 17, 30] {
        assert_eq!(reader.state("ended", Some(step)).unwrap(), json!({ "n": step, "of": 30 }));
    }
    assert_eq!(reader.questions("paused").unwrap()[0].question, json!("post 7?"));
    assert!(reader.run("failed").unwrap().error.unwrap().message.contains("the service is down"));
    assert_eq!(reader.items_done("running").unwrap(), 6);
    if schema == 1 {
        assert_eq!(reader.flows().unwrap().len(), 5);
        return;
    }
    assert_eq!(reader.flows().unwrap().len(), 6);
    let used = |run: &str| reader.steps(run, 0, 9).unwrap().iter().map(|step| step.usage).collect::<Vec<_>>();
    assert_eq!((reader.usage("paid").unwrap(), used("paid")), (calls(1), vec![calls(0), calls(0), calls(1)]));
    assert_eq!((reader.usage("overdue").unwrap(), used("overdue")), (calls(3), vec![calls(0), calls(0), calls(1)]));
}

#[tokio::test]
async fn a_store_of_any_schema_is_gone_on_with() {
    for schema in 1..=NEWEST {
        let folder = copy(schema);
        let store = Store::open(folder.store()).await.unwrap();
        go_on(&store).await;
        if schema >= 2 {
            let pays = store.runs(paying(false)).await.unwrap();
            let run = pays.retry_failed("overdue").await.unwrap();
            assert_eq!(soon("the retry", run.finished()).await.unwrap().ended().unwrap().state.n, 2);
            assert_eq!(run.usage().await.unwrap(), calls(4));
            assert_eq!(run.steps(3, 1).await.unwrap()[0].usage, calls(3));
        }
        store.close().await;
    }
}

async fn go_on(store: &Store) {
    let ledger = Ledger::default();
    let counts = store.runs(counting(&ledger)).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    let fails = store.runs(failing(false)).await.unwrap();
    let sleeps = store.runs(sleeping()).await.unwrap();
    let doubles = store.runs(doubling(&ledger, usize::MAX)).await.unwrap();

    let resumed = store.resume_all().await.unwrap();
    approvals.answer("paused", "ask", true).await.unwrap();
    fails.get("failed").await.unwrap().retry_failed().await.unwrap();

    assert!(resumed.refused.is_empty());
    let doubled = soon("the batch", doubles.get("running").await.unwrap().finished()).await.unwrap().ended().unwrap();
    assert_eq!(doubled.state.doubled, (0..10).map(|n| n * 2).collect::<Vec<_>>());
    assert!(
        soon("the answer", approvals.get("paused").await.unwrap().finished())
            .await
            .unwrap()
            .ended()
            .unwrap()
            .state
            .posted
    );
    assert_eq!(
        soon("the retry", fails.get("failed").await.unwrap().finished()).await.unwrap().ended().unwrap().state.n,
        11
    );
    // Its hour is over.
    assert_eq!(
        soon("the sleep", sleeps.get("sleeping").await.unwrap().finished()).await.unwrap().ended().unwrap().state.n,
        1
    );
    let fork = counts.fork("ended", 28, "fork", |_| {}).await.unwrap();
    assert_eq!(fork.finished().await.unwrap().ended().unwrap().state.n, 30);
    let mut done = ledger.take();
    done.sort();
    assert_eq!(done, ["add 28", "add 29", "double 6", "double 7", "double 8", "double 9", "post"]);
}
