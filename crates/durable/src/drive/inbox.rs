//! The driver's side of the inbox: it carries out the requests of other processes.

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

/// Carries out the requests of other processes, until the store is closed.
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

/// Carries out the requests in the inbox. Letting a run go on needs its flow, and waits for that; the others need none.
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
        // The place moves on, unless all requests are to be looked at again since it was read.
        let mut inbox = lock(&shared.inbox);
        if inbox.round == round {
            inbox.seen = inbox.seen.max(last);
        }
    }
}

/// Carries out a request, and deletes it from the inbox.
async fn do_requests(shared: &Arc<Shared>, requests: Vec<Request>) -> Result<(), StoreError> {
    let (mut done, mut cancelled) = (Vec::new(), Vec::new());
    for asked in requests {
        let Request { request, run, what, flow } = &asked;
        let (request, run) = (*request, *run);
        let result = match flow {
            // If the run is driven, the request is looked at again when it has halted.
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
            // The run was deleted, perhaps by a process that ended before it had deleted all rows.
            None => {
                shared.tell(run, None);
                shared.delete_left().await.map_err(ChangeError::from)
            }
        };
        match result {
            Err(error) if error.of_store().is_some_and(|error| error.fault() != StoreFault::Corrupt) => {
                return Err(error.of_store().cloned().unwrap_or_else(|| StoreError::new(StoreFault::Internal)));
            }
            // A request that can no longer be carried out is not kept: it was done already, or the run is at an end.
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
    // This comes after the request is deleted, so that no later process tells of it again.
    for run in cancelled {
        shared.tell_stopped(run).await;
    }
    Ok(())
}
