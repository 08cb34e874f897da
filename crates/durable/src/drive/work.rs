//! Work that a drive has started outside its own future. It cannot be interrupted, and holds the store's lock until it
//! ends.
//!
//! ```text
//! drive ─▶ Working ─▶ Work ◀─ each blocking job, each spawned item of the run and its children
//!                      └▶ Lock
//! ```
//!
//! A drive that is dropped releases its [`Work`], and waits until nobody else holds it: only then may the run be driven
//! again. The reason why the work itself holds the lock is in `docs/decisions/0021-what-is-left-holds-the-lock.md`.

use std::{
    any::Any,
    convert::Infallible,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use flowstone_core::{NodePath, RunId};
use tokio::sync::oneshot;

use crate::{disk::lock::Lock, words::info::Left};

/// A handle that all work of a drive holds until it ends.
pub(crate) struct Work {
    lock: Arc<Lock>,
    /// The number of its note in the lock; 0 if there is none.
    note: AtomicU64,
    /// Dropped last, so that the lock is free when a waiter learns of the end.
    _ended: oneshot::Sender<Infallible>,
}

impl Drop for Work {
    fn drop(&mut self) {
        match *self.note.get_mut() {
            0 => {}
            note => self.lock.forget(note),
        }
    }
}

/// The drive's own side of its work.
#[derive(Default)]
pub(crate) struct Working {
    /// The work, until the drive releases it.
    held: Option<Arc<Work>>,
    work: Weak<Work>,
    ended: Option<oneshot::Receiver<Infallible>>,
    /// The run, and the node that it visits.
    at: Option<(RunId, NodePath)>,
}

impl std::fmt::Debug for Working {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Working").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Working {
    /// Creates the work of a new drive; it is empty once the store is closed.
    pub(crate) fn new(lock: Option<Arc<Lock>>) -> Self {
        let Some(lock) = lock else { return Self::default() };
        let (ends, ended) = oneshot::channel();
        let held = Arc::new(Work { lock, note: AtomicU64::new(0), _ended: ends });
        Self { work: Arc::downgrade(&held), held: Some(held), ended: Some(ended), at: None }
    }

    /// Returns the handle that all work of the drive has to hold.
    pub(crate) fn held(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.held.clone().map(|held| held as _)
    }

    /// Turns to the visit of a node.
    pub(crate) fn visit(&mut self, run: RunId, node: NodePath) {
        self.at = Some((run, node));
    }

    /// Releases the work, and returns a receiver that learns when the rest of it has ended.
    pub(crate) fn let_go(&mut self) -> Option<oneshot::Receiver<Infallible>> {
        self.held = None;
        self.ended.take()
    }

    /// Returns the work that is under way, if there is any, and notes it in the lock file for the next process that
    /// opens the store.
    pub(crate) fn left(&self) -> Option<Left> {
        let (work, (run, node)) = (self.work.upgrade()?, self.at.clone()?);
        let left = Left { run, node };
        // Two calls at once would leave a note that nobody removes, so callers hold the lock around it.
        if work.note.load(Ordering::Relaxed) == 0 {
            work.note.store(work.lock.note(left.clone()), Ordering::Relaxed);
        }
        Some(left)
    }
}
