//! What runs beside a run's own future, blocking jobs and spawned items: it is counted, so that the run waits for it.
//!
//! A run with a scope counts there. One without does not know that its `exec` will start anything, and shares nothing with
//! the copies of its context that could say so: it has a place in [`RUNS`], from its first job to the end of the last.
//! What never starts anything pays one look at how many have.
//!
//! What an `exec` starts, by itself or in a flow that it runs, is also counted for that `exec`, in [`PLACES`], since the
//! next attempt waits for what the last one left: two attempts at once would be worse than a wait.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::context::Context;

/// The runs without a scope, by their number.
static RUNS: Trackers = Trackers::new();

/// The places at which an `exec` has started something: a run, a visit and an item.
static PLACES: Trackers = Trackers::new();

/// Trackers of what is under way, by number.
struct Trackers {
    /// Invariant: what stands here is not empty, or its last [`Tracked`] is about to take it out.
    by_number: Mutex<BTreeMap<u64, TaskTracker>>,
    /// How many stand there. Who reads it has put there itself what it looks for, which needs no order between threads.
    count: AtomicUsize,
}

impl Trackers {
    const fn new() -> Self {
        Self { by_number: Mutex::new(BTreeMap::new()), count: AtomicUsize::new(0) }
    }

    fn track(&'static self, number: u64) -> Tracked {
        let mut trackers = self.lock();
        let tracker = trackers.entry(number).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            TaskTracker::new()
        });
        Tracked { trackers: self, number, token: Some(tracker.token()) }
    }

    #[inline]
    fn are_used(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Waits for what is tracked under a number.
    async fn wait(&self, number: u64) {
        let tracker = self.lock().get(&number).cloned();
        if let Some(tracker) = tracker {
            tracker.close();
            tracker.wait().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, TaskTracker>> {
        self.by_number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is tracked under a number, until this is dropped.
struct Tracked {
    trackers: &'static Trackers,
    number: u64,
    token: Option<TaskTrackerToken>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.token = None;
        let mut trackers = self.trackers.lock();
        if trackers.get(&self.number).is_some_and(TaskTracker::is_empty) {
            trackers.remove(&self.number);
            self.trackers.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Something that runs beside its run's own future, until this is dropped.
#[expect(dead_code, reason = "held until it is dropped")]
pub(crate) struct Counted {
    of_scope: Option<TaskTrackerToken>,
    of_run: Option<Tracked>,
    of_places: Vec<Tracked>,
    // Last, so that whoever waits for the end of all that holds it finds nothing under way.
    held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Counted {
    /// Holds this as long as there is the future.
    pub(crate) async fn around<T>(self, future: impl Future<Output = T>) -> T {
        let _counted = self;
        future.await
    }
}

impl Context {
    /// Counts something that is about to run beside the run's own future; `None` if there is no run to wait for it.
    pub(crate) fn count(&self) -> Option<Counted> {
        let places = std::iter::successors(self.parent(), |place| place.parent());
        let places = places.map(|place| PLACES.track(place.place_number())).collect();
        if let Some(scope) = self.scope() {
            let (of_scope, held) = (scope.started.token(), scope.held.as_ref().and_then(Weak::upgrade));
            return Some(Counted { of_scope: Some(of_scope), of_run: None, of_places: places, held });
        }
        if self.is_detached() {
            return None;
        }
        Some(Counted { of_scope: None, of_run: Some(RUNS.track(self.number)), of_places: places, held: None })
    }

    /// Counts a blocking job that an `exec` starts by itself.
    pub(crate) fn count_job(&self) -> Option<Counted> {
        let mut counted = self.count()?;
        counted.of_places.push(PLACES.track(self.place_number()));
        Some(counted)
    }

    /// Returns whether there may be something to [wait](Self::wait_for_started) for, of a run without a scope.
    #[inline]
    pub(crate) fn may_have_started() -> bool {
        RUNS.are_used()
    }

    /// Waits for what runs beside the run's own future and is no longer wanted: dropped blocking jobs and items.
    pub(crate) async fn wait_for_started(&self) {
        if let Some(scope) = self.scope() {
            scope.started.close();
            scope.started.wait().await;
            scope.started.reopen();
        } else if Self::may_have_started() {
            RUNS.wait(self.number).await;
        }
    }

    /// Waits for what the last attempt of this visit, or of its item, has left.
    pub(crate) async fn wait_for_attempt(&self) {
        if PLACES.are_used() {
            PLACES.wait(self.place_number()).await;
        }
    }
}
