//! The parts that the programs with models share: their options, the model, and a run with a person beside it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it speaks with the person at the command line")]

use std::{
    env,
    io::{IsTerminal, Write, stdin, stdout},
    num::ParseIntError,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use clap::Args;
use flowstone::{
    AsyncFlow, Event, EventKind, Label, NodePath, Outcome, RunId, RunOptions, State,
    durable::{FlowOptions, Run, Seen, Status, Store},
    llm::{Delta, Model, Reply, Request, ScriptedModel},
};
use futures_util::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::scripts::vector;

/// The model of `cargo xtask model`.
const LOCAL: &str = "http://127.0.0.1:8080/v1#smollm2";

/// The options of each of the programs.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The model: `openai:gpt-5-mini`, `ollama:NAME`, `http://HOST/v1#NAME`; `scripted` is none, for tests. Without it
    /// FLOWSTONE_MODEL names one, and without that it is the one of `cargo xtask model`
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Keep the run in this file, and go on with the one that is there
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// The time that the scripted model takes for a reply, in milliseconds
    #[arg(long, value_name = "MS", default_value = "0", value_parser = millis, hide = true)]
    script_takes: Duration,
}

fn millis(text: &str) -> Result<Duration, ParseIntError> {
    text.parse().map(Duration::from_millis)
}

/// A run's question to a person.
#[derive(Debug)]
pub struct Question<'a> {
    /// The node that asks.
    pub node: &'a NodePath,
    /// The question, as JSON.
    pub question: &'a Value,
    /// `true` if no text was shown since the program was started.
    pub first: bool,
}

/// The place that a run came to: its end, or a question that nobody answered.
#[derive(Debug)]
pub enum Ran<S> {
    /// It ended, with this state.
    Ended(S),
    /// It waits; what is in a store goes on when the program is started again.
    Waits(S),
}

impl<S> Ran<S> {
    /// Returns the state, however far the run came.
    pub fn state(self) -> S {
        match self {
            Self::Ended(state) | Self::Waits(state) => state,
        }
    }
}

impl ModelArgs {
    /// Returns the model; `script` is what the scripted one replies.
    ///
    /// # Errors
    ///
    /// If there is no such model.
    pub fn model(&self, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> anyhow::Result<Model> {
        if self.model.as_deref() == Some("scripted") {
            let script = ScriptedModel::by(move |request| Ok(script(request))).embedding(vector);
            return Ok(Model::new(script.taking(self.script_takes)));
        }
        let name = self.model.clone().or_else(|| env::var("FLOWSTONE_MODEL").ok()).unwrap_or_else(|| {
            eprintln!("model: {LOCAL}, of `cargo xtask model`; --model or FLOWSTONE_MODEL names another");
            LOCAL.to_owned()
        });
        Ok(Model::named(&name)?)
    }

    /// Runs a flow, in memory or in the store; shows text as it comes, and puts questions to `person`, who may have no
    /// answer.
    ///
    /// # Errors
    ///
    /// If the run fails, or the store does.
    pub async fn run<S, X>(
        &self,
        id: impl Into<RunId>,
        flow: AsyncFlow<S, X>,
        state: S,
        person: impl FnMut(&Question<'_>) -> anyhow::Result<Option<Value>>,
    ) -> anyhow::Result<Ran<S>>
    where
        S: State + Serialize + DeserializeOwned,
        X: Label,
    {
        let screen = Arc::new(Screen::default());
        let shown = Arc::clone(&screen);
        let listener = move |event: &Event| shown.show(event);
        let Some(path) = &self.store else {
            return in_memory(&flow, state, &RunOptions::new().listen(listener), &screen, person).await;
        };
        let store = Store::open(path).await?;
        let runs = store.runs_with(flow, FlowOptions::new().listen(listener)).await?;
        let run = runs.start(id, state).await?;
        if run.info().await?.status == Status::Failed {
            run.retry_failed().await?;
        }
        let ran = in_store(&run, path, &screen, person).await;
        store.close().await;
        ran
    }
}

async fn in_memory<S: State, X: Label>(
    flow: &AsyncFlow<S, X>,
    mut state: S,
    options: &RunOptions,
    screen: &Screen,
    mut person: impl FnMut(&Question<'_>) -> anyhow::Result<Option<Value>>,
) -> anyhow::Result<Ran<S>> {
    let mut outcome = flow.run_async_with(&mut state, options).await?;
    while let Outcome::Paused(pause) = outcome {
        match person(&Question { node: pause.node(), question: pause.question(), first: screen.is_empty() })? {
            Some(answer) => outcome = flow.resume_with(&mut state, pause, answer, options).await?,
            None => return Ok(Ran::Waits(state)),
        }
    }
    Ok(Ran::Ended(state))
}

async fn in_store<S: State + Serialize + DeserializeOwned>(
    run: &Run<S>,
    store: &Path,
    screen: &Screen,
    mut person: impl FnMut(&Question<'_>) -> anyhow::Result<Option<Value>>,
) -> anyhow::Result<Ran<S>> {
    let mut seen = pin!(run.follow(u64::MAX)); // for its statuses alone
    while let Some(seen) = seen.next().await {
        let Seen::Status(Status::Paused) = seen? else { continue };
        let Some(open) = run.questions().await?.pop() else { continue };
        match person(&Question { node: &open.node, question: &open.question, first: screen.is_empty() })? {
            Some(answer) => run.answer_question(&open, answer).await?,
            None => {
                let (id, node, store) = (run.id(), &open.node, store.display());
                eprintln!("the run waits: flowstone runs answer {id} --node {node} ANSWER --store {store}");
                return Ok(Ran::Waits(run.state().await?));
            }
        }
    }
    Ok(Ran::Ended(run.finished().await?.ended()?.state))
}

/// Reads a line that a person types, after a prompt if there is a terminal; `None` at the end.
///
/// # Errors
///
/// If standard input cannot be read.
pub fn line(prompt: &str) -> std::io::Result<Option<String>> {
    if stdin().is_terminal() {
        print!("{prompt}");
        stdout().flush()?;
    }
    let mut line = String::new();
    Ok((stdin().read_line(&mut line)? > 0).then(|| line.trim().to_owned()))
}

/// Nobody to ask, for flows without questions.
///
/// # Errors
///
/// Always.
pub fn nobody(asked: &Question<'_>) -> anyhow::Result<Option<Value>> {
    bail!("node `{}` asks, and there is nobody to answer", asked.node)
}

/// Text as it comes, a visit's in one paragraph.
#[derive(Debug, Default)]
struct Screen {
    begun: AtomicBool,
    within_line: AtomicBool,
}

impl Screen {
    fn show(&self, event: &Event) {
        match Delta::of_event(event) {
            Some(Delta::Text(text)) => {
                // Nobody reads a pipe that was closed: `print!` would panic.
                let _ = write!(stdout(), "{text}").and_then(|()| stdout().flush());
                self.begun.store(true, Ordering::Relaxed);
                self.within_line.store(true, Ordering::Relaxed);
            }
            None if matches!(event.kind, EventKind::VisitEnded { .. } | EventKind::VisitFailed { .. }) => {
                self.end_line();
            }
            _ => {}
        }
    }

    fn is_empty(&self) -> bool {
        !self.begun.load(Ordering::Relaxed)
    }

    fn end_line(&self) {
        if self.within_line.swap(false, Ordering::Relaxed) {
            let _ = writeln!(stdout());
        }
    }
}
