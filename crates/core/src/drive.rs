//! The driver in memory: a loop over `visit`, and around it what a run as a whole may have.
//!
//! ```text
//! loop { visit ─▶ next? go on │ end? Outcome::Ended │ pause? Outcome::Paused }
//! ```
//!
//! A run without options is the bare loop. One with options gets a [`Scope`], which its context carries.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{Either, pending, select},
};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    action::{Action, Label},
    ask::Pause,
    clock::{Clock, SystemClock},
    context::{Context, Scope},
    error::RunError,
    event::{Listener, Terminal},
    flow::{AsyncFlow, Definition, Flow, Halt, Position},
    node::State,
    path::RunId,
    visit::catch,
};

/// How a run came out.
#[derive(Debug)]
pub enum Outcome {
    /// It reached its end, with this last action.
    Ended(Action),
    /// It waits for an answer, see [`resume`](AsyncFlow::resume).
    Paused(Pause),
}

impl Outcome {
    /// Returns the last action of a run that has ended.
    #[must_use]
    pub fn action(&self) -> Option<&Action> {
        match self {
            Self::Ended(action) => Some(action),
            Self::Paused(_) => None,
        }
    }
}

/// What a run may have beside its flow and its state. The default has nothing, and costs nothing.
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
    cancel: Option<CancellationToken>,
    deadline: Option<Duration>,
    max_visits: Option<u64>,
    listener: Option<Arc<dyn Listener>>,
    clock: Option<Arc<dyn Clock>>,
    seed: Option<u64>,
}

impl RunOptions {
    /// Creates options that ask for nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the run; the name is part of every error, event and [idempotency key](Context::idempotency_key).
    #[must_use]
    pub fn id(mut self, id: impl Into<RunId>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Stops the run when the token is cancelled, with [`RunError::Cancelled`]: no retry, no fallback.
    ///
    /// An async run stops at once; a sync run before its next visit, attempt or wait.
    #[must_use]
    pub fn cancel(mut self, token: CancellationToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Stops the run when it is not done within this time, with [`RunError::DeadlineExceeded`].
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// Stops the run before it makes more visits than this, children's included, with [`RunError::TooManyVisits`].
    #[must_use]
    pub fn max_visits(mut self, limit: u64) -> Self {
        self.max_visits = Some(limit);
        self
    }

    /// Sends every event of the run to a listener.
    #[must_use]
    pub fn listen(mut self, listener: impl Listener + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Puts a listener before the one that there is.
    pub(crate) fn listen_first<L: Listener + 'static>(
        mut self,
        make: impl FnOnce(Option<Arc<dyn Listener>>) -> L,
    ) -> Self {
        self.listener = Some(Arc::new(make(self.listener.take())));
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

    /// The scope of a run, if these options or its flow need one.
    fn scope(&self, detaches: bool, sync: bool) -> Option<Arc<Scope>> {
        let clock = match &self.clock {
            Some(clock) => Some(Arc::clone(clock)),
            None if sync && (self.deadline.is_some() || self.cancel.is_some()) => {
                Some(Arc::new(SystemClock::default()) as Arc<dyn Clock>)
            }
            None => None,
        };
        let clock = clock.filter(|_| sync);
        let deadline =
            clock.as_ref().zip(self.deadline).map(|(clock, limit)| (clock.now().saturating_add(limit), limit));
        let asked = self.id.is_some()
            || self.cancel.is_some()
            || self.max_visits.is_some()
            || self.listener.is_some()
            || self.seed.is_some();
        (asked || detaches || clock.is_some()).then(|| {
            Arc::new(Scope {
                id: self.id.clone(),
                listener: self.listener.clone(),
                cancel: self.cancel.clone(),
                max_visits: self.max_visits,
                seed: self.seed,
                clock,
                deadline,
                ..Scope::default()
            })
        })
    }
}

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

/// What a run begins with.
enum Begin {
    Start,
    Answer(Pause, Result<Value, serde_json::Error>),
}

impl Begin {
    fn answer(pause: Pause, answer: impl Serialize) -> Self {
        Self::Answer(pause, serde_json::to_value(answer))
    }
}

impl<S: State, X: Label> Flow<S, X> {
    /// Runs the flow over a state, to its end or to its next pause.
    ///
    /// # Errors
    ///
    /// When a node fails for good, or a string action is routed nowhere. The state keeps what was written before.
    pub fn run(&self, shared: &mut S) -> Result<Outcome, RunError> {
        self.run_with(shared, &RunOptions::default())
    }

    /// Runs the flow with options.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run), and those of the options.
    pub fn run_with(&self, shared: &mut S, options: &RunOptions) -> Result<Outcome, RunError> {
        self.begin(Begin::Start, shared, options)
    }

    /// Goes on with a paused run, with the answer to its question.
    ///
    /// # Errors
    ///
    /// [`RunError::Answer`] if the answer does not fit, with the pause to try again; and those of [`run`](Self::run).
    pub fn resume(&self, shared: &mut S, pause: Pause, answer: impl Serialize) -> Result<Outcome, RunError> {
        self.resume_with(shared, pause, answer, &RunOptions::default())
    }

    /// Goes on with a paused run, with options, which are not kept over a pause.
    ///
    /// # Errors
    ///
    /// Those of [`resume`](Self::resume), and those of the options.
    pub fn resume_with(
        &self,
        shared: &mut S,
        pause: Pause,
        answer: impl Serialize,
        options: &RunOptions,
    ) -> Result<Outcome, RunError> {
        self.begin(Begin::answer(pause, answer), shared, options)
    }

    fn begin(&self, begin: Begin, shared: &mut S, options: &RunOptions) -> Result<Outcome, RunError> {
        let definition = &*self.definition;
        let mut cx = Context::of_run(&definition.graph);
        if let Some(scope) = options.scope(false, true) {
            cx.set_scope(scope);
        }
        if !cx.watched() {
            return definition.drive(begin, shared, &mut cx);
        }
        let terminal = Terminal::begin(&cx, definition.graph.name());
        let result = run_span(&cx, definition.graph.name()).in_scope(|| definition.drive(begin, shared, &mut cx));
        terminal.end(&result);
        result
    }
}

impl<S: State, X: Label> AsyncFlow<S, X> {
    /// Runs the flow over a state, to its end or to its next pause.
    ///
    /// # Errors
    ///
    /// When a node fails for good, or a string action is routed nowhere. The state keeps what was written before.
    ///
    /// # Cancel safety
    ///
    /// When this returns, nothing that the run started still runs. When it is dropped, neither, but for a blocking
    /// `exec` that is already on the pool: it cannot be interrupted, [`Context::cancelled`] tells it to stop, and its
    /// result is discarded.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` would hold its arguments twice, in every run")]
    pub fn run_async<'a>(
        &'a self,
        shared: &'a mut S,
    ) -> impl Future<Output = Result<Outcome, RunError>> + Send + use<'a, S, X> {
        async move {
            let definition = &*self.definition;
            let mut cx = Context::of_run(&definition.graph);
            if definition.graph.detaches || cx.traced() {
                return Box::pin(async move { self.run_async_with(shared, &RunOptions::default()).await }).await;
            }
            Outcome::of_halted(definition.visit_async(definition.start(), shared, &mut cx, u64::MAX).await)
        }
    }

    /// Runs the flow with options.
    ///
    /// # Errors
    ///
    /// Those of [`run_async`](Self::run_async), and those of the options.
    ///
    /// # Cancel safety
    ///
    /// That of [`run_async`](Self::run_async).
    pub async fn run_async_with(&self, shared: &mut S, options: &RunOptions) -> Result<Outcome, RunError> {
        self.begin(Begin::Start, shared, options).await
    }

    /// Goes on with a paused run, with the answer to its question.
    ///
    /// # Errors
    ///
    /// [`RunError::Answer`] if the answer does not fit, with the pause to try again; and those of
    /// [`run_async`](Self::run_async).
    ///
    /// # Cancel safety
    ///
    /// That of [`run_async`](Self::run_async).
    pub async fn resume(&self, shared: &mut S, pause: Pause, answer: impl Serialize) -> Result<Outcome, RunError> {
        let begin = Begin::answer(pause, answer);
        self.begin(begin, shared, &RunOptions::default()).await
    }

    /// Goes on with a paused run, with options, which are not kept over a pause.
    ///
    /// # Errors
    ///
    /// Those of [`resume`](Self::resume), and those of the options.
    ///
    /// # Cancel safety
    ///
    /// That of [`run_async`](Self::run_async).
    pub async fn resume_with(
        &self,
        shared: &mut S,
        pause: Pause,
        answer: impl Serialize,
        options: &RunOptions,
    ) -> Result<Outcome, RunError> {
        let begin = Begin::answer(pause, answer);
        self.begin(begin, shared, options).await
    }

    async fn begin(&self, begin: Begin, shared: &mut S, options: &RunOptions) -> Result<Outcome, RunError> {
        let definition = &*self.definition;
        let mut cx = Context::of_run(&definition.graph);
        if let Some(scope) = options.scope(definition.graph.detaches, false) {
            cx.set_scope(scope);
        }
        let terminal = Terminal::begin(&cx, definition.graph.name());
        let span = run_span(&cx, definition.graph.name());
        let own = cx.clone();
        let result =
            until_stopped(definition.drive_async(begin, shared, &mut cx).instrument(span), &own, options).await;
        // What was dropped may have left a blocking attempt or a spawned item behind: nothing outlives the run.
        if let Some(scope) = own.scope() {
            scope.started.close();
            scope.started.wait().await;
        }
        terminal.end(&result);
        result
    }
}

/// Awaits a run until it ends, its token is cancelled, or its time is over.
async fn until_stopped(
    run: impl Future<Output = Result<Outcome, RunError>>,
    cx: &Context,
    options: &RunOptions,
) -> Result<Outcome, RunError> {
    if options.cancel.is_none() && options.deadline.is_none() {
        return run.await;
    }
    let cancelled = async {
        match &options.cancel {
            Some(token) => token.cancelled().await,
            None => pending().await,
        }
        RunError::Cancelled { run: cx.run_id(), node: cx.last_node() }
    };
    let late = async {
        let Some(limit) = options.deadline else { return pending().await };
        tokio::time::sleep(limit).await;
        RunError::DeadlineExceeded { run: cx.run_id(), node: cx.last_node(), limit }
    };
    // Boxed, so that a run without token and deadline carries no room for them.
    let stopped = select(Box::pin(cancelled), Box::pin(late));
    match select(stopped, Box::pin(run)).await {
        Either::Left((stopped, _)) => Err(stopped.factor_first().0),
        Either::Right((result, _)) => result,
    }
}

fn run_span(cx: &Context, flow: &str) -> tracing::Span {
    if !cx.traced() {
        return tracing::Span::none();
    }
    tracing::info_span!(target: "flowstone", "run", flow, run = %cx.run_id())
}

impl Outcome {
    fn of_halted(visited: Result<Position, Box<Halt>>) -> Result<Self, RunError> {
        match visited {
            Err(halt) => Self::of(*halt),
            Ok(_) => unreachable!("invariant: no run lives for 2^64 visits"),
        }
    }

    fn of(halt: Halt) -> Result<Self, RunError> {
        match halt {
            Halt::Ended(exit) => Ok(Self::Ended(exit)),
            Halt::Paused(pause) => Ok(Self::Paused(pause)),
            Halt::Failed(error) => Err(error),
        }
    }
}

impl<S: State> Definition<S> {
    fn drive(&self, begin: Begin, shared: &mut S, cx: &mut Context) -> Result<Outcome, RunError> {
        match self.first_visit(begin, shared, cx) {
            Ok(at) => self.follow(at, shared, cx),
            Err(halt) => Outcome::of(*halt),
        }
    }

    async fn drive_async(&self, begin: Begin, shared: &mut S, cx: &mut Context) -> Result<Outcome, RunError> {
        match self.first_visit(begin, shared, cx) {
            Ok(at) => self.follow_async(at, shared, cx).await,
            Err(halt) => Outcome::of(*halt),
        }
    }

    /// Visits node after node.
    pub(crate) fn follow(&self, mut at: Position, shared: &mut S, cx: &mut Context) -> Result<Outcome, RunError> {
        loop {
            match self.visit(at, shared, cx) {
                Ok(next) => at = next,
                Err(halt) => return Outcome::of(*halt),
            }
        }
    }

    /// The async twin of [`follow`](Self::follow).
    pub(crate) fn follow_async<'a>(
        &'a self,
        at: Position,
        shared: &'a mut S,
        cx: &'a mut Context,
    ) -> impl Future<Output = Result<Outcome, RunError>> + Send + 'a {
        self.visit_async(at, shared, cx, u64::MAX).map(Outcome::of_halted)
    }

    /// Finds the node to visit first: the start, or what follows an answer.
    fn first_visit(&self, begin: Begin, shared: &mut S, cx: &mut Context) -> Result<Position, Box<Halt>> {
        let (pause, answer) = match begin {
            Begin::Start => return Ok(self.start()),
            Begin::Answer(pause, answer) => (pause, answer),
        };
        cx.take_over(&pause.0.cx);
        let (run, at) = (cx.run_id(), pause.position());
        let no_pause = |run, pause| {
            let flow = self.graph.name().to_owned();
            Err(Box::new(Halt::Failed(RunError::NoSuchPause { run, flow, pause })))
        };
        if self.graph.nodes.get(at.index()).is_none_or(|node| node.path != *pause.node()) {
            return no_pause(run, pause);
        }
        let Some(body) = &self.slots[at.index()].body.sync else { return no_pause(run, pause) };
        let mut answered = None;
        let visited = catch(|| {
            answered = match answer {
                Ok(answer) => body.answer(shared, answer, cx),
                Err(unfit) => Some(Err(unfit)),
            };
            Ok(0)
        });
        let visited = match (visited, answered) {
            (Err(panicked), _) => Err(panicked),
            (Ok(_), Some(Ok(visited))) => visited,
            (Ok(_), Some(Err(source))) => {
                return Err(Box::new(Halt::Failed(RunError::Answer { run, pause, source })));
            }
            (Ok(_), None) => return no_pause(run, pause),
        };
        self.end(at, visited, cx)
    }
}
