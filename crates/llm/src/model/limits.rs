//! Bounds on how often and how much a model is called: [`Limits`], shared by all clones of a [`Model`](crate::Model).
//!
//! ```text
//! a call ─▶ concurrency ─▶ requests a minute ─▶ tokens a minute ─▶ has the service asked to be left alone? ─▶ may go
//! ```
//!
//! Time is tokio's, so tests pause it.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};

use crate::wire::Allowance;

/// The longest that one caller's error keeps all others waiting. A service that names hours is asked again by each of
/// them after this, and each is told of the hours by an error of its own, which its node's policy acts on.
const LONGEST_CLOSED: Duration = Duration::from_secs(60);

/// Bounds on the calls of one model, by all flows and runs of this process together. The default has none.
///
/// A call that is beyond them waits its turn, in order; nothing fails. Dropping it gives up its turn.
///
/// A service that answers "too many requests" or "overloaded", and says for how long, is left alone for that long, for
/// a minute at most, by all clones of the model, with limits or without: the others wait rather than spend their
/// attempts. So is one whose answers say that no request, or not enough tokens for the next one, are left
/// (`x-ratelimit-remaining-*`).
///
/// # Example
///
/// ```
/// use flowstone_llm::{Limits, Model};
///
/// let model = Model::named("openai:gpt-5-mini")?
///     .limits(Limits::new().concurrency(8).requests_per_minute(500).tokens_per_minute(200_000));
/// # Ok::<(), flowstone_llm::SetupError>(())
/// ```
#[derive(Debug, Default)]
pub struct Limits {
    concurrency: Option<Arc<Semaphore>>,
    requests: Option<Rate>,
    tokens: Option<Arc<Tokens>>,
    closed: Mutex<Option<Instant>>,
    left: Mutex<Option<Left>>,
}

flowstone_core::__no_node!(Limits: timeout, total_timeout, retry, parallel =>
    "`concurrency` bounds how many calls are made at once; retries and timeouts belong to the node that asks the model"
);

/// Tokens that a service says it has left, until it has more.
#[derive(Debug, Clone, Copy)]
struct Left {
    tokens: u64,
    until: Instant,
}

impl Limits {
    /// Creates limits without bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds how many calls are made at once; 1 at least.
    #[must_use]
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = Some(Arc::new(Semaphore::new(calls.clamp(1, Semaphore::MAX_PERMITS))));
        self
    }

    /// Bounds how many calls are begun in a minute; 1 at least. So many may be begun at once after a minute of rest.
    #[must_use]
    pub fn requests_per_minute(mut self, calls: u32) -> Self {
        self.requests = Some(Rate::per_minute(calls));
        self
    }

    /// Bounds how many tokens are sent and made in a minute; 1 at least.
    ///
    /// The tokens of a request are guessed before it is sent. The service's own count takes the place of the guess as
    /// soon as it is there: what is beyond it is made up for by the calls after it, and what is not used is theirs. A
    /// call of more tokens than a minute has takes all of a minute's.
    #[must_use]
    pub fn tokens_per_minute(mut self, tokens: u32) -> Self {
        self.tokens =
            Some(Arc::new(Tokens { rate: Rate::per_minute(tokens), debt: Mutex::default(), credit: Mutex::default() }));
        self
    }

    /// Waits until a call of about so many tokens may be made.
    pub(crate) async fn admit(&self, expected: impl FnOnce() -> u64) -> Admitted {
        let permit = match &self.concurrency {
            // It is never closed, so that it always gives a permit.
            Some(semaphore) => Arc::clone(semaphore).acquire_owned().await.ok(),
            None => None,
        };
        if let Some(requests) = &self.requests {
            requests.take(1).await;
        }
        let left = self.left();
        // To guess at tokens takes time, and nothing else asks for it.
        let expected = if self.tokens.is_some() || left.is_some() { expected() } else { 0 };
        if let Some(bound) = &self.tokens {
            bound.take(expected).await;
        }
        if let Some(left) = left.filter(|left| left.tokens < expected) {
            sleep_until(left.until).await;
        }
        while let Some(until) = self.closed_until() {
            sleep_until(until).await;
        }
        Admitted { _permit: permit, tokens: self.tokens.clone(), expected }
    }

    /// Leaves the service alone for some time.
    pub(crate) fn close_for(&self, wait: Duration) {
        let until = Instant::now() + wait.min(LONGEST_CLOSED);
        let mut closed = lock(&self.closed);
        *closed = (*closed).max(Some(until));
    }

    /// Notes the requests and tokens that the service has left, as it says.
    pub(crate) fn left_is(&self, allowance: &Allowance) {
        if let Some((0, reset)) = allowance.requests {
            self.close_for(reset);
        }
        if let Some((tokens, reset)) = allowance.tokens {
            *lock(&self.left) = Some(Left { tokens, until: Instant::now() + reset.min(LONGEST_CLOSED) });
        }
    }

    /// Returns the tokens that the service has left, as long as that is true.
    fn left(&self) -> Option<Left> {
        let mut left = lock(&self.left);
        *left = left.filter(|left| left.until > Instant::now());
        *left
    }

    fn closed_until(&self) -> Option<Instant> {
        let mut closed = lock(&self.closed);
        if closed.is_some_and(|until| until <= Instant::now()) {
            *closed = None;
        }
        *closed
    }
}

/// A call that may be made; to be held while it is.
#[derive(Debug)]
pub(crate) struct Admitted {
    _permit: Option<OwnedSemaphorePermit>,
    tokens: Option<Arc<Tokens>>,
    expected: u64,
}

impl Admitted {
    /// Says what the call took: what is beyond what was expected is charged to the calls after it, and what is not used
    /// is theirs.
    pub(crate) fn used(&self, tokens: u64) {
        if let Some(bound) = &self.tokens {
            // More than a minute's was never taken for it.
            let taken = self.expected.min(bound.rate.burst.get().into());
            let (mut debt, mut credit) = (lock(&bound.debt), lock(&bound.credit));
            *debt = debt.saturating_add(tokens.saturating_sub(self.expected));
            *credit = credit.saturating_add(taken.saturating_sub(tokens));
        }
    }
}

/// The bound on tokens.
#[derive(Debug)]
struct Tokens {
    rate: Rate,
    /// Tokens that were used beyond the expected ones, and that no call has waited for yet.
    debt: Mutex<u64>,
    /// Tokens that were waited for and not used.
    credit: Mutex<u64>,
}

impl Tokens {
    async fn take(&self, tokens: u64) {
        // All at once, or the one that pays the debts of a minute would be overtaken without end.
        let _turn = self.rate.turn.lock().await;
        let tokens = tokens.saturating_sub(self.settle(tokens));
        loop {
            let Some(part) = self.rate.at_most(*lock(&self.debt)) else { break };
            self.rate.wait_for(part).await;
            let mut debt = lock(&self.debt);
            *debt = debt.saturating_sub(part.get().into());
        }
        if let Some(tokens) = self.rate.at_most(tokens) {
            self.rate.wait_for(tokens).await;
        }
    }

    /// Pays debts, and then so many tokens, with the tokens that were not used; returns how many are paid.
    fn settle(&self, tokens: u64) -> u64 {
        let (mut debt, mut credit) = (lock(&self.debt), lock(&self.credit));
        let of_debt = (*debt).min(*credit);
        (*debt, *credit) = (*debt - of_debt, *credit - of_debt);
        let paid = tokens.min(*credit);
        *credit -= paid;
        paid
    }
}

/// So many of something in a minute.
#[derive(Debug)]
struct Rate {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
    burst: NonZeroU32,
    /// Held while waiting: the first to come goes first, and one timer runs, however many wait.
    turn: tokio::sync::Mutex<()>,
}

impl Rate {
    fn per_minute(count: u32) -> Self {
        let burst = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let clock = TokioClock { start: Instant::now() };
        let limiter = RateLimiter::direct_with_clock(Quota::per_minute(burst), clock);
        Self { limiter, clock, burst, turn: tokio::sync::Mutex::default() }
    }

    async fn take(&self, count: u32) {
        let _turn = self.turn.lock().await;
        if let Some(count) = self.at_most(count.into()) {
            self.wait_for(count).await;
        }
    }

    /// Returns how much of a number is taken in one go: at most a whole minute's; `None` of nothing.
    fn at_most(&self, count: u64) -> Option<NonZeroU32> {
        NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX)).map(|count| count.min(self.burst))
    }

    /// Waits for so many; `count` is no more than a minute has.
    async fn wait_for(&self, count: NonZeroU32) {
        while let Ok(Err(until)) = self.limiter.check_n(count) {
            sleep(until.wait_time_from(self.clock.now())).await;
        }
    }
}

/// tokio's time, as governor wants it.
#[derive(Debug, Clone, Copy)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
