//! Panics of what watches or times a run: they are kept with it, and stop it before its next visit.
//!
//! Why not where they happen: `docs/decisions/0024-a-listener-that-panics-stops-its-run.md`.

use crate::{
    context::{Context, Fault, Scope, Stop},
    words::{
        error::{Detour, RunError},
        guard::Panicked,
        path::{NodePath, RunId},
    },
};

/// What a listener is called in an error.
pub(super) const LISTENER: &str = "a listener";

/// What a clock is called in an error.
pub(super) const CLOCK: &str = "the clock";

impl Context {
    /// Calls something that watches or times the run; `None` if it panicked, which is then kept.
    pub(super) fn guarded<T>(&self, place: &'static str, call: impl FnOnce() -> T) -> Option<T> {
        match Panicked::catch(call) {
            Ok(value) => Some(value),
            Err(panicked) => {
                if let Some(scope) = self.scope() {
                    scope.keep_fault(place, panicked, &self.run_id(), &self.node());
                }
                None
            }
        }
    }

    /// Fails if something that watches or times the run has panicked.
    #[inline]
    pub(crate) fn check_fault(&self) -> Result<(), Box<Detour>> {
        match self.scope() {
            Some(scope) if scope.fault.get().is_some() => Err(Box::new(Detour::Stopped(Stop::Fault))),
            _ => Ok(()),
        }
    }
}

impl Context {
    /// The error of a run that something stopped which watches or times it.
    pub(super) fn fault(&self, run: RunId, node: NodePath) -> RunError {
        let fault = self.scope().and_then(|scope| scope.fault.get());
        let (place, message) = fault.map_or((LISTENER, ""), |fault| (fault.place, fault.message.as_str()));
        RunError::Panicked { run, node, place, message: message.to_owned() }
    }
}

impl Fault {
    /// A clock that panicked before its run began.
    pub(crate) fn of_clock(panicked: Panicked) -> Self {
        Self { place: CLOCK, message: panicked.message }
    }
}

impl Scope {
    /// Keeps the first panic, and logs it: a run that is at its end does not look at it any more.
    #[cold]
    fn keep_fault(&self, place: &'static str, panicked: Panicked, run: &RunId, node: &NodePath) {
        let message = panicked.message;
        if self.fault.set(Fault { place, message: message.clone() }).is_ok() {
            tracing::error!(target: "flowstone", %run, %node, "{place} panicked: {message}");
        }
    }
}
