//! Lookups by the number of a run: its id, for errors, and the numbers of its children.

use flowstone_core::RunId;
use rusqlite::{Connection, OptionalExtension};

use crate::words::error::{ReadError, StoreError, damaged};

/// Returns the id of a run, for an error.
pub(crate) fn id_of(db: &Connection, run: i64) -> Result<RunId, StoreError> {
    let id = db.query_row("SELECT id FROM runs WHERE run = ?1", [run], |row| row.get::<_, String>(0)).optional()?;
    Ok(id.map_or_else(|| format!("#{run}").into(), RunId::from))
}

/// Returns the error of a run that lacks a row which every run has: it was deleted a moment ago, or the store is
/// damaged.
pub(crate) fn gone(db: &Connection, run: i64, what: &str) -> ReadError {
    let look = || db.prepare_cached("SELECT 1 FROM runs WHERE run = ?1")?.exists([run]);
    match look() {
        Ok(true) => damaged(format!("run #{run} lacks a {what}")).into(),
        Ok(false) => ReadError::UnknownRun { run: format!("#{run}").into() },
        Err(error) => error.into(),
    }
}

/// Returns the numbers of a run, of its children, and of all below them.
pub(crate) fn tree(db: &Connection, run: i64) -> Result<Vec<i64>, StoreError> {
    // This is not `UNION ALL`, so that the query also ends if parents lead in a circle, as in a damaged store.
    let mut select = db.prepare_cached(
        "WITH RECURSIVE tree (run) AS (
             VALUES (?1)
             UNION
             SELECT runs.run FROM tree JOIN runs ON runs.parent = tree.run AND runs.parent IS NOT NULL
         )
         SELECT run FROM tree",
    )?;
    Ok(select.query_map([run], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}
