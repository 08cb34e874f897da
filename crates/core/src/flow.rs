//! Flows: [`Flow`] and [`AsyncFlow`], and the one way through a node, [`Flow::visit`].
//!
//! ```text
//! Builder ── build() ─▶ Flow ── visit(position, &mut S, cx) ─▶ Visit { next | end | pause }
//! ```
//!
//! **Invariant:** a flow that exists is right: `build()` has checked every edge and every name.

use std::{fmt, future::Future, marker::PhantomData, sync::Arc};

use tracing::Instrument;

use crate::{
    action::{Action, Label},
    add::{AsyncKind, SyncKind},
    ask::Pause,
    build::Builder,
    children::Child,
    context::Context,
    error::{Result, RunError, Visited},
    event::{EventKind, with_causes},
    graph::{ExitMap, Graph},
    nest::{BatchFlow, IsSelf, On},
    node::{OnError, State},
    step::IntoAction,
    visit::{AsyncBody, Catch, SyncBody, catch},
};

/// A flow of sync nodes, which runs on the caller's thread and needs no runtime.
///
/// It is immutable and cheap to clone; one built flow runs any number of times at once. `X` is the type of its exits,
/// that is of its action as a node of another flow: [`Action`] unless [`map_exit`](Self::map_exit) made it another.
///
/// # Example
///
/// ```
/// use flowstone_core::{Flow, Outcome};
///
/// let mut flow = Flow::builder("sum");
/// let add = flow.add("add", |n: &mut u32| *n += 1);
/// let double = flow.add("double", |n: &mut u32| *n *= 2);
/// flow.start(add);
/// flow.route(add >> double);
/// let flow = flow.build()?;
///
/// let mut n = 20;
/// assert!(matches!(flow.run(&mut n)?, Outcome::Ended(action) if action == "default"));
/// assert_eq!(n, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Flow<S, X = Action> {
    pub(crate) definition: Arc<Definition<S>>,
    exits: PhantomData<fn() -> X>,
}

/// A flow of sync and async nodes, which runs as a future on a tokio runtime.
///
/// Beside the kinds of node it is as [`Flow`] is.
///
/// # Example
///
/// ```
/// use flowstone_core::{AsyncFlow, step};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut flow = AsyncFlow::builder("greet");
/// let fetch = flow.add("fetch", step(
///     |name: &String| name.clone(),
///     |name: String| async move { Ok(format!("hello {name}")) },
///     |state: &mut String, _name, text: String| *state = text,
/// ));
/// flow.start(fetch);
///
/// let mut state = "Ann".to_owned();
/// flow.build()?.run_async(&mut state).await?;
/// assert_eq!(state, "hello Ann");
/// # Ok(())
/// # }
/// ```
pub struct AsyncFlow<S, X = Action> {
    pub(crate) definition: Arc<Definition<S>>,
    exits: PhantomData<fn() -> X>,
}

/// A node of a built flow, as a number: for drivers, while the process lives. Store the [path](Flow::path) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(u32);

impl Position {
    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("invariant: a graph has fewer than 2^32 nodes"))
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What came of one visit.
#[derive(Debug)]
pub enum Visit {
    /// The run goes on with this node.
    Next(Position),
    /// The run is at its end, with this last action.
    End(Action),
    /// The run waits for an answer.
    Pause(Pause),
}

/// Why a run does not go on. Boxed, so that what a visit returns fits two registers.
#[derive(Debug)]
pub(crate) enum Halt {
    Ended(Action),
    Paused(Pause),
    Failed(RunError),
}

impl Visit {
    fn of(visited: Result<Position, Box<Halt>>) -> Result<Self, RunError> {
        visited.map_or_else(
            |halt| match *halt {
                Halt::Ended(exit) => Ok(Self::End(exit)),
                Halt::Paused(pause) => Ok(Self::Pause(pause)),
                Halt::Failed(error) => Err(error),
            },
            |next| Ok(Self::Next(next)),
        )
    }
}

/// A checked graph and the code of its nodes, in the same order.
pub(crate) struct Definition<S> {
    pub(crate) graph: Arc<Graph>,
    pub(crate) slots: Vec<Slot<S>>,
}

/// What a visit needs of a node, in one place.
pub(crate) struct Slot<S> {
    pub(crate) body: Body<S>,
    /// The next node for each label, by its index; `None` where the run ends.
    next: Box<[Option<Position>]>,
}

/// The code of a node, without its types. At least one half is there.
pub(crate) struct Body<S> {
    /// Runs on the thread of the run.
    pub(crate) sync: Option<Box<dyn SyncBody<S>>>,
    /// Awaits; what an async flow prefers.
    pub(crate) awaited: Option<Box<dyn AsyncBody<S>>>,
}

impl<S> Body<S> {
    /// A node that runs on the thread of the run in both kinds of flow.
    pub(crate) fn sync(body: impl SyncBody<S> + 'static) -> Self {
        Self { sync: Some(Box::new(body)), awaited: None }
    }

    /// An async node.
    pub(crate) fn awaited(body: impl AsyncBody<S> + 'static) -> Self {
        Self { sync: None, awaited: Some(Box::new(body)) }
    }

    /// A sync node whose `exec` leaves the thread in an async flow.
    pub(crate) fn either(sync: impl SyncBody<S> + 'static, awaited: impl AsyncBody<S> + 'static) -> Self {
        Self { sync: Some(Box::new(sync)), awaited: Some(Box::new(awaited)) }
    }
}

impl<S> Clone for Body<S> {
    fn clone(&self) -> Self {
        Self {
            sync: self.sync.as_ref().map(|body| body.share()),
            awaited: self.awaited.as_ref().map(|body| body.share()),
        }
    }
}

impl<S: State> Definition<S> {
    pub(crate) fn new(mut graph: Graph, bodies: Vec<Body<S>>) -> Self {
        graph.compile();
        let slots = bodies.into_iter().enumerate().map(|(at, body)| Slot { body, next: graph.next(at) });
        Self { slots: slots.collect(), graph: Arc::new(graph) }
    }

    pub(crate) fn bodies(&self) -> Vec<Body<S>> {
        self.slots.iter().map(|slot| slot.body.clone()).collect()
    }

    /// The node with which a run begins.
    pub(crate) fn start(&self) -> Position {
        self.graph.first(self.graph.levels[0].start)
    }

    /// Visits one node, and says which is next: the waist that every driver goes through.
    #[inline]
    pub(crate) fn visit(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Position, Box<Halt>> {
        cx.enter(at)?;
        if cx.watched() {
            return self.watched(at, shared, cx);
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
                None => self.graph.halt(at, Ok(index), cx),
            },
            Err(detour) => self.graph.halt(at, Err(detour), cx),
        }
    }

    #[cold]
    fn watched(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Position, Box<Halt>> {
        let _span = Self::begin(cx).entered();
        let visited = self.slots[at.index()].call(shared, cx);
        self.end(at, visited, cx)
    }

    /// The async twin of [`visit`](Self::visit), for up to `most` visits in a row; gives the node after them.
    ///
    /// A loop, since a future for each visit inside one for the run would cost a quarter more.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` would hold its arguments twice, in every run")]
    pub(crate) fn visit_async<'a>(
        &'a self,
        mut at: Position,
        shared: &'a mut S,
        cx: &'a mut Context,
        mut most: u64,
    ) -> impl Future<Output = Result<Position, Box<Halt>>> + Send + 'a {
        /// After so many visits a run lets others run, if its nodes never wait: rarely enough to cost nothing.
        const IN_A_ROW: u64 = 256;

        async move {
            while most > 0 {
                most -= 1;
                cx.enter(at)?;
                if cx.watched() {
                    at = Box::pin(self.watched_async(at, shared, cx)).await?;
                    continue;
                }
                let slot = &self.slots[at.index()];
                let visited = match &slot.body.awaited {
                    Some(body) => Catch::new(body.visit(shared, cx)).await,
                    None => slot.call(shared, cx),
                };
                at = self.route(slot, at, visited, cx)?;
                if most % IN_A_ROW == IN_A_ROW - 1 {
                    tokio::task::yield_now().await;
                }
            }
            Ok(at)
        }
    }

    async fn watched_async(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Position, Box<Halt>> {
        let Some(body) = &self.slots[at.index()].body.awaited else { return self.watched(at, shared, cx) };
        let span = Self::begin(cx);
        let visited = Catch::new(body.visit(shared, cx).instrument(span)).await;
        self.end(at, visited, cx)
    }

    fn begin(cx: &Context) -> tracing::Span {
        cx.event(|| EventKind::VisitStarted);
        if !cx.traced() {
            return tracing::Span::none();
        }
        tracing::info_span!(target: "flowstone", "visit", node = %cx.node(), visit = cx.visit())
    }

    /// Ends a watched visit; one that pauses ends when it is answered.
    pub(crate) fn end(&self, at: Position, visited: Visited, cx: &Context) -> Result<Position, Box<Halt>> {
        let action = self.graph.action(at, &visited);
        let routed = self.route(&self.slots[at.index()], at, visited, cx);
        match (&routed, action) {
            (Err(halt), _) if let Halt::Failed(error) = &**halt => {
                cx.event(|| EventKind::VisitFailed { error: with_causes(error) });
            }
            (_, Some(action)) => cx.event(|| EventKind::VisitEnded { action }),
            (_, None) => {}
        }
        routed
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

macro_rules! flow {
    ($flow:ident, $kind:ident) => {
        impl<S: State> $flow<S> {
            /// Begins the definition of a flow.
            pub fn builder(name: impl Into<String>) -> Builder<S, $kind> {
                Builder::new(name.into())
            }
        }

        impl<S: State, X: Label> $flow<S, X> {
            pub(crate) fn new(definition: Definition<S>) -> Self {
                Self { definition: Arc::new(definition), exits: PhantomData }
            }

            /// Returns the flow's name.
            #[must_use]
            pub fn name(&self) -> &str {
                self.definition.graph.name()
            }

            /// Returns the position of the first node.
            #[must_use]
            pub fn start(&self) -> Position {
                self.definition.start()
            }

            /// Returns the path of a node.
            ///
            /// # Panics
            ///
            /// If the position is of another, larger flow.
            #[must_use]
            pub fn path(&self, at: Position) -> &crate::NodePath {
                self.definition.graph.path(at)
            }

            /// Returns the position of the node with this path, if there is one.
            #[must_use]
            pub fn position(&self, path: &str) -> Option<Position> {
                self.definition.graph.nodes.iter().position(|node| node.path == *path).map(Position::new)
            }

            /// Returns a context for a run that a driver makes by calling [`visit`](Self::visit) itself.
            #[must_use]
            pub fn context(&self) -> Context {
                Context::of_run(&self.definition.graph)
            }

            /// Draws the flow as a Mermaid flowchart.
            #[must_use]
            pub fn to_mermaid(&self) -> String {
                self.definition.graph.to_mermaid()
            }

            /// Draws the flow in Graphviz's DOT language, nested flows as clusters.
            #[must_use]
            pub fn to_dot(&self) -> String {
                self.definition.graph.to_dot()
            }

            /// Describes the flow as JSON, for tools: nodes with kind, labels and policy, edges, nested flows.
            #[must_use]
            pub fn to_json(&self) -> serde_json::Value {
                self.definition.graph.to_json()
            }

            /// Names the exits of this flow anew: what it ends with is what `map` makes of its last action.
            ///
            /// `map` is a function of the action alone. It is called for every exit that is known when a flow is built,
            /// and during a run for the others.
            #[must_use]
            pub fn map_exit<A: Label>(self, map: impl Fn(&Action) -> A + Send + Sync + 'static) -> $flow<S, A> {
                let mut graph = (*self.definition.graph).clone();
                let before = graph.levels[0].exits.take();
                graph.levels[0].exits = Some(ExitMap {
                    labels: A::NAMES,
                    map: Arc::new(move |exit| match &before {
                        Some(before) => map(&(before.map)(exit)).action(),
                        None => map(exit).action(),
                    }),
                });
                $flow::new(Definition::new(graph, self.definition.bodies()))
            }

            /// Makes a node of this flow for a flow over a larger state, of which `T` is a part.
            ///
            /// `T` is this flow's own state; naming it is for the reader.
            #[must_use]
            pub fn on<T>(self) -> On<Self>
            where
                S: IsSelf<T>,
            {
                On(self)
            }

            /// Makes a node that runs this flow once for each state that `fork` gives.
            ///
            /// The children own their states. `join` gets them back in input order, and returns the node's action. A
            /// child that fails ends the run; see [`batch_collect`](Self::batch_collect).
            #[must_use]
            pub fn batch<P, F, J, R>(self, fork: F, join: J) -> BatchFlow<P, S, R::Action, $kind>
            where
                P: State,
                F: Fn(&P) -> Vec<S> + Send + Sync + 'static,
                J: Fn(&mut P, Vec<S>) -> R + Send + Sync + 'static,
                R: IntoAction,
            {
                let states = |ended: Vec<Child<S>>| ended.into_iter().map(|child| child.state).collect();
                let join = move |parent: &mut P, ended| join(parent, states(ended));
                BatchFlow::new(&self.definition, fork, join, OnError::Stop)
            }

            /// Makes a node that runs this flow once for each state that `fork` gives, and joins failed children, too.
            #[must_use]
            pub fn batch_collect<P, F, J, R>(self, fork: F, join: J) -> BatchFlow<P, S, R::Action, $kind>
            where
                P: State,
                F: Fn(&P) -> Vec<S> + Send + Sync + 'static,
                J: Fn(&mut P, Vec<Child<S>>) -> R + Send + Sync + 'static,
                R: IntoAction,
            {
                BatchFlow::new(&self.definition, fork, join, OnError::Collect)
            }
        }

        impl<S, X> Clone for $flow<S, X> {
            fn clone(&self) -> Self {
                Self { definition: Arc::clone(&self.definition), exits: PhantomData }
            }
        }

        impl<S, X> fmt::Debug for $flow<S, X> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let graph = &self.definition.graph;
                let nodes = graph.nodes.iter().map(|node| &node.path).collect::<Vec<_>>();
                f.debug_struct(stringify!($flow)).field("name", &graph.name()).field("nodes", &nodes).finish()
            }
        }
    };
}

flow!(Flow, SyncKind);
flow!(AsyncFlow, AsyncKind);

impl<S: State, X: Label> Flow<S, X> {
    /// Visits one node: `prep`, `exec` with its retries, `post`; and tells where the action leads.
    ///
    /// This is what every driver is a loop over. `cx` comes from [`context`](Self::context), the same one for a whole
    /// run.
    ///
    /// # Errors
    ///
    /// When the node fails for good, or its action is routed nowhere.
    pub fn visit(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Visit, RunError> {
        Visit::of(self.definition.visit(at, shared, cx))
    }
}

impl<S: State, X: Label> AsyncFlow<S, X> {
    /// Visits one node: `prep`, `exec` with its retries, `post`; and tells where the action leads.
    ///
    /// # Errors
    ///
    /// When the node fails for good, or its action is routed nowhere.
    ///
    /// # Cancel safety
    ///
    /// A dropped visit leaves in the state what `post` wrote until then, which is nothing before `post` began.
    pub async fn visit(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Visit, RunError> {
        Visit::of(self.definition.visit_async(at, shared, cx, 1).await)
    }
}
