//! The check of a set of tools: [`Tools::check`] says every fault at once.

use std::{fmt, time::Duration};

use flowstone_core::{NodeError, Result};

use super::{Entry, Tools, outcome::with_causes};

/// The longest name that providers take.
const LONGEST_NAME: usize = 64;

impl Tools {
    /// Says everything that is wrong with the tools; nodes that hold some call it in their own `check`.
    ///
    /// # Errors
    ///
    /// A terminal one whose source is [`BadTools`].
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_llm::{Tools, function};
    ///
    /// let add = || function("add up", "Adds", |_: std::collections::BTreeMap<String, f64>| async { Ok(()) });
    /// let error = Tools::new().with(add()).with(add()).check().unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "there are two tools `add up`; the name of tool `add up` is not one to 64 letters, digits, `_` and `-`",
    /// );
    /// ```
    pub fn check(&self) -> Result<()> {
        let of_tools = self.entries.iter().flat_map(|(name, entry)| faults(name, entry, self.timeout));
        let faults: Vec<BadTool> = self.faults.iter().cloned().chain(of_tools).collect();
        if faults.is_empty() { Ok(()) } else { Err(NodeError::terminal(BadTools { faults })) }
    }
}

/// Returns the fault of one tool of a set whose calls may take this long.
pub(super) fn faults(name: &str, entry: &Entry, timeout: Duration) -> impl Iterator<Item = BadTool> {
    let tool = || name.to_owned();
    let of_name = (!is_name(name)).then(|| BadTool::Name { tool: tool() });
    let of_schema = entry.parameters.check().err().map(|fault| fault.of(name));
    let of_time = entry.timeout.unwrap_or(timeout).is_zero().then(|| BadTool::NoTime { tool: tool() });
    let own = entry.tool.check().err();
    let own = own.map(|error| BadTool::Refused { tool: tool(), message: with_causes(error.source_ref()) });
    [of_name, of_schema, of_time, own].into_iter().flatten()
}

/// Returns `true` for a name that providers take.
fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Everything that is wrong with a set of tools.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadTools {
    /// At least one.
    pub faults: Vec<BadTool>,
}

impl fmt::Display for BadTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        f.write_str(&faults.join("; "))
    }
}

impl std::error::Error for BadTools {}

/// One thing that is wrong with a set of tools.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum BadTool {
    /// Two tools of one name.
    #[error("there are two tools `{tool}`")]
    Twice { tool: String },
    /// A name that providers refuse.
    #[error("the name of tool `{tool}` is not one to 64 letters, digits, `_` and `-`")]
    Name { tool: String },
    /// A name that was asked for, and that no tool has.
    #[error("there is no tool `{tool}`: {}", Names(.names))]
    Missing { tool: String, names: Vec<String> },
    /// A schema that is none.
    #[error("the schema of tool `{tool}` is no JSON schema: {message}")]
    Schema { tool: String, message: String },
    /// A schema of something else than an object.
    #[error("the arguments of tool `{tool}` are not an object: its schema is to have `\"type\": \"object\"`")]
    NoObject { tool: String },
    /// A time limit of nothing.
    #[error("the calls of tool `{tool}` have no time at all")]
    NoTime { tool: String },
    /// The tool's own [`check`](super::Tool::check).
    #[error("tool `{tool}`: {message}")]
    Refused { tool: String, message: String },
}

impl BadTool {
    /// Returns the name of the tool.
    #[must_use]
    pub fn tool(&self) -> &str {
        match self {
            Self::Twice { tool }
            | Self::Name { tool }
            | Self::Missing { tool, .. }
            | Self::Schema { tool, .. }
            | Self::NoObject { tool }
            | Self::NoTime { tool }
            | Self::Refused { tool, .. } => tool,
        }
    }
}

/// The part of a message that says which tools there are.
pub(super) struct Names<'a>(pub(super) &'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there are none");
        }
        let names: Vec<String> = self.0.iter().map(|name| format!("`{name}`")).collect();
        write!(f, "there are {}", names.join(", "))
    }
}
