//! The half of [`Context`] that the engine uses.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use crate::{
    context::{
        Context, More, PROCESS, RUNS,
        scope::{CLOCK, Deadline, DeadlineAt, LISTENER, Scope},
    },
    driver::Journal,
    graph::Graph,
    outcome::{Detour, Halt, Stop, Visited},
    words::{
        action::Action,
        error::{BoxError, NodeError, Phase, RunError},
        event::{Event, EventKind},
        guard::Panicked,
        item_key::ItemId,
        path::{NodePath, Position, RunId},
        pause::PausedRun,
    },
};

impl Context {
    /// Creates the context of a new run of a flow.
    pub(crate) fn of_run(graph: &Arc<Graph>) -> Self {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let traced = tracing::enabled!(target: "flowstone", tracing::Level::INFO);
        Self {
            graph: Some(Arc::clone(graph)),
            number,
            visits: 0,
            node: graph.start(),
            traced,
            watched: traced,
            ..Self::detached()
        }
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

    pub(crate) fn traced(&self) -> bool {
        self.traced
    }

    pub(crate) fn watched(&self) -> bool {
        self.watched
    }

    pub(crate) fn scope(&self) -> Option<&Arc<Scope>> {
        self.more.as_ref()?.scope.as_ref()
    }

    /// What keeps the visit's items and waits, if something does.
    pub(crate) fn journal(&self) -> Option<&Arc<dyn Journal>> {
        self.more.as_ref()?.journal.as_ref()
    }

    /// Gives the visits to come a journal. They take the path of those that are watched, which asks for it.
    pub(crate) fn set_journal(&mut self, journal: Arc<dyn Journal>) {
        self.change(|more| more.journal = Some(journal));
        self.watched = true;
    }

    pub(crate) fn parent(&self) -> Option<&Self> {
        self.more.as_ref()?.parent.as_ref()
    }

    /// Changes a copy of the rare parts; other contexts keep theirs.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut More)) {
        let mut more = self.more.as_deref().cloned().unwrap_or_default();
        change(&mut more);
        self.more = Some(Arc::new(more));
    }

    pub(crate) fn set_scope(&mut self, scope: Arc<Scope>) {
        self.listening = scope.listener.is_some();
        self.watched = self.listening || self.traced || self.journal().is_some();
        scope.at.store(self.node.number(), Ordering::Relaxed);
        self.change(|more| more.scope = Some(scope));
    }

    /// What a paused run is known by: not its scope, so that a pause holds no listener and no token.
    pub(crate) fn to_paused(&self) -> PausedRun {
        let flow = self.graph.as_ref().map_or("", |graph| graph.name()).to_owned();
        let id = self.scope().and_then(|scope| scope.id.clone());
        PausedRun { flow, id, number: self.number, visits: self.visits, node: self.node }
    }

    /// Takes over the run and the count of visits of a paused run.
    pub(crate) fn take_over(&mut self, paused: &PausedRun) {
        (self.number, self.visits, self.attempt) = (paused.number, paused.visits, 0);
        // A pause of another flow may be of a node that this one does not have.
        if self.graph.as_ref().is_some_and(|graph| paused.node.index() < graph.nodes.len()) {
            self.node = paused.node;
            self.stand_at(paused.node);
        }
    }

    /// Returns how many visits the run has begun.
    pub(crate) fn visits(&self) -> u64 {
        self.visits
    }

    /// Places a run before its visit number `visits`, at a node, with nothing left of the visit that was under way.
    pub(crate) fn place(&mut self, node: Position, visits: u64) {
        if let Some(scope) = self.scope() {
            // Of a child only its own visits are known; those of the run and of its other children stay counted.
            match self.parent() {
                None => scope.visits.store(visits, Ordering::Relaxed),
                Some(_) => {
                    scope.visits.fetch_add(visits.saturating_sub(self.visits), Ordering::Relaxed);
                }
            }
        }
        (self.node, self.visits, self.attempt, self.phase) = (node, visits, 0, Phase::Prep);
        if self.abandoned().is_some() {
            self.change(|more| more.abandoned = None);
        }
        self.stand_at(node);
    }

    /// Takes back the count of a visit that is to be made again.
    pub(crate) fn uncount(&mut self) {
        self.visits -= 1;
        if let Some(scope) = self.scope().filter(|scope| scope.max_visits.is_some()) {
            scope.visits.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets copies of the run's context know where it is.
    fn stand_at(&self, node: Position) {
        if self.parent().is_none()
            && let Some(scope) = self.scope()
        {
            scope.at.store(node.number(), Ordering::Relaxed);
        }
    }

    /// Sends an event, which is made only if somebody listens.
    #[inline]
    pub(crate) fn event(&self, kind: impl FnOnce() -> EventKind) {
        if self.listening {
            self.send(kind());
        }
    }

    #[cold]
    pub(super) fn send(&self, kind: EventKind) {
        self.send_of(Some(self.node()), kind);
    }

    /// Sends an event of the run as a whole, or of a node that is not the visited one.
    #[cold]
    pub(crate) fn send_of(&self, node: Option<NodePath>, kind: EventKind) {
        let Some(scope) = self.scope() else { return };
        let Some(listener) = &scope.listener else { return };
        let (visit, item, attempt) = (self.visit(), self.item(), self.attempt);
        let event = Event { run: self.run_id(), at: SystemTime::now(), node, visit, item, attempt, kind };
        if event.is_terminal() {
            let mut ended = scope.ended.write().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::replace(&mut *ended, true) {
                self.guarded(LISTENER, || listener.event(&event));
            }
            return;
        }
        let ended = scope.ended.read().unwrap_or_else(PoisonError::into_inner);
        if !*ended {
            self.guarded(LISTENER, || listener.event(&event));
        }
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
        (self.node, self.attempt, self.phase) = (node, 0, Phase::Prep);
        if self.more.is_some() {
            self.check_visit()?;
        }
        self.visits += 1;
        Ok(())
    }

    fn check_visit(&self) -> Result<(), Box<Halt>> {
        self.check_fault().and_then(|()| self.check()).map_err(|detour| self.halt(*detour))?;
        self.stand_at(self.node);
        let Some(scope) = self.scope() else { return Ok(()) };
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

    /// What a journal that fails makes of the visit: neither tried again nor collected.
    #[cold]
    pub(crate) fn not_kept(&self, source: BoxError) -> Box<Detour> {
        Box::new(Detour::Journal { item: self.item(), source })
    }

    /// Tells a panic the phase that it was in.
    pub(crate) fn located(&self, detour: Detour) -> Box<Detour> {
        match detour {
            Detour::Panicked(error) => self.failed(error),
            detour => Box::new(detour),
        }
    }

    /// Fails if the run is to stop.
    pub(crate) fn check(&self) -> Result<(), Box<Detour>> {
        self.stop().map_or(Ok(()), |stop| Err(Box::new(Detour::Stopped(stop))))
    }

    pub(super) fn stop(&self) -> Option<Stop> {
        let scope = self.scope()?;
        if scope.cancel.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return Some(Stop::Cancelled);
        }
        let deadline = scope.deadline?;
        let late = match deadline.at {
            DeadlineAt::Clock(at) => {
                let clock = scope.clock.as_ref()?;
                match self.guarded(CLOCK, || clock.now()) {
                    Some(now) => now >= at,
                    None => return Some(Stop::Fault),
                }
            }
            DeadlineAt::Tokio(at) => tokio::time::Instant::now() >= at,
        };
        late.then_some(Stop::Deadline(deadline.limit))
    }

    /// Waits between two attempts of a sync node, up to the deadline; with a token, looks up every few milliseconds.
    pub(crate) fn sleep(&self, wait: Duration) -> Result<(), Box<Detour>> {
        const LOOK_UP: Duration = Duration::from_millis(10);

        let Some(scope) = self.scope() else {
            std::thread::sleep(wait);
            return Ok(());
        };
        let Some(clock) = &scope.clock else {
            std::thread::sleep(wait);
            return self.check();
        };
        let slice = if scope.cancel.is_some() { LOOK_UP } else { Duration::MAX };
        let mut left = wait;
        while !left.is_zero() {
            let until = match scope.deadline {
                Some(Deadline { at: DeadlineAt::Clock(at), .. }) => {
                    at.saturating_sub(self.guarded(CLOCK, || clock.now()).unwrap_or(at))
                }
                _ => Duration::MAX,
            };
            self.guarded(CLOCK, || clock.sleep(left.min(slice).min(until)));
            left = left.saturating_sub(slice);
            self.check_fault()?;
            self.check()?;
        }
        Ok(())
    }

    /// Turns from `prep` to the items of a batch, and tells whoever listens how many there are; fails if that panicked.
    pub(crate) fn begin_items(&mut self, items: usize) -> Result<(), Box<Detour>> {
        self.phase = Phase::Exec;
        if !self.listening {
            return Ok(());
        }
        self.send(EventKind::VisitStarted { items: Some(items) });
        self.check_fault()
    }

    /// Returns the context of one item of this visit.
    pub(crate) fn for_item(&self, item: usize) -> Self {
        self.clone().with_item(item)
    }

    /// Returns the context of one item of this visit that a journal keeps.
    pub(crate) fn for_kept(&self, item: ItemId) -> Self {
        let mut context = self.for_item(item.index);
        context.change(|more| more.item = Some(item));
        context
    }

    /// What the journal knows this item by, if it keeps it.
    pub(crate) fn item_id(&self) -> Option<ItemId> {
        self.more.as_ref()?.item
    }

    /// What the journal keeps waits of this attempt under: `None` for an item that it does not keep, or else the item, if it
    /// is one.
    pub(crate) fn waits_as(&self) -> Option<Option<ItemId>> {
        match (self.item(), self.item_id()) {
            (None, _) => Some(None),
            (Some(_), None) => None,
            (Some(_), item) => Some(item),
        }
    }

    /// Returns the context of a child's run, which belongs to one item of this visit. The item has its own context.
    pub(crate) fn for_child(&self, item: &Self, graph: &Arc<Graph>) -> Self {
        let mut child = self.clone();
        let parent = item.clone();
        child.change(|more| (more.parent, more.journal, more.item) = (Some(parent), None, None));
        child.watched = child.listening || child.traced;
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

    /// Returns 64 bits that stand for where this is, whichever the attempt: the run, its visit and its item.
    pub(super) fn place_number(&self) -> u64 {
        let base = self.parent().map_or(self.number, Self::place_number);
        // A node that is no batch is the parent of its child as its item 0.
        [self.visits, self.item().unwrap_or(0) as u64].into_iter().fold(base, |bits, part| mix(bits ^ part))
    }

    /// Calls something that watches or times the run; `None` if it panicked, which is then kept.
    pub(super) fn guarded<T>(&self, place: &'static str, call: impl FnOnce() -> T) -> Option<T> {
        match Panicked::catch(call) {
            Ok(value) => Some(value),
            Err(panicked) => {
                if let Some(scope) = self.scope() {
                    scope.keep_fault(place, panicked, &self.run_id(), &self.node());
                }
                None
            }
        }
    }

    /// Fails if something that watches or times the run has panicked.
    #[inline]
    pub(crate) fn check_fault(&self) -> Result<(), Box<Detour>> {
        match self.scope() {
            Some(scope) if scope.fault.get().is_some() => Err(Box::new(Detour::Stopped(Stop::Fault))),
            _ => Ok(()),
        }
    }

    /// The error of a run that something stopped which watches or times it.
    pub(super) fn fault(&self, run: RunId, node: NodePath) -> RunError {
        let fault = self.scope().and_then(|scope| scope.fault.get());
        let (place, message) = fault.map_or((LISTENER, ""), |fault| (fault.place, fault.message.as_str()));
        RunError::Panicked { run, node, place, message: message.to_owned() }
    }

    /// Lets a child of no run count what its nodes start beside its own future, for which otherwise its run waits.
    ///
    /// Returns the context with which to wait.
    pub(crate) fn track_own(&mut self) -> Option<Self> {
        if !self.is_detached() || self.scope().is_some() {
            return None;
        }
        self.set_scope(Arc::new(Scope::default()));
        Some(self.clone())
    }

    /// Whether this belongs to no run, but to a test of one phase.
    pub(super) fn is_detached(&self) -> bool {
        self.number == 0
    }

    /// Counts visits of children that are not placed where they were yet.
    pub(crate) fn count_visits(&self, visits: u64) {
        if let Some(scope) = self.scope().filter(|scope| scope.max_visits.is_some()) {
            scope.visits.fetch_add(visits, Ordering::Relaxed);
        }
    }

    /// Takes back the count of so many visits of children.
    pub(crate) fn uncount_visits(&self, visits: u64) {
        if let Some(scope) = self.scope().filter(|scope| scope.max_visits.is_some()) {
            scope.visits.fetch_sub(visits, Ordering::Relaxed);
        }
    }

    /// Takes back the count of all visits of this child's run, which is to be placed where it was once more.
    pub(crate) fn uncount_all(&self) {
        if let Some(scope) = self.scope().filter(|scope| scope.max_visits.is_some()) {
            scope.visits.fetch_sub(self.visits, Ordering::Relaxed);
        }
    }

    /// Completes what ended a visit with the run and the place in it.
    #[cold]
    pub(crate) fn halt(&self, detour: Detour) -> Box<Halt> {
        let (run, node) = (self.run_id(), self.node());
        Box::new(Halt::Failed(match *self.located(detour) {
            Detour::Failed { phase, attempts, item, error } => {
                let (terminal, retry_after) = (error.is_terminal(), error.retry_after());
                RunError::Node { run, node, phase, attempts, item, terminal, retry_after, source: error.into_source() }
            }
            Detour::Child(error) => error,
            Detour::Stopped(Stop::Fault) => self.fault(run, node),
            Detour::Stopped(Stop::Cancelled) => RunError::Cancelled { run, node },
            Detour::Stopped(Stop::Deadline(limit)) => RunError::DeadlineExceeded { run, node, limit },
            Detour::Journal { item, source } => RunError::Journal { run, node, item, source },
            Detour::Paused(pause) => return Box::new(Halt::Paused(pause)),
            Detour::Asleep(wait) => return Box::new(Halt::Asleep(wait)),
            Detour::Parked => return Box::new(Halt::Parked),
            Detour::NoEdge(_) | Detour::Panicked(_) => unreachable!("invariant: routed by the graph, or located"),
        }))
    }
}

/// SplitMix64's finalizer (Steele, Lea and Flood, 2014).
fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
