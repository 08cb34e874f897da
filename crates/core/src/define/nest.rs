//! Flows as nodes: flattened over the same state or a part of it, or run once per child state.

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    context::Context,
    define::{
        add::{Added, AsyncKind, IntoNode, SyncKind},
        step::IntoAction,
    },
    execution::{BoxFuture, RestoreError},
    graph::{About, NodeKind},
    node::State,
    outcome::Visited,
    policy::{OnError, Policy},
    visit::{
        Definition,
        body::{AsyncBody, Body, SyncBody, edge},
        children::{Child, Children, Fork, Join},
    },
    words::{action::Label, codec::Codec, item_key::Identity, path::NodePath, pause::Reply},
};

/// A flow as a node of a flow over a larger state; made by [`AsyncFlow::on`](crate::AsyncFlow::on).
#[derive(Debug, Clone)]
pub struct On<F>(pub(crate) F);

/// A flow as a node of a flow over the larger state `S`, of which `pick` gives it a part.
/// [`AsyncFlow::within`](crate::AsyncFlow::within) makes one.
pub struct Within<S, F, P> {
    pub(crate) flow: F,
    pub(crate) pick: P,
    state: PhantomData<fn(S)>,
}

impl<S, F, P> Within<S, F, P> {
    pub(crate) fn new(flow: F, pick: P) -> Self {
        Self { flow, pick, state: PhantomData }
    }
}

impl<S, F: Clone, P: Clone> Clone for Within<S, F, P> {
    fn clone(&self) -> Self {
        Self::new(self.flow.clone(), self.pick.clone())
    }
}

impl<S, F: fmt::Debug, P> fmt::Debug for Within<S, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within").field("flow", &self.flow).finish_non_exhaustive()
    }
}

/// Holds for one and the same type: lets [`AsyncFlow::on`](crate::AsyncFlow::on) name it.
pub trait IsSelf<T> {}

impl<T> IsSelf<T> for T {}

/// Makes the nodes of a flow those of a flow over a larger state.
pub(crate) fn over_part<S, T, P>(definition: &Definition<T>, pick: P, labels: &'static [&'static str]) -> Added<S>
where
    S: State,
    T: State,
    P: for<'a> Fn(&'a mut S) -> &'a mut T + Send + Sync + 'static,
{
    let pick = Arc::new(pick);
    let bodies = definition.slots.iter().map(|slot| Body {
        sync: slot.body.sync.as_ref().map(|body| Part::new(&pick, body.share()) as Box<dyn SyncBody<S>>),
        awaited: slot.body.awaited.as_ref().map(|body| Part::new(&pick, body.share()) as Box<dyn AsyncBody<S>>),
    });
    Added::flow(Arc::clone(&definition.graph), bodies.collect(), labels)
}

/// A body over the part that `pick` finds in the state that it is given.
struct Part<P, B: ?Sized> {
    pick: Arc<P>,
    body: Box<B>,
}

impl<P, B: ?Sized> Part<P, B> {
    fn new(pick: &Arc<P>, body: Box<B>) -> Box<Self> {
        Box::new(Self { pick: Arc::clone(pick), body })
    }
}

impl<S, T, P> SyncBody<S> for Part<P, dyn SyncBody<T>>
where
    T: 'static,
    P: for<'a> Fn(&'a mut S) -> &'a mut T + Send + Sync + 'static,
{
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Visited {
        self.body.visit((self.pick)(shared), cx)
    }

    fn share(&self) -> Box<dyn SyncBody<S>> {
        Self::new(&self.pick, self.body.share())
    }

    fn fits(&self, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        self.body.fits(answer)
    }

    fn fits_inside(&self, path: &NodePath, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        self.body.fits_inside(path, answer)
    }

    fn answer(&self, shared: &mut S, reply: Reply, cx: &mut Context) -> Option<Visited> {
        self.body.answer((self.pick)(shared), reply, cx)
    }
}

impl<S, T, P> AsyncBody<S> for Part<P, dyn AsyncBody<T>>
where
    T: 'static,
    P: for<'a> Fn(&'a mut S) -> &'a mut T + Send + Sync + 'static,
{
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Visited> {
        self.body.visit((self.pick)(shared), cx)
    }

    fn share(&self) -> Box<dyn AsyncBody<S>> {
        Self::new(&self.pick, self.body.share())
    }

    fn fits_inside(&self, path: &NodePath, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        self.body.fits_inside(path, answer)
    }

    fn takes_inside(&self, path: &NodePath, state: &[u8]) -> Option<Result<(), RestoreError>> {
        self.body.takes_inside(path, state)
    }
}

/// A node that runs a flow once per forked state; made by [`AsyncFlow::batch`](crate::AsyncFlow::batch).
///
/// `S` is the state of the flow around it, `T` that of a child. Children run one after another, or with
/// [`parallel`](Self::parallel) up to a limit at once, which takes an [`AsyncFlow`](crate::AsyncFlow) around it. In a
/// run that is kept, a batch flow without [`journaled`](Self::journaled) starts over after a crash, with all its
/// children.
pub struct BatchFlow<S, T, A, K> {
    children: Children<S, T>,
    types: PhantomData<fn() -> (A, K)>,
}

impl<S: State, T: State, A: Label, K> BatchFlow<S, T, A, K> {
    pub(crate) fn new<F, J, R>(definition: &Arc<Definition<T>>, fork: F, join: J, on_error: OnError) -> Self
    where
        F: Fn(&S) -> Vec<T> + Send + Sync + 'static,
        J: Fn(&mut S, Vec<Child<T>>) -> R + Send + Sync + 'static,
        R: IntoAction<Action = A>,
    {
        let fork: Fork<S, T> = Arc::new(fork);
        let join: Join<S, T> = Arc::new(move |shared, ended, cx: &Context| {
            join(shared, ended).into_action().map(|action| edge(action, cx))
        });
        let children =
            Children { definition: Arc::clone(definition), fork, join, parallel: None, on_error, keeping: None };
        Self { children, types: PhantomData }
    }

    /// Lets up to `limit` children run at once (`usize::MAX`: all). A limit of 0, and a [`Flow`](crate::Flow) around
    /// it, are errors of `build()`.
    #[must_use]
    pub fn parallel(mut self, limit: usize) -> Self {
        self.children.parallel = Some(limit);
        self
    }

    /// Lets a driver that keeps runs keep every visit of every child. After a crash each child goes on from its last
    /// visit, and children that have ended do not run again. Elsewhere it changes nothing.
    ///
    /// A child is known by the state that `fork` gave it: a later program may give the states in another order, or
    /// leave some out, and each child still goes on. A child whose state has changed starts over, and one whose state
    /// is gone is cancelled. Children with equal states are interchangeable.
    ///
    /// Without it, the node starts over after a crash, with all its children.
    #[must_use]
    pub fn journaled(mut self) -> Self
    where
        T: Serialize + DeserializeOwned,
    {
        self.children.keeping = Some((Codec::json(), Identity::whole()));
        self
    }

    /// As [`journaled`](Self::journaled), with a key that tells the states apart, whatever else of them has changed:
    /// the number of an order, for example.
    #[must_use]
    pub fn journaled_by<I: Serialize>(mut self, key: impl Fn(&T) -> I + Send + Sync + 'static) -> Self
    where
        T: Serialize + DeserializeOwned,
    {
        self.children.keeping = Some((Codec::json(), Identity::by(key)));
        self
    }

    fn about(&self) -> About {
        let graph = &self.children.definition.graph;
        let policy = Policy { parallel: self.children.parallel, ..Policy::default() };
        About {
            on_error: Some(self.children.on_error),
            children: Some(Arc::clone(graph)),
            journaled: self.children.keeping.is_some(),
            ..About::new(NodeKind::BatchFlow, A::NAMES, policy)
        }
    }
}

impl<S, T, A, K> fmt::Debug for BatchFlow<S, T, A, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = self.children.definition.graph.name();
        f.debug_struct("BatchFlow").field("flow", &flow).field("parallel", &self.children.parallel).finish()
    }
}

/// The kind of a batch flow, for [`IntoNode`].
#[derive(Debug)]
pub enum BatchOfFlows {}

#[diagnostic::do_not_recommend]
impl<S: State, T: State, A: Label, K> IntoNode<S, K, BatchOfFlows> for BatchFlow<S, T, A, SyncKind> {
    type Action = A;

    fn into_node(self) -> Added<S> {
        let about = self.about();
        Added::node(about, Body::either(self.children.clone(), self.children))
    }
}

#[diagnostic::do_not_recommend]
impl<S: State, T: State, A: Label> IntoNode<S, AsyncKind, BatchOfFlows> for BatchFlow<S, T, A, AsyncKind> {
    type Action = A;

    fn into_node(self) -> Added<S> {
        let about = self.about();
        Added::node(about, Body::awaited(self.children))
    }
}
