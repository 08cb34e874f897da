//! Changes of a run that need only its id and not the type of its state: cancelling, retrying, forking, deleting.
//!
//! **Invariant:** before a run is changed so that it goes on, it is read back with its flow as that is now. If the flow
//! refuses the run, only the reason is noted and nothing is changed (`docs/decisions/0018-load-first-then-change.md`).

use std::sync::Arc;

use flowstone_core::{NodePath, RunId, driver::KeyBase};
use rusqlite::Connection;
use serde_json::Value;

use crate::{
    disk::states::States,
    drive::shared::Shared,
    flows::any_flow::AnyFlow,
    records::{
        deleting,
        ids::id_of,
        reader::Reader,
        retry,
        runs::{self, NewRun, Started},
        state::{decode, state_at},
        status::{self, Change, status},
    },
    words::{
        checked::StorageCheck,
        error::{ChangeError, KeepError, ReadError, StartError, Written, WrongStatus},
        status::{Happened, Status},
        store_options::StoreOptions,
    },
};

/// Lets a run that failed or was cancelled go on, from the node where it stopped.
pub(crate) async fn retry(shared: &Arc<Shared>, run: i64) -> Result<(), ChangeError> {
    let store = Arc::clone(shared);
    let check = move |reader: &Reader| -> Result<(), ChangeError> {
        retry::check_retry(&reader.db, run)?;
        Ok(store.flows.check(reader, run)?)
    };
    shared.unless_refused(run, shared.read(check).await).await?;
    shared.writer.call("retry", move |db| retry::retry(db, run)).await?;
    shared.resume(run);
    Ok(())
}

/// Cancels a run. A run that is driven is stopped where it waits; a parked one is only marked.
pub(crate) async fn cancel(shared: &Arc<Shared>, run: i64) -> Result<(), ChangeError> {
    loop {
        let mut news = shared.wait_for(run);
        if let Some(_reserved) = shared.reserve(run) {
            // This keeps the run from being driven until it is marked.
            if shared.writer.call("cancel", move |db| cancel_stored(db, run)).await? {
                shared.tell_stopped(run).await;
            }
            return Ok(());
        }
        // The drive of the run writes the cancellation down, unless it halts before it sees it. If the run is still
        // driven after that, it is by another drive.
        while let Some(cancel) = shared.cancel(run) {
            if !cancel.is_written() {
                news.changed().await?;
            }
            if cancel.is_written() {
                return Ok(());
            }
        }
    }
}

/// Marks a run as cancelled; returns `true` if it was not cancelled before.
fn cancel_stored(db: &Connection, run: i64) -> Result<bool, ChangeError> {
    match status(db, run)? {
        Status::Cancelled => Ok(false),
        status if status.is_final() => Err(WrongStatus { run: id_of(db, run)?, status, wanted: "cancelled" }.into()),
        _ => status::change(db, run, Happened::Cancelled, &Change::default()).map(|()| true).map_err(ChangeError::from),
    }
}

/// Deletes a run that is not under way, with its history.
pub(crate) async fn delete(shared: &Arc<Shared>, run: i64) -> Result<(), ChangeError> {
    shared.writer.call("delete", move |db| mark_deleted(db, run)).await?;
    shared.tell(run, None);
    Ok(shared.delete_left().await?)
}

/// Deletes the remaining rows of deleted runs, until the store is closed.
pub(crate) async fn delete_left(shared: Arc<Shared>) {
    shared
        .until_closed(async {
            if let Err(error) = shared.delete_left().await {
                tracing::warn!(target: "flowstone", %error, "what deleted runs have left could not be deleted");
            }
        })
        .await;
}

/// The limits that a store's options set for states.
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

/// Makes an edited state the start of another run. If its flow is registered, the state is migrated before the edit,
/// and checked against its type after it.
pub(crate) fn fork(
    reader: &Reader,
    (run, step): (&RunId, u64),
    id: RunId,
    edit: impl FnOnce(&mut Value),
    flow: Option<&dyn AnyFlow>,
    limits: Limits,
) -> Result<NewRun, ChangeError> {
    let Limits { full_every, max_state: most } = limits;
    runs::check_id(&id)?;
    let origin = reader.own_number(run)?;
    let last = reader.last_step(origin)?;
    if step > last {
        return Err(ReadError::UnknownStep { run: run.clone(), step, last }.into());
    }
    let next = reader.steps_of(origin, step, 1)?.into_iter().next().and_then(|step| step.next);
    let next: NodePath = next.ok_or_else(|| ChangeError::AtEnd { run: run.clone(), step })?;
    let stored = state_at(&reader.db, origin, step, full_every)?;
    let migrated = flow.map(|flow| flow.migrated(run, stored.version, stored.chain.state())).transpose()?.flatten();
    let before = migrated.as_deref().unwrap_or(stored.chain.state());
    let json = edited((run, before), (&id, &next), edit)?;
    let (stored_under, stored_name) = reader.flow_version_of(origin)?;
    let start = match flow {
        // The fork belongs to this version of the flow, so its node has the name of this version.
        Some(flow) => flow.begins(&id, stored_under, &next, &json)?,
        None => next,
    };
    let version = flow.map_or(stored.version, AnyFlow::version);
    let mut states = States::starting(full_every, version);
    let size = json.len();
    let too_large = || KeepError::StateTooLarge { run: id.clone(), size, most };
    if size > most {
        return Err(too_large().into());
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

/// Edits a state for a fork. If the edit changes nothing, the stored text is kept to the last digit.
fn edited(
    (run, state): (&RunId, &[u8]),
    (id, node): (&RunId, &NodePath),
    edit: impl FnOnce(&mut Value),
) -> Result<Vec<u8>, ChangeError> {
    let before: Value = decode(run, state)?;
    let mut after = before.clone();
    edit(&mut after);
    if after == before {
        return Ok(state.to_vec());
    }
    let edit = StorageCheck { run: id, node, what: Written::Edit, most: usize::MAX };
    Ok(edit.value(&after)?.to_string().into_bytes())
}

/// Starts a run whose id must be new.
pub(crate) fn begin_new(db: &Connection, new: &NewRun) -> Result<i64, StartError> {
    match runs::start(db, new) {
        Ok(Started { run, new: true }) => Ok(run),
        // The id counts as taken whichever flow has it, under any of its names.
        Ok(Started { .. }) | Err(StartError::OtherFlow { .. }) => Err(StartError::Taken { run: new.id.clone() }),
        Err(error) => Err(error),
    }
}

/// Marks a run that makes no visits as deleted; its rows are then deleted [in pieces](deleting::piece).
pub(crate) fn mark_deleted(db: &Connection, run: i64) -> Result<(), ChangeError> {
    match status(db, run)? {
        Status::Running => {
            Err(WrongStatus { run: id_of(db, run)?, status: Status::Running, wanted: "deleted: cancel it first" }
                .into())
        }
        _ => Ok(deleting::mark(db, run)?),
    }
}
