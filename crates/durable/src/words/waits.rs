//! Waits that are kept. They are measured by two clocks: the store's, which may be set, and a monotonic one.
//!
//! ```text
//! over when   the store's clock says so      it is looked at each second
//!       or    its length has passed since this process saw it, by the monotonic clock
//! ```
//!
//! So no wait gets longer by a clock that is wrong when a machine starts, or that is set back; and a clock that is set
//! right in the meantime is believed. Parked runs are many and have no task, so for them the store itself counts the
//! time for which it is driven, in [`Ticks`]. The reasons are in
//! `docs/decisions/0016-a-wait-ends-by-either-of-two-clocks.md`.

use std::time::Duration;

use tokio::time::Instant;

use crate::words::columns::{int, length_ms};

/// The time between two looks at the store's clock while something waits.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// A wait that is kept, as this process sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// The time at which it ends by the store's clock, in milliseconds since 1970.
    pub(crate) ends_at: i64,
    /// The longest time that it may last after this process first saw it; `None` for a wait that an older version kept.
    length: Option<Duration>,
    seen: Instant,
}

impl Wait {
    /// Creates a wait that begins now, or is first seen now.
    pub(crate) fn seen_now(ends_at: i64, length_ms: Option<i64>) -> Self {
        let length = length_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
        Self { ends_at, length, seen: Instant::now() }
    }

    /// Creates a wait of this length that begins now.
    pub(crate) fn begin(length: Duration, now: i64) -> Self {
        Self { ends_at: now.saturating_add(length_ms(length)), length: Some(length), seen: Instant::now() }
    }

    /// Returns the longest time that it can still last.
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
    /// The time since 1970 by the store's clock, or by the system's in a process beside the driver.
    pub(crate) clock: i64,
    /// The time for which the store has been driven.
    pub(crate) ticks: i64,
}

impl Moment {
    /// Returns the deadline of a question that expires after this time from this moment on.
    pub(crate) fn after(self, stands: Duration) -> Expiry {
        let length = length_ms(stands);
        Expiry { at: self.clock.saturating_add(length), tick: self.ticks.saturating_add(length) }
    }
}

/// The deadline of a question: a time by the clock, and a number of ticks of the store; the earlier one counts.
pub(crate) struct Expiry {
    pub(crate) at: i64,
    pub(crate) tick: i64,
}

/// Counts the milliseconds for which any process has driven a store, starting from the number that was written down
/// last.
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
