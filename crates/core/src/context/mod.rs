//! What a visit knows of its run: [`Context`].
//!
//! Everything that a driver adds to a visit goes through here; `visit` itself knows no driver. A plain run in memory
//! has no [`Scope`], and pays nothing for what it could hold.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, LazyLock, OnceLock, RwLock, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    driver::Journal,
    graph::Graph,
    visit::Position,
    words::{
        clock::Clock,
        error::Phase,
        event::{EventKind, Listener},
        item_key::ItemId,
        path::{NodePath, RunId},
        usage::Meter,
    },
};

mod child;
mod engine;
mod fault;
mod key;
mod started;

pub use key::KeyBase;
pub(crate) use key::Keys;
pub(crate) use started::Counted;

/// What `exec` may know of its run: where it is, which attempt this is, and whether to stop.
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
    /// What most runs do not have; behind one pointer, since every run and every item carries a context.
    more: Option<Arc<More>>,
    /// The number of the run in this process.
    number: u64,
    /// How many visits this run, or child's run, has begun.
    visits: u64,
    node: Position,
    pub(crate) attempt: u32,
    /// The phase that the visit is in, for whoever catches its panic.
    pub(crate) phase: Phase,
    /// `usize::MAX` outside batches, which no batch is long enough to reach.
    item: usize,
    listening: bool,
    traced: bool,
    /// Whether somebody listens, traces or keeps a journal: the one check of a run that nobody watches.
    watched: bool,
}

/// The parts of a context that most runs do not have.
#[derive(Clone, Default)]
struct More {
    /// What the run shares with everything that it starts.
    scope: Option<Arc<Scope>>,
    /// Inside a batch flow: the visit and the item that this child's run belongs to.
    parent: Option<Context>,
    /// Set when a blocking attempt is no longer wanted.
    abandoned: Option<Arc<AtomicBool>>,
    /// What the journal knows the item by, if it keeps it.
    item: Option<ItemId>,
    /// What keeps the visit's items and waits. Not in the scope, which a child shares: a child has its own, or none.
    journal: Option<Arc<dyn Journal>>,
}

/// What a run shares with everything that it starts, where there is something to share.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) id: Option<RunId>,
    /// What a driver says of the run's idempotency keys.
    pub(crate) keys: Option<Box<Keys>>,
    pub(crate) listener: Option<Arc<dyn Listener>>,
    pub(crate) cancel: Option<CancellationToken>,
    pub(crate) max_visits: Option<u64>,
    pub(crate) visits: AtomicU64,
    /// The node that the run itself, not a child, visits.
    pub(crate) at: AtomicU32,
    pub(crate) seed: Option<u64>,
    /// The clock of a sync run; an async run has tokio's.
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) deadline: Option<Deadline>,
    /// The first panic of what watches or times the run.
    pub(crate) fault: OnceLock<Fault>,
    /// Set by the terminal event, which is the last: what still runs after a drop is not heard. Read while a listener
    /// is called, so that no other event can be under way when the terminal one is sent.
    pub(crate) ended: RwLock<bool>,
    /// What the run and its children have used, and may use.
    pub(crate) meter: Meter,
    /// Counts what runs beside the run's own future: blocking jobs and spawned items.
    pub(crate) started: TaskTracker,
    /// Held by each of these until it has ended, for a driver that drops the run's future.
    pub(crate) held: Option<Weak<dyn Any + Send + Sync>>,
}

/// When a run is out of time, and how much it had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: DeadlineAt,
    pub(crate) limit: Duration,
}

impl Deadline {
    /// The deadline of an async run, and how much time it had.
    pub(crate) fn tokio(self) -> Option<(tokio::time::Instant, Duration)> {
        match self.at {
            DeadlineAt::Tokio(at) => Some((at, self.limit)),
            DeadlineAt::Clock(_) => None,
        }
    }
}

/// A time by the clock of a sync run, or by tokio's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DeadlineAt {
    Clock(Duration),
    Tokio(tokio::time::Instant),
}

/// Why a run is to stop where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    Cancelled,
    Deadline(Duration),
    /// What watches or times it panicked; its scope knows what.
    Fault,
}

/// A panic of what watches or times a run.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What panicked.
    pub(crate) place: &'static str,
    /// What the panic said.
    pub(crate) message: String,
}

/// A number that no other process is likely to have, so that keys of different processes differ.
static PROCESS: LazyLock<u64> = LazyLock::new(|| {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
});

/// Counted from 1: a detached context has the number 0.
static RUNS: AtomicU64 = AtomicU64::new(1);

use fault::LISTENER;

impl Context {
    /// Creates a context that belongs to no run, for calling a phase by hand: attempt 0, no item, not cancelled.
    #[must_use]
    pub fn detached() -> Self {
        Self {
            graph: None,
            more: None,
            number: 0,
            visits: 1,
            node: Position::new(0),
            attempt: 0,
            phase: Phase::Prep,
            item: usize::MAX,
            listening: false,
            traced: false,
            watched: false,
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
        match self.scope().and_then(|scope| scope.id.clone()) {
            Some(id) => id,
            None => format!("{:016x}-{}", *PROCESS, self.number).into(),
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

    /// Returns whether somebody would see a value that is [emitted](Self::emit) now. Of a run that is kept, somebody who
    /// follows it, for whom that may change at any time.
    #[must_use]
    pub fn heard(&self) -> bool {
        let listener = || self.scope()?.listener.as_ref();
        self.listening
            && listener().is_some_and(|listener| self.guarded(LISTENER, || listener.hears()).unwrap_or(false))
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
