//! Two things at one moment: what was answered with Ok stands, and nothing that is due is forgotten.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{AsyncFlow, Result, Sleep, step};
use flowstone_durable::{Finished, OpenError, Reader, Requests, Runs, Status, Store, StoreOptions};

use crate::common::{Count, Folder, Gate, Invoice, Ledger, approving, counting, soon, until};

#[tokio::test]
async fn a_cancel_beside_the_start_stands() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();

    for round in 0..50 {
        let id = format!("r{round}");
        let mut start = Box::pin(runs.start(id.clone(), Count::to(1_000_000)));
        assert!(futures_util::poll!(&mut start).is_pending());
        until("the run is known", async || runs.get(id.clone()).await.is_ok()).await;
        runs.cancel(id.clone()).await.unwrap();
        let run = start.await.unwrap();

        assert!(matches!(soon("the end", run.finished()).await, Ok(Finished::Cancelled(_))), "{id}");
    }
}

#[tokio::test]
async fn sleepers_wake_while_others_are_deleted() {
    let folder = Folder::new();
    let woken = Arc::new(AtomicBool::new(false));
    let (clock, start) = (Arc::clone(&woken), SystemTime::now());
    let later = move || if clock.load(Ordering::Relaxed) { start + Duration::from_secs(7200) } else { start };
    let store = StoreOptions::new().clock(later).open(folder.store()).await.unwrap();
    let mut flow = AsyncFlow::builder("sleep");
    let sleep = flow.add("sleep", Sleep::new(Duration::from_secs(3600)));
    flow.start(sleep);
    let runs = store.runs::<Count, _>(flow.build().unwrap()).await.unwrap();
    for n in 0..300 {
        let run = runs.start(format!("r{n}"), Count::default()).await.unwrap();
        assert_eq!(soon("it sleeps", run.settled()).await.unwrap(), Status::Sleeping);
    }

    woken.store(true, Ordering::Relaxed);
    for n in (0..300).step_by(2) {
        drop(runs.delete(format!("r{n}")).await); // one that runs already stays
    }

    for n in (1..300).step_by(2) {
        soon("it wakes", runs.get(format!("r{n}")).await.unwrap().finished()).await.unwrap().ended().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_waits_for_a_blocking_node_holds_no_other_request_up() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let go_on = Arc::new(AtomicBool::new(false));
    let blocked = Arc::clone(&go_on);
    let mut flow = AsyncFlow::builder("block");
    let block = step(
        |_: &Count| (),
        move |(): &()| -> Result<()> {
            while !blocked.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        },
        |_: &mut Count, (), ()| (),
    );
    let block = flow.add("block", block);
    flow.start(block);
    let approvals = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    let blocks = approvals.store().runs::<Count, _>(flow.build().unwrap()).await.unwrap();
    let asking = approvals.start("a", Invoice::default()).await.unwrap();
    asking.settled().await.unwrap();
    let blocking = blocks.start("b", Count::default()).await.unwrap();

    let mut requests = Requests::open(folder.store()).unwrap();
    requests.cancel("b").unwrap();
    requests.answer("a", "ask", true).unwrap();

    assert!(soon("the answer", asking.finished()).await.unwrap().ended().unwrap().state.posted);
    assert_eq!(blocking.info().await.unwrap().status, Status::Running);
    go_on.store(true, Ordering::Relaxed);
    assert!(soon("the end", blocking.finished()).await.unwrap().ended().is_err());
}

#[tokio::test]
async fn an_answer_that_comes_after_a_cancel_and_a_retry_does_not_park_the_run_for_ever() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    for round in 0..40 {
        let run = runs.start(format!("r{round}"), Invoice::default()).await.unwrap();
        run.settled().await.unwrap();
        let answering = run.clone();
        let answer = tokio::spawn(async move { answering.answer("ask", true).await.is_ok() });

        drop(run.cancel().await);
        drop(run.retry_failed().await);
        if !answer.await.unwrap() && run.settled().await.unwrap() == Status::Paused {
            run.answer("ask", true).await.unwrap();
        }

        match soon("a halt", run.settled()).await.unwrap() {
            Status::Ended | Status::Cancelled => {}
            status => panic!("round {round}: {status}"),
        }
    }
}

#[tokio::test]
async fn who_reads_holds_up_neither_prune_nor_close() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    runs.start("r", Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap();
    let reader = rusqlite::Connection::open(folder.store()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM visits").unwrap();

    // Far below the twenty seconds for which a writer waits.
    soon("pruning", runs.store().prune(&flowstone_durable::Prune::new())).await.unwrap();
    soon("closing", runs.store().close()).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_a_store_is_that_store() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let link = folder.store().with_file_name("link.db");
    std::os::unix::fs::symlink(folder.store(), &link).unwrap();

    let second = Runs::open(&link, counting(&ledger)).await;

    assert!(matches!(second, Err(OpenError::Locked { .. })), "{second:?}");
    runs.start("r", Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
    assert_eq!(Reader::open(&link).unwrap().run("r").unwrap().step, 1);
}

/// A thousand requests are read at once, and what waits for a flow does not keep the rest.
#[tokio::test]
async fn requests_that_wait_for_a_flow_do_not_keep_others_and_are_done_once_it_is_registered() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let store = Store::open(folder.store()).await.unwrap();
    let waits = store.runs(approving(&ledger)).await.unwrap();
    waits.start("waits", Invoice::default()).await.unwrap().settled().await.unwrap();
    let other = store.runs(crate::common::gated(&ledger, &Gate::closed())).await.unwrap();
    other.start("other", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;
    store.close().await;
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    let ask = "INSERT INTO inbox (run, what, sent_at) SELECT run, 'resume', 0 FROM runs WHERE id = ?1";
    for _ in 0..2500 {
        db.execute(ask, ["waits"]).unwrap();
    }
    db.execute(ask, ["other"]).unwrap();
    let left = || db.query_row("SELECT count(*) FROM inbox", [], |row| row.get::<_, i64>(0)).unwrap();

    let (store, gate) = (Store::open(folder.store()).await.unwrap(), Gate::closed());
    gate.open();
    let other = store.runs(crate::common::gated(&ledger, &gate)).await.unwrap();
    let ended = soon("the request behind the others", other.get("other").await.unwrap().finished())
        .await
        .unwrap()
        .ended()
        .unwrap();
    assert_eq!(ended.state.n, 2);
    until("its request is done", async || left() == 2500).await;
    store.runs(approving(&ledger)).await.unwrap();

    until("the rest is done", async || left() == 0).await;
}
