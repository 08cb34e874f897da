//! How often and how much a model is called: [`Limits`], shared by all clones of a [`Model`](crate::Model).
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

/// The longest that one caller's error keeps all others waiting. A service that names hours is asked again by each of
/// them after this, and each is told of the hours by an error of its own, which its node's policy acts on.
const LONGEST_CLOSED: Duration = Duration::from_secs(60);

/// Bounds on the calls of one model, by all flows and runs of this process together. The default has none.
///
/// A call that is beyond them waits its turn, in order; nothing fails. Dropping it gives up its turn.
///
/// A service that answers "too many requests" or "overloaded", and says for how long, is left alone for that long, for a
/// minute at most, by all clones of the model, with limits or without: the others wait rather than spend their attempts.
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
    /// What a request sends is guessed before it is sent; what the reply then turns out to have taken beyond that is
    /// made up for by the calls after it. A call of more tokens than a minute has takes all of a minute's.
    #[must_use]
    pub fn tokens_per_minute(mut self, tokens: u32) -> Self {
        self.tokens = Some(Arc::new(Tokens { rate: Rate::per_minute(tokens), debt: Mutex::default() }));
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
        // To guess at tokens takes time, and nothing else asks for it.
        let expected = self.tokens.as_ref().map_or(0, |_| expected());
        if let Some(bound) = &self.tokens {
            bound.take(expected).await;
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
    /// Says what the call took; what is beyond what was expected is charged to the calls after it.
    pub(crate) fn used(&self, tokens: u64) {
        if let Some(bound) = &self.tokens {
            let mut debt = lock(&bound.debt);
            *debt = debt.saturating_add(tokens.saturating_sub(self.expected));
        }
    }
}

/// The bound on tokens.
#[derive(Debug)]
struct Tokens {
    rate: Rate,
    /// Tokens that were used beyond what had been expected, and that nobody has waited for yet.
    debt: Mutex<u64>,
}

impl Tokens {
    async fn take(&self, tokens: u64) {
        // All at once, or the one that pays the debts of a minute would be overtaken without end.
        let _turn = self.rate.turn.lock().await;
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
}

/// So many of something in a minute.
#[derive(Debug)]
struct Rate {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
    burst: NonZeroU32,
    /// Held while waiting: whoever came first goes first, and one timer runs, however many wait.
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

    /// What of a number is taken in one go: as much as there ever is at most; `None` of nothing.
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
