//! The driver in memory: a loop over `visit`, and around it the options of a run as a whole.
//!
//! ```text
//! loop { visit ─▶ next? go on │ end? Outcome::Ended │ pause? Outcome::Paused }
//! ```
//!
//! A run without options is the bare loop. Its context carries everything that options ask for.

use std::{future::Future, sync::Arc};

use serde::Serialize;
use tracing::Instrument;

use crate::{
    context::Context,
    drive::{
        flow::{AsyncFlow, Flow},
        options::RunOptions,
    },
    graph::Graph,
    node::State,
    outcome::{Outcome, Visit},
    visit::{
        Definition,
        running::{run_span, until_stopped},
    },
    words::{
        action::Label,
        error::RunError,
        event::EventKind,
        path::{NodePath, Position},
        pause::{Pause, Reply},
    },
};

/// A pause, and the reply with which its run goes on. Boxed, since most runs begin at their start.
type Resumed = Box<(Pause, Reply)>;

/// Makes the context of a run: a new one, or that of the paused run under new options.
fn context(graph: &Arc<Graph>, resumed: Option<&Resumed>, options: &RunOptions, sync: bool) -> Context {
    let paused = resumed.map(|resumed| &resumed.0.0.run);
    let mut cx = Context::of_run(graph, options.extras(paused, sync));
    if let Some(paused) = paused {
        cx.take_over(paused);
    }
    cx
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
        self.begin(None, shared, options)
    }

    /// Goes on with a paused run, with the answer to its question.
    ///
    /// # Errors
    ///
    /// [`RunError::Answer`] if the answer does not fit, with the pause to try again; and those of [`run`](Self::run).
    pub fn resume(&self, shared: &mut S, pause: Pause, answer: impl Serialize) -> Result<Outcome, RunError> {
        self.resume_with(shared, pause, answer, &RunOptions::default())
    }

    /// Goes on with a paused run, with options. Of the earlier options only the id is kept.
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
        self.begin(Some(Box::new((pause, Reply::answer(answer)))), shared, options)
    }

    /// Goes on with a paused run without an answer, since its question has [expired](crate::Ask::expired).
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn expire(&self, shared: &mut S, pause: Pause) -> Result<Outcome, RunError> {
        self.expire_with(shared, pause, &RunOptions::default())
    }

    /// Goes on with a paused run without an answer, with options; see [`resume_with`](Self::resume_with).
    ///
    /// # Errors
    ///
    /// Those of [`expire`](Self::expire), and those of the options.
    pub fn expire_with(&self, shared: &mut S, pause: Pause, options: &RunOptions) -> Result<Outcome, RunError> {
        self.begin(Some(Box::new((pause, Reply::Expired))), shared, options)
    }

    fn begin(&self, resumed: Option<Resumed>, shared: &mut S, options: &RunOptions) -> Result<Outcome, RunError> {
        let definition = &*self.definition;
        let mut cx = context(&definition.graph, resumed.as_ref(), options, true);
        let terminal = Terminal::begin(&cx, definition.graph.name(), resumed.is_some());
        let span = run_span(&cx, definition.graph.name());
        let result = span.in_scope(|| match definition.first_visit(resumed, shared, &mut cx)? {
            Ok(at) => definition.follow(at, shared, &mut cx),
            Err(outcome) => Ok(outcome),
        });
        record_end(&span, &result);
        terminal.end(&result, &cx);
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
    /// When this returns, nothing that the run started still runs. When it is dropped, the same holds, except for a
    /// blocking `exec` or [job](Context::blocking) that is already on the pool, and for a spawned item until its next
    /// `.await`. These cannot be interrupted: [`Context::cancelled`] tells them to stop, and their results are
    /// discarded.
    ///
    /// # Panics
    ///
    /// If there is no tokio runtime where a timeout, a wait between attempts, the blocking pool or a deadline needs its
    /// timer or threads.
    pub fn run_async<'a>(
        &'a self,
        shared: &'a mut S,
    ) -> impl Future<Output = Result<Outcome, RunError>> + Send + use<'a, S, X> {
        start(&self.definition, shared, context(&self.definition.graph, None, &RunOptions::default(), false))
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
        start(&self.definition, shared, context(&self.definition.graph, None, options, false)).await
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
        self.go_on(Box::new((pause, Reply::answer(answer))), shared, &RunOptions::default()).await
    }

    /// Goes on with a paused run, with options. Of the earlier options only the id is kept.
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
        self.go_on(Box::new((pause, Reply::answer(answer))), shared, options).await
    }

    /// Goes on with a paused run without an answer, since its question has [expired](crate::Ask::expired).
    ///
    /// # Errors
    ///
    /// Those of [`run_async`](Self::run_async).
    ///
    /// # Cancel safety
    ///
    /// That of [`run_async`](Self::run_async).
    pub async fn expire(&self, shared: &mut S, pause: Pause) -> Result<Outcome, RunError> {
        self.go_on(Box::new((pause, Reply::Expired)), shared, &RunOptions::default()).await
    }

    /// Goes on with a paused run without an answer, with options; see [`resume_with`](Self::resume_with).
    ///
    /// # Errors
    ///
    /// Those of [`expire`](Self::expire), and those of the options.
    ///
    /// # Cancel safety
    ///
    /// That of [`run_async`](Self::run_async).
    pub async fn expire_with(&self, shared: &mut S, pause: Pause, options: &RunOptions) -> Result<Outcome, RunError> {
        self.go_on(Box::new((pause, Reply::Expired)), shared, options).await
    }

    /// Goes on with a paused run. Boxed, so that the futures of callers carry no room for it.
    async fn go_on(&self, resumed: Resumed, shared: &mut S, options: &RunOptions) -> Result<Outcome, RunError> {
        let cx = context(&self.definition.graph, Some(&resumed), options, false);
        Box::pin(attended(&self.definition, Some(resumed), shared, cx)).await
    }
}

/// Drives a run from its start.
///
/// Parts that most runs do not need are boxed, so that a run carries no room for them.
#[expect(clippy::manual_async_fn, reason = "an `async fn` would hold its arguments twice, in every run")]
fn start<'a, S: State>(
    definition: &'a Definition<S>,
    shared: &'a mut S,
    mut cx: Context,
) -> impl Future<Output = Result<Outcome, RunError>> + Send + use<'a, S> {
    async move {
        if cx.is_attended() {
            return Box::pin(attended(definition, None, shared, cx)).await;
        }
        let result = definition.follow_async(definition.start(), shared, &mut cx).await;
        // A dropped visit may have left a blocking job or a spawned item behind: nothing outlives the run.
        if cx.may_have_started() {
            return Box::pin(async move {
                cx.wait_for_started().await;
                result
            })
            .await;
        }
        result
    }
}

/// Drives a run that somebody listens to, traces, or may stop while it waits; or one that goes on after a pause.
async fn attended<S: State>(
    definition: &Definition<S>,
    resumed: Option<Resumed>,
    shared: &mut S,
    mut cx: Context,
) -> Result<Outcome, RunError> {
    let own = cx.clone();
    let terminal = Terminal::begin(&own, definition.graph.name(), resumed.is_some());
    let span = run_span(&own, definition.graph.name());
    let run = async {
        match definition.first_visit(resumed, shared, &mut cx)? {
            Ok(at) => definition.follow_async(at, shared, &mut cx).await,
            Err(outcome) => Ok(outcome),
        }
    };
    let result = until_stopped(run.instrument(span.clone()), &own).await;
    record_end(&span, &result);
    own.wait_for_started().await; // before the last event
    terminal.end(&result, &cx);
    result
}

fn record_end(span: &tracing::Span, result: &Result<Outcome, RunError>) {
    if let Err(error) = result {
        error.record_in(span);
    }
}

impl<S: State> Definition<S> {
    /// Finds the node to visit first: the start, or what follows an answer, which may be the end.
    fn first_visit(
        &self,
        resumed: Option<Resumed>,
        shared: &mut S,
        cx: &mut Context,
    ) -> Result<Result<Position, Outcome>, RunError> {
        let Some(resumed) = resumed else { return Ok(Ok(self.start())) };
        let (pause, reply) = *resumed;
        self.answer(pause, reply, shared, cx).map(Visit::or_outcome)
    }
}

/// Sends the terminal event when a run ends, also when it ends by being dropped.
pub(crate) struct Terminal {
    cx: Option<Context>,
}

impl Terminal {
    /// Announces the run; `cx` is the run's own context.
    pub(crate) fn begin(cx: &Context, flow: &str, resumed: bool) -> Self {
        if cx.listening() {
            cx.send_of(None, EventKind::RunStarted { flow: flow.to_owned(), resumed });
        }
        Self { cx: cx.listening().then(|| cx.clone()) }
    }

    /// Sends the terminal event; `cx` is the context in which the run ended.
    pub(crate) fn end(mut self, result: &Result<Outcome, RunError>, cx: &Context) {
        if self.cx.take().is_some() {
            let (node, kind) = EventKind::of_result(result);
            cx.send_of(node, kind);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(cx) = self.cx.take() {
            let error = "the run was dropped before its end".to_owned();
            cx.send_of(None, EventKind::Failed { phase: None, error });
        }
    }
}

impl EventKind {
    /// The terminal event of a run, and the node that it is about.
    fn of_result(result: &Result<Outcome, RunError>) -> (Option<NodePath>, Self) {
        match result {
            Ok(Outcome::Ended(action)) => (None, Self::Ended { action: action.clone() }),
            Ok(Outcome::Paused(pause)) => {
                (Some(pause.node().clone()), Self::Paused { question: pause.question().clone() })
            }
            Err(error) => (Some(error.node().clone()), Self::failed(error)),
        }
    }
}
