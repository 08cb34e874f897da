//! What a visit knows of its run: [`Context`].
//!
//! Everything that a driver adds to a visit goes through here; `visit` itself knows no driver. A plain run in memory
//! has no [`Scope`], and pays nothing for what it could hold.

use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    action::Action,
    clock::Clock,
    error::{Detour, NodeError, Phase, RunError, Visited},
    event::{Event, EventKind, Listener},
    flow::{Halt, Position},
    graph::Graph,
    path::{NodePath, RunId},
};

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
    /// Whether somebody listens or traces: the one check of a run that nobody watches.
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
}

/// What a run shares with everything that it starts, where there is something to share.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) id: Option<RunId>,
    pub(crate) listener: Option<Arc<dyn Listener>>,
    pub(crate) cancel: Option<CancellationToken>,
    pub(crate) max_visits: Option<u64>,
    pub(crate) visits: AtomicU64,
    /// The node that the run itself, not a child, visits.
    pub(crate) at: AtomicU32,
    pub(crate) seed: Option<u64>,
    /// A sync run's clock, and by it the time at which its deadline is over, and how long that was.
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) deadline: Option<(Duration, Duration)>,
    /// Counts what runs beside the run's own future: blocking attempts and spawned items.
    pub(crate) started: TaskTracker,
}

/// Why a sync run is to stop where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    Cancelled,
    Deadline(Duration),
}

/// A number that no other process is likely to have, so that keys of different processes differ.
static PROCESS: LazyLock<u64> = LazyLock::new(|| {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
});

static RUNS: AtomicU64 = AtomicU64::new(0);

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

    /// Creates the context of a new run of a flow.
    pub(crate) fn of_run(graph: &Arc<Graph>) -> Self {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let traced = tracing::enabled!(target: "flowstone", tracing::Level::INFO);
        Self { graph: Some(Arc::clone(graph)), number, visits: 0, traced, watched: traced, ..Self::detached() }
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

    pub(crate) fn position(&self) -> Position {
        self.node
    }

    pub(crate) fn path_of(&self, node: Position) -> NodePath {
        let Some(graph) = &self.graph else { return "detached".into() };
        self.below(graph.path(node))
    }

    /// Returns the path of the node that the run visits, also from a copy of its context made before.
    pub(crate) fn last_node(&self) -> NodePath {
        let at = self.scope().map_or(self.node.number(), |scope| scope.at.load(Ordering::Relaxed));
        self.path_of(Position::new(at as usize))
    }

    /// Returns a path of this graph as seen from the flow that is run.
    pub(crate) fn below(&self, path: &NodePath) -> NodePath {
        match self.parent() {
            None => path.clone(),
            Some(parent) => format!("{}[{}]/{path}", parent.node(), parent.item).into(),
        }
    }

    /// Returns a key that is the same for every attempt of this visit and item, and for no other: what a service takes
    /// to recognise a request that it has seen.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let base = match self.parent() {
            None => self.run_id().to_string(),
            Some(parent) => parent.idempotency_key(),
        };
        let node = self.graph.as_ref().map_or("detached", |graph| graph.path(self.node).as_str());
        let item = self.item().map_or_else(String::new, |item| format!("[{item}]"));
        format!("{base}:{}:{node}{item}", self.visit())
    }

    /// Returns whether this attempt is no longer wanted: its run was cancelled, dropped or is out of time, its attempt
    /// timed out, or a sibling failed.
    ///
    /// Async phases need not ask: they are dropped. A blocking `exec` that takes long asks now and then, and returns
    /// anything; the result is discarded.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.abandoned().is_some_and(|flag| flag.load(Ordering::Relaxed)) || self.stop().is_some()
    }

    /// Sends a value of the user's own to whoever listens to the run: a token, a progress report.
    ///
    /// Costs a check of one flag when nobody listens. Build costly values behind [`listening`](Self::listening).
    pub fn emit(&self, value: impl Into<Value>) {
        self.event(|| EventKind::Emitted { value: value.into() });
    }

    /// Returns whether somebody listens to the events of the run.
    #[must_use]
    pub fn listening(&self) -> bool {
        self.listening
    }

    pub(crate) fn traced(&self) -> bool {
        self.traced
    }

    pub(crate) fn watched(&self) -> bool {
        self.watched
    }

    pub(crate) fn scope(&self) -> Option<&Arc<Scope>> {
        self.more.as_ref()?.scope.as_ref()
    }

    fn parent(&self) -> Option<&Self> {
        self.more.as_ref()?.parent.as_ref()
    }

    /// Changes a copy of the rare parts; other contexts keep theirs.
    fn change(&mut self, change: impl FnOnce(&mut More)) {
        let mut more = self.more.as_deref().cloned().unwrap_or_default();
        change(&mut more);
        self.more = Some(Arc::new(more));
    }

    pub(crate) fn set_scope(&mut self, scope: Arc<Scope>) {
        self.listening = scope.listener.is_some();
        self.watched = self.listening || self.traced;
        self.change(|more| more.scope = Some(scope));
    }

    /// Takes over the run and the count of visits of a paused run.
    pub(crate) fn take_over(&mut self, paused: &Self) {
        (self.number, self.visits, self.node) = (paused.number, paused.visits, paused.node);
    }

    /// Sends an event, which is made only if somebody listens.
    #[inline]
    pub(crate) fn event(&self, kind: impl FnOnce() -> EventKind) {
        if self.listening {
            self.send(kind());
        }
    }

    #[cold]
    fn send(&self, kind: EventKind) {
        let Some(listener) = self.scope().and_then(|scope| scope.listener.as_ref()) else { return };
        let node = (!kind.is_of_run()).then(|| self.node());
        let (visit, item, attempt) = (self.visit(), self.item(), self.attempt);
        listener.event(&Event { run: self.run_id(), at: SystemTime::now(), node, visit, item, attempt, kind });
    }

    /// Finds the edge of the visited node for a string action.
    pub(crate) fn edge_for(&self, action: Action) -> Visited {
        let edges = self.graph.as_ref().map(|graph| &graph.nodes[self.node.index()].edges);
        match edges.and_then(|edges| edges.labels().position(|label| *label == action)) {
            Some(index) => Ok(index),
            None => Err(Box::new(Detour::NoEdge(action))),
        }
    }

    /// Begins the visit of a node, if the run may make one more.
    #[inline]
    pub(crate) fn enter(&mut self, node: Position) -> Result<(), Box<Halt>> {
        (self.node, self.attempt, self.item, self.phase) = (node, 0, usize::MAX, Phase::Prep);
        if self.more.is_some() {
            self.check_visit()?;
        }
        self.visits += 1;
        Ok(())
    }

    fn check_visit(&self) -> Result<(), Box<Halt>> {
        self.check().map_err(|detour| self.halt(*detour))?;
        let Some(scope) = self.scope() else { return Ok(()) };
        if self.parent().is_none() {
            scope.at.store(self.node.number(), Ordering::Relaxed);
        }
        let Some(limit) = scope.max_visits else { return Ok(()) };
        if scope.visits.fetch_add(1, Ordering::Relaxed) < limit {
            return Ok(());
        }
        Err(Box::new(Halt::Failed(RunError::TooManyVisits { run: self.run_id(), node: self.node(), limit })))
    }

    /// What a failure in the current phase makes of the visit.
    #[cold]
    pub(crate) fn failed(&self, error: NodeError) -> Box<Detour> {
        let attempts = if self.phase == Phase::Exec { self.attempt + 1 } else { 0 };
        Box::new(Detour::Failed { phase: self.phase, attempts, item: self.item(), error })
    }

    /// Tells a panic the phase that it was in.
    pub(crate) fn located(&self, detour: Box<Detour>) -> Box<Detour> {
        match *detour {
            Detour::Panicked(error) => self.failed(error),
            detour => Box::new(detour),
        }
    }

    /// Fails if the run is to stop.
    pub(crate) fn check(&self) -> Result<(), Box<Detour>> {
        self.stop().map_or(Ok(()), |stop| Err(Box::new(Detour::Stopped(stop))))
    }

    fn stop(&self) -> Option<Stop> {
        let scope = self.scope()?;
        if scope.cancel.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return Some(Stop::Cancelled);
        }
        let (end, limit) = scope.deadline?;
        (scope.clock.as_ref()?.now() >= end).then_some(Stop::Deadline(limit))
    }

    /// Waits between two attempts of a sync node; a run that can be stopped looks up every few milliseconds.
    pub(crate) fn sleep(&self, wait: Duration) -> Result<(), Box<Detour>> {
        const LOOK_UP: Duration = Duration::from_millis(10);

        let Some(clock) = self.scope().and_then(|scope| scope.clock.as_ref()) else {
            std::thread::sleep(wait);
            return Ok(());
        };
        let mut left = wait;
        let slice = if self.stoppable() { LOOK_UP } else { Duration::MAX };
        while !left.is_zero() {
            clock.sleep(left.min(slice));
            left = left.saturating_sub(slice);
            self.check()?;
        }
        Ok(())
    }

    fn stoppable(&self) -> bool {
        self.scope().is_some_and(|scope| scope.cancel.is_some() || scope.deadline.is_some())
    }

    /// Returns the context of one item of this visit.
    pub(crate) fn for_item(&self, item: usize) -> Self {
        self.clone().with_item(item)
    }

    /// Returns the context of a child's run, which belongs to one item of this visit.
    pub(crate) fn for_child(&self, item: usize, graph: &Arc<Graph>) -> Self {
        let mut child = self.clone();
        child.change(|more| more.parent = Some(self.for_item(item)));
        child.graph = Some(Arc::clone(graph));
        (child.visits, child.item) = (0, usize::MAX);
        child
    }

    /// Gives the next blocking attempt a flag of its own.
    pub(crate) fn renew_abandoned(&mut self) {
        self.change(|more| more.abandoned = Some(Arc::default()));
    }

    pub(crate) fn abandoned(&self) -> Option<&Arc<AtomicBool>> {
        self.more.as_ref()?.abandoned.as_ref()
    }

    /// Returns 64 bits that follow from the run's seed and from where in the run this is.
    pub(crate) fn spread(&self) -> u64 {
        let base = match self.parent() {
            Some(parent) => parent.spread(),
            None => self.scope().and_then(|scope| scope.seed).unwrap_or_else(|| *PROCESS ^ self.number),
        };
        [self.visits, self.item as u64, u64::from(self.attempt)].into_iter().fold(base, |bits, part| mix(bits ^ part))
    }

    /// Completes what ended a visit with the run and the place in it.
    #[cold]
    pub(crate) fn halt(&self, detour: Detour) -> Box<Halt> {
        let (run, node) = (self.run_id(), self.node());
        Box::new(Halt::Failed(match *self.located(Box::new(detour)) {
            Detour::Failed { phase, attempts, item, error } => {
                RunError::Node { run, node, phase, attempts, item, source: error.into_source() }
            }
            Detour::Child(error) => error,
            Detour::Stopped(Stop::Cancelled) => RunError::Cancelled { run, node },
            Detour::Stopped(Stop::Deadline(limit)) => RunError::DeadlineExceeded { run, node, limit },
            Detour::Paused(pause) => return Box::new(Halt::Paused(pause)),
            Detour::NoEdge(_) | Detour::Panicked(_) => unreachable!("invariant: routed by the graph, or located"),
        }))
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

/// SplitMix64's finalizer (Steele, Lea and Flood, 2014).
fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
