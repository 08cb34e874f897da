//! News of runs for those who wait: each change, and the fault that keeps a run from going on.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use flowstone_core::CancellationToken;
use tokio::sync::watch;

use crate::words::{
    error::{DriveError, StoreError, StoreFault},
    guard::lock,
};

/// News of a run: something changed, or a fault stopped its drive.
#[derive(Clone, Debug, Default)]
struct News {
    fault: Option<DriveError>,
}

/// The most faults that are kept for runs that nobody waits for. If a fault was dropped and somebody asks later, the
/// run is looked at again to find it.
const KEPT: usize = 1000;

/// The runs that somebody waits for.
pub(crate) struct Waiting {
    list: Mutex<List>,
    /// Cancelled when the store is closed.
    closing: CancellationToken,
}

impl Waiting {
    pub(crate) fn new(closing: CancellationToken) -> Self {
        Self { list: Mutex::default(), closing }
    }

    /// Returns a receiver of the news of a run.
    pub(crate) fn wait_for(self: &Arc<Self>, run: i64) -> Waiter {
        let news = lock(&self.list).channel(run).subscribe();
        Waiter { waiting: Arc::clone(self), run, news }
    }

    /// Tells all who wait for a run that something changed. A fault is also kept for those who ask later, until the run
    /// goes on.
    pub(crate) fn tell(&self, run: i64, fault: Option<DriveError>) {
        let mut list = lock(&self.list);
        if fault.is_some() {
            list.channel(run).send_replace(News { fault });
        } else if let Some(news) = list.runs.get(&run) {
            news.send_replace(News::default());
        }
        list.settle(run, 0);
    }
}

#[derive(Default)]
struct List {
    /// The runs by number.
    runs: HashMap<i64, watch::Sender<News>>,
    /// The runs with faults that nobody waits for, oldest first.
    kept: VecDeque<i64>,
}

impl List {
    fn channel(&mut self, run: i64) -> &watch::Sender<News> {
        self.runs.entry(run).or_insert_with(|| watch::channel(News::default()).0)
    }

    /// Forgets a run if nobody but the `leaving` waits for it. A fault of the run is kept for a while.
    fn settle(&mut self, run: i64, leaving: usize) {
        let Some(news) = self.runs.get(&run).filter(|news| news.receiver_count() == leaving) else { return };
        self.kept.retain(|kept| *kept != run);
        if news.borrow().fault.is_none() {
            self.runs.remove(&run);
            return;
        }
        self.kept.push_back(run);
        while self.kept.len() > KEPT {
            let oldest = self.kept.pop_front();
            let is_left = |run: &i64| self.runs.get(run).is_some_and(|news| news.receiver_count() == 0);
            if let Some(oldest) = oldest.filter(is_left) {
                self.runs.remove(&oldest);
            }
        }
    }
}

/// A receiver of the news of a run. The run is forgotten when the last of its receivers is dropped.
pub(crate) struct Waiter {
    waiting: Arc<Waiting>,
    run: i64,
    news: watch::Receiver<News>,
}

impl Waiter {
    /// Waits for the next change.
    ///
    /// # Errors
    ///
    /// If the store is closed.
    pub(crate) async fn changed(&mut self) -> Result<(), DriveError> {
        tokio::select! {
            // The sender is kept while somebody waits.
            _ = self.news.changed() => Ok(()),
            () = self.waiting.closing.cancelled() => Err(StoreError::new(StoreFault::Closed).into()),
        }
    }

    /// Marks the changes so far as seen.
    pub(crate) fn mark_unchanged(&mut self) {
        self.news.mark_unchanged();
    }

    /// Returns the fault that keeps the run from going on, if there is one.
    pub(crate) fn fault(&self) -> Option<DriveError> {
        self.news.borrow().fault.clone()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // This receiver itself still counts.
        lock(&self.waiting.list).settle(self.run, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Option<DriveError> {
        Some(StoreError::new(StoreFault::Io).into())
    }

    #[test]
    fn faults_of_runs_that_nobody_waits_for_are_kept_up_to_a_bound() {
        let waiting = Arc::new(Waiting::new(CancellationToken::new()));
        let waits = waiting.wait_for(0);

        (0..10_000).for_each(|run| waiting.tell(run, fault()));
        waiting.tell(9_999, fault());

        assert_eq!(lock(&waiting.list).runs.len(), KEPT + 1);
        assert!(waits.fault().is_some() && waiting.wait_for(9_999).fault().is_some());
        assert!(waiting.wait_for(1).fault().is_none());
    }

    #[test]
    fn a_run_that_goes_on_and_that_nobody_waits_for_leaves_nothing() {
        let waiting = Arc::new(Waiting::new(CancellationToken::new()));
        waiting.tell(1, fault());
        drop(waiting.wait_for(2));

        waiting.tell(1, None);

        let list = lock(&waiting.list);
        assert_eq!((list.runs.len(), list.kept.len()), (0, 0));
    }
}
