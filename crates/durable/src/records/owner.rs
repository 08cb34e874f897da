//! The row of whoever drives the store: for how long it was driven.

use rusqlite::Connection;

use crate::words::error::StoreError;

/// Returns for how long the store has been driven, as far as that was noted.
pub(crate) fn ticks(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.prepare_cached("SELECT ticks FROM owner WHERE one = 1")?.query_row([], |row| row.get(0))?)
}

/// Notes for how long the store has been driven.
pub(crate) fn set_ticks(db: &Connection, ticks: i64) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE owner SET ticks = max(ticks, ?1) WHERE one = 1")?.execute([ticks])?;
    Ok(())
}
