//! What is done to a run from outside, each in one transaction: retry, fork, delete.

use flowstone_core::{KeyBase, NodePath, RunId};
use rusqlite::Connection;
use serde_json::Value;

use crate::{
    api::run::decode,
    disk::states::States,
    drive::watch::status,
    flows::registered::AnyFlow,
    records::{
        deleting,
        load::state_at,
        reader::Reader,
        rows::{self, Change, MAX_ID, NewRun, Started, count, id_of},
    },
    words::{
        checked::Slip,
        error::{Error, Written},
        options::StoreOptions,
        status::Status,
    },
};

/// Checks the id of a run that is to begin.
pub(crate) fn check_id(id: &RunId) -> Result<(), Error> {
    let length = id.as_str().len();
    if length == 0 || length > MAX_ID { Err(Error::BadId { length, most: MAX_ID }) } else { Ok(()) }
}

/// Checks that a run failed or was cancelled, and returns which.
pub(crate) fn check_retry(db: &Connection, run: i64) -> Result<Status, Error> {
    match status(db, run)? {
        found @ (Status::Failed | Status::Cancelled) => Ok(found),
        found => Err(Error::WrongStatus { run: id_of(db, run)?, status: found, wanted: "retried" }),
    }
}

/// Lets a run that failed or was cancelled go on, from the node where it stopped, with the items that are recorded.
///
/// To cancel it, as was asked for before, is done.
pub(crate) fn retry(db: &Connection, run: i64) -> Result<(), Error> {
    prepare_retry(db, run)?;
    rows::set_status(db, run, Status::Running, &Change::default())
}

/// Lets a run go on as [`retry`] does, where its flow is not at hand.
pub(crate) fn retry_beside(db: &Connection, run: i64) -> Result<(), Error> {
    let was = rows::was(db, run)?.map(|was| (run, was));
    retry(db, run)?;
    rows::set_was(db, was.as_slice())
}

fn prepare_retry(db: &Connection, run: i64) -> Result<(), Error> {
    let found = check_retry(db, run)?;
    db.prepare_cached("DELETE FROM inbox WHERE run = ?1 AND what = 'cancel'")?.execute([run])?;
    if found == Status::Failed {
        rows::forget_waits(db, run)?;
        rows::forget_expired(db, run)?;
    }
    db.prepare_cached("UPDATE runs SET resumes = 0, resumed_seq = NULL WHERE run = ?1")?.execute([run])?;
    rows::set_retried(db, run)
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

/// Makes of a state, edited, the beginning of another run. Where its flow is at hand, the state is of the newest version
/// before it is edited, and fits its type afterwards.
pub(crate) fn fork(
    reader: &Reader,
    (run, step): (&RunId, u64),
    id: RunId,
    edit: impl FnOnce(&mut Value),
    flow: Option<&dyn AnyFlow>,
    limits: Limits,
) -> Result<NewRun, Error> {
    let Limits { full_every, max_state: most } = limits;
    check_id(&id)?;
    let origin = reader.own_number(run)?;
    let last = reader.last_step(origin)?;
    if step > last {
        return Err(Error::UnknownStep { run: run.clone(), step, last });
    }
    let next = reader.steps_of(origin, step, 1)?.into_iter().next().and_then(|step| step.next);
    let next: NodePath = next.ok_or_else(|| Error::AtEnd { run: run.clone(), step })?;
    let stored = state_at(&reader.db, origin, step, full_every)?;
    let migrated = flow.map(|flow| flow.migrated(run, stored.version, stored.chain.state())).transpose()?.flatten();
    let before = migrated.as_deref().unwrap_or(stored.chain.state());
    let json = edited((run, before), (&id, &next), edit)?;
    let (stored_under, stored_name) = reader.flow_version_of(origin)?;
    let start = match flow {
        // The fork belongs to this version: so does the name of its node.
        Some(flow) => flow.begins(&id, stored_under, &next, &json)?,
        None => next,
    };
    let version = flow.map_or(stored.version, AnyFlow::version);
    let mut states = States::starting(full_every, version);
    let size = json.len();
    let too_large = || Error::StateTooLarge { run: id.clone(), size, most };
    if size > most {
        return Err(too_large());
    }
    let state = states.next(0, json).map_err(|_| too_large())?;
    let (number, flow_name) = match flow {
        Some(flow) => (flow.row(), flow.name().to_owned()),
        None => (stored_under, stored_name),
    };
    let key = Some(KeyBase::new(&id));
    Ok(NewRun {
        id,
        flow: number,
        flow_name,
        flow_before: Vec::new(),
        key,
        start,
        state,
        parent: None,
        origin: Some((origin, step)),
        waits: false,
    })
}

/// Edits the state of a run to be that of another; one that is left as it was stays as it was written, to the last digit.
fn edited(
    (run, state): (&RunId, &[u8]),
    (id, node): (&RunId, &NodePath),
    edit: impl FnOnce(&mut Value),
) -> Result<Vec<u8>, Error> {
    let before: Value = decode(run, state)?;
    let mut after = before.clone();
    edit(&mut after);
    if after == before {
        return Ok(state.to_vec());
    }
    let edit = Slip { run: id, node, what: Written::Edit, most: usize::MAX };
    Ok(edit.value(&after)?.to_string().into_bytes())
}

/// Begins a run whose id must be new.
pub(crate) fn begin_new(db: &Connection, new: &NewRun) -> Result<i64, Error> {
    match rows::start(db, new) {
        Ok(Started { run, new: true }) => Ok(run),
        // Whichever flow has it, by whichever of its names.
        Ok(Started { .. }) | Err(Error::OtherFlow { .. }) => Err(Error::Taken { run: new.id.clone() }),
        Err(error) => Err(error),
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
