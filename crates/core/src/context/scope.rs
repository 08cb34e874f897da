//! The parts of a run that it shares with everything that it starts: [`Scope`].
//!
//! A listener or a clock that panics is kept here, and stops the run before its next visit. The reason that it does not
//! stop the run at once: `docs/decisions/0024-a-listener-that-panics-stops-its-run.md`.

use std::{
    any::Any,
    sync::{
        Arc, OnceLock, RwLock, Weak,
        atomic::{AtomicU32, AtomicU64},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    context::{key::Keys, started::Started},
    words::{
        clock::Clock,
        event::Listener,
        guard::Panicked,
        path::{NodePath, RunId},
        usage::Meter,
    },
};

/// The parts of a run that it shares with everything that it starts.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// The number of the run in this process; 0 belongs to no run. A run that goes on takes over its number.
    pub(crate) number: AtomicU64,
    /// Behind a pointer, since most runs have none.
    pub(crate) extras: Option<Box<Extras>>,
    /// Made with the first blocking job or spawned item.
    pub(crate) started: OnceLock<Box<Started>>,
}

/// The part of a run with options that it shares with everything that it starts.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    pub(crate) id: Option<RunId>,
    /// The parts of the run's idempotency keys that its driver gives.
    pub(crate) keys: Option<Box<Keys>>,
    pub(crate) listener: Option<Arc<dyn Listener>>,
    pub(crate) cancel: Option<CancellationToken>,
    pub(crate) max_visits: Option<u64>,
    pub(crate) visits: AtomicU64,
    /// The node that the run itself, not a child, visits.
    pub(crate) at: AtomicU32,
    pub(crate) seed: Option<u64>,
    /// The clock of a sync run; an async run has tokio's.
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) deadline: Option<Deadline>,
    /// The first panic of what watches or times the run.
    pub(crate) fault: OnceLock<Fault>,
    /// Set by the terminal event, which is the last one: work that goes on after a drop is not heard. It is read while
    /// a listener is called, so that no other event can be under way when the terminal one is sent.
    pub(crate) ended: RwLock<bool>,
    /// The usage of the run and its children, and their budget.
    pub(crate) meter: Meter,
    /// Held by each blocking job and spawned item until it has ended, for a driver that drops the run's future.
    pub(crate) held: Option<Weak<dyn Any + Send + Sync>>,
}

impl Extras {
    /// Keeps the first panic, and logs it, since a run at its end does not look at it any more.
    #[cold]
    pub(super) fn keep_fault(&self, place: &'static str, panicked: Panicked, run: &RunId, node: &NodePath) {
        let message = panicked.message;
        if self.fault.set(Fault { place, message: message.clone() }).is_ok() {
            tracing::error!(target: "flowstone", %run, %node, "{place} panicked: {message}");
        }
    }
}

/// The time at which a run is out of time, and how much time it had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: DeadlineAt,
    pub(crate) limit: Duration,
}

impl Deadline {
    /// The deadline of an async run, and how much time it had.
    pub(crate) fn tokio(self) -> Option<(tokio::time::Instant, Duration)> {
        match self.at {
            DeadlineAt::Tokio(at) => Some((at, self.limit)),
            DeadlineAt::Clock(_) => None,
        }
    }
}

/// A time by the clock of a sync run, or by tokio's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DeadlineAt {
    Clock(Duration),
    Tokio(tokio::time::Instant),
}

/// A panic of what watches or times a run.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The part that panicked.
    pub(crate) place: &'static str,
    /// The message of the panic.
    pub(crate) message: String,
}

impl Fault {
    /// A clock that panicked before its run began.
    pub(crate) fn of_clock(panicked: Panicked) -> Self {
        Self { place: CLOCK, message: panicked.message }
    }
}

/// The name of a listener in an error.
pub(crate) const LISTENER: &str = "a listener";

/// The name of a clock in an error.
pub(crate) const CLOCK: &str = "the clock";
