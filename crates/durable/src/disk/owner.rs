//! Taking a store over: the row of the process that drives it, with a number that grows.

use rusqlite::{Connection, OptionalExtension};

use crate::{
    disk::{pair, space::cut_log},
    words::{
        columns::now,
        error::{StoreError, StoreFault},
    },
};

/// Writes down that this process drives the store. Returns the number of this driver, and `true` if the last one died.
pub(crate) fn take_over(connection: &Connection) -> Result<(i64, bool), StoreError> {
    let before = connection.query_row("SELECT epoch > 0 AND clean = 0 FROM owner WHERE one = 1", [], |row| row.get(0));
    let died = before.optional()?.unwrap_or_default();
    // A log that is continued has its marker already.
    let is_new = cut_log(connection).unwrap_or(false);
    let row = (i64::from(std::process::id()), now(), is_new, pair::new_marker());
    // This uses `execute` and not `RETURNING`, since only `execute` says if the commit succeeded.
    connection.execute(
        "UPDATE owner SET epoch = epoch + 1, pid = ?1, since = ?2, clean = 0,
             log_before = iif(?3, log, log_before), log = iif(?3, ?4, log) WHERE one = 1",
        row,
    )?;
    let gone = || StoreError::because(StoreFault::Corrupt, "the table `owner` has no row");
    Ok((epoch(connection)?.ok_or_else(gone)?, died))
}

/// Returns the number of the current driver of the store.
pub(crate) fn epoch(connection: &Connection) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT epoch FROM owner WHERE one = 1")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?)
}
