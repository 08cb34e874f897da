//! What takes the types off batch nodes: each kind in each of its modes.
//!
//! The modes differ in how many items are under way, on which thread, and in whether a journal keeps them.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::{Added, AsyncKind, AwaitedBatch, NodeIn, SyncBatch};
use crate::{
    action::Label,
    batch::{Batch, SpawnedBatch},
    codec::Codec,
    definition::Body,
    graph::{About, NodeKind},
    node::{AsyncBatchNode, BatchNode, ItemOutcome, State},
    policy::{Inline, Journaled, Parallel, Plain, Policy, Spawned},
    pool::Pooled,
};

#[diagnostic::do_not_recommend]
impl<S: State, K, N: BatchNode<S>> NodeIn<S, K, SyncBatch, Plain> for N {
    type Action = N::Action;

    fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
        plain(self, policy, limit, None)
    }
}

#[diagnostic::do_not_recommend]
impl<S: State, K, N: BatchNode<S>> NodeIn<S, K, SyncBatch, Journaled<Plain>> for N
where
    N::Output: Serialize + DeserializeOwned,
{
    type Action = N::Action;

    fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
        plain(self, policy, limit, Some(Codec::json()))
    }
}

#[diagnostic::do_not_recommend]
impl<S: State, K, N: BatchNode<S>> NodeIn<S, K, SyncBatch, Inline> for N {
    type Action = N::Action;

    fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
        let batch = Batch { node: Arc::new(self), policy, limit, codec: None };
        let about = About::sync_batch::<S, N, N>(&batch).checked(|| N::check(&batch.node));
        Added::node(about, Body::sync(batch))
    }
}

#[diagnostic::do_not_recommend]
impl<S: State, N: BatchNode<S>> NodeIn<S, AsyncKind, SyncBatch, Parallel> for N {
    type Action = N::Action;

    fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
        in_pool(self, policy, limit, None)
    }
}

#[diagnostic::do_not_recommend]
impl<S: State, N: BatchNode<S>> NodeIn<S, AsyncKind, SyncBatch, Journaled<Parallel>> for N
where
    N::Output: Serialize + DeserializeOwned,
{
    type Action = N::Action;

    fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
        in_pool(self, policy, limit, Some(Codec::json()))
    }
}

/// A sync batch node that runs on the pool where there is one.
fn plain<S: State, N: BatchNode<S>>(
    node: N,
    policy: Policy,
    limit: usize,
    codec: Option<Codec<N::Output>>,
) -> Added<S> {
    let node = Arc::new(node);
    let pooled = pooled_batch::<S, N>(&node, policy.clone(), limit, codec);
    let about = About::sync_batch::<S, N, _>(&pooled).checked(|| N::check(&node));
    Added::node(about, Body::either(Batch { node, policy, limit, codec }, pooled))
}

/// A sync batch node that runs on the pool.
fn in_pool<S: State, N: BatchNode<S>>(
    node: N,
    policy: Policy,
    limit: usize,
    codec: Option<Codec<N::Output>>,
) -> Added<S> {
    let node = Arc::new(node);
    let pooled = pooled_batch::<S, N>(&node, policy, limit, codec);
    let about = About::sync_batch::<S, N, _>(&pooled).checked(|| N::check(&node));
    Added::node(about, Body::awaited(pooled))
}

fn pooled_batch<S: State, N: BatchNode<S>>(
    node: &Arc<N>,
    policy: Policy,
    limit: usize,
    codec: Option<Codec<N::Output>>,
) -> Batch<Pooled<N>, N::Output> {
    Batch { node: Arc::new(Pooled(Arc::clone(node))), policy: policy.pooled(), limit, codec }
}

/// An async batch node, polled in place, in the modes that differ by their limit only.
macro_rules! awaited {
    ($($mode:ident),+) => {$(
        #[diagnostic::do_not_recommend]
        impl<S: State, N: AsyncBatchNode<S>> NodeIn<S, AsyncKind, AwaitedBatch, $mode> for N {
            type Action = N::Action;

            fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
                in_place(Batch { node: Arc::new(self), policy, limit, codec: None })
            }
        }

        #[diagnostic::do_not_recommend]
        impl<S: State, N: AsyncBatchNode<S>> NodeIn<S, AsyncKind, AwaitedBatch, Journaled<$mode>> for N
        where
            N::Output: Serialize + DeserializeOwned,
        {
            type Action = N::Action;

            fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
                in_place(Batch { node: Arc::new(self), policy, limit, codec: Some(Codec::json()) })
            }
        }
    )+};
}

awaited!(Plain, Parallel);

fn in_place<S: State, N: AsyncBatchNode<S>>(batch: Batch<N, N::Output>) -> Added<S> {
    Added::node(About::async_batch::<S, N>(&batch), Body::awaited(batch))
}

#[diagnostic::do_not_recommend]
impl<S: State, N: AsyncBatchNode<S>> NodeIn<S, AsyncKind, AwaitedBatch, Spawned> for N {
    type Action = N::Action;

    fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
        spawned(Batch { node: Arc::new(self), policy, limit, codec: None })
    }
}

#[diagnostic::do_not_recommend]
impl<S: State, N: AsyncBatchNode<S>> NodeIn<S, AsyncKind, AwaitedBatch, Journaled<Spawned>> for N
where
    N::Output: Serialize + DeserializeOwned,
{
    type Action = N::Action;

    fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
        spawned(Batch { node: Arc::new(self), policy, limit, codec: Some(Codec::json()) })
    }
}

/// An async batch node whose items are tasks of their own.
fn spawned<S: State, N: AsyncBatchNode<S>>(batch: Batch<N, N::Output>) -> Added<S> {
    let about = About { detaches: true, ..About::async_batch::<S, N>(&batch) };
    Added::node(about, Body::awaited(SpawnedBatch(batch)))
}

impl About {
    /// Of a batch node `N` that runs as `M`: as it is, or on the pool.
    fn sync_batch<S: State, N: BatchNode<S>, M>(batch: &Batch<M, N::Output>) -> Self {
        Self::batch::<M, N::Output, N::Outcome, N::Action>(NodeKind::BatchNode, batch)
    }

    fn async_batch<S: State, N: AsyncBatchNode<S>>(batch: &Batch<N, N::Output>) -> Self {
        Self::batch::<N, N::Output, N::Outcome, N::Action>(NodeKind::AsyncBatchNode, batch)
            .checked(|| N::check(&batch.node))
    }

    fn batch<N, O, C: ItemOutcome<O>, A: Label>(kind: NodeKind, batch: &Batch<N, O>) -> Self {
        Self {
            limit: batch.limit,
            on_error: Some(C::ON_ERROR),
            journaled: batch.codec.is_some(),
            ..Self::new(kind, A::NAMES, batch.policy.clone())
        }
    }
}
