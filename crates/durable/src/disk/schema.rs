//! The tables of a store, and the steps that make a store of a file.
//!
//! ```text
//! flows ──< runs ──< visits   one row a visit, append only: what happened, and the state after it
//!                ├─< pauses   questions and their answers
//!                ├─< usage    what calls to paid services took, for each visit that made some
//!                └─< items    what the visit under way has done: outputs of items, waits; gone when it is committed
//! owner    who drives the store: one row with a number that grows
//! inbox    what other processes ask of the driver
//! ```
//!
//! Step 0 of a run is its start. Times are milliseconds since 1970. A row of `runs` is written when the status of a run
//! changes, not at each visit, so that a visit is one insert. Why so: `docs/decisions/0007-one-row-a-visit.md`.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, TransactionBehavior, config::DbConfig};

use crate::{
    disk::{
        access::{APPLICATION, Access, BUSY},
        files::{Files, Held, real},
        pair,
    },
    words::error::{OpenError, StoreError, StoreFault},
};

/// The schema that this version writes.
pub(crate) const SCHEMA: i64 = 3;

/// For each schema, the SQL that makes the next one of it; the first makes an empty file a store.
const UPGRADES: [&str; SCHEMA as usize] =
    [include_str!("schema/1.sql"), include_str!("schema/2.sql"), include_str!("schema/3.sql")];

/// An open store. Invariant: the connection is closed before the mark that it is open is dropped.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) db: Connection,
    pub(crate) files: Files,
    pub(crate) held: Held,
}

/// Opens a store. If the access allows it, an empty file is made a store, and an older one is upgraded.
pub(crate) fn open(path: &Path, vfs: Option<&str>, access: Access) -> Result<Opened, OpenError> {
    match open_once(path, vfs, access) {
        // The file was replaced at this moment; some file systems also give a file another inode when it is first
        // written.
        Err(OpenError::Store { source, .. }) if source.fault() == StoreFault::Moved => open_once(path, vfs, access),
        opened => opened,
    }
}

fn open_once(path: &Path, vfs: Option<&str>, access: Access) -> Result<Opened, OpenError> {
    let failed = |error: rusqlite::Error| unusable(path, error);
    let (mut held, alone) = pair::look(path, vfs, access)?;
    let mut db = connect(path, vfs, access)?;
    if access != Access::Read && db.is_readonly(MAIN_DB).map_err(failed)? {
        return Err(OpenError::Store { path: path.to_owned(), source: StoreError::new(StoreFault::ReadOnly) });
    }
    // The last connection that is closed moves the log into the file. It must not, until the two are known to belong
    // together.
    let keep_log = |db: &Connection, keep| db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep);
    keep_log(&db, alone.has_log).map_err(failed)?;
    db.busy_timeout(BUSY).map_err(failed)?;
    db.set_prepared_statement_cache_capacity(64);
    // Otherwise SQLite plans a statement anew for each value that it is given.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    let schema = check(&db, path)?;
    alone.check(path, &db)?;
    if access == Access::Drive {
        prepare(&mut db, schema).map_err(failed)?;
    } else if schema == 0 || (access == Access::Write && schema < SCHEMA) {
        let what = format!("schema {schema} is upgraded when a program drives the store: start that program once");
        return Err(OpenError::NotAStore { path: path.to_owned(), what });
    }
    db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    // Deleted runs leave no trace in free pages.
    db.pragma_update(None, "secure_delete", "FAST").map_err(failed)?;
    keep_log(&db, false).map_err(failed)?;
    let main = real(path);
    let files = Files::of(&main, access == Access::Drive);
    held.opened(&main).map_err(|source| OpenError::Store { path: path.to_owned(), source })?;
    Ok(Opened { db, files, held })
}

fn connect(path: &Path, vfs: Option<&str>, access: Access) -> Result<Connection, OpenError> {
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags |= match access {
        Access::Drive => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    }
    .map_err(|error| OpenError::File { path: path.to_owned(), source: Arc::new(error) })
}

/// Returns the schema of a file that is a store, or 0 of one that is empty.
fn check(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let read = || Ok::<_, rusqlite::Error>((number("application_id")?, number("user_version")?, tables?));
    let (application, schema, tables) = read().map_err(|error| unusable(path, error))?;
    if application == APPLICATION && schema > SCHEMA {
        return Err(OpenError::Newer { path: path.to_owned(), found: schema, known: SCHEMA });
    }
    if application == APPLICATION && schema > 0 {
        return Ok(schema);
    }
    if application == 0 && schema == 0 && tables == 0 {
        return Ok(0);
    }
    Err(OpenError::NotAStore { path: path.to_owned(), what: "it is a SQLite database of another program".to_owned() })
}

/// Returns `true` if a store has reached a schema: a reader may be at one that nobody has upgraded yet, or upgrades
/// just now.
pub(crate) fn reaches(db: &Connection, schema: i64) -> rusqlite::Result<bool> {
    let mut found = db.prepare_cached("PRAGMA user_version")?;
    found.query_row([], |row| Ok(row.get::<_, i64>(0)? >= schema))
}

/// Upgrades the schema that is there to the newest, in one transaction.
fn prepare(connection: &mut Connection, schema: i64) -> rusqlite::Result<()> {
    if schema == 0 {
        leave_log(connection)?;
        // This has to come before the first table: only then can freed pages be given back one by one.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if schema == SCHEMA { Ok(()) } else { upgrade(connection, schema, &UPGRADES) }
}

/// Removes the log of a store that is not made yet. If the power failed while an earlier process made it, the file may
/// say that it has no log while SQLite still uses the one that is there; and the file would say so for ever.
fn leave_log(connection: &Connection) -> rusqlite::Result<()> {
    let begun = Instant::now();
    loop {
        // SQLite does not wait here for other readers of the file, which are done soon.
        match connection.pragma_update(None, "journal_mode", "DELETE") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && begun.elapsed() < BUSY => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// Takes the steps from a schema to the newest; a schema that is the newest already stays as it is.
fn upgrade(connection: &mut Connection, from: i64, steps: &[&str]) -> rusqlite::Result<()> {
    let upgrade = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in steps.iter().skip(usize::try_from(from).unwrap_or_default()) {
        upgrade.execute_batch(step)?;
    }
    upgrade.pragma_update(None, "application_id", APPLICATION)?;
    upgrade.pragma_update(None, "user_version", crate::words::columns::int(steps.len()))?;
    upgrade.commit()
}

fn unusable(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) {
        return OpenError::NotAStore { path, what: "it is no SQLite database".to_owned() };
    }
    let source = StoreError::from(error);
    match source.fault() {
        StoreFault::Corrupt | StoreFault::Full | StoreFault::ReadOnly | StoreFault::Busy => {}
        _ => return OpenError::File { path, source: Arc::new(source) },
    }
    OpenError::Store { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store of schema 1, as if there were other upgrades of it.
    fn first() -> Connection {
        let mut db = Connection::open_in_memory().unwrap();
        upgrade(&mut db, 0, &UPGRADES[..1]).unwrap();
        db.execute_batch("INSERT INTO flows VALUES (1, 'f', '0', '{}', '', '')").unwrap();
        db
    }

    fn version(db: &Connection) -> i64 {
        db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_store_is_upgraded_step_by_step_and_keeps_its_rows() {
        let mut db = first();

        upgrade(&mut db, 1, &[UPGRADES[0], "ALTER TABLE flows ADD COLUMN note TEXT", "UPDATE flows SET note = name"])
            .unwrap();

        assert_eq!(version(&db), 3);
        assert_eq!(db.query_row("SELECT note FROM flows", [], |row| row.get::<_, String>(0)).unwrap(), "f");
    }

    #[test]
    fn an_upgrade_that_fails_changes_nothing() {
        let mut db = first();

        let failed = upgrade(&mut db, 1, &[UPGRADES[0], "ALTER TABLE flows ADD COLUMN note TEXT", "UPDATE nothing"]);

        assert!(failed.is_err());
        assert_eq!(version(&db), 1);
        assert!(db.prepare("SELECT note FROM flows").is_err());
    }
}
