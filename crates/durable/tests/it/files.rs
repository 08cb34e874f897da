//! Files that are no stores, or damaged ones: typed errors, and nothing is written.

use std::{fs, path::Path};

use flowstone_durable::{OpenError, ReadError, Reader, Requests, Runs, Store, StoreFault};
use rusqlite::Connection;

use crate::common::{Count, Folder, Ledger, counting};

/// Tries all three ways to open a file, each of which must be refused, and checks that none changed anything.
async fn refused(folder: &Folder, path: &Path) -> Vec<OpenError> {
    let names = folder.names();
    let bytes = fs::read(path).unwrap_or_default();
    let errors =
        vec![Store::open(path).await.unwrap_err(), Reader::open(path).unwrap_err(), Requests::open(path).unwrap_err()];
    assert_eq!(fs::read(path).unwrap_or_default(), bytes);
    assert_eq!(folder.names(), names, "a refused file leaves nothing beside it");
    for error in &errors {
        assert!(!error.to_string().contains('\n') && error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    errors
}

fn all_are(errors: &[OpenError], what: impl Fn(&OpenError) -> bool) {
    assert!(errors.iter().all(what), "{errors:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = Folder::new();
    let path = folder.file("notes.txt");
    fs::write(&path, "dear diary, ".repeat(1000)).unwrap();

    let errors = refused(&folder, &path).await;

    all_are(&errors, |error| matches!(error, OpenError::NotAStore { what, .. } if what == "it is no SQLite database"));
}

#[tokio::test]
async fn a_store_of_another_program_is_refused() {
    let folder = Folder::new();
    let path = folder.file("other.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE runs (id TEXT); INSERT INTO runs VALUES ('mine');").unwrap();
    db.close().unwrap();

    let errors = refused(&folder, &path).await;

    all_are(&errors, |error| matches!(error, OpenError::NotAStore { what, .. } if what.contains("another program")));
}

#[tokio::test]
async fn a_database_with_another_application_id_is_refused_even_if_it_is_empty() {
    let folder = Folder::new();
    let path = folder.file("other.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA application_id = 17; PRAGMA user_version = 1;").unwrap();
    db.close().unwrap();

    let errors = refused(&folder, &path).await;

    all_are(&errors, |error| matches!(error, OpenError::NotAStore { .. }));
}

#[tokio::test]
async fn a_store_of_a_newer_schema_is_refused() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    Runs::open(folder.store(), counting(&ledger)).await.unwrap().store().close().await;
    let db = Connection::open(folder.store()).unwrap();
    db.pragma_update(None, "user_version", 4).unwrap();
    db.close().unwrap();

    let errors = refused(&folder, &folder.store()).await;

    all_are(&errors, |error| matches!(error, OpenError::Newer { found: 4, known: 3, .. }));
    assert!(
        errors[0]
            .to_string()
            .ends_with("has schema 4, and this version knows schemas up to 3: open it with a newer version")
    );
}

#[tokio::test]
async fn a_folder_is_refused() {
    let folder = Folder::new();
    let path = folder.file("folder");
    fs::create_dir(&path).unwrap();

    let errors = refused(&folder, &path).await;

    all_are(&errors, |error| matches!(error, OpenError::File { .. }));
}

#[tokio::test]
async fn a_store_in_a_folder_that_is_not_there_is_refused() {
    let folder = Folder::new();

    let errors = refused(&folder, &folder.file("nowhere/runs.db")).await;

    all_are(&errors, |error| matches!(error, OpenError::File { .. }));
}

#[tokio::test]
async fn a_missing_file_is_made_by_who_drives_it_and_by_nobody_else() {
    let folder = Folder::new();

    let (reader, requests) = (Reader::open(folder.store()).unwrap_err(), Requests::open(folder.store()).unwrap_err());
    assert!(matches!((reader, requests), (OpenError::File { .. }, OpenError::File { .. })));
    assert_eq!(folder.names(), [""; 0]);

    Store::open(folder.store()).await.unwrap().close().await;
    assert!(Reader::open(folder.store()).is_ok());
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    fs::write(folder.store(), "").unwrap();

    assert!(matches!(Reader::open(folder.store()), Err(OpenError::NotAStore { .. })));
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();

    assert_eq!(runs.start("r", Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap().state.n, 1);
}

const RUNS: u32 = 12;
const STEPS: u32 = 40;

/// A store of some twenty pages.
async fn large(folder: &Folder) {
    let runs = Runs::open(folder.store(), counting(&Ledger::default())).await.unwrap();
    for n in 0..RUNS {
        runs.start(format!("r{n}"), Count::to(STEPS)).await.unwrap().finished().await.unwrap().ended().unwrap();
    }
    runs.store().close().await;
}

#[tokio::test]
async fn a_truncated_store_is_an_error_wherever_it_is_cut_and_never_a_wrong_state() {
    let folder = Folder::new();
    large(&folder).await;
    let whole = fs::read(folder.store()).unwrap();

    for eighth in 0..8 {
        let path = folder.file(&format!("cut-{eighth}.db"));
        fs::write(&path, &whole[..whole.len() * eighth / 8 + 50]).unwrap();
        match Store::open(&path).await {
            Err(error) => assert!(matches!(&error, OpenError::NotAStore { .. } | OpenError::Store { .. }), "{error:?}"),
            Ok(store) => {
                damaged(&path);
                store.close().await;
            }
        }
    }
}

#[tokio::test]
async fn a_page_that_was_overwritten_is_an_error_and_never_a_wrong_state() {
    let folder = Folder::new();
    large(&folder).await;
    let whole = fs::read(folder.store()).unwrap();

    for page in 1..whole.len() / 4096 {
        let path = folder.file("damaged.db");
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xA5);
        fs::write(&path, &bytes).unwrap();
        match Reader::open(&path) {
            Ok(_) => damaged(&path),
            Err(error) => assert!(matches!(error, OpenError::NotAStore { .. } | OpenError::Store { .. }), "{error:?}"),
        }
    }
}

/// Reads all of a damaged store: what comes is right, or an error of the store.
fn damaged(path: &Path) {
    let reader = Reader::open(path).unwrap();
    for n in 0..RUNS {
        let id = format!("r{n}");
        for step in 0..=STEPS {
            match reader.state(&*id, Some(step.into())) {
                Ok(state) => assert_eq!(state["n"], step),
                Err(ReadError::Store(error)) => assert_eq!(error.fault(), StoreFault::Corrupt, "{error:?}"),
                // Rows that are gone with their page.
                Err(ReadError::UnknownRun { .. } | ReadError::UnknownStep { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_was_changed_is_an_error_and_never_a_wrong_state() {
    let folder = Folder::new();
    large(&folder).await;
    let db = Connection::open(folder.store()).unwrap();
    db.execute("UPDATE visits SET body = x'0200000000010133' WHERE run = 1 AND seq = 7", []).unwrap();
    db.execute("UPDATE visits SET kind = 9 WHERE run = 2 AND seq = 7", []).unwrap();
    db.execute("UPDATE visits SET base = 7 WHERE run = 3 AND seq = 7", []).unwrap();
    db.execute("DELETE FROM visits WHERE run = 4 AND seq = 7", []).unwrap();
    let reader = Reader::open(folder.store()).unwrap();

    for id in ["r0", "r1", "r2", "r3"] {
        assert_eq!(reader.state(id, Some(6)).unwrap()["n"], 6);
        let error = reader.state(id, Some(7)).unwrap_err();
        assert!(matches!(&error, ReadError::Store(error) if error.fault() == StoreFault::Corrupt), "{id}: {error:?}");
    }
}
