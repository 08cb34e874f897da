//! Sleeps and long waits between attempts: they survive a restart and end on time, by a clock that the tests set.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, AsyncFlow, NodeExt, Retry, Sleep};
use flowstone_durable::{Runs, Status, StoreOptions};

use crate::common::{Count, Folder, Ledger, Numbers, failure, items, key, numbers, rows, soon, until, work};

const HOUR: Duration = Duration::from_secs(3600);

/// A clock that stands until it is set.
#[derive(Clone)]
struct Clock(Arc<Mutex<SystemTime>>);

impl Clock {
    fn new() -> Self {
        // Whole milliseconds, as a store keeps them.
        Self(Arc::new(Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_millis(2_000_000_000_000))))
    }

    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    fn options(&self) -> StoreOptions {
        let clock = self.clone();
        StoreOptions::new().clock(move || clock.now())
    }
}

/// Sleeps as many hours as the state says, then counts.
fn hours(ledger: &Ledger) -> AsyncFlow<Count> {
    let ledger = ledger.clone();
    let mut flow = AsyncFlow::builder("hours");
    let sleep = flow.add(
        "sleep",
        Sleep::by(move |count: &Count| {
            ledger.add("asked");
            HOUR * count.of
        }),
    );
    let add = flow.add("add", |count: &mut Count| count.n += 1);
    flow.start(sleep);
    flow.route(sleep >> add);
    flow.build().unwrap()
}

async fn open(folder: &Folder, clock: &Clock, ledger: &Ledger) -> Runs<Count> {
    clock.options().open(folder.store()).await.unwrap().runs(hours(ledger)).await.unwrap()
}

#[tokio::test]
async fn a_sleeping_run_wakes_when_its_time_comes_and_not_before() {
    let (folder, ledger, clock) = (Folder::new(), Ledger::default(), Clock::new());
    let runs = open(&folder, &clock, &ledger).await;
    let (one, two) = (runs.start("1", Count::to(1)).await.unwrap(), runs.start("2", Count::to(2)).await.unwrap());
    assert_eq!((one.settled().await.unwrap(), two.settled().await.unwrap()), (Status::Sleeping, Status::Sleeping));
    assert_eq!(two.info().await.unwrap().wake_at, Some(clock.now() + 2 * HOUR));

    clock.advance(HOUR - Duration::from_millis(1));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(one.info().await.unwrap().status, Status::Sleeping);
    clock.advance(Duration::from_millis(1));
    soon("one wakes", one.finished()).await.unwrap().ended().unwrap();

    assert_eq!(two.info().await.unwrap().status, Status::Sleeping);
    clock.advance(HOUR);
    soon("two wakes", two.finished()).await.unwrap().ended().unwrap();
    assert_eq!(ledger.len(), 2, "the time is asked for once");
}

#[tokio::test]
async fn a_sleep_does_not_begin_again_after_a_restart() {
    let (folder, ledger, clock) = (Folder::new(), Ledger::default(), Clock::new());
    let runs = open(&folder, &clock, &ledger).await;
    let run = runs.start("r", Count::to(2)).await.unwrap();
    run.settled().await.unwrap();
    let wakes = run.info().await.unwrap().wake_at;
    runs.store().close().await;

    clock.advance(HOUR);
    let runs = open(&folder, &clock, &ledger).await;
    let run = runs.get("r").await.unwrap();
    assert!(runs.resume_all().await.unwrap().runs.is_empty(), "who sleeps is not woken by that");
    assert_eq!(run.info().await.unwrap().wake_at, wakes);
    clock.advance(HOUR);

    assert_eq!(soon("it wakes", run.finished()).await.unwrap().ended().unwrap().state.n, 1);
    assert_eq!(ledger.len(), 1);
    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 3)]);
}

#[tokio::test]
async fn a_run_whose_time_came_while_nobody_drove_it_wakes_at_the_next_start() {
    let (folder, ledger, clock) = (Folder::new(), Ledger::default(), Clock::new());
    let runs = open(&folder, &clock, &ledger).await;
    runs.start("r", Count::to(2)).await.unwrap().settled().await.unwrap();
    runs.store().close().await;

    clock.advance(100 * HOUR);
    let runs = open(&folder, &clock, &ledger).await;

    soon("it wakes", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();
}

#[tokio::test]
async fn a_short_sleep_is_waited_for_in_place() {
    let (folder, clock) = (Folder::new(), Clock::new());
    let mut flow = AsyncFlow::builder("short");
    let sleep = flow.add("sleep", Sleep::new(Duration::from_millis(20)));
    let add = flow.add("add", |count: &mut Count| count.n += 1);
    flow.start(sleep);
    flow.route(sleep >> add);
    let runs = clock.options().open(folder.store()).await.unwrap().runs(flow.build().unwrap()).await.unwrap();

    let run = runs.start("r", Count::to(1)).await.unwrap();

    assert_eq!(soon("the end", run.settled()).await.unwrap(), Status::Ended);
}

/// Fails twice, with two hours between attempts.
fn failing(ledger: &Ledger) -> AsyncFlow<Count> {
    let ledger = ledger.clone();
    let mut flow = AsyncFlow::builder("failing");
    let node = work(
        move |cx| {
            ledger.add(format!("{} {}", cx.attempt(), key(&cx)));
            let attempt = cx.attempt();
            async move { if attempt < 2 { Err(failure("not yet")) } else { Ok(5) } }
        },
        |count: &mut Count, five| {
            count.n = five as u32;
            Action::from("done")
        },
    );
    let node = flow.add("node", node.retry(Retry::attempts(4).fixed(2 * HOUR)));
    flow.start(node);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_long_wait_between_attempts_goes_on_after_a_restart_and_attempts_count_on() {
    let (folder, ledger, clock) = (Folder::new(), Ledger::default(), Clock::new());
    for attempt in 0..3 {
        let store = clock.options().open(folder.store()).await.unwrap();
        let runs = store.runs(failing(&ledger)).await.unwrap();
        let run = runs.start("r", Count::default()).await.unwrap();
        if attempt < 2 {
            // The wait is on disk.
            let look = rusqlite::Connection::open(folder.store()).unwrap();
            let kept =
                || look.query_row("SELECT attempt, wake_at FROM items", [], |row| Ok((row.get(0)?, row.get(1)?)));
            until("the wait", async || {
                kept().is_ok_and(|kept: (u32, i64)| kept.0 == attempt + 1 && kept.1 > millis(clock.now()))
            })
            .await;
        } else {
            assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 5);
            assert_eq!(run.info().await.unwrap().step, 1);
        }
        store.close().await;
        clock.advance(2 * HOUR);
    }

    assert_eq!(ledger.take(), ["0 r:0:node", "1 r:0:node", "2 r:0:node"]);
    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 2)]);
}

fn millis(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}

#[tokio::test]
async fn a_long_wait_of_an_item_goes_on_after_a_restart() {
    let (folder, ledger, clock) = (Folder::new(), Ledger::default(), Clock::new());
    let make = |ledger: &Ledger| -> AsyncFlow<Numbers> {
        let ledger = ledger.clone();
        let mut flow = AsyncFlow::builder("batch");
        let batch = items(move |cx| {
            let item = cx.item().unwrap();
            ledger.add(format!("{item}.{}", cx.attempt()));
            let fails = item % 2 == 1 && cx.attempt() == 0;
            async move { if fails { Err(failure("odd")) } else { Ok(item as u64) } }
        });
        let batch = flow.add("batch", batch.retry(Retry::attempts(2).fixed(HOUR)).parallel(8).journaled());
        flow.start(batch);
        flow.build().unwrap()
    };
    let store = clock.options().open(folder.store()).await.unwrap();
    store.runs(make(&ledger)).await.unwrap().start("r", numbers(6)).await.unwrap();
    until("all are kept", async || rows(&folder.store()).contains(&("items", 6))).await;
    store.close().await;
    assert_eq!(ledger.take().len(), 6);

    clock.advance(HOUR);
    let runs = clock.options().open(folder.store()).await.unwrap().runs(make(&ledger)).await.unwrap();
    runs.resume_all().await.unwrap();
    let ended = soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    let mut again = ledger.take();
    again.sort();
    assert_eq!(again, ["1.1", "3.1", "5.1"]);
    assert_eq!(ended.state.doubled, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_wait_that_is_shorter_than_keep_waits_is_not_kept() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let mut flow = AsyncFlow::builder("short");
    let into = ledger.clone();
    let node = work(
        move |cx| {
            into.add(cx.attempt().to_string());
            let attempt = cx.attempt();
            async move { if attempt == 0 { Err(failure("once")) } else { Ok(1) } }
        },
        |_: &mut Count, _| Action::from("done"),
    );
    let node = flow.add("node", node.retry(Retry::attempts(2).fixed(Duration::from_millis(200))));
    flow.start(node);
    let waits = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&waits);
    let store = StoreOptions::new().keep_waits(Duration::from_secs(1)).on_write(move |point| {
        *seen.lock().unwrap() += usize::from(point.job == "wait");
    });
    let runs = store.open(folder.store()).await.unwrap().runs(flow.build().unwrap()).await.unwrap();

    soon("the end", runs.start("r", Count::default()).await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!((*waits.lock().unwrap(), ledger.take()), (0, vec!["0".to_owned(), "1".to_owned()]));
}
