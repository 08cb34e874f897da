//! Runs as rows: the start of a run, and the place of a child.
//!
//! **Invariant:** each function checks before it writes, so that one which refuses has written nothing.

use std::time::Duration;

use flowstone_core::{
    NodePath, RunId,
    driver::{ItemId, ItemKey, KeyBase},
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    disk::states::Stored,
    records::{
        deleting,
        visits::{VisitRow, insert_row},
    },
    words::{
        columns::{int, now},
        error::{StartError, StoreError, damaged},
        ids::{MAX_ID, bad_length},
        status::Status,
    },
};

/// A run that is to begin.
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    pub(crate) flow: i64,
    pub(crate) flow_name: String,
    /// The former names of its flow, under which runs of the same flow may be stored.
    pub(crate) flow_before: Vec<String>,
    /// The beginning of the keys of its visits; `None` for a child, whose keys begin with its id.
    pub(crate) key: Option<KeyBase>,
    pub(crate) start: NodePath,
    pub(crate) state: Stored,
    pub(crate) parent: Option<Parent>,
    /// The run that it is a fork of, and the step.
    pub(crate) origin: Option<(i64, u64)>,
    /// `true` if it waits for its turn.
    pub(crate) waits: bool,
}

/// The visit and the item that a child's run belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) run: i64,
    pub(crate) seq: u64,
    pub(crate) item: ItemId,
}

/// The outcome of starting a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    pub(crate) run: i64,
    /// `true` if this call began it.
    pub(crate) new: bool,
}

/// Checks the id of a run that is to begin.
pub(crate) fn check_id(id: &RunId) -> Result<(), StartError> {
    bad_length(id).map_or(Ok(()), |length| Err(StartError::BadId { length, most: MAX_ID }))
}

/// Begins a run, unless there is one of the same flow with its id.
pub(crate) fn start(db: &Connection, new: &NewRun) -> Result<Started, StartError> {
    let mut known = db.prepare_cached("SELECT run, name, parent FROM runs JOIN flows USING (flow) WHERE id = ?1")?;
    let known = known
        .query_row([new.id.as_str()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<i64>>(2)?))
        })
        .optional()?;
    let known = match known {
        // The rows that are left of a deleted run must not block the id.
        Some((run, _, Some(_))) if deleting::is_gone(db, run)? => {
            deleting::mark(db, run)?;
            None
        }
        known => known,
    };
    match known {
        Some((_, found, _)) if found != new.flow_name && !new.flow_before.contains(&found) => {
            return Err(StartError::OtherFlow { run: new.id.clone(), found, wanted: new.flow_name.clone() });
        }
        Some((run, _, None)) if new.parent.is_none() => return Ok(Started { run, new: false }),
        // The id of a child is made from that of its parent, so no other run may have it.
        Some(_) => return Err(StartError::Taken { run: new.id.clone() }),
        None => {}
    }
    let at = now();
    let run = insert_run(db, new, Status::Running, at)?;
    let first = VisitRow {
        run,
        seq: 0,
        node: None,
        action: None,
        next: Some(new.start.clone()),
        started_at: at,
        took: Duration::ZERO,
        attempts: 0,
        retries: None,
        items: None,
    };
    if insert_row(db, &first, &new.state)? {
        return Ok(Started { run, new: true });
    }
    // The run's number is new, so it can have no steps yet.
    Err(damaged(format!("there are steps of run #{run}, which is not there")).into())
}

fn insert_run(db: &Connection, new: &NewRun, status: Status, at: i64) -> Result<i64, StoreError> {
    // A fork has no driver's number, since no driver lets it run before it is taken up.
    let mut insert = db.prepare_cached(
        "INSERT INTO runs (id, flow, status, created_at, changed_at, parent, parent_seq, item, origin, origin_seq,
                           key, item_key, queued_at, epoch)
         VALUES (?1, ?2, ?3, max(?4, coalesce((SELECT created_at FROM runs ORDER BY run DESC LIMIT 1), 0)), ?4,
                 ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,
                 iif(?9 IS NULL, (SELECT epoch FROM owner WHERE one = 1), NULL))",
    )?;
    let (parent, origin) = (new.parent, new.origin);
    insert.execute(params![
        new.id.as_str(),
        new.flow,
        status.code(),
        at,
        parent.map(|parent| parent.run),
        parent.map(|parent| int(parent.seq)),
        parent.map(|parent| int(parent.item.index)),
        origin.map(|(run, _)| run),
        origin.map(|(_, seq)| int(seq)),
        new.key.as_ref().map(KeyBase::as_str),
        parent.as_ref().and_then(|parent| parent.item.key.as_ref()).map(ItemKey::as_bytes),
        new.waits.then_some(at),
    ])?;
    Ok(db.last_insert_rowid())
}

/// Returns the child that this process has started for an item of a visit, if there is one.
pub(crate) fn child(db: &Connection, run: i64, seq: u64, item: ItemId) -> Result<Option<i64>, StoreError> {
    let mut select = db.prepare_cached(
        "SELECT run FROM runs
         WHERE parent = ?1 AND parent_seq = ?2 AND item = ?3 AND item_key IS ?4 AND parent IS NOT NULL",
    )?;
    let row = (run, int(seq), int(item.index), item.key.as_ref().map(ItemKey::as_bytes));
    Ok(select.query_row(row, |row| row.get(0)).optional()?)
}

/// Writes down the present place of a child's item.
pub(crate) fn place_child(db: &Connection, child: i64, item: usize) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE runs SET item = ?2 WHERE run = ?1")?.execute((child, int(item)))?;
    Ok(())
}

/// Notes the version of the flow under which a run has gone on, if that is another one.
pub(crate) fn set_flow(db: &Connection, run: i64, flow: Option<i64>) -> Result<(), StoreError> {
    if let Some(flow) = flow {
        db.prepare_cached("UPDATE runs SET flow = ?2 WHERE run = ?1")?.execute((run, flow))?;
    }
    Ok(())
}
