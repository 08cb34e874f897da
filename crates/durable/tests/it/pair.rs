//! A main file and its log: what does not belong together is refused, and left as it is.

use std::{fs, path::PathBuf};

use flowstone_durable::{Filter, OpenError, Reader, Requests, Runs, Store};
use rusqlite::Connection;

use crate::common::{Count, Folder, Ledger, counting, rows};

/// A folder with the files of a store as a killed process leaves them: the newest commits are in the log.
async fn killed(runs: u32) -> Folder {
    killed_after(0, runs).await
}

/// The same, after the store was driven so often before.
async fn killed_after(lives: u32, runs: u32) -> Folder {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    for _ in 0..lives {
        Runs::open(folder.store(), counting(&ledger)).await.unwrap().store().close().await;
    }
    let store = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    for n in 0..runs {
        store.start(format!("r{n}"), Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap();
    }
    let left = Folder::new();
    for end in ["", "-wal"] {
        fs::copy(folder.file(&format!("runs.db{end}")), left.file(&format!("runs.db{end}"))).unwrap();
    }
    store.store().close().await;
    left
}

/// Tries all three ways to open a store, each of which must be refused, and checks that nothing is changed.
async fn refused(folder: &Folder, says: &str) {
    let path = folder.store();
    let bytes = || folder.names().into_iter().map(|name| fs::read(folder.file(&name)).unwrap()).collect::<Vec<_>>();
    let (names, before) = (folder.names(), bytes());

    let errors =
        [Store::open(&path).await.unwrap_err(), Reader::open(&path).unwrap_err(), Requests::open(&path).unwrap_err()];

    for error in errors {
        assert!(matches!(&error, OpenError::NotAStore { what, .. } if what.contains(says)), "{error:?}");
    }
    drop(fs::remove_file(folder.file("runs.db-shm")));
    assert_eq!(folder.names(), names);
    assert!(bytes() == before, "a refused store is left as it is");
}

#[tokio::test]
async fn a_log_without_its_main_file_is_refused_and_kept() {
    let folder = killed(50).await;
    fs::rename(folder.store(), folder.file("away")).unwrap();

    refused(&folder, "the file is missing").await;

    fs::rename(folder.file("away"), folder.store()).unwrap();
    Store::open(folder.store()).await.unwrap().close().await;
    assert_eq!(rows(&folder.store()), [("runs", 50), ("visits", 200)]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_without_its_main_file_is_found_where_a_link_leads() {
    let folder = killed(3).await;
    fs::remove_file(folder.store()).unwrap();
    std::os::unix::fs::symlink("runs.db", folder.file("link.db")).unwrap();

    let error = Store::open(folder.file("link.db")).await.unwrap_err();

    assert!(matches!(&error, OpenError::NotAStore { what, .. } if what.contains("the file is missing")), "{error:?}");
}

#[tokio::test]
async fn a_log_beside_an_empty_file_is_refused_and_kept() {
    let folder = killed(3).await;
    fs::write(folder.store(), "").unwrap();

    refused(&folder, "it is empty").await;
}

#[tokio::test]
async fn a_log_beside_another_file_is_refused_and_kept() {
    let other_program = |path: &PathBuf| {
        let db = Connection::open(path).unwrap();
        db.execute_batch("CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('mine');").unwrap();
    };
    let other_program_with_log = |path: &PathBuf| {
        let db = Connection::open(path).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE a (b); CREATE TABLE c (d); CREATE TABLE e (f);")
            .unwrap();
        db.execute_batch("CREATE TABLE g (h); CREATE TABLE i (j); PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    };
    let text = |path: &PathBuf| fs::write(path, "dear diary, ".repeat(1000)).unwrap();
    let cases: [&dyn Fn(&PathBuf); 3] = [&other_program, &other_program_with_log, &text];
    for case in cases {
        let folder = killed(3).await;
        fs::remove_file(folder.store()).unwrap();
        let made = folder.file("made");
        case(&made);
        for end in ["-wal", "-shm"] {
            drop(fs::remove_file(folder.file(&format!("made{end}"))));
        }
        fs::rename(made, folder.store()).unwrap();

        refused(&folder, "is that of another file").await;
    }
}

#[tokio::test]
async fn a_log_beside_another_store_is_refused_and_kept() {
    let (folder, other) = (killed(3).await, killed(7).await);
    Store::open(other.store()).await.unwrap().close().await;
    fs::remove_file(folder.store()).unwrap();
    fs::copy(other.store(), folder.store()).unwrap();

    refused(&folder, "is that of another file").await;
}

/// Where the page ends that has the marker.
fn end_of_owner(folder: &Folder) -> usize {
    let db = Connection::open(folder.store()).unwrap();
    let page: u32 =
        db.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'owner'", [], |row| row.get(0)).unwrap();
    page as usize * 4096
}

/// A store whose machine lost its power while SQLite copied the log into the main file: the log has everything, and the
/// file parts of it, torn at sectors.
#[tokio::test]
async fn a_main_file_of_which_half_a_page_was_written_is_opened_with_its_log() {
    type Tear<'a> = &'a dyn Fn(&mut [u8]);
    let (page, sector, end) = (4096, 512, end_of_owner(&killed_after(2, 3).await));
    let torn: [Tear<'_>; 3] = [
        &|main| main[end - sector..end].fill(0),
        &|main| main[end - sector..end].fill(0x33),
        // The sector that has the row is new, and the one that says where it begins is that of a row of another length.
        &|main| [6, 9].into_iter().for_each(|at| main[end - page + at] += 1),
    ];
    for tear in torn {
        let folder = killed_after(2, 3).await;
        let mut main = fs::read(folder.store()).unwrap();
        tear(&mut main);
        fs::write(folder.store(), main).unwrap();

        assert_eq!(Reader::open(folder.store()).unwrap().list(&Filter::new()).unwrap().len(), 3);
        Store::open(folder.store()).await.unwrap().close().await;
        assert_eq!(rows(&folder.store()), [("runs", 3), ("visits", 12)]);
    }
}

/// The main file grows before its header says so.
#[tokio::test]
async fn a_young_main_file_that_has_grown_is_opened_with_its_log() {
    let (made, folder) = (killed(3).await, Folder::new());
    let db = Connection::open(made.store()).unwrap();
    let mut select =
        db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'").unwrap();
    let tables: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let young = Connection::open(folder.file("young")).unwrap();
    young.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; BEGIN").unwrap();
    tables.iter().for_each(|table| young.execute_batch(table).unwrap());
    let schema: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    young.execute("INSERT INTO owner (one, epoch, pid, since) VALUES (1, 0, 0, 0)", []).unwrap();
    young
        .execute_batch(&format!("PRAGMA application_id = 0x464c4f57; PRAGMA user_version = {schema}; COMMIT"))
        .unwrap();
    let mut main = fs::read(folder.file("young")).unwrap();
    main.resize(main.len() + 20 * 4096, 0);
    fs::write(folder.store(), main).unwrap();
    fs::copy(folder.file("young-wal"), folder.file("runs.db-wal")).unwrap();

    Store::open(folder.store()).await.unwrap().close().await;

    assert_eq!(rows(&folder.store()), []);
}

/// A store that is driven, with a backup in each of the ways that the guide names, and its log as it is later.
async fn backups() -> Vec<(&'static str, Folder)> {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let first = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    first.start("a", Count::to(50)).await.unwrap().finished().await.unwrap().ended().unwrap();
    first.store().close().await;
    fs::copy(folder.store(), folder.file("copied-while-closed")).unwrap();
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    runs.start("b", Count::to(50)).await.unwrap().finished().await.unwrap().ended().unwrap();
    let into = folder.file("vacuumed");
    let db = Connection::open(folder.store()).unwrap();
    db.execute("VACUUM INTO ?1", [into.to_str().unwrap()]).unwrap();
    drop(db);
    runs.start("c", Count::to(50)).await.unwrap().finished().await.unwrap().ended().unwrap();

    let restored = ["copied-while-closed", "vacuumed"].map(|backup| {
        let left = Folder::new();
        fs::copy(folder.file(backup), left.store()).unwrap();
        fs::copy(folder.file("runs.db-wal"), left.file("runs.db-wal")).unwrap();
        (backup, left)
    });
    runs.store().close().await;
    restored.into()
}

#[tokio::test]
async fn a_backup_beside_a_later_log_is_refused_until_the_log_is_moved_away() {
    for (backup, folder) in backups().await {
        if backup == "copied-while-closed" {
            // The log began when this was the whole store: it belongs to it.
            Store::open(folder.store()).await.unwrap().close().await;
            assert_eq!(rows(&folder.store()), [("runs", 3), ("visits", 153)]);
            continue;
        }

        refused(&folder, "is that of another file, or of this one at another time").await;

        fs::remove_file(folder.file("runs.db-wal")).unwrap();
        Store::open(folder.store()).await.unwrap().close().await;
        assert_eq!(rows(&folder.store()), [("runs", 2), ("visits", 102)]);
    }
}

/// Each takeover begins a log of its own, and so does each log that is full while the store is driven.
#[tokio::test]
async fn an_older_copy_beside_the_log_of_a_later_life_is_refused() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    for life in 0..3 {
        let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
        runs.start(format!("r{life}"), Count::to(10)).await.unwrap().finished().await.unwrap().ended().unwrap();
        runs.store().close().await;
        fs::copy(folder.store(), folder.file(&format!("life-{life}"))).unwrap();
    }
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    runs.start("last", Count::to(10)).await.unwrap().finished().await.unwrap().ended().unwrap();

    for life in 0..2 {
        let left = Folder::new();
        fs::copy(folder.file(&format!("life-{life}")), left.store()).unwrap();
        fs::copy(folder.file("runs.db-wal"), left.file("runs.db-wal")).unwrap();
        refused(&left, "of this one at another time").await;
    }
    runs.store().close().await;
}

#[tokio::test]
async fn a_log_that_began_anew_while_the_store_was_driven_tells_older_copies_apart() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let db = Connection::open(folder.store()).unwrap();
    let begin_anew = async |n: u32| {
        db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        let copy = fs::read(folder.store()).unwrap();
        runs.start(format!("a{n}"), Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
        // Longer than the log is not looked at.
        std::thread::sleep(std::time::Duration::from_millis(120));
        runs.start(format!("b{n}"), Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
        copy
    };

    let mut copies = Vec::new();
    for n in 0..3 {
        copies.push(begin_anew(n).await);
    }

    let last = copies.len() - 1;
    for (n, copy) in copies.into_iter().enumerate() {
        let left = Folder::new();
        fs::write(left.store(), copy).unwrap();
        fs::copy(folder.file("runs.db-wal"), left.file("runs.db-wal")).unwrap();
        match Store::open(left.store()).await {
            Ok(store) if n == last => {
                store.close().await;
                assert_eq!(rows(&left.store()), [("runs", 6), ("visits", 12)]);
            }
            Err(OpenError::NotAStore { .. }) if n < last => {}
            other => panic!("copy {n}: {other:?}"),
        }
    }
    drop(db);
    runs.store().close().await;
}

#[tokio::test]
async fn a_store_that_was_killed_is_opened_with_its_log_again_and_again() {
    let mut folder = killed(5).await;
    for life in 0..4 {
        let ledger = Ledger::default();
        let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
        runs.start(format!("life-{life}"), Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap();
        let left = Folder::new();
        for end in ["", "-wal"] {
            fs::copy(folder.file(&format!("runs.db{end}")), left.file(&format!("runs.db{end}"))).unwrap();
        }
        runs.store().close().await;
        assert!(Reader::open(left.store()).is_ok());
        folder = left;
    }
    assert_eq!(rows(&folder.store()), [("runs", 9), ("visits", 36)]);
}
