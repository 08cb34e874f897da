//! The entry of a driven run in the list of such runs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use flowstone_core::CancellationToken;

use crate::drive::{observer::Observer, turns::Place};

/// A run that is driven.
pub(crate) struct Active {
    pub(crate) cancel: Cancel,
    pub(crate) observer: Arc<Observer>,
    /// `true` if another drive was asked for while this one ended.
    pub(crate) again: bool,
    /// Its place among those that are driven, if its turn has come.
    pub(crate) place: Option<Place>,
}

impl Active {
    pub(crate) fn new(observer: Arc<Observer>) -> Self {
        Self { cancel: Cancel::default(), observer, again: false, place: None }
    }
}

/// Cancels one drive of a run, and records whether the cancellation is on disk.
#[derive(Clone, Default)]
pub(crate) struct Cancel {
    pub(crate) token: CancellationToken,
    written: Arc<AtomicBool>,
}

impl Cancel {
    pub(crate) fn by(token: CancellationToken) -> Self {
        Self { token, ..Self::default() }
    }

    /// Notes that the cancellation is on disk.
    pub(crate) fn set_written(&self) {
        self.written.store(true, Ordering::Release);
    }

    /// Returns `true` if this has cancelled the run; it may have been retried since.
    pub(crate) fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }
}
