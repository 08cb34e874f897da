//! Rows of a visit under way: one for each item that has done something, and one for the visit as a whole.

use std::time::Duration;

use flowstone_core::driver::ItemKey;
use rusqlite::{Connection, params};

use crate::{
    records::ids::id_of,
    words::{
        columns::{int, length_ms},
        error::{DriveError, StoreError},
    },
};

/// The number of the node itself in the column `item`.
pub(crate) const NODE: i64 = -1;

/// An output or a wait to be kept, of an item or of the node itself.
pub(crate) struct NewItem {
    pub(crate) number: i64,
    pub(crate) key: Option<ItemKey>,
    pub(crate) did: Did,
}

/// The content of such a row: an output, or the wait before an attempt.
pub(crate) enum Did {
    Give { output: Vec<u8>, version: u32 },
    Wait { attempt: u32, wake_at: i64, length: Duration },
}

/// Keeps the output or wait of an item of a visit under way, if the step before is in the store: with `Behind` its
/// commit may have failed.
pub(crate) fn keep_item(db: &Connection, run: i64, seq: u64, item: &NewItem) -> Result<(), DriveError> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO items (run, seq, item, output, attempt, wake_at, item_key, wait_ms, version)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
         WHERE EXISTS (SELECT 1 FROM visits WHERE run = ?1 AND seq = ?2 - 1)
         ON CONFLICT (run, seq, item)
         DO UPDATE SET output = ?4, attempt = ?5, wake_at = ?6, item_key = ?7, wait_ms = ?8, version = ?9",
    )?;
    let (output, version, attempt, wake_at, length) = match &item.did {
        Did::Give { output, version } => (Some(output), Some(*version), None, None, None),
        Did::Wait { attempt, wake_at, length } => {
            (None, None, Some(*attempt), Some(*wake_at), Some(length_ms(*length)))
        }
    };
    let key = item.key.as_ref().map(ItemKey::as_bytes);
    match upsert.execute(params![run, int(seq), item.number, output, attempt, wake_at, key, length, version])? {
        0 => Err(DriveError::Conflict { run: id_of(db, run)?, step: seq }),
        _ => Ok(()),
    }
}

/// A visit under way as a whole.
pub(crate) struct VisitUnderWay {
    /// The number of items of its batch.
    pub(crate) items: Option<u64>,
    /// The time at which its `total_timeout` is over, and the part of it that is left.
    pub(crate) ends: Option<(i64, Duration)>,
    /// Keys of items that an older version kept without keys.
    pub(crate) adopted: Vec<(i64, ItemKey)>,
}

/// Keeps the row of a visit under way. Its time, once it has begun, never ends later than the row says already.
pub(crate) fn keep_visit(db: &Connection, run: i64, seq: u64, visit: &VisitUnderWay) -> Result<(), StoreError> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO under_way (run, seq, items, ends_at, left_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (run, seq) DO UPDATE SET items = coalesce(?3, items), ends_at = coalesce(ends_at, ?4),
             left_ms = min(coalesce(left_ms, ?5), coalesce(?5, left_ms))",
    )?;
    let (ends_at, left) = (visit.ends.map(|(at, _)| at), visit.ends.map(|(_, left)| length_ms(left)));
    upsert.execute(params![run, int(seq), visit.items.map(int), ends_at, left])?;
    let mut adopt = db.prepare_cached("UPDATE items SET item_key = ?4 WHERE run = ?1 AND seq = ?2 AND item = ?3")?;
    visit
        .adopted
        .iter()
        .try_for_each(|(number, key)| adopt.execute((run, int(seq), number, key.as_bytes())).map(drop))?;
    Ok(())
}

/// Deletes the rows of a visit, once it is committed.
pub(crate) fn forget_items(db: &Connection, run: i64, seq: u64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM items WHERE run = ?1 AND seq = ?2")?.execute((run, int(seq)))?;
    db.prepare_cached("DELETE FROM under_way WHERE run = ?1 AND seq = ?2")?.execute((run, int(seq)))?;
    Ok(())
}

/// Deletes the waits of a visit that failed, and the end of its time, so that it starts again with its first attempt.
/// The outputs of items stay.
pub(crate) fn forget_waits(db: &Connection, run: i64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM items WHERE run = ?1 AND output IS NULL")?.execute([run])?;
    db.prepare_cached("UPDATE under_way SET ends_at = NULL, left_ms = NULL WHERE run = ?1")?.execute([run])?;
    Ok(())
}

/// Notes that a visit is tried again: items whose outputs cannot be read then run again.
pub(crate) fn set_retried(db: &Connection, run: i64) -> Result<(), StoreError> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO under_way (run, seq, retried)
         SELECT run, seq, 1 FROM items WHERE run = ?1
         ON CONFLICT (run, seq) DO UPDATE SET retried = 1",
    )?;
    upsert.execute([run])?;
    Ok(())
}

/// Ends the wait of a node whose run wakes, by either of the two clocks.
pub(crate) fn end_sleep(db: &Connection, run: i64) -> Result<(), StoreError> {
    let mut update =
        db.prepare_cached("UPDATE items SET wait_ms = 0 WHERE run = ?1 AND item = ?2 AND output IS NULL")?;
    update.execute((run, NODE))?;
    Ok(())
}
