//! A run under way without its types: what a driver that keeps runs makes visits of.
//!
//! Why a driver sees this and no types: `docs/decisions/0009-a-driver-sees-an-execution.md`.

use std::{fmt, sync::Arc};

use serde_json::Value;

use crate::{
    context::Context,
    define::ask::{Pause, Paused, Reply},
    drive::run::{run_span, until_stopped},
    driver::Journal,
    node::State,
    visit::{Definition, Halt, Position, Visit, attempt::BoxFuture},
    words::{
        codec::{Codec, Unstorable},
        error::RunError,
        event::EventKind,
        path::{NodePath, RunId},
    },
};

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

    /// Makes the span of the run, in which a driver makes its visits, as `tracing` and OpenTelemetry know it; what stops the
    /// run is [recorded](RunError::record_in) there. A child has none: its visits stand in that of its parent.
    fn span(&self) -> tracing::Span;

    /// Sends an event of the run as a whole to its listeners: a driver knows when it begins, and how it came to a halt. After
    /// a [terminal](crate::Event::is_terminal) one nothing more is heard.
    ///
    /// A listener that panics stops the run before its next visit.
    fn announce(&self, node: Option<NodePath>, kind: EventKind);

    /// Gives the visits to come a journal, in place of the one before.
    fn set_journal(&mut self, journal: Arc<dyn Journal>);

    /// Visits the next node, and moves on if it leads to another. When the future is ready, nothing that the visit
    /// started still runs.
    ///
    /// A visit that did not end (an error, [`Visit::Sleep`], [`Visit::Parked`]) leaves the run before it: made again, it has the same
    /// number.
    ///
    /// # Errors
    ///
    /// Those of [`AsyncFlow::visit`](crate::AsyncFlow::visit); also when the run's token is cancelled, or its time is
    /// over, while it waits.
    ///
    /// # Cancel safety
    ///
    /// A dropped visit leaves in the state what `post` wrote until then: restore the run before another visit.
    fn visit(&mut self) -> BoxFuture<'_, Result<Visit, RunError>>;

    /// Makes anew the pause of the next node, from what was kept of it: the node is not asked again.
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

    /// Returns the state as JSON, after reading it back: for a state that is kept for long, or first.
    ///
    /// # Errors
    ///
    /// If [`restore`](Self::restore) would refuse it.
    fn save_surely(&self) -> Result<Vec<u8>, Unstorable>;

    /// Places the run before its visit number `visits`, at a node, with a state.
    ///
    /// Of a run that paused or sleeps, that is the visit in which it did.
    ///
    /// # Errors
    ///
    /// If the flow has no such node, or the state cannot be decoded; the run is then as it was.
    fn restore(&mut self, node: &NodePath, visits: u64, state: &[u8]) -> Result<(), RestoreError>;
}

/// A run of a flow that is driven visit by visit; made by [`AsyncFlow::execution`](crate::AsyncFlow::execution).
///
/// # Example
///
/// ```
/// use flowstone_core::{AsyncFlow, Execution, RunOptions, Visit};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut flow = AsyncFlow::builder("sum");
/// let add = flow.add("add", |n: &mut u32| *n += 1);
/// let double = flow.add("double", |n: &mut u32| *n *= 2);
/// flow.start(add);
/// flow.route(add >> double);
/// let flow = flow.build()?;
///
/// let mut before = flow.execution(20, &RunOptions::new().id("r1"));
/// assert!(matches!(before.visit().await?, Visit::Next { .. }));
/// let (node, visits, state) = (before.node().clone(), before.visits(), before.save()?); // to disk, say
///
/// let mut after = flow.execution(0, &RunOptions::new().id("r1"));
/// after.restore(&node, visits, &state)?;
/// assert!(matches!(after.visit().await?, Visit::End { .. }));
/// assert_eq!(after.into_state(), 42);
/// # Ok(())
/// # }
/// ```
pub struct Running<S> {
    definition: Arc<Definition<S>>,
    codec: Codec<S>,
    state: S,
    cx: Context,
    at: Position,
    /// The number of the visit that is next, or that did not end.
    number: u64,
    /// Whether a visit was made, or gone on with, here and not by an earlier process.
    has_visited: bool,
}

impl<S> Running<S> {
    pub(crate) fn new(definition: &Arc<Definition<S>>, codec: Codec<S>, state: S, cx: Context) -> Self {
        let (definition, at) = (Arc::clone(definition), definition.graph.start());
        Self { definition, codec, state, number: cx.visits(), cx, at, has_visited: false }
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    pub(crate) fn has_visited(&self) -> bool {
        self.has_visited
    }

    /// Takes back the count of the visits of a child that did not end.
    pub(crate) fn uncount_all(&self) {
        self.cx.uncount_all();
    }

    /// Gives the state.
    #[must_use]
    pub fn into_state(self) -> S {
        self.state
    }
}

impl<S: State> Running<S> {
    /// Makes a run that was kept, at a node, before a visit, with a state.
    pub(crate) fn restored(
        definition: &Arc<Definition<S>>,
        codec: Codec<S>,
        (node, visits, state): (&NodePath, u64, &[u8]),
        cx: Context,
    ) -> Result<Self, RestoreError> {
        let (at, state) = decoded(definition, codec, node, state)?;
        let mut run = Self { at, ..Self::new(definition, codec, state, cx) };
        run.place(visits);
        Ok(run)
    }

    fn place(&mut self, visits: u64) {
        self.number = visits;
        self.cx.place(self.at, visits);
    }

    /// Moves on if the run does.
    fn advance(&mut self, visited: Result<Visit, RunError>) -> Result<Visit, RunError> {
        if let Ok(Visit::Next { next, .. }) = &visited {
            (self.at, self.number) = (*next, self.cx.visits());
        }
        visited
    }

    fn reply(&mut self, pause: Pause, reply: Reply) -> Result<Visit, RunError> {
        self.has_visited = true;
        let answered = Visit::of(self.definition.answer(pause, reply, &mut self.state, &mut self.cx));
        self.advance(answered)
    }

    async fn visit_next(&mut self) -> Result<Visit, RunError> {
        self.has_visited = true;
        // A visit that did not end is counted again, as the same.
        if self.cx.visits() > self.number {
            self.cx.uncount();
        }
        let (definition, at, state, cx) = (&*self.definition, self.at, &mut self.state, &mut self.cx);
        let own = cx.clone();
        let visit = async move {
            cx.enter(at).map_err(Halt::into_error)?;
            Visit::of(definition.watched_async(at, state, cx).await)
        };
        // A child is stopped with the visit of its parent, which also waits for what it started: it cannot tell that from
        // what its siblings started.
        let visited = if own.parent().is_some() {
            visit.await
        } else {
            let visited = until_stopped(visit, &own).await;
            own.wait_for_started().await;
            visited
        };
        if let Ok(Visit::Sleep { .. } | Visit::Parked) = &visited {
            self.cx.uncount();
        }
        self.advance(visited)
    }
}

impl<S: State> Execution for Running<S> {
    fn id(&self) -> RunId {
        match self.cx.parent() {
            None => self.cx.run_id(),
            Some(parent) => parent.idempotency_key().into(),
        }
    }

    fn flow(&self) -> &str {
        self.definition.graph.name()
    }

    fn node(&self) -> &NodePath {
        self.definition.graph.path(self.at)
    }

    fn visits(&self) -> u64 {
        self.cx.visits()
    }

    fn span(&self) -> tracing::Span {
        match self.cx.parent() {
            None => run_span(&self.cx, self.flow()),
            Some(_) => tracing::Span::none(),
        }
    }

    fn announce(&self, node: Option<NodePath>, kind: EventKind) {
        self.cx.send_of(node, kind);
    }

    fn set_journal(&mut self, journal: Arc<dyn Journal>) {
        self.cx.set_journal(journal);
    }

    fn visit(&mut self) -> BoxFuture<'_, Result<Visit, RunError>> {
        Box::pin(self.visit_next())
    }

    fn pause(&mut self, question: Value, schema: Value) -> Pause {
        let (position, node) = (self.at, self.cx.path_of(self.at));
        // The visit that asked was begun by another process, and counts for the run.
        self.cx.count_visits(u64::from(self.cx.visits() == self.number));
        let mut run = self.cx.to_paused();
        (run.visits, run.node) = (self.number + 1, position);
        Pause(Box::new(Paused { position, node, question, schema, expires: None, run }))
    }

    fn answer(&mut self, pause: Pause, answer: Value) -> Result<Visit, RunError> {
        self.reply(pause, Reply::Answer(Ok(answer)))
    }

    fn expire(&mut self, pause: Pause) -> Result<Visit, RunError> {
        self.reply(pause, Reply::Expired)
    }

    fn save(&self) -> Result<Vec<u8>, Unstorable> {
        (self.codec.encode)(&self.state)
    }

    fn save_surely(&self) -> Result<Vec<u8>, Unstorable> {
        self.codec.encode_surely(&self.state)
    }

    fn restore(&mut self, node: &NodePath, visits: u64, state: &[u8]) -> Result<(), RestoreError> {
        (self.at, self.state) = decoded(&self.definition, self.codec, node, state)?;
        self.place(visits);
        Ok(())
    }
}

/// Finds the node and decodes the state of a run that was kept.
pub(crate) fn decoded<S>(
    definition: &Definition<S>,
    codec: Codec<S>,
    node: &NodePath,
    state: &[u8],
) -> Result<(Position, S), RestoreError> {
    let flow = || definition.graph.name().to_owned();
    let Some(at) = definition.graph.position(node.as_str()) else {
        let nodes = definition.graph.nodes.iter().map(|node| node.path.clone()).collect();
        return Err(RestoreError::NoSuchNode { flow: flow(), node: node.clone(), nodes });
    };
    let state = (codec.decode)(state);
    let state = state.map_err(|error| RestoreError::State { flow: flow(), path: error.path, source: error.source })?;
    Ok((at, state))
}

impl<S> fmt::Debug for Running<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graph = &self.definition.graph;
        f.debug_struct("Running")
            .field("flow", &graph.name())
            .field("node", graph.path(self.at))
            .field("visit", &self.number)
            .finish_non_exhaustive()
    }
}

/// Why a run cannot go on from where it was.
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
        /// What does not fit there.
        source: serde_json::Error,
    },
}
