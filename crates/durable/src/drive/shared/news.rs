//! Who waits for news of a run: told of each change, and of what keeps the run from going on.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use crate::{
    drive::observer::lock,
    words::error::{Error, StoreError, StoreFault},
};

/// What those who wait for a run are told: that something changed, and what stopped its driving if something did.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    fault: Option<Error>,
}

/// A place among those who wait for news of a run; it goes when the last of them leaves.
pub(crate) struct Waiter {
    shared: Arc<Shared>,
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
            () = self.shared.closing.cancelled() => Err(StoreError::new(StoreFault::Closed).into()),
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
        let mut waiting = lock(&self.shared.waiting);
        // This one still counts; a fault is kept for who asks later.
        if waiting.get(&self.run).is_some_and(|news| news.receiver_count() == 1 && news.borrow().fault.is_none()) {
            waiting.remove(&self.run);
        }
    }
}

impl Shared {
    /// Returns what tells of each change of a run.
    pub(crate) fn wait_for(self: &Arc<Self>, run: i64) -> Waiter {
        let news = lock(&self.waiting).entry(run).or_insert_with(|| watch::channel(News::default()).0).subscribe();
        Waiter { shared: Arc::clone(self), run, news }
    }

    /// Tells those who wait for a run that something changed. A fault is kept for who asks later, until the run goes on.
    pub(crate) fn tell(&self, run: i64, fault: Option<Error>) {
        let mut waiting = lock(&self.waiting);
        if fault.is_some() {
            waiting.entry(run).or_insert_with(|| watch::channel(News::default()).0).send_replace(News { fault });
        } else if let Some(news) = waiting.get(&run) {
            news.send_replace(News::default());
            if news.receiver_count() == 0 {
                waiting.remove(&run);
            }
        }
    }
}
