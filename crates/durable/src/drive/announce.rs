//! Announcements to the listeners of a run as a whole: it begins or goes on, and then it halts.
//!
//! **Invariant:** what they are told is on disk; after each beginning they are told of at most one halt.

use flowstone_core::{EventKind, NodePath, driver::Execution};
use serde_json::Value;

use crate::drive::run_driver::RunDriver;

impl RunDriver {
    /// Returns `true` if somebody listens to the run as a whole, which nobody does to a child.
    pub(super) fn is_heard(&self) -> bool {
        self.is_root() && !self.journal.flow.listeners().is_empty()
    }

    /// Tells listeners of the run as a whole, if there are any.
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

    /// Tells them that the run begins or goes on, unless they know.
    pub(super) fn announce_start(&self, execution: &dyn Execution) {
        if self.is_heard() && self.observer.announces() {
            let flow = execution.flow().to_owned();
            execution.announce(None, EventKind::RunStarted { flow, resumed: self.resumed });
        }
    }

    /// Tells them of a question: the run waits for the answer, or a child does while the run goes on.
    pub(super) fn announce_question(&self, execution: &dyn Execution, question: &Value) {
        if self.journal.flow.listeners().is_empty() {
            return;
        }
        let (node, question) = (Some(self.path_of(execution.node())), question.clone());
        let is_root = self.is_root();
        execution.announce(node, if is_root { EventKind::Paused { question } } else { EventKind::Asked { question } });
    }
}
