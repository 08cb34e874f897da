//! The driver in memory: a loop over `visit`, and around it what a run as a whole may have.
//!
//! ```text
//! loop { visit ─▶ next? go on │ end? Outcome::Ended │ pause? Outcome::Paused }
//! ```
//!
//! A run without options is the bare loop. One with options gets a [`Scope`](crate::context::Scope), which its context carries.

use std::{future::Future, sync::Arc};

use futures_util::FutureExt;
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
    outcome::{Halt, Outcome},
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

/// What a run begins with.
enum Begin {
    Start,
    Reply(Pause, Reply),
}

impl Begin {
    fn goes_on(&self) -> bool {
        matches!(self, Self::Reply(..))
    }

    fn answer(pause: Pause, answer: impl Serialize) -> Self {
        Self::Reply(pause, Reply::answer(answer))
    }

    /// The context of the run: a new one, or that of the paused run under new options.
    fn context(&self, graph: &Arc<Graph>, options: &RunOptions, sync: bool) -> Context {
        let mut cx = Context::of_run(graph);
        let paused = match self {
            Self::Start => None,
            Self::Reply(pause, _) => Some(&pause.0.run),
        };
        if let Some(paused) = paused {
            cx.take_over(paused);
        }
        if let Some(scope) = options.scope(paused, graph.detaches && !sync, sync) {
            cx.set_scope(scope);
        }
        cx
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

    /// Goes on with a paused run, with options. Of the options before the pause only the id is kept.
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
        self.begin(Begin::Reply(pause, Reply::Expired), shared, options)
    }

    fn begin(&self, begin: Begin, shared: &mut S, options: &RunOptions) -> Result<Outcome, RunError> {
        let definition = &*self.definition;
        let mut cx = begin.context(&definition.graph, options, true);
        if !cx.watched() {
            return definition.drive(begin, shared, &mut cx);
        }
        let terminal = Terminal::begin(&cx, definition.graph.name(), begin.goes_on());
        let span = run_span(&cx, definition.graph.name());
        let result = span.in_scope(|| definition.drive(begin, shared, &mut cx));
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
    /// When this returns, nothing that the run started still runs. When it is dropped, neither, but for a blocking `exec`
    /// or [job](Context::blocking) that is already on the pool, and a spawned item until its next `.await`: they cannot be
    /// interrupted, [`Context::cancelled`] tells them to stop, and their results are discarded.
    ///
    /// # Panics
    ///
    /// Where a timeout, a wait between attempts, the blocking pool or a deadline needs tokio's timer or runtime and
    /// there is none.
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
            let outcome = Outcome::of_halted(definition.visit_all(definition.start(), shared, &mut cx).await);
            if Context::may_have_started() {
                // Boxed, so that other runs carry no room for it.
                return Box::pin(async move {
                    cx.wait_for_started().await;
                    outcome
                })
                .await;
            }
            outcome
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

    /// Goes on with a paused run, with options. Of the options before the pause only the id is kept.
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
        self.begin(Begin::Reply(pause, Reply::Expired), shared, &RunOptions::default()).await
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
        self.begin(Begin::Reply(pause, Reply::Expired), shared, options).await
    }

    async fn begin(&self, begin: Begin, shared: &mut S, options: &RunOptions) -> Result<Outcome, RunError> {
        let definition = &*self.definition;
        let mut cx = begin.context(&definition.graph, options, false);
        let terminal = Terminal::begin(&cx, definition.graph.name(), begin.goes_on());
        let span = run_span(&cx, definition.graph.name());
        let own = cx.clone();
        let run = definition.drive_async(begin, shared, &mut cx).instrument(span.clone());
        let result = until_stopped(run, &own).await;
        record_end(&span, &result);
        // What was dropped may have left a blocking job or a spawned item behind: nothing outlives the run.
        own.wait_for_started().await;
        terminal.end(&result, &cx);
        result
    }
}

fn record_end(span: &tracing::Span, result: &Result<Outcome, RunError>) {
    if let Err(error) = result {
        error.record_in(span);
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
        self.visit_all(at, shared, cx).map(Outcome::of_halted)
    }

    /// Finds the node to visit first: the start, or what follows an answer.
    fn first_visit(&self, begin: Begin, shared: &mut S, cx: &mut Context) -> Result<Position, Box<Halt>> {
        match begin {
            Begin::Start => Ok(self.start()),
            Begin::Reply(pause, reply) => self.answer(pause, reply, shared, cx).1,
        }
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
