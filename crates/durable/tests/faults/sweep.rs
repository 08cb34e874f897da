//! Each write, sync and truncation in turn.

use flowstone_disk::{Cause, Faults, Span};
use flowstone_durable::StoreFault;

use crate::harness::{Fault, Harness, of_store, whole};

/// At most so many operations of a run are made to fail, spread evenly over all: about every second.
const MOST: usize = 150;

/// And so many of a run that fills the log, which has ten times as many.
const MOST_OF_LARGE: usize = 20;

#[derive(Debug, Clone, Copy)]
enum After {
    /// The run goes on in the store that is open.
    SameStore,
    /// The store is closed while the disk still fails, and opened again when it does not.
    Reopened,
}

#[tokio::test]
async fn a_run_survives_each_failing_operation_in_the_store_that_is_open() {
    sweep(Faults::register("sweep-same"), 0, MOST, After::SameStore).await;
}

#[tokio::test]
async fn a_run_survives_each_failing_operation_when_its_store_is_opened_again() {
    sweep(Faults::register("sweep-reopened"), 0, MOST, After::Reopened).await;
}

/// A state that changes as a whole fills the log, so that SQLite copies it into the file in the middle of the run.
#[tokio::test]
async fn a_run_survives_each_failing_operation_of_a_checkpoint() {
    let (faults, ballast) = (Faults::register("sweep-checkpoint"), 220_000);

    sweep(faults, ballast, MOST_OF_LARGE, After::SameStore).await;
    sweep(faults, ballast, MOST_OF_LARGE, After::Reopened).await;
}

#[tokio::test]
async fn a_store_that_fails_while_it_is_opened_opens_once_the_cause_is_gone() {
    let faults = Faults::register("sweep-opening");
    let undisturbed = Harness::new(faults);
    faults.take_count();
    let runs = undisturbed.runs().await.unwrap();
    let count = faults.take_count();
    runs.store().close().await;

    for nth in 0..count {
        let harness = Harness::new(faults);
        faults.fail(nth, None, cause(nth), Span::UntilHealed);
        match harness.runs().await {
            Ok(runs) => runs.store().close().await,
            Err(Fault::Open(error)) => assert!(error.to_string().contains("runs.db"), "{error}"),
            Err(Fault::Run(error)) => assert!(error.fault().is_some(), "{error:?}"),
        }
        assert!(faults.failed() > 0, "operation {nth} of {count}");
        faults.heal();

        let runs = harness.runs().await.unwrap();
        assert_eq!(whole(&runs).await.unwrap().state, harness.expected(), "operation {nth} of {count}");
        runs.store().close().await;
        harness.check_file();
    }
}

async fn sweep(faults: Faults, ballast: usize, most: usize, after: After) {
    let count = operations(faults, ballast).await;
    let step = count.div_ceil(most).max(1);
    let mut stopped = 0;

    for (at, nth) in (0..count).step_by(step).enumerate() {
        // Both ways to fail at each operation of a short run would double the time; they take turns.
        let (cause, span) = (cause(at), [Span::Once, Span::UntilHealed][at / 3 % 2]);
        let harness = Harness::new(faults).ballast(ballast);
        let failed = disturbed(&harness, nth, (cause, span), after).await;
        stopped += usize::from(failed);
    }

    // A failure after a commit, in a checkpoint, stops nothing: the next one does it again.
    let tried = count.div_ceil(step);
    assert!(stopped > tried / 2, "{stopped} of {tried} stopped the run");
}

/// Counts the operations of a run that nothing disturbs.
async fn operations(faults: Faults, ballast: usize) -> usize {
    let harness = Harness::new(faults).ballast(ballast);
    let runs = harness.runs().await.unwrap();
    faults.take_count();

    let finished = whole(&runs).await.unwrap();

    assert_eq!(finished.state, harness.expected());
    let count = faults.take_count();
    runs.store().close().await;
    count
}

/// Lets an operation fail, and the run go on after it. Returns whether that stopped it.
async fn disturbed(harness: &Harness, nth: usize, (cause, span): (Cause, Span), after: After) -> bool {
    let what = format!("operation {nth}, {cause:?}, {span:?}, {after:?}");
    let faults = harness.faults;
    let mut runs = harness.runs().await.unwrap();
    faults.fail(nth, None, cause, span);

    let first = whole(&runs).await;

    let failed = first.is_err();
    match first {
        Ok(finished) => assert_eq!(finished.state, harness.expected(), "{what}"),
        Err(error) => {
            let fault = of_store(error);
            assert!(matches!(fault, StoreFault::Io | StoreFault::Full), "{what}: {fault:?}");
            assert!(faults.failed() > 0, "{what}");
        }
    }
    if let After::Reopened = after {
        runs.store().close().await;
        faults.heal();
        runs = harness.runs().await.unwrap();
    }
    faults.heal();

    assert_eq!(harness.go_on(&runs, &what).await, harness.expected(), "{what}");
    runs.store().close().await;
    harness.check_file();
    failed
}

fn cause(nth: usize) -> Cause {
    [Cause::Broken, Cause::Torn, Cause::Full][nth % 3]
}
