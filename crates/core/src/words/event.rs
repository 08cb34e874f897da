//! Events: what happens in a run, as typed data, while it happens.
//!
//! A [`Listener`] gets each event on the thread where it happens. [`AsyncFlow::stream`](crate::AsyncFlow::stream) makes
//! a stream of them.
//!
//! **Invariant:** whoever listens gets exactly one terminal event, and it is the last one, however the run ends.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::Value;

use crate::words::{
    action::Action,
    error::{Phase, RunError},
    path::{NodePath, RunId},
    usage::Usage,
};

mod json;

/// Something that happened in a run.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// The run.
    pub run: RunId,
    /// When it happened. In JSON it is a text, as RFC 3339 in UTC: `2026-11-30T16:53:19.000Z`.
    #[serde(serialize_with = "json::time")]
    pub at: SystemTime,
    /// The node; `None` where the run as a whole begins, ends or is dropped.
    pub node: Option<NodePath>,
    /// The number of the visit in its run, from 0.
    pub visit: u64,
    /// The item, in a batch node.
    pub item: Option<usize>,
    /// The number of the attempt, from 0.
    pub attempt: u32,
    /// The kind of thing that happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    /// Creates an event of a run as a whole that happens now, after so many visits. For drivers.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::{Event, EventKind};
    ///
    /// let failed = EventKind::Failed { phase: None, error: "cancelled".to_owned() };
    /// assert!(Event::of_run("r1".into(), None, 3, failed).is_terminal());
    /// ```
    #[must_use]
    pub fn of_run(run: RunId, node: Option<NodePath>, visit: u64, kind: EventKind) -> Self {
        Self { run, at: SystemTime::now(), node, visit, item: None, attempt: 0, kind }
    }

    /// Returns `true` for the last event of its run; of a durable run it is the last one until the run goes on.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self.kind,
            EventKind::Sleeping { .. } | EventKind::Paused { .. } | EventKind::Ended { .. } | EventKind::Failed { .. }
        )
    }
}

/// The kind of thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run began, or goes on.
    RunStarted {
        /// The flow.
        flow: String,
        /// `true` if it goes on: after a pause, and, if a store keeps the run, after a sleep, in another process, or
        /// when it is tried again.
        resumed: bool,
    },
    /// The visit of a node began; the `prep` of a batch has given its items. A visit that is made again has this event
    /// again.
    VisitStarted {
        /// The number of items of a batch; `None` for other nodes, and if `prep` failed.
        items: Option<usize>,
    },
    /// The visit of a node ended. The visit of a pause ends when it is answered.
    VisitEnded {
        /// The action that it returned.
        action: Action,
    },
    /// The visit of a node failed, and with it the run.
    VisitFailed {
        /// The error as text.
        error: String,
    },
    /// The question of the node expired: its visit goes on without an answer.
    Expired,
    /// An attempt of `exec` began.
    AttemptStarted,
    /// An attempt failed, and another will follow.
    Retry {
        /// The error as text.
        reason: String,
        /// The wait until the next attempt. In JSON it is `wait_ms`, in milliseconds.
        #[serde(rename = "wait_ms", serialize_with = "json::millis")]
        wait: Duration,
    },
    /// No attempt is left, and `exec_fallback` is called. It fails with the last error unless the node has its own.
    FellBack {
        /// The error as text.
        reason: String,
    },
    /// An item of a batch is done: its output or, with `OnError::Collect`, its error is known.
    ItemEnded {
        /// The error as text, if the item failed.
        error: Option<String>,
        /// `true` if it had ended before, in an earlier process or before its run was put away, and only its output was
        /// recalled. A count of items over all lives of a run leaves these out; the progress of one visit counts them.
        recalled: bool,
    },
    /// A value of the user's own, see [`Context::emit`](crate::Context::emit).
    Emitted {
        /// The value.
        value: Value,
    },
    /// Calls to paid services have used this, see [`Context::spend`](crate::Context::spend).
    Used {
        /// The usage since the last event of this kind.
        usage: Usage,
    },
    /// This many events are left out here, since the reader of a [stream](crate::EventStream) was too slow for them.
    Missed {
        /// The number of events.
        events: u64,
    },
    /// Of a durable run: a child asks, and waits for an answer while others go on. The node is the child's.
    Asked {
        /// The question of the node.
        question: Value,
    },
    /// Terminal, of a durable run: it sleeps, and goes on by itself.
    Sleeping {
        /// When it wakes. In JSON it is a text, as `at`.
        #[serde(serialize_with = "json::time")]
        until: SystemTime,
    },
    /// Terminal: the run waits for an answer. The node is the one that asks, which may be one of a child.
    Paused {
        /// The question of the node.
        question: Value,
    },
    /// Terminal: the run reached its end.
    Ended {
        /// The last action.
        action: Action,
    },
    /// Terminal: the run stopped before its end, or was dropped.
    Failed {
        /// The phase, if a node's own code failed.
        phase: Option<Phase>,
        /// The error as text, with all its causes.
        error: String,
    },
}

impl EventKind {
    /// Creates the event of a run that an error stopped. For drivers.
    #[must_use]
    pub fn failed(error: &RunError) -> Self {
        let phase = if let RunError::Node { phase, .. } = error { Some(*phase) } else { None };
        Self::Failed { phase, error: error.report() }
    }
}

/// Gets every event of the runs that it is given to, see [`RunOptions::listen`](crate::RunOptions::listen).
///
/// It is called on the thread where the event happens, and the run waits for it: it should be quick. Closures
/// `Fn(&Event)` are listeners.
///
/// A listener that panics stops its run before the next visit, with [`RunError::Panicked`]: finished work stands, and
/// nothing more is done unheard. A panic at the last event of a run changes nothing, and is logged.
///
/// # Example
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use flowstone_core::{Event, Flow, RunOptions};
///
/// let mut flow = Flow::builder("count");
/// let node = flow.add("add", |n: &mut u32| *n += 1);
/// flow.start(node);
///
/// let seen = Arc::new(Mutex::new(Vec::new()));
/// let into = Arc::clone(&seen);
/// let options = RunOptions::new().listen(move |event: &Event| into.lock().unwrap().push(event.is_terminal()));
/// flow.build()?.run_with(&mut 0, &options)?;
///
/// assert_eq!(*seen.lock().unwrap(), [false, false, false, true]); // run, visit begins, visit ends; run ends
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Listener: Send + Sync {
    /// Gets one event.
    fn event(&self, event: &Event);

    /// Returns `true` if somebody would see a value that is [emitted](crate::Context::emit) now. This is the default.
    ///
    /// A listener that passes events on, and has nobody to pass them on to at the moment, is not sent values that
    /// nobody sees.
    fn hears(&self) -> bool {
        true
    }
}

impl<F: Fn(&Event) + Send + Sync> Listener for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

/// Two listeners, one after the other.
pub(crate) struct Both(pub(crate) Arc<dyn Listener>, pub(crate) Arc<dyn Listener>);

impl Listener for Both {
    fn event(&self, event: &Event) {
        // The second listener does not miss an event because the first panicked.
        let first = catch_unwind(AssertUnwindSafe(|| self.0.event(event)));
        self.1.event(event);
        if let Err(panic) = first {
            resume_unwind(panic);
        }
    }

    fn hears(&self) -> bool {
        self.0.hears() || self.1.hears()
    }
}

impl fmt::Debug for dyn Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
