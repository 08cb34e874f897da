//! One visit: the three phases of one node, with retry, timeout and fallback around the middle one.
//!
//! ```text
//! prep(&S) ─▶ exec ─▶ … ─▶ exec ─▶ exec_fallback ─▶ post(&mut S)
//!             └─ attempts ──────┘  └ if the last failed
//! ```
//!
//! Every driver goes through [`Definition::visit`](crate::flow::Definition::visit), which calls a [`SyncBody`] or an
//! [`AsyncBody`]; none knows what a phase is. The sync and the async half are twins; what they decide
//! ([`Retry::next_wait`](crate::Retry)) is shared.
//!
//! **Invariant:** `exec` is never given the state, so it may be repeated, moved and abandoned.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    action::Returned,
    context::Context,
    error::{Failure, NodeError, NodeFailure, Phase, Result},
    event::EventKind,
    node::{AsyncNode, Node, State},
    policy::Policy,
};

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A node without its types, visited on the caller's thread.
pub(crate) trait SyncBody<S>: Send + Sync {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Result<Returned, Failure>;
}

/// A node without its types, visited by awaiting: one box a visit.
pub(crate) trait AsyncBody<S>: Send + Sync {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Result<Returned, Failure>>;
}

/// A [`Node`] or an [`AsyncNode`] with its policy.
pub(crate) struct Single<N> {
    pub(crate) node: Arc<N>,
    pub(crate) policy: Policy,
}

impl<S: State, N: Node<S>> SyncBody<S> for Single<N> {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Result<Returned, Failure> {
        let prep = in_phase(Phase::Prep, catch(|| self.node.prep(shared)))?;
        let exec = attempts(
            &self.policy,
            cx,
            |cx| self.node.exec(&prep, cx),
            |error, cx| self.node.exec_fallback(&prep, error, cx),
        )?;
        let action = in_phase(Phase::Post, catch(|| self.node.post(shared, prep, exec)))?;
        Ok(Returned::of(action))
    }
}

impl<S: State, N: AsyncNode<S>> AsyncBody<S> for Single<N> {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Result<Returned, Failure>> {
        Box::pin(async move {
            let prep = in_phase(Phase::Prep, catch_async(|| self.node.prep(shared)).await)?;
            let work = NodeWork { node: &*self.node, prep: &prep, state: std::marker::PhantomData };
            let exec = attempts_async(&work, &self.policy, self.policy.end(), cx).await?;
            let action = in_phase(Phase::Post, catch_async(|| self.node.post(shared, prep, exec)).await)?;
            Ok(Returned::of(action))
        })
    }
}

/// `exec` and `exec_fallback` of an [`AsyncNode`] for one prep value.
struct NodeWork<'a, S, N: AsyncNode<S>> {
    node: &'a N,
    prep: &'a N::Prep,
    state: std::marker::PhantomData<fn(S)>,
}

impl<S: State, N: AsyncNode<S>> Work for NodeWork<'_, S, N> {
    type Output = N::Exec;

    fn exec(&self, cx: &Context) -> impl Future<Output = Result<N::Exec>> + Send {
        self.node.exec(self.prep, cx)
    }

    fn fallback(&self, error: NodeError, cx: &Context) -> impl Future<Output = Result<N::Exec>> + Send {
        self.node.exec_fallback(self.prep, error, cx)
    }
}

/// Tries `exec` until it succeeds, its policy gives up, or the run is stopped; then falls back.
pub(crate) fn attempts<T>(
    policy: &Policy,
    cx: &mut Context,
    exec: impl Fn(&Context) -> Result<T>,
    fallback: impl FnOnce(NodeError, &Context) -> Result<T>,
) -> Result<T, Failure> {
    loop {
        let error = match attempt(cx, &exec) {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        cx.check()?;
        let Some(wait) = policy.retry.next_wait(cx.attempt, &error, || cx.spread()) else {
            cx.event(|| EventKind::FellBack { reason: error.to_string() });
            return catch(|| fallback(error, cx)).map_err(|error| gave_up(cx, error));
        };
        cx.event(|| EventKind::Retry { reason: error.to_string(), wait });
        cx.sleep(wait)?;
        cx.attempt += 1;
    }
}

#[inline]
fn attempt<T>(cx: &Context, exec: impl Fn(&Context) -> Result<T>) -> Result<T> {
    if cx.watched() {
        cx.event(|| EventKind::AttemptStarted);
        return attempt_span(cx).in_scope(|| catch(|| exec(cx)));
    }
    catch(|| exec(cx))
}

/// What an attempt runs: the `exec` of a node on its prep value, or of a batch node on one item.
pub(crate) trait Work: Sync {
    type Output: Send;

    fn exec(&self, cx: &Context) -> impl Future<Output = Result<Self::Output>> + Send;
    fn fallback(&self, error: NodeError, cx: &Context) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// The async twin of [`attempts`]; `end` is when the time of the whole visit is over.
pub(crate) async fn attempts_async<W: Work>(
    work: &W,
    policy: &Policy,
    end: Option<Instant>,
    cx: &mut Context,
) -> Result<W::Output, Failure> {
    loop {
        let plain = policy.timeout.is_none() && end.is_none() && !policy.pooled && !cx.watched();
        let result = if plain {
            catch_async(|| work.exec(cx)).await
        } else {
            // Boxed, so that a node without limits does not carry the room for them.
            Box::pin(guarded_attempt(work, policy, end, cx)).await
        };
        let error = match result {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        let wait = policy.retry.next_wait(cx.attempt, &error, || cx.spread());
        let wait = wait.filter(|wait| end.is_none_or(|end| Instant::now() + *wait < end));
        let Some(wait) = wait else {
            cx.event(|| EventKind::FellBack { reason: error.to_string() });
            let result = Box::pin(catch_async(|| work.fallback(error, cx))).await;
            return result.map_err(|error| gave_up(cx, error));
        };
        cx.event(|| EventKind::Retry { reason: error.to_string(), wait });
        if !wait.is_zero() {
            Box::pin(tokio::time::sleep(wait)).await;
        }
        cx.attempt += 1;
    }
}

/// One attempt with everything that may stand around it: events, a span, a time limit, the blocking pool.
async fn guarded_attempt<W: Work>(
    work: &W,
    policy: &Policy,
    end: Option<Instant>,
    cx: &mut Context,
) -> Result<W::Output> {
    if policy.pooled {
        cx.renew_abandoned();
    }
    let cx = &*cx;
    cx.event(|| EventKind::AttemptStarted);
    let span = if cx.traced() { attempt_span(cx) } else { tracing::Span::none() };
    let mut exec = std::pin::pin!(catch_async(|| work.exec(cx)).instrument(span));
    let Some(limit) = policy.limit(end) else { return exec.await };
    if let Ok(result) = tokio::time::timeout(limit, exec.as_mut()).await {
        return result;
    }
    if let Some(abandoned) = cx.abandoned().filter(|_| policy.pooled) {
        // A blocking exec cannot be dropped; two attempts at once would be worse than a wait.
        abandoned.store(true, Ordering::Relaxed);
        drop(exec.await);
    }
    Err(NodeError::timed_out(limit))
}

impl Policy {
    /// When a visit that begins now has used up its time.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.total_timeout.map(|limit| Instant::now() + limit)
    }

    /// The time of an attempt that begins now.
    fn limit(&self, end: Option<Instant>) -> Option<Duration> {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        match (self.timeout, left) {
            (Some(limit), Some(left)) => Some(limit.min(left)),
            (limit, left) => limit.or(left),
        }
    }
}

/// The failure of a node, or of an item, after its fallback.
fn gave_up(cx: &Context, error: NodeError) -> Failure {
    Failure::Node(Box::new(NodeFailure { phase: Phase::Exec, attempts: cx.attempt + 1, item: cx.item(), error }))
}

fn in_phase<T>(phase: Phase, result: Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure::in_phase(phase, error))
}

fn attempt_span(cx: &Context) -> tracing::Span {
    if !cx.traced() {
        return tracing::Span::none();
    }
    tracing::info_span!(target: "flowstone", "attempt", attempt = cx.attempt(), item = cx.item())
}

/// Calls a phase; a panic in it becomes its error.
pub(crate) fn catch<T>(phase: impl FnOnce() -> Result<T>) -> Result<T> {
    // The state may be half-written after a panic in `post`, as it may be after an error: the run ends either way.
    catch_unwind(AssertUnwindSafe(phase)).unwrap_or_else(|payload| Err(NodeError::panicked(&*payload)))
}

/// Awaits a phase; a panic in it becomes its error.
pub(crate) async fn catch_async<T, F: Future<Output = Result<T>>>(phase: impl FnOnce() -> F) -> Result<T> {
    // The call is inside, too: a phase may panic before it returns its future.
    AssertUnwindSafe(async move { phase().await })
        .catch_unwind()
        .await
        .unwrap_or_else(|payload| Err(NodeError::panicked(&*payload)))
}
