//! Takes the types off batch nodes.
//!
//! The items of a journaled batch are told apart by what they hold, by keys of the user, or by their places. Each way
//! asks something else of the types.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    define::add::{Added, AsyncKind, NodeIn},
    graph::{About, NodeKind},
    node::{AsyncBatchNode, AwaitedBatch, BatchNode, ItemOutcome, State, SyncBatch},
    policy::{Journaled, JournaledByKey, JournaledInOrder, Keyed, Plain, Policy},
    visit::{
        batch::{Batch, SpawnedBatch, keeping::Keeping},
        body::Body,
        pool::Awaited,
    },
    words::{action::Label, item_key::Identity},
};

/// Adds a kind of batch node: as it is, and journaled in each of the three ways.
macro_rules! batch {
    ($node:ident as $kind:ty, in $flow:ty $(, $k:ident)?; $make:ident) => {
        #[diagnostic::do_not_recommend]
        impl<S: State, $($k,)? N: $node<S>> NodeIn<S, $flow, $kind, Plain> for N {
            type Action = N::Action;

            fn with_policy(self, policy: Policy) -> Added<S> {
                $make(Batch { node: Arc::new(self), policy, keeping: None })
            }
        }

        #[diagnostic::do_not_recommend]
        impl<S: State, $($k,)? N: $node<S>> NodeIn<S, $flow, $kind, Journaled> for N
        where
            N::Item: Serialize,
            N::Output: Serialize + DeserializeOwned,
        {
            type Action = N::Action;

            fn with_policy(self, policy: Policy) -> Added<S> {
                $make(Batch::journaled(self, policy, Identity::whole()))
            }
        }

        #[diagnostic::do_not_recommend]
        impl<S: State, $($k,)? N: $node<S>> NodeIn<S, $flow, $kind, JournaledInOrder> for N
        where
            N::Output: Serialize + DeserializeOwned,
        {
            type Action = N::Action;

            fn with_policy(self, policy: Policy) -> Added<S> {
                $make(Batch::journaled(self, policy, Identity::Order))
            }
        }

        #[diagnostic::do_not_recommend]
        impl<S: State, $($k,)? N: $node<S>> NodeIn<S, $flow, $kind, JournaledByKey> for Keyed<N, S, N::Item>
        where
            N::Output: Serialize + DeserializeOwned,
        {
            type Action = N::Action;

            fn with_policy(self, policy: Policy) -> Added<S> {
                $make(Batch::journaled(self.node, policy, self.identity))
            }
        }
    };
}

batch!(BatchNode as SyncBatch, in K, K; sync_batch);
batch!(AsyncBatchNode as AwaitedBatch, in AsyncKind; async_batch);

impl<N, I, O: Serialize + DeserializeOwned> Batch<N, I, O> {
    fn journaled(node: N, policy: Policy, identity: Identity<I>) -> Self {
        Self { node: Arc::new(node), policy, keeping: Some(Keeping::by(identity)) }
    }
}

/// Adds a sync batch node: in an async flow its items run on the pool, unless it is inline.
fn sync_batch<S: State, N: BatchNode<S>>(batch: Batch<N, N::Item, N::Output>) -> Added<S> {
    let Batch { node, policy, keeping } = batch;
    let awaited = policy.clone().awaited();
    let seen = Arc::new(Awaited::new(&node, &awaited));
    let awaited = Batch { node: seen, policy: awaited, keeping: keeping.map(Keeping::shared) };
    let about = About::batch::<_, _, _, N::Outcome, N::Action>(NodeKind::BatchNode, &awaited);
    let about = about.checked(|| N::check(&node));
    let batch = Batch { node, policy, keeping: None };
    if batch.policy.inline && !batch.policy.retry.is_again() {
        return Added::node(about, Body::sync(batch));
    }
    Added::node(about, Body::either(batch, awaited))
}

/// Adds an async batch node: its items are polled in place, or are tasks of their own.
fn async_batch<S: State, N: AsyncBatchNode<S>>(batch: Batch<N, N::Item, N::Output>) -> Added<S> {
    let about = About::batch::<_, _, _, N::Outcome, N::Action>(NodeKind::AsyncBatchNode, &batch);
    let about = about.checked(|| N::check(&batch.node));
    if batch.policy.spawned {
        return Added::node(about, Body::awaited(SpawnedBatch(batch)));
    }
    Added::node(about, Body::awaited(batch))
}

impl About {
    fn batch<N, I, O, C: ItemOutcome<O>, A: Label>(kind: NodeKind, batch: &Batch<N, I, O>) -> Self {
        Self {
            on_error: Some(C::ON_ERROR),
            journaled: batch.keeping.is_some(),
            ..Self::new(kind, A::NAMES, batch.policy.clone())
        }
    }
}
