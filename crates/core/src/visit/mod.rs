//! A flow without its builder: the checked graph, the nodes' code, and the visit of one node.
//!
//! **Invariant:** a node's code is called through here and nowhere else; every driver comes this way.
//!
//! There is one path, whether somebody watches or not: `docs/decisions/0031-one-engine.md`.

use std::{future::Future, sync::Arc};

use futures_util::FutureExt;
use tracing::{Instrument, Span};

use crate::{
    context::Context,
    execution::BoxFuture,
    graph::{Astray, Graph, Place, Way},
    node::State,
    outcome::{Detour, Outcome, Visit, Visited},
    visit::body::Body,
    words::{
        action::Action,
        error::{Phase, RunError},
        guard::{Catch, catch, made},
        path::Position,
    },
};

pub(crate) mod answer;
pub(crate) mod attempt;
pub(crate) mod batch;
pub(crate) mod body;
pub(crate) mod children;
pub(crate) mod pool;
pub(crate) mod running;

/// A checked graph and the code of its nodes, in the same order.
pub(crate) struct Definition<S> {
    pub(crate) graph: Arc<Graph>,
    pub(crate) slots: Vec<Slot<S>>,
}

/// A node as a visit needs it.
pub(crate) struct Slot<S> {
    pub(crate) body: Body<S>,
    /// Where the node's labels lead, by their indices.
    ways: Box<[Result<Way, Action>]>,
}

/// The way to the next node, or something rarer. Two words, and so returned in registers.
type Went<'d> = Result<&'d Way, Box<Result<Visit, RunError>>>;

impl<S: State> Definition<S> {
    /// Visits one node on this thread: the waist that every driver goes through.
    pub(crate) fn visit(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Visit, RunError> {
        complete(self.go(at, shared, cx))
    }

    /// Visits one node by awaiting it, if it can be awaited.
    pub(crate) fn visit_async<'a>(
        &'a self,
        at: Position,
        shared: &'a mut S,
        cx: &'a mut Context,
    ) -> impl Future<Output = Result<Visit, RunError>> + Send + use<'a, S> {
        self.go_async(at, shared, cx, true)
    }

    /// Visits node after node on this thread, until the run comes to an end or to a pause.
    pub(crate) fn follow(&self, mut at: Position, shared: &mut S, cx: &mut Context) -> Result<Outcome, RunError> {
        loop {
            match self.go(at, shared, cx) {
                Ok(way) => at = way.next,
                Err(rare) => match (*rare)?.or_outcome() {
                    Ok(next) => at = next,
                    Err(outcome) => return Ok(outcome),
                },
            }
        }
    }

    /// Visits node after node by awaiting them.
    pub(crate) fn follow_async<'a>(
        &'a self,
        at: Position,
        shared: &'a mut S,
        cx: &'a mut Context,
    ) -> impl Future<Output = Result<Outcome, RunError>> + Send + use<'a, S> {
        self.go_async(at, shared, cx, false).map(|last| match last?.or_outcome() {
            Err(outcome) => Ok(outcome),
            Ok(_) => unreachable!("invariant: it goes on until the run halts"),
        })
    }

    #[inline]
    fn go(&self, at: Position, shared: &mut S, cx: &mut Context) -> Went<'_> {
        self.begin(at, cx)?;
        let visited = self.call(at, shared, cx);
        self.end(at, visited, cx)
    }

    /// Visits node after node, or `once`, and returns what came of the last visit.
    ///
    /// The loop is in here, since each run would hold another future for its visit otherwise.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` would hold its arguments twice, in every run")]
    fn go_async<'a>(
        &'a self,
        mut at: Position,
        shared: &'a mut S,
        cx: &'a mut Context,
        once: bool,
    ) -> impl Future<Output = Result<Visit, RunError>> + Send + use<'a, S> {
        async move {
            loop {
                if let Err(rare) = self.begin(at, cx) {
                    return *rare;
                }
                let visited = match &self.slots[at.index()].body.awaited {
                    Some(body) => Catch::new(in_span(cx.visit_span(), || body.visit(shared, cx))).await,
                    None => self.call(at, shared, cx),
                };
                at = match self.end(at, visited, cx) {
                    Ok(way) if !once => way.next,
                    Err(rare) => match *rare {
                        Ok(Visit::Next { next, .. }) if !once => next,
                        visit => return visit,
                    },
                    last => return complete(last),
                };
                if cx.gives_way() {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Calls the code of a node on this thread.
    #[inline]
    fn call(&self, at: Position, shared: &mut S, cx: &mut Context) -> Visited {
        let Some(body) = &self.slots[at.index()].body.sync else {
            unreachable!("invariant: a `Flow` has no async nodes")
        };
        let _span = cx.traced().then(|| cx.visit_span().entered());
        catch(|| body.visit(shared, cx))
    }

    /// Counts a visit and tells of it, unless the run is to stop before it.
    ///
    /// The visit of a batch is announced when its items are known, see [`Context::begin_items`].
    #[inline]
    fn begin(&self, at: Position, cx: &mut Context) -> Result<(), Box<Result<Visit, RunError>>> {
        cx.enter(at).map_err(|error| Box::new(Err(error)))?;
        if cx.listening() && !self.is_batch(at) {
            cx.tell_visit().map_err(|error| Box::new(Err(error)))?;
        }
        Ok(())
    }

    /// Finds where a visit leads, and tells how it ended. A visit that waits ends when it is made again, or answered.
    #[inline]
    fn end(&self, at: Position, visited: Visited, cx: &Context) -> Went<'_> {
        let went = match visited {
            Ok(index) => match &self.slots[at.index()].ways[index] {
                Ok(way) => Ok(way),
                Err(action) => Err(Box::new(self.leave(at, action.clone(), cx))),
            },
            Err(detour) => Err(Box::new(self.turn(at, *detour, cx))),
        };
        if cx.listening() {
            cx.tell_end(&went, cx.phase == Phase::Prep && self.is_batch(at));
        }
        went
    }

    #[cold]
    fn turn(&self, at: Position, detour: Detour, cx: &Context) -> Result<Visit, RunError> {
        match detour {
            Detour::NoEdge(action) => self.leave(at, action, cx),
            Detour::Waits(visit) => Ok(visit),
            detour => Err(cx.stopped(detour)),
        }
    }

    /// Follows an action of a node that does not lead to another node of its level, or may not.
    #[cold]
    fn leave(&self, at: Position, action: Action, cx: &Context) -> Result<Visit, RunError> {
        self.graph.follow(Place::Node(at.index()), action).map_err(|astray| match astray {
            Astray::Panicked(panicked) => cx.stopped(*Box::from(panicked)),
            Astray::NoEdge { place, action } => {
                let node = match place {
                    Place::Node(index) => cx.path_of(Position::new(index)),
                    Place::Level(index) => cx.below(&self.graph.levels[index].path),
                };
                let edges = self.graph.edges(place).0.labels().cloned().collect();
                RunError::Unrouted { run: cx.run_id(), node, action, edges }
            }
        })
    }

    fn is_batch(&self, at: Position) -> bool {
        self.graph.nodes[at.index()].about.kind.is_batch()
    }

    pub(crate) fn new(graph: Graph, bodies: Vec<Body<S>>) -> Self {
        let slot = |(at, body)| Slot { body, ways: graph.ways(Position::new(at)) };
        let slots = bodies.into_iter().enumerate().map(slot).collect();
        Self { slots, graph: Arc::new(graph) }
    }

    pub(crate) fn bodies(&self) -> Vec<Body<S>> {
        self.slots.iter().map(|slot| slot.body.clone()).collect()
    }

    /// The node with which a run begins.
    pub(crate) fn start(&self) -> Position {
        self.graph.start()
    }
}

/// Makes a future of the user's, in a span if there is one.
fn in_span<'a>(span: Span, make: impl FnOnce() -> BoxFuture<'a, Visited>) -> BoxFuture<'a, Visited> {
    let future = made(make);
    if span.is_none() { future } else { Box::pin(future.instrument(span)) }
}

/// Completes the result of a visit for a driver outside.
fn complete(went: Went<'_>) -> Result<Visit, RunError> {
    match went {
        Ok(way) => Ok(Visit::Next { action: way.action.clone(), next: way.next }),
        Err(rare) => *rare,
    }
}
