//! Questions as rows: asked, answered, given back, expired.

use flowstone_core::NodePath;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    records::status::{Change, change},
    words::{
        columns::{int, now},
        error::{StatusError, StoreError},
        status::Happened,
        texts::bounded,
        waits::Expiry,
    },
};

/// A question to write down.
pub(crate) struct NewPause {
    pub(crate) run: i64,
    pub(crate) seq: u64,
    pub(crate) node: NodePath,
    pub(crate) question: String,
    pub(crate) schema: String,
    /// The version of the flow that asks.
    pub(crate) version: u32,
    /// The time at which it expires, if it does.
    pub(crate) expires: Option<Expiry>,
}

/// Parks a run with its question.
pub(crate) fn pause(db: &Connection, pause: &NewPause) -> Result<(), StatusError> {
    let mut insert = db.prepare_cached(
        "INSERT INTO pauses (run, seq, node, question, schema, asked_at, expires_at, expires_tick, version)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (run, seq) DO UPDATE SET node = ?3, question = ?4, schema = ?5, asked_at = ?6, expires_at = ?7,
             expires_tick = ?8, version = ?9, expired_at = NULL, answer = NULL, answered_at = NULL, refused = NULL",
    )?;
    let NewPause { run, seq, node, question, schema, version, expires } = pause;
    let (wake_at, wake_tick) = expires.as_ref().map(|Expiry { at, tick }| (*at, *tick)).unzip();
    insert.execute(params![run, int(*seq), node.as_str(), question, schema, now(), wake_at, wake_tick, version])?;
    change(db, *run, Happened::Asked, &Change { wake_at, wake_tick, ..Change::default() })
}

/// A migrated question, to be written down with the answer to it.
pub(crate) struct AskedNow {
    pub(crate) question: String,
    pub(crate) schema: String,
    pub(crate) version: u32,
}

/// Takes an answer out that turned out not to fit, so that the question is open again.
pub(crate) fn refuse_answer(db: &Connection, run: i64, seq: u64, why: &str) -> Result<(), StatusError> {
    let mut update = db.prepare_cached(
        "UPDATE pauses SET answer = NULL, answered_at = NULL, refused = ?3 WHERE run = ?1 AND seq = ?2",
    )?;
    update.execute(params![run, int(seq), bounded(why)])?;
    let mut expires = db.prepare_cached("SELECT expires_at, expires_tick FROM pauses WHERE run = ?1 AND seq = ?2")?;
    let expires = expires.query_row((run, int(seq)), |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (wake_at, wake_tick) = expires.unwrap_or_default();
    change(db, run, Happened::AnswerRefused, &Change { wake_at, wake_tick, ..Change::default() })
}

/// Deletes an expired question of a node that failed because of it, so that it is asked again.
pub(crate) fn forget_expired(db: &Connection, run: i64) -> Result<(), StoreError> {
    let mut delete = db.prepare_cached(
        "DELETE FROM pauses WHERE run = ?1 AND seq = (SELECT max(seq) + 1 FROM visits WHERE run = ?1)
             AND expired_at IS NOT NULL",
    )?;
    delete.execute([run])?;
    Ok(())
}
