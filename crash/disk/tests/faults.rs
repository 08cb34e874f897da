//! The failing file system itself, under plain SQLite.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

use flowstone_disk::{Cause, Faults, Operation, Span};

#[test]
fn a_store_that_is_told_nothing_works_and_is_counted() {
    let (faults, folder) = (Faults::register("selftest-works"), TempDir::new().unwrap());

    let db = table(faults, &folder);
    insert(&db).unwrap();

    assert!(faults.take_count() > 4);
    assert_eq!(faults.take_count(), 0);
    assert_eq!(rows(&db), 1);
}

#[test]
fn each_write_and_sync_can_be_made_to_fail_and_nothing_committed_is_lost() {
    let (faults, folder) = (Faults::register("selftest-each"), TempDir::new().unwrap());
    let db = table(faults, &folder);
    faults.take_count();
    insert(&db).unwrap();
    let calls = faults.take_count();
    let mut committed = 1;

    for nth in 0..calls {
        for cause in [Cause::Broken, Cause::Torn, Cause::Full] {
            faults.fail(nth, None, cause, Span::Once);

            let done = insert(&db);

            assert_eq!(faults.failed(), 1, "operation {nth} of {calls}");
            assert!(done.is_err(), "operation {nth}, {cause:?}");
            insert(&db).unwrap();
            committed += 1;
            let found = rows(&db);
            assert!(found >= committed && found <= committed + 1, "{found} rows for {committed}");
            committed = found;
        }
    }
    assert_eq!(db.query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0)).unwrap(), "ok");
}

#[test]
fn a_fault_is_of_the_kind_that_was_asked_for_and_lasts_as_long() {
    let (faults, folder) = (Faults::register("selftest-kinds"), TempDir::new().unwrap());
    let db = table(faults, &folder);

    faults.fail(0, Some(Operation::Write), Cause::Full, Span::UntilHealed);
    assert_eq!(insert(&db).unwrap_err().sqlite_error_code(), Some(ErrorCode::DiskFull));
    assert_eq!(insert(&db).unwrap_err().sqlite_error_code(), Some(ErrorCode::DiskFull));

    faults.fail(0, Some(Operation::Sync), Cause::Broken, Span::Once);
    let failed = insert(&db).unwrap_err();
    assert_eq!(failed.sqlite_error().map(|error| error.extended_code), Some(rusqlite::ffi::SQLITE_IOERR_FSYNC));

    faults.heal();
    insert(&db).unwrap();
}

#[test]
fn files_that_can_be_read_only_are_read_and_not_written() {
    let (faults, folder) = (Faults::register("selftest-read-only"), TempDir::new().unwrap());
    let db = table(faults, &folder);
    insert(&db).unwrap();

    faults.make_read_only();
    assert!(insert(&db).is_err());
    assert_eq!(rows(&db), 1);
    let second = open(faults, &folder).unwrap();
    assert_eq!(insert(&second).unwrap_err().sqlite_error_code(), Some(ErrorCode::ReadOnly));

    faults.heal();
    insert(&db).unwrap();
    assert_eq!(rows(&second), 2);
}

fn open(faults: Faults, folder: &TempDir) -> rusqlite::Result<Connection> {
    Connection::open_with_flags_and_vfs(folder.path().join("test.db"), OpenFlags::default(), faults.name())
}

fn table(faults: Faults, folder: &TempDir) -> Connection {
    let db = open(faults, folder).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE rows (text TEXT)").unwrap();
    db
}

fn insert(db: &Connection) -> rusqlite::Result<usize> {
    db.execute("INSERT INTO rows VALUES (?1)", ["x".repeat(10_000)])
}

fn rows(db: &Connection) -> u32 {
    db.query_row("SELECT count(*) FROM rows", (), |row| row.get(0)).unwrap()
}
