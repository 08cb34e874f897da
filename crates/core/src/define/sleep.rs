//! A node that waits for a time: [`Sleep`].

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    context::Context,
    define::add::{Added, IntoNode},
    execution::{BoxFuture, Journal},
    graph::{About, NodeKind},
    node::State,
    outcome::{Detour, Visit, Visited},
    policy::Policy,
    visit::body::{AsyncBody, Body, SyncBody, edge},
    words::{action::Label, error::Phase},
};

/// A node that waits, and then goes on with the action `()`.
///
/// In a [`Flow`](crate::Flow) it waits by the run's [clock](crate::RunOptions::clock), in an
/// [`AsyncFlow`](crate::AsyncFlow) by tokio's. A run that is cancelled or out of time stops waiting. A driver that
/// keeps runs puts away a run that sleeps for long, and wakes it on time, also after a crash.
///
/// # Example
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use flowstone_core::{Flow, ManualClock, RunOptions, Sleep};
///
/// struct Trial {
///     days: u64,
/// }
///
/// let mut flow = Flow::builder("trial");
/// let settle = flow.add("settle", Sleep::new(Duration::from_secs(60)));
/// let trial = flow.add("trial", Sleep::by(|trial: &Trial| Duration::from_hours(24 * trial.days)));
/// let end = flow.add("end", |trial: &mut Trial| trial.days = 0);
/// flow.start(settle);
/// flow.route(settle >> trial >> end);
///
/// let clock = Arc::new(ManualClock::default());
/// flow.build()?.run_with(&mut Trial { days: 14 }, &RunOptions::new().clock(clock.clone()))?;
/// assert_eq!(clock.sleeps(), [Duration::from_secs(60), Duration::from_hours(14 * 24)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sleep<S> {
    wait: Arc<Wait<S>>,
}

/// The wait of a node.
enum Wait<S> {
    For(Box<dyn Fn(&S) -> Duration + Send + Sync>),
    Until(Box<dyn Fn(&S) -> SystemTime + Send + Sync>),
}

/// The time between two looks at the time of day, while a node waits for one.
const LOOK: Duration = Duration::from_secs(1);

impl<S: State> Sleep<S> {
    /// Waits the same time in every visit.
    #[must_use]
    pub fn new(wait: Duration) -> Self {
        Self::by(move |_| wait)
    }

    /// Waits for a time that follows from the state. Computed once per visit.
    #[must_use]
    pub fn by(wait: impl Fn(&S) -> Duration + Send + Sync + 'static) -> Self {
        Self { wait: Arc::new(Wait::For(Box::new(wait))) }
    }

    /// Waits until a time of day that follows from the state. A time that is past is not waited for. Computed once per
    /// visit.
    ///
    /// In memory this is the system's time of day, and in a run that is kept that of its store. The node looks at it
    /// again each second. The wait is over when that time is reached, and at the latest when the time has passed that
    /// was left at the beginning. So a clock that is set right meanwhile is believed, and one that is set back does not
    /// make the wait longer.
    #[must_use]
    pub fn until(at: impl Fn(&S) -> SystemTime + Send + Sync + 'static) -> Self {
        Self { wait: Arc::new(Wait::Until(Box::new(at))) }
    }
}

impl<S> Wait<S> {
    /// Returns how long to wait, and the time of day at which the wait ends if the node waits for one.
    fn from(&self, shared: &S, now: impl FnOnce() -> SystemTime) -> (Duration, Option<SystemTime>) {
        match self {
            Self::For(wait) => (wait(shared), None),
            Self::Until(at) => {
                let at = at(shared);
                (at.duration_since(now()).unwrap_or_default(), Some(at))
            }
        }
    }
}

/// Returns the part of a wait that may pass before the node looks at the time of day again.
fn slice(left: Duration, until: Option<SystemTime>) -> Duration {
    match until {
        Some(at) => left.min(LOOK).min(at.duration_since(SystemTime::now()).unwrap_or_default()),
        None => left,
    }
}

impl<S> Clone for Sleep<S> {
    fn clone(&self) -> Self {
        Self { wait: Arc::clone(&self.wait) }
    }
}

impl<S> fmt::Debug for Sleep<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").finish_non_exhaustive()
    }
}

/// The kind of a [`Sleep`], for [`IntoNode`].
#[derive(Debug)]
pub enum Sleeper {}

#[diagnostic::do_not_recommend]
impl<S: State, K> IntoNode<S, K, Sleeper> for Sleep<S> {
    type Action = ();

    fn into_node(self) -> Added<S> {
        let about = About::new(NodeKind::Sleep, <()>::NAMES, Policy::default());
        Added::node(about, Body::either(self.clone(), self))
    }
}

impl<S: State> SyncBody<S> for Sleep<S> {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Visited {
        let (mut left, until) = self.wait.from(shared, SystemTime::now);
        cx.phase = Phase::Exec;
        loop {
            let wait = slice(left, until);
            if wait.is_zero() {
                return edge((), cx);
            }
            cx.sleep(wait)?;
            left = left.saturating_sub(wait);
        }
    }

    fn share(&self) -> Box<dyn SyncBody<S>> {
        Box::new(self.clone())
    }
}

impl<S: State> AsyncBody<S> for Sleep<S> {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Visited> {
        Box::pin(async move {
            if let Some(journal) = cx.journal().cloned() {
                return self.visit_kept(shared, cx, &*journal).await;
            }
            let (mut left, until) = self.wait.from(shared, SystemTime::now);
            cx.phase = Phase::Exec;
            loop {
                let wait = slice(left, until);
                if wait.is_zero() {
                    return edge((), cx);
                }
                tokio::time::sleep(wait).await;
                left = left.saturating_sub(wait);
            }
        })
    }

    fn share(&self) -> Box<dyn AsyncBody<S>> {
        Box::new(self.clone())
    }
}

impl<S: State> Sleep<S> {
    /// Sleeps as the journal keeps it, or is put away.
    async fn visit_kept(&self, shared: &S, cx: &mut Context, journal: &dyn Journal) -> Visited {
        let left = match journal.waited(None) {
            Some(waited) => waited.left,
            None => {
                let (wait, _) = self.wait.from(shared, || journal.now());
                if !wait.is_zero() {
                    journal.wait(None, 0, wait).await.map_err(|error| cx.not_kept(error))?;
                }
                wait
            }
        };
        if !left.is_zero() && journal.parks(left) {
            return Err(Box::new(Detour::Waits(Visit::Sleep { wait: left })));
        }
        cx.phase = Phase::Exec;
        if !left.is_zero() {
            journal.rest(None, left).await;
        }
        edge((), cx)
    }
}
