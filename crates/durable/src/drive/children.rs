//! Child runs: those that a journaled batch flow runs for its items, and those that an `exec` runs.
//!
//! A child is a run of its own in the store, with its own history, and knows the visit and the item that it belongs to.
//! It is driven inside the visit of its parent, by the same loop, and never by itself.
//!
//! An `exec` that is tried again calls its child again. The child then goes on after its last commit.
//!
//! After a restart a child is found by the key of its item, at any place in the batch. A child whose item no longer
//! exists is cancelled when the visit is committed.
//!
//! **Invariant:** an item of a visit has at most one child.

use std::sync::{Arc, atomic::Ordering};

use flowstone_core::{
    Action, RunError,
    driver::{Execution, Forked, ItemId, ItemKey},
};

use crate::{
    disk::states::States,
    drive::{
        journal::{CalledChild, RunJournal},
        run_driver::{Halted, RunDriver},
        storage::unstorable,
        surroundings::Surroundings,
    },
    records::{
        load::{Asked, KnownChild, Loaded, load},
        retry,
        runs::{self, NewRun, Parent},
        state::state_at,
        status,
    },
    words::{
        error::{DriveError, StoreError, damaged},
        guard::lock,
        status::Status,
    },
};

/// The version of the states of children, which have no versions of their own: `migrate` is for the state of a run.
const CHILD_VERSION: u32 = 0;

/// Drives a child of an `exec` to its end, from its last commit.
pub(crate) async fn drive(journal: &RunJournal, item: ItemId, child: &mut dyn Execution) -> Result<Action, RunError> {
    match halt(journal, item, child, false).await? {
        Halted::Ended(exit) => Ok(exit),
        Halted::Stopped(error) => Err(error),
        Halted::Parked | Halted::Again => {
            Err(failed(journal, item)(damaged("a child of an `exec` was put away").into()))
        }
    }
}

/// Drives a child of a batch flow from its last commit until it ends or is parked.
pub(crate) async fn fork(journal: &RunJournal, item: ItemId, child: &mut dyn Execution) -> Result<Forked, RunError> {
    loop {
        match halt(journal, item, child, true).await? {
            Halted::Ended(exit) => return Ok(Forked::Ended(exit)),
            Halted::Parked => return Ok(Forked::Parked),
            Halted::Again => {}
            Halted::Stopped(error) => return Err(error),
        }
    }
}

/// Returns a function that turns an error of the store into one of the parent's visit.
fn failed(journal: &RunJournal, item: ItemId) -> impl Fn(DriveError) -> RunError {
    let (root, node) = (journal.root.clone(), journal.node());
    move |error| RunError::journal(root.clone(), node.clone(), Some(item.index), error)
}

/// Drives a child from its last commit until it halts. With `parks` it may be parked.
async fn halt(journal: &RunJournal, item: ItemId, child: &mut dyn Execution, parks: bool) -> Result<Halted, RunError> {
    let (node, index, failed) = (journal.node(), item.index, failed(journal, item));
    let mut call = ChildCall::begin(journal, item, child, parks).map_err(&failed)?;
    let around = Surroundings {
        root: journal.root.clone(),
        flow: Arc::clone(&journal.flow),
        observer: Arc::clone(&journal.observer),
        prefix: format!("{node}[{index}]/"),
        parks,
        version: CHILD_VERSION,
    };
    let mut answered = None;
    let known = call.known(child).await.map_err(&failed)?;
    journal.place_children().await.map_err(&failed)?;
    let mut driver = match known {
        Some(run) => {
            if parks {
                journal.forked_as(run, index);
            }
            let mut loaded = recall(journal, run, child).await.map_err(&failed)?;
            if matches!(loaded.status, Status::Paused | Status::Sleeping) {
                call.halted = true;
                return Ok(Halted::Parked);
            }
            if let Some(ended) = restore(&loaded, child).map_err(&failed)? {
                journal.count_child(index, true);
                call.halted = true;
                return Ok(Halted::Ended(ended));
            }
            if loaded.standing.refused {
                // The note of the child's former status is deleted, also if its parent is refused later.
                let accept = move |db: &_| status::accept(db, run);
                journal.storage.writer.call("begin", accept).await.map_err(|error: StoreError| failed(error.into()))?;
            }
            answered = loaded.asked.take().filter(Asked::is_over);
            if let (Some(asked), Some(next)) = (&mut answered, &loaded.next) {
                let path = format!("{node}[{index}]/{next}").into();
                asked.migrate(&*journal.flow, &journal.root, &path).map_err(|error| failed(error.into()))?;
            }
            RunDriver::resuming(&journal.storage, loaded, CHILD_VERSION, around)
        }
        None => begin(journal, item, child, around).await.map_err(&failed)?,
    };
    if parks {
        journal.forked_as(driver.number(), index);
    }
    let halted = driver.drive(child, answered).await.map_err(&failed)?;
    call.halted = true;
    if let Halted::Ended(_) = &halted {
        journal.count_child(index, false);
    }
    Ok(halted)
}

/// A call for the child of an item; it ends when dropped.
struct ChildCall<'a> {
    journal: &'a RunJournal,
    item: ItemId,
    /// `true` if this process has called the child before, in this visit.
    again: bool,
    /// `true` if it may be parked; a later call then passes a state that is not used.
    parks: bool,
    /// `true` once the halt of the child is written down.
    halted: bool,
}

impl<'a> ChildCall<'a> {
    fn begin(journal: &'a RunJournal, item: ItemId, child: &dyn Execution, parks: bool) -> Result<Self, DriveError> {
        let mut called = lock(&journal.called);
        let again = match called.get_mut(&item.index) {
            Some(known) if known.under_way || known.flow != child.flow() || known.item != item => {
                return Err(second(journal, item));
            }
            Some(known) => {
                known.under_way = true;
                true
            }
            None => {
                let flow = child.flow().to_owned();
                called.insert(item.index, CalledChild { flow, item, run: None, under_way: true, counted: false });
                false
            }
        };
        Ok(Self { journal, item, again, parks, halted: false })
    }

    /// Returns the child's number, if it was begun before.
    async fn known(&self, child: &dyn Execution) -> Result<Option<i64>, DriveError> {
        let (journal, item) = (self.journal, self.item);
        if !self.again {
            let known = self.known_before(child).await?;
            if let Some(called) = lock(&journal.called).get_mut(&item.index) {
                called.run = known;
            }
            return Ok(known);
        }
        let known = lock(&journal.called).get(&item.index).and_then(|called| called.run);
        // An earlier call that was dropped may have left a job in the writer's queue; this job is done after it.
        let (parent, seq) = (journal.run, journal.seq());
        let find = move |db: &_| if known.is_some() { Ok(known) } else { runs::child(db, parent, seq, item) };
        let Some(run) = journal.storage.writer.call("child", find).await? else { return Ok(None) };
        if self.parks || first_state(journal, run).await? == key_of(child)? {
            return Ok(Some(run));
        }
        Err(second(journal, item))
    }

    /// Takes the child that an earlier process began for this item.
    async fn known_before(&self, child: &dyn Execution) -> Result<Option<i64>, DriveError> {
        let (journal, item) = (self.journal, self.item);
        let mut older: Vec<KnownChild> = {
            let mut children = lock(&journal.children);
            if let Some(at) = children.iter().position(|known| known.is_of(item)) {
                return Ok(Some(children.swap_remove(at).run));
            }
            children.iter().filter(|known| known.item.key.is_none() && item.key.is_some()).copied().collect()
        };
        // Children of an older version have no keys; they are recognized by their first states.
        let wanted = if older.is_empty() { return Ok(None) } else { key_of(child)? };
        older.sort_by_key(|known| known.item.index != item.index);
        for known in older {
            if first_state(journal, known.run).await? == wanted {
                let mut children = lock(&journal.children);
                // A sibling may have taken it in the meantime.
                if let Some(at) = children.iter().position(|other| other.run == known.run) {
                    journal.found(&known, item);
                    return Ok(Some(children.swap_remove(at).run));
                }
            }
        }
        Ok(None)
    }
}

/// Returns the check that tells the first state of a stored child from others.
async fn first_state(journal: &RunJournal, run: i64) -> Result<ItemKey, DriveError> {
    let full_every = journal.storage.options.full_every;
    let first = journal.storage.read(move |reader| state_at(&reader.db, run, 0, full_every)).await?;
    Ok(ItemKey::of_json(first.chain.state(), 0))
}

/// Returns the same check for the state of a child that has made no visit yet.
fn key_of(child: &dyn Execution) -> Result<ItemKey, DriveError> {
    let state = child.save().map_err(|source| unstorable(child, source))?;
    Ok(ItemKey::of_json(&state, 0))
}

impl Drop for ChildCall<'_> {
    fn drop(&mut self) {
        if let Some(called) = lock(&self.journal.called).get_mut(&self.item.index) {
            called.under_way = false;
        }
        if !self.halted {
            self.journal.left.store(true, Ordering::Relaxed);
        }
    }
}

fn second(journal: &RunJournal, item: ItemId) -> DriveError {
    DriveError::SecondChild { run: journal.root.clone(), node: journal.node(), item: item.index }
}

/// Writes down a new child.
async fn begin(
    journal: &RunJournal,
    item: ItemId,
    child: &dyn Execution,
    around: Surroundings,
) -> Result<RunDriver, DriveError> {
    let mut states = States::starting(journal.storage.options.full_every, CHILD_VERSION);
    let new = NewRun {
        id: child.id(),
        flow: journal.flow.row(),
        flow_name: journal.flow.name().to_owned(),
        flow_before: Vec::new(),
        key: None,
        start: child.node().clone(),
        state: journal.storage.store_surely(child, &mut states, 0)?,
        parent: Some(Parent { run: journal.run, seq: journal.seq(), item }),
        origin: None,
        waits: false,
    };
    let started = journal.storage.writer.call("child", move |db| runs::start(db, &new)).await?;
    Ok(RunDriver::starting(&journal.storage, started.run, states, around))
}

/// Reads a child that was started before, and lets it go on if it has failed.
async fn recall(journal: &RunJournal, run: i64, child: &mut dyn Execution) -> Result<Loaded, DriveError> {
    let full_every = journal.storage.options.full_every;
    let read = || journal.storage.read(move |reader| load(&reader.db, run, full_every));
    let gone = || damaged(format!("the child #{run} is gone"));
    let loaded = read().await?.ok_or_else(gone)?;
    if !matches!(loaded.status, Status::Failed | Status::Cancelled) {
        return Ok(loaded);
    }
    // A child that its flow cannot take stays as it is.
    restore(&loaded, child)?;
    journal.storage.writer.call("child", move |db| retry::retry(db, run)).await?;
    // It is read again, since the retry has also deleted its waits.
    Ok(read().await?.ok_or_else(gone)?)
}

/// Places a child at its last commit; returns its last action if it is at its end.
fn restore(loaded: &Loaded, child: &mut dyn Execution) -> Result<Option<Action>, DriveError> {
    // A child at its end has no next node; only its state is needed.
    let node = loaded.next.clone().unwrap_or_else(|| child.node().clone());
    let restored = child.restore(&node, loaded.seq, loaded.chain.state());
    restored.map_err(|source| DriveError::Restore {
        run: loaded.id.clone(),
        step: loaded.seq,
        source: source.into(),
    })?;
    Ok(if loaded.status == Status::Ended { loaded.action.clone().map(Action::from) } else { None })
}
