//! Flows: [`Flow`] and [`AsyncFlow`], and the one way through a node, [`Flow::visit`].
//!
//! ```text
//! Builder ── build() ─▶ Flow ── visit(position, &mut S, cx) ─▶ Visit { next | end | pause }
//! ```
//!
//! **Invariant:** a flow that exists is right: `build()` has checked every edge and every name.

use std::{fmt, marker::PhantomData, sync::Arc};

use tracing::Instrument;

use crate::{
    action::{Action, Label, Returned},
    add::{AsyncKind, SyncKind},
    ask::{AskBody, Pause},
    build::Builder,
    children::Child,
    context::Context,
    error::{Result, RunError},
    event::{EventKind, with_causes},
    graph::{ExitMap, Graph},
    nest::{BatchFlow, IsSelf, On},
    node::{OnError, State},
    step::IntoAction,
    visit::{AsyncBody, SyncBody},
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
    /// The run goes on.
    Next {
        /// What the node returned.
        action: Action,
        /// The node to visit next.
        next: Position,
    },
    /// The run is at its end.
    End {
        /// What the node returned.
        action: Action,
        /// The run's last action: that of the node, as the flows around it mapped it.
        exit: Action,
    },
    /// The run waits for an answer.
    Pause(Box<Pause>),
}

/// A checked graph and the code of its nodes, in the same order.
pub(crate) struct Definition<S> {
    pub(crate) graph: Arc<Graph>,
    pub(crate) bodies: Vec<Body<S>>,
}

/// The code of a node, without its types.
pub(crate) enum Body<S> {
    /// Runs on the thread of the run, in both kinds of flow.
    Sync(Arc<dyn SyncBody<S>>),
    Async(Arc<dyn AsyncBody<S>>),
    /// A sync node: in an async flow its `exec` leaves the thread.
    Either(Arc<dyn SyncBody<S>>, Arc<dyn AsyncBody<S>>),
    Ask(Arc<dyn AskBody<S>>),
}

impl<S> Clone for Body<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Sync(body) => Self::Sync(Arc::clone(body)),
            Self::Async(body) => Self::Async(Arc::clone(body)),
            Self::Either(sync, pooled) => Self::Either(Arc::clone(sync), Arc::clone(pooled)),
            Self::Ask(body) => Self::Ask(Arc::clone(body)),
        }
    }
}

impl<S: State> Definition<S> {
    /// The node with which a run begins.
    pub(crate) fn start(&self) -> Position {
        self.graph.first(self.graph.levels[0].start)
    }

    /// Visits one node: the waist that every driver goes through.
    #[inline]
    pub(crate) fn visit(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Visit, RunError> {
        cx.enter(at)?;
        if cx.watched() {
            return self.watched(at, shared, cx);
        }
        self.bare(at, shared, cx)
    }

    #[inline]
    fn bare(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Visit, RunError> {
        let returned = match &self.bodies[at.index()] {
            Body::Sync(body) | Body::Either(body, _) => body.visit(shared, cx),
            Body::Ask(body) => return self.pause(&**body, at, shared, cx),
            Body::Async(_) => unreachable!("invariant: a `Flow` has no async nodes"),
        };
        self.settle(at, returned, cx)
    }

    #[cold]
    fn watched(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Visit, RunError> {
        let _span = self.begin(cx).entered();
        let visit = self.bare(at, shared, cx);
        Self::end(cx, &visit);
        visit
    }

    /// The async twin of [`visit`](Self::visit).
    #[inline]
    pub(crate) async fn visit_async(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Visit, RunError> {
        cx.enter(at)?;
        let body = match &self.bodies[at.index()] {
            Body::Async(body) | Body::Either(_, body) => body,
            Body::Sync(_) | Body::Ask(_) if cx.watched() => return self.watched(at, shared, cx),
            Body::Sync(_) | Body::Ask(_) => return self.bare(at, shared, cx),
        };
        if cx.watched() {
            let span = self.begin(cx);
            let returned = Box::pin(body.visit(shared, cx).instrument(span)).await;
            let visit = self.settle(at, returned, cx);
            Self::end(cx, &visit);
            return visit;
        }
        let returned = body.visit(shared, cx).await;
        self.settle(at, returned, cx)
    }

    #[inline]
    fn settle(
        &self,
        at: Position,
        returned: Result<Returned, crate::error::Failure>,
        cx: &Context,
    ) -> Result<Visit, RunError> {
        match returned {
            Ok(returned) => self.graph.route(at, returned, cx),
            Err(failure) => Err(cx.error(failure)),
        }
    }

    fn pause(&self, body: &dyn AskBody<S>, at: Position, shared: &S, cx: &Context) -> Result<Visit, RunError> {
        let (question, schema) = body.ask(shared).map_err(|failure| cx.error(failure))?;
        let pause = Pause { position: at, node: cx.node(), question, schema, cx: cx.clone() };
        Ok(Visit::Pause(Box::new(pause)))
    }

    fn begin(&self, cx: &Context) -> tracing::Span {
        cx.event(|| EventKind::VisitStarted);
        if !cx.traced() {
            return tracing::Span::none();
        }
        tracing::info_span!(target: "flowstone", "visit", node = %cx.node(), visit = cx.visit())
    }

    /// Tells how a visit ended; one that pauses ends when it is answered.
    pub(crate) fn end(cx: &Context, visit: &Result<Visit, RunError>) {
        match visit {
            Ok(Visit::Next { action, .. } | Visit::End { action, .. }) => {
                cx.event(|| EventKind::VisitEnded { action: action.clone() });
            }
            Ok(Visit::Pause(_)) => {}
            Err(error) => cx.event(|| EventKind::VisitFailed { error: with_causes(error) }),
        }
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
                graph.compile();
                let bodies = self.definition.bodies.clone();
                $flow::new(Definition { graph: Arc::new(graph), bodies })
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
        self.definition.visit(at, shared, cx)
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
        self.definition.visit_async(at, shared, cx).await
    }
}
