//! The words by which the model is told of a call; and the errors that it is not told of, since they end the run.

use std::{any::Any, error::Error, fmt::Write, iter::successors, time::Duration};

use flowstone_core::{Context, NodeError, OverBudget, Result, RunError, RunId};

use super::arguments::Misuse;
use crate::message::{ToolCall, ToolFault, ToolResult};

/// The words that the model is told.
pub(super) struct Said {
    text: String,
    fault: Option<ToolFault>,
}

impl Said {
    pub(super) fn text(text: String) -> Self {
        Self { text, fault: None }
    }

    pub(super) fn failed(error: &(dyn Error + 'static)) -> Self {
        Self { text: format!("the tool failed: {}", with_causes(error)), fault: Some(ToolFault::Failed) }
    }

    /// Makes the result of a call, of which the model is told so many bytes.
    pub(super) fn into_result(self, call: &ToolCall, max_bytes: usize) -> ToolResult {
        let text = cut(self.text, max_bytes);
        ToolResult { id: call.id.clone(), name: call.name.clone(), text, fault: self.fault }
    }
}

/// Sorts out the result of a tool: it is told to the model, or ends the run.
pub(super) fn of_error(error: NodeError, cx: &Context) -> Result<Said> {
    if let Some(misuse) = error.downcast_ref::<Misuse>() {
        return Ok(Said { text: misuse.to_string(), fault: Some(ToolFault::Misuse) });
    }
    match error.downcast_ref() {
        // The engine knows it by its type: it has to come through as it is.
        Some(run_error) if stops(run_error, &cx.run_id()) => Err(error),
        _ if ends_run(error.source_ref(), &cx.run_id()) => Err(NodeError::terminal(error.into_source())),
        _ => Ok(Said::failed(error.source_ref())),
    }
}

/// Tells the message of a panic, and nothing of the arguments or of the tool's services.
pub(super) fn of_panic(panic: &(dyn Any + Send)) -> Said {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = format!("the tool panicked: {}", text.unwrap_or("it does not say why"));
    Said { text, fault: Some(ToolFault::Failed) }
}

/// A call that took too long.
#[derive(Debug, thiserror::Error)]
#[error("it was stopped, since it was not done within {0:?}")]
pub(super) struct TooSlow(pub(super) Duration);

/// Returns `true` if the model must not go on after this error.
///
/// An error that stopped another run, one that the tool started for itself, is the tool's own affair.
fn ends_run(error: &(dyn Error + 'static), run: &RunId) -> bool {
    for cause in causes(error) {
        if cause.is::<OverBudget>() || cause.is::<super::BadTools>() {
            return true;
        }
        let Some(error) = cause.downcast_ref::<RunError>() else { continue };
        if stops(error, run) {
            return true;
        }
        if !matches!(error, RunError::Node { run: of, .. } if of == run) {
            return false;
        }
    }
    false
}

fn stops(error: &RunError, this: &RunId) -> bool {
    match error {
        RunError::Cancelled { run, .. }
        | RunError::DeadlineExceeded { run, .. }
        | RunError::TooManyVisits { run, .. }
        | RunError::Journal { run, .. } => run == this,
        _ => false,
    }
}

/// An error and its causes in one line; a cause that the error before it quotes is not said again.
pub(super) fn with_causes(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).fold(String::new(), |mut text, cause| {
        if text.is_empty() {
            return cause;
        }
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        text
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |cause| (*cause).source())
}

fn cut(mut text: String, max_bytes: usize) -> String {
    let whole = text.len();
    if whole > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        let shown = text.len();
        // Writing to a string does not fail.
        let _ = write!(text, "\n[cut off: these are the first {shown} of {whole} bytes; ask for less at once]");
    }
    text
}
