//! A flow without its builder: the checked graph, the nodes' code, and the visit of one node.
//!
//! **Invariant:** a node's code is called through here and nowhere else; every driver comes this way.

use std::{convert::Infallible, future::Future, sync::Arc};

use serde_json::Value;
use tracing::Instrument;

use crate::{
    context::Context,
    driver::RestoreError,
    graph::{Astray, Graph, Hop, Place},
    node::State,
    outcome::{Detour, Halt, Visited, Watched},
    visit::body::Body,
    words::{
        action::Action,
        error::{Phase, RunError},
        event::EventKind,
        guard::{Catch, Panicked, catch},
        path::{NodePath, Position},
        pause::{Pause, Reply},
    },
};

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

/// What a visit needs of a node, in one place.
pub(crate) struct Slot<S> {
    pub(crate) body: Body<S>,
    /// The next node for each label, by its index; `None` where [`Graph::halt`] has to say.
    next: Box<[Option<Position>]>,
}

impl<S: State> Definition<S> {
    pub(crate) fn new(graph: Graph, bodies: Vec<Body<S>>) -> Self {
        let next = |at| graph.next(Position::new(at));
        let slots = bodies.into_iter().enumerate().map(|(at, body)| Slot { body, next: next(at) });
        Self { slots: slots.collect(), graph: Arc::new(graph) }
    }

    pub(crate) fn bodies(&self) -> Vec<Body<S>> {
        self.slots.iter().map(|slot| slot.body.clone()).collect()
    }

    /// The node with which a run begins.
    pub(crate) fn start(&self) -> Position {
        self.graph.start()
    }

    /// Visits one node, and says which is next: the waist that every driver goes through.
    #[inline]
    pub(crate) fn visit(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Position, Box<Halt>> {
        cx.enter(at)?;
        if cx.watched() {
            return self.watched(at, shared, cx).1;
        }
        let slot = &self.slots[at.index()];
        let visited = slot.call(shared, cx);
        self.route(slot, at, visited, cx)
    }

    /// Where what came of a visit leads.
    #[inline]
    fn route(&self, slot: &Slot<S>, at: Position, visited: Visited, cx: &Context) -> Result<Position, Box<Halt>> {
        match visited {
            Ok(index) => match slot.next[index] {
                Some(next) => Ok(next),
                None => self.halt(at, Ok(index), cx),
            },
            Err(detour) => self.halt(at, Err(detour), cx),
        }
    }

    /// Where anything leads that is not simply the next node: an end, a failure, a pause.
    #[cold]
    fn halt(&self, at: Position, visited: Visited, cx: &Context) -> Result<Position, Box<Halt>> {
        let action = match visited {
            Ok(index) => self.graph.label(at, index),
            Err(detour) => match *detour {
                Detour::NoEdge(action) => action,
                detour => return Err(cx.halt(detour)),
            },
        };
        match self.graph.follow(Place::Node(at.index()), action) {
            Ok(Hop::To(next)) => Ok(next),
            Ok(Hop::End(exit)) => Err(Box::new(Halt::Ended(exit))),
            Err(Astray::NoEdge { place, action }) => Err(Box::new(Halt::Failed(self.unrouted(place, action, cx)))),
            Err(Astray::Panicked(panicked)) => Err(cx.halt(*Box::<Detour>::from(panicked))),
        }
    }

    fn unrouted(&self, place: Place, action: Action, cx: &Context) -> RunError {
        let node = match place {
            Place::Node(index) => cx.path_of(Position::new(index)),
            Place::Level(index) => cx.below(&self.graph.levels[index].path),
        };
        let edges = self.graph.edges(place).0.labels().cloned().collect();
        RunError::Unrouted { run: cx.run_id(), node, action, edges }
    }

    #[cold]
    pub(crate) fn watched(&self, at: Position, shared: &mut S, cx: &mut Context) -> Watched {
        let _span = match self.begin(at, cx) {
            Ok(span) => span.entered(),
            Err(halt) => return (None, Err(halt)),
        };
        let visited = self.slots[at.index()].call(shared, cx);
        self.end(at, visited, cx)
    }

    /// The async twin of [`visit`](Self::visit), for visit after visit until the run halts.
    ///
    /// The loop is inside, since a future for each visit inside one for the run would cost a quarter more.
    ///
    /// No `async fn`, which would hold its arguments twice, in every run.
    pub(crate) fn visit_all<'a>(
        &'a self,
        mut at: Position,
        shared: &'a mut S,
        cx: &'a mut Context,
    ) -> impl Future<Output = Result<Infallible, Box<Halt>>> + Send + 'a {
        /// After so many visits a run lets others run, if its nodes never wait: rarely enough to cost nothing.
        const IN_A_ROW: u64 = 256;

        async move {
            loop {
                cx.enter(at)?;
                if cx.watched() {
                    at = Box::pin(self.watched_async(at, shared, cx)).await.1?;
                    tokio::task::yield_now().await; // for whoever listens
                    continue;
                }
                let slot = &self.slots[at.index()];
                let visited = match &slot.body.awaited {
                    Some(body) => Catch::made(|| body.visit(shared, cx)).await,
                    None => slot.call(shared, cx),
                };
                at = self.route(slot, at, visited, cx)?;
                if cx.visit() % IN_A_ROW == IN_A_ROW - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    pub(crate) async fn watched_async(&self, at: Position, shared: &mut S, cx: &mut Context) -> Watched {
        let Some(body) = &self.slots[at.index()].body.awaited else { return self.watched(at, shared, cx) };
        let span = match self.begin(at, cx) {
            Ok(span) => span,
            Err(halt) => return (None, Err(halt)),
        };
        let visited = Catch::made(|| body.visit(shared, cx)).instrument(span).await;
        self.end(at, visited, cx)
    }

    /// Says whether an answer fits the question of a node, without giving it.
    pub(crate) fn fits(&self, at: Position, answer: &Value) -> Result<(), serde_json::Error> {
        let fits = || self.slots.get(at.index()).and_then(|slot| slot.body.sync.as_ref()?.fits(answer));
        match Panicked::catch(fits) {
            Ok(Some(fits)) => fits,
            Ok(None) => Err(serde::de::Error::custom("this node asks nothing")),
            Err(panicked) => Err(serde::de::Error::custom(format_args!("the decoder of the answer {panicked}"))),
        }
    }

    /// Says whether an answer fits the question of a node, which may be one of a child.
    pub(crate) fn fits_at(&self, path: &NodePath, answer: &Value) -> Result<(), serde_json::Error> {
        if let Some(at) = self.graph.position(path.as_str()) {
            return self.fits(at, answer);
        }
        let inside = path.into_child().find_map(|(outer, _, inner)| {
            let body = &self.slots[self.graph.position(outer.as_str())?.index()].body;
            let sync = || body.sync.as_ref()?.fits_inside(&inner, answer);
            body.awaited.as_ref().and_then(|body| body.fits_inside(&inner, answer)).or_else(sync)
        });
        let flow = self.graph.name();
        inside.unwrap_or_else(|| Err(serde::de::Error::custom(format!("flow `{flow}` has no such node any more"))))
    }

    /// Says whether a child that is kept, given by the path of its node, could go on with a state; `None` if there is no node
    /// that could have such a child. One of an `exec` is known only when it is called for.
    pub(crate) fn takes_inside(&self, path: &NodePath, state: &[u8]) -> Option<Result<(), RestoreError>> {
        let mut unknown = None;
        let known = path.into_child().find_map(|(outer, _, inner)| {
            let body = &self.slots[self.graph.position(outer.as_str())?.index()].body;
            unknown = Some(Ok(()));
            body.awaited.as_ref()?.takes_inside(&inner, state)
        });
        known.or(unknown)
    }

    /// Goes on with a visit that ended in a pause.
    pub(crate) fn answer(&self, pause: Pause, reply: Reply, shared: &mut S, cx: &mut Context) -> Watched {
        let fail = |error| (None, Err(Box::new(Halt::Failed(error))));
        let at = pause.position();
        let asks = self.graph.name() == pause.0.run.flow
            && self.graph.nodes.get(at.index()).is_some_and(|node| cx.below(&node.path) == *pause.node());
        let Some(body) = self.slots.get(at.index()).and_then(|slot| slot.body.sync.as_ref()).filter(|_| asks) else {
            let run = cx.run_id();
            return fail(RunError::NoSuchPause { run, flow: self.graph.name().to_owned(), pause });
        };
        // The context may be a new one, of another process: keys, events and errors are those of the visit that asked.
        cx.take_over(&pause.0.run);
        if let Err(detour) = cx.check_fault().and_then(|()| cx.check()) {
            return (None, Err(cx.halt(*detour)));
        }
        if matches!(reply, Reply::Expired) {
            cx.event(|| EventKind::Expired);
        }
        let run = cx.run_id();
        let answered = Panicked::catch(|| body.answer(shared, reply, cx));
        match answered {
            Err(panicked) => self.end(at, Err(panicked.into()), cx),
            Ok(Some(Ok(visited))) => self.end(at, visited, cx),
            Ok(Some(Err(source))) => fail(RunError::Answer { run, pause, source }),
            Ok(None) => fail(RunError::NoSuchPause { run, flow: self.graph.name().to_owned(), pause }),
        }
    }

    /// Begins a watched visit, unless whoever watches it has panicked: nothing is done yet.
    ///
    /// That of a batch is told of when its items are known, see [`Context::begin_items`].
    fn begin(&self, at: Position, cx: &Context) -> Result<tracing::Span, Box<Halt>> {
        if !self.is_batch(at) {
            cx.event(|| EventKind::VisitStarted { items: None });
        }
        cx.check_fault().map_err(|detour| cx.halt(*detour))?;
        if !cx.traced() {
            return Ok(tracing::Span::none());
        }
        // Signed, since what exports spans takes other numbers for text.
        Ok(tracing::info_span!(target: "flowstone", "visit", node = %cx.node(), visit = cx.visit().cast_signed()))
    }

    fn is_batch(&self, at: Position) -> bool {
        self.graph.nodes[at.index()].about.kind.is_batch()
    }

    /// Ends a watched visit; one that pauses ends when it is answered.
    pub(crate) fn end(&self, at: Position, visited: Visited, cx: &Context) -> Watched {
        let action = self.graph.action(at, &visited);
        let routed = self.route(&self.slots[at.index()], at, visited, cx);
        match (&routed, &action) {
            (Err(halt), _) if let Halt::Failed(error) = &**halt => {
                if cx.phase == Phase::Prep && self.is_batch(at) {
                    // Its items are not known, and so it was not told of yet.
                    cx.event(|| EventKind::VisitStarted { items: None });
                }
                cx.event(|| EventKind::VisitFailed { error: error.report() });
            }
            (_, Some(action)) => cx.event(|| EventKind::VisitEnded { action: action.clone() }),
            (_, None) => {}
        }
        (action, routed)
    }
}

impl<S> Slot<S> {
    /// Visits the node on this thread.
    #[inline]
    pub(crate) fn call(&self, shared: &mut S, cx: &mut Context) -> Visited {
        let Some(body) = &self.body.sync else { unreachable!("invariant: a `Flow` has no async nodes") };
        catch(|| body.visit(shared, cx))
    }
}
