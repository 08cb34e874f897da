//! Flows: [`Flow`] and [`AsyncFlow`], and the one way through a node, [`Flow::visit`].
//!
//! ```text
//! Builder ── build() ─▶ Flow ── visit(position, &mut S, cx) ─▶ Visit { next | end | pause }
//! ```
//!
//! **Invariant:** a flow that exists is right: `build()` has checked every edge and every name.

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::Serialize;

use crate::{
    context::Context,
    define::{
        add::{AsyncKind, Kind, SyncKind},
        build::Builder,
        fault::BuildError,
        nest::{BatchFlow, IsSelf, On, Within},
        step::IntoAction,
    },
    drive::options::RunOptions,
    graph::{ExitMap, Graph},
    node::State,
    outcome::Visit,
    policy::OnError,
    visit::{Definition, children::Child},
    words::{
        action::{Action, Label},
        error::{Result, RunError},
        path::{NodePath, Position},
        pause::{Pause, Reply},
    },
};

/// A flow of sync nodes, which runs on the caller's thread and needs no runtime.
///
/// It is immutable and cheap to clone; one built flow runs any number of times at once. `X` is the type of its exits,
/// which is its action type as a node of another flow: [`Action`] unless [`map_exit`](Self::map_exit) made it another.
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
/// Apart from the kinds of node it is the same as [`Flow`].
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

macro_rules! flow {
    ($flow:ident, $kind:ident) => {
        impl<S: State> $flow<S> {
            /// Begins the definition of a flow.
            pub fn builder(name: impl Into<String>) -> Builder<S, $kind> {
                Builder::new(name.into())
            }
        }

        impl<S: State, X: Label> $flow<S, X> {
            const SYNC: bool = <$kind as Kind>::SYNC;

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
            pub fn path(&self, at: Position) -> &NodePath {
                self.definition.graph.path(at)
            }

            /// Returns the position of the node with this path, if there is one.
            #[must_use]
            pub fn position(&self, path: &str) -> Option<Position> {
                self.definition.graph.position(path)
            }

            /// Returns the path of the first node that asks. Runs of a flow without one never pause.
            #[must_use]
            pub fn asks(&self) -> Option<&NodePath> {
                self.definition.graph.asks()
            }

            /// Returns a context for a run that a driver makes by calling [`visit`](Self::visit) itself.
            ///
            /// A driver of its own has to watch the deadline of an async visit and its cancellation while it waits. The
            /// engine looks at them before each visit and item.
            #[must_use]
            pub fn context(&self, options: &RunOptions) -> Context {
                Context::of_run(&self.definition.graph, options.extras(None, Self::SYNC))
            }

            /// Goes on with a visit that ended in [`Visit::Pause`], with the answer.
            ///
            /// For drivers; [`resume`](Self::resume) does this and all that follows. `cx` is the context of the run.
            ///
            /// # Errors
            ///
            /// [`RunError::Answer`] if the answer does not fit, with the pause to try again; and those of
            /// [`visit`](Self::visit).
            pub fn answer(
                &self,
                pause: Pause,
                answer: impl Serialize,
                shared: &mut S,
                cx: &mut Context,
            ) -> Result<Visit, RunError> {
                self.definition.answer(pause, Reply::answer(answer), shared, cx)
            }

            /// Checks whether an answer fits the question of a node, given by its path, as [`fits`](Self::fits) does.
            /// The node may be one of a child: `review[3]/approve`.
            ///
            /// # Errors
            ///
            /// Those of [`fits`](Self::fits), and if there is no such node.
            pub fn fits_at(
                &self,
                node: &NodePath,
                answer: &serde_json::Value,
            ) -> std::result::Result<(), serde_json::Error> {
                self.definition.fits_at(node, answer)
            }

            /// Checks whether an answer fits the question of a node, without giving it: for a program that takes an
            /// answer in before the run goes on.
            ///
            /// # Errors
            ///
            /// The part that does not fit, with its place in the JSON; or that the node asks nothing.
            pub fn fits(&self, at: Position, answer: &serde_json::Value) -> std::result::Result<(), serde_json::Error> {
                self.definition.fits(at, answer)
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

            /// Gives the exits of this flow other names: the flow ends with the action that `map` makes of its last
            /// action.
            ///
            /// `map` is a function of the action alone: it is called when a flow is built, for the exits that are known
            /// then, and when a run leaves this flow.
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

            /// Makes a node of this flow for a flow over a larger state, of which `pick` gives it a part.
            ///
            /// Unlike with [`on`](Self::on), two flows over the same type of part can be in one flow. `pick` is called
            /// when a node of this flow is visited, and again when it is answered: it must give the same part every
            /// time.
            ///
            /// # Example
            ///
            /// ```
            /// use flowstone_core::Flow;
            ///
            /// #[derive(Default)]
            /// struct Team {
            ///     writer: Vec<String>,
            ///     editor: Vec<String>,
            /// }
            ///
            /// let mut work = Flow::builder("work");
            /// let say = work.add("say", |said: &mut Vec<String>| said.push(format!("draft {}", said.len() + 1)));
            /// work.start(say);
            /// let work = work.build()?;
            ///
            /// let mut flow = Flow::builder("team");
            /// let writer = flow.add("writer", work.clone().within(|team: &mut Team| &mut team.writer));
            /// let editor = flow.add("editor", work.within(|team: &mut Team| &mut team.editor));
            /// flow.start(writer);
            /// flow.route(writer >> editor);
            ///
            /// let mut team = Team { writer: vec!["outline".into()], ..Team::default() };
            /// flow.build()?.run(&mut team)?;
            /// assert_eq!((team.writer, team.editor), (vec!["outline".into(), "draft 2".into()], vec!["draft 1".to_owned()]));
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[must_use]
            pub fn within<P, F>(self, pick: F) -> Within<P, Self, F>
            where
                P: State,
                F: for<'a> Fn(&'a mut P) -> &'a mut S + Send + Sync + 'static,
            {
                Within::new(self, pick)
            }

            /// Makes a node that runs this flow once for each state that `fork` gives.
            ///
            /// The children own their states. `join` gets the states back in input order, and returns the node's
            /// action. A child that fails ends the run; see [`batch_collect`](Self::batch_collect).
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

/// A flow of sync nodes as an async one: each `exec` then runs on the blocking pool, unless its node is
/// [`inline`](crate::NodeExt::inline).
impl<S: State, X: Label> From<Flow<S, X>> for AsyncFlow<S, X> {
    fn from(flow: Flow<S, X>) -> Self {
        let graph = Graph { sync: false, ..(*flow.definition.graph).clone() };
        Self::new(Definition::new(graph, flow.definition.bodies()))
    }
}

impl<S: State> Builder<S, SyncKind> {
    /// Checks the flow and makes it.
    ///
    /// # Errors
    ///
    /// Every [`Fault`](crate::Fault) at once, each naming its node.
    pub fn build(self) -> Result<Flow<S>, BuildError> {
        self.finish(true).map(Flow::new)
    }
}

impl<S: State> Builder<S, AsyncKind> {
    /// Checks the flow and makes it.
    ///
    /// # Errors
    ///
    /// Every [`Fault`](crate::Fault) at once, each naming its node.
    pub fn build(self) -> Result<AsyncFlow<S>, BuildError> {
        self.finish(false).map(AsyncFlow::new)
    }
}
