//! The half of [`Context`] that the engine uses.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::Instant;

use crate::{
    context::{
        Context, More, PROCESS, RUNS,
        scope::{Extras, Scope},
        started::Counted,
    },
    execution::Journal,
    graph::Graph,
    outcome::{Detour, Visited},
    policy::Policy,
    words::{
        action::Action,
        error::{BoxError, NodeError, Phase, RunError},
        item_key::ItemId,
        path::{NodePath, Position},
        pause::PausedRun,
    },
};

impl Context {
    /// Creates the context of a new run of a flow.
    pub(crate) fn of_run(graph: &Arc<Graph>, extras: Option<Box<Extras>>) -> Self {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let listening = extras.as_ref().is_some_and(|extras| extras.listener.is_some());
        let cx = Self {
            graph: Some(Arc::clone(graph)),
            scope: Arc::new(Scope { number: number.into(), extras, ..Scope::default() }),
            more: None,
            visits: 0,
            node: graph.start(),
            attempt: 0,
            phase: Phase::Prep,
            item: usize::MAX,
            listening,
            traced: tracing::enabled!(target: "flowstone", tracing::Level::INFO),
        };
        cx.stand_at(cx.node);
        cx
    }

    /// Returns the number of the run in this process.
    pub(super) fn number(&self) -> u64 {
        self.scope.number.load(Ordering::Relaxed)
    }

    pub(crate) fn position(&self) -> Position {
        self.node
    }

    pub(crate) fn path_of(&self, node: Position) -> NodePath {
        let Some(graph) = &self.graph else { return "detached".into() };
        self.below(graph.path(node))
    }

    /// Returns the path of the node that the run visits now. A copy of the context that was made earlier returns it,
    /// too.
    pub(crate) fn last_node(&self) -> NodePath {
        let at = self.extras().map_or(self.node.number(), |extras| extras.at.load(Ordering::Relaxed));
        self.path_of(Position::new(at as usize))
    }

    /// Returns a path of this graph as seen from the flow that is run.
    pub(crate) fn below(&self, path: &NodePath) -> NodePath {
        match self.parent() {
            None => path.clone(),
            Some(parent) => format!("{}[{}]/{path}", parent.node(), parent.item).into(),
        }
    }

    /// The part of a run with options that it shares with everything that it starts.
    #[inline]
    pub(crate) fn extras(&self) -> Option<&Extras> {
        self.scope.extras.as_deref()
    }

    /// Returns the journal of the visit, which keeps its items and waits, if there is one.
    pub(crate) fn journal(&self) -> Option<&Arc<dyn Journal>> {
        self.more.as_ref()?.journal.as_ref()
    }

    /// Gives the visits to come a journal.
    pub(crate) fn set_journal(&mut self, journal: Arc<dyn Journal>) {
        self.change(|more| more.journal = Some(journal));
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

    /// Returns the parts by which a paused run is known. The scope is not among them, so that a pause holds no listener
    /// and no token.
    pub(crate) fn to_paused(&self) -> PausedRun {
        let flow = self.graph.as_ref().map_or("", |graph| graph.name()).to_owned();
        let id = self.extras().and_then(|extras| extras.id.clone());
        PausedRun { flow, id, number: self.number(), visits: self.visits, node: self.node }
    }

    /// Takes over the run and the count of visits of a paused run.
    pub(crate) fn take_over(&mut self, paused: &PausedRun) {
        self.scope.number.store(paused.number, Ordering::Relaxed);
        (self.visits, self.attempt) = (paused.visits, 0);
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
        if let Some(extras) = self.extras() {
            // Of a child only its own visits are known; those of the run and of its other children stay counted.
            match self.parent() {
                None => extras.visits.store(visits, Ordering::Relaxed),
                Some(_) => {
                    extras.visits.fetch_add(visits.saturating_sub(self.visits), Ordering::Relaxed);
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
        if let Some(extras) = self.extras().filter(|extras| extras.max_visits.is_some()) {
            extras.visits.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Tells copies of the run's context where the run is.
    fn stand_at(&self, node: Position) {
        if self.parent().is_none()
            && let Some(extras) = self.extras()
        {
            extras.at.store(node.number(), Ordering::Relaxed);
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
    pub(crate) fn enter(&mut self, node: Position) -> Result<(), RunError> {
        (self.node, self.attempt, self.phase) = (node, 0, Phase::Prep);
        if self.end().is_some() {
            self.change(|more| more.end = None);
        }
        if let Some(extras) = self.extras() {
            self.check_visit(extras)?;
        }
        self.visits += 1;
        Ok(())
    }

    fn check_visit(&self, extras: &Extras) -> Result<(), RunError> {
        self.check_run()?;
        self.stand_at(self.node);
        let Some(limit) = extras.max_visits else { return Ok(()) };
        if extras.visits.fetch_add(1, Ordering::Relaxed) < limit {
            return Ok(());
        }
        Err(RunError::TooManyVisits { run: self.run_id(), node: self.node(), limit })
    }

    /// Makes the detour of a failure in the current phase.
    #[cold]
    pub(crate) fn failed(&self, error: NodeError) -> Box<Detour> {
        let attempts = if self.phase == Phase::Exec { self.attempt + 1 } else { 0 };
        Box::new(Detour::Failed { phase: self.phase, attempts, item: self.item(), error })
    }

    /// Makes the detour of a journal that fails. The run stops; nothing is tried again or collected.
    #[cold]
    pub(crate) fn not_kept(&self, source: BoxError) -> Box<Detour> {
        self.not_kept_of(self.item(), source)
    }

    /// Makes the detour of a journal that fails at an item.
    #[cold]
    pub(crate) fn not_kept_of(&self, item: Option<usize>, source: BoxError) -> Box<Detour> {
        Box::new(Detour::Stopped(RunError::Journal { run: self.run_id(), node: self.node(), item, source }))
    }

    /// Adds to a panic the phase in which it happened.
    pub(crate) fn located(&self, detour: Detour) -> Box<Detour> {
        match detour {
            Detour::Panicked(error) => self.failed(error),
            detour => Box::new(detour),
        }
    }

    /// Begins the time that a visit has for all its attempts, waits and items, if its policy bounds it.
    #[inline]
    pub(crate) fn begin_time(&mut self, policy: &Policy) {
        if policy.total_timeout.is_some() {
            let end = policy.end(self.journal());
            self.change(|more| more.end = end);
        }
    }

    /// Returns when the time of the visit is over.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.more.as_ref()?.end
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

    /// Returns the id by which the journal knows this item, if it keeps it.
    pub(crate) fn item_id(&self) -> Option<ItemId> {
        self.more.as_ref()?.item
    }

    /// Returns the item under which the journal keeps waits of this attempt: `Some(None)` for the node itself, and
    /// `None` for an item that the journal does not keep.
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
        child.change(|more| (more.parent, more.journal, more.item, more.end) = (Some(parent), None, None, None));
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
            None => self.extras().and_then(|extras| extras.seed).unwrap_or_else(|| *PROCESS ^ self.number()),
        };
        [self.visits, self.item as u64, u64::from(self.attempt)].into_iter().fold(base, |bits, part| mix(bits ^ part))
    }

    /// Returns 64 bits that stand for the visit and the item, whichever the attempt.
    pub(super) fn place_number(&self) -> u64 {
        let base = self.parent().map_or(0, Self::place_number);
        // A node that is no batch is the parent of its child as its item 0.
        [self.visits, self.item().unwrap_or(0) as u64].into_iter().fold(base, |bits, part| mix(bits ^ part))
    }

    /// Counts something that is about to run beside the run's own future.
    pub(crate) fn count(&self) -> Counted {
        let places = std::iter::successors(self.parent(), |place| place.parent());
        self.count_at(places.map(Self::place_number))
    }

    /// Counts a blocking job that an `exec` starts by itself.
    pub(crate) fn count_job(&self) -> Counted {
        let places = std::iter::successors(Some(self), |place| place.parent());
        self.count_at(places.map(Self::place_number))
    }

    fn count_at(&self, places: impl Iterator<Item = u64>) -> Counted {
        let held = self.extras().and_then(|extras| extras.held.as_ref()?.upgrade());
        self.scope.started.get_or_init(Box::default).count(places, held)
    }

    /// Returns whether there may be something to [wait](Self::wait_for_started) for.
    #[inline]
    pub(crate) fn may_have_started(&self) -> bool {
        self.scope.started.get().is_some()
    }

    /// Waits for what runs beside the run's own future and is no longer wanted: dropped blocking jobs and items.
    pub(crate) async fn wait_for_started(&self) {
        if let Some(started) = self.scope.started.get() {
            started.wait().await;
        }
    }

    /// Waits for what the last attempt of this visit, or of its item, has left.
    pub(crate) async fn wait_for_attempt(&self) {
        if let Some(started) = self.scope.started.get() {
            started.wait_at(self.place_number()).await;
        }
    }

    /// Returns whether this belongs to no run, but to a test of one phase.
    pub(crate) fn is_detached(&self) -> bool {
        self.number() == 0
    }

    /// Counts visits of children that are not placed where they were yet.
    pub(crate) fn count_visits(&self, visits: u64) {
        if let Some(extras) = self.extras().filter(|extras| extras.max_visits.is_some()) {
            extras.visits.fetch_add(visits, Ordering::Relaxed);
        }
    }

    /// Takes back the count of so many visits of children.
    pub(crate) fn uncount_visits(&self, visits: u64) {
        if let Some(extras) = self.extras().filter(|extras| extras.max_visits.is_some()) {
            extras.visits.fetch_sub(visits, Ordering::Relaxed);
        }
    }

    /// Takes back the count of all visits of this child's run, before it is placed again where it was.
    pub(crate) fn uncount_all(&self) {
        if let Some(extras) = self.extras().filter(|extras| extras.max_visits.is_some()) {
            extras.visits.fetch_sub(self.visits, Ordering::Relaxed);
        }
    }

    /// Adds the run and the place in it to the reason that stopped a visit.
    #[cold]
    pub(crate) fn stopped(&self, detour: Detour) -> RunError {
        match *self.located(detour) {
            Detour::Failed { phase, attempts, item, error } => {
                let (run, node) = (self.run_id(), self.node());
                let (terminal, retry_after) = (error.is_terminal(), error.retry_after());
                RunError::Node { run, node, phase, attempts, item, terminal, retry_after, source: error.into_source() }
            }
            Detour::Stopped(error) => error,
            Detour::Panicked(_) | Detour::Waits(_) | Detour::NoEdge(_) | Detour::Unfit(_) => {
                unreachable!("invariant: located, or looked at before")
            }
        }
    }
}

/// SplitMix64's finalizer (Steele, Lea and Flood, 2014).
fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
