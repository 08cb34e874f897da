//! The inbox, as the driver reads it: what other processes ask for is done.

use std::{sync::Arc, time::Duration};

use rusqlite::Connection;

use crate::{
    drive::{changes, shared::Shared, storage::AGAIN},
    records::{
        inbox::{self, Request},
        parked,
    },
    words::{
        error::{ChangeError, JobError, StoreError, StoreFault},
        guard::lock,
    },
};

/// The time between two looks at the inbox: a request takes effect within 100 ms.
const INBOX: Duration = Duration::from_millis(50);

/// Does what other processes ask for, until the store is closed.
pub(crate) async fn watch(shared: Arc<Shared>) {
    shared
        .until_closed(async {
            loop {
                tokio::time::sleep(INBOX).await;
                if let Err(error) = read_inbox(&shared).await {
                    tracing::warn!(target: "flowstone", %error, "the inbox could not be read");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        })
        .await;
}

/// Does what the inbox holds. That a run goes on waits for its flow; the rest needs none.
pub(crate) async fn read_inbox(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let again = std::mem::take(&mut lock(&shared.inbox).again);
    let mut page = again.clone();
    if let Err(error) = do_requests(shared, again).await {
        lock(&shared.inbox).again.append(&mut page);
        return Err(error);
    }
    loop {
        let (after, round) = {
            let inbox = lock(&shared.inbox);
            (inbox.seen, inbox.round)
        };
        let page = shared.read(move |reader| inbox::requests(&reader.db, after)).await?;
        let Some(last) = page.last().map(|last| last.request) else { return Ok(()) };
        do_requests(shared, page).await?;
        // Unless all are to be looked at again.
        let mut inbox = lock(&shared.inbox);
        if inbox.round == round {
            inbox.seen = inbox.seen.max(last);
        }
    }
}

/// Does what is asked for, and takes it out of the inbox.
async fn do_requests(shared: &Arc<Shared>, requests: Vec<Request>) -> Result<(), StoreError> {
    let (mut done, mut cancelled) = (Vec::new(), Vec::new());
    for asked in requests {
        let Request { request, run, what, flow } = &asked;
        let (request, run) = (*request, *run);
        let result = match flow {
            // One that is driven is looked at again when it has come to a halt: nobody else waits for that.
            Some(_) if what == "cancel" && shared.cancel(run).is_some() => {
                lock(&shared.inbox).again.push(asked);
                continue;
            }
            Some(_) if what == "cancel" => changes::cancel(shared, run).await,
            Some(flow) if shared.flows.get(flow).is_none() => continue,
            Some(_) => {
                if what == "cancelled" {
                    cancelled.push(run);
                }
                let goes_on = shared.writer.alone(move |db| parked::goes_on(db, run)).await?;
                shared.go_on(&goes_on);
                Ok(())
            }
            // It was deleted; whoever did that may have ended in the middle of it.
            None => {
                shared.tell(run, None);
                shared.delete_left().await.map_err(ChangeError::from)
            }
        };
        match result {
            Err(error) if error.of_store().is_some_and(|error| error.fault() != StoreFault::Corrupt) => {
                return Err(error.of_store().cloned().unwrap_or_else(|| StoreError::new(StoreFault::Internal)));
            }
            // A request that cannot be done, since it was done or the run is at an end, is not kept.
            Ok(()) | Err(_) => done.push(request),
        }
    }
    if done.is_empty() {
        return Ok(());
    }
    let delete = move |db: &Connection| -> Result<(), StoreError> {
        let mut delete = db.prepare_cached("DELETE FROM inbox WHERE request = ?1")?;
        done.iter().try_for_each(|request| delete.execute([request]).map(drop))?;
        Ok(())
    };
    shared.writer.call("inbox", delete).await?;
    // After the request is gone, so that no later process tells of it again.
    for run in cancelled {
        shared.tell_stopped(run).await;
    }
    Ok(())
}
