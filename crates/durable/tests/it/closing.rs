//! Closing and dropping a store, and what who waits is told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use flowstone_core::AsyncFlow;
use flowstone_durable::{
    Durability, Error, KeepError, OpenError, Runs, StartError, Status, Store, StoreFault, StoreOptions, WriteMoment,
};

use crate::common::{Count, Folder, Gate, Invoice, Ledger, approving, counting, gated, rows, soon, until};

fn is_closed(error: impl Into<Error>) -> bool {
    error.into().fault() == Some(StoreFault::Closed)
}

#[tokio::test]
async fn a_closed_store_says_so_and_its_runs_go_on_in_the_next() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    let waits = tokio::spawn({
        let run = run.clone();
        async move { run.finished().await }
    });
    until("the node", async || ledger.len() > 0).await;

    soon("closing", runs.store().close()).await;

    assert!(is_closed(soon("who waits", waits).await.unwrap().unwrap_err()));
    assert!(is_closed(runs.start("s", Count::to(2)).await.unwrap_err()));
    assert!(is_closed(run.finished().await.unwrap_err()));
    soon("closing again", runs.store().close()).await;
    gate.open();
    let again = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    again.resume_all().await.unwrap();
    assert_eq!(again.get("r").await.unwrap().finished().await.unwrap().ended().unwrap().state.n, 2);
}

#[tokio::test]
async fn a_store_that_is_dropped_is_free_for_the_next() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;

    drop((runs, run));

    until("it is free", async || match Store::open(folder.store()).await {
        Ok(store) => {
            store.close().await;
            true
        }
        Err(OpenError::Locked { .. }) => false,
        Err(error) => panic!("{error:?}"),
    })
    .await;
    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 2)]);
}

#[tokio::test]
async fn a_closed_store_is_one_file() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    runs.start("r", Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap();

    runs.store().close().await;

    let log = std::fs::metadata(folder.file("runs.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "all is in the file itself");
}

#[tokio::test]
async fn a_state_larger_than_allowed_is_refused_at_the_start() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let mut flow = AsyncFlow::builder("text");
    let node = flow.add("node", |text: &mut String| text.push('x'));
    flow.start(node);
    let store = StoreOptions::new().max_state(1000).open(folder.store()).await.unwrap();
    let runs = store.runs(flow.build().unwrap()).await.unwrap();

    let error = runs.start("r", "x".repeat(999)).await.unwrap_err();
    let largest = runs.start("s", "x".repeat(997)).await.unwrap();

    assert!(matches!(error, StartError::Keep(KeepError::StateTooLarge { size: 1001, most: 1000, .. })), "{error:?}");
    assert_eq!(largest.finished().await.unwrap().ended().unwrap().state.len(), 998);
    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 2)]);
    drop(ledger);
}

#[tokio::test]
async fn a_state_that_grows_too_large_stops_the_run_where_it_was() {
    let folder = Folder::new();
    let mut flow = AsyncFlow::builder("text");
    let small = flow.add("small", |text: &mut String| text.push('x'));
    let large = flow.add("large", |text: &mut String| *text = "x".repeat(2000));
    flow.start(small);
    flow.route(small >> large);
    let flow = flow.build().unwrap();
    let store = StoreOptions::new().max_state(1000).open(folder.store()).await.unwrap();
    let run = store.runs(flow.clone()).await.unwrap().start("r", String::new()).await.unwrap();

    let error = soon("the refusal", run.finished()).await.unwrap().ended().unwrap_err();
    assert!(error.to_string().contains("2002") && error.to_string().contains("1000"), "{error:?}");
    let info = run.info().await.unwrap();
    assert_eq!((info.step, info.node.unwrap().as_str()), (1, "large"));
    assert_eq!(run.state().await.unwrap(), "x");
    store.close().await;

    // With more room it goes on.
    let store = StoreOptions::new().max_state(3000).open(folder.store()).await.unwrap();
    let run = store.runs(flow).await.unwrap().get("r").await.unwrap();
    match info.status {
        Status::Failed => run.retry_failed().await.unwrap(),
        _ => run.resume(),
    }
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.len(), 2000);
}

/// One of 200 MB is, too; this one takes a debug build less time.
#[tokio::test]
async fn a_state_beyond_the_default_of_64_mebibytes_is_refused() {
    let folder = Folder::new();
    let mut flow = AsyncFlow::builder("text");
    let node = flow.add("node", |_: &mut String| ());
    flow.start(node);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();

    let error = runs.start("r", "x".repeat(64 << 20)).await.unwrap_err();

    assert!(matches!(error, StartError::Keep(KeepError::StateTooLarge { most: 67_108_864, .. })), "{error:?}");
    assert!(error.to_string().len() < 300);
    assert_eq!(rows(&folder.store()), []);
}

/// Returns the most visits that were made beyond those that are on disk.
async fn most_ahead(durability: Durability) -> usize {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let (on_disk, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (disk, seen, made) = (Arc::clone(&on_disk), Arc::clone(&most), ledger.clone());
    let options = StoreOptions::new().durability(durability).on_write(move |point| {
        if point.job == "visit" && point.when == WriteMoment::Before {
            // A slow disk: whoever may go ahead does so now.
            std::thread::sleep(std::time::Duration::from_millis(2));
            seen.fetch_max(made.len() - disk.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        if point.job == "visit" && point.when == WriteMoment::Committed {
            disk.fetch_add(1, Ordering::SeqCst);
        }
    });
    let runs = options.open(folder.store()).await.unwrap().runs(counting(&ledger)).await.unwrap();
    let run = runs.start("r", Count::to(60)).await.unwrap();
    let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();
    // The end is told once all is on disk.
    assert_eq!((ended.state.n, on_disk.load(Ordering::SeqCst)), (60, 60));
    most.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_ahead_of_the_disk_by_no_more_than_it_may() {
    // The visit whose commit is under way, and as many as may lag.
    assert_eq!(most_ahead(Durability::Synced).await, 1);
    for visits in [1, 4] {
        let ahead = most_ahead(Durability::Behind(visits)).await;
        assert!(ahead <= visits + 1 && ahead > 1, "{ahead} ahead of {visits}");
    }
}

#[tokio::test]
async fn a_pause_waits_for_the_disk_whatever_the_durability() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let options = StoreOptions::new().durability(Durability::Behind(100));
    let runs = options.open(folder.store()).await.unwrap().runs(approving(&ledger)).await.unwrap();
    let run = runs.start("r", Invoice::default()).await.unwrap();

    assert_eq!(run.settled().await.unwrap(), Status::Paused);

    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 1), ("pauses", 1)]);
}

/// A thousand parked and as many sleeping runs are rows, and nothing else.
#[tokio::test]
async fn parked_and_sleeping_runs_have_no_task() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let store = Store::open(folder.store()).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    let sleeps = store.runs(crate::common::sleeping()).await.unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();

    let starts = (0..1000).map(|n| {
        let (approvals, sleeps) = (approvals.clone(), sleeps.clone());
        async move {
            approvals.start(format!("a{n}"), Invoice::default()).await.unwrap().settled().await.unwrap();
            sleeps.start(format!("s{n}"), Count::default()).await.unwrap().settled().await.unwrap();
        }
    });
    futures_util::future::join_all(starts).await;

    until("the tasks are gone", async || tasks() <= before).await;
    assert_eq!(
        flowstone_durable::Reader::open(folder.store()).unwrap().count().unwrap(),
        [(Status::Paused, 1000), (Status::Sleeping, 1000)]
    );
}
