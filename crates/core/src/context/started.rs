//! What runs beside a run's own future, blocking jobs and spawned items: it is counted, so that the run waits for it.
//!
//! A run with a scope counts there. One without does not know that its `exec` will start anything, and shares nothing with
//! the copies of its context that could say so: it has a place in [`WITHOUT_SCOPE`], from its first job to the end of the
//! last. What never starts anything pays one look at [`RUNS_WITHOUT_SCOPE`].

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::Context;

/// By the number of the run. Invariant: what stands here is not empty, or its last [`Counted`] is about to take it out.
static WITHOUT_SCOPE: Mutex<BTreeMap<u64, TaskTracker>> = Mutex::new(BTreeMap::new());

/// How many stand there. A run reads it after what it has put there itself, which needs no order between threads.
static RUNS_WITHOUT_SCOPE: AtomicUsize = AtomicUsize::new(0);

/// Something that runs beside its run's own future, until this is dropped.
pub(crate) struct Counted {
    token: Option<TaskTrackerToken>,
    /// The number of a run without a scope.
    number: Option<u64>,
}

impl Counted {
    /// Holds this as long as there is the future.
    pub(crate) async fn around<T>(self, future: impl Future<Output = T>) -> T {
        let _counted = self;
        future.await
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.token = None;
        let Some(number) = self.number else { return };
        let mut runs = without_scope();
        if runs.get(&number).is_some_and(TaskTracker::is_empty) {
            runs.remove(&number);
            RUNS_WITHOUT_SCOPE.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Context {
    /// Counts something that is about to run beside the run's own future; `None` if there is no run to wait for it.
    pub(crate) fn count(&self) -> Option<Counted> {
        if let Some(scope) = self.scope() {
            return Some(Counted { token: Some(scope.started.token()), number: None });
        }
        if self.is_detached() {
            return None;
        }
        let mut runs = without_scope();
        let tracker = runs.entry(self.number).or_insert_with(|| {
            RUNS_WITHOUT_SCOPE.fetch_add(1, Ordering::Relaxed);
            TaskTracker::new()
        });
        Some(Counted { token: Some(tracker.token()), number: Some(self.number) })
    }

    /// Returns whether there may be something to [wait](Self::wait_for_started) for, of a run without a scope.
    #[inline]
    pub(crate) fn may_have_started() -> bool {
        RUNS_WITHOUT_SCOPE.load(Ordering::Relaxed) > 0
    }

    /// Waits for what runs beside the run's own future and is no longer wanted: dropped blocking jobs and items.
    pub(crate) async fn wait_for_started(&self) {
        if let Some(scope) = self.scope() {
            scope.started.close();
            scope.started.wait().await;
            scope.started.reopen();
        } else if Self::may_have_started() {
            let started = without_scope().get(&self.number).cloned();
            if let Some(started) = started {
                started.close();
                started.wait().await;
            }
        }
    }
}

fn without_scope() -> MutexGuard<'static, BTreeMap<u64, TaskTracker>> {
    WITHOUT_SCOPE.lock().unwrap_or_else(PoisonError::into_inner)
}
