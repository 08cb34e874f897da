//! What a flow that runs inside `exec` needs of its context.

use std::sync::{Arc, atomic::Ordering};

use crate::context::{Context, Scope};

impl Context {
    /// Lets a child of no run count what its nodes start beside its own future, for which otherwise its run waits.
    ///
    /// Returns the context with which to wait.
    pub(crate) fn track_own(&mut self) -> Option<Self> {
        if !self.is_detached() || self.scope().is_some() {
            return None;
        }
        self.set_scope(Arc::new(Scope::default()));
        Some(self.clone())
    }

    /// Whether this belongs to no run, but to a test of one phase.
    pub(super) fn is_detached(&self) -> bool {
        self.number == 0
    }

    /// Counts visits of children that are not placed where they were yet.
    pub(crate) fn count_visits(&self, visits: u64) {
        if let Some(scope) = self.scope().filter(|scope| scope.max_visits.is_some()) {
            scope.visits.fetch_add(visits, Ordering::Relaxed);
        }
    }

    /// Takes back the count of so many visits of children.
    pub(crate) fn uncount_visits(&self, visits: u64) {
        if let Some(scope) = self.scope().filter(|scope| scope.max_visits.is_some()) {
            scope.visits.fetch_sub(visits, Ordering::Relaxed);
        }
    }

    /// Takes back the count of all visits of this child's run, which is to be placed where it was once more.
    pub(crate) fn uncount_all(&self) {
        if let Some(scope) = self.scope().filter(|scope| scope.max_visits.is_some()) {
            scope.visits.fetch_sub(self.visits, Ordering::Relaxed);
        }
    }
}
