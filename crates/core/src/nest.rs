//! Flows as nodes: flattened over the same state or a part of it, or run once per child state.

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    action::Label,
    add::{Added, AsyncKind, IntoNode, SyncKind},
    ask::Answered,
    children::{Child, Children, Fork, Join},
    codec::Codec,
    context::Context,
    definition::{Body, Definition},
    error::Visited,
    flow::{AsyncFlow, Flow},
    graph::{About, NodeKind},
    node::{OnError, State},
    policy::Policy,
    step::IntoAction,
    visit::{AsyncBody, BoxFuture, SyncBody, edge},
};

/// A flow as a node of a flow over a larger state; made by [`AsyncFlow::on`].
#[derive(Debug, Clone)]
pub struct On<F>(pub(crate) F);

/// Holds for one and the same type: lets [`AsyncFlow::on`] name it.
pub trait IsSelf<T> {}

impl<T> IsSelf<T> for T {}

/// The kind of a flow as a node, for [`IntoNode`].
#[derive(Debug)]
pub enum NestedFlow {}

/// The kind of a flow over a part of the state, for [`IntoNode`].
#[derive(Debug)]
pub struct NestedPart<T>(PhantomData<T>);

#[diagnostic::do_not_recommend]
impl<S: State, X: Label, K> IntoNode<S, K, NestedFlow> for Flow<S, X> {
    type Action = X;

    fn into_node(self) -> Added<S> {
        Added::flow(Arc::clone(&self.definition.graph), self.definition.bodies(), X::NAMES)
    }
}

#[diagnostic::do_not_recommend]
impl<S: State, X: Label> IntoNode<S, AsyncKind, NestedFlow> for AsyncFlow<S, X> {
    type Action = X;

    fn into_node(self) -> Added<S> {
        Added::flow(Arc::clone(&self.definition.graph), self.definition.bodies(), X::NAMES)
    }
}

#[diagnostic::do_not_recommend]
impl<S, T, X, K> IntoNode<S, K, NestedPart<T>> for On<Flow<T, X>>
where
    S: State + AsMut<T>,
    T: State,
    X: Label,
{
    type Action = X;

    fn into_node(self) -> Added<S> {
        on_part(&self.0.definition, X::NAMES)
    }
}

#[diagnostic::do_not_recommend]
impl<S, T, X> IntoNode<S, AsyncKind, NestedPart<T>> for On<AsyncFlow<T, X>>
where
    S: State + AsMut<T>,
    T: State,
    X: Label,
{
    type Action = X;

    fn into_node(self) -> Added<S> {
        on_part(&self.0.definition, X::NAMES)
    }
}

fn on_part<S, T>(definition: &Definition<T>, labels: &'static [&'static str]) -> Added<S>
where
    S: State + AsMut<T>,
    T: State,
{
    let bodies = definition.slots.iter().map(|slot| Body {
        sync: slot.body.sync.as_ref().map(|body| Part::new(body.share()) as Box<dyn SyncBody<S>>),
        awaited: slot.body.awaited.as_ref().map(|body| Part::new(body.share()) as Box<dyn AsyncBody<S>>),
    });
    Added::flow(Arc::clone(&definition.graph), bodies.collect(), labels)
}

/// A body over a part `T` of the state that it is given.
struct Part<T, B: ?Sized> {
    body: Box<B>,
    part: PhantomData<fn(T)>,
}

impl<T, B: ?Sized> Part<T, B> {
    fn new(body: Box<B>) -> Box<Self> {
        Box::new(Self { body, part: PhantomData })
    }
}

impl<S: AsMut<T>, T: 'static> SyncBody<S> for Part<T, dyn SyncBody<T>> {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Visited {
        self.body.visit(shared.as_mut(), cx)
    }

    fn share(&self) -> Box<dyn SyncBody<S>> {
        Self::new(self.body.share())
    }

    fn fits(&self, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        self.body.fits(answer)
    }

    fn answer(&self, shared: &mut S, answer: Value, cx: &mut Context) -> Option<Answered> {
        self.body.answer(shared.as_mut(), answer, cx)
    }
}

impl<S: AsMut<T>, T: 'static> AsyncBody<S> for Part<T, dyn AsyncBody<T>> {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Visited> {
        self.body.visit(shared.as_mut(), cx)
    }

    fn share(&self) -> Box<dyn AsyncBody<S>> {
        Self::new(self.body.share())
    }
}

/// A node that runs a flow once per forked state; made by [`AsyncFlow::batch`].
///
/// `S` is the state of the flow around it, `T` that of a child. Children run one after another, or with
/// [`parallel`](Self::parallel) up to a limit at once, which takes an [`AsyncFlow`] around it. In a run that is kept, one
/// without [`journaled`](Self::journaled) starts over after a crash, with all its children.
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
        let children = Children { definition: Arc::clone(definition), fork, join, limit: 1, on_error, codec: None };
        Self { children, types: PhantomData }
    }

    /// Lets up to `limit` children run at once (`usize::MAX`: all); 0 is an error of `build()`.
    #[must_use]
    pub fn parallel(mut self, limit: usize) -> BatchFlow<S, T, A, AsyncKind> {
        self.children.limit = limit;
        BatchFlow { children: self.children, types: PhantomData }
    }

    /// Lets a driver that keeps runs keep every visit of every child, so that after a crash each goes on from its last
    /// one, and those that have ended do not run again. Elsewhere it changes nothing.
    ///
    /// Without it, the node starts over after a crash, with all its children.
    #[must_use]
    pub fn journaled(mut self) -> Self
    where
        T: Serialize + DeserializeOwned,
    {
        self.children.codec = Some(Codec::json());
        self
    }

    fn about(&self) -> About {
        let graph = &self.children.definition.graph;
        About {
            limit: self.children.limit,
            on_error: Some(self.children.on_error),
            children: Some(Arc::clone(graph)),
            detaches: graph.detaches,
            journaled: self.children.codec.is_some(),
            ..About::new(NodeKind::BatchFlow, A::NAMES, Policy::default())
        }
    }
}

impl<S, T, A, K> fmt::Debug for BatchFlow<S, T, A, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = self.children.definition.graph.name();
        f.debug_struct("BatchFlow").field("flow", &flow).field("limit", &self.children.limit).finish()
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
