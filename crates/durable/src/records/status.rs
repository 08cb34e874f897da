//! Reading and changing the status in the row of a run.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::{
    records::ids::{id_of, tree},
    words::{
        columns::{int, now},
        error::{DriveError, ReadError, StatusError, StoreError, WrongStatus, damaged},
        info::RunFailure,
        status::{Happened, Status},
        texts::bounded,
    },
};

/// Returns the status of a run that should exist; it may have been deleted a moment ago.
pub(crate) fn status(db: &Connection, run: i64) -> Result<Status, ReadError> {
    let mut select = db.prepare_cached("SELECT status FROM runs WHERE run = ?1")?;
    match select.query_row([run], |row| row.get(0)).optional()? {
        Some(code) => Ok(Status::of_code(code).ok_or_else(|| damaged(format!("a run with status {code}")))?),
        None => Err(ReadError::UnknownRun { run: id_of(db, run)? }),
    }
}

/// The other columns of a run's row that change with its status.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) wake_at: Option<i64>,
    /// The tick of the store at which it wakes at the latest, or its question expires.
    pub(crate) wake_tick: Option<i64>,
    pub(crate) action: Option<String>,
    pub(crate) error: Option<RunFailure>,
    /// The time at which its status changed, if that was before now.
    pub(crate) changed_at: Option<i64>,
}

/// Changes the status of a run after an event, see [`Status::after`]. Every change of a status is made by this
/// statement. If the run fails or is cancelled, its children that are not at an end are cancelled, too.
///
/// # Errors
///
/// If the event cannot happen in the run's status; nothing is changed then.
pub(crate) fn change(db: &Connection, run: i64, happened: Happened, change: &Change) -> Result<(), StatusError> {
    let before = status(db, run)?;
    let Some(after) = before.after(happened) else {
        return Err(WrongStatus { run: id_of(db, run)?, status: before, wanted: happened.word() }.into());
    };
    let mut update = db.prepare_cached(
        "UPDATE runs SET status = ?3, changed_at = ?4, wake_at = ?5, action = ?6, error = ?7, wake_tick = ?8,
             refused = NULL, was = NULL, queued_at = NULL, epoch = (SELECT epoch FROM owner WHERE one = 1)
         WHERE run = ?1 AND status = ?2",
    )?;
    let error = change.error.as_ref().and_then(|error| serde_json::to_string(error).ok());
    let Change { wake_at, wake_tick, action, changed_at, .. } = change;
    let at = changed_at.unwrap_or_else(now);
    update.execute(params![run, before.code(), after.code(), at, wake_at, action, error, wake_tick])?;
    if matches!(after, Status::Failed | Status::Cancelled) { cancel_under_way(db, run) } else { Ok(()) }
}

/// Cancels the children of a visit that no longer needs them, with their children, unless they are at an end.
pub(crate) fn cancel_children(db: &Connection, run: i64, seq: u64) -> Result<(), StatusError> {
    let mut children = db.prepare_cached(
        "SELECT run FROM runs WHERE parent = ?1 AND parent_seq = ?2 AND status IN (0, 1, 2) AND parent IS NOT NULL",
    )?;
    let rows = children.query_map((run, int(seq)), |row| row.get(0))?;
    for child in rows.collect::<rusqlite::Result<Vec<i64>>>()? {
        change(db, child, Happened::Cancelled, &Change::default())?;
    }
    Ok(())
}

/// Cancels the children of the visit that a run has under way.
fn cancel_under_way(db: &Connection, run: i64) -> Result<(), StatusError> {
    let mut last = db.prepare_cached("SELECT max(seq) FROM visits WHERE run = ?1")?;
    let last: Option<i64> = last.query_row([run], |row| row.get(0))?;
    last.map_or(Ok(()), |last| cancel_children(db, run, u64::try_from(last + 1).unwrap_or_default()))
}

/// Marks a run as failed because its driver panicked; returns the error.
pub(crate) fn mark_panicked(db: &Connection, run: i64, message: String) -> Result<DriveError, StatusError> {
    let error = DriveError::Panicked { run: id_of(db, run)?, message };
    let mut next = db.prepare_cached("SELECT next FROM visits WHERE run = ?1 ORDER BY seq DESC LIMIT 1")?;
    let next: Option<Option<String>> = next.query_row([run], |row| row.get(0)).optional()?;
    let node = next.flatten().unwrap_or_default().into();
    let failure =
        RunFailure { node, message: error.to_string(), attempts: 0, item: None, terminal: false, deaths: None };
    if status(db, run)? == Status::Running {
        change(db, run, Happened::Failed, &Change { error: Some(failure), ..Change::default() })?;
    }
    Ok(error)
}

/// A run as it was before a process that does not have its flow let it go on.
#[derive(Serialize, Deserialize)]
struct Was {
    status: i64,
    changed_at: i64,
    wake_at: Option<i64>,
    wake_tick: Option<i64>,
    /// The failure of the run, as JSON.
    error: Option<String>,
}

/// Returns a run as it is, as JSON, before a process that does not have its flow lets it go on.
pub(crate) fn was(db: &Connection, run: i64) -> Result<Option<String>, StoreError> {
    let mut select =
        db.prepare_cached("SELECT status, changed_at, wake_at, wake_tick, error FROM runs WHERE run = ?1")?;
    let was = select.query_row([run], |row| {
        Ok(Was {
            status: row.get(0)?,
            changed_at: row.get(1)?,
            wake_at: row.get(2)?,
            wake_tick: row.get(3)?,
            error: row.get(4)?,
        })
    });
    Ok(was.optional()?.and_then(|was| serde_json::to_string(&was).ok()))
}

/// Writes down how runs were before they were let go on. Parked runs lose the number of their driver: no driver has let
/// them run yet, so none can have died of them.
pub(crate) fn set_was(db: &Connection, before: &[(i64, String)]) -> Result<(), StoreError> {
    let mut update =
        db.prepare_cached("UPDATE runs SET was = ?2, epoch = iif(?2 ->> 'status' = 0, epoch, NULL) WHERE run = ?1")?;
    before.iter().try_for_each(|(run, was)| update.execute((run, was)).map(drop))?;
    Ok(())
}

/// Notes why a run cannot go on, unless it has ended by now. If another process had let it go on, the run and its
/// children get their former statuses back.
pub(crate) fn refuse(db: &Connection, run: i64, why: &str) -> Result<(), StatusError> {
    for run in tree(db, run)? {
        take_back(db, run)?;
    }
    let mut update =
        db.prepare_cached("UPDATE runs SET refused = ?2 WHERE run = ?1 AND refused IS NOT ?2 AND status <> ?3")?;
    update.execute((run, bounded(why), Status::Ended.code()))?;
    Ok(())
}

/// Gives a run the status back that it had before another process let it go on, if one did.
fn take_back(db: &Connection, run: i64) -> Result<(), StatusError> {
    let mut select = db.prepare_cached("SELECT was FROM runs WHERE run = ?1 AND was IS NOT NULL")?;
    let Some(was) = select.query_row([run], |row| row.get::<_, String>(0)).optional()? else { return Ok(()) };
    let unread = |error: serde_json::Error| StatusError::from(damaged(format!("what run #{run} was: {error}")));
    let Was { status: code, changed_at, wake_at, wake_tick, error } = serde_json::from_str(&was).map_err(unread)?;
    let before = Status::of_code(code).ok_or_else(|| damaged(format!("a run with status {code}")))?;
    if before == Status::Running {
        // It was running before, too, so nothing changes.
        db.prepare_cached("UPDATE runs SET was = NULL WHERE run = ?1")?.execute([run])?;
        return Ok(());
    }
    let error = error.map(|error| serde_json::from_str(&error)).transpose().map_err(unread)?;
    let as_before = Change { wake_at, wake_tick, error, action: None, changed_at: Some(changed_at) };
    change(db, run, Happened::TakenBack(before), &as_before)
}

/// Deletes the notes that say why a run, or one of its children, cannot go on.
pub(crate) fn accept(db: &Connection, run: i64) -> Result<(), StoreError> {
    for run in tree(db, run)? {
        let mut update = db.prepare_cached(
            "UPDATE runs SET refused = NULL, was = NULL WHERE run = ?1 AND (refused IS NOT NULL OR was IS NOT NULL)",
        )?;
        update.execute([run])?;
    }
    Ok(())
}
