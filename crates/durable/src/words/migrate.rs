//! Functions of users that migrate states, outputs of items and questions of an older version to the newest.

use std::sync::Arc;

use flowstone_core::{BoxError, NodePath};
use serde_json::Value;

/// Migrates a state of an older version to the newest. It gets the number of the older version, and the state as JSON.
pub(crate) type Migrate = Arc<dyn Fn(u32, Value) -> Result<Value, BoxError> + Send + Sync>;

/// Migrates the output of an item to the newest version. It gets the number of the older version, the node, and the
/// output as JSON.
pub(crate) type MigrateItems = Arc<dyn Fn(u32, &NodePath, Value) -> Result<Value, BoxError> + Send + Sync>;

/// A question of an older version, as [`FlowOptions::migrate_questions`](crate::FlowOptions::migrate_questions) gets it
/// and returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    /// The question.
    pub question: Value,
    /// The JSON schema of its answer.
    pub schema: Value,
    /// The answer, if there is one already.
    pub answer: Option<Value>,
}

/// Migrates a question of an older version to the newest. It gets the number of the older version, the node, and the
/// question.
pub(crate) type MigrateQuestions = Arc<dyn Fn(u32, &NodePath, Asking) -> Result<Asking, BoxError> + Send + Sync>;
