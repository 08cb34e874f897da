//! Running a spec: [`Runner`].

use std::io;

use flowstone::{Outcome, RunError, RunOptions};
use tokio::runtime::Runtime;

use crate::{
    build::{Runnable, build},
    spec::{Graph, Spec},
    state::State,
    trace::{Answer, Trace, TraceError},
};

/// The most visits of a run, so that one on a wrong route ends; no spec of the kit comes near it.
pub const MAX_VISITS: u64 = 100_000;

/// Runs specs, one after another, on one runtime.
#[derive(Debug)]
pub struct Runner {
    runtime: Runtime,
    options: RunOptions,
}

impl Runner {
    /// Creates a runner.
    ///
    /// # Errors
    ///
    /// If the system gives no resources for a runtime.
    pub fn new() -> io::Result<Self> {
        // A run is one task, so one thread drives it; sync nodes of async flows have the runtime's blocking pool.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Self { runtime, options: RunOptions::new().max_visits(MAX_VISITS) })
    }

    /// Builds and runs a spec, and tells what happened.
    #[must_use]
    pub fn answer(&self, spec: &Spec) -> Answer {
        let Ok(flow) = build(&spec.flow) else { return Answer::Refused { build_error: true } };
        let mut state = State::of_run(spec);
        let result = match flow {
            Runnable::Sync(flow) => flow.run_with(&mut state, &self.options),
            Runnable::Async(flow) => self.runtime.block_on(flow.run_async_with(&mut state, &self.options)),
        };
        let (events, shared) = state.world().take();
        let (last_action, error) = match result {
            Ok(Outcome::Ended(action)) => (Some(action.to_string()), None),
            Ok(Outcome::Paused(pause)) => (None, Some(at(&spec.flow, pause.node().as_str(), "it asks".to_owned()))),
            Err(error) => (None, Some(at(&spec.flow, error.node().as_str(), message(&error)))),
        };
        Answer::Ran(Trace { events, shared, last_action, error })
    }
}

/// Returns the message of the node, or of the engine if the error is not a node's.
fn message(error: &RunError) -> String {
    match error {
        RunError::Node { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}

/// An error with its path from the root flow on.
fn at(root: &Graph, node: &str, message: String) -> TraceError {
    // Flowstone leaves the flow that is run out of paths; around a batch flow that is one of this crate's own.
    let path = if root.kind.is_batch() { node.to_owned() } else { format!("{}/{node}", root.name.as_str()) };
    TraceError { path, message }
}
