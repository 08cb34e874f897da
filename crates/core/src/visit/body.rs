//! A node without its types: the code that a visit calls, whatever the kind of the node.

use std::future::Future;

use serde_json::Value;

use crate::{
    context::Context,
    execution::{BoxFuture, RestoreError},
    outcome::Visited,
    words::{action::Label, error::NodeError, path::NodePath, pause::Reply},
};

/// A node without its types, visited on the caller's thread.
///
/// A body tells its phase through the context, and lets panics through: its caller catches them.
pub(crate) trait SyncBody<S>: Send + Sync {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Visited;

    /// The same body again, for a flow that takes this one in.
    fn share(&self) -> Box<dyn SyncBody<S>>;

    /// Says whether an answer fits a node of the children that this node runs; `None` if it runs none.
    fn fits_inside(&self, path: &NodePath, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        let _ = (path, answer);
        None
    }

    /// Says whether an answer fits; `None` if this node asks nothing.
    fn fits(&self, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        let _ = answer;
        None
    }

    /// Goes on with a visit that ended in a pause; `None` if this node asks nothing.
    fn answer(&self, shared: &mut S, reply: Reply, cx: &mut Context) -> Option<Visited> {
        let _ = (shared, reply, cx);
        None
    }
}

/// A node without its types, visited by awaiting: one box a visit.
pub(crate) trait AsyncBody<S>: Send + Sync {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Visited>;

    /// The same body again, for a flow that takes this one in.
    fn share(&self) -> Box<dyn AsyncBody<S>>;

    /// Says whether an answer fits a node of the children that this node runs; `None` if it runs none.
    fn fits_inside(&self, path: &NodePath, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        let _ = (path, answer);
        None
    }

    /// Says whether a child that this node keeps could go on from its node with a state; `None` if it keeps none.
    fn takes_inside(&self, path: &NodePath, state: &[u8]) -> Option<Result<(), RestoreError>> {
        let _ = (path, state);
        None
    }
}

/// The code of a node, without its types. At least one half is there.
pub(crate) struct Body<S> {
    /// Runs on the thread of the run.
    pub(crate) sync: Option<Box<dyn SyncBody<S>>>,
    /// Awaits. An async flow prefers this half.
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

/// The edge that a label takes.
#[inline]
pub(crate) fn edge<A: Label>(label: A, cx: &Context) -> Visited {
    match label.index() {
        Some(index) if index < A::NAMES.len() => Ok(index),
        None if A::NAMES.is_empty() => cx.edge_for(label.action()),
        _ => Err(cx.failed(NodeError::terminal(NoLabel { names: A::NAMES }))),
    }
}

/// A [`Label`] whose methods do not agree.
#[derive(Debug, thiserror::Error)]
#[error("`Label::index` gave no position in `Label::NAMES`, {names:?}")]
struct NoLabel {
    names: &'static [&'static str],
}

/// Boxes a future, as `Box::pin` does, but makes it in its place on the heap, which saves a copy.
#[inline(always)]
pub(crate) fn boxed<'a, F: Future + Send + 'a>(make: impl FnOnce() -> F) -> BoxFuture<'a, F::Output> {
    let place = Box::<F>::new_uninit();
    let made: Box<F> = Box::write(place, make());
    Box::into_pin(made)
}
