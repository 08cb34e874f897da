//! Committed visits: one row each, append only.

use std::time::Duration;

use flowstone_core::{Action, NodePath};
use rusqlite::{Connection, params};

use crate::{
    disk::{snapshot::Kind, states::Stored},
    records::ids::id_of,
    words::{
        columns::int,
        error::{DriveError, StoreError},
        info::Items,
    },
};

/// A committed visit, or the start of a run.
pub(crate) struct VisitRow {
    pub(crate) run: i64,
    pub(crate) seq: u64,
    pub(crate) node: Option<NodePath>,
    pub(crate) action: Option<Action>,
    pub(crate) next: Option<NodePath>,
    pub(crate) started_at: i64,
    pub(crate) took: Duration,
    pub(crate) attempts: u64,
    /// The failed attempts, as JSON.
    pub(crate) retries: Option<String>,
    pub(crate) items: Option<Items>,
}

/// Writes a visit.
///
/// If two writers drive one run, only one of them can write a step.
pub(crate) fn insert_visit(db: &Connection, visit: &VisitRow, state: &Stored) -> Result<(), DriveError> {
    if insert_row(db, visit, state)? { Ok(()) } else { Err(conflict(db, visit)?) }
}

/// Writes the row of a visit; returns `false` if there is one.
pub(crate) fn insert_row(db: &Connection, visit: &VisitRow, state: &Stored) -> Result<bool, StoreError> {
    let mut insert = db.prepare_cached(
        "INSERT INTO visits (run, seq, node, action, next, started_at, took_us, attempts, retries, recorded, recalled,
                             version, size, kind, base, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ON CONFLICT DO NOTHING",
    )?;
    let inserted = insert.execute(params![
        visit.run,
        int(visit.seq),
        visit.node.as_ref().map(NodePath::as_str),
        visit.action.as_ref().map(Action::as_str),
        visit.next.as_ref().map(NodePath::as_str),
        visit.started_at,
        int(visit.took.as_micros()),
        int(visit.attempts),
        visit.retries,
        visit.items.map(|items| int(items.recorded)),
        visit.items.map(|items| int(items.recalled)),
        (state.snapshot.kind == Kind::Full).then_some(state.version),
        int(state.size),
        state.snapshot.kind.code(),
        state.base.map(int),
        Some(&state.snapshot.body).filter(|body| !body.is_empty()),
    ])?;
    Ok(inserted > 0)
}

/// Fails if the step before a visit is missing: its commit may have failed when this one was already on its way.
pub(crate) fn check_step_before(db: &Connection, visit: &VisitRow) -> Result<(), DriveError> {
    let mut look = db.prepare_cached("SELECT 1 FROM visits WHERE run = ?1 AND seq = ?2 - 1")?;
    if look.exists((visit.run, int(visit.seq)))? { Ok(()) } else { Err(conflict(db, visit)?) }
}

fn conflict(db: &Connection, visit: &VisitRow) -> Result<DriveError, StoreError> {
    Ok(DriveError::Conflict { run: id_of(db, visit.run)?, step: visit.seq })
}
