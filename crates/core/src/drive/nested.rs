//! Built flows as nodes of other flows: over the same state, or over a part of it.

use std::{marker::PhantomData, sync::Arc};

use crate::{
    define::{
        add::{Added, AsyncKind, IntoNode},
        nest::{On, Within, over_part},
    },
    drive::flow::{AsyncFlow, Flow},
    node::State,
    words::action::Label,
};

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
        over_part(&self.0.definition, S::as_mut, X::NAMES)
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
        over_part(&self.0.definition, S::as_mut, X::NAMES)
    }
}

#[diagnostic::do_not_recommend]
impl<S, T, X, K, P> IntoNode<S, K, NestedPart<T>> for Within<S, Flow<T, X>, P>
where
    S: State,
    T: State,
    X: Label,
    P: for<'a> Fn(&'a mut S) -> &'a mut T + Send + Sync + 'static,
{
    type Action = X;

    fn into_node(self) -> Added<S> {
        over_part(&self.flow.definition, self.pick, X::NAMES)
    }
}

#[diagnostic::do_not_recommend]
impl<S, T, X, P> IntoNode<S, AsyncKind, NestedPart<T>> for Within<S, AsyncFlow<T, X>, P>
where
    S: State,
    T: State,
    X: Label,
    P: for<'a> Fn(&'a mut S) -> &'a mut T + Send + Sync + 'static,
{
    type Action = X;

    fn into_node(self) -> Added<S> {
        over_part(&self.flow.definition, self.pick, X::NAMES)
    }
}
