//! Blocking jobs and spawned items run beside the run's own future: they are counted, so that the run waits for them.
//!
//! A job that an `exec` starts, by itself or in a flow that it runs, is also counted for that `exec`. The next attempt
//! waits for everything that the last one left: two attempts at once would be worse than a wait.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// The jobs and items that a run has started and that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Started {
    all: TaskTracker,
    /// The places at which an `exec` has started something: a visit and an item.
    places: Arc<Mutex<BTreeMap<u64, TaskTracker>>>,
}

impl Started {
    /// Counts something that is about to run, for the run and for some places.
    pub(super) fn count(&self, places: impl Iterator<Item = u64>, held: Option<Arc<dyn Any + Send + Sync>>) -> Counted {
        let of_places = places.map(|place| AtPlace::new(&self.places, place)).collect();
        Counted { of_run: self.all.token(), of_places, held }
    }

    /// Waits for all that is counted.
    pub(super) async fn wait(&self) {
        self.all.close();
        self.all.wait().await;
        self.all.reopen();
    }

    /// Waits for what is counted at a place.
    pub(super) async fn wait_at(&self, place: u64) {
        let tracker = self.places.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        if let Some(tracker) = tracker {
            tracker.close();
            tracker.wait().await;
        }
    }
}

/// Something that runs beside its run's own future, until this is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held until it is dropped")]
pub(crate) struct Counted {
    of_run: TaskTrackerToken,
    of_places: Vec<AtPlace>,
    // The last field, so that nothing is under way any more when all holders are gone.
    held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Counted {
    /// Holds this count for as long as the future lives.
    pub(crate) async fn around<T>(self, future: impl Future<Output = T>) -> T {
        let _counted = self;
        future.await
    }
}

/// Something that is counted at a place, until this is dropped.
#[derive(Debug)]
struct AtPlace {
    places: Arc<Mutex<BTreeMap<u64, TaskTracker>>>,
    place: u64,
    token: Option<TaskTrackerToken>,
}

impl AtPlace {
    fn new(places: &Arc<Mutex<BTreeMap<u64, TaskTracker>>>, place: u64) -> Self {
        let mut trackers = places.lock().unwrap_or_else(PoisonError::into_inner);
        let token = trackers.entry(place).or_default().token();
        Self { places: Arc::clone(places), place, token: Some(token) }
    }
}

impl Drop for AtPlace {
    fn drop(&mut self) {
        self.token = None;
        let mut trackers = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if trackers.get(&self.place).is_some_and(TaskTracker::is_empty) {
            trackers.remove(&self.place);
        }
    }
}
