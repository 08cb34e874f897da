//! The view that a visit has of its run: [`Context`].
//!
//! Everything that a driver adds to a visit goes through here; `visit` itself knows no driver. A plain run in memory
//! has no extras, and pays nothing for what they could hold.

use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    context::{
        key::{compose, safe},
        scope::{LISTENER, Scope},
    },
    execution::Journal,
    graph::Graph,
    words::{
        error::{NodeError, Phase, Result},
        event::EventKind,
        item_key::ItemId,
        path::{NodePath, Position, RunId},
        usage::{Budget, Usage},
    },
};

mod engine;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod scope;
pub(crate) mod started;
mod stop;
mod tell;

/// The run as `exec` knows it: where it is, which attempt this is, and whether to stop.
///
/// The engine makes it; a unit test that calls `exec` by hand makes one with [`Context::detached`].
///
/// # Example
///
/// ```
/// use flowstone_core::Context;
///
/// let cx = Context::detached().with_attempt(2).with_item(7);
/// assert_eq!((cx.attempt(), cx.item()), (2, Some(7)));
/// assert!(!cx.cancelled());
/// ```
#[derive(Clone)]
pub struct Context {
    /// `None` for a detached context.
    graph: Option<Arc<Graph>>,
    /// The run that this belongs to. A detached context has one of its own, with the number 0.
    scope: Arc<Scope>,
    /// The parts that most visits do not have; behind one pointer, since every run and every item carries a context.
    more: Option<Arc<More>>,
    /// The number of visits that this run, or child's run, has begun.
    visits: u64,
    node: Position,
    pub(crate) attempt: u32,
    /// The phase that the visit is in. Code that catches a panic of the visit reads it.
    pub(crate) phase: Phase,
    /// `usize::MAX` outside batches, which no batch is long enough to reach.
    item: usize,
    listening: bool,
    traced: bool,
}

/// The parts of a context that most visits do not have.
#[derive(Clone, Default)]
struct More {
    /// Inside a batch flow: the visit and the item that this child's run belongs to.
    parent: Option<Context>,
    /// Set when a blocking attempt is no longer wanted.
    abandoned: Option<Arc<AtomicBool>>,
    /// The id by which the journal knows the item, if it keeps it.
    item: Option<ItemId>,
    /// When the time of the visit is over, if it has one.
    end: Option<Instant>,
    /// The journal of the visit's items and waits. It is not in the scope, which a child shares: a child has its own,
    /// or none.
    journal: Option<Arc<dyn Journal>>,
}

/// A number that no other process is likely to have, so that keys of different processes differ.
static PROCESS: LazyLock<u64> = LazyLock::new(|| {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
});

/// Counted from 1: a detached context has the number 0.
static RUNS: AtomicU64 = AtomicU64::new(1);

impl Context {
    /// Creates a context that belongs to no run, for calling a phase by hand: attempt 0, no item, not cancelled.
    #[must_use]
    pub fn detached() -> Self {
        Self {
            graph: None,
            scope: Arc::default(),
            more: None,
            visits: 1,
            node: Position::new(0),
            attempt: 0,
            phase: Phase::Prep,
            item: usize::MAX,
            listening: false,
            traced: false,
        }
    }

    /// Returns the same context with another attempt number.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Returns the same context with an item number.
    #[must_use]
    pub fn with_item(mut self, item: usize) -> Self {
        self.item = item;
        if self.item_id().is_some() {
            self.change(|more| more.item = None);
        }
        self
    }

    /// Returns the number of this attempt, counted from 0; of a batch node it is the item's own.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the place of this item in its batch, counted from 0; `None` outside batches.
    #[must_use]
    pub fn item(&self) -> Option<usize> {
        (self.item != usize::MAX).then_some(self.item)
    }

    /// Returns how many visits the run made before this one. A child of a batch flow counts its own.
    #[must_use]
    pub fn visit(&self) -> u64 {
        self.visits.saturating_sub(1)
    }

    /// Returns the id of the run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        match self.extras().and_then(|extras| extras.id.clone()) {
            Some(id) => id,
            None => format!("{:016x}-{}", *PROCESS, self.number()).into(),
        }
    }

    /// Returns the path of the node that is visited, from the flow that is run.
    #[must_use]
    pub fn node(&self) -> NodePath {
        self.path_of(self.node)
    }

    /// Returns whether this attempt is no longer wanted: its run was cancelled, dropped or is out of time, its attempt
    /// timed out, or a sibling failed.
    ///
    /// Async phases that wait need not ask: they are dropped. A blocking `exec`, and an item that computes, ask now and
    /// then, and return anything; the result is discarded.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.abandoned().is_some_and(|flag| flag.load(Ordering::Relaxed)) || self.stop().is_some()
    }

    /// Sends a value of the user's own to whoever listens to the run: a token, a progress report.
    ///
    /// Costs a check of one flag when nobody listens. Build costly values behind [`heard`](Self::heard).
    pub fn emit(&self, value: impl Into<Value>) {
        if self.heard() {
            self.send(EventKind::Emitted { value: value.into() });
        }
    }

    /// Returns whether the run has a listener. A run that is kept always has, for its history.
    #[must_use]
    pub fn listening(&self) -> bool {
        self.listening
    }

    /// Returns `true` if somebody would see a value that is [emitted](Self::emit) now. In a run that is kept, this is a
    /// reader who follows the run, and it may change at any time.
    #[must_use]
    pub fn heard(&self) -> bool {
        let listener = || self.extras()?.listener.as_ref();
        self.listening
            && listener().is_some_and(|listener| self.guarded(LISTENER, || listener.hears()).unwrap_or(false))
    }

    /// Returns a key that is the same for every attempt of this visit and item, and for no other. A service can
    /// recognise by it a request that it has seen before.
    ///
    /// It can be an HTTP header: visible ASCII without quotes, at most 255 bytes. Other characters of an id or a name
    /// are percent-encoded; a longer key keeps its beginning, and ends in a hash of the whole.
    ///
    /// In a run that is kept, the key is the same after a restart, and after the node was renamed. No other run has it,
    /// not even one with the same id. An item of a [journaled](crate::NodeExt::journaled) batch keeps its key wherever
    /// it stands in the list of a later program; in other batches the key has the item's place.
    ///
    /// In memory the key begins with the run's [id](crate::RunOptions::id): runs with the same id share their keys, and
    /// a run without an id has keys of its own.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let keys = self.extras().and_then(|extras| extras.keys.as_deref());
        let given = keys.and_then(|keys| keys.base.as_ref());
        let plain = given.is_some_and(|base| base.plain);
        let base = match (self.parent(), given) {
            (Some(parent), _) => parent.idempotency_key(),
            (None, Some(base)) => base.as_str().to_owned(),
            (None, None) => safe(self.run_id().as_str()),
        };
        let node = self.graph.as_ref().map_or("detached", |graph| graph.path(self.node).as_str());
        // Of the run itself only: a child's visits have numbers of their own.
        let due = keys.and_then(|keys| keys.due.as_ref()).filter(|_| self.parent().is_none());
        let node = due.filter(|(visit, _)| *visit == self.visit()).map_or(node, |(_, name)| name.as_str());
        // Runs that were begun before items had keys go by their places.
        let key = self.item_id().and_then(|item| item.key).filter(|_| !plain);
        let item = match (key, self.item()) {
            (Some(key), _) => format!("[{key}]"),
            (None, Some(item)) => format!("[{item}]"),
            (None, None) => String::new(),
        };
        compose(&base, self.visit(), node, &item, plain)
    }

    /// Asks whether the run's budget allows one more call, and counts it as begun.
    ///
    /// # Errors
    ///
    /// A terminal error whose source is [`OverBudget`](crate::OverBudget).
    pub fn afford(&self) -> Result<()> {
        let Some(extras) = self.extras() else { return Ok(()) };
        let mut spent = extras.meter.spent();
        if let Some(budget) = &extras.meter.budget {
            budget.check(spent.started, &spent.used).map_err(NodeError::terminal)?;
        }
        spent.started += 1;
        Ok(())
    }

    /// Records the usage of calls. It counts for the run's budget, is an event for listeners, and is in the history of
    /// a run that is kept.
    pub fn spend(&self, usage: Usage) {
        if let Some(extras) = self.extras() {
            extras.meter.spent().used += usage;
        }
        self.event(|| EventKind::Used { usage });
    }

    /// Returns what the run may use, if it has a budget.
    #[must_use]
    pub fn budget(&self) -> Option<Budget> {
        self.extras()?.meter.budget
    }

    /// Returns the usage of the run and its children so far. A run without any [options](crate::RunOptions) counts
    /// nothing.
    #[must_use]
    pub fn used(&self) -> Usage {
        self.extras().map(|extras| extras.meter.spent().used).unwrap_or_default()
    }

    /// Runs a job that blocks on the blocking pool, from an async `exec`.
    ///
    /// The job gets this context with a [`cancelled`](Self::cancelled) of its own, which is also true once nobody waits
    /// for the job any more. A long job looks at it now and then. The `exec` of a sync node does not need this method:
    /// in an async flow it runs on the pool by itself.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::Context;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> flowstone_core::Result<()> {
    /// let cx = Context::detached(); // an `exec` has that of its run
    /// let sum = cx.blocking(|cx| Ok((0..1_000).take_while(|_| !cx.cancelled()).sum::<u32>())).await?;
    /// assert_eq!(sum, 499_500);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of the job. If the run is cancelled or out of time, the error says so, whatever the job returned, and
    /// stops the run as soon as `exec` returns it. It is an error, too, if the runtime is shut down.
    ///
    /// # Panics
    ///
    /// If the job panics, and outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// When dropped, by a timeout, a sibling that failed or a `select!`, a job that has not begun never begins. A job
    /// that has begun is told to stop, and its result is discarded.
    ///
    /// The run waits for such a job before it returns, with options and without. So does the next attempt, or the
    /// fallback, of the same `exec`, before it begins. Nobody waits if the run itself is dropped, or the context is
    /// [detached](Self::detached).
    pub async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut own = self.clone();
        own.renew_abandoned();
        let result = job::in_pool(own.abandoned().cloned(), own.count_job(), move || job(&own)).await;
        match self.stop() {
            None => result,
            // A job that was told to stop returns anything; its run may look at the time a moment later.
            Some(stopped) => Err(NodeError::terminal(stopped)),
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::detached()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("run", &self.run_id())
            .field("node", &self.node())
            .field("visit", &self.visit())
            .field("attempt", &self.attempt)
            .field("item", &self.item())
            .finish()
    }
}
