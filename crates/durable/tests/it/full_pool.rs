//! The blocking pool is full of nodes: whoever lists, answers, cancels, opens or closes does not wait for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{AsyncFlow, Node, Result};
use flowstone_durable::{Filter, Finished, Prune, Runs, Status, Store, StoreOptions};

use crate::common::{Count, Folder, Invoice, Ledger, approving, counting, sleeping, soon, until};

/// Runs something while every thread of the blocking pool is taken.
fn with_a_full_pool<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(2).enable_all().build().unwrap();
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let ended = runtime.block_on(async {
        let (taken, mut all) = tokio::sync::mpsc::channel(2);
        for _ in 0..2 {
            let (held, taken) = (Arc::clone(&held), taken.clone());
            drop(tokio::task::spawn_blocking(move || {
                taken.blocking_send(()).unwrap();
                held.lock().unwrap().recv()
            }));
        }
        all.recv().await.unwrap();
        all.recv().await.unwrap();
        soon("what the pool has no part in", work).await
    });
    drop(release);
    ended
}

#[test]
fn nothing_but_nodes_waits_for_the_blocking_pool() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let (hours, start) = (Arc::new(AtomicU64::new(0)), SystemTime::now());
    let passed = Arc::clone(&hours);
    let clock = move || start + Duration::from_secs(3600 * passed.load(Ordering::Relaxed));

    with_a_full_pool(async {
        let store = StoreOptions::new().clock(clock).open(folder.store()).await.unwrap();
        let approvals = store.runs(approving(&ledger)).await.unwrap();
        let (answered, cancelled) = ("answered", "cancelled");
        for id in [answered, cancelled] {
            approvals.start(id, Invoice::default()).await.unwrap().settled().await.unwrap();
        }
        approvals.answer(answered, "ask", true).await.unwrap();
        assert!(approvals.get(answered).await.unwrap().finished().await.unwrap().ended().unwrap().state.posted);
        approvals.cancel(cancelled).await.unwrap();
        assert_eq!(approvals.list(&Filter::new()).await.unwrap().len(), 2);
        assert_eq!(approvals.state(answered).await.unwrap().approved, Some(true));
        let sleeper = store.runs(sleeping()).await.unwrap().start("s", Count::default()).await.unwrap();
        assert_eq!(sleeper.settled().await.unwrap(), Status::Sleeping);
        hours.store(2, Ordering::Relaxed);
        assert_eq!(sleeper.finished().await.unwrap().ended().unwrap().state.n, 1);
        assert_eq!(approvals.fork(answered, 0, "fork", |_| {}).await.unwrap().settled().await.unwrap(), Status::Paused);
        assert!(store.resume_all().await.unwrap().refused.is_empty());
        assert_eq!(store.prune(&Prune::new()).await.unwrap().runs, 3);
        store.close().await;
        Store::open(folder.store()).await.unwrap().close().await;
    });
}

/// A node whose `exec` takes a thread of the pool.
struct Blocks(Ledger);

impl Node<Count> for Blocks {
    type Prep = ();
    type Exec = ();
    type Action = ();

    fn prep(&self, _: &Count) -> Result<()> {
        Ok(())
    }

    fn exec(&self, (): &(), _: &flowstone_core::Context) -> Result<()> {
        self.0.add("exec");
        Ok(())
    }

    fn post(&self, _: &mut Count, (): (), (): ()) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_run_whose_exec_waits_for_a_thread_is_cancelled_at_once() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    with_a_full_pool(async {
        let mut flow = AsyncFlow::builder("blocks");
        let node = flow.add("node", Blocks(ledger.clone()));
        flow.start(node);
        let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
        let run = runs.start("r", Count::default()).await.unwrap();

        runs.cancel("r").await.unwrap();

        assert!(matches!(run.finished().await, Ok(Finished::Cancelled(_))));
        runs.start("s", Count::default()).await.unwrap();
        runs.store().close().await;
    });
    assert_eq!(ledger.len(), 0, "what was given up in the queue never begins");
}

/// Counts the handles that this process has to a file.
#[cfg(target_os = "linux")]
fn handles(path: &std::path::Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter(|entry| entry.as_ref().is_ok_and(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path)))
        .count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn callers_that_go_away_leave_no_more_than_four_connections() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    for n in 0..50 {
        runs.start(format!("r{n}"), Count::to(2)).await.unwrap().finished().await.unwrap().ended().unwrap();
    }
    let path = std::fs::canonicalize(folder.store()).unwrap();

    let mut most = 0;
    for n in 0..600 {
        let filter = Filter::new();
        let mut list = Box::pin(runs.list(&filter));
        drop(futures_util::poll!(&mut list));
        drop(list);
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
        most = most.max(handles(&path));
    }

    assert_eq!(runs.list(&Filter::new()).await.unwrap().len(), 50);
    assert!(most <= 5, "the writer's and at most four more: {most}");
    runs.store().close().await;
    until("they are closed", async || handles(&path) == 0).await;
}
