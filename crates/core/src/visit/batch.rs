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

use tokio::{task::JoinSet, time::Instant};
use tracing::Instrument;

use crate::{
    context::Context,
    driver::BoxFuture,
    node::{AsyncBatchNode, BatchNode, ItemOutcome, State},
    outcome::{Detour, Visited},
    policy::{OnError, Policy},
    visit::{
        attempt::{Work, attempts, attempts_async, retry},
        batch::{
            in_order::{Each, filled, in_order},
            keeping::Keeping,
        },
        body::{AsyncBody, SyncBody, edge},
    },
    words::{
        error::{NodeError, Phase, Result},
        event::EventKind,
        guard::{Catch, Panicked, catch, text},
        item_key::ItemId,
    },
};

use keeping::Kept;

pub(crate) mod in_order;
pub(crate) mod keeping;

/// A [`BatchNode`] or an [`AsyncBatchNode`] with its policy, and how many items may be under way at once.
pub(crate) struct Batch<N, I, O> {
    pub(crate) node: Arc<N>,
    pub(crate) policy: Policy,
    pub(crate) limit: usize,
    /// How the journal of a run keeps the items, if the batch is journaled.
    pub(crate) keeping: Option<Keeping<I, O>>,
}

impl<N, I, O> Clone for Batch<N, I, O> {
    fn clone(&self) -> Self {
        let (policy, keeping) = (self.policy.clone(), self.keeping.clone());
        Self { node: Arc::clone(&self.node), policy, limit: self.limit, keeping }
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
            let each = Items::<S, N>::new(self, kept, self.policy.end(cx.journal()), cx);
            let outcomes = in_order(&each, items.iter().enumerate(), self.limit).await?;
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
            // Items that compute ask whether to stop; they are told when this visit fails or is dropped.
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
        tasks: &mut JoinSet<(usize, Ended<N::Outcome>)>,
        items: &Arc<Vec<I>>,
        kept: Option<Arc<Kept<O>>>,
        cx: &Context,
    ) -> Result<Vec<N::Outcome>, Box<Detour>>
    where
        S: State,
        N: AsyncBatchNode<S, Item = I, Output = O>,
    {
        let end = self.policy.end(cx.journal());
        let mut outcomes: Vec<Option<N::Outcome>> = items.iter().map(|_| None).collect();
        let mut next = 0;
        loop {
            while next < items.len() && tasks.len() < self.limit {
                cx.check()?;
                let each = (self.clone(), kept.clone(), end, cx.clone());
                let task = spawned_item::<S, N>(each, Arc::clone(items), next);
                let task = task.in_current_span();
                match cx.count() {
                    Some(counted) => tasks.spawn(counted.around(task)),
                    None => tasks.spawn(task),
                };
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

/// Tells spawned items, when dropped, that nobody waits for them any more.
struct Told(Option<Arc<AtomicBool>>);

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(abandoned) = &self.0 {
            abandoned.store(true, Ordering::Relaxed);
        }
    }
}

/// What a spawned item has of its batch.
type OfBatch<N, I, O> = (Batch<N, I, O>, Option<Arc<Kept<O>>>, Option<Instant>, Context);

async fn spawned_item<S: State, N: AsyncBatchNode<S>>(
    (batch, kept, end, cx): OfBatch<N, N::Item, N::Output>,
    items: Arc<Vec<N::Item>>,
    index: usize,
) -> (usize, Ended<N::Outcome>) {
    let each = Items::<S, N>::new(&batch, kept, end, &cx);
    (index, each.run((index, &items[index])).await)
}

/// What came of an item.
type Ended<C> = Result<C, Box<Detour>>;

/// What every item of one visit shares.
struct Items<'a, S, N: AsyncBatchNode<S>> {
    node: &'a N,
    policy: &'a Policy,
    kept: Option<Arc<Kept<N::Output>>>,
    end: Option<Instant>,
    cx: &'a Context,
    state: PhantomData<fn(S)>,
}

impl<'a, S: State, N: AsyncBatchNode<S>> Items<'a, S, N> {
    fn new(
        batch: &'a Batch<N, N::Item, N::Output>,
        kept: Option<Arc<Kept<N::Output>>>,
        end: Option<Instant>,
        cx: &'a Context,
    ) -> Self {
        Self { node: &batch.node, policy: &batch.policy, kept, end, cx, state: PhantomData }
    }
}

impl<'a, S: State, N: AsyncBatchNode<S>> Each for Items<'a, S, N> {
    type Input = (usize, &'a N::Item);
    type Output = N::Outcome;

    fn context(&self) -> &Context {
        self.cx
    }

    /// No `async fn`, which would hold its arguments twice, for every item.
    fn run(&self, (index, item): (usize, &'a N::Item)) -> impl Future<Output = Ended<N::Outcome>> + Send {
        let mut cx = match &self.kept {
            None => self.cx.for_item(index),
            Some(kept) => self.cx.for_kept(kept.id(index)),
        };
        async move {
            // As in a visit: the first attempt of an item without limits stands here, and what is rare is boxed.
            let first = if self.policy.guarded || cx.watched() {
                None
            } else {
                match Catch::new(self.node.exec(item, &cx)).await {
                    Ok(output) => return outcome(Ok(output), &cx),
                    Err(error) => Some(error),
                }
            };
            Box::pin(self.go_on(item, first, &mut cx)).await
        }
    }
}

impl<S: State, N: AsyncBatchNode<S>> Items<'_, S, N> {
    /// What an item takes beyond a first attempt that succeeds: all of it, or what follows the first error.
    async fn go_on(&self, item: &N::Item, first: Option<NodeError>, cx: &mut Context) -> Ended<N::Outcome> {
        if let Some((kept, id)) = self.kept_as(cx)
            && let Some(output) = kept.take(id)
        {
            return done(output, true, cx);
        }
        let work = ItemWork { node: self.node, item, state: PhantomData };
        let result = match first {
            None => Catch::new(self.whole(&work, cx)).await,
            Some(error) if error.downcast_ref::<Panicked>().is_some() => Err(cx.failed(error)),
            Some(error) => Catch::new(retry(&work, self.policy, self.end, error, cx)).await,
        };
        outcome(result, cx)
    }

    /// What the attempts of an item give, which a journal then keeps, if there is one: only when it has, the item is done.
    async fn whole(&self, work: &ItemWork<'_, S, N>, cx: &mut Context) -> Result<N::Output, Box<Detour>> {
        let output = attempts_async(work, self.policy, self.end, cx).await?;
        match self.kept_as(cx) {
            None => Ok(output),
            Some((kept, id)) => kept.record(id, output, cx).await,
        }
    }

    /// What keeps the item, and what it is known by there.
    fn kept_as(&self, cx: &Context) -> Option<(&Kept<N::Output>, ItemId)> {
        self.kept.as_deref().zip(cx.item_id())
    }
}

/// `exec` and `exec_fallback` of an [`AsyncBatchNode`] for one item.
struct ItemWork<'a, S, N: AsyncBatchNode<S>> {
    node: &'a N,
    item: &'a N::Item,
    state: PhantomData<fn(S)>,
}

impl<S: State, N: AsyncBatchNode<S>> Work for ItemWork<'_, S, N> {
    type Output = N::Output;

    fn exec(&self, cx: &Context) -> impl Future<Output = Result<N::Output>> + Send {
        self.node.exec(self.item, cx)
    }

    fn fallback(&self, error: NodeError, cx: &Context) -> impl Future<Output = Result<N::Output>> + Send {
        self.node.exec_fallback(self.item, error, cx)
    }
}

/// What `post` gets for the output of an item: one that was made now, or one that a journal has recalled.
fn done<O, C: ItemOutcome<O>>(output: O, recalled: bool, cx: &Context) -> Result<C, Box<Detour>> {
    cx.event(|| EventKind::ItemEnded { error: None, recalled });
    C::from_result(Ok(output)).map_err(|error| cx.failed(error))
}

/// What `post` gets for an item; an error if it ends the batch.
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
