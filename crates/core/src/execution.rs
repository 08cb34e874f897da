//! A run as a driver that keeps runs sees it ([`Execution`]), and the part that the driver adds to a visit
//! ([`Journal`]), which outlives the process.
//!
//! ```text
//! journaled batch:             begin_batch(n) ─▶ recall(i), of each item, before any runs
//! item that was not recalled:  exec ─▶ record(i, output)
//! child of a journaled batch:  forked(i, execution): the driver makes the visits, and keeps each; woken() ─▶ once more
//! child of an `exec`:          child(i, execution): the same, to its end; of a node that is no batch, child 0
//! wait before an attempt:      waited() ─▶ rest(), or: wait(…) ─▶ rest()
//! ```
//!
//! A run in memory has no journal, and pays nothing for it. The reasons:
//! `docs/decisions/0010-a-retry-waits-a-sleep-is-parked.md` and `docs/decisions/0015-an-item-is-known-by-its-hash.md`.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    outcome::Visit,
    words::{
        action::Action,
        codec::{Undecodable, fault::Unstorable},
        error::{BoxError, RunError},
        event::EventKind,
        item_key::ItemId,
        path::{NodePath, RunId},
        pause::Pause,
    },
};

/// A future whose type is not named.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A flow, a state and a place in the flow, without the state's type: a run that a driver drives visit by visit.
///
/// Made by [`AsyncFlow::execution`](crate::AsyncFlow::execution), and by the engine for each child of a journaled batch
/// flow or of an `exec`.
pub trait Execution: Send + Sync {
    /// Returns the id of the run; of a child, the [key](crate::Context::idempotency_key) of its item.
    fn id(&self) -> RunId;

    /// Returns the name of the flow.
    fn flow(&self) -> &str;

    /// Returns the path of the node that is visited next, as the flow that is executed names it.
    fn node(&self) -> &NodePath;

    /// Returns the number of visits that the run has begun: before a visit, that visit's number.
    fn visits(&self) -> u64;

    /// Makes the span of the run, as `tracing` and OpenTelemetry know it. A driver makes the visits of the run in it,
    /// and [records](RunError::record_in) there the error that stops the run. A child has none: its visits are in the
    /// span of its parent.
    fn span(&self) -> tracing::Span;

    /// Sends an event of the run as a whole to its listeners. The driver knows when the run begins, and how it comes to
    /// a halt. After a [terminal](crate::Event::is_terminal) event nothing more is heard.
    ///
    /// A listener that panics stops the run before its next visit.
    fn announce(&self, node: Option<NodePath>, kind: EventKind);

    /// Sets the journal of the visits to come, in place of the one before.
    fn set_journal(&mut self, journal: Arc<dyn Journal>);

    /// Visits the next node, and moves on if it leads to another. When the future is ready, nothing that the visit
    /// started still runs.
    ///
    /// A visit that did not end (an error, [`Visit::Sleep`], [`Visit::Parked`]) leaves the run before that visit: when
    /// it is made again, it has the same number.
    ///
    /// # Errors
    ///
    /// Those of [`AsyncFlow::visit`](crate::AsyncFlow::visit), and an error if the run's token is cancelled, or its
    /// time is over, while it waits.
    ///
    /// # Cancel safety
    ///
    /// A dropped visit leaves in the state what `post` wrote until then: restore the run before another visit.
    fn visit(&mut self) -> BoxFuture<'_, Result<Visit, RunError>>;

    /// Makes the pause of the next node again, from the question and the schema that were kept. The node is not asked
    /// again.
    fn pause(&mut self, question: Value, schema: Value) -> Pause;

    /// Goes on with a visit that ended in a pause.
    ///
    /// # Errors
    ///
    /// [`RunError::Answer`] if the answer does not fit, which leaves the state as it was; and those of
    /// [`visit`](Self::visit).
    fn answer(&mut self, pause: Pause, answer: Value) -> Result<Visit, RunError>;

    /// Goes on with a visit that ended in a pause, without an answer: its question has [expired](crate::Ask::expired).
    ///
    /// # Errors
    ///
    /// Those of [`visit`](Self::visit).
    fn expire(&mut self, pause: Pause) -> Result<Visit, RunError>;

    /// Returns the state as JSON.
    ///
    /// # Errors
    ///
    /// If JSON does not hold it: [`restore`](Self::restore) would refuse it, or take it for something else. Only a type
    /// whose own `Serialize` and `Deserialize` do not agree is not noticed.
    fn save(&self) -> Result<Vec<u8>, Unstorable>;

    /// Returns the state as JSON, after reading it back: for the first state of a run, and for one that is kept for
    /// long.
    ///
    /// # Errors
    ///
    /// If [`restore`](Self::restore) would refuse it.
    fn save_surely(&self) -> Result<Vec<u8>, Unstorable>;

    /// Places the run before its visit number `visits`, at a node, with a state.
    ///
    /// A run that paused or sleeps is placed before the visit in which it did so.
    ///
    /// # Errors
    ///
    /// If the flow has no such node, or the state cannot be decoded; the run is then as it was.
    fn restore(&mut self, node: &NodePath, visits: u64, state: &[u8]) -> Result<(), RestoreError>;
}

/// Keeps what a visit has done so far, so that a later process need not do it again.
///
/// A driver gives one to the [execution](Execution::set_journal) of a run. It belongs to the visit that is under way.
/// Where an item is optional, `None` stands for the node itself.
pub trait Journal: Send + Sync {
    /// Begins a journaled batch of this many items, or goes on with one. `keyed` is `false` for items that only their
    /// places tell apart.
    ///
    /// # Errors
    ///
    /// If an earlier process began it, and items could be taken for others: the visit then does nothing.
    fn begin_batch(&self, items: usize, keyed: bool) -> Result<(), BoxError>;

    /// Returns the output that an earlier process recorded for an item of this visit. Called for each item before any
    /// of them runs.
    fn recall(&self, item: ItemId) -> Option<Vec<u8>>;

    /// Says that a recalled output does not decode. The item runs again.
    ///
    /// # Errors
    ///
    /// If the item must not run again. The visit then does nothing.
    fn undecodable(&self, item: ItemId, error: Undecodable) -> Result<(), BoxError>;

    /// Keeps the output of an item, as JSON. When the future is ready, it is kept.
    fn record(&self, item: ItemId, output: Vec<u8>) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Makes the visits of a child's run, from where it was to its end, and keeps each.
    ///
    /// An `exec` that is tried again calls for its child once more, even if the child failed, ended, or was dropped
    /// under way.
    fn child<'a>(&'a self, item: ItemId, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Action, RunError>>;

    /// Makes the visits of a child's run that a journaled batch flow forked, as [`child`](Self::child) does, until the
    /// child ends or is put away: until an answer comes, or a time.
    ///
    /// A child that was put away is called for again when it can go on. A journal that puts no children away drives
    /// them to their ends.
    fn forked<'a>(&'a self, item: ItemId, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Forked, RunError>> {
        Box::pin(async move { self.child(item, child).await.map(Forked::Ended) })
    }

    /// Returns the state of a child that was [forked](Self::forked) before, as far as it is known without decoding the
    /// child.
    fn standing(&self, item: ItemId) -> Standing {
        let _ = item;
        Standing::Open
    }

    /// Waits until a child that was put away can go on, while others run, and returns the place of its item. It may be
    /// a child that was called for again meanwhile.
    ///
    /// # Cancel safety
    ///
    /// When dropped, nothing is lost: the next call returns it.
    fn woken(&self) -> BoxFuture<'_, usize> {
        Box::pin(std::future::pending())
    }

    /// Returns the wait that was kept last for this visit, or for one of its items, even if it is over.
    fn waited(&self, item: Option<ItemId>) -> Option<Waited>;

    /// Keeps a wait that begins now, before attempt number `attempt`. The wait of a [`Sleep`](crate::Sleep) is before
    /// attempt 0.
    ///
    /// A journal need not keep a short one.
    fn wait(&self, item: Option<ItemId>, attempt: u32, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Waits for the rest of the wait that was kept last, or, if none was, for `left`.
    ///
    /// It never waits for longer than `left`. A journal that measures by a clock that may be set looks at it now and
    /// then.
    fn rest(&self, item: Option<ItemId>, left: Duration) -> BoxFuture<'_, ()> {
        let _ = item;
        Box::pin(tokio::time::sleep(left))
    }

    /// Returns `true` if the run is put away while its node sleeps for this time. The node is visited again when the
    /// time is over.
    ///
    /// Called after the wait was given to [`wait`](Self::wait). A journal that returns `true` has kept that wait;
    /// otherwise the node would sleep for the whole time again.
    fn parks(&self, wait: Duration) -> bool;

    /// Returns how much time is left of this visit, which may take `limit` in all, even if an earlier process began the
    /// visit. Called once, when the visit begins.
    fn time_left(&self, limit: Duration) -> Duration {
        limit
    }

    /// Keeps how much time is left of this visit, before a wait that is not kept itself.
    fn keep_time_left(&self, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>> {
        let _ = wait;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns the time of day, by the driver's clock.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A child as its driver leaves it, see [`Journal::forked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forked {
    /// The child is at its end, with this action.
    Ended(Action),
    /// The child is put away until an answer comes, or a time.
    Parked,
}

/// The state of a child when the visit of its parent begins, or is made again; see [`Journal::standing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is new, or can go on.
    Open,
    /// It waits for an answer, or for a time.
    Parked {
        /// The number of visits that it has completed.
        visits: u64,
    },
    /// It is at its end.
    Ended {
        /// The number of visits that it has made.
        visits: u64,
    },
    /// It has failed. If failures of children are collected, it is tried again when no other child waits any more.
    Failed {
        /// The number of visits that it has made.
        visits: u64,
    },
}

/// A wait that was begun before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// The number of the attempt that follows it.
    pub attempt: u32,
    /// The time that is left of it.
    pub left: Duration,
}

/// An error of a run that cannot go on where it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The flow has no node with this path any more.
    #[error("flow `{flow}` has no node `{node}`; it has {nodes:?}")]
    #[non_exhaustive]
    NoSuchNode {
        /// The flow.
        flow: String,
        /// The node that was to be visited next.
        node: NodePath,
        /// The nodes that the flow has.
        nodes: Vec<NodePath>,
    },
    /// The state does not fit the state type any more.
    #[error("the state of flow `{flow}` does not decode at `{path}`")]
    #[non_exhaustive]
    State {
        /// The flow.
        flow: String,
        /// The place in the JSON, as `items[3].name`.
        path: String,
        /// The part that does not fit there.
        source: serde_json::Error,
    },
}
