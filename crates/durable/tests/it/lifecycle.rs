//! The life of a run: started, driven, left unfinished, resumed, ended.

use std::time::{Duration, SystemTime};

use flowstone_durable::{AnswerError, Filter, Runs, Status, StoreOptions};

use crate::common::{Count, Folder, Invoice, Ledger, Numbers, approving, counting, doubling, sleeping};

#[tokio::test]
async fn a_run_ends_with_its_action_and_state() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();

    let run = runs.start("r", Count::to(5)).await.unwrap();
    let ended = run.finished().await.unwrap().ended().unwrap();

    assert_eq!(ended.action, "done");
    assert_eq!(ended.state, Count { n: 5, of: 5 });
    let info = run.info().await.unwrap();
    assert_eq!((info.status, info.step, info.node), (Status::Ended, 5, None));
    assert_eq!(ledger.take().len(), 5);
}

#[tokio::test]
async fn the_same_id_is_the_same_run() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();

    runs.start("r", Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap();
    let again = runs.start("r", Count::to(9)).await.unwrap().finished().await.unwrap().ended().unwrap();

    assert_eq!(again.state.of, 3);
    assert_eq!(ledger.take().len(), 3);
}

#[tokio::test]
async fn a_batch_that_was_cut_runs_only_what_was_not_recorded() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let numbers = Numbers { numbers: (0..100).collect(), doubled: Vec::new() };
    let runs = Runs::open(folder.store(), doubling(&ledger, 60)).await.unwrap();
    let run = runs.start("r", numbers).await.unwrap();
    while ledger.count("double 59") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    runs.store().close().await;
    drop((run, runs));
    ledger.take();

    let runs = Runs::open(folder.store(), doubling(&ledger, 1000)).await.unwrap();
    let resumed = runs.resume_all().await.unwrap();
    let ended = runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap();

    assert_eq!(resumed.runs.len(), 1);
    assert_eq!(ended.state.doubled, (0..100).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(ledger.take().len(), 40);
    let steps = runs.get("r").await.unwrap().steps(1, 1).await.unwrap();
    let items = steps[0].items.unwrap();
    assert_eq!((items.recorded, items.recalled), (100, 60));
}

#[tokio::test]
async fn a_pause_is_answered_after_a_restart_and_only_once() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    let run = runs.start("r", Invoice { amount: 7, ..Invoice::default() }).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Paused);
    runs.store().close().await;
    drop((run, runs));

    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    assert!(matches!(runs.answer("r", "ask", "maybe").await, Err(AnswerError::Unfit { .. })));
    runs.answer("r", "ask", true).await.unwrap();
    let ended = runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap();

    assert!(ended.state.posted);
    assert!(matches!(runs.answer("r", "ask", true).await, Err(AnswerError::AlreadyAnswered { .. })));
    assert_eq!(ledger.take(), ["post"]);
}

#[tokio::test]
async fn a_sleep_fires_on_time_after_a_restart() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), sleeping()).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Sleeping);
    runs.store().close().await;
    drop((run, runs));

    let later = SystemTime::now() + Duration::from_secs(3601);
    let store = StoreOptions::new().clock(move || later).open(folder.store()).await.unwrap();
    let runs = store.runs(sleeping()).await.unwrap();
    let ended = runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap();

    assert_eq!(ended.state.n, 1);
    assert_eq!(runs.list(&Filter::new().status(Status::Ended)).await.unwrap().len(), 1);
}
