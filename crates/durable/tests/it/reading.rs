//! Reading beside whoever writes: each call sees one moment, and damage is said of damage only.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use flowstone_durable::{
    ChangeError, DriveError, Error, Filter, Prune, ReadError, Reader, Requests, Runs, StartError, StoreFault,
};
use rusqlite::Connection;

use crate::common::{Count, Folder, Invoice, Ledger, approving, counting, soon};

/// Calls everything that reads a run, and says what is no run of that id, or a whole one.
fn read_all(reader: &Reader, id: &str) -> Result<(), Error> {
    let info = reader.run(id)?;
    reader.list(&Filter::new())?;
    reader.count()?;
    reader.children(id)?;
    reader.steps(id, 0, 100)?;
    reader.usage(id)?;
    reader.state(id, None)?;
    reader.diff(id, 0, info.step)?;
    reader.questions(id)?;
    reader.items_done(id)?;
    reader.flows()?;
    reader.driver()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_beside_deleting_and_pruning_never_sees_damage() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (path, ended) = (folder.store(), Arc::clone(&over));
    let reads = std::thread::spawn(move || {
        let (reader, mut requests) = (Reader::open(&path).unwrap(), Requests::open(&path).unwrap());
        let mut seen = [0, 0];
        while !ended.load(Ordering::Relaxed) {
            for id in ["r0", "r1", "r2"] {
                match read_all(&reader, id) {
                    Ok(()) => seen[0] += 1,
                    Err(Error::Read(ReadError::UnknownRun { .. }) | Error::Read(ReadError::UnknownStep { .. })) => {
                        seen[1] += 1
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            match requests.fork("r0", 0, "r0", |_| {}) {
                Ok(())
                | Err(
                    ChangeError::Start(StartError::Taken { .. })
                    | ChangeError::Read(ReadError::UnknownRun { .. })
                    | ChangeError::Read(ReadError::UnknownStep { .. }),
                ) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        seen
    });
    for round in 0..60 {
        for n in 0..3 {
            let run = runs.start(format!("r{n}"), Count::to(4)).await.unwrap();
            run.finished().await.unwrap().ended().unwrap();
            assert_eq!(run.state().await.unwrap().n, 4);
        }
        match round % 2 {
            0 => runs.prune(&Prune::new()).await.map(drop).unwrap(),
            _ => {
                for n in 0..3 {
                    runs.delete(format!("r{n}")).await.unwrap();
                }
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    let seen = tokio::task::spawn_blocking(move || reads.join().unwrap()).await.unwrap();
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

/// `finished` looks at the status and then at the state: between the two the run may be deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_deleted_while_it_is_waited_for_is_unknown_and_not_damaged() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    for _ in 0..40 {
        let run = runs.start("r", Count::to(2)).await.unwrap();
        run.settled().await.unwrap();
        let waits = tokio::spawn({
            let run = run.clone();
            async move { (run.finished().await, run.state().await, run.info().await) }
        });
        runs.delete("r").await.unwrap();
        let (finished, state, info) = soon("the answers", waits).await.unwrap();
        for error in
            [finished.err(), state.err().map(DriveError::from), info.err().map(DriveError::from)].into_iter().flatten()
        {
            assert!(matches!(error, DriveError::Read(ReadError::UnknownRun { .. })), "{error:?}");
        }
    }
}

fn fault(error: ReadError) -> Option<StoreFault> {
    Error::from(error).fault()
}

#[tokio::test]
async fn damage_is_said_of_damage_only() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    for id in ["deep", "broken", "stepless"] {
        runs.start(id, Invoice::default()).await.unwrap().settled().await.unwrap();
    }
    let db = Connection::open(folder.store()).unwrap();
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    db.execute("UPDATE pauses SET question = ?1 WHERE run = 1", [&deep]).unwrap();
    db.execute("UPDATE pauses SET question = '{\"a\":' WHERE run = 2", []).unwrap();
    db.execute("DELETE FROM visits WHERE run = 3", []).unwrap();
    let reader = Reader::open(folder.store()).unwrap();

    // Somebody wrote it before it was refused.
    assert_eq!(reader.questions("deep").unwrap()[0].question, deep);
    // This cannot have been written.
    assert_eq!(fault(reader.questions("broken").unwrap_err()), Some(StoreFault::Corrupt));
    assert_eq!(fault(reader.state("stepless", None).unwrap_err()), Some(StoreFault::Corrupt));
    // A table that is gone is the fault of who took it.
    db.execute_batch("DROP TABLE pauses").unwrap();
    assert_eq!(fault(reader.questions("broken").unwrap_err()), Some(StoreFault::Internal));
}
