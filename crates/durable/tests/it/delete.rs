//! Deleting and pruning: nothing of a run is left, and the file becomes smaller.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use flowstone_core::{AsyncFlow, Child};
use flowstone_durable::{
    ChangeError, DriveError, Error, Filter, Prune, ReadError, Reader, Requests, Runs, Status, Store, StoreFault,
    StoreOptions, WriteMoment, WrongStatus,
};

use crate::common::{
    Count, Folder, Gate, Invoice, Ledger, Numbers, approving, counting, gated, numbers, rows, sleeping, soon, until,
};

/// A flow with journaled children, and a batch.
fn parents(ledger: &Ledger) -> AsyncFlow<Numbers> {
    let mut flow = AsyncFlow::builder("parents");
    let fork = |state: &Numbers| state.numbers.iter().map(|_| Count::to(2)).collect::<Vec<_>>();
    let join = |state: &mut Numbers, ended: Vec<Count>| state.doubled = ended.iter().map(|c| c.n.into()).collect();
    let children = flow.add("children", counting(ledger).batch(fork, join).parallel(2).journaled());
    flow.start(children);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_deleted_run_leaves_nothing_behind() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let store = Store::open(folder.store()).await.unwrap();
    let parents = store.runs(parents(&ledger)).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    let counts = store.runs(counting(&ledger)).await.unwrap();
    let parent = parents.start("p", numbers(3)).await.unwrap();
    assert_eq!(parent.finished().await.unwrap().ended().unwrap().state.doubled, [2, 2, 2]);
    approvals.start("a", Invoice::default()).await.unwrap().settled().await.unwrap();
    counts.start("c", Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
    assert_eq!(rows(&folder.store()), [("runs", 6), ("visits", 2 + 3 * 3 + 1 + 2), ("pauses", 1)]);

    parents.delete("p").await.unwrap();
    approvals.delete("a").await.unwrap();

    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 2)]);
    assert!(matches!(parents.get("p").await, Err(ReadError::UnknownRun { .. })));
    assert!(matches!(parent.info().await, Err(ReadError::UnknownRun { .. })));
    assert!(matches!(parent.state().await, Err(ReadError::UnknownRun { .. })));
    // The id is free, and a handle of the old run does not see the new one.
    parents.start("p", numbers(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
    assert!(matches!(parent.info().await, Err(ReadError::UnknownRun { .. })));
}

#[tokio::test]
async fn who_waits_for_a_run_is_told_that_it_was_deleted() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    let run = runs.start("r", Invoice::default()).await.unwrap();
    run.settled().await.unwrap();
    let waits = tokio::spawn({
        let run = run.clone();
        async move { run.finished().await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;

    runs.delete("r").await.unwrap();

    let told = soon("who waits is told", waits).await.unwrap();
    assert!(matches!(told, Err(DriveError::Read(ReadError::UnknownRun { .. }))), "{told:?}");
}

#[tokio::test]
async fn a_run_under_way_is_not_deleted() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();

    let error = runs.delete("r").await.unwrap_err();
    let path = folder.store();
    let beside = tokio::task::spawn_blocking(move || Requests::open(path).unwrap().delete("r").unwrap_err());

    assert!(matches!(error, ChangeError::WrongStatus(WrongStatus { status: Status::Running, .. })), "{error:?}");
    assert!(error.to_string().contains("cancel it first"), "{error}");
    assert!(matches!(beside.await.unwrap(), ChangeError::WrongStatus(WrongStatus { .. })));
    gate.open();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 2);
}

/// A child is part of its parent: nothing is done to it by itself.
#[tokio::test]
async fn a_child_is_neither_cancelled_nor_deleted_nor_forked_by_itself() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let mut flow = AsyncFlow::builder("parents");
    let join = |_: &mut Count, _: Vec<Child<Count>>| ();
    let children = gated(&ledger, &gate).batch_collect(|_: &Count| vec![Count::to(2)], join).journaled();
    let children = flow.add("children", children);
    flow.start(children);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("p", Count::default()).await.unwrap();
    until("the child", async || ledger.len() > 0).await;
    let child = Reader::open(folder.store()).unwrap().children("p").unwrap()[0].id.clone();

    let (cancelled, forked) = (runs.cancel(child.clone()).await, runs.fork(child.clone(), 1, "f", |_| {}).await);
    gate.open();
    soon("the end", run.finished()).await.unwrap().ended().unwrap();
    let deleted = runs.delete(child.clone()).await;

    assert!(cancelled.is_err(), "a child that is driven cannot be cancelled by itself");
    assert!(forked.is_err(), "a fork of a child has a node that its flow does not have");
    assert!(deleted.is_err(), "a child is part of the history of its parent");
}

#[tokio::test]
async fn prune_deletes_what_is_at_an_end_and_the_file_shrinks() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), parents(&ledger)).await.unwrap();
    for n in 0..5 {
        runs.start(format!("r{n}"), numbers(100)).await.unwrap().finished().await.unwrap().ended().unwrap();
    }
    let before = std::fs::metadata(folder.store()).unwrap().len();

    let dry = runs.prune(&Prune::new().dry_run()).await.unwrap();
    assert_eq!((dry.runs, dry.bytes), (5, 0));
    let pruned = runs.prune(&Prune::new()).await.unwrap();

    assert_eq!(pruned.runs, 5);
    assert_eq!(rows(&folder.store()), []);
    let after = std::fs::metadata(folder.store()).unwrap().len();
    assert!(pruned.bytes > 100_000, "{pruned:?}");
    assert!(after < before / 2 || after <= 100_000, "{before} bytes, then {after}");
}

#[tokio::test]
async fn prune_spares_what_runs_waits_sleeps_or_failed() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let store = Store::open(folder.store()).await.unwrap();
    let counts = store.runs(counting(&ledger)).await.unwrap();
    counts.start("ended", Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
    store.runs(gated(&ledger, &gate)).await.unwrap().start("running", Count::to(2)).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    approvals.start("paused", Invoice::default()).await.unwrap().settled().await.unwrap();
    approvals.start("cancelled", Invoice::default()).await.unwrap().cancel().await.unwrap();
    let sleeps = store.runs(sleeping()).await.unwrap();
    sleeps.start("sleeping", Count::default()).await.unwrap().settled().await.unwrap();
    let mut flow = AsyncFlow::builder("fails");
    let node =
        flow.add("node", crate::common::work(async |_| Err(crate::common::failure("no")), |_: &mut u8, _| "".into()));
    flow.start(node);
    let fails = store.runs(flow.build().unwrap()).await.unwrap();
    fails.start("failed", 0).await.unwrap().finished().await.unwrap().ended().unwrap_err();
    let left = || {
        let runs = Reader::open(folder.store()).unwrap().list(&Filter::new()).unwrap();
        runs.into_iter().map(|run| run.id.to_string()).collect::<Vec<_>>()
    };

    assert_eq!(store.prune(&Prune::new().status(Status::Paused).status(Status::Running)).await.unwrap().runs, 0);
    assert_eq!(store.prune(&Prune::new().flow("approve")).await.unwrap().runs, 1);
    assert_eq!(left(), ["failed", "sleeping", "paused", "running", "ended"]);
    assert_eq!(store.prune(&Prune::new()).await.unwrap().runs, 1);
    assert_eq!(left(), ["failed", "sleeping", "paused", "running"]);
    assert_eq!(store.prune(&Prune::new().status(Status::Failed)).await.unwrap().runs, 1);
    assert_eq!(left(), ["sleeping", "paused", "running"]);
}

#[tokio::test]
async fn prune_goes_by_age_and_by_count() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&now);
    let store = StoreOptions::new().clock(move || *clock.lock().unwrap()).open(folder.store()).await.unwrap();
    let runs = store.runs(counting(&ledger)).await.unwrap();
    for n in 0..10 {
        runs.start(format!("r{n}"), Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
    }
    let hour = Duration::from_secs(3600);

    assert_eq!(runs.prune(&Prune::new().older_than(hour)).await.unwrap().runs, 0);
    assert_eq!(runs.prune(&Prune::new().keep(8)).await.unwrap().runs, 2);
    *now.lock().unwrap() += 2 * hour;
    assert_eq!(runs.prune(&Prune::new().older_than(hour).keep(3).dry_run()).await.unwrap().runs, 5);
    let path = folder.store();
    let beside =
        tokio::task::spawn_blocking(move || Requests::open(path).unwrap().prune(&Prune::new().keep(4)).unwrap());
    assert_eq!(beside.await.unwrap().runs, 4);
    assert_eq!(runs.prune(&Prune::new().older_than(hour)).await.unwrap().runs, 4);

    assert_eq!(rows(&folder.store()), []);
}

/// Counts the rows of runs in a store, in all tables.
fn total(path: &std::path::Path) -> u64 {
    rows(path).iter().map(|(_, rows)| rows).sum()
}

/// The most rows that are deleted in one transaction.
const PIECE: u64 = 500;

#[tokio::test]
async fn a_long_run_is_deleted_in_pieces_between_which_others_commit() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let most = Arc::new(Mutex::new((0, Vec::new())));
    let (seen, path) = (Arc::clone(&most), folder.store());
    let options = StoreOptions::new().on_write(move |point| {
        if !["delete", "piece", "prune"].contains(&point.job) {
            return;
        }
        let mut seen = seen.lock().unwrap();
        match point.when {
            WriteMoment::Before => seen.0 = total(&path),
            WriteMoment::Committed => {
                let before = seen.0;
                seen.1.push(before - total(&path));
            }
            WriteMoment::Applied => {}
        }
    });
    let store = options.open(folder.store()).await.unwrap();
    let (counts, parents) = (store.runs(counting(&ledger)).await.unwrap(), store.runs(parents(&ledger)).await.unwrap());
    counts.start("long", Count::to(3000)).await.unwrap().finished().await.unwrap().ended().unwrap();
    parents.start("wide", numbers(600)).await.unwrap().finished().await.unwrap().ended().unwrap();
    counts.start("stays", Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap();

    counts.delete("long").await.unwrap();
    assert_eq!(store.prune(&Prune::new().flow("parents")).await.unwrap().runs, 1);

    let deleted = std::mem::take(&mut most.lock().unwrap().1);
    assert_eq!(deleted.iter().sum::<u64>(), 3002 + 2 + 1 + 600 * 4);
    assert!(deleted.iter().all(|rows| *rows <= PIECE), "{deleted:?}");
    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 4)]);
}

#[tokio::test]
async fn a_run_whose_deleting_was_cut_off_is_none_and_its_rest_goes_with_the_next_driver() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs(parents(&ledger)).await.unwrap();
    runs.start("p", numbers(5)).await.unwrap().finished().await.unwrap().ended().unwrap();
    let child = store.reader().unwrap().children("p").unwrap()[0].id.clone();
    store.close().await;
    // The store as a process leaves it that ends after the first transaction.
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    db.execute_batch("INSERT INTO deleting SELECT run FROM runs WHERE id = 'p'; DELETE FROM runs WHERE id = 'p'")
        .unwrap();
    drop(db);

    let reader = Reader::open(folder.store()).unwrap();
    for id in ["p", child.as_str()] {
        assert!(matches!(reader.run(id), Err(ReadError::UnknownRun { .. })), "{id}");
        assert!(matches!(reader.state(id, None), Err(ReadError::UnknownRun { .. })), "{id}");
    }
    assert_eq!((reader.list(&Filter::new()).unwrap().len(), reader.count().unwrap().len()), (0, 0));
    let mut requests = Requests::open(folder.store()).unwrap();
    for id in ["p", child.as_str()] {
        assert!(matches!(requests.delete(id), Err(ChangeError::Read(ReadError::UnknownRun { .. }))), "{id}");
        assert!(
            matches!(requests.fork(id, 0, "f", |_| {}), Err(ChangeError::Read(ReadError::UnknownRun { .. }))),
            "{id}"
        );
    }

    let store = Store::open(folder.store()).await.unwrap();
    assert!(store.resume_all().await.unwrap().runs.is_empty());
    until("the rest is deleted", async || rows(&folder.store()).is_empty()).await;
}

/// The ids of children are made of their parent's, which is free as soon as it is deleted.
#[tokio::test]
async fn an_id_is_free_while_the_rest_of_its_run_is_still_deleted() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), parents(&ledger)).await.unwrap();
    runs.start("p", numbers(5)).await.unwrap().finished().await.unwrap().ended().unwrap();
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    db.execute_batch("INSERT INTO deleting SELECT run FROM runs WHERE id = 'p'; DELETE FROM runs WHERE id = 'p'")
        .unwrap();

    let again = runs.start("p", numbers(7)).await.unwrap().finished().await.unwrap().ended().unwrap();

    assert_eq!(again.state.doubled, [2; 7]);
    assert_eq!(runs.store().reader().unwrap().children("p").unwrap().len(), 7);
    runs.delete("p").await.unwrap();
    assert_eq!(rows(&folder.store()), []);
}

#[tokio::test]
async fn large_bodies_are_deleted_a_few_at_a_time() {
    let folder = Folder::new();
    let mut flow = AsyncFlow::builder("large");
    // Text that is another at each visit, and not to be compressed.
    let grow = flow.add("grow", |text: &mut String| {
        let turn = text.len() as u64 / 1_000_000;
        let mut seed = turn + 1;
        text.extend((0..1_000_000).map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (seed >> 58) as u8)
        }));
        flowstone_core::Action::from(if turn < 11 { "again" } else { "done" })
    });
    flow.start(grow);
    flow.route(grow - "again" >> grow);
    flow.route(grow - "done" >> flowstone_core::END);
    let pieces = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&pieces);
    let options = StoreOptions::new().on_write(move |point| {
        *counted.lock().unwrap() += u32::from(point.job == "piece" && point.when == WriteMoment::Committed);
    });
    let runs = options.open(folder.store()).await.unwrap().runs(flow.build().unwrap()).await.unwrap();
    runs.start("r", String::new()).await.unwrap().finished().await.unwrap().ended().unwrap();
    // Those of the run's start and of nothing at the open.
    *pieces.lock().unwrap() = 0;

    runs.delete("r").await.unwrap();

    let pieces = *pieces.lock().unwrap();
    assert!(pieces >= 3, "12 MB in pieces of 4: {pieces}");
    assert_eq!(rows(&folder.store()), []);
}

#[tokio::test]
async fn a_job_that_refuses_leaves_nothing_of_what_it_wrote() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    runs.start("a", Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
    // Steps of the run that is the next one, as a damaged store may have them.
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    db.execute(
        "INSERT INTO visits (run, seq, started_at, took_us, attempts, size, kind) VALUES (2, 0, 0, 0, 0, 0, 0)",
        [],
    )
    .unwrap();
    let before = rows(&folder.store());

    let error = runs.start("b", Count::to(1)).await.unwrap_err();

    assert_eq!(Error::from(error).fault(), Some(StoreFault::Corrupt));
    assert_eq!(rows(&folder.store()), before);
    assert!(matches!(runs.get("b").await, Err(ReadError::UnknownRun { .. })));
}
