//! What a flow that runs inside `exec` needs of its context.

use std::sync::{Arc, atomic::Ordering};

use super::{Context, Scope};
use crate::graph::Graph;

impl Context {
    /// Lets a child whose nodes may start something beside its own future count that, where its run does not.
    ///
    /// A run whose own nodes start nothing has no scope, since nobody could know of a flow inside an `exec`. Returns the
    /// context with which to wait.
    pub(crate) fn track_own(&mut self, graph: &Graph) -> Option<Self> {
        if !graph.detaches || self.scope().is_some() {
            return None;
        }
        self.set_scope(Arc::new(Scope::default()));
        Some(self.clone())
    }

    /// Takes back the count of all visits of this child's run, which is to be placed where it was once more.
    pub(crate) fn uncount_all(&self) {
        if let Some(scope) = self.scope().filter(|scope| scope.max_visits.is_some()) {
            scope.visits.fetch_sub(self.visits, Ordering::Relaxed);
        }
    }
}
