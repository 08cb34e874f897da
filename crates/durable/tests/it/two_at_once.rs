//! Work that cannot be interrupted goes on after its drive was dropped. It must never run beside itself: the key of a
//! visit or of an item is at work once at a time, whoever closes, cancels, deletes, retries, drops or opens again
//! meanwhile.

use std::{
    collections::BTreeMap,
    future::ready,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flowstone_core::{AsyncFlow, AsyncKind, BatchNode, Context, IntoNode, Node, NodeExt, Result, Retry, step};
use flowstone_durable::{ChangeError, OpenError, Runs, Status, Store, WrongStatus};
use serde::{Deserialize, Serialize};

use crate::common::{Folder, failure, soon, until};

/// Work under way, by key; it goes on until it is let go, whatever it is told.
#[derive(Clone, Default)]
struct Site(Arc<Mutex<BTreeMap<String, (usize, usize)>>>, Arc<AtomicBool>);

impl Site {
    /// Works until it is let go; it is deaf to `cx.cancelled()`.
    fn work(&self, cx: &Context) {
        let key = cx.idempotency_key();
        {
            let mut keys = self.0.lock().unwrap();
            let (now, most) = keys.entry(key.clone()).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        while !self.1.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.0.lock().unwrap().get_mut(&key).unwrap().0 -= 1;
    }

    fn let_go(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    fn hold(&self) {
        self.1.store(false, Ordering::Relaxed);
    }

    fn now(&self) -> usize {
        self.0.lock().unwrap().values().map(|(now, _)| now).sum()
    }

    /// The most that were at work at once, for one key.
    fn most(&self) -> usize {
        self.0.lock().unwrap().values().map(|(_, most)| *most).max().unwrap_or_default()
    }

    async fn begun(&self) {
        until("it is at work", async || self.now() > 0).await;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Job {
    done: bool,
}

/// A sync node.
struct Blocks(Site);

impl Node<Job> for Blocks {
    type Prep = ();
    type Exec = ();
    type Action = ();

    fn prep(&self, _: &Job) -> Result<()> {
        Ok(())
    }

    fn exec(&self, (): &(), cx: &Context) -> Result<()> {
        self.0.work(cx);
        Ok(())
    }

    fn post(&self, job: &mut Job, (): (), (): ()) -> Result<()> {
        job.done = true;
        Ok(())
    }
}

/// A batch of two blocking items.
struct BlocksEach(Site);

impl BatchNode<Job> for BlocksEach {
    type Item = ();
    type Output = ();
    type Outcome = ();
    type Action = ();

    fn prep(&self, _: &Job) -> Result<Vec<()>> {
        Ok(vec![(), ()])
    }

    fn exec(&self, (): &(), cx: &Context) -> Result<()> {
        self.0.work(cx);
        Ok(())
    }

    fn post(&self, job: &mut Job, _: Vec<()>, _: Vec<()>) -> Result<()> {
        job.done = true;
        Ok(())
    }
}

/// A node whose `exec` is async, and waits for a job on the pool.
fn job(site: &Site) -> crate::common::Work<Job> {
    let site = site.clone();
    crate::common::work(
        move |cx| {
            let site = site.clone();
            async move {
                cx.blocking(move |cx| {
                    site.work(cx);
                    Ok(1)
                })
                .await
            }
        },
        |job, _| {
            job.done = true;
            "done".into()
        },
    )
}

/// A flow of one node.
fn alone<M>(name: &str, node: impl IntoNode<Job, AsyncKind, M>) -> AsyncFlow<Job> {
    let mut flow = AsyncFlow::builder(name);
    let node = flow.add("node", node);
    flow.start(node);
    flow.build().unwrap()
}

/// One flow for each way in which something goes on after its drive was dropped.
fn flows(site: &Site) -> Vec<AsyncFlow<Job>> {
    let inner = alone("inner", Blocks(site.clone()));
    let fork = |_: &Job| vec![Job::default(), Job::default()];
    let batch = inner.clone().batch(fork, |job: &mut Job, _| job.done = true).parallel(2).journaled();
    let call = crate::common::work(
        move |cx| {
            let inner = inner.clone();
            async move { inner.run_in(Job::default(), &cx).await.map(|_| 1) }
        },
        |job: &mut Job, _| {
            job.done = true;
            "done".into()
        },
    );
    vec![
        alone("node", Blocks(site.clone())),
        alone("job", job(site)),
        alone("items", BlocksEach(site.clone()).parallel(2).journaled()),
        alone("children", batch),
        alone("called", call),
    ]
}

async fn ends(path: &Path, flow: &AsyncFlow<Job>, id: &str) {
    let runs = Runs::open(path, flow.clone()).await.unwrap();
    runs.resume_all().await.unwrap();
    assert!(soon("the end", runs.get(id).await.unwrap().finished()).await.unwrap().ended().unwrap().state.done);
    runs.store().close().await;
}

#[tokio::test]
async fn close_waits_for_what_cannot_be_interrupted() {
    let site = Site::default();
    for flow in flows(&site) {
        let folder = Folder::new();
        site.hold();
        let runs = Runs::open(folder.store(), flow.clone()).await.unwrap();
        runs.start("r", Job::default()).await.unwrap();
        site.begun().await;

        let store = runs.store();
        let mut closing = std::pin::pin!(store.close());
        assert!(tokio::time::timeout(Duration::from_millis(30), closing.as_mut()).await.is_err(), "{}", flow.name());
        site.let_go();
        soon("closing", closing).await;

        assert_eq!(site.now(), 0, "{}", flow.name());
        ends(&folder.store(), &flow, "r").await;
        assert_eq!(site.most(), 1, "{}", flow.name());
    }
}

#[tokio::test]
async fn what_is_left_keeps_the_store_closed_until_it_has_ended() {
    let site = Site::default();
    for flow in flows(&site) {
        let folder = Folder::new();
        site.hold();
        let runs = Runs::open(folder.store(), flow.clone()).await.unwrap();
        runs.start("r", Job::default()).await.unwrap();
        site.begun().await;

        let left = soon("closing", runs.store().close_within(Duration::ZERO)).await;
        let error = Store::open(folder.store()).await.unwrap_err();

        let left: Vec<_> = left.iter().map(|left| (left.run.as_str(), left.node.as_str())).collect();
        assert_eq!(left, [("r", "node")], "{}", flow.name());
        let OpenError::StillRuns { pid, left, .. } = &error else { panic!("{}: {error:?}", flow.name()) };
        assert_eq!((*pid, left.len(), left[0].run.as_str()), (Some(std::process::id()), 1, "r"));
        assert!(error.to_string().contains("run `r` at node `node`"), "{error}");
        site.let_go();
        until("it is free", async || Store::open(folder.store()).await.is_ok()).await;
        ends(&folder.store(), &flow, "r").await;
        assert_eq!(site.most(), 1, "{}", flow.name());
    }
}

#[tokio::test]
async fn what_can_be_interrupted_is_never_left() {
    let (folder, gate) = (Folder::new(), crate::common::Gate::closed());
    let ledger = crate::common::Ledger::default();
    let runs = Runs::open(folder.store(), crate::common::gated(&ledger, &gate)).await.unwrap();
    runs.start("r", crate::common::Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;

    let left = soon("closing", runs.store().close_within(Duration::ZERO)).await;

    assert_eq!(left, []);
    assert!(Store::open(folder.store()).await.is_ok());
}

#[tokio::test]
async fn a_store_whose_handles_are_dropped_stays_locked_by_what_is_left() {
    let site = Site::default();
    for flow in flows(&site) {
        let folder = Folder::new();
        site.hold();
        let runs = Runs::open(folder.store(), flow.clone()).await.unwrap();
        runs.start("r", Job::default()).await.unwrap();
        site.begun().await;

        drop(runs);

        let error = Store::open(folder.store()).await.unwrap_err();
        assert!(error.to_string().contains("run `r` at node `node`"), "{}: {error}", flow.name());
        site.let_go();
        until("it is free", async || Store::open(folder.store()).await.is_ok()).await;
        ends(&folder.store(), &flow, "r").await;
        assert_eq!(site.most(), 1, "{}", flow.name());
    }
}

#[test]
fn a_store_whose_runtime_is_gone_stays_locked_by_what_is_left() {
    let site = Site::default();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for flow in flows(&site) {
        let folder = Folder::new();
        site.hold();
        let first = runtime();
        let runs = first.block_on(async {
            let runs = Runs::open(folder.store(), flow.clone()).await.unwrap();
            runs.start("r", Job::default()).await.unwrap();
            site.begun().await;
            runs
        });

        first.shutdown_background();
        drop(runs);

        runtime().block_on(async {
            until("it says so", async || match Store::open(folder.store()).await.unwrap_err() {
                OpenError::StillRuns { left, .. } => left[0].run.as_str() == "r",
                OpenError::Locked { .. } => false,
                error => panic!("{}: {error:?}", flow.name()),
            })
            .await;
            site.let_go();
            until("it is free", async || Store::open(folder.store()).await.is_ok()).await;
            ends(&folder.store(), &flow, "r").await;
        });
        assert_eq!(site.most(), 1, "{}", flow.name());
    }
}

/// The name of the variable that tells a process of this test which store to open.
const STORE: &str = "FLOWSTONE_TEST_OPENS";

#[tokio::test]
async fn another_process_is_told_what_is_left() {
    if let Some(path) = std::env::var_os(STORE) {
        let error = Store::open(path).await.unwrap_err();
        println!("{error}");
        return;
    }
    let (folder, site) = (Folder::new(), Site::default());
    let flow = flows(&site).remove(0);
    let runs = Runs::open(folder.store(), flow.clone()).await.unwrap();
    runs.start("r", Job::default()).await.unwrap();
    site.begun().await;
    runs.store().close_within(Duration::ZERO).await;

    let name = "two_at_once::another_process_is_told_what_is_left";
    let mut other = Command::new(std::env::current_exe().unwrap());
    let other = other.args(["--exact", name, "--nocapture"]).env(STORE, folder.store()).output().unwrap();
    site.let_go();

    let said = String::from_utf8_lossy(&other.stdout).into_owned();
    let wanted = format!("process {} still runs", std::process::id());
    assert!(said.contains(&wanted) && said.contains("run `r` at node `node`"), "{said}");
}

#[tokio::test]
async fn a_run_that_is_cancelled_and_retried_waits_for_its_last_exec() {
    let site = Site::default();
    for flow in flows(&site) {
        let folder = Folder::new();
        site.hold();
        let runs = Runs::open(folder.store(), flow.clone()).await.unwrap();
        let run = runs.start("r", Job::default()).await.unwrap();
        site.begun().await;

        let cancel = tokio::spawn({
            let run = run.clone();
            async move { run.cancel().await }
        });
        until("it is told", async || run.retry_failed().await.is_err() && !cancel.is_finished()).await;
        assert!(matches!(runs.delete("r").await, Err(ChangeError::WrongStatus(WrongStatus { .. }))), "{}", flow.name());
        site.let_go();
        soon("cancel", cancel).await.unwrap().unwrap();
        run.retry_failed().await.unwrap();

        assert!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.done);
        assert_eq!(site.most(), 1, "{}", flow.name());
    }
}

#[tokio::test]
async fn a_run_that_is_deleted_and_started_again_waits_for_its_last_exec() {
    let site = Site::default();
    for flow in flows(&site) {
        let folder = Folder::new();
        site.hold();
        let runs = Runs::open(folder.store(), flow.clone()).await.unwrap();
        let run = runs.start("r", Job::default()).await.unwrap();
        site.begun().await;

        let cancel = tokio::spawn(async move { run.cancel().await });
        let again = tokio::spawn({
            let runs = runs.clone();
            async move {
                while runs.delete("r").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                runs.start("r", Job::default()).await.unwrap()
            }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!again.is_finished());
        site.let_go();
        cancel.await.unwrap().unwrap();

        assert!(soon("the end", again.await.unwrap().finished()).await.unwrap().ended().unwrap().state.done);
        assert_eq!(site.most(), 1, "{}", flow.name());
    }
}

#[tokio::test]
async fn a_visit_that_is_out_of_time_is_over_when_its_exec_is() {
    let (folder, site) = (Folder::new(), Site::default());
    let mut flow = AsyncFlow::builder("late");
    let timeout = Duration::from_hours(1);
    let node = flow.add("node", job(&site).timeout(timeout).retry(Retry::attempts(3)));
    flow.start(node);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("r", Job::default()).await.unwrap();
    site.begun().await;

    let other = run.clone();
    let waits = tokio::spawn(async move { other.settled().await });
    // Its time passes while it is at work, however long it took to begin.
    tokio::time::pause();
    tokio::time::advance(timeout * 2).await;
    tokio::time::resume();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waits.is_finished());
    site.let_go();
    let _ = soon("the end", waits).await.unwrap().unwrap();

    assert_eq!(site.most(), 1);
}

#[tokio::test]
async fn a_run_that_failed_has_no_sibling_at_work() {
    let (folder, site) = (Folder::new(), Site::default());
    let mut flow = AsyncFlow::builder("siblings");
    let first = site.clone();
    let items = crate::common::items(move |cx| {
        let site = first.clone();
        async move {
            if cx.item() == Some(0) {
                while site.now() == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                return if site.1.load(Ordering::Relaxed) { Ok(0) } else { Err(failure("no")) };
            }
            cx.blocking(move |cx| {
                site.work(cx);
                Ok(1)
            })
            .await
        }
    });
    let node = flow.add("node", items.parallel(2).journaled());
    flow.start(node);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("r", crate::common::numbers(2)).await.unwrap();
    site.begun().await;
    tokio::time::sleep(Duration::from_millis(20)).await;

    assert!(run.retry_failed().await.is_err(), "it has not failed as long as a sibling is at work");
    site.let_go();
    assert_eq!(soon("it fails", run.settled()).await.unwrap(), Status::Failed);

    assert_eq!((site.now(), site.most()), (0, 1));
}

/// A driver that finds another in its place stops everything, and what is left of it is known in this process, also if
/// the file of the lock is gone.
#[tokio::test]
async fn a_driver_that_lost_its_lock_stops_and_leaves_nothing_that_could_run_twice() {
    let (folder, site) = (Folder::new(), Site::default());
    let mut flow = AsyncFlow::builder("quick");
    let quick = flow.add("quick", step(|_: &u32| (), |()| ready(Ok(1_u32)), |n: &mut u32, (), one| *n += one));
    flow.start(quick);
    let blocks = flows(&site).remove(0);
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs(blocks.clone()).await.unwrap();
    runs.start("r", Job::default()).await.unwrap();
    site.begun().await;
    let quick = store.runs(flow.build().unwrap()).await.unwrap();

    std::fs::remove_file(folder.file("runs.db-lock")).unwrap();
    let other = rusqlite::Connection::open(folder.store()).unwrap();
    other.execute("UPDATE owner SET epoch = epoch + 1, pid = 1", []).unwrap();
    drop(other);
    assert!(quick.start("q", 0).await.is_err());
    until("it stops", async || {
        matches!(Store::open(folder.store()).await, Err(OpenError::StillRuns { left, .. }) if left[0].run.as_str() == "r")
    })
    .await;
    let left = store.close_within(Duration::ZERO).await;

    assert_eq!(left.len(), 1);
    assert!(matches!(Store::open(folder.store()).await, Err(OpenError::StillRuns { .. })));
    site.let_go();
    until("it is free", async || Store::open(folder.store()).await.is_ok()).await;
    ends(&folder.store(), &blocks, "r").await;
    assert_eq!(site.most(), 1);
}
