//! The blocking pool: sync nodes in an async flow, and [`Context::blocking`] for what async ones do there.
//!
//! [`Pooled`] makes an async node of a sync one, so that there is one async visit for both: `prep` and `post` on the run's
//! task, `exec` on the pool.

use std::sync::Arc;

use crate::{
    context::{Context, job},
    node::{AsyncBatchNode, AsyncNode, BatchNode, Node, State},
    words::error::{NodeError, Result},
};

/// A sync node, seen as an async one.
///
/// The value that `prep` gives is shared with the pool's thread, and taken back for `post`.
pub(crate) struct Pooled<N>(pub(crate) Arc<N>);

impl<S: State, N: Node<S>> AsyncNode<S> for Pooled<N> {
    type Prep = Arc<N::Prep>;
    type Exec = N::Exec;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<Arc<N::Prep>> {
        self.0.prep(shared).map(Arc::new)
    }

    async fn exec(&self, prep: &Arc<N::Prep>, cx: &Context) -> Result<N::Exec> {
        let (node, prep) = (Arc::clone(&self.0), Arc::clone(prep));
        in_pool(cx, move |cx| node.exec(&prep, cx)).await
    }

    async fn exec_fallback(&self, prep: &Arc<N::Prep>, error: NodeError, cx: &Context) -> Result<N::Exec> {
        let (node, prep) = (Arc::clone(&self.0), Arc::clone(prep));
        in_pool(cx, move |cx| node.exec_fallback(&prep, error, cx)).await
    }

    async fn post(&self, shared: &mut S, prep: Arc<N::Prep>, exec: N::Exec) -> Result<N::Action> {
        self.0.post(shared, sole(prep), exec)
    }
}

impl<S: State, N: BatchNode<S>> AsyncBatchNode<S> for Pooled<N> {
    type Item = Arc<N::Item>;
    type Output = N::Output;
    type Outcome = N::Outcome;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<Vec<Arc<N::Item>>> {
        Ok(self.0.prep(shared)?.into_iter().map(Arc::new).collect())
    }

    async fn exec(&self, item: &Arc<N::Item>, cx: &Context) -> Result<N::Output> {
        let (node, item) = (Arc::clone(&self.0), Arc::clone(item));
        in_pool(cx, move |cx| node.exec(&item, cx)).await
    }

    async fn exec_fallback(&self, item: &Arc<N::Item>, error: NodeError, cx: &Context) -> Result<N::Output> {
        let (node, item) = (Arc::clone(&self.0), Arc::clone(item));
        in_pool(cx, move |cx| node.exec_fallback(&item, error, cx)).await
    }

    async fn post(&self, shared: &mut S, items: Vec<Arc<N::Item>>, outcomes: Vec<N::Outcome>) -> Result<N::Action> {
        self.0.post(shared, items.into_iter().map(sole).collect(), outcomes)
    }
}

/// A sync node whose `exec` runs on the thread of the run, seen as an async one: so that between two attempts the thread is
/// free for others, and the run can be cancelled.
pub(crate) struct OnThread<N>(pub(crate) Arc<N>);

impl<S: State, N: Node<S>> AsyncNode<S> for OnThread<N> {
    type Prep = N::Prep;
    type Exec = N::Exec;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<N::Prep> {
        self.0.prep(shared)
    }

    async fn exec(&self, prep: &N::Prep, cx: &Context) -> Result<N::Exec> {
        self.0.exec(prep, cx)
    }

    async fn exec_fallback(&self, prep: &N::Prep, error: NodeError, cx: &Context) -> Result<N::Exec> {
        self.0.exec_fallback(prep, error, cx)
    }

    async fn post(&self, shared: &mut S, prep: N::Prep, exec: N::Exec) -> Result<N::Action> {
        self.0.post(shared, prep, exec)
    }
}

impl<S: State, N: BatchNode<S>> AsyncBatchNode<S> for OnThread<N> {
    type Item = N::Item;
    type Output = N::Output;
    type Outcome = N::Outcome;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<Vec<N::Item>> {
        self.0.prep(shared)
    }

    async fn exec(&self, item: &N::Item, cx: &Context) -> Result<N::Output> {
        self.0.exec(item, cx)
    }

    async fn exec_fallback(&self, item: &N::Item, error: NodeError, cx: &Context) -> Result<N::Output> {
        self.0.exec_fallback(item, error, cx)
    }

    async fn post(&self, shared: &mut S, items: Vec<N::Item>, outcomes: Vec<N::Outcome>) -> Result<N::Action> {
        self.0.post(shared, items, outcomes)
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
