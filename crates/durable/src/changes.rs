//! What is done to a run from outside, each in one transaction: retry, fork, delete.

use flowstone_core::{KeyBase, NodePath, RunId};
use rusqlite::Connection;
use serde_json::Value;

use crate::{
    checked::Slip,
    deleting,
    error::{Error, Written},
    load::state_at,
    options::StoreOptions,
    reader::Reader,
    rows::{self, Change, MAX_ID, NewRun, Started, count, id_of},
    states::States,
    status::Status,
    watch::status,
};

/// Checks the id of a run that is to begin.
pub(crate) fn check_id(id: &RunId) -> Result<(), Error> {
    let length = id.as_str().len();
    if length == 0 || length > MAX_ID { Err(Error::BadId { length, most: MAX_ID }) } else { Ok(()) }
}

/// Lets a run that failed or was cancelled go on, from the node where it stopped, with the items that are recorded.
///
/// To cancel it, as was asked for before, is done.
pub(crate) fn retry(db: &Connection, run: i64) -> Result<(), Error> {
    let found = status(db, run)?;
    if !matches!(found, Status::Failed | Status::Cancelled) {
        return Err(Error::WrongStatus { run: id_of(db, run)?, status: found, wanted: "retried" });
    }
    db.prepare_cached("DELETE FROM inbox WHERE run = ?1 AND what = 'cancel'")?.execute([run])?;
    if found == Status::Failed {
        rows::forget_waits(db, run)?;
        rows::forget_expired(db, run)?;
    }
    rows::set_retried(db, run)?;
    rows::set_status(db, run, Status::Running, &Change::default())
}

/// What a store's options say of the states of runs.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    full_every: u32,
    max_state: usize,
}

impl Limits {
    pub(crate) fn of(options: &StoreOptions) -> Self {
        Self { full_every: options.full_every, max_state: options.max_state }
    }
}

/// Makes of a state, edited, the beginning of another run.
pub(crate) fn fork(
    reader: &Reader,
    (run, step): (&RunId, u64),
    id: RunId,
    edit: impl FnOnce(&mut Value),
    limits: Limits,
) -> Result<NewRun, Error> {
    let Limits { full_every, max_state: most } = limits;
    check_id(&id)?;
    let origin = reader.own_number(run)?;
    let mut state = reader.state(run.clone(), Some(step))?;
    let next = reader.steps_of(origin, step, 1)?.into_iter().next().and_then(|step| step.next);
    let next: NodePath = next.ok_or_else(|| Error::AtEnd { run: run.clone(), step })?;
    let (stored, before) = (state_at(&reader.db, origin, step, full_every)?, state.clone());
    edit(&mut state);
    // What was not edited stays as it was written, to the last digit.
    let json = if state == before {
        stored.chain.state().to_vec()
    } else {
        let edit = Slip { run: &id, node: &next, what: Written::Edit, most: usize::MAX };
        edit.value(&state)?.to_string().into_bytes()
    };
    let mut states = States::starting(full_every, stored.version);
    let size = json.len();
    let too_large = || Error::StateTooLarge { run: id.clone(), size, most };
    if size > most {
        return Err(too_large());
    }
    let state = states.next(0, json).map_err(|_| too_large())?;
    let (flow, flow_name) = reader.flow_version_of(origin)?;
    let key = Some(KeyBase::new(&id));
    Ok(NewRun { id, flow, flow_name, key, start: next, state, parent: None, origin: Some((origin, step)) })
}

/// Begins a run whose id must be new.
pub(crate) fn begin_new(db: &Connection, new: &NewRun) -> Result<i64, Error> {
    match rows::start(db, new)? {
        Started { run, new: true } => Ok(run),
        Started { .. } => Err(Error::Taken { run: new.id.clone() }),
    }
}

/// Marks a run as deleted that makes no visits; what it has is then deleted [in pieces](deleting::piece).
pub(crate) fn delete(db: &Connection, run: i64) -> Result<(), Error> {
    match status(db, run)? {
        Status::Running => Err(Error::WrongStatus {
            run: id_of(db, run)?,
            status: Status::Running,
            wanted: "deleted: cancel it first",
        }),
        _ => deleting::mark(db, run),
    }
}

/// Asks the process that drives the store for something.
pub(crate) fn ask_driver(db: &Connection, run: i64, what: &str) -> Result<(), Error> {
    let mut insert = db.prepare_cached("INSERT INTO inbox (run, what, sent_at) VALUES (?1, ?2, ?3)")?;
    insert.execute((run, what, rows::now()))?;
    Ok(())
}

/// Returns how many bytes the pages of a store take.
pub(crate) fn size(db: &Connection) -> Result<u64, Error> {
    let pragma = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| count(row, name));
    Ok(pragma("page_count")?.saturating_mul(pragma("page_size")?))
}
