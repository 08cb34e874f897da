//! The blocking pool: sync nodes in an async flow, and [`Context::blocking`] for jobs of async ones.
//!
//! [`Awaited`] makes an async node of a sync one, so that there is one async visit for both: `prep` and `post` on the
//! run's task, `exec` on the pool.

use std::sync::Arc;

use crate::{
    context::{Context, job},
    node::{AsyncBatchNode, AsyncNode, BatchNode, Node, State},
    policy::Policy,
    words::error::{NodeError, Result},
};

/// A sync node, seen as an async one.
///
/// The value that `prep` gives is shared with the pool's thread, and taken back for `post`. The `exec` of an inline
/// node stays on the thread of the run. Between two attempts that thread is free for others, and the run can be
/// cancelled.
pub(crate) struct Awaited<N> {
    node: Arc<N>,
    pooled: bool,
}

impl<N> Awaited<N> {
    pub(crate) fn new(node: &Arc<N>, policy: &Policy) -> Self {
        Self { node: Arc::clone(node), pooled: policy.pooled }
    }
}

impl<S: State, N: Node<S>> AsyncNode<S> for Awaited<N> {
    type Prep = Arc<N::Prep>;
    type Exec = N::Exec;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<Arc<N::Prep>> {
        self.node.prep(shared).map(Arc::new)
    }

    async fn exec(&self, prep: &Arc<N::Prep>, cx: &Context) -> Result<N::Exec> {
        if !self.pooled {
            return self.node.exec(prep, cx);
        }
        let (node, prep) = (Arc::clone(&self.node), Arc::clone(prep));
        in_pool(cx, move |cx| node.exec(&prep, cx)).await
    }

    async fn exec_fallback(&self, prep: &Arc<N::Prep>, error: NodeError, cx: &Context) -> Result<N::Exec> {
        if !self.pooled {
            return self.node.exec_fallback(prep, error, cx);
        }
        let (node, prep) = (Arc::clone(&self.node), Arc::clone(prep));
        in_pool(cx, move |cx| node.exec_fallback(&prep, error, cx)).await
    }

    async fn post(&self, shared: &mut S, prep: Arc<N::Prep>, exec: N::Exec) -> Result<N::Action> {
        self.node.post(shared, sole(prep), exec)
    }
}

impl<S: State, N: BatchNode<S>> AsyncBatchNode<S> for Awaited<N> {
    type Item = Arc<N::Item>;
    type Output = N::Output;
    type Outcome = N::Outcome;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<Vec<Arc<N::Item>>> {
        Ok(self.node.prep(shared)?.into_iter().map(Arc::new).collect())
    }

    async fn exec(&self, item: &Arc<N::Item>, cx: &Context) -> Result<N::Output> {
        if !self.pooled {
            return self.node.exec(item, cx);
        }
        let (node, item) = (Arc::clone(&self.node), Arc::clone(item));
        in_pool(cx, move |cx| node.exec(&item, cx)).await
    }

    async fn exec_fallback(&self, item: &Arc<N::Item>, error: NodeError, cx: &Context) -> Result<N::Output> {
        if !self.pooled {
            return self.node.exec_fallback(item, error, cx);
        }
        let (node, item) = (Arc::clone(&self.node), Arc::clone(item));
        in_pool(cx, move |cx| node.exec_fallback(&item, error, cx)).await
    }

    async fn post(&self, shared: &mut S, items: Vec<Arc<N::Item>>, outcomes: Vec<N::Outcome>) -> Result<N::Action> {
        self.node.post(shared, items.into_iter().map(sole).collect(), outcomes)
    }
}

fn sole<T>(shared: Arc<T>) -> T {
    Arc::into_inner(shared).expect("invariant: every blocking attempt was awaited and has dropped its share")
}

/// Runs a phase on the pool.
async fn in_pool<T: Send + 'static>(
    cx: &Context,
    phase: impl FnOnce(&Context) -> Result<T> + Send + 'static,
) -> Result<T> {
    let own = cx.clone();
    job::in_pool(cx.abandoned().cloned(), cx.count(), move || phase(&own)).await
}
