//! Announcements to the listeners of a run: that it begins or goes on, and then that it halts.
//!
//! **Invariant:** an announced fact is on disk, and each beginning is followed by at most one halt.

use flowstone_core::{EventKind, NodePath, driver::Execution};
use serde_json::Value;

use crate::drive::run_driver::RunDriver;

impl RunDriver {
    /// Returns `true` if the run has listeners. A child has none.
    pub(super) fn is_heard(&self) -> bool {
        self.is_root() && !self.journal.flow.listeners().is_empty()
    }

    /// Tells the listeners of the run, if there are any.
    pub(super) fn announce(
        &self,
        execution: &dyn Execution,
        node: Option<&NodePath>,
        kind: impl FnOnce() -> EventKind,
    ) {
        if self.is_heard() {
            execution.announce(node.cloned(), kind());
        }
    }

    /// Tells the listeners that the run begins or goes on, unless they know.
    pub(super) fn announce_start(&self, execution: &dyn Execution) {
        if self.is_heard() && self.observer.announces() {
            let flow = execution.flow().to_owned();
            execution.announce(None, EventKind::RunStarted { flow, resumed: self.resumed });
        }
    }

    /// Tells the listeners of a question. Either the run waits for the answer, or a child does while the run goes on.
    pub(super) fn announce_question(&self, execution: &dyn Execution, question: &Value) {
        if self.journal.flow.listeners().is_empty() {
            return;
        }
        let (node, question) = (Some(self.path_of(execution.node())), question.clone());
        let is_root = self.is_root();
        execution.announce(node, if is_root { EventKind::Paused { question } } else { EventKind::Asked { question } });
    }
}
