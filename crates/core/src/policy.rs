//! What happens around `exec`: retries, timeouts, and where it runs.
//!
//! A node is wrapped where it is added: `flow.add("fetch", Fetch.retry(Retry::attempts(3)).timeout(limit))`. The
//! wrapper [`With`] carries the policy and, as a type, the mode (in the pool, inline, parallel, spawned, journaled), so that a mode
//! that a node cannot have does not compile.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{error::NodeError, item_key::Identity, node::HasItems};

/// How often `exec` is tried, how long to wait between attempts, and for which errors.
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

/// Which errors are tried again.
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

    /// Spreads each computed wait evenly between a half and the whole of it, so that many runs do not come back at once.
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

    /// Whether anything is tried again.
    pub(crate) fn is_again(&self) -> bool {
        self.attempts > 1
    }

    /// Whether there is a wait between two attempts, as far as can be told before an error names one.
    pub(crate) fn waits(&self) -> bool {
        self.is_again() && !self.wait_after(0).is_zero()
    }
}

/// Places a wait in its upper half, by 32 random bits.
fn spread_out(wait: Duration, random: u64) -> Duration {
    let half = wait / 2;
    half + half.mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
}

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

/// Everything that `visit` needs to know about a node's `exec`: what [`With`] collects.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub(crate) retry: Retry,
    /// The time of one attempt.
    pub(crate) timeout: Option<Duration>,
    /// The time of all attempts, waits and items of a visit.
    pub(crate) total_timeout: Option<Duration>,
    /// Whether `exec` runs on the blocking pool, where it cannot be dropped but only be waited for.
    pub(crate) pooled: bool,
    /// Whether something stands around an attempt: a time limit or the pool. Follows from the others.
    pub(crate) guarded: bool,
}

/// A node with a policy and a mode, made by the methods of [`NodeExt`].
#[derive(Clone, Debug)]
pub struct With<N, Mode = Plain> {
    pub(crate) node: N,
    pub(crate) policy: Policy,
    pub(crate) limit: usize,
    mode: PhantomData<fn() -> Mode>,
}

/// The mode of a node as it is: async phases are awaited; in an async flow, a sync `exec` goes to the blocking pool.
#[derive(Debug, Clone, Copy)]
pub enum Plain {}

/// The mode of a sync node whose `exec` runs on the thread of the run.
#[derive(Debug, Clone, Copy)]
pub enum Inline {}

/// The mode of a batch node that has several items under way at once.
#[derive(Debug, Clone, Copy)]
pub enum Parallel {}

/// The mode of a parallel batch node whose items are tasks of their own.
#[derive(Debug, Clone, Copy)]
pub enum Spawned {}

/// The mode of a batch node whose finished items a driver keeps, beside its mode otherwise; `By` is what tells items apart.
#[derive(Debug, Clone, Copy)]
pub struct Journaled<Mode = Plain, By = ByItem>(PhantomData<fn() -> (Mode, By)>);

/// Tells the items of a journaled batch apart by what they hold; see [`NodeExt::journaled`].
#[derive(Debug, Clone, Copy)]
pub enum ByItem {}

/// Tells the items of a journaled batch apart by their places; see [`NodeExt::journaled_in_order`].
#[derive(Debug, Clone, Copy)]
pub enum InOrder {}

/// Tells the items of a journaled batch apart by keys that the user gives; see [`NodeExt::journaled_by`].
#[derive(Debug, Clone, Copy)]
pub enum ByKey {}

/// A batch node with a key for each of its items, made by [`NodeExt::journaled_by`].
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
        Self { node, policy: Policy::default(), limit: 1, mode: PhantomData }
    }

    /// Runs a sync node's `exec` on the thread of the run; see [`NodeExt::inline`].
    #[must_use]
    pub fn inline(self) -> With<N, Inline> {
        self.into_mode()
    }

    /// Lets up to `limit` items of a batch node be under way at once; see [`NodeExt::parallel`].
    #[must_use]
    pub fn parallel(mut self, limit: usize) -> With<N, Parallel> {
        self.limit = limit;
        self.into_mode()
    }
}

impl<N> With<N, Parallel> {
    /// Makes each item of an async batch node a task of its own, for items that compute rather than wait.
    ///
    /// An item costs about 2 µs more, and may use another core. Items that only wait are faster without.
    #[must_use]
    pub fn spawned(self) -> With<N, Spawned> {
        self.into_mode()
    }
}

macro_rules! journaled {
    ($($mode:ident),+) => {$(
        impl<N> With<N, $mode> {
            /// Lets a driver that keeps runs keep each item of a batch node as it ends; see [`NodeExt::journaled`].
            #[must_use]
            pub fn journaled(self) -> With<N, Journaled<$mode>> {
                self.into_mode()
            }

            /// As `journaled`, with a key that tells items apart; see [`NodeExt::journaled_by`].
            #[must_use]
            pub fn journaled_by<S, M, K: Serialize>(
                self,
                key: impl Fn(&N::Item) -> K + Send + Sync + 'static,
            ) -> With<Keyed<N, S, N::Item>, Journaled<$mode, ByKey>>
            where
                N: HasItems<S, M>,
            {
                let node = Keyed { node: self.node, identity: Identity::by(key), state: PhantomData };
                With { node, policy: self.policy, limit: self.limit, mode: PhantomData }
            }

            /// As `journaled`, with the places of items as their keys; see [`NodeExt::journaled_in_order`].
            #[must_use]
            pub fn journaled_in_order(self) -> With<N, Journaled<$mode, InOrder>> {
                self.into_mode()
            }
        }
    )+};
}

journaled!(Plain, Parallel, Spawned);

impl<N, Mode> With<N, Mode> {
    /// Sets how often `exec` is tried; see [`NodeExt::retry`].
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.policy.retry = retry;
        self
    }

    /// Bounds the time of one attempt; see [`NodeExt::timeout`].
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.policy.timeout = Some(limit);
        self
    }

    /// Bounds the time of all attempts, waits and items of a visit; see [`NodeExt::total_timeout`].
    #[must_use]
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.policy.total_timeout = Some(limit);
        self
    }

    fn into_mode<M>(self) -> With<N, M> {
        With { node: self.node, policy: self.policy, limit: self.limit, mode: PhantomData }
    }
}

/// The policies of a node, where it is added to a flow: `Fetch.retry(…).timeout(…)`.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use flowstone_core::{AsyncFlow, NodeExt, Retry, step};
///
/// let fetch = step(
///     |city: &String| city.clone(),
///     |city: String| async move { Ok(format!("Sunny in {city}")) },
///     |report: &mut String, _city, text: String| *report = text,
/// );
///
/// let mut flow = AsyncFlow::builder("weather");
/// let fetch = flow.add("fetch", fetch.retry(Retry::attempts(3)).timeout(Duration::from_secs(1)));
/// flow.start(fetch);
/// assert!(flow.build().is_ok());
/// ```
pub trait NodeExt: Sized {
    /// Sets how often `exec` is tried, of a batch node per item. The default is one attempt.
    #[must_use]
    fn retry(self, retry: Retry) -> With<Self> {
        With::plain(self).retry(retry)
    }

    /// Bounds the time of one attempt of `exec`. One that takes longer is dropped, and counts as failed.
    ///
    /// On the blocking pool the time in its queue counts, too.
    ///
    /// A blocking `exec` cannot be dropped: [`Context::cancelled`](crate::Context::cancelled) tells it to stop, and it is
    /// waited for. In a [`Flow`](crate::Flow), which has nobody to tell it, a timeout is an error of `build()`.
    #[must_use]
    fn timeout(self, limit: Duration) -> With<Self> {
        With::plain(self).timeout(limit)
    }

    /// Bounds the time of all attempts, waits and items of a visit together.
    ///
    /// When it is over, the attempt under way is dropped and the fallback called. A wait that would go beyond it is not
    /// begun. In a run that is kept, it does not begin again after a restart, once an item or a wait of the visit was kept.
    #[must_use]
    fn total_timeout(self, limit: Duration) -> With<Self> {
        With::plain(self).total_timeout(limit)
    }

    /// Runs a sync node's `exec` on the thread of the run, not on the blocking pool: for work of microseconds.
    ///
    /// In an [`AsyncFlow`](crate::AsyncFlow) a wait between its attempts is a fault of `build()`: what is worth a wait is not
    /// done in microseconds. A wait that an error [asks for](crate::NodeError::with_retry_after) is awaited.
    #[must_use]
    fn inline(self) -> With<Self, Inline> {
        With::plain(self).inline()
    }

    /// Lets up to `limit` items of a batch node be under way at once (`usize::MAX`: all); 0 is an error of `build()`.
    ///
    /// In a run that is kept, a batch without [`journaled`](Self::journaled) starts over after a crash, with all its items.
    #[must_use]
    fn parallel(self, limit: usize) -> With<Self, Parallel> {
        With::plain(self).parallel(limit)
    }

    /// Lets a driver that keeps runs keep the output of each item of a batch node as it ends, so that after a crash only
    /// the others run. Elsewhere it changes nothing.
    ///
    /// It takes an `Output` that is `Serialize + DeserializeOwned`, since it is kept as JSON, and an `Item` that is
    /// `Serialize`, since an item is known by what it holds: a later program may put the items in another order, or leave
    /// some out, and each still gets what was kept of it. Items that are equal are interchangeable. An item that has
    /// changed, or whose type has, is a new one, and runs. Where that is too strict say
    /// [`journaled_by`](Self::journaled_by); where items cannot be written as JSON,
    /// [`journaled_in_order`](Self::journaled_in_order).
    ///
    /// Failed items are not kept. Without it, a batch starts over after a crash, with all its items.
    ///
    /// What an item gives has to be read back, so that is tried before it is kept: an output that does not come back (a
    /// number that JSON does not have, JSON nested too deep) fails its item for good.
    #[must_use]
    fn journaled(self) -> With<Self, Journaled> {
        With::plain(self).journaled()
    }

    /// As [`journaled`](Self::journaled), with a key that tells the items of a batch apart: the number of an invoice, say.
    ///
    /// An item whose key was kept is not run again, whatever else of it has changed. Items with equal keys are
    /// interchangeable.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::{AsyncBatchNode, AsyncFlow, Context, NodeExt, Result};
    ///
    /// struct Invoice {
    ///     number: u64,
    ///     lines: Vec<String>,
    /// }
    ///
    /// struct Post;
    ///
    /// impl AsyncBatchNode<Vec<u64>> for Post {
    ///     type Item = Invoice;
    ///     type Output = String;
    ///     type Outcome = String;
    ///     type Action = ();
    ///
    ///     async fn prep(&self, numbers: &Vec<u64>) -> Result<Vec<Invoice>> {
    ///         Ok(numbers.iter().map(|number| Invoice { number: *number, lines: vec![] }).collect())
    ///     }
    ///     async fn exec(&self, invoice: &Invoice, _: &Context) -> Result<String> {
    ///         Ok(format!("{} lines", invoice.lines.len()))
    ///     }
    ///     async fn post(&self, _: &mut Vec<u64>, _: Vec<Invoice>, _: Vec<String>) -> Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut flow = AsyncFlow::builder("invoices");
    /// let post = flow.add("post", Post.parallel(8).journaled_by(|invoice| invoice.number));
    /// flow.start(post);
    /// assert!(flow.build().is_ok());
    /// ```
    #[must_use]
    fn journaled_by<S, M, K: Serialize>(
        self,
        key: impl Fn(&Self::Item) -> K + Send + Sync + 'static,
    ) -> With<Keyed<Self, S, Self::Item>, Journaled<Plain, ByKey>>
    where
        Self: HasItems<S, M>,
    {
        With::plain(self).journaled_by(key)
    }

    /// As [`journaled`](Self::journaled), for items that nothing tells apart but their places: `prep` must give the same
    /// list for the same state, in this program and in every later one.
    ///
    /// A batch that was begun with another number of items is refused by the driver.
    #[must_use]
    fn journaled_in_order(self) -> With<Self, Journaled<Plain, InOrder>> {
        With::plain(self).journaled_in_order()
    }
}

impl<N> NodeExt for N {}
