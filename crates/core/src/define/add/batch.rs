//! Takes the types off batch nodes: each kind in each of its modes.
//!
//! The modes differ in how many items are under way, on which thread, in whether a journal keeps them, and in what it
//! tells them apart by.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    define::add::{Added, AsyncKind, NodeIn},
    graph::{About, NodeKind},
    node::{AsyncBatchNode, AwaitedBatch, BatchNode, ItemOutcome, State, SyncBatch},
    policy::{ByKey, InOrder, Inline, Journaled, Keyed, Parallel, Plain, Policy, Spawned},
    visit::{
        batch::{Batch, SpawnedBatch, keeping::Keeping},
        body::Body,
        pool::{OnThread, Pooled},
    },
    words::{action::Label, item_key::Identity},
};

/// A kind of batch node in one of its modes: as it is, and journaled in each of the three ways.
macro_rules! mode {
    ($node:ident as $kind:ty, $mode:ident in $flow:ty $(, $k:ident)?; $make:ident) => {
        #[diagnostic::do_not_recommend]
        impl<S: State, $($k,)? N: $node<S>> NodeIn<S, $flow, $kind, $mode> for N {
            type Action = N::Action;

            fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
                $make(Batch { node: Arc::new(self), policy, limit, keeping: None })
            }
        }

        #[diagnostic::do_not_recommend]
        impl<S: State, $($k,)? N: $node<S>> NodeIn<S, $flow, $kind, Journaled<$mode>> for N
        where
            N::Item: Serialize,
            N::Output: Serialize + DeserializeOwned,
        {
            type Action = N::Action;

            fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
                $make(Batch::journaled(self, policy, limit, Identity::whole()))
            }
        }

        #[diagnostic::do_not_recommend]
        impl<S: State, $($k,)? N: $node<S>> NodeIn<S, $flow, $kind, Journaled<$mode, InOrder>> for N
        where
            N::Output: Serialize + DeserializeOwned,
        {
            type Action = N::Action;

            fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
                $make(Batch::journaled(self, policy, limit, Identity::Order))
            }
        }

        #[diagnostic::do_not_recommend]
        impl<S: State, $($k,)? N: $node<S>> NodeIn<S, $flow, $kind, Journaled<$mode, ByKey>> for Keyed<N, S, N::Item>
        where
            N::Output: Serialize + DeserializeOwned,
        {
            type Action = N::Action;

            fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
                $make(Batch::journaled(self.node, policy, limit, self.identity))
            }
        }
    };
}

mode!(BatchNode as SyncBatch, Plain in K, K; plain);
mode!(BatchNode as SyncBatch, Parallel in AsyncKind; in_pool);
mode!(AsyncBatchNode as AwaitedBatch, Plain in AsyncKind; in_place);
mode!(AsyncBatchNode as AwaitedBatch, Parallel in AsyncKind; in_place);
mode!(AsyncBatchNode as AwaitedBatch, Spawned in AsyncKind; spawned);

#[diagnostic::do_not_recommend]
impl<S: State, K, N: BatchNode<S>> NodeIn<S, K, SyncBatch, Inline> for N {
    type Action = N::Action;

    fn with_policy(self, policy: Policy, limit: usize) -> Added<S> {
        let batch = Batch { node: Arc::new(self), policy, limit, keeping: None };
        let about = About::sync_batch::<S, N, _, _>(&batch).checked(|| N::check(&batch.node));
        if !batch.policy.retry.is_again() {
            return Added::node(about, Body::sync(batch));
        }
        let node = Arc::new(OnThread(Arc::clone(&batch.node)));
        let awaited = Batch { node, policy: batch.policy.clone(), limit, keeping: None };
        Added::node(about, Body::either(batch, awaited))
    }
}

impl<N, I, O: Serialize + DeserializeOwned> Batch<N, I, O> {
    fn journaled(node: N, policy: Policy, limit: usize, identity: Identity<I>) -> Self {
        Self { node: Arc::new(node), policy, limit, keeping: Some(Keeping::by(identity)) }
    }
}

/// Adds a sync batch node that runs on the pool where there is one.
fn plain<S: State, N: BatchNode<S>>(batch: Batch<N, N::Item, N::Output>) -> Added<S> {
    let (node, policy, limit) = (Arc::clone(&batch.node), batch.policy.clone(), batch.limit);
    let pooled = pooled::<S, N>(batch);
    let about = About::sync_batch::<S, N, _, _>(&pooled).checked(|| N::check(&node));
    Added::node(about, Body::either(Batch { node, policy, limit, keeping: None }, pooled))
}

/// Adds a sync batch node that runs on the pool.
fn in_pool<S: State, N: BatchNode<S>>(batch: Batch<N, N::Item, N::Output>) -> Added<S> {
    let node = Arc::clone(&batch.node);
    let pooled = pooled::<S, N>(batch);
    let about = About::sync_batch::<S, N, _, _>(&pooled).checked(|| N::check(&node));
    Added::node(about, Body::awaited(pooled))
}

fn pooled<S: State, N: BatchNode<S>>(batch: Batch<N, N::Item, N::Output>) -> Batch<Pooled<N>, Arc<N::Item>, N::Output> {
    let Batch { node, policy, limit, keeping } = batch;
    let keeping = keeping.map(Keeping::shared);
    Batch { node: Arc::new(Pooled(node)), policy: policy.pooled(), limit, keeping }
}

/// Adds an async batch node, polled in place.
fn in_place<S: State, N: AsyncBatchNode<S>>(batch: Batch<N, N::Item, N::Output>) -> Added<S> {
    Added::node(About::async_batch::<S, N>(&batch), Body::awaited(batch))
}

/// Adds an async batch node whose items are tasks of their own.
fn spawned<S: State, N: AsyncBatchNode<S>>(batch: Batch<N, N::Item, N::Output>) -> Added<S> {
    Added::node(About::async_batch::<S, N>(&batch), Body::awaited(SpawnedBatch(batch)))
}

impl About {
    /// Of a batch node `N` that runs as `M`: as it is, or on the pool.
    fn sync_batch<S: State, N: BatchNode<S>, M, I>(batch: &Batch<M, I, N::Output>) -> Self {
        Self::batch::<M, I, N::Output, N::Outcome, N::Action>(NodeKind::BatchNode, batch)
    }

    fn async_batch<S: State, N: AsyncBatchNode<S>>(batch: &Batch<N, N::Item, N::Output>) -> Self {
        Self::batch::<N, N::Item, N::Output, N::Outcome, N::Action>(NodeKind::AsyncBatchNode, batch)
            .checked(|| N::check(&batch.node))
    }

    fn batch<N, I, O, C: ItemOutcome<O>, A: Label>(kind: NodeKind, batch: &Batch<N, I, O>) -> Self {
        Self {
            limit: batch.limit,
            on_error: Some(C::ON_ERROR),
            journaled: batch.keeping.is_some(),
            ..Self::new(kind, A::NAMES, batch.policy.clone())
        }
    }
}
