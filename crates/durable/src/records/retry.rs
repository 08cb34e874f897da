//! Retrying a run that failed or was cancelled: it goes on from the node where it stopped.

use rusqlite::Connection;

use crate::{
    records::{
        ids::id_of,
        items, pauses,
        status::{self, Change, status},
    },
    words::{
        error::{StatusError, WrongStatus},
        status::{Happened, Status},
    },
};

/// Checks that a run failed or was cancelled, and returns which.
pub(crate) fn check_retry(db: &Connection, run: i64) -> Result<Status, StatusError> {
    match status(db, run)? {
        found @ (Status::Failed | Status::Cancelled) => Ok(found),
        found => Err(WrongStatus { run: id_of(db, run)?, status: found, wanted: "retried" }.into()),
    }
}

/// Lets a run that failed or was cancelled go on, from the node where it stopped, with the items that are recorded.
///
/// A request to cancel it that was made before counts as done.
pub(crate) fn retry(db: &Connection, run: i64) -> Result<(), StatusError> {
    prepare_retry(db, run)?;
    status::change(db, run, Happened::Retried, &Change::default())
}

/// Lets a run go on as [`retry`] does, where its flow is not at hand.
pub(crate) fn retry_beside(db: &Connection, run: i64) -> Result<(), StatusError> {
    let was = status::was(db, run)?.map(|was| (run, was));
    retry(db, run)?;
    Ok(status::set_was(db, was.as_slice())?)
}

fn prepare_retry(db: &Connection, run: i64) -> Result<(), StatusError> {
    let found = check_retry(db, run)?;
    db.prepare_cached("DELETE FROM inbox WHERE run = ?1 AND what = 'cancel'")?.execute([run])?;
    if found == Status::Failed {
        items::forget_waits(db, run)?;
        pauses::forget_expired(db, run)?;
    }
    db.prepare_cached("UPDATE runs SET resumes = 0, resumed_seq = NULL WHERE run = ?1")?.execute([run])?;
    Ok(items::set_retried(db, run)?)
}
