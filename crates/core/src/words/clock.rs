//! The time of a sync run, by which it waits between attempts and measures its deadline.
//!
//! Async runs use tokio's clock, which tests pause with `tokio::time::pause`.

use std::{
    fmt::Debug,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The clock of a sync run.
pub trait Clock: Debug + Send + Sync {
    /// Returns the time since some fixed point.
    fn now(&self) -> Duration;

    /// Waits.
    fn sleep(&self, wait: Duration);
}

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, wait: Duration) {
        std::thread::sleep(wait);
    }
}

/// A clock for tests. A sleep takes no time, moves the clock, and is recorded.
///
/// # Example
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use flowstone_core::{Flow, ManualClock, NodeExt, Result, Retry, RunOptions, step};
///
/// let fails = step(|_: &()| (), |(): &()| Result::<()>::Err("no".into()), |(): &mut (), (), ()| ());
/// let mut flow = Flow::builder("waits");
/// let node = flow.add("fails", fails.retry(Retry::attempts(3).fixed(Duration::from_secs(60))));
/// flow.start(node);
///
/// let clock = Arc::new(ManualClock::default());
/// let options = RunOptions::new().clock(clock.clone());
/// assert!(flow.build()?.run_with(&mut (), &options).is_err());
/// assert_eq!(clock.sleeps(), [Duration::from_secs(60); 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    slept: Mutex<Slept>,
}

#[derive(Debug, Default)]
struct Slept {
    sleeps: Vec<Duration>,
    total: Duration,
}

impl ManualClock {
    /// Returns every sleep so far, in order. Of a run with a token or a deadline, a long wait is many short sleeps.
    #[must_use]
    pub fn sleeps(&self) -> Vec<Duration> {
        self.slept().sleeps.clone()
    }

    fn slept(&self) -> MutexGuard<'_, Slept> {
        self.slept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.slept().total
    }

    fn sleep(&self, wait: Duration) {
        let mut slept = self.slept();
        slept.total = slept.total.saturating_add(wait);
        slept.sleeps.push(wait);
    }
}
