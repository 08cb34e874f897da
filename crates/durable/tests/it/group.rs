//! Jobs of many runs share a transaction: what is wrong with one of them is no fault of the others.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use flowstone_durable::{Error, Status, StoreFault, StoreOptions, WriteMoment};
use futures_util::FutureExt;
use rusqlite::Connection;

use crate::common::{Folder, Invoice, Ledger, approving, soon};

#[tokio::test]
async fn a_job_that_finds_its_run_damaged_is_refused_alone() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let (release, released) = mpsc::channel::<()>();
    let (holds, released) = (Arc::new(AtomicBool::new(false)), Mutex::new(released));
    let held = Arc::clone(&holds);
    let options = StoreOptions::new().on_write(move |point| {
        if point.job == "start" && point.when == WriteMoment::Before && held.swap(false, Ordering::SeqCst) {
            released.lock().unwrap().recv().unwrap();
        }
    });
    let runs = options.open(folder.store()).await.unwrap().runs(approving(&ledger)).await.unwrap();
    let damaged = runs.start("damaged", Invoice::default()).await.unwrap();
    damaged.settled().await.unwrap();
    Connection::open(folder.store()).unwrap().execute("UPDATE runs SET status = 9", []).unwrap();

    // While the writer is held at the first, the others gather in its queue: they are one group.
    holds.store(true, Ordering::SeqCst);
    let mut first = pin!(runs.start("first", Invoice::default()));
    assert!(first.as_mut().now_or_never().is_none());
    let mut cancel = pin!(damaged.cancel());
    let mut second = pin!(runs.start("second", Invoice::default()));
    assert!(cancel.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    release.send(()).unwrap();
    let (first, refused, second) = (first.await, cancel.await, second.await);

    assert_eq!(Error::from(refused.unwrap_err()).fault(), Some(StoreFault::Corrupt));
    for run in [first, second] {
        assert_eq!(soon("the question", run.unwrap().settled()).await.unwrap(), Status::Paused);
    }
}
