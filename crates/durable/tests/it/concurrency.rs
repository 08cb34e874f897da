//! Limits of how many runs are driven at once: the rest waits in the store, in order, and takes its turns.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, Ask, AsyncFlow, END, Result, Sleep};
use flowstone_durable::{AnswerError, FlowOptions, NotEnded, Requests, Runs, Status, Store, StoreOptions};

use crate::common::{Count, Folder, Gate, Invoice, Ledger, approving, counting, failure, gated, soon, until, work};

/// The number of runs in `exec`, and the most that were at once.
#[derive(Clone, Default)]
struct AtWork(Arc<(AtomicUsize, AtomicUsize)>);

impl AtWork {
    async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        struct Leaves<'a>(&'a AtomicUsize);

        impl Drop for Leaves<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }

        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        let _leaves = Leaves(&self.0.0);
        work.await
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// Sleeps for an hour, then works for a moment.
fn sleepers(ledger: &Ledger, at_work: &AtWork) -> AsyncFlow<Count> {
    let (ledger, at_work) = (ledger.clone(), at_work.clone());
    let mut flow = AsyncFlow::builder("sleepers");
    let sleep = flow.add("sleep", Sleep::new(Duration::from_secs(3600)));
    let exec = work(
        move |cx| {
            let (ledger, at_work) = (ledger.clone(), at_work.clone());
            async move {
                ledger.add(cx.run_id().to_string());
                at_work.during(tokio::time::sleep(Duration::from_millis(2))).await;
                Ok(1)
            }
        },
        |count: &mut Count, one| {
            count.n += one as u32;
            Action::from("done")
        },
    );
    let exec = flow.add("work", exec);
    flow.start(sleep);
    flow.route(sleep >> exec);
    flow.build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_thousand_sleepers_that_are_due_fifty_work_at_once_in_order() {
    const RUNS: usize = 3000;
    let (folder, ledger, at_work) = (Folder::new(), Ledger::default(), AtWork::default());
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let open = async |limit: Option<usize>| {
        let now = Arc::clone(&now);
        let store = StoreOptions::new().clock(move || *now.lock().unwrap()).open(folder.store()).await.unwrap();
        let options = limit.map_or(FlowOptions::new(), |limit| FlowOptions::new().concurrency(limit));
        store.runs_with(sleepers(&ledger, &at_work), options).await.unwrap()
    };
    let runs = open(None).await;
    for page in 0..RUNS / 500 {
        // Those of a page are due before those of the next.
        *now.lock().unwrap() += Duration::from_secs(1);
        let starts = (0..500).map(|n| {
            let runs = runs.clone();
            async move { runs.start(format!("{page}-{n}"), Count::default()).await.unwrap().settled().await.unwrap() }
        });
        assert!(futures_util::future::join_all(starts).await.iter().all(|status| *status == Status::Sleeping));
    }
    runs.store().close().await;

    *now.lock().unwrap() += Duration::from_secs(7200);
    let runs = open(Some(50)).await;
    until("a third of them", async || ledger.len() > RUNS / 3).await;
    runs.store().close().await;
    let runs = open(Some(50)).await;
    runs.resume_all().await.unwrap();
    until("all", async || {
        let reader = runs.store().reader().unwrap();
        reader.count().unwrap() == [(Status::Ended, RUNS as u64)]
    })
    .await;

    assert!((2..=50).contains(&at_work.most()), "{} at once", at_work.most());
    let order = ledger.take();
    for (place, id) in order.iter().enumerate() {
        let page: usize = id.split('-').next().unwrap().parse().unwrap();
        // Those that were under way at the restart are there twice.
        assert!(place + 200 >= page * 500 && place <= (page + 1) * 500 + 200, "{id} came as number {place}");
    }
}

#[tokio::test]
async fn a_start_beyond_the_limit_is_on_disk_and_waits_for_its_turn() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(gated(&ledger, &gate), FlowOptions::new().concurrency(2)).await.unwrap();

    for n in 0..5 {
        runs.start(format!("r{n}"), Count::to(2)).await.unwrap();
    }
    until("two are at work", async || ledger.len() == 2).await;
    tokio::time::sleep(Duration::from_millis(30)).await;

    assert_eq!(ledger.len(), 2);
    let info = async |id: &str| runs.get(id).await.unwrap().info().await.unwrap();
    assert_eq!((info("r0").await.queued_at, info("r1").await.queued_at), (None, None));
    let waits = info("r4").await;
    assert_eq!((waits.status, waits.step), (Status::Running, 0));
    assert!(waits.queued_at.is_some());
    // Another start of the same id, or a resume, is no way past those before it.
    runs.start("r4", Count::to(2)).await.unwrap();
    runs.get("r4").await.unwrap().resume();
    // One that waits can be cancelled.
    runs.cancel("r3").await.unwrap();
    assert_eq!((info("r3").await.status, info("r3").await.queued_at), (Status::Cancelled, None));
    gate.open_for(1);
    until("the next", async || ledger.count("waits") == 3).await;
    assert!(info("r4").await.queued_at.is_some());
    gate.open();
    for id in ["r0", "r1", "r2", "r4"] {
        assert_eq!(soon("the end", runs.get(id).await.unwrap().finished()).await.unwrap().ended().unwrap().state.n, 2);
    }
}

#[tokio::test]
async fn answers_retries_and_forks_wait_for_their_turn_too() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let (gate, at_work) = (Gate::closed(), AtWork::default());
    let store = StoreOptions::new().concurrency(1).open(folder.store()).await.unwrap();
    let (pass, seen) = (gate.clone(), at_work.clone());
    let mut flow = AsyncFlow::builder("fails");
    let begin = flow.add("begin", |_: &mut Count| ());
    let fail = flow.add(
        "fail",
        work(
            move |_| {
                let (pass, seen) = (pass.clone(), seen.clone());
                async move {
                    seen.during(pass.pass()).await;
                    Err(failure("no"))
                }
            },
            |_: &mut Count, _| Action::from("done"),
        ),
    );
    flow.start(begin);
    flow.route(begin >> fail);
    let fails = store.runs(flow.build().unwrap()).await.unwrap();
    let asks = store.runs(approving(&ledger)).await.unwrap();
    for id in ["a", "b"] {
        // A parked run takes no place.
        assert_eq!(asks.start(id, Invoice::default()).await.unwrap().settled().await.unwrap(), Status::Paused);
    }
    gate.open_for(1);
    assert_eq!(fails.start("f", Count::default()).await.unwrap().settled().await.unwrap(), Status::Failed);
    fails.start("holds", Count::default()).await.unwrap();
    until("it holds the place", async || at_work.0.0.load(Ordering::SeqCst) == 1).await;

    asks.answer("a", "ask", true).await.unwrap();
    let path = folder.store();
    let beside = move || Requests::open(path).unwrap().answer("b", "ask", true).unwrap();
    tokio::task::spawn_blocking(beside).await.unwrap();
    fails.retry_failed("f").await.unwrap();
    fails.fork("holds", 1, "forked", |_| ()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;

    assert_eq!((ledger.len(), at_work.most()), (0, 1));
    gate.open();
    for id in ["a", "b"] {
        assert!(soon("the end", asks.get(id).await.unwrap().finished()).await.unwrap().ended().unwrap().state.posted);
    }
    for id in ["f", "holds", "forked"] {
        let error = soon("the end", fails.get(id).await.unwrap().finished()).await.unwrap().ended().unwrap_err();
        assert!(matches!(error, NotEnded::Failed { .. }), "{error:?}");
    }
    assert_eq!(at_work.most(), 1);
}

#[tokio::test]
async fn resuming_many_under_a_limit_makes_tasks_for_few() {
    const RUNS: usize = 1500;
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let starts = (0..RUNS).map(|n| runs.start(format!("r{n}"), Count::to(2)));
    assert!(futures_util::future::join_all(starts).await.iter().all(Result::is_ok));
    until("all wait", async || ledger.len() == RUNS).await;
    runs.store().close().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();

    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(gated(&ledger, &gate), FlowOptions::new().concurrency(5)).await.unwrap();
    let resumed = store.resume_all().await.unwrap();
    until("five wait", async || ledger.len() == RUNS + 5).await;

    assert_eq!((resumed.runs.len(), resumed.waiting), (0, RUNS as u64));
    assert!(tasks() <= before + 5 + 10, "{} tasks", tasks() - before);
    gate.open();
    until("all end", async || store.reader().unwrap().count().unwrap() == [(Status::Ended, RUNS as u64)]).await;
    drop(runs);
}

#[tokio::test]
async fn under_the_limit_of_the_store_no_flow_keeps_another_from_its_turn() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let store = StoreOptions::new().concurrency(3).open(folder.store()).await.unwrap();
    let many = store.runs(gated(&ledger, &gate)).await.unwrap();
    let few = store.runs(counting(&Ledger::default())).await.unwrap();
    for n in 0..50 {
        many.start(format!("m{n}"), Count::to(2)).await.unwrap();
    }
    let run = few.start("few", Count::to(3)).await.unwrap();
    until("three are at work", async || ledger.len() == 3).await;

    gate.open_for(1);

    assert_eq!(soon("its turn", run.finished()).await.unwrap().ended().unwrap().state.n, 3);
    assert!(ledger.count("waits") <= 5);
    gate.open();
}

/// Asks for ten minutes.
struct AskTenMinutes;

impl Ask<Count> for AskTenMinutes {
    type Question = ();
    type Answer = bool;
    type Action = Action;

    fn ask(&self, _: &Count) -> Result<()> {
        Ok(())
    }

    fn expires(&self, _: &Count) -> Option<Duration> {
        Some(Duration::from_mins(10))
    }

    fn expired(&self, _: &mut Count) -> Result<Action> {
        Ok("late".into())
    }

    fn post(&self, _: &mut Count, _: bool) -> Result<Action> {
        Ok("done".into())
    }
}

/// Asks for ten minutes; when that has expired, leaves the id of the run, and passes the gate.
fn asking_for_ten_minutes(ledger: &Ledger, gate: &Gate) -> AsyncFlow<Count> {
    let (ledger, gate) = (ledger.clone(), gate.clone());
    let mut flow = AsyncFlow::builder("asking");
    let ask = flow.add("ask", AskTenMinutes);
    let late = work(
        move |cx| {
            let (ledger, gate) = (ledger.clone(), gate.clone());
            async move {
                ledger.add(cx.run_id().to_string());
                gate.pass().await;
                Ok(1)
            }
        },
        |count: &mut Count, one| {
            count.n += one as u32;
            Action::from("done")
        },
    );
    let late = flow.add("late", late);
    flow.start(ask);
    flow.route(ask - "late" >> late);
    flow.route(ask - "done" >> END);
    flow.build().unwrap()
}

#[tokio::test]
async fn runs_whose_questions_expire_beyond_the_limit_wait_for_their_turn() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&now);
    let store = StoreOptions::new().clock(move || *clock.lock().unwrap()).open(folder.store()).await.unwrap();
    let options = FlowOptions::new().concurrency(1);
    let runs = store.runs_with(asking_for_ten_minutes(&ledger, &gate), options).await.unwrap();
    for id in ["c", "b", "a"] {
        let run = runs.start(id, Count::default()).await.unwrap();
        assert_eq!(soon("the question", run.settled()).await.unwrap(), Status::Paused);
        *now.lock().unwrap() += Duration::from_secs(1);
    }

    *now.lock().unwrap() += Duration::from_mins(11);
    let info = async |id: &str| runs.get(id).await.unwrap().info().await.unwrap();
    until("two wait", async || info("a").await.queued_at.is_some() && info("b").await.queued_at.is_some()).await;
    until("one is at work", async || ledger.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;

    assert_eq!((info("a").await.status, ledger.len()), (Status::Running, 1));
    let questions = runs.get("a").await.unwrap().questions().await.unwrap();
    assert!(questions[0].expired_at.is_some() && !questions[0].is_open());
    let late = runs.answer("a", "ask", true).await.unwrap_err();
    assert!(matches!(late, AnswerError::Expired { .. }), "{late:?}");
    gate.open();
    for id in ["a", "b", "c"] {
        assert_eq!(soon("the end", runs.get(id).await.unwrap().finished()).await.unwrap().ended().unwrap().state.n, 1);
    }
    assert_eq!(ledger.take(), ["c", "b", "a"]);
}

/// Three invoices, each of which asks; the state is how many are posted.
fn batch(ledger: &Ledger) -> AsyncFlow<u32> {
    let fork = |_: &u32| (0..3).map(|amount| Invoice { amount, ..Invoice::default() }).collect();
    let join = |posted: &mut u32, invoices: Vec<Invoice>| {
        *posted = invoices.iter().filter(|invoice| invoice.posted).count() as u32;
    };
    let mut flow = AsyncFlow::builder("batch");
    let review = flow.add("review", approving(ledger).batch(fork, join).parallel(3).journaled());
    flow.start(review);
    flow.build().unwrap()
}

#[tokio::test]
async fn children_are_answered_while_their_run_waits_for_its_turn() {
    for restarts in [false, true] {
        let (folder, ledger, held, gate) = (Folder::new(), Ledger::default(), Ledger::default(), Gate::closed());
        let open = async || {
            let store = StoreOptions::new().concurrency(1).open(folder.store()).await.unwrap();
            let batches = store.runs(batch(&ledger)).await.unwrap();
            (store.runs(gated(&held, &gate)).await.unwrap(), batches)
        };
        let (holds, batches) = open().await;
        let run = batches.start("m", 0).await.unwrap();
        assert_eq!(soon("the questions", run.settled()).await.unwrap(), Status::Paused);
        holds.start("holds", Count::to(2)).await.unwrap();
        until("it holds the place", async || held.len() == 1).await;

        batches.answer("m", "review[2]/ask", true).await.unwrap();
        until("it waits", async || run.info().await.unwrap().queued_at.is_some()).await;
        let since = run.info().await.unwrap().queued_at;
        batches.answer("m", "review[0]/ask", true).await.unwrap();
        let path = folder.store();
        let beside = move || Requests::open(path).unwrap().answer("m", "review[1]/ask", true).unwrap();
        tokio::task::spawn_blocking(beside).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;

        let info = run.info().await.unwrap();
        assert_eq!((info.status, info.queued_at, ledger.len()), (Status::Running, since, 0));
        drop((run, info));
        let batches = if restarts {
            batches.store().close().await;
            drop((holds, batches));
            let (holds, batches) = open().await;
            // It waited before the other was resumed: it has its turn first.
            holds.store().resume_all().await.unwrap();
            until("the other is resumed", async || held.len() == 2).await;
            batches
        } else {
            batches
        };
        gate.open();
        let run = batches.get("m").await.unwrap();
        assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, 3);
        assert_eq!((run.info().await.unwrap().queued_at, ledger.len()), (None, 3));
    }
}

#[tokio::test]
async fn children_that_wake_belong_to_the_place_of_their_run() {
    let (folder, ledger, gate, at_work) = (Folder::new(), Ledger::default(), Gate::closed(), AtWork::default());
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&now);
    let store = StoreOptions::new().clock(move || *clock.lock().unwrap()).open(folder.store()).await.unwrap();
    let fork = |_: &u32| (1..=3).map(Count::to).collect();
    let join = |sum: &mut u32, counts: Vec<Count>| *sum = counts.iter().map(|count| count.n).sum();
    let mut flow = AsyncFlow::builder("batch");
    let all = flow.add("all", sleepers(&ledger, &at_work).batch(fork, join).parallel(3).journaled());
    flow.start(all);
    let batches = store.runs_with(flow.build().unwrap(), FlowOptions::new().concurrency(1)).await.unwrap();
    let holds = store.runs_with(gated(&Ledger::default(), &gate), FlowOptions::new().concurrency(0)).await.unwrap();
    for id in ["m", "n"] {
        let run = batches.start(id, 0).await.unwrap();
        assert_eq!(soon("it sleeps", run.settled()).await.unwrap(), Status::Sleeping);
    }
    let waits = holds.start("holds", Count::to(2)).await.unwrap();

    *now.lock().unwrap() += Duration::from_secs(7200);
    for id in ["m", "n"] {
        assert_eq!(soon("the end", batches.get(id).await.unwrap().finished()).await.unwrap().ended().unwrap().state, 3);
    }

    // Each child worked once, and no child was taken for a run of its own.
    assert_eq!(ledger.len(), 6);
    assert!(waits.info().await.unwrap().queued_at.is_some());
}
