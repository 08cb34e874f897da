//! Each cause is told by the run, which does not go on while the cause is there.

use std::{error::Error as _, time::Duration};

use flowstone_core::{AsyncFlow, Sleep};
use flowstone_disk::{Cause, Faults, Operation, Span};
use flowstone_durable::{Durability, OpenError, Status, StoreFault, StoreOptions};

use crate::harness::{Deed, Fault, Harness, of_store, whole};

/// An operation in the middle of a run.
const MIDDLE: usize = 40;

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_until_there_is_room() {
    let harness = Harness::new(Faults::register("causes-full"));
    let runs = harness.runs().await.unwrap();
    harness.faults.fail(MIDDLE, Some(Operation::Write), Cause::Full, Span::UntilHealed);

    let first = whole(&runs).await.unwrap_err();
    let second = whole(&runs).await.unwrap_err();

    assert_eq!((first.fault(), second.fault()), (Some(StoreFault::Full), Some(StoreFault::Full)));
    assert_eq!(first.to_string(), "the disk is full: make room, then resume the runs");
    assert!(first.source().is_some(), "SQLite's own error is kept");
    harness.faults.heal();
    assert_eq!(harness.go_on(&runs, "room was made").await, harness.expected());
}

#[tokio::test]
async fn a_failed_sync_stops_the_run_before_the_next_visit() {
    let harness = Harness::new(Faults::register("causes-sync"));
    let runs = harness.runs().await.unwrap();
    harness.faults.fail(3, Some(Operation::Sync), Cause::Broken, Span::UntilHealed);

    let failed = of_store(whole(&runs).await.unwrap_err());

    assert_eq!(failed, StoreFault::Io);
    harness.faults.heal();
    let made: Vec<_> = (1..=runs.state("run").await.unwrap().turns() + 1).map(Deed::Turn).collect();
    assert_eq!(harness.deeds(), made, "one visit was made that is not on disk");
    assert_eq!(harness.go_on(&runs, "the disk was mended").await, harness.expected());
}

#[tokio::test]
async fn a_failed_sync_that_is_tried_again_at_once_fails_again_and_loses_nothing() {
    let harness = Harness::new(Faults::register("causes-sync-again"));
    let runs = harness.runs().await.unwrap();

    for nth in [3, 0, 5, 1, 0] {
        harness.faults.fail(nth, Some(Operation::Sync), Cause::Broken, Span::Once);
        assert_eq!(of_store(whole(&runs).await.unwrap_err()), StoreFault::Io);
    }

    assert_eq!(harness.go_on(&runs, "five failed syncs").await, harness.expected());
    runs.store().close().await;
    harness.check_file();
}

#[tokio::test]
async fn a_run_that_may_be_behind_the_disk_is_behind_by_no_more_than_that() {
    let faults = Faults::register("causes-behind");
    for nth in [2, 5, 9] {
        let harness = Harness::new(faults).options(|to| to.durability(Durability::Behind(3)));
        let runs = harness.runs().await.unwrap();
        faults.fail(nth, Some(Operation::Sync), Cause::Broken, Span::UntilHealed);

        let failed = of_store(whole(&runs).await.unwrap_err());

        assert_eq!(failed, StoreFault::Io);
        faults.heal();
        let made = harness.deeds().iter().filter(|deed| matches!(deed, Deed::Turn(_))).count() as u64;
        let committed = runs.state("run").await.map_or(0, |state| state.turns());
        assert!(made <= committed + 4, "{made} turns were made when {committed} were on disk");
        assert_eq!(harness.go_on(&runs, "a run that was behind").await, harness.expected());
        runs.store().close().await;
        harness.check_file();
    }
}

#[tokio::test]
async fn a_store_that_becomes_read_only_stops_its_runs_and_is_still_read() {
    let harness = Harness::new(Faults::register("causes-read-only"));
    let runs = harness.runs().await.unwrap();
    harness.faults.fail(MIDDLE, None, Cause::Broken, Span::UntilHealed);
    drop(whole(&runs).await.unwrap_err());
    harness.faults.heal();

    harness.faults.make_read_only();

    let failed = of_store(whole(&runs).await.unwrap_err());
    assert!(matches!(failed, StoreFault::Io | StoreFault::ReadOnly), "{failed:?}");
    assert!(runs.state("run").await.unwrap().turns() > 0, "what was committed is read all the same");
    harness.faults.heal();
    assert_eq!(harness.go_on(&runs, "writing was allowed").await, harness.expected());
}

#[tokio::test]
async fn a_store_that_may_not_be_written_is_not_opened_to_be_driven() {
    let harness = Harness::new(Faults::register("causes-read-only-opening"));
    let runs = harness.runs().await.unwrap();
    assert_eq!(whole(&runs).await.unwrap().state, harness.expected());
    runs.store().close().await;
    drop(runs);

    harness.faults.make_read_only();

    match harness.runs().await.unwrap_err() {
        Fault::Open(OpenError::Store { source, .. }) => assert_eq!(source.fault(), StoreFault::ReadOnly),
        Fault::Run(error) => assert_eq!(error.fault(), Some(StoreFault::ReadOnly)),
        error => panic!("{error:?}"),
    }
    harness.faults.heal();
    let runs = harness.runs().await.unwrap();
    assert_eq!(runs.state("run").await.unwrap(), harness.expected());
}

#[tokio::test]
async fn whoever_waits_for_a_sleeper_that_cannot_be_woken_is_told_and_it_wakes_when_it_can() {
    let (faults, folder) = (Faults::register("causes-asleep"), tempfile::tempdir().unwrap());
    let mut flow = AsyncFlow::<u64>::builder("nap");
    let nap = flow.add("nap", Sleep::new(Duration::from_millis(300)));
    flow.start(nap);
    let options = StoreOptions::new().vfs(faults.name()).keep_waits(Duration::from_millis(1));
    let store = options.open(folder.path().join("runs.db")).await.unwrap();
    let run = store.runs(flow.build().unwrap()).await.unwrap().start("run", 7).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Sleeping);
    faults.fail(0, Some(Operation::Write), Cause::Full, Span::UntilHealed);

    let told = run.finished().await.unwrap_err();

    assert_eq!(told.to_string(), "the disk is full: make room, then resume the runs");
    assert_eq!(run.info().await.unwrap().status, Status::Sleeping);
    faults.heal();
    let ended = loop {
        // The same fault may be told once more, from before the disk had room.
        if let Ok(finished) = run.finished().await {
            break finished.ended().unwrap();
        }
    };
    assert_eq!(ended.state, 7);
    store.close().await;
}
