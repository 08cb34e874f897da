//! Options for versions: the version of a flow's state, and the migration of states, items and questions to it.

use std::sync::Arc;

use flowstone_core::{BoxError, NodePath};
use serde_json::Value;

use crate::words::{flow_options::FlowOptions, migrate::Asking};

impl FlowOptions {
    /// Sets the version of the state type, and the function that migrates a state of an older version: `migrate` gets
    /// the number of the older version and the state as JSON. It is called when a run of an older version goes on, and
    /// when such a state is read as its type. It should have no side effects, since it may be called often for one
    /// state.
    #[must_use]
    pub fn version(
        mut self,
        version: u32,
        migrate: impl Fn(u32, Value) -> Result<Value, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.version = version;
        self.migrate = Some(Arc::new(migrate));
        self
    }

    /// Sets the function that migrates the output of an item of a [journaled](flowstone_core::NodeExt::journaled) batch
    /// from an older [`version`](Self::version): `migrate` gets the number of the older version, the path of the node,
    /// and the output as JSON. It is called when a run goes on that was in the middle of a batch.
    ///
    /// Without it, a run with an output that does not decode any more is refused, and stays as it is. Outputs in
    /// children have no versions.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_durable::FlowOptions;
    ///
    /// // In version 1 the batch `translate` gives objects where it gave texts.
    /// let options = FlowOptions::new().version(1, |_, state| Ok(state)).migrate_items(|_version, node, output| {
    ///     Ok(if node == "translate" { serde_json::json!({ "text": output }) } else { output })
    /// });
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn migrate_items(
        mut self,
        migrate: impl Fn(u32, &NodePath, Value) -> Result<Value, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.migrate_items = Some(Arc::new(migrate));
        self
    }

    /// Sets the function that migrates a question of an older [`version`](Self::version): `migrate` gets the number of
    /// the older version, the path of the node (`review[3]/approve` in a child), and the question with the schema of
    /// its answer. If the run was answered and has not gone on yet, it gets the answer, too. If it then returns no
    /// answer, or one that does not fit, the question is open again.
    ///
    /// It is called when such a question is read by [`Run::questions`](crate::Run::questions), when it is answered, and
    /// when its run goes on; the migrated question is written down with its answer. Without `migrate` a question keeps
    /// its schema, and an answer has to fit both that and the present type of the node. Through
    /// [`Requests`](crate::Requests) a question is read and answered as it is stored; that answer then goes through
    /// `migrate`.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_durable::{Asking, FlowOptions};
    /// use serde_json::json;
    ///
    /// // In version 1 an answer is a text where it was a bool.
    /// let options = FlowOptions::new().version(1, |_, state| Ok(state)).migrate_questions(|_version, _node, asking| {
    ///     let answer = asking.answer.map(|yes| if yes == true { json!("yes") } else { json!("no") });
    ///     Ok(Asking { schema: json!({ "enum": ["yes", "no", "later"] }), answer, ..asking })
    /// });
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn migrate_questions(
        mut self,
        migrate: impl Fn(u32, &NodePath, Asking) -> Result<Asking, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.migrate_questions = Some(Arc::new(migrate));
        self
    }
}
