//! Policies around `exec`: retries, timeouts, and where it runs.
//!
//! A node is wrapped where it is added: `flow.add("fetch", Fetch.retry(Retry::attempts(3)).timeout(limit))`. The
//! wrapper [`With`] collects the policy, and `build()` checks whether the node can have it.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    execution::Journal,
    words::{
        error::{NodeError, TimedOut},
        item_key::Identity,
    },
};

pub(crate) mod ext;
pub(crate) mod no_node;

/// A policy of retries: the number of attempts of `exec`, the waits between them, and the errors that are tried again.
///
/// The default is one attempt. Waits come between attempts, never after the last. An error that is
/// [terminal](NodeError::terminal) is not tried again; one that names a
/// [retry-after](NodeError::with_retry_after) is waited for at least that long.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use flowstone_core::Retry;
///
/// let retry = Retry::attempts(4).exponential(Duration::from_millis(200)).max_wait(Duration::from_millis(500));
/// let waits: Vec<_> = (0..3).map(|attempt| retry.wait_after(attempt).as_millis()).collect();
/// assert_eq!(waits, [200, 400, 500]);
/// ```
#[derive(Clone)]
pub struct Retry {
    attempts: u32,
    first: Duration,
    factor: u32,
    max_wait: Option<Duration>,
    jitter: bool,
    when: Option<Arc<Condition>>,
}

/// The condition under which an error is tried again.
type Condition = dyn Fn(&NodeError) -> bool + Send + Sync;

impl Retry {
    /// The longest wait of [`exponential`](Self::exponential), unless [`max_wait`](Self::max_wait) says otherwise: one
    /// minute.
    pub const MAX_WAIT: Duration = Duration::from_mins(1);

    /// Allows `attempts` attempts in all, without waits: 1 means no retry. 0 is an error of `build()`.
    #[must_use]
    pub const fn attempts(attempts: u32) -> Self {
        let first = Duration::ZERO;
        Self { attempts, first, factor: 1, max_wait: None, jitter: false, when: None }
    }

    /// Waits the same time between all attempts.
    #[must_use]
    pub fn fixed(mut self, wait: Duration) -> Self {
        (self.first, self.factor) = (wait, 1);
        self
    }

    /// Waits `first` after the first attempt and twice as long after each further one, up to
    /// [`max_wait`](Self::max_wait).
    #[must_use]
    pub fn exponential(mut self, first: Duration) -> Self {
        (self.first, self.factor) = (first, 2);
        self
    }

    /// Bounds a computed wait. A retry-after that an error names is not bounded.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = Some(wait);
        self
    }

    /// Spreads each computed wait evenly between a half and the whole of it, so that many runs do not come back at
    /// once.
    ///
    /// The spread follows from the run, the visit, the item and the attempt, see
    /// [`RunOptions::seed`](crate::RunOptions::seed).
    #[must_use]
    pub fn jitter(mut self) -> Self {
        self.jitter = true;
        self
    }

    /// Tries again only after errors for which `when` holds. Terminal errors are not asked about.
    #[must_use]
    pub fn retry_if(mut self, when: impl Fn(&NodeError) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(when));
        self
    }

    /// Returns the wait after attempt number `attempt`, counted from 0, before jitter and retry-after.
    #[must_use]
    pub fn wait_after(&self, attempt: u32) -> Duration {
        let factor = self.factor.checked_pow(attempt).unwrap_or(u32::MAX);
        let longest = if self.factor == 1 { Duration::MAX } else { Self::MAX_WAIT };
        self.first.saturating_mul(factor).min(self.max_wait.unwrap_or(longest))
    }

    /// Decides what follows a failed attempt: the wait before the next, or `None` if it was the last.
    pub(crate) fn next_wait(&self, attempt: u32, error: &NodeError, spread: impl FnOnce() -> u64) -> Option<Duration> {
        let again =
            attempt + 1 < self.attempts && !error.is_terminal() && self.when.as_ref().is_none_or(|when| when(error));
        again.then(|| {
            let wait = self.wait_after(attempt);
            let wait = if self.jitter && !wait.is_zero() { spread_out(wait, spread()) } else { wait };
            wait.max(error.retry_after().unwrap_or_default())
        })
    }

    pub(crate) fn count(&self) -> u32 {
        self.attempts
    }

    /// Returns whether anything is tried again.
    pub(crate) fn is_again(&self) -> bool {
        self.attempts > 1
    }

    /// Returns whether there is a wait between two attempts, as far as is known before an error names one.
    pub(crate) fn waits(&self) -> bool {
        self.is_again() && !self.wait_after(0).is_zero()
    }
}

/// Places a wait in its upper half, by 32 random bits.
fn spread_out(wait: Duration, random: u64) -> Duration {
    let half = wait / 2;
    half + half.mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
}

no_node::no_node!(Retry: timeout, total_timeout, parallel =>
    "a timeout belongs to the node, beside its retries: `Fetch.retry(Retry::attempts(3)).timeout(limit)`"
);

impl Default for Retry {
    fn default() -> Self {
        Self::attempts(1)
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("first", &self.first)
            .field("factor", &self.factor)
            .field("max_wait", &self.max_wait)
            .field("jitter", &self.jitter)
            .field("retry_if", &self.when.is_some())
            .finish()
    }
}

/// Everything that `visit` needs to know about a node's `exec`. [`With`] collects it, and `build()` checks it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub(crate) retry: Retry,
    /// The time of one attempt.
    pub(crate) timeout: Option<Duration>,
    /// The time of all attempts, waits and items of a visit.
    pub(crate) total_timeout: Option<Duration>,
    /// `true` if a sync `exec` stays on the thread of the run.
    pub(crate) inline: bool,
    /// The number of items that may be under way at once, if the user gave one.
    pub(crate) parallel: Option<usize>,
    /// `true` if each item is a task of its own.
    pub(crate) spawned: bool,
    /// `true` if `exec` runs on the blocking pool, where it cannot be dropped but only be waited for.
    pub(crate) pooled: bool,
    /// `true` if something stands around an attempt: a time limit or the pool. It follows from the others.
    pub(crate) guarded: bool,
}

/// A node with a policy, made by the methods of [`NodeExt`](crate::NodeExt).
///
/// `Kept` says how a driver that keeps runs tells the items of a batch apart. It is a type, since it asks something of
/// the node's own types. The rest of the policy are values: `docs/decisions/0034-a-mode-is-a-value.md`.
#[derive(Clone, Debug)]
pub struct With<N, Kept = Plain> {
    pub(crate) node: N,
    pub(crate) policy: Policy,
    kept: PhantomData<fn() -> Kept>,
}

/// Marks a node of which a driver keeps no items.
#[derive(Debug, Clone, Copy)]
pub enum Plain {}

/// Marks a batch node whose items a driver keeps as they end, and tells apart by what they hold; see
/// [`NodeExt::journaled`](crate::NodeExt::journaled).
#[derive(Debug, Clone, Copy)]
pub enum Journaled {}

/// As [`Journaled`], by the places of items; see [`NodeExt::journaled_in_order`](crate::NodeExt::journaled_in_order).
#[derive(Debug, Clone, Copy)]
pub enum JournaledInOrder {}

/// As [`Journaled`], by keys that the user gives; see [`NodeExt::journaled_by`](crate::NodeExt::journaled_by).
#[derive(Debug, Clone, Copy)]
pub enum JournaledByKey {}

/// A batch node with a key for each of its items, made by [`NodeExt::journaled_by`](crate::NodeExt::journaled_by).
pub struct Keyed<N, S, I> {
    pub(crate) node: N,
    pub(crate) identity: Identity<I>,
    state: PhantomData<fn(S)>,
}

impl<N: fmt::Debug, S, I> fmt::Debug for Keyed<N, S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<N> With<N> {
    pub(crate) fn plain(node: N) -> Self {
        Self { node, policy: Policy::default(), kept: PhantomData }
    }

    /// Lets a driver that keeps runs keep each item of a batch node as it ends; see
    /// [`NodeExt::journaled`](crate::NodeExt::journaled).
    #[must_use]
    pub fn journaled(self) -> With<N, Journaled> {
        With { node: self.node, policy: self.policy, kept: PhantomData }
    }

    /// As `journaled`, with a key that tells items apart; see [`NodeExt::journaled_by`](crate::NodeExt::journaled_by).
    #[must_use]
    pub fn journaled_by<S, M, K: Serialize>(
        self,
        key: impl Fn(&N::Item) -> K + Send + Sync + 'static,
    ) -> With<Keyed<N, S, N::Item>, JournaledByKey>
    where
        N: HasItems<S, M>,
    {
        let node = Keyed { node: self.node, identity: Identity::by(key), state: PhantomData };
        With { node, policy: self.policy, kept: PhantomData }
    }

    /// As `journaled`, with the places of items as their keys; see
    /// [`NodeExt::journaled_in_order`](crate::NodeExt::journaled_in_order).
    #[must_use]
    pub fn journaled_in_order(self) -> With<N, JournaledInOrder> {
        With { node: self.node, policy: self.policy, kept: PhantomData }
    }
}

impl<N, Kept> With<N, Kept> {
    /// Sets how often `exec` is tried; see [`NodeExt::retry`](crate::NodeExt::retry).
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.policy.retry = retry;
        self
    }

    /// Bounds the time of one attempt; see [`NodeExt::timeout`](crate::NodeExt::timeout).
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.policy.timeout = Some(limit);
        self
    }

    /// Bounds the time of all attempts, waits and items of a visit; see
    /// [`NodeExt::total_timeout`](crate::NodeExt::total_timeout).
    #[must_use]
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.policy.total_timeout = Some(limit);
        self
    }

    /// Runs a sync node's `exec` on the thread of the run; see [`NodeExt::inline`](crate::NodeExt::inline).
    #[must_use]
    pub fn inline(mut self) -> Self {
        self.policy.inline = true;
        self
    }

    /// Lets up to `limit` items of a batch node be under way at once; see
    /// [`NodeExt::parallel`](crate::NodeExt::parallel).
    #[must_use]
    pub fn parallel(mut self, limit: usize) -> Self {
        self.policy.parallel = Some(limit);
        self
    }

    /// Makes each item of a parallel async batch node a task of its own; see
    /// [`NodeExt::spawned`](crate::NodeExt::spawned).
    #[must_use]
    pub fn spawned(mut self) -> Self {
        self.policy.spawned = true;
        self
    }
}

impl Policy {
    /// Returns the policy of a sync node that is awaited: on the pool, unless it is inline.
    pub(crate) fn awaited(mut self) -> Self {
        self.pooled = !self.inline;
        self.sealed()
    }

    /// Settles what follows from the rest.
    pub(crate) fn sealed(mut self) -> Self {
        self.guarded = self.pooled || self.timeout.is_some() || self.total_timeout.is_some();
        self
    }

    /// Returns how many items may be under way at once.
    pub(crate) fn at_once(&self) -> usize {
        self.parallel.unwrap_or(1)
    }

    /// Returns when a visit has used up its time, which begins now or which an earlier process began.
    pub(crate) fn end(&self, journal: Option<&Arc<dyn Journal>>) -> Option<Instant> {
        let limit = self.total_timeout?;
        let left = journal.map_or(limit, |journal| journal.time_left(limit).min(limit));
        // A limit beyond the clock's range is none.
        Instant::now().checked_add(left)
    }

    /// Returns the time of an attempt that begins now, and the error of the attempt when that time is over.
    pub(crate) fn limit(&self, end: Option<Instant>) -> Option<(Duration, TimedOut)> {
        let attempt = self.timeout.map(|limit| (limit, TimedOut::Attempt(limit)));
        let visit = end
            .zip(self.total_timeout)
            .map(|(end, limit)| (end.saturating_duration_since(Instant::now()), TimedOut::Visit(limit)));
        [attempt, visit].into_iter().flatten().min_by_key(|(left, _)| *left)
    }
}

/// The effect that an item has on its batch when it fails for good.
///
/// A batch node chooses by the type that its `post` takes (see `docs/decisions/0002-on-error-is-a-type.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run fails; the other items are cancelled and awaited. `post` takes `Vec<Output>` and is not called.
    Stop,
    /// Every item is tried; `post` takes `Vec<Result<Output>>`.
    Collect,
}

/// A batch node with the type of its items, whichever of its traits it implements.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no items",
    note = "`journaled_by` is for batch nodes: types that implement `BatchNode` or `AsyncBatchNode`"
)]
pub trait HasItems<S, M> {
    /// One element of the batch.
    type Item;
}
