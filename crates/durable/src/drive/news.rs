//! Those who wait for news of a run: told of each change, and of what keeps the run from going on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use flowstone_core::CancellationToken;
use tokio::sync::watch;

use crate::words::{
    error::{Error, StoreError, StoreFault},
    guard::lock,
};

/// News of a run: that something changed, and what stopped its driving if something did.
#[derive(Clone, Debug, Default)]
struct News {
    fault: Option<Error>,
}

/// The runs that somebody waits for.
pub(crate) struct Waiting {
    /// By the numbers of the runs.
    runs: Mutex<HashMap<i64, watch::Sender<News>>>,
    /// Cancelled when the store is closed.
    closing: CancellationToken,
}

impl Waiting {
    pub(crate) fn new(closing: CancellationToken) -> Self {
        Self { runs: Mutex::default(), closing }
    }

    /// Returns a place among those who wait for news of a run.
    pub(crate) fn wait_for(self: &Arc<Self>, run: i64) -> Waiter {
        let news = lock(&self.runs).entry(run).or_insert_with(|| watch::channel(News::default()).0).subscribe();
        Waiter { waiting: Arc::clone(self), run, news }
    }

    /// Tells those who wait for a run that something changed. A fault is kept for who asks later, until the run goes on.
    pub(crate) fn tell(&self, run: i64, fault: Option<Error>) {
        let mut runs = lock(&self.runs);
        if fault.is_some() {
            runs.entry(run).or_insert_with(|| watch::channel(News::default()).0).send_replace(News { fault });
        } else if let Some(news) = runs.get(&run) {
            news.send_replace(News::default());
            if news.receiver_count() == 0 {
                runs.remove(&run);
            }
        }
    }
}

/// A place among those who wait for news of a run; it goes when the last of them leaves.
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
    pub(crate) async fn changed(&mut self) -> Result<(), Error> {
        tokio::select! {
            // The sender stays while somebody waits.
            _ = self.news.changed() => Ok(()),
            () = self.waiting.closing.cancelled() => Err(StoreError::new(StoreFault::Closed).into()),
        }
    }

    /// Takes the changes so far as known.
    pub(crate) fn mark_unchanged(&mut self) {
        self.news.mark_unchanged();
    }

    /// Returns what keeps the run from going on, if something does.
    pub(crate) fn fault(&self) -> Option<Error> {
        self.news.borrow().fault.clone()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut runs = lock(&self.waiting.runs);
        // This one still counts; a fault is kept for who asks later.
        if runs.get(&self.run).is_some_and(|news| news.receiver_count() == 1 && news.borrow().fault.is_none()) {
            runs.remove(&self.run);
        }
    }
}
