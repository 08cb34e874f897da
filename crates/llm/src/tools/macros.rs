//! Functions for the code that `#[tool]` writes. They are no part of the API: the macro of one version goes with them.

use std::any::Any;

use flowstone_core::{Context, NodeError, Result};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

pub use schemars;
pub use serde;
pub use serde_json::Value;

use super::arguments::{Misuse, schema_of};
use crate::request::ToolSpec;

/// The words for a result that says nothing.
const DONE: &str = "done";

/// Describes a tool; `docs` are the lines of its doc comment.
#[must_use]
pub fn spec<A: JsonSchema>(name: &str, docs: &[&str]) -> ToolSpec {
    ToolSpec { name: name.to_owned(), description: description(docs), parameters: schema_of::<A>() }
}

fn description(docs: &[&str]) -> String {
    let lines = docs.iter().flat_map(|text| text.split('\n'));
    // A doc comment has one space before its text; what is indented deeper is meant so.
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Reads the arguments of a tool.
///
/// # Errors
///
/// [`Misuse`], since they may fit their schema and still not be what a type takes.
pub fn arguments<A: DeserializeOwned>(tool: &str, given: Value) -> Result<A> {
    serde_json::from_value(given).map_err(|error| NodeError::terminal(Misuse::argument(tool, "", error.to_string())))
}

/// Writes the result of a tool for the model: a text as it is, `()` as "done", anything else as JSON.
///
/// # Errors
///
/// If it cannot be written as JSON.
pub fn told<T: Serialize + 'static>(result: &T) -> Result<String> {
    let any: &dyn Any = result;
    if let Some(text) = any.downcast_ref::<String>() {
        return Ok(text.clone());
    }
    if any.is::<()>() {
        return Ok(DONE.to_owned());
    }
    let json = serde_json::to_string(result).map_err(NodeError::terminal)?;
    // Any other type that is written as a text: a `&'static str`, a date.
    if json.starts_with('"') { Ok(serde_json::from_str(&json)?) } else { Ok(json) }
}

/// Runs a tool that blocks on the blocking pool.
///
/// # Cancel safety
///
/// That of [`Context::blocking`]: when dropped, a job that has not begun never begins; one that has is told, and its
/// run waits for it.
///
/// # Errors
///
/// Those of the job; and what stops the run, if something does.
///
/// # Panics
///
/// If the job does.
pub async fn blocking<T: Send + 'static>(
    cx: &Context,
    job: impl FnOnce(&Context) -> Result<T> + Send + 'static,
) -> Result<T> {
    cx.blocking(job).await
}
