//! What a driver that keeps runs adds to a visit: the [`Journal`], which outlives the process.
//!
//! ```text
//! item of a journaled batch:   recall(i) ─▶ its output, or: exec ─▶ record(i, output)
//! child of a journaled batch:  child(i, execution): the driver makes the visits, and keeps each
//! child of an `exec`:          the same; of a node that is no batch, child 0
//! wait before an attempt:      waited() ─▶ the rest of it, or: wait(…), then sleep
//! ```
//!
//! A run in memory has none, and pays nothing for it. Why a retry waits and a sleep is parked:
//! `docs/decisions/0010-a-retry-waits-a-sleep-is-parked.md`.

use std::time::Duration;

use crate::{
    Action,
    error::{BoxError, RunError},
    execution::Execution,
    visit::BoxFuture,
};

/// Keeps what a visit has done so far, so that a later process need not do it again.
///
/// A driver gives one to the [execution](Execution::set_journal) of a run, and it belongs to the visit that is under
/// way. Items are counted from 0; `None` stands for the node itself.
pub trait Journal: Send + Sync {
    /// Returns what an earlier process recorded for an item of this visit.
    fn recall(&self, item: usize) -> Option<Vec<u8>>;

    /// Keeps the output of an item, as JSON. When the future is ready, it is kept.
    fn record(&self, item: usize, output: Vec<u8>) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Makes the visits of a child's run, from where it was to its end, and keeps each.
    ///
    /// An `exec` that is tried again calls for its child once more, also after that failed, ended, or was dropped under way.
    fn child<'a>(&'a self, item: usize, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Action, RunError>>;

    /// Returns the wait that was kept last for this visit, or for one of its items, also if it is over.
    fn waited(&self, item: Option<usize>) -> Option<Waited>;

    /// Keeps a wait that begins now, before attempt number `attempt`; of a [`Sleep`](crate::Sleep), before attempt 0.
    ///
    /// A journal need not keep a short one.
    fn wait(&self, item: Option<usize>, attempt: u32, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Returns whether the run is put away while its node sleeps for this time, and is visited again when it is over.
    ///
    /// Asked only after the wait was given to [`wait`](Self::wait); who says yes has kept it, or the node would sleep
    /// anew.
    fn parks(&self, wait: Duration) -> bool;
}

/// A wait that was begun before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// The number of the attempt that follows it.
    pub attempt: u32,
    /// What is left of it.
    pub left: Duration,
}
