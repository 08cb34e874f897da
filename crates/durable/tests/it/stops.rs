//! Cancelling runs: driven, parked, asleep, at an end.

use std::sync::{Arc, Mutex};

use flowstone_durable::{
    AnswerError, ChangeError, Finished, Requests, Runs, Status, StoreOptions, WriteMoment, WrongStatus,
};

use crate::common::{Count, Folder, Gate, Invoice, Ledger, approving, counting, gated, sleeping, soon, until};

#[tokio::test]
async fn a_driven_run_is_cancelled_where_it_waits() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;

    soon("cancel", run.cancel()).await.unwrap();

    let info = run.info().await.unwrap();
    assert_eq!((info.status, info.step), (Status::Cancelled, 1));
    assert!(matches!(run.finished().await, Ok(Finished::Cancelled(_))));
    gate.open();
    assert_eq!(ledger.take(), ["waits"]);
}

#[tokio::test]
async fn a_parked_run_is_cancelled() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    let run = runs.start("r", Invoice::default()).await.unwrap();
    run.settled().await.unwrap();

    run.cancel().await.unwrap();

    assert!(matches!(run.finished().await, Ok(Finished::Cancelled(_))));
    assert!(matches!(run.answer("ask", true).await, Err(AnswerError::NotAsking { .. })));
}

#[tokio::test]
async fn who_waits_for_a_parked_run_is_told_that_it_was_cancelled() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();

    for beside in [false, true] {
        let id = if beside { "beside" } else { "direct" };
        let run = runs.start(id, Invoice::default()).await.unwrap();
        run.settled().await.unwrap();
        let waits = tokio::spawn({
            let run = run.clone();
            async move { run.finished().await }
        });
        tokio::task::yield_now().await;
        // The waiter reads the store on another thread before it waits.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;

        if beside {
            let path = folder.store();
            let cancel = move || Requests::open(path).unwrap().cancel(id).unwrap();
            tokio::task::spawn_blocking(cancel).await.unwrap();
        } else {
            run.cancel().await.unwrap();
        }

        let told = soon("who waits is told", waits).await.unwrap();
        assert!(matches!(told, Ok(Finished::Cancelled(_))), "{told:?}");
    }
}

#[tokio::test]
async fn a_sleeping_run_is_cancelled_and_never_wakes() {
    let folder = Folder::new();
    let now = Arc::new(Mutex::new(std::time::SystemTime::now()));
    let clock = Arc::clone(&now);
    let store = StoreOptions::new().clock(move || *clock.lock().unwrap()).open(folder.store()).await.unwrap();
    let runs = store.runs(sleeping()).await.unwrap();
    let (run, other) =
        (runs.start("r", Count::default()).await.unwrap(), runs.start("s", Count::default()).await.unwrap());
    run.settled().await.unwrap();
    other.settled().await.unwrap();

    run.cancel().await.unwrap();
    *now.lock().unwrap() += std::time::Duration::from_secs(3601);
    soon("the other wakes", other.finished()).await.unwrap().ended().unwrap();

    let info = run.info().await.unwrap();
    assert_eq!((info.status, info.wake_at), (Status::Cancelled, None));
    assert_eq!(run.state().await.unwrap().n, 0);
}

#[tokio::test]
async fn a_run_at_its_end_is_not_cancelled() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let run = runs.start("r", Count::to(1)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap();

    let error = run.cancel().await.unwrap_err();

    assert_eq!(error.to_string(), "run `r` cannot be cancelled: its status is `ended`");
    assert!(matches!(error, ChangeError::WrongStatus(WrongStatus { status: Status::Ended, .. })));
    assert_eq!(run.info().await.unwrap().status, Status::Ended);
}

#[tokio::test]
async fn a_run_is_cancelled_from_beside_while_it_is_driven() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;

    let path = folder.store();
    tokio::task::spawn_blocking(move || Requests::open(path).unwrap().cancel("r").unwrap()).await.unwrap();

    assert!(matches!(soon("the inbox", run.finished()).await, Ok(Finished::Cancelled(_))));
    until("the inbox is empty", async || !crate::common::rows(&folder.store()).contains(&("inbox", 1))).await;
}

#[tokio::test]
async fn a_run_that_was_cancelled_while_nobody_drove_it_does_not_go_on() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    runs.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;
    runs.store().close().await;
    ledger.take();
    gate.open();

    let path = folder.store();
    tokio::task::spawn_blocking(move || Requests::open(path).unwrap().cancel("r").unwrap()).await.unwrap();
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let resumed = runs.resume_all().await.unwrap();

    assert!(resumed.runs.is_empty());
    assert_eq!(runs.get("r").await.unwrap().info().await.unwrap().status, Status::Cancelled);
    assert_eq!(ledger.take(), [""; 0]);
}

/// Another process retries a run in the moment in which its cancelling is on disk: it must not be cancelled a second
/// time.
#[tokio::test]
async fn a_retry_right_after_a_cancel_is_not_lost() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let path = folder.store();
    let retried = Arc::new(Mutex::new(false));
    let done = Arc::clone(&retried);
    let store = StoreOptions::new().on_write(move |point| {
        if point.job == "stop"
            && point.when == WriteMoment::Committed
            && !std::mem::replace(&mut done.lock().unwrap(), true)
        {
            Requests::open(&path).unwrap().retry_failed("r").unwrap();
        }
    });
    let runs = store.open(folder.store()).await.unwrap().runs(gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;

    soon("cancel", run.cancel()).await.unwrap();
    gate.open();

    assert!(*retried.lock().unwrap());
    let ended = soon("the end", run.finished()).await;
    assert_eq!(ended.unwrap().ended().unwrap().state.n, 2);
}
