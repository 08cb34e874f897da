//! One process drives a store, others read it and ask.

use flowstone_durable::{Error, OpenError, Reader, Requests, Runs, Store, StoreFault};

use crate::common::{Count, Folder, Gate, Ledger, counting, gated, rows, soon, until};

#[tokio::test]
async fn a_second_driver_is_told_the_process_of_the_first() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();

    let error = Store::open(folder.store()).await.unwrap_err();

    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error:?}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    // It may read, and ask.
    assert_eq!(Reader::open(folder.store()).unwrap().driver().unwrap(), Some(std::process::id()));
    assert!(Requests::open(folder.store()).is_ok());
    // The first goes on.
    assert_eq!(runs.start("r", Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap().state.n, 1);
}

#[tokio::test]
async fn a_store_that_was_closed_is_driven_by_nobody() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    Runs::open(folder.store(), counting(&ledger)).await.unwrap().store().close().await;

    assert_eq!(Reader::open(folder.store()).unwrap().driver().unwrap(), None);
    assert!(Store::open(folder.store()).await.is_ok());
}

#[tokio::test]
async fn a_writer_that_lost_its_lock_cannot_commit() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;
    let before = rows(&folder.store());

    // As another process does that drives the store from now on.
    let other = rusqlite::Connection::open(folder.store()).unwrap();
    other.execute("UPDATE owner SET epoch = epoch + 1, pid = 1", []).unwrap();
    gate.open();

    let error = soon("the fault", run.finished()).await.unwrap_err();
    assert_eq!(Error::from(error).fault(), Some(StoreFault::LockLost));
    let start = runs.start("s", Count::to(2)).await.unwrap_err();
    assert_eq!(Error::from(start).fault(), Some(StoreFault::LockLost));
    assert!(run.cancel().await.is_err() && runs.delete("r").await.is_err());
    runs.store().close().await;
    assert_eq!(rows(&folder.store()), before);
}

#[tokio::test]
async fn a_store_that_was_taken_over_goes_on_with_who_has_it() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let first = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let lost = first.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;
    // Somebody deletes the lock file, and another process gets past it.
    std::fs::remove_file(folder.file("runs.db-lock")).unwrap();

    let second = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    gate.open();
    second.resume_all().await.unwrap();
    let ended = soon("the end", second.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(ended.state.n, 2);
    let _ = soon("the first is told", lost.finished()).await;
    let error = first.start("s", Count::to(2)).await.unwrap_err();
    assert_eq!(Error::from(error).fault(), Some(StoreFault::LockLost));
    assert_eq!(second.get("r").await.unwrap().info().await.unwrap().step, 2);
}

#[tokio::test]
async fn readers_work_while_runs_are_driven() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    gate.open();

    let run = runs.start("r", Count::to(300)).await.unwrap();
    let mut last = 0;
    until("the end", async || {
        let info = reader.run("r").unwrap();
        assert!(info.step >= last, "steps only grow");
        last = info.step;
        assert_eq!(reader.state("r", Some(last)).unwrap()["n"], last);
        info.step == 300
    })
    .await;

    assert_eq!(run.finished().await.unwrap().ended().unwrap().state.n, 300);
    // A plain SQLite program reads it, too.
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    assert_eq!(db.query_row("SELECT count(*) FROM visits", [], |row| row.get::<_, i64>(0)).unwrap(), 301);
}
