//! What is asked of a run by its id, whatever the type of its state: to answer, cancel, retry and delete it.
//!
//! **Invariant:** a run that is to go on is read back first, as its flow is now. What refuses it has not changed it, and
//! notes why (`docs/decisions/0018-load-first-then-change.md`).

use std::sync::Arc;

use flowstone_core::{NodePath, RunId};
use rusqlite::Connection;
use serde_json::Value;

use crate::{
    drive::{answers, changes, shared::Shared, watch::status},
    records::{
        parked,
        reader::Reader,
        rows::{self, Change, id_of},
    },
    words::{error::Error, status::Status},
};

/// Answers the question of a run at a node, once, and lets the run go on.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    (run, id): (i64, &RunId),
    (node, step): (NodePath, Option<u64>),
    answer: Value,
) -> Result<(), Error> {
    let (store, asked, at, given) = (Arc::clone(shared), id.clone(), node.clone(), answer.clone());
    let now = shared.moment();
    let check = move |reader: &Reader| {
        let flow = store.flow_of(reader, run)?;
        let is_node = |node: &NodePath, known: &NodePath| flow.is_same(node, known);
        let (mut found, mut question) = answers::find(reader, (&asked, &at, step), &is_node, now)?;
        let fit = store.check_alone(reader, parked::root_of(&reader.db, found.run)?)?;
        store.check_line(reader, &fit, found.run)?;
        let before = question.version;
        question.migrate(&*flow, &asked)?;
        if question.version != before {
            found.now = Some(question.to_text(&asked, store.options.max_state)?);
        }
        answers::check(&asked, &at, &question, &given)?;
        let (version, _) = reader.flow_version_of(run)?;
        flow.fits(&asked, version, &found.node, &given)?;
        Ok(found)
    };
    let found = unless_refused(shared, run, shared.read(check).await).await?;
    let goes_on = shared.writer.call("answer", move |db| answers::keep(db, &found, &answer)).await?;
    shared.go_on(&goes_on);
    Ok(())
}

/// Lets a run that failed or was cancelled go on, from the node where it stopped.
pub(crate) async fn retry(shared: &Arc<Shared>, run: i64) -> Result<(), Error> {
    let store = Arc::clone(shared);
    let check = move |reader: &Reader| {
        changes::check_retry(&reader.db, run)?;
        store.check(reader, run)
    };
    unless_refused(shared, run, shared.read(check).await).await?;
    shared.writer.call("retry", move |db| changes::retry(db, run)).await?;
    shared.resume(run);
    Ok(())
}

/// Notes a refusal, and passes the result on.
async fn unless_refused<T>(shared: &Arc<Shared>, run: i64, result: Result<T, Error>) -> Result<T, Error> {
    if let Err(error) = &result {
        shared.note_refusal(run, error).await?;
    }
    result
}

/// Cancels a run: one that is driven is stopped where it waits, one that is parked needs only be marked.
pub(crate) async fn cancel(shared: &Arc<Shared>, run: i64) -> Result<(), Error> {
    loop {
        let mut news = shared.wait_for(run);
        if let Some(_reserved) = shared.reserve(run) {
            // Nobody begins to drive it before it is marked.
            if shared.writer.call("cancel", move |db| cancel_stored(db, run)).await? {
                shared.tell_stopped(run).await;
            }
            return Ok(());
        }
        // Its own drive writes down that it was cancelled, unless it comes to a halt before it sees that; if it goes on
        // after that, it is another drive.
        while let Some(cancel) = shared.cancel(run) {
            if !cancel.is_written() {
                news.changed().await?;
            }
            if cancel.is_written() {
                return Ok(());
            }
        }
    }
}

/// Marks a run as cancelled; returns whether it was not before.
fn cancel_stored(db: &Connection, run: i64) -> Result<bool, Error> {
    match status(db, run)? {
        Status::Cancelled => Ok(false),
        status if status.is_final() => Err(Error::WrongStatus { run: id_of(db, run)?, status, wanted: "cancelled" }),
        _ => rows::set_status(db, run, Status::Cancelled, &Change::default()).map(|()| true),
    }
}

/// Deletes a run that is not under way, with its history.
pub(crate) async fn delete(shared: &Arc<Shared>, run: i64) -> Result<(), Error> {
    shared.writer.call("delete", move |db| changes::delete(db, run)).await?;
    shared.tell(run, None);
    shared.delete_left().await
}
