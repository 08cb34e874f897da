//! The runs of children: what a journaled batch flow runs for each of its items.
//!
//! A child is a run of its own in the store, with a history of its own, that knows the visit and the item that it belongs
//! to. It is driven inside the visit of its parent, by the same loop, and never by itself.

use std::sync::Arc;

use flowstone_core::{Action, Execution, RunError};

use crate::{
    changes,
    error::Error,
    journal::RunJournal,
    keeper::{Halted, Keeper, Watched},
    load::{Loaded, damaged, load},
    observer::lock,
    rows::{self, NewRun, Parent},
    states::States,
    status::Status,
};

/// States of children have no version of their own: `migrate` is for the state of a run.
const CHILD_VERSION: u32 = 0;

/// Drives a child to its end, from where it was.
pub(crate) async fn drive(journal: &RunJournal, item: usize, child: &mut dyn Execution) -> Result<Action, RunError> {
    let node = journal.node();
    let failed = |error: Error| RunError::journal(journal.root.clone(), node.clone(), Some(item), error);
    let watched = Watched {
        root: journal.root.clone(),
        flow: Arc::clone(&journal.flow),
        observer: Arc::clone(&journal.observer),
        prefix: format!("{node}[{item}]/"),
        parks: false,
    };
    let known = lock(&journal.children).remove(&item);
    let mut keeper = match known {
        Some(run) => {
            let loaded = recall(journal, run).await.map_err(&failed)?;
            if let Some(ended) = restore(&loaded, child).map_err(&failed)? {
                journal.count(true);
                return Ok(ended);
            }
            Keeper::resuming(&journal.shared, loaded, CHILD_VERSION, watched)
        }
        None => begin(journal, item, child, watched).await.map_err(&failed)?,
    };
    match keeper.drive(child, None).await.map_err(&failed)? {
        Halted::Ended(exit) => {
            journal.count(false);
            Ok(exit)
        }
        Halted::Stopped(error) => Err(error),
        Halted::Parked => Err(failed(damaged("a child of a batch flow was put away"))),
    }
}

/// Writes a new child down.
async fn begin(journal: &RunJournal, item: usize, child: &dyn Execution, watched: Watched) -> Result<Keeper, Error> {
    let mut states = States::starting(journal.shared.options.full_every, CHILD_VERSION);
    let new = NewRun {
        id: child.id(),
        flow: journal.flow.row(),
        flow_name: journal.flow.name().to_owned(),
        start: child.node().clone(),
        state: journal.shared.store(child, &mut states, 0)?,
        parent: Some(Parent { run: journal.run, seq: journal.seq(), item }),
        origin: None,
    };
    let started = journal.shared.writer.call("child", move |db| rows::start(db, &new)).await?;
    Ok(Keeper::starting(&journal.shared, started.run, states, watched))
}

/// Reads a child that an earlier process had begun; one that failed goes on.
async fn recall(journal: &RunJournal, run: i64) -> Result<Loaded, Error> {
    let full_every = journal.shared.options.full_every;
    let loaded = journal.shared.read(move |reader| load(&reader.db, run, full_every)).await?;
    let loaded = loaded.ok_or_else(|| damaged(format!("the child #{run} is gone")))?;
    if matches!(loaded.status, Status::Failed | Status::Cancelled) {
        journal.shared.writer.call("child", move |db| changes::retry(db, run)).await?;
    }
    Ok(loaded)
}

/// Places a child where it was; returns its last action if it was at its end.
fn restore(loaded: &Loaded, child: &mut dyn Execution) -> Result<Option<Action>, Error> {
    // At its end there is no next node; its state is what counts.
    let node = loaded.next.clone().unwrap_or_else(|| child.node().clone());
    let restored = child.restore(&node, loaded.seq, loaded.chain.state());
    restored.map_err(|source| Error::Restore { run: loaded.id.clone(), step: loaded.seq, source: source.into() })?;
    Ok(if loaded.status == Status::Ended { loaded.action.clone().map(Action::from) } else { None })
}
