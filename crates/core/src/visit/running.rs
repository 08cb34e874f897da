//! A run under way without its types, for drivers that keep runs.
//!
//! The reason that a driver sees this and no types: `docs/decisions/0009-a-driver-sees-an-execution.md`.

use std::{fmt, sync::Arc};

use futures_util::future::{Either, pending, select};
use serde_json::Value;
use tracing::field::Empty;

use crate::{
    context::{Context, scope::Deadline},
    execution::{BoxFuture, Execution, Journal, RestoreError},
    node::State,
    outcome::Visit,
    visit::Definition,
    words::{
        codec::{Codec, fault::Unstorable},
        error::RunError,
        event::EventKind,
        guard::drop_caught,
        path::{NodePath, Position, RunId},
        pause::{Pause, Paused, Reply},
    },
};

/// A run of a flow that is driven visit by visit; made by [`AsyncFlow::execution`](crate::AsyncFlow::execution).
///
/// # Example
///
/// ```
/// use flowstone_core::{AsyncFlow, RunOptions, driver::{Execution, Visit}};
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
    /// `true` once a visit was made or continued by this process, and not by an earlier one.
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
    /// Makes a run that was kept: at a node, before a visit, with a state.
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
        let answered = self.definition.answer(pause, reply, &mut self.state, &mut self.cx);
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
        let visit = definition.visit_async(at, state, cx);
        // A child is stopped with the visit of its parent. That visit also waits for whatever the child started, since
        // it cannot be told from the work of siblings.
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

/// Awaits a run, or a visit, until it ends, the run's token is cancelled, or its time is over.
pub(crate) async fn until_stopped<T>(
    run: impl Future<Output = Result<T, RunError>>,
    cx: &Context,
) -> Result<T, RunError> {
    let (cancel, deadline) = cx.extras().map_or((None, None), |extras| (extras.cancel.as_ref(), extras.deadline));
    let deadline = deadline.and_then(Deadline::tokio);
    if cancel.is_none() && deadline.is_none() {
        return run.await;
    }
    let cancelled = async {
        match cancel {
            Some(token) => token.cancelled().await,
            None => pending().await,
        }
        RunError::Cancelled { run: cx.run_id(), node: cx.last_node() }
    };
    let late = async {
        let Some((at, limit)) = deadline else { return pending().await };
        tokio::time::sleep_until(at).await;
        RunError::DeadlineExceeded { run: cx.run_id(), node: cx.last_node(), limit }
    };
    // Boxed, so that a run without token and deadline carries no room for them.
    let stopped = select(Box::pin(cancelled), Box::pin(late));
    match select(stopped, Box::pin(run)).await {
        Either::Left((stopped, run)) => {
            drop_caught(run);
            Err(stopped.factor_first().0)
        }
        Either::Right((result, _)) => result,
    }
}

/// The span of a run, by the names that OpenTelemetry's conventions for generative AI give to a workflow.
pub(crate) fn run_span(cx: &Context, flow: &str) -> tracing::Span {
    if !cx.traced() {
        return tracing::Span::none();
    }
    tracing::info_span!(
        target: "flowstone",
        "run",
        "otel.name" = %format_args!("invoke_workflow {flow}"),
        "otel.kind" = "internal",
        "otel.status_code" = Empty,
        "gen_ai.operation.name" = "invoke_workflow",
        "gen_ai.agent.name" = flow,
        "gen_ai.conversation.id" = %cx.run_id(),
        "error.type" = Empty,
    )
}
