//! The half of [`Context`] for those who watch a run: events, spans, and panics of listeners.

use std::{sync::PoisonError, time::SystemTime};

use tracing::Span;

use crate::{
    context::{
        Context,
        scope::{Extras, LISTENER},
    },
    graph::Way,
    outcome::{Detour, Visit},
    words::{
        error::{Phase, RunError},
        event::{Event, EventKind},
        guard::Panicked,
        path::NodePath,
    },
};

impl Context {
    /// Sends an event, which is made only if somebody listens.
    #[inline]
    pub(crate) fn event(&self, kind: impl FnOnce() -> EventKind) {
        if self.listening {
            self.send(kind());
        }
    }

    #[cold]
    pub(super) fn send(&self, kind: EventKind) {
        self.send_of(Some(self.node()), kind);
    }

    /// Sends an event of the run as a whole, or of a node that is not the visited one.
    #[cold]
    pub(crate) fn send_of(&self, node: Option<NodePath>, kind: EventKind) {
        let Some(extras) = self.extras() else { return };
        let Some(listener) = &extras.listener else { return };
        let (visit, item, attempt) = (self.visit(), self.item(), self.attempt);
        let event = Event { run: self.run_id(), at: SystemTime::now(), node, visit, item, attempt, kind };
        if event.is_terminal() {
            let mut ended = extras.ended.write().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::replace(&mut *ended, true) {
                self.guarded(LISTENER, || listener.event(&event));
            }
            return;
        }
        let ended = extras.ended.read().unwrap_or_else(PoisonError::into_inner);
        if !*ended {
            self.guarded(LISTENER, || listener.event(&event));
        }
    }

    /// Tells that a visit begins. Fails if a listener has panicked: nothing is done yet.
    #[cold]
    pub(crate) fn tell_visit(&self) -> Result<(), RunError> {
        self.send(EventKind::VisitStarted { items: None });
        self.fault().map_or(Ok(()), Err)
    }

    /// Tells how a visit ended. If it failed before its beginning was told (`untold`), it tells that first.
    #[cold]
    pub(crate) fn tell_end(&self, went: &Result<&Way, Box<Result<Visit, RunError>>>, untold: bool) {
        let action = match went.as_ref().map_err(|rare| &**rare) {
            Ok(Way { action, .. }) | Err(Ok(Visit::Next { action, .. } | Visit::End { action, .. })) => action.clone(),
            Err(Ok(Visit::Pause(_) | Visit::Sleep { .. } | Visit::Parked)) => return,
            Err(Err(error)) => {
                if untold {
                    self.send(EventKind::VisitStarted { items: None });
                }
                return self.send(EventKind::VisitFailed { error: error.report() });
            }
        };
        self.send(EventKind::VisitEnded { action });
    }

    /// Returns the span of a visit.
    #[inline]
    pub(crate) fn visit_span(&self) -> Span {
        if !self.traced {
            return Span::none();
        }
        // Signed, since exporters of spans take other numbers for text.
        tracing::info_span!(target: "flowstone", "visit", node = %self.node(), visit = self.visit().cast_signed())
    }

    /// Returns the span of an attempt.
    #[inline]
    pub(crate) fn attempt_span(&self) -> Span {
        if !self.traced {
            return Span::none();
        }
        // Signed, since exporters of spans take other numbers for text.
        let (attempt, item) = (i64::from(self.attempt()), self.item().map(usize::cast_signed));
        tracing::info_span!(target: "flowstone", "attempt", attempt, item = item.map(|item| item as i64))
    }

    /// Returns `true` if a run lets others run before its next visit: always if somebody listens or traces, and now and
    /// then if its nodes never wait.
    #[inline]
    pub(crate) fn gives_way(&self) -> bool {
        /// Rarely enough to cost nothing.
        const IN_A_ROW: u64 = 256;
        self.listening || self.traced || self.visit() % IN_A_ROW == IN_A_ROW - 1
    }

    /// Calls something that watches or times the run; `None` if it panicked, which is then kept.
    pub(super) fn guarded<T>(&self, place: &'static str, call: impl FnOnce() -> T) -> Option<T> {
        match Panicked::catch(call) {
            Ok(value) => Some(value),
            Err(panicked) => {
                if let Some(extras) = self.extras() {
                    extras.keep_fault(place, panicked, &self.run_id(), &self.node());
                }
                None
            }
        }
    }

    /// Turns from `prep` to the items of a batch, and tells listeners how many there are. Fails if a listener panicked.
    pub(crate) fn begin_items(&mut self, items: usize) -> Result<(), Box<Detour>> {
        self.phase = Phase::Exec;
        if !self.listening {
            return Ok(());
        }
        self.send(EventKind::VisitStarted { items: Some(items) });
        self.check_fault()
    }

    /// Returns whether somebody listens to the run, traces it, or may stop it while it waits.
    pub(crate) fn is_attended(&self) -> bool {
        let may_stop = |extras: &Extras| extras.cancel.is_some() || extras.deadline.is_some();
        self.listening || self.traced || self.extras().is_some_and(may_stop)
    }

    pub(crate) fn traced(&self) -> bool {
        self.traced
    }
}
