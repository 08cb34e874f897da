//! One visit: the three phases of one node, with retry, timeout and fallback around the middle one.
//!
//! ```text
//! prep(&S) ─▶ exec ─▶ … ─▶ exec ─▶ exec_fallback ─▶ post(&mut S)
//!             └─ attempts ──────┘  └ if the last failed
//! ```
//!
//! Every driver goes through [`Definition::visit`](crate::visit::Definition::visit), which calls a [`SyncBody`] or an
//! [`AsyncBody`]; no driver knows what a phase is. The sync and the async half are twins, and share their decisions
//! ([`Retry::next_wait`](crate::Retry)).
//!
//! **Invariant:** `exec` is never given the state, so it may be repeated, moved and abandoned.

use std::{
    future::Future,
    marker::PhantomData,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    context::Context,
    execution::BoxFuture,
    node::{AsyncNode, Node, State},
    outcome::{Detour, Visited},
    policy::Policy,
    visit::body::{AsyncBody, SyncBody, boxed, edge},
    words::{
        error::{NodeError, Phase, Result, RunError},
        event::EventKind,
        guard::text,
    },
};

/// A [`Node`] or an [`AsyncNode`] with its policy.
pub(crate) struct Single<N> {
    pub(crate) node: Arc<N>,
    pub(crate) policy: Policy,
}

impl<N> Clone for Single<N> {
    fn clone(&self) -> Self {
        Self { node: Arc::clone(&self.node), policy: self.policy.clone() }
    }
}

impl<S: State, N: Node<S>> SyncBody<S> for Single<N> {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Visited {
        let node = &*self.node;
        let prep = node.prep(shared).map_err(|error| cx.failed(error))?;
        cx.phase = Phase::Exec;
        let exec =
            attempts(&self.policy, cx, |cx| node.exec(&prep, cx), |error, cx| node.exec_fallback(&prep, error, cx))?;
        cx.phase = Phase::Post;
        match node.post(shared, prep, exec) {
            Ok(action) => edge(action, cx),
            Err(error) => Err(cx.failed(error)),
        }
    }

    fn share(&self) -> Box<dyn SyncBody<S>> {
        Box::new(self.clone())
    }
}

impl<S: State, N: AsyncNode<S>> AsyncBody<S> for Single<N> {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Visited> {
        boxed(move || async move {
            let prep = match self.node.prep(shared).await {
                Ok(prep) => prep,
                Err(error) => return Err(cx.failed(error)),
            };
            cx.phase = Phase::Exec;
            cx.begin_time(&self.policy);
            let work = NodeWork { single: self, prep: &prep, state: PhantomData };
            let exec = attempts_async(work, cx).await?;
            cx.phase = Phase::Post;
            match self.node.post(shared, prep, exec).await {
                Ok(action) => edge(action, cx),
                Err(error) => Err(cx.failed(error)),
            }
        })
    }

    fn share(&self) -> Box<dyn AsyncBody<S>> {
        Box::new(self.clone())
    }
}

/// `exec` and `exec_fallback` of an [`AsyncNode`] for one prep value.
struct NodeWork<'a, S, N: AsyncNode<S>> {
    single: &'a Single<N>,
    prep: &'a N::Prep,
    state: PhantomData<fn(S)>,
}

impl<S: State, N: AsyncNode<S>> Work for NodeWork<'_, S, N> {
    type Output = N::Exec;

    fn policy(&self) -> &Policy {
        &self.single.policy
    }

    fn exec(&self, cx: &Context) -> impl Future<Output = Result<N::Exec>> + Send {
        self.single.node.exec(self.prep, cx)
    }

    fn fallback(&self, error: NodeError, cx: &Context) -> impl Future<Output = Result<N::Exec>> + Send {
        self.single.node.exec_fallback(self.prep, error, cx)
    }
}

/// Tries `exec` until it succeeds, its policy gives up, or the run is stopped; then falls back.
pub(crate) fn attempts<T>(
    policy: &Policy,
    cx: &mut Context,
    exec: impl Fn(&Context) -> Result<T>,
    fallback: impl FnOnce(NodeError, &Context) -> Result<T>,
) -> Result<T, Box<Detour>> {
    loop {
        cx.event(|| EventKind::AttemptStarted);
        let result = {
            let _span = cx.traced().then(|| cx.attempt_span().entered());
            exec(cx)
        };
        let error = match result {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        cx.check()?;
        let Some(wait) = policy.retry.next_wait(cx.attempt, &error, || cx.spread()) else {
            cx.event(|| EventKind::FellBack { reason: text(&error) });
            return fallback(error, cx).map_err(|error| cx.failed(error));
        };
        cx.event(|| EventKind::Retry { reason: text(&error), wait });
        cx.sleep(wait)?;
        cx.attempt += 1;
    }
}

/// The work of an attempt: the `exec` of a node on its prep value, or of a batch node on one item.
pub(crate) trait Work: Sync {
    type Output: Send;

    fn policy(&self) -> &Policy;

    fn exec(&self, cx: &Context) -> impl Future<Output = Result<Self::Output>> + Send;
    fn fallback(&self, error: NodeError, cx: &Context) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// The async twin of [`attempts`].
///
/// Most visits do not need the futures that are boxed here, and so carry no room for them.
#[expect(clippy::manual_async_fn, reason = "an `async fn` would hold its arguments twice, in every run")]
pub(crate) fn attempts_async<'a, W: Work + Send + 'a>(
    work: W,
    cx: &'a mut Context,
) -> impl Future<Output = Result<W::Output, Box<Detour>>> + Send + use<'a, W> {
    async move {
        if cx.journal().is_some() {
            Box::pin(wait_rest(cx)).await;
        }
        loop {
            if work.policy().pooled {
                cx.renew_abandoned();
            }
            cx.event(|| EventKind::AttemptStarted);
            let result = if work.policy().guarded || cx.traced() {
                Box::pin(guarded(&work, cx)).await
            } else {
                work.exec(cx).await
            };
            let error = match result {
                Ok(output) => return still_wanted(output, work.policy(), cx),
                Err(error) => error,
            };
            if let Some(stood_in) = Box::pin(after(error, &work, cx)).await? {
                return Ok(stood_in);
            }
            cx.attempt += 1;
        }
    }
}

/// Goes on with the wait that an earlier process began, and with the number of the attempt after it.
async fn wait_rest(cx: &mut Context) {
    let end = cx.end();
    let Some((journal, item)) = cx.journal().zip(cx.waits_as()) else { return };
    let Some(waited) = journal.waited(item) else { return };
    if !waited.left.is_zero() {
        // The time of the visit bounds the wait: the attempt then fails for want of time.
        let until_end = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        let _ = tokio::time::timeout(until_end, journal.rest(item, waited.left)).await;
    }
    cx.attempt = waited.attempt;
}

/// Discards the output of a blocking attempt that was told to stop. Its run may look at the time only a moment later.
fn still_wanted<T>(output: T, policy: &Policy, cx: &Context) -> Result<T, Box<Detour>> {
    if policy.pooled {
        cx.check()?;
    }
    Ok(output)
}

/// Waits for the attempt that follows a failed one; if none does, returns what stands in for its output.
async fn after<W: Work>(error: NodeError, work: &W, cx: &mut Context) -> Result<Option<W::Output>, Box<Detour>> {
    let (policy, end) = (work.policy(), cx.end());
    cx.wait_for_attempt().await;
    cx.check()?;
    let error = unless_run_stops(error, cx)?;
    let wait = policy.retry.next_wait(cx.attempt, &error, || cx.spread());
    let in_time = |wait: &Duration| end.is_none_or(|end| Instant::now().checked_add(*wait).is_some_and(|at| at < end));
    let Some(wait) = wait.filter(in_time) else {
        cx.event(|| EventKind::FellBack { reason: text(&error) });
        if policy.pooled {
            cx.renew_abandoned();
        }
        let stood_in = work.fallback(error, cx).await;
        return stood_in
            .map(Some)
            .map_err(|error| unless_run_stops(error, cx).map_or_else(|stops| stops, |error| cx.failed(error)));
    };
    cx.event(|| EventKind::Retry { reason: text(&error), wait });
    if !wait.is_zero() {
        wait_before_attempt(cx, cx.attempt + 1, wait).await?;
    }
    Ok(None)
}

/// Waits between two attempts, and keeps that where there is a journal.
async fn wait_before_attempt(cx: &Context, attempt: u32, wait: Duration) -> Result<(), Box<Detour>> {
    let Some(journal) = cx.journal() else {
        tokio::time::sleep(wait).await;
        return Ok(());
    };
    let Some(item) = cx.waits_as() else {
        // An item of a batch that starts over has no identity to keep a wait under.
        journal.keep_time_left(wait).await.map_err(|error| cx.not_kept(error))?;
        tokio::time::sleep(wait).await;
        return Ok(());
    };
    journal.wait(item, attempt, wait).await.map_err(|error| cx.not_kept(error))?;
    journal.rest(item, wait).await;
    Ok(())
}

/// Makes one attempt, with whatever stands around it: a span, a time limit, the blocking pool.
async fn guarded<W: Work>(work: &W, cx: &Context) -> Result<W::Output> {
    let policy = work.policy();
    let mut exec = std::pin::pin!(work.exec(cx).instrument(cx.attempt_span()));
    let Some((left, reason)) = policy.limit(cx.end()) else { return exec.await };
    if left.is_zero() {
        return Err(NodeError::new(reason)); // the time of the visit is over: this item does not begin
    }
    if let Ok(result) = tokio::time::timeout(left, exec.as_mut()).await {
        return result;
    }
    if let Some(abandoned) = cx.abandoned().filter(|_| policy.pooled) {
        // A blocking exec cannot be dropped; two attempts at once would be worse than a wait.
        abandoned.store(true, Ordering::Relaxed);
        drop(exec.await);
    }
    Err(NodeError::new(reason))
}

/// Tells the errors of a child that stop the whole run from those that belong to the node.
///
/// An error that stopped another run, which an `exec` made by itself, belongs to the node.
pub(crate) fn unless_run_stops(error: NodeError, cx: &Context) -> Result<NodeError, Box<Detour>> {
    let stopped = match error.downcast_ref() {
        Some(
            RunError::TooManyVisits { run, .. }
            | RunError::Cancelled { run, .. }
            | RunError::DeadlineExceeded { run, .. }
            | RunError::Journal { run, .. },
        ) => *run == cx.run_id(),
        _ => false,
    };
    if !stopped {
        return Ok(error);
    }
    let stopped = error.into_source().downcast().expect("invariant: it was looked at");
    Err(Box::new(Detour::Stopped(*stopped)))
}
