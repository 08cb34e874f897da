//! Options of a run: [`RunOptions`].

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    context::{
        key::{KeyBase, Keys},
        scope::{Deadline, DeadlineAt, Extras, Fault},
    },
    policy::no_node::no_node,
    words::{
        clock::{Clock, SystemClock},
        event::{Both, Listener},
        guard::Panicked,
        path::{NodePath, RunId},
        pause::PausedRun,
        usage::{Budget, Meter, Usage},
    },
};

/// Options of a run, beside its flow and its state. The default has none, and costs nothing.
///
/// # Example
///
/// ```
/// use flowstone_core::{Action, Flow, RunError, RunOptions};
///
/// let mut flow = Flow::builder("loop");
/// let again = flow.add("again", |n: &mut u32| { *n += 1; Action::from("again") });
/// flow.start(again);
/// flow.route(again - "again" >> again);
///
/// let mut n = 0;
/// let error = flow.build()?.run_with(&mut n, &RunOptions::new().max_visits(100)).unwrap_err();
/// assert!(matches!(error, RunError::TooManyVisits { limit: 100, .. }));
/// assert_eq!(n, 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct RunOptions {
    id: Option<RunId>,
    keys: Keys,
    pub(crate) cancel: Option<CancellationToken>,
    pub(crate) deadline: Option<Duration>,
    max_visits: Option<u64>,
    listener: Option<Arc<dyn Listener>>,
    clock: Option<Arc<dyn Clock>>,
    seed: Option<u64>,
    budget: Option<Budget>,
    used: Usage,
    held: Option<Weak<dyn Any + Send + Sync>>,
}

impl RunOptions {
    /// Creates options that ask for nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the run; the name is part of every error, event and [idempotency key](crate::Context::idempotency_key).
    #[must_use]
    pub fn id(mut self, id: impl Into<RunId>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Lets the [idempotency keys](crate::Context::idempotency_key) of the run begin with this text in place of its id,
    /// for a driver that keeps runs.
    #[must_use]
    pub fn key_base(mut self, base: KeyBase) -> Self {
        self.keys.base = Some(base);
        self
    }

    /// Tells the name that the node of one visit had when the visit became due: the idempotency keys of the visit have
    /// that name. This is for a driver that goes on with a run whose nodes may have other names now.
    #[must_use]
    pub fn due(mut self, visit: u64, node: impl Into<NodePath>) -> Self {
        self.keys.due = Some((visit, node.into()));
        self
    }

    /// Stops the run when the token is cancelled, with [`RunError::Cancelled`](crate::RunError::Cancelled): no retry,
    /// no fallback.
    ///
    /// An async run stops where it waits, or before its next visit or item; a sync run before its next visit, attempt
    /// or item, and in a wait.
    #[must_use]
    pub fn cancel(mut self, token: CancellationToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Stops the run when it is not done within this time, with
    /// [`RunError::DeadlineExceeded`](crate::RunError::DeadlineExceeded), at the points where a cancelled run would
    /// stop.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Stops the run before it makes more visits than this, children's included, with
    /// [`RunError::TooManyVisits`](crate::RunError::TooManyVisits).
    #[must_use]
    pub fn max_visits(mut self, limit: u64) -> Self {
        self.max_visits = Some(limit);
        self
    }

    /// Bounds what the run and its children use of paid services: a call beyond it fails with
    /// [`OverBudget`](crate::OverBudget), which is terminal.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Counts earlier usage of the run, for a driver that goes on with one. The default is nothing.
    #[must_use]
    pub fn used(mut self, used: Usage) -> Self {
        self.used = used;
        self
    }

    /// Lets each blocking job and each spawned item of the run and of its children hold a value until it has ended.
    /// This is for a driver that drops a visit under way, since these cannot be interrupted. The run itself does not
    /// hold the value.
    #[must_use]
    pub fn hold(mut self, value: &Arc<dyn Any + Send + Sync>) -> Self {
        self.held = Some(Arc::downgrade(value));
        self
    }

    /// Sends every event of the run to a listener, after the listeners that were given before.
    #[must_use]
    pub fn listen(self, listener: impl Listener + 'static) -> Self {
        self.listen_shared(Arc::new(listener))
    }

    /// Sends every event of the run to a listener that others hold as well, after the listeners that were given before.
    #[must_use]
    pub fn listen_shared(mut self, listener: Arc<dyn Listener>) -> Self {
        self.listener = Some(match self.listener.take() {
            None => listener,
            Some(before) => Arc::new(Both(before, listener)),
        });
        self
    }

    /// Measures a sync run's waits and deadline by another clock; async runs go by tokio's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Makes the jitter of retries repeatable. Without a seed, each run has its own.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the extras of a run, if these options or its pause ask for any.
    pub(crate) fn extras(&self, paused: Option<&PausedRun>, sync: bool) -> Option<Box<Extras>> {
        let id = self.id.clone().or_else(|| paused.and_then(|paused| paused.id.clone()));
        let clock = if sync { self.sync_clock() } else { None };
        let mut fault = OnceLock::new();
        let deadline = self.deadline.and_then(|limit| {
            let at = match &clock {
                Some(clock) => match Panicked::catch(|| clock.now()) {
                    Ok(now) => DeadlineAt::Clock(now.saturating_add(limit)),
                    Err(panicked) => {
                        fault = Fault::of_clock(panicked).into();
                        return None;
                    }
                },
                None => DeadlineAt::Tokio(tokio::time::Instant::now().checked_add(limit)?),
            };
            Some(Deadline { at, limit })
        });
        let keys = (self.keys.base.is_some() || self.keys.due.is_some()).then(|| Box::new(self.keys.clone()));
        let asked = id.is_some()
            || keys.is_some()
            || self.cancel.is_some()
            || self.max_visits.is_some()
            || self.listener.is_some()
            || self.seed.is_some()
            || self.budget.is_some()
            || self.used != Usage::default()
            || self.held.is_some()
            || deadline.is_some();
        (asked || clock.is_some()).then(|| {
            Box::new(Extras {
                id,
                keys,
                listener: self.listener.clone(),
                cancel: self.cancel.clone(),
                max_visits: self.max_visits,
                seed: self.seed,
                clock,
                deadline,
                fault,
                meter: Meter::new(self.budget, self.used),
                held: self.held.clone(),
                ..Extras::default()
            })
        })
    }

    /// The clock of a sync run, if anything has to be measured.
    fn sync_clock(&self) -> Option<Arc<dyn Clock>> {
        let measured = self.deadline.is_some() || self.cancel.is_some();
        self.clock.clone().or_else(|| measured.then(|| Arc::new(SystemClock::default()) as Arc<dyn Clock>))
    }
}

no_node!(RunOptions: timeout, total_timeout, retry, parallel =>
    "the time of a run is its `deadline`; a timeout belongs to a node: `flow.add(\"fetch\", Fetch.timeout(limit))`"
);

impl fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOptions")
            .field("id", &self.id)
            .field("cancel", &self.cancel.is_some())
            .field("deadline", &self.deadline)
            .field("max_visits", &self.max_visits)
            .field("listens", &self.listener.is_some())
            .field("seed", &self.seed)
            .finish()
    }
}
