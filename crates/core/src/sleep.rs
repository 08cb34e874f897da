//! A node that waits for a time: [`Sleep`].

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    action::Label,
    add::{Added, IntoNode},
    context::Context,
    definition::Body,
    error::{Detour, Phase, Visited},
    graph::{About, NodeKind},
    node::State,
    policy::Policy,
    visit::{AsyncBody, BoxFuture, SyncBody, edge},
};

/// A node that waits, and then goes on with the action `()`.
///
/// In a [`Flow`](crate::Flow) it waits by the run's [clock](crate::RunOptions::clock), in an
/// [`AsyncFlow`](crate::AsyncFlow) by tokio's; a run that is cancelled or out of time stops waiting. A driver that
/// keeps runs puts one away that sleeps for long, and it wakes on time, also after a crash.
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
    wait: Arc<dyn Fn(&S) -> Duration + Send + Sync>,
}

impl<S: State> Sleep<S> {
    /// Waits the same time in every visit.
    #[must_use]
    pub fn new(wait: Duration) -> Self {
        Self::by(move |_| wait)
    }

    /// Waits for a time that follows from the state. Computed once per visit.
    #[must_use]
    pub fn by(wait: impl Fn(&S) -> Duration + Send + Sync + 'static) -> Self {
        Self { wait: Arc::new(wait) }
    }

    /// Waits until a time of day that follows from the state; one that is past is not waited for. Computed once per
    /// visit.
    ///
    /// The wait is measured from when the visit begins: a machine's clock that is set anew does not change it.
    #[must_use]
    pub fn until(at: impl Fn(&S) -> SystemTime + Send + Sync + 'static) -> Self {
        Self::by(move |shared| at(shared).duration_since(SystemTime::now()).unwrap_or_default())
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
        let wait = (self.wait)(shared);
        cx.phase = Phase::Exec;
        cx.sleep(wait)?;
        edge((), cx)
    }

    fn share(&self) -> Box<dyn SyncBody<S>> {
        Box::new(self.clone())
    }
}

impl<S: State> AsyncBody<S> for Sleep<S> {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Visited> {
        Box::pin(async move {
            let wait = match cx.journal() {
                None => (self.wait)(shared),
                Some(journal) => {
                    let left = match journal.waited(None) {
                        Some(waited) => waited.left,
                        None => {
                            let wait = (self.wait)(shared);
                            if !wait.is_zero() {
                                journal.wait(None, 0, wait).await.map_err(|error| cx.not_kept(error))?;
                            }
                            wait
                        }
                    };
                    if !left.is_zero() && journal.parks(left) {
                        return Err(Box::new(Detour::Asleep(left)));
                    }
                    left
                }
            };
            cx.phase = Phase::Exec;
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            edge((), cx)
        })
    }

    fn share(&self) -> Box<dyn AsyncBody<S>> {
        Box::new(self.clone())
    }
}
