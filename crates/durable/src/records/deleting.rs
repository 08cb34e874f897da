//! Deleting runs in pieces, so that nobody waits for long, however long a run is.
//!
//! ```text
//! mark: no row in `runs`, one in `deleting` ─▶ piece ─▶ piece … ─▶ no row in `deleting`
//! ```
//!
//! After the first transaction the run no longer exists, and its id is free. If the process ends between two pieces,
//! the next process that drives the store or deletes a run deletes the rest. The reasons are in
//! `docs/decisions/0020-a-run-is-deleted-in-pieces.md`.
//!
//! **Invariant:** a child whose parent no longer exists does not exist either, and nothing drives it.

use rusqlite::{Connection, OptionalExtension};

use crate::words::{columns::int, error::StoreError};

/// The most rows that are deleted in one transaction, which takes a few milliseconds.
const ROWS: usize = 500;

/// The bytes of bodies after which a transaction deletes no more: SQLite reads the pages of a large body to free them.
const BYTES: i64 = 4 << 20;

/// For each table with rows of runs, the SQL that finds some of them with their sizes, and the SQL that deletes one.
const TABLES: [(&str, &str); 5] = [
    (
        "SELECT seq, length(body) FROM visits WHERE run = ?1 ORDER BY seq LIMIT ?2",
        "DELETE FROM visits WHERE run = ?1 AND seq = ?2",
    ),
    (
        "SELECT row, length(output) FROM items WHERE run = ?1 ORDER BY seq, item LIMIT ?2",
        "DELETE FROM items WHERE run = ?1 AND row = ?2",
    ),
    (
        "SELECT seq, length(question) FROM pauses WHERE run = ?1 ORDER BY seq LIMIT ?2",
        "DELETE FROM pauses WHERE run = ?1 AND seq = ?2",
    ),
    ("SELECT seq, 0 FROM usage WHERE run = ?1 ORDER BY seq LIMIT ?2", "DELETE FROM usage WHERE run = ?1 AND seq = ?2"),
    (
        "SELECT seq, 0 FROM under_way WHERE run = ?1 ORDER BY seq LIMIT ?2",
        "DELETE FROM under_way WHERE run = ?1 AND seq = ?2",
    ),
];

/// Marks a run as deleted, in the transaction around it. Its rows are deleted by [`piece`].
pub(crate) fn mark(db: &Connection, run: i64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM inbox WHERE run = ?1")?.execute([run])?;
    db.prepare_cached("DELETE FROM runs WHERE run = ?1")?.execute([run])?;
    db.prepare_cached("INSERT INTO deleting (run) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([run])?;
    Ok(())
}

/// Deletes some rows of deleted runs, in the transaction around it, and returns `true` if there may be more.
pub(crate) fn piece(db: &Connection) -> Result<bool, StoreError> {
    // Children come first: their numbers are larger than those of their parents.
    let mut next = db.prepare_cached("SELECT run FROM deleting ORDER BY run DESC LIMIT 1")?;
    let mut left = Left { rows: ROWS, bytes: BYTES };
    while !left.is_used_up() {
        let Some(run) = next.query_row([], |row| row.get(0)).optional()? else { return Ok(false) };
        if mark_children(db, run, &mut left)? {
            continue;
        }
        for (find, delete) in TABLES {
            delete_some(db, run, (find, delete), &mut left)?;
        }
        if !left.is_used_up() {
            db.prepare_cached("DELETE FROM deleting WHERE run = ?1")?.execute([run])?;
        }
    }
    Ok(true)
}

/// Returns whether a run is a child of one that was deleted.
pub(crate) fn is_gone(db: &Connection, run: i64) -> Result<bool, StoreError> {
    let mut select = db.prepare_cached("SELECT parent FROM runs WHERE run = ?1")?;
    let mut at = run;
    loop {
        match select.query_row([at], |row| row.get::<_, Option<i64>>(0)).optional()? {
            Some(Some(parent)) if parent < at => at = parent,
            // A parent is older: a damaged store must not lead in a circle.
            Some(_) => return Ok(false),
            None => return Ok(true),
        }
    }
}

/// The rows and bytes that one transaction may still delete.
struct Left {
    rows: usize,
    bytes: i64,
}

impl Left {
    fn is_used_up(&self) -> bool {
        self.rows == 0 || self.bytes <= 0
    }

    fn take(&mut self, rows: usize, bytes: i64) {
        self.rows = self.rows.saturating_sub(rows);
        self.bytes -= bytes;
    }
}

/// Marks some children of a run as deleted, and returns `true` if there were any.
fn mark_children(db: &Connection, run: i64, left: &mut Left) -> Result<bool, StoreError> {
    let mut select = db.prepare_cached("SELECT run FROM runs WHERE parent = ?1 AND parent IS NOT NULL LIMIT ?2")?;
    let found = select.query_map((run, int(left.rows.div_ceil(2))), |row| row.get(0))?;
    let children = found.collect::<rusqlite::Result<Vec<i64>>>()?;
    for child in &children {
        mark(db, *child)?;
        left.take(2, 0);
    }
    Ok(!children.is_empty())
}

/// Deletes some rows of a run from a table.
fn delete_some(db: &Connection, run: i64, (find, delete): (&str, &str), left: &mut Left) -> Result<(), StoreError> {
    let mut select = db.prepare_cached(find)?;
    let found = select.query_map((run, int(left.rows)), |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?;
    let found = found.collect::<rusqlite::Result<Vec<(i64, Option<i64>)>>>()?;
    let mut delete = db.prepare_cached(delete)?;
    for (key, bytes) in found {
        if left.is_used_up() {
            break;
        }
        delete.execute((run, key))?;
        left.take(1, bytes.unwrap_or_default());
    }
    Ok(())
}
