//! Retrying runs that failed or were cancelled: from the node where they stopped, with what is recorded.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, AsyncFlow, NodeError, NodeExt, Retry};
use flowstone_durable::{Finished, NotEnded, Requests, Runs, Status, StoreOptions};

use crate::common::{
    Count, Folder, Gate, Ledger, Numbers, counting, failure, gated, items, numbers, soon, until, work,
};

/// Counts, then fails while `broken`.
fn breaking(ledger: &Ledger, broken: &Arc<AtomicBool>, retry: Retry) -> AsyncFlow<Count> {
    let (ledger, broken) = (ledger.clone(), Arc::clone(broken));
    let mut flow = AsyncFlow::builder("breaking");
    let first = flow.add("first", |count: &mut Count| count.n += 1);
    let post = work(
        move |cx| {
            ledger.add(format!("post {}", cx.attempt()));
            let broken = broken.load(Ordering::Relaxed);
            async move { if broken { Err(failure("the service is down")) } else { Ok(10) } }
        },
        |count: &mut Count, ten| {
            count.n += ten as u32;
            Action::from("posted")
        },
    );
    let post = flow.add("post", post.retry(retry));
    flow.start(first);
    flow.route(first >> post);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_failed_run_says_where_and_why() {
    let (folder, ledger, broken) = (Folder::new(), Ledger::default(), Arc::new(AtomicBool::new(true)));
    let runs = Runs::open(folder.store(), breaking(&ledger, &broken, Retry::attempts(2))).await.unwrap();

    let run = runs.start("r", Count::to(1)).await.unwrap();
    let error = run.finished().await.unwrap().ended().unwrap_err();

    let NotEnded::Failed { node, message, .. } = &error else { panic!("{error:?}") };
    assert_eq!(node, "post");
    assert!(message.contains("the service is down") && !message.contains('\n'), "{message}");
    let info = run.info().await.unwrap();
    let failure = info.error.unwrap();
    assert_eq!((info.status, info.step, info.node.unwrap().as_str()), (Status::Failed, 1, "post"));
    assert_eq!((failure.attempts, failure.item, failure.terminal), (2, None, false));
}

#[tokio::test]
async fn a_failed_run_is_retried_from_its_failed_node() {
    let (folder, ledger, broken) = (Folder::new(), Ledger::default(), Arc::new(AtomicBool::new(true)));
    for restart in [false, true] {
        let id = format!("r{restart}");
        broken.store(true, Ordering::Relaxed);
        let runs = Runs::open(folder.store(), breaking(&ledger, &broken, Retry::default())).await.unwrap();
        runs.start(&*id, Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap_err();
        let runs = if restart {
            runs.store().close().await;
            Runs::open(folder.store(), breaking(&ledger, &broken, Retry::default())).await.unwrap()
        } else {
            runs
        };
        assert!(runs.resume_all().await.unwrap().runs.is_empty());

        broken.store(false, Ordering::Relaxed);
        let run = runs.retry_failed(&*id).await.unwrap();
        let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();

        assert_eq!((ended.state.n, ended.action.as_str()), (11, "posted"));
        assert_eq!(run.info().await.unwrap().error, None);
        runs.store().close().await;
    }
}

#[tokio::test]
async fn a_run_can_fail_and_be_retried_again_and_again() {
    let (folder, ledger, broken) = (Folder::new(), Ledger::default(), Arc::new(AtomicBool::new(true)));
    let runs = Runs::open(folder.store(), breaking(&ledger, &broken, Retry::default())).await.unwrap();
    let run = runs.start("r", Count::to(1)).await.unwrap();

    for _ in 0..20 {
        assert!(matches!(soon("the failure", run.finished()).await, Ok(Finished::Failed(_))));
        run.retry_failed().await.unwrap();
    }

    soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();
    assert_eq!(ledger.len(), 21);
}

#[tokio::test]
async fn a_retried_run_has_all_its_attempts_again() {
    let (folder, ledger, broken) = (Folder::new(), Ledger::default(), Arc::new(AtomicBool::new(true)));
    let retry = Retry::attempts(3).fixed(Duration::from_millis(5));
    let store = StoreOptions::new().keep_waits(Duration::from_millis(1)).open(folder.store()).await.unwrap();
    let runs = store.runs(breaking(&ledger, &broken, retry)).await.unwrap();
    let run = runs.start("r", Count::to(1)).await.unwrap();
    soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();
    assert_eq!(ledger.take(), ["post 0", "post 1", "post 2"]);

    run.retry_failed().await.unwrap();
    soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();

    assert_eq!(ledger.take(), ["post 0", "post 1", "post 2"]);
}

/// A batch whose item 7 fails while `broken`.
fn seven(ledger: &Ledger, broken: &Arc<AtomicBool>) -> AsyncFlow<Numbers> {
    let mut flow = AsyncFlow::builder("batch");
    let (into, fails) = (ledger.clone(), Arc::clone(broken));
    let batch = items(move |cx| {
        let (into, fails) = (into.clone(), Arc::clone(&fails));
        async move {
            let item = cx.item().unwrap() as u64;
            into.add(format!("{item}"));
            if item == 7 && fails.load(Ordering::Relaxed) { Err(NodeError::terminal("seven")) } else { Ok(item * 2) }
        }
    });
    let batch = flow.add("batch", batch.parallel(1).journaled());
    flow.start(batch);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_failed_batch_is_retried_with_its_finished_items() {
    let (folder, ledger, broken) = (Folder::new(), Ledger::default(), Arc::new(AtomicBool::new(true)));
    let runs = Runs::open(folder.store(), seven(&ledger, &broken)).await.unwrap();
    let run = runs.start("r", numbers(20)).await.unwrap();
    soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();
    let failure = run.info().await.unwrap().error.unwrap();
    assert_eq!((failure.item, failure.terminal), (Some(7), true));
    assert_eq!(ledger.take().len(), 8);

    broken.store(false, Ordering::Relaxed);
    run.retry_failed().await.unwrap();
    let ended: Numbers = soon("the end", run.finished()).await.unwrap().ended().unwrap().state;

    assert_eq!(ended.doubled, (0..20).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(ledger.take(), (7..20).map(|n| n.to_string()).collect::<Vec<_>>());
    let items = run.steps(1, 1).await.unwrap()[0].items.unwrap();
    assert_eq!((items.recorded, items.recalled), (20, 7));
}

#[tokio::test]
async fn a_cancelled_run_is_retried_from_where_it_was_cancelled() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;
    run.cancel().await.unwrap();

    gate.open();
    run.retry_failed().await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 2);
    assert_eq!(ledger.take(), ["waits", "waits", "passed"]);
}

#[tokio::test]
async fn a_sleeper_that_was_cancelled_and_retried_wakes_when_it_would_have() {
    let folder = Folder::new();
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&now);
    let store = StoreOptions::new().clock(move || *clock.lock().unwrap()).open(folder.store()).await.unwrap();
    let runs = store.runs(crate::common::sleeping()).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    run.settled().await.unwrap();
    let wakes = run.info().await.unwrap().wake_at;
    run.cancel().await.unwrap();
    *now.lock().unwrap() += Duration::from_secs(60);

    run.retry_failed().await.unwrap();
    soon("asleep again", run.settled()).await.unwrap();

    assert_eq!(run.info().await.unwrap().wake_at, wakes);
}

#[tokio::test]
async fn a_run_is_retried_from_beside() {
    let (folder, ledger, broken) = (Folder::new(), Ledger::default(), Arc::new(AtomicBool::new(true)));
    let runs = Runs::open(folder.store(), breaking(&ledger, &broken, Retry::default())).await.unwrap();
    let run = runs.start("r", Count::to(1)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap_err();
    broken.store(false, Ordering::Relaxed);

    let path = folder.store();
    tokio::task::spawn_blocking(move || Requests::open(path).unwrap().retry_failed("r").unwrap()).await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 11);
}

#[tokio::test]
async fn a_run_that_neither_failed_nor_was_cancelled_is_not_retried() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let run = runs.start("r", Count::to(1)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap();

    let error = run.retry_failed().await.unwrap_err();

    assert_eq!(error.to_string(), "run `r` cannot be retried: its status is `ended`");
    assert_eq!(ledger.len(), 1);
}

#[tokio::test]
async fn errors_of_many_megabytes_are_kept_in_part_and_say_so() {
    let folder = Folder::new();
    let fails = work(
        |_| async { Err(flowstone_core::NodeError::new("x".repeat(12_000_000))) },
        |_: &mut Count, _| flowstone_core::Action::from(""),
    );
    let mut flow = flowstone_core::AsyncFlow::builder("large");
    let fails = flow.add("fails", flowstone_core::NodeExt::retry(fails, Retry::attempts(20)));
    flow.start(fails);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();

    let run = runs.start("r", Count::to(1)).await.unwrap();
    soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();

    let message = run.info().await.unwrap().error.unwrap().message;
    assert!(message.len() < 5_000 && message.ends_with(" bytes more)"), "{}", message.len());
    runs.store().close().await;
    assert!(std::fs::metadata(folder.store()).unwrap().len() < 1_000_000);
}
