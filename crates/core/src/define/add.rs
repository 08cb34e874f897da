//! Everything that can be added to a flow is an [`IntoNode`]: every kind of node, flows, closures and pauses behind one
//! `add`.
//!
//! The marker type `M` stands for the kind, so that the implementations for the traits do not overlap, as in axum's
//! `Handler`; `K` is the kind of flow, so that an async node in a [`Flow`](crate::Flow) does not compile.

use std::{marker::PhantomData, sync::Arc};

use crate::{
    define::ask::{Ask, Asking},
    graph::{About, Graph, NodeKind},
    node::{AsyncNode, Node, State},
    policy::{Plain, Policy, With},
    visit::{attempt::Single, body::Body, pool::Awaited},
    words::{
        action::Label,
        error::Result,
        guard::{catch, report},
    },
};

mod batch;

/// The kind of flow that takes sync nodes: [`Flow`](crate::Flow).
#[derive(Debug, Clone, Copy)]
pub enum SyncKind {}

/// The kind of flow that takes sync and async nodes: [`AsyncFlow`](crate::AsyncFlow).
#[derive(Debug, Clone, Copy)]
pub enum AsyncKind {}

/// The difference between the kinds of flow.
pub(crate) trait Kind {
    /// `true` if a run needs no runtime.
    const SYNC: bool;
}

impl Kind for SyncKind {
    const SYNC: bool = true;
}

impl Kind for AsyncKind {
    const SYNC: bool = false;
}

/// Something that [`Builder::add`](crate::Builder::add) takes.
///
/// Implemented for types with one of the node traits, bare or with a policy; for flows, [batch flows](crate::BatchFlow)
/// and flows [over a part of the state](crate::AsyncFlow::on); for [`Ask`] nodes; for [`step`](crate::step); and for
/// closures `Fn(&mut S) -> action`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be added to this flow over `{S}`",
    label = "not a node of this flow",
    note = "a node implements one of the node traits for `{S}` (`#[node]` does that), or is a flow or a closure `|s: &mut {S}|`",
    note = "a `Flow` takes sync nodes only; async nodes and async flows need an `AsyncFlow`",
    note = "an `Ask` node, a closure and a flow have no policy; `step` and the nodes of a flow have",
    note = "`journaled` is for batch nodes whose `Output` is `Serialize + DeserializeOwned`, and for batch flows",
    note = "it tells items apart by what they hold: their type is `Serialize`; else say `journaled_by` or `journaled_in_order`",
    note = "a state is `Send + Sync + 'static`; a builder becomes a flow by `build()`"
)]
pub trait IntoNode<S, K, M> {
    /// The type of the action that the node returns.
    type Action: Label;

    /// Takes the types off.
    #[doc(hidden)]
    fn into_node(self) -> Added<S>;
}

/// A node type that can be added to a kind of flow, and whose items can be kept as `Kept` says.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be added to this flow over `{S}`",
    label = "not a node of this flow",
    note = "a node implements one of the node traits for `{S}` (`#[node]` does that), or is a flow or a closure `|s: &mut {S}|`",
    note = "a `Flow` takes sync nodes only; async nodes and async flows need an `AsyncFlow`",
    note = "an `Ask` node, a closure and a flow have no policy; `step` and the nodes of a flow have",
    note = "`journaled` is for batch nodes whose `Output` is `Serialize + DeserializeOwned`, and for batch flows",
    note = "it tells items apart by what they hold: their type is `Serialize`; else say `journaled_by` or `journaled_in_order`",
    note = "a state is `Send + Sync + 'static`; a builder becomes a flow by `build()`"
)]
pub trait NodeIn<S, K, M, Kept> {
    /// The type of the action that the node returns.
    type Action: Label;

    /// Takes the types off.
    #[doc(hidden)]
    fn with_policy(self, policy: Policy) -> Added<S>;
}

/// A node or a flow without its types.
pub struct Added<S> {
    pub(crate) graph: AddedGraph,
    pub(crate) bodies: Vec<Body<S>>,
    pub(crate) labels: &'static [&'static str],
}

pub(crate) enum AddedGraph {
    Node(About),
    Flow(Arc<Graph>),
}

impl<S> std::fmt::Debug for Added<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Added").field("labels", &self.labels).finish_non_exhaustive()
    }
}

impl<S> Added<S> {
    pub(crate) fn node(about: About, body: Body<S>) -> Self {
        let labels = about.labels;
        Self { graph: AddedGraph::Node(about), bodies: vec![body], labels }
    }

    pub(crate) fn flow(graph: Arc<Graph>, bodies: Vec<Body<S>>, labels: &'static [&'static str]) -> Self {
        Self { graph: AddedGraph::Flow(graph), bodies, labels }
    }
}

/// The kind of a node as it is, for [`IntoNode`].
#[derive(Debug)]
pub struct Bare<M>(PhantomData<M>);

/// The kind of a node with a policy, for [`IntoNode`].
#[derive(Debug)]
pub struct Configured<M>(PhantomData<M>);

#[diagnostic::do_not_recommend]
impl<S, K, M, N: NodeIn<S, K, M, Plain>> IntoNode<S, K, Bare<M>> for N {
    type Action = N::Action;

    fn into_node(self) -> Added<S> {
        self.with_policy(Policy::default())
    }
}

#[diagnostic::do_not_recommend]
impl<S, K, M, Kept, N: NodeIn<S, K, M, Kept>> IntoNode<S, K, Configured<M>> for With<N, Kept> {
    type Action = N::Action;

    fn into_node(self) -> Added<S> {
        self.node.with_policy(self.policy.sealed())
    }
}

/// The kind of a [`Node`].
#[derive(Debug)]
pub enum SyncNode {}

/// The kind of an [`AsyncNode`].
#[derive(Debug)]
pub enum AwaitedNode {}

/// The kind of an [`Ask`] node.
#[derive(Debug)]
pub enum Question {}

#[diagnostic::do_not_recommend]
impl<S: State, K, N: Node<S>> NodeIn<S, K, SyncNode, Plain> for N {
    type Action = N::Action;

    fn with_policy(self, policy: Policy) -> Added<S> {
        let (node, awaited) = (Arc::new(self), policy.clone().awaited());
        let about = About::new(NodeKind::Node, N::Action::NAMES, awaited.clone()).checked(|| N::check(&node));
        if policy.inline && !policy.retry.is_again() {
            return Added::node(about, Body::sync(Single { node, policy }));
        }
        // An inline node is awaited, too: an error may ask for a wait that no policy knows of, and that must hold up
        // nobody.
        let awaited = Single { node: Arc::new(Awaited::new(&node, &awaited)), policy: awaited };
        Added::node(about, Body::either(Single { node, policy }, awaited))
    }
}

#[diagnostic::do_not_recommend]
impl<S: State, N: AsyncNode<S>> NodeIn<S, AsyncKind, AwaitedNode, Plain> for N {
    type Action = N::Action;

    fn with_policy(self, policy: Policy) -> Added<S> {
        let about = About::new(NodeKind::AsyncNode, N::Action::NAMES, policy.clone()).checked(|| N::check(&self));
        Added::node(about, Body::awaited(Single { node: Arc::new(self), policy }))
    }
}

#[diagnostic::do_not_recommend]
impl<S: State, K, N: Ask<S>> IntoNode<S, K, Question> for N {
    type Action = N::Action;

    fn into_node(self) -> Added<S> {
        let about = About::new(NodeKind::Ask, N::Action::NAMES, Policy::default()).checked(|| N::check(&self));
        Added::node(about, Body::sync(Asking(Arc::new(self))))
    }
}

impl About {
    pub(crate) fn new(kind: NodeKind, labels: &'static [&'static str], policy: Policy) -> Self {
        Self { kind, labels, policy, on_error: None, children: None, journaled: false, fault: None }
    }

    /// Keeps what a node says is wrong with it. A check that panics is a fault, too: adding a node never panics.
    pub(crate) fn checked(self, check: impl FnOnce() -> Result<()>) -> Self {
        Self { fault: catch(check).err().map(|error| report(error.source_ref())), ..self }
    }
}
