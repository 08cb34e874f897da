//! Guards against panics of user code: locks that stay usable after one, and drops of states that may panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

use flowstone_core::driver::Panicked;

/// Locks a mutex, also one whose last holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops the state of a run, and catches a panic of its `Drop`: nothing that is written down depends on it.
pub(crate) fn drop_quietly<T>(state: T) {
    if let Err(panicked) = Panicked::catch(|| drop(state)) {
        tracing::error!(target: "flowstone", "the state of a run {panicked} when it was dropped");
    }
}
