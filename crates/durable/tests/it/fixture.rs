//! A store that an earlier version wrote opens, lists, reads and resumes.
//!
//! `tests/fixtures/schema-1.db` is never changed, only others are added. It was written by this module:
//! `FLOWSTONE_WRITE_FIXTURE=1 cargo test -p flowstone-durable --test it fixture`.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, AsyncFlow};
use flowstone_durable::{Filter, Reader, RunInfo, Status, Store, StoreOptions};
use serde_json::json;

use crate::common::{
    Count, Folder, Invoice, Ledger, approving, counting, doubling, failure, numbers, sleeping, soon, until, work,
};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema-1.db")
}

/// A copy of the fixture, to be driven.
fn copy() -> Folder {
    let folder = Folder::new();
    std::fs::copy(fixture(), folder.store()).unwrap();
    folder
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
    counts.start("ended", Count::to(30)).await.unwrap().finished().await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    for id in ["paused", "cancelled"] {
        let run = approvals.start(id, Invoice { amount: 7, ..Invoice::default() }).await.unwrap();
        run.settled().await.unwrap();
    }
    approvals.cancel("cancelled").await.unwrap();
    let failed = store.runs(failing(true)).await.unwrap().start("failed", Count::to(0)).await.unwrap();
    failed.finished().await.unwrap_err();
    let asleep = store.runs(sleeping()).await.unwrap().start("sleeping", Count::default()).await.unwrap();
    asleep.settled().await.unwrap();
    store.runs(doubling(&ledger, 6)).await.unwrap().start("running", numbers(10)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("six items", async || reader.items_done("running").unwrap() == 6).await;
    drop(reader);
    store.close().await;

    if std::env::var_os("FLOWSTONE_WRITE_FIXTURE").is_some() && !fixture().exists() {
        std::fs::create_dir_all(fixture().parent().unwrap()).unwrap();
        std::fs::copy(folder.store(), fixture()).unwrap();
    }
    assert_eq!(statuses(&Reader::open(folder.store()).unwrap()), wanted());
}

fn statuses(reader: &Reader) -> Vec<(String, Status, u64)> {
    let told = |run: RunInfo| (run.id.to_string(), run.status, run.step);
    reader.list(&Filter::new()).unwrap().into_iter().map(told).collect()
}

fn wanted() -> Vec<(String, Status, u64)> {
    let wanted = [
        ("running", Status::Running, 0),
        ("sleeping", Status::Sleeping, 0),
        ("failed", Status::Failed, 1),
        ("cancelled", Status::Cancelled, 0),
        ("paused", Status::Paused, 0),
        ("ended", Status::Ended, 30),
    ];
    wanted.map(|(id, status, step)| (id.to_owned(), status, step)).to_vec()
}

#[tokio::test]
async fn a_store_of_schema_1_is_listed_and_read() {
    let folder = copy();
    // Whoever drives it upgrades it, if there is something to upgrade.
    Store::open(folder.store()).await.unwrap().close().await;

    let reader = Reader::open(folder.store()).unwrap();

    assert_eq!(statuses(&reader), wanted());
    for step in [0, 1, 17, 30] {
        assert_eq!(reader.state("ended", Some(step)).unwrap(), json!({ "n": step, "of": 30 }));
    }
    assert_eq!(reader.questions("paused").unwrap()[0].question, json!("post 7?"));
    assert!(reader.run("failed").unwrap().error.unwrap().message.contains("the service is down"));
    assert_eq!(reader.items_done("running").unwrap(), 6);
    assert_eq!(reader.flows().unwrap().len(), 5);
}

#[tokio::test]
async fn a_store_of_schema_1_is_gone_on_with() {
    let (folder, ledger) = (copy(), Ledger::default());
    let store = Store::open(folder.store()).await.unwrap();
    let counts = store.runs(counting(&ledger)).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    let fails = store.runs(failing(false)).await.unwrap();
    let sleeps = store.runs(sleeping()).await.unwrap();
    let doubles = store.runs(doubling(&ledger, usize::MAX)).await.unwrap();

    let resumed = store.resume_all().await.unwrap();
    approvals.answer("paused", "ask", true).await.unwrap();
    fails.get("failed").await.unwrap().retry_failed().await.unwrap();

    assert!(resumed.refused.is_empty());
    let doubled = soon("the batch", doubles.get("running").await.unwrap().finished()).await.unwrap();
    assert_eq!(doubled.state.doubled, (0..10).map(|n| n * 2).collect::<Vec<_>>());
    assert!(soon("the answer", approvals.get("paused").await.unwrap().finished()).await.unwrap().state.posted);
    assert_eq!(soon("the retry", fails.get("failed").await.unwrap().finished()).await.unwrap().state.n, 11);
    // Its hour is over.
    assert_eq!(soon("the sleep", sleeps.get("sleeping").await.unwrap().finished()).await.unwrap().state.n, 1);
    let fork = counts.fork("ended", 28, "fork", |_| {}).await.unwrap();
    assert_eq!(fork.finished().await.unwrap().state.n, 30);
    let mut done = ledger.take();
    done.sort();
    assert_eq!(done, ["add 28", "add 29", "double 6", "double 7", "double 8", "double 9", "post"]);
}
