//! Rows of a visit under way: what its items have done, and what is known of it as a whole.

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

/// The deed of an item, or of the node itself, to be kept.
pub(crate) struct NewItem {
    pub(crate) number: i64,
    pub(crate) key: Option<ItemKey>,
    pub(crate) did: Did,
}

/// Something that an item did: it gave its output, or began to wait before an attempt.
pub(crate) enum Did {
    Give { output: Vec<u8>, version: u32 },
    Wait { attempt: u32, wake_at: i64, length: Duration },
}

/// Keeps what an item of a visit under way has done, if the step before is there: with `Behind` its commit may have
/// failed.
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
    /// When its time is over, and how much of it is left.
    pub(crate) ends: Option<(i64, Duration)>,
    /// Keys of items that an older version kept without.
    pub(crate) adopted: Vec<(i64, ItemKey)>,
}

/// Keeps what is known of a visit under way as a whole. Its time, once it has begun, ends no later than before.
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

/// Forgets what the visit had done before it was committed.
pub(crate) fn forget_items(db: &Connection, run: i64, seq: u64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM items WHERE run = ?1 AND seq = ?2")?.execute((run, int(seq)))?;
    db.prepare_cached("DELETE FROM under_way WHERE run = ?1 AND seq = ?2")?.execute((run, int(seq)))?;
    Ok(())
}

/// Forgets the waits of a visit that failed, and how much of its time is left, so that it begins with its first attempt
/// again; what items gave stays.
pub(crate) fn forget_waits(db: &Connection, run: i64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM items WHERE run = ?1 AND output IS NULL")?.execute([run])?;
    db.prepare_cached("UPDATE under_way SET ends_at = NULL, left_ms = NULL WHERE run = ?1")?.execute([run])?;
    Ok(())
}

/// Notes that a visit is tried again: what its items gave and cannot be read runs again then.
pub(crate) fn set_retried(db: &Connection, run: i64) -> Result<(), StoreError> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO under_way (run, seq, retried)
         SELECT run, seq, 1 FROM items WHERE run = ?1
         ON CONFLICT (run, seq) DO UPDATE SET retried = 1",
    )?;
    upsert.execute([run])?;
    Ok(())
}

/// Ends the wait of a node whose run wakes, by whichever clock.
pub(crate) fn end_sleep(db: &Connection, run: i64) -> Result<(), StoreError> {
    let mut update =
        db.prepare_cached("UPDATE items SET wait_ms = 0 WHERE run = ?1 AND item = ?2 AND output IS NULL")?;
    update.execute((run, NODE))?;
    Ok(())
}
