//! Clocks that are wrong, and set: no kept wait lasts longer than it was to, and a clock that is set right is believed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{AsyncBatchNode, AsyncFlow, AsyncNode, Context, NodeError, NodeExt, Result, Retry, Sleep};
use flowstone_durable::{Runs, Status, StoreOptions, WriteMoment};

use crate::common::{Count, Folder, Ledger, failure, rows, soon, until};

const HOUR: Duration = Duration::from_secs(3600);
const YEARS: Duration = Duration::from_secs(50 * 365 * 86400);

/// A clock that stands until it is set.
#[derive(Clone)]
struct Clock(Arc<Mutex<SystemTime>>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(SystemTime::UNIX_EPOCH + 2 * YEARS)))
    }

    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }

    fn set(&self, to: SystemTime) {
        *self.0.lock().unwrap() = to;
    }

    fn options(&self) -> StoreOptions {
        let clock = self.clone();
        StoreOptions::new().clock(move || clock.now()).keep_waits(Duration::from_millis(100))
    }

    async fn open(&self, folder: &Folder, flow: AsyncFlow<Count>) -> Runs<Count> {
        self.options().open(folder.store()).await.unwrap().runs(flow).await.unwrap()
    }
}

/// Fails in its first attempt, as a node and as an item.
#[derive(Clone)]
struct Once(Ledger);

impl Once {
    fn attempt(&self, cx: &Context) -> Result<()> {
        self.0.add(format!("attempt {}", cx.attempt()));
        if cx.attempt() == 0 { Err(failure("once")) } else { Ok(()) }
    }
}

impl AsyncNode<Count> for Once {
    type Prep = ();
    type Exec = ();
    type Action = ();

    async fn prep(&self, _: &Count) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), cx: &Context) -> Result<()> {
        self.attempt(cx)
    }

    async fn post(&self, _: &mut Count, (): (), (): ()) -> Result<()> {
        Ok(())
    }
}

struct Batch(Once);

impl AsyncBatchNode<Count> for Batch {
    type Item = u32;
    type Output = ();
    type Outcome = ();
    type Action = ();

    async fn prep(&self, _: &Count) -> Result<Vec<u32>> {
        Ok(vec![7])
    }

    async fn exec(&self, _: &u32, cx: &Context) -> Result<()> {
        self.0.attempt(cx)
    }

    async fn post(&self, _: &mut Count, _: Vec<u32>, _: Vec<()>) -> Result<()> {
        Ok(())
    }
}

macro_rules! flow {
    ($node:expr) => {
        flow!("waits", $node)
    };
    ($name:expr, $node:expr) => {{
        let mut flow = AsyncFlow::builder($name);
        let node = flow.add("node", $node);
        let end = flow.add("end", |count: &mut Count| count.n += 1);
        flow.start(node);
        flow.route(node >> end);
        flow.build().unwrap()
    }};
}

/// Flows in each of which something waits for so long.
fn kinds(wait: Duration, clock: &Clock) -> Vec<(&'static str, AsyncFlow<Count>)> {
    let once = || Once(Ledger::default());
    let retry = || Retry::attempts(2).fixed(wait);
    let (at, join) = (clock.now() + wait, |_: &mut Count, _: Vec<Count>| ());
    let fork = |_: &Count| vec![Count::default()];
    vec![
        ("node", flow!(once().retry(retry()))),
        ("item", flow!(Batch(once()).journaled().retry(retry()))),
        ("child", flow!(flow!("child", once().retry(retry())).batch(fork, join).journaled())),
        ("sleep", flow!(Sleep::new(wait))),
        ("until", flow!(Sleep::until(move |_| at))),
        ("sleep in a child", flow!(flow!("child", Sleep::new(wait)).batch(fork, join).journaled())),
    ]
}

/// Starts a run in each flow, and ends the process once the wait is kept.
async fn cut(wait: Duration, clock: &Clock) -> Vec<(&'static str, Folder, AsyncFlow<Count>)> {
    let mut all = Vec::new();
    for (kind, flow) in kinds(wait, clock) {
        let folder = Folder::new();
        let runs = clock.open(&folder, flow.clone()).await;
        runs.start("r", Count::default()).await.unwrap();
        until("the wait", async || rows(&folder.store()).iter().any(|(table, _)| *table == "items")).await;
        runs.store().close().await;
        all.push((kind, folder, flow));
    }
    all
}

async fn is_over(kind: &str, runs: &Runs<Count>) {
    let ended = soon(kind, runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();
    assert_eq!(ended.state.n, 1, "{kind}");
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_wait_longer() {
    let clock = Clock::new();
    for (kind, folder, flow) in cut(Duration::from_millis(1500), &clock).await {
        clock.set(SystemTime::UNIX_EPOCH + YEARS);
        let runs = clock.open(&folder, flow).await;
        runs.resume_all().await.unwrap();

        is_over(kind, &runs).await;
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_at_the_start_and_then_set_right_is_believed() {
    let clock = Clock::new();
    let ends = clock.now() + HOUR;
    for (kind, folder, flow) in cut(HOUR, &clock).await {
        clock.set(SystemTime::UNIX_EPOCH + YEARS);
        let runs = clock.open(&folder, flow).await;
        runs.resume_all().await.unwrap();
        // Right, and the wait is not over.
        clock.set(ends - Duration::from_secs(1));
        let run = runs.get("r").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(1200), run.finished()).await;
        assert!(early.is_err(), "{kind}: it was to wait for another second by the clock that was set right");

        clock.set(ends);

        is_over(kind, &runs).await;
    }
}

#[tokio::test]
async fn a_clock_that_is_set_forward_ends_waits() {
    for live in [true, false] {
        let clock = Clock::new();
        let began = clock.now();
        for (kind, folder, flow) in cut(HOUR, &clock).await {
            clock.set(began);
            let runs = if live { clock.open(&folder, flow.clone()).await } else { clock.open(&folder, flow).await };
            if live {
                runs.resume_all().await.unwrap();
            }
            clock.set(began + HOUR);
            runs.resume_all().await.unwrap();

            is_over(kind, &runs).await;
        }
    }
}

#[tokio::test]
async fn until_goes_by_the_clock_of_the_store() {
    let (folder, clock) = (Folder::new(), Clock::new());
    let at = clock.now() + HOUR;
    let runs = clock.open(&folder, flow!(Sleep::until(move |_| at))).await;
    let run = runs.start("r", Count::default()).await.unwrap();
    assert_eq!(soon("it sleeps", run.settled()).await.unwrap(), Status::Sleeping);
    assert_eq!(run.info().await.unwrap().wake_at, Some(at));

    clock.set(at);

    is_over("until", &runs).await;
    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 3)]);
}

/// Fails always, as a node and as an item, and notes when it gives up.
#[derive(Clone)]
struct Never(Ledger);

impl Never {
    fn attempt(&self, cx: &Context) -> Result<()> {
        self.0.add(format!("attempt {}", cx.attempt()));
        Err(failure("never"))
    }

    fn gives_up(&self) -> Result<()> {
        self.0.add("over");
        Ok(())
    }
}

struct Node(Never);

impl AsyncNode<Count> for Node {
    type Prep = ();
    type Exec = ();
    type Action = ();

    async fn prep(&self, _: &Count) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), cx: &Context) -> Result<()> {
        self.0.attempt(cx)
    }

    async fn exec_fallback(&self, (): &(), _: NodeError, _: &Context) -> Result<()> {
        self.0.gives_up()
    }

    async fn post(&self, _: &mut Count, (): (), (): ()) -> Result<()> {
        Ok(())
    }
}

struct Items(Never);

impl AsyncBatchNode<Count> for Items {
    type Item = u32;
    type Output = ();
    type Outcome = ();
    type Action = ();

    async fn prep(&self, _: &Count) -> Result<Vec<u32>> {
        Ok(vec![7])
    }

    async fn exec(&self, _: &u32, cx: &Context) -> Result<()> {
        self.0.attempt(cx)
    }

    async fn exec_fallback(&self, _: &u32, _: NodeError, _: &Context) -> Result<()> {
        self.0.gives_up()
    }

    async fn post(&self, _: &mut Count, _: Vec<u32>, _: Vec<()>) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_time_of_a_visit_does_not_begin_again_at_a_restart() {
    type Make = fn(Never) -> AsyncFlow<Count>;
    macro_rules! alone {
        ($node:expr) => {{
            let mut flow = AsyncFlow::builder("never");
            let node = flow.add("node", $node.retry(Retry::attempts(1000).fixed(HOUR)).total_timeout(3 * HOUR));
            flow.start(node);
            flow.build().unwrap()
        }};
    }
    let kinds: [(&str, Make); 3] = [
        ("node", |never| alone!(Node(never))),
        ("journaled", |never| alone!(Items(never).journaled())),
        ("plain batch", |never| alone!(Items(never).parallel(2))),
    ];
    for (kind, make) in kinds {
        let (folder, clock, ledger) = (Folder::new(), Clock::new(), Ledger::default());
        let (waits, mut restarts) = (Arc::new(AtomicUsize::new(0)), 0);
        loop {
            let (begun, written) = (waits.load(Relaxed), Arc::clone(&waits));
            let options = clock.options().on_write(move |point| {
                let wait = point.job == "wait" && point.when == WriteMoment::Committed;
                written.fetch_add(usize::from(wait), Relaxed);
            });
            let store = options.open(folder.store()).await.unwrap();
            let run = store.runs(make(Never(ledger.clone()))).await.unwrap();
            let run = run.start("r", Count::default()).await.unwrap();
            until(kind, async || waits.load(Relaxed) > begun || run.info().await.unwrap().status == Status::Ended)
                .await;
            let ended = run.info().await.unwrap().status == Status::Ended;
            store.close().await;
            if ended {
                break;
            }
            restarts += 1;
            assert!(restarts < 9, "{kind}: {:?}", ledger.take());
            clock.set(clock.now() + HOUR);
        }
        let plain = kind == "plain batch"; // which begins anew, with all its attempts, but not with all its time
        let attempts = if plain { ["attempt 0"; 3] } else { ["attempt 0", "attempt 1", "attempt 2"] };
        assert_eq!(ledger.take(), [&attempts[..], &["over"]].concat(), "{kind}");
        assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 2)], "{kind}");
    }
}
