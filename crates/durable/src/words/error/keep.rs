//! Writing what users give: states, questions, answers, actions.

use std::sync::Arc;

use flowstone_core::{NodePath, RunId, driver::Unstorable};

/// An error of keeping a value that a run gives. Nothing of it was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The state is larger than the store's options allow.
    #[error(
        "the state of run `{run}` has {size} bytes, more than the {most} that the store's options allow (`max_state`)"
    )]
    #[non_exhaustive]
    StateTooLarge {
        /// The run.
        run: RunId,
        /// The size of the state as JSON.
        size: usize,
        /// The most that is allowed.
        most: usize,
    },
    /// A value could not be read back after it is written, or would be read as another value. Nothing of it was
    /// written.
    #[error("run `{run}`, node `{node}`: {what} cannot be kept")]
    #[non_exhaustive]
    Unstorable {
        /// The run.
        run: RunId,
        /// The node that it belongs to; for a state, the one after which it was to be kept, or with which the run
        /// begins.
        node: NodePath,
        /// The kind of value: a state, an answer.
        what: Written,
        /// The reason, with the place in it.
        source: Arc<Unstorable>,
    },
    /// A node asks with a value that is no JSON schema as the schema of its answer, so no answer could fit.
    #[error("run `{run}`: the schema of node `{node}` is no JSON schema: {what}")]
    #[non_exhaustive]
    BadSchema {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The fault.
        what: String,
    },
    /// A value beside the state is larger than the store's options allow for a state.
    #[error("run `{run}`, node `{node}`: {what} has {size} bytes, more than the {most} that are allowed{}", Limit(*.what))]
    #[non_exhaustive]
    TooLarge {
        /// The run.
        run: RunId,
        /// The node that it belongs to.
        node: NodePath,
        /// The kind of value: a question, an answer.
        what: Written,
        /// Its size as JSON.
        size: usize,
        /// The most that is allowed.
        most: usize,
    },
}

/// The kind of a value that is written for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Written {
    /// Its state.
    #[error("the state")]
    State,
    /// The state of a fork, as it was edited.
    #[error("the edited state")]
    Edit,
    /// A question.
    #[error("the question")]
    Question,
    /// The schema of an answer.
    #[error("the schema of the answer")]
    Schema,
    /// An answer.
    #[error("the answer")]
    Answer,
    /// The output of an item.
    #[error("the output of an item")]
    Output,
    /// The action that a node returned.
    #[error("the action")]
    Action,
}

/// Returns the part of a message that names the option that sets a limit.
struct Limit(Written);

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Written::Action => Ok(()),
            _ => f.write_str(" (`max_state`)"),
        }
    }
}
