//! The row of the process that drives the store: the time for which the store was driven.

use rusqlite::Connection;

use crate::words::error::StoreError;

/// Returns the time for which the store has been driven, up to the last note of it.
pub(crate) fn ticks(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.prepare_cached("SELECT ticks FROM owner WHERE one = 1")?.query_row([], |row| row.get(0))?)
}

/// Writes down the time for which the store has been driven.
pub(crate) fn set_ticks(db: &Connection, ticks: i64) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE owner SET ticks = max(ticks, ?1) WHERE one = 1")?.execute([ticks])?;
    Ok(())
}
