//! One visit of a batch node: `exec` once per item, outputs in input order.
//!
//! Retry, fallback and attempt counter belong to the item: each has a [`Context`] of its own.
//!
//! **Invariant:** beyond inputs and outputs, memory grows with the limit, not with the number of items.

use std::{
    future::Future,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::JoinSet;
use tracing::Instrument;

use crate::{
    context::Context,
    execution::BoxFuture,
    node::{AsyncBatchNode, BatchNode, ItemOutcome, State},
    outcome::{Detour, Visited},
    policy::{OnError, Policy},
    visit::{
        attempt::{Work, attempts, attempts_async},
        batch::{
            in_order::{Each, filled, in_order},
            keeping::Keeping,
        },
        body::{AsyncBody, SyncBody, edge},
    },
    words::{
        error::{NodeError, Phase, Result},
        event::EventKind,
        guard::{Catch, catch, text},
    },
};

use keeping::Kept;

pub(crate) mod in_order;
pub(crate) mod keeping;

/// A [`BatchNode`] or an [`AsyncBatchNode`] with its policy.
pub(crate) struct Batch<N, I, O> {
    pub(crate) node: Arc<N>,
    pub(crate) policy: Policy,
    /// The way in which the journal of a run keeps the items, if the batch is journaled.
    pub(crate) keeping: Option<Keeping<I, O>>,
}

impl<N, I, O> Clone for Batch<N, I, O> {
    fn clone(&self) -> Self {
        let (policy, keeping) = (self.policy.clone(), self.keeping.clone());
        Self { node: Arc::clone(&self.node), policy, keeping }
    }
}

impl<S: State, N: BatchNode<S>> SyncBody<S> for Batch<N, N::Item, N::Output> {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Visited {
        let node = &*self.node;
        let items = node.prep(shared).map_err(|error| cx.failed(error))?;
        cx.begin_items(items.len())?;
        let mut outcomes = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let mut cx = cx.for_item(index);
            cx.check()?;
            let result = catch(|| {
                let fallback = |error, cx: &Context| node.exec_fallback(item, error, cx);
                attempts(&self.policy, &mut cx, |cx| node.exec(item, cx), fallback)
            });
            outcomes.push(outcome(result, &cx)?);
        }
        cx.phase = Phase::Post;
        let action = node.post(shared, items, outcomes).map_err(|error| cx.failed(error))?;
        edge(action, cx)
    }

    fn share(&self) -> Box<dyn SyncBody<S>> {
        Box::new(self.clone())
    }
}

impl<S: State, N: AsyncBatchNode<S>> AsyncBody<S> for Batch<N, N::Item, N::Output> {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Visited> {
        Box::pin(async move {
            let node = &*self.node;
            let items = node.prep(shared).await.map_err(|error| cx.failed(error))?;
            cx.begin_items(items.len())?;
            let kept = Kept::begin(self.keeping.as_ref(), &items, cx)?;
            cx.begin_time(&self.policy);
            let each = Items::<S, N>::new(self, kept, cx);
            let outcomes = in_order(&each, items.iter().enumerate(), self.policy.at_once()).await?;
            cx.phase = Phase::Post;
            let action = node.post(shared, items, outcomes).await.map_err(|error| cx.failed(error))?;
            edge(action, cx)
        })
    }

    fn share(&self) -> Box<dyn AsyncBody<S>> {
        Box::new(self.clone())
    }
}

/// An [`AsyncBatchNode`] whose items are tasks of their own.
pub(crate) struct SpawnedBatch<N, I, O>(pub(crate) Batch<N, I, O>);

impl<S: State, N: AsyncBatchNode<S>> AsyncBody<S> for SpawnedBatch<N, N::Item, N::Output> {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Visited> {
        Box::pin(async move {
            let node = &*self.0.node;
            let items = Arc::new(node.prep(shared).await.map_err(|error| cx.failed(error))?);
            cx.begin_items(items.len())?;
            let kept = Kept::begin(self.0.keeping.as_ref(), &items, cx)?;
            let mut tasks = JoinSet::new();
            // Items that compute look whether they have to stop. They are told when this visit fails or is dropped.
            cx.begin_time(&self.0.policy);
            let mut item_cx = cx.clone();
            item_cx.renew_abandoned();
            let told = Told(item_cx.abandoned().cloned());
            let result = self.0.spawn_all::<S>(&mut tasks, &items, kept, &item_cx).await;
            drop(told);
            tasks.shutdown().await; // after an error, siblings are cancelled and awaited
            let outcomes = result?;
            let items = Arc::into_inner(items).expect("invariant: every task has ended and dropped its items");
            cx.phase = Phase::Post;
            let action = node.post(shared, items, outcomes).await.map_err(|error| cx.failed(error))?;
            edge(action, cx)
        })
    }

    fn share(&self) -> Box<dyn AsyncBody<S>> {
        Box::new(Self(self.0.clone()))
    }
}

impl<N, I: Send + Sync + 'static, O: Send + 'static> Batch<N, I, O> {
    async fn spawn_all<S>(
        &self,
        tasks: &mut JoinSet<Numbered<N::Outcome>>,
        items: &Arc<Vec<I>>,
        kept: Option<Arc<Kept<O>>>,
        cx: &Context,
    ) -> Result<Vec<N::Outcome>, Box<Detour>>
    where
        S: State,
        N: AsyncBatchNode<S, Item = I, Output = O>,
    {
        let mut outcomes: Vec<Option<N::Outcome>> = items.iter().map(|_| None).collect();
        let mut next = 0;
        loop {
            while next < items.len() && tasks.len() < self.policy.at_once() {
                cx.check()?;
                let each = (self.clone(), kept.clone(), cx.clone());
                let task = spawned_item::<S, N>(each, Arc::clone(items), next);
                let task = task.in_current_span();
                tasks.spawn(cx.count().around(task));
                next += 1;
            }
            match tasks.join_next().await {
                None => break,
                Some(Ok((index, outcome))) => outcomes[index] = Some(outcome?),
                Some(Err(error)) => return Err(cx.failed(NodeError::terminal(error))),
            }
        }
        Ok(filled(outcomes))
    }
}

/// When dropped, tells spawned items that nobody waits for them any more.
struct Told(Option<Arc<AtomicBool>>);

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(abandoned) = &self.0 {
            abandoned.store(true, Ordering::Relaxed);
        }
    }
}

/// The index of a spawned item, and what `post` gets for it.
type Numbered<C> = (usize, Result<C, Box<Detour>>);

/// The parts of a batch that a spawned item needs.
type OfBatch<N, I, O> = (Batch<N, I, O>, Option<Arc<Kept<O>>>, Context);

async fn spawned_item<S: State, N: AsyncBatchNode<S>>(
    (batch, kept, cx): OfBatch<N, N::Item, N::Output>,
    items: Arc<Vec<N::Item>>,
    index: usize,
) -> Numbered<N::Outcome> {
    let each = Items::<S, N>::new(&batch, kept, &cx);
    (index, each.run((index, &items[index])).await)
}

/// The parts of a batch that every item of one visit shares.
struct Items<'a, S, N: AsyncBatchNode<S>> {
    node: &'a N,
    policy: &'a Policy,
    kept: Option<Arc<Kept<N::Output>>>,
    cx: &'a Context,
    state: PhantomData<fn(S)>,
}

impl<'a, S: State, N: AsyncBatchNode<S>> Items<'a, S, N> {
    fn new(batch: &'a Batch<N, N::Item, N::Output>, kept: Option<Arc<Kept<N::Output>>>, cx: &'a Context) -> Self {
        Self { node: &batch.node, policy: &batch.policy, kept, cx, state: PhantomData }
    }
}

impl<'a, S: State, N: AsyncBatchNode<S>> Each for Items<'a, S, N> {
    type Input = (usize, &'a N::Item);
    type Output = N::Outcome;

    fn context(&self) -> &Context {
        self.cx
    }

    /// No `async fn`, which would hold its arguments twice, for every item.
    fn run(&self, (index, item): (usize, &'a N::Item)) -> impl Future<Output = Result<N::Outcome, Box<Detour>>> + Send {
        let mut cx = match &self.kept {
            None => self.cx.for_item(index),
            Some(kept) => self.cx.for_kept(kept.id(index)),
        };
        async move {
            if let Some(kept) = &self.kept {
                // Boxed, so that items that nothing keeps carry no room for it.
                return Box::pin(self.run_kept(kept, item, &mut cx)).await;
            }
            let result = Catch::new(attempts_async(ItemWork { of: self, item }, &mut cx)).await;
            outcome(result, &cx)
        }
    }
}

impl<S: State, N: AsyncBatchNode<S>> Items<'_, S, N> {
    /// Runs an item that a journal keeps, unless its output was recalled. The item is done only when its output is
    /// kept.
    async fn run_kept(
        &self,
        kept: &Kept<N::Output>,
        item: &N::Item,
        cx: &mut Context,
    ) -> Result<N::Outcome, Box<Detour>> {
        let id = cx.item_id().expect("invariant: the context of a kept item has its id");
        if let Some(output) = kept.take(id) {
            return done(output, true, cx);
        }
        let whole = async {
            let output = attempts_async(ItemWork { of: self, item }, cx).await?;
            kept.record(id, output, cx).await
        };
        let result = Catch::new(whole).await;
        outcome(result, cx)
    }
}

/// `exec` and `exec_fallback` of an [`AsyncBatchNode`] for one item.
struct ItemWork<'a, S, N: AsyncBatchNode<S>> {
    of: &'a Items<'a, S, N>,
    item: &'a N::Item,
}

impl<S: State, N: AsyncBatchNode<S>> Work for ItemWork<'_, S, N> {
    type Output = N::Output;

    fn policy(&self) -> &Policy {
        self.of.policy
    }

    fn exec(&self, cx: &Context) -> impl Future<Output = Result<N::Output>> + Send {
        self.of.node.exec(self.item, cx)
    }

    fn fallback(&self, error: NodeError, cx: &Context) -> impl Future<Output = Result<N::Output>> + Send {
        self.of.node.exec_fallback(self.item, error, cx)
    }
}

/// Makes the value that `post` gets for the output of an item, which was made now or recalled by a journal.
fn done<O, C: ItemOutcome<O>>(output: O, recalled: bool, cx: &Context) -> Result<C, Box<Detour>> {
    cx.event(|| EventKind::ItemEnded { error: None, recalled });
    C::from_result(Ok(output)).map_err(|error| cx.failed(error))
}

/// Makes the value that `post` gets for an item; an error if it ends the batch.
fn outcome<O, C: ItemOutcome<O>>(result: Result<O, Box<Detour>>, cx: &Context) -> Result<C, Box<Detour>> {
    let detour = match result {
        Ok(output) => return done(output, false, cx),
        Err(detour) => cx.located(*detour),
    };
    if let Detour::Failed { error, .. } = &*detour {
        cx.event(|| EventKind::ItemEnded { error: Some(text(&error)), recalled: false });
    }
    match *detour {
        Detour::Failed { error, .. } if C::ON_ERROR == OnError::Collect => {
            C::from_result(Err(error)).map_err(|error| cx.failed(error))
        }
        detour => Err(Box::new(detour)),
    }
}
