//! What a driver that keeps runs adds to a visit: the [`Journal`], which outlives the process.
//!
//! ```text
//! journaled batch:             begin_batch(n) ─▶ recall(i), of each item, before any runs
//! item that was not recalled:  exec ─▶ record(i, output)
//! child of a journaled batch:  forked(i, execution): the driver makes the visits, and keeps each; woken() ─▶ once more
//! child of an `exec`:          child(i, execution): the same, to its end; of a node that is no batch, child 0
//! wait before an attempt:      waited() ─▶ rest(), or: wait(…) ─▶ rest()
//! ```
//!
//! A run in memory has none, and pays nothing for it. Why a retry waits and a sleep is parked:
//! `docs/decisions/0010-a-retry-waits-a-sleep-is-parked.md`. How items are told apart:
//! `docs/decisions/0015-an-item-is-known-by-its-hash.md`.

use std::time::{Duration, SystemTime};

use crate::{
    Action,
    visit::{attempt::BoxFuture, running::Execution},
    words::{
        codec::Undecodable,
        error::{BoxError, RunError},
        item_key::ItemId,
    },
};

/// Keeps what a visit has done so far, so that a later process need not do it again.
///
/// A driver gives one to the [execution](Execution::set_journal) of a run, and it belongs to the visit that is under
/// way. For an item, `None` stands for the node itself.
pub trait Journal: Send + Sync {
    /// Begins a journaled batch of so many items, or goes on with one. `keyed` is `false` for items that nothing tells
    /// apart but their places.
    ///
    /// # Errors
    ///
    /// If an earlier process began it, and items could be taken for others: the visit then does nothing.
    fn begin_batch(&self, items: usize, keyed: bool) -> Result<(), BoxError>;

    /// Returns what an earlier process recorded for an item of this visit. Asked of each before any of them runs.
    fn recall(&self, item: ItemId) -> Option<Vec<u8>>;

    /// Takes what was recalled back, since it does not decode: the item runs again.
    ///
    /// # Errors
    ///
    /// If it is not to run again: the visit then does nothing.
    fn undecodable(&self, item: ItemId, error: Undecodable) -> Result<(), BoxError>;

    /// Keeps the output of an item, as JSON. When the future is ready, it is kept.
    fn record(&self, item: ItemId, output: Vec<u8>) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Makes the visits of a child's run, from where it was to its end, and keeps each.
    ///
    /// An `exec` that is tried again calls for its child once more, also after that failed, ended, or was dropped under way.
    fn child<'a>(&'a self, item: ItemId, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Action, RunError>>;

    /// Makes the visits of a child's run that a journaled batch flow forked, as [`child`](Self::child) does, until it ends or
    /// waits: for an answer, or for a time for which it is put away.
    ///
    /// A child that was put away is called for again when it can go on. A journal that puts no children away drives them to
    /// their ends.
    fn forked<'a>(&'a self, item: ItemId, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Forked, RunError>> {
        Box::pin(async move { self.child(item, child).await.map(Forked::Ended) })
    }

    /// Returns how a child that was [forked](Self::forked) before stands, as far as that is known without a look at its
    /// state.
    fn standing(&self, item: ItemId) -> Standing {
        let _ = item;
        Standing::Open
    }

    /// Waits until a child that is put away can go on, while others run, and returns the place of its item. It may be one that was called
    /// for since.
    ///
    /// # Cancel safety
    ///
    /// When dropped, nothing is lost: the next call returns it.
    fn woken(&self) -> BoxFuture<'_, usize> {
        Box::pin(std::future::pending())
    }

    /// Returns the wait that was kept last for this visit, or for one of its items, also if it is over.
    fn waited(&self, item: Option<ItemId>) -> Option<Waited>;

    /// Keeps a wait that begins now, before attempt number `attempt`; of a [`Sleep`](crate::Sleep), before attempt 0.
    ///
    /// A journal need not keep a short one.
    fn wait(&self, item: Option<ItemId>, attempt: u32, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Waits for the rest of the wait that was kept last, or, if none was, for `left`.
    ///
    /// It never waits for longer than `left`. A journal that measures by a clock that may be set looks at it now and then.
    fn rest(&self, item: Option<ItemId>, left: Duration) -> BoxFuture<'_, ()> {
        let _ = item;
        Box::pin(tokio::time::sleep(left))
    }

    /// Returns whether the run is put away while its node sleeps for this time, and is visited again when it is over.
    ///
    /// Asked only after the wait was given to [`wait`](Self::wait); who says yes has kept it, or the node would sleep
    /// anew.
    fn parks(&self, wait: Duration) -> bool;

    /// Returns how much of the time of this visit is left, which may take `limit` in all, also if an earlier process began
    /// it. It is asked once, when the visit begins.
    fn time_left(&self, limit: Duration) -> Duration {
        limit
    }

    /// Keeps how much of the time of this visit is left, before a wait that is not kept itself.
    fn keep_time_left(&self, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>> {
        let _ = wait;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns the time of day, by the clock that the driver goes by.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// How far a driver got with a child, see [`Journal::forked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forked {
    /// The child is at its end, with this action.
    Ended(Action),
    /// It is put away, until an answer comes or a time.
    Parked,
}

/// How a child stands when the visit of its parent begins, or is made again, see [`Journal::standing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is new, or can go on.
    Open,
    /// It waits for an answer, or for a time.
    Parked {
        /// How many visits it has completed.
        visits: u64,
    },
    /// It is at its end.
    Ended {
        /// How many visits it has made.
        visits: u64,
    },
    /// It has failed. If failures of children are collected, it is tried again when no other waits any more.
    Failed {
        /// How many visits it has made.
        visits: u64,
    },
}

/// A wait that was begun before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// The number of the attempt that follows it.
    pub attempt: u32,
    /// What is left of it.
    pub left: Duration,
}
