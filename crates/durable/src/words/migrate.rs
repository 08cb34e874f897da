//! Functions of users that bring what an older version stored to the newest: states, outputs of items, questions.

use std::sync::Arc;

use flowstone_core::{BoxError, NodePath};
use serde_json::Value;

/// Brings a state of an older version to the newest: it gets the older version's number, and the state as JSON.
pub(crate) type Migrate = Arc<dyn Fn(u32, Value) -> Result<Value, BoxError> + Send + Sync>;

/// Brings the output of an item, kept by an older version, to the newest: it gets that version's number, the node, and
/// JSON.
pub(crate) type MigrateItems = Arc<dyn Fn(u32, &NodePath, Value) -> Result<Value, BoxError> + Send + Sync>;

/// A question of an older version, as [`FlowOptions::migrate_questions`](crate::FlowOptions::migrate_questions) gets it
/// and returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    /// The question.
    pub question: Value,
    /// The JSON schema of its answer.
    pub schema: Value,
    /// The answer, if one was taken in.
    pub answer: Option<Value>,
}

/// Brings a question of an older version to the newest: that version's number, the node, and the question.
pub(crate) type MigrateQuestions = Arc<dyn Fn(u32, &NodePath, Asking) -> Result<Asking, BoxError> + Send + Sync>;
