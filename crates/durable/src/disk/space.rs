//! The size of a store, and giving its free pages back to the system.

use std::time::Duration;

use rusqlite::Connection;

use crate::{
    disk::access::BUSY,
    words::{columns::count, error::StoreError},
};

/// Returns how many bytes the pages of a store take.
pub(crate) fn size(db: &Connection) -> Result<u64, StoreError> {
    let pragma = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| count(row, name));
    Ok(pragma("page_count")?.saturating_mul(pragma("page_size")?))
}

/// Gives some of the free pages back to the system, and returns whether there are more.
pub(crate) fn give_some_back(db: &Connection) -> Result<bool, StoreError> {
    let free = || db.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0));
    let before = free()?;
    let mut vacuum = db.prepare_cached("PRAGMA incremental_vacuum(1000)")?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    let left = free()?;
    // If no page could be moved, the rest is given back the next time.
    Ok(left > 0 && left < before)
}

/// Writes the log into the file and truncates the log. Returns `false` if a reader was in the way; the next call does
/// it then.
pub(crate) fn cut_log(db: &Connection) -> Result<bool, StoreError> {
    db.busy_timeout(Duration::ZERO)?;
    let is_held = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    db.busy_timeout(BUSY)?;
    match is_held {
        Ok(is_held) => Ok(!is_held),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
