//! Waits that are kept: by the store's clock, which may be set, and by one that may not.
//!
//! ```text
//! over when   the store's clock says so      it is looked at each second
//!       or    its length has passed since this process saw it, by the monotonic clock
//! ```
//!
//! So a clock that is wrong when a machine starts, or is set back, makes no wait longer than it was to be, and one that
//! is set right in the meantime is believed. Parked runs are many, and have no task: for them the store itself counts
//! the time that it is driven, in [`Ticks`]. Why so: `docs/decisions/0016-a-wait-ends-by-either-of-two-clocks.md`.

use std::time::Duration;

use tokio::time::Instant;

use crate::words::columns::{int, length_ms};

/// The time between two looks at the store's clock while something waits.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// A wait that is kept, as this process sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// When it ends by the store's clock, in milliseconds since 1970.
    pub(crate) ends_at: i64,
    /// The longest time that it may last from when this process saw it; none of a wait that an older version kept.
    length: Option<Duration>,
    seen: Instant,
}

impl Wait {
    /// A wait that begins, or is seen, now.
    pub(crate) fn seen_now(ends_at: i64, length_ms: Option<i64>) -> Self {
        let length = length_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
        Self { ends_at, length, seen: Instant::now() }
    }

    /// A wait of so long that begins now.
    pub(crate) fn begin(length: Duration, now: i64) -> Self {
        Self { ends_at: now.saturating_add(length_ms(length)), length: Some(length), seen: Instant::now() }
    }

    /// Returns what is left of it at most.
    pub(crate) fn left(&self, now: i64) -> Duration {
        let by_clock = Duration::from_millis(u64::try_from(self.ends_at.saturating_sub(now)).unwrap_or_default());
        self.length.map_or(by_clock, |length| by_clock.min(length.saturating_sub(self.seen.elapsed())))
    }

    /// Waits for the rest of it. `now` reads the store's clock.
    pub(crate) async fn rest(&self, now: impl Fn() -> i64) {
        loop {
            let left = self.left(now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

/// A moment by both clocks of a store, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Since 1970, by the store's clock, or the system's in a process beside the driver.
    pub(crate) clock: i64,
    /// For which the store has been driven.
    pub(crate) ticks: i64,
}

impl Moment {
    /// Returns when a question expires that stands for so long from this moment on.
    pub(crate) fn after(self, stands: Duration) -> Expiry {
        let length = length_ms(stands);
        Expiry { at: self.clock.saturating_add(length), tick: self.ticks.saturating_add(length) }
    }
}

/// When a question expires: at a time of day, or when the store has counted so many ticks.
pub(crate) struct Expiry {
    pub(crate) at: i64,
    pub(crate) tick: i64,
}

/// Counts the milliseconds for which a store has been driven, by whatever process, from what was written down last.
#[derive(Debug)]
pub(crate) struct Ticks {
    before: i64,
    since: Instant,
}

impl Ticks {
    pub(crate) fn after(before: i64) -> Self {
        Self { before, since: Instant::now() }
    }

    pub(crate) fn now(&self) -> i64 {
        self.before.saturating_add(int(self.since.elapsed().as_millis()))
    }
}
