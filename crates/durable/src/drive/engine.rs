//! The implementation of core's trait [`Journal`] by the journal of a run and the driver of its children.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use flowstone_core::{
    Action, BoxError, BoxFuture, RunError,
    driver::{Execution, Forked, ItemId, Journal, Standing, Undecodable, Waited},
};
use rusqlite::Connection;

use crate::{
    drive::{children, journal::RunJournal},
    records::{
        items::{Did, NewItem, keep_visit},
        load::KnownChild,
    },
    words::{
        checked::StorageCheck,
        error::{DriveError, Written},
        guard::lock,
        status::Status,
        waits::Wait,
    },
};

impl Journal for RunJournal {
    fn begin_batch(&self, items: usize, keyed: bool) -> Result<(), BoxError> {
        Ok(lock(&self.items).begin_batch(items, keyed, &self.root, self.node())?)
    }

    fn recall(&self, item: ItemId) -> Option<Vec<u8>> {
        let output = lock(&self.items).take_output(item)?;
        self.count(true);
        Some(output)
    }

    fn undecodable(&self, item: ItemId, error: Undecodable) -> Result<(), BoxError> {
        if lock(&self.items).is_retried() {
            self.recalled.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        let (run, node, path, source) = (self.root.clone(), self.node(), error.path, error.source.into());
        Err(DriveError::KeptItem { run, node, item: item.index, path, source }.into())
    }

    fn record(&self, item: ItemId, output: Vec<u8>) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            let (node, most) = (self.node(), self.storage.options.max_state);
            let check = StorageCheck { run: &self.root, node: &node, what: Written::Output, most };
            check.fits(output.len()).map_err(DriveError::from)?;
            let number = lock(&self.items).number(Some(item));
            let did = Did::Give { output, version: self.version };
            self.keep("item", NewItem { number, key: item.key, did }).await?;
            // An item whose `exec` ran a flow was already counted with the child.
            if !lock(&self.called).get(&item.index).is_some_and(|called| called.counted) {
                self.count(false);
            }
            Ok(())
        })
    }

    fn child<'a>(&'a self, item: ItemId, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Action, RunError>> {
        Box::pin(children::drive(self, item, child))
    }

    fn forked<'a>(&'a self, item: ItemId, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Forked, RunError>> {
        Box::pin(children::fork(self, item, child))
    }

    fn standing(&self, item: ItemId) -> Standing {
        let known = lock(&self.children).iter().find(|known| known.is_of(item)).copied();
        let Some(known) = known else { return Standing::Open };
        self.found(&known, item);
        let KnownChild { run, status, visits, .. } = known;
        match status {
            Status::Paused | Status::Sleeping => {
                self.forked_as(run, item.index);
                Standing::Parked { visits }
            }
            Status::Ended => Standing::Ended { visits },
            Status::Failed => Standing::Failed { visits },
            _ => Standing::Open,
        }
    }

    fn woken(&self) -> BoxFuture<'_, usize> {
        Box::pin(self.observer.woken(|run| lock(&self.forks).get(&run).copied()))
    }

    fn waited(&self, item: Option<ItemId>) -> Option<Waited> {
        let (attempt, wait) = lock(&self.items).wait(item)?;
        Some(Waited { attempt, left: wait.left(self.storage.now()) })
    }

    fn wait(&self, item: Option<ItemId>, attempt: u32, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            if wait < self.storage.options.keep_waits {
                lock(&self.items).forget_wait(item);
                return Ok(());
            }
            let began = Wait::begin(wait, self.storage.now());
            let number = lock(&self.items).begin_wait(item, attempt, began);
            let did = Did::Wait { attempt, wake_at: began.ends_at, length: wait };
            Ok(self.keep("wait", NewItem { number, key: item.and_then(|item| item.key), did }).await?)
        })
    }

    fn rest(&self, item: Option<ItemId>, left: Duration) -> BoxFuture<'_, ()> {
        let kept = lock(&self.items).wait(item);
        Box::pin(async move {
            match kept {
                Some((_, wait)) => wait.rest(|| self.storage.now()).await,
                None => tokio::time::sleep(left).await,
            }
        })
    }

    fn parks(&self, wait: Duration) -> bool {
        self.parks && wait >= self.storage.options.keep_waits
    }

    fn time_left(&self, limit: Duration) -> Duration {
        let now = self.storage.now();
        lock(&self.items).ends(|| Wait::begin(limit, now)).left(now)
    }

    fn keep_time_left(&self, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            if wait < self.storage.options.keep_waits {
                return Ok(());
            }
            let Some(visit) = lock(&self.items).note(true, self.storage.now()) else { return Ok(()) };
            self.kept.store(true, Ordering::Relaxed);
            let (run, seq) = (self.run, self.seq());
            let write = move |db: &Connection| Ok::<_, DriveError>(keep_visit(db, run, seq, &visit)?);
            Ok(self.storage.writer.call("wait", write).await?)
        })
    }

    fn now(&self) -> SystemTime {
        self.storage.now_exact()
    }
}
