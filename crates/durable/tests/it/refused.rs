//! Runs that their flow cannot take as it is now: nothing of them is changed, why is seen, and the older program goes
//! on.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, Ask, AsyncFlow, Flow, Result, Sleep};
use flowstone_durable::{
    AnswerError, ChangeError, DriveError, Error, FlowOptions, ReadError, Reader, Requests, RunInfo, Runs, Status,
    Store, StoreOptions,
};
use serde_json::{Value, json};

use crate::common::{Count, Folder, Gate, Ledger, failure, gated, soon, until, work};

const HOUR: Duration = Duration::from_secs(3600);

/// A clock that is set by hand.
#[derive(Clone)]
struct Clock(Arc<Mutex<SystemTime>>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(SystemTime::now())))
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    async fn open(&self, folder: &Folder) -> Store {
        let clock = self.clone();
        StoreOptions::new().clock(move || *clock.0.lock().unwrap()).open(folder.store()).await.unwrap()
    }
}

struct Continue;

impl Ask<Count> for Continue {
    type Question = &'static str;
    type Answer = bool;
    type Action = ();

    fn ask(&self, _: &Count) -> Result<&'static str> {
        Ok("go on?")
    }

    fn post(&self, count: &mut Count, _: bool) -> Result<()> {
        count.n += 1;
        Ok(())
    }
}

/// Which node a flow stands at.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Sleep,
    Ask,
    Failure,
}

/// Counts, then stands at a node of this name, then counts.
fn flow(at: At, node: &str) -> AsyncFlow<Count> {
    let mut flow = AsyncFlow::builder("parks");
    let first = flow.add("first", |count: &mut Count| count.n += 1);
    let last = flow.add("last", |count: &mut Count| count.n += 10);
    flow.start(first);
    match at {
        At::Sleep => {
            let node = flow.add(node, Sleep::new(HOUR));
            flow.route(first >> node >> last);
        }
        At::Ask => {
            let node = flow.add(node, Continue);
            flow.route(first >> node >> last);
        }
        At::Failure => {
            let fails = node == "node";
            let work = work(
                move |_| async move { if fails { Err(failure("down")) } else { Ok(0) } },
                |_: &mut Count, _| Action::from("done"),
            );
            let node = flow.add(node, work);
            flow.route(first >> node);
            flow.route(node - "done" >> last);
        }
    }
    flow.build().unwrap()
}

async fn leave(folder: &Folder, clock: &Clock, at: At, ids: &[&str]) {
    let store = clock.open(folder).await;
    let runs = store.runs(flow(at, "node")).await.unwrap();
    for id in ids {
        runs.start(*id, Count::default()).await.unwrap().settled().await.unwrap();
    }
    store.close().await;
}

fn info(folder: &Folder, id: &str) -> RunInfo {
    Reader::open(folder.store()).unwrap().run(id).unwrap()
}

/// As it was, but that it says why it cannot go on.
fn assert_refused(folder: &Folder, before: &RunInfo) {
    let mut now = info(folder, before.id.as_str());
    let why = now.refused.take().expect("it says why");
    assert!(why.contains("no node `node`"), "{why}");
    assert_eq!(now, *before);
}

/// Returns what refuses a run, behind the error of an operation.
fn driving(error: impl Into<Error>) -> DriveError {
    match error.into() {
        Error::Answer(AnswerError::Drive(error)) | Error::Change(ChangeError::Drive(error)) => error,
        Error::Answer(AnswerError::Read(error)) | Error::Change(ChangeError::Read(error)) => error.into(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_sleeper_that_comes_due_under_an_unfit_program_sleeps_on_and_wakes_under_the_older_one() {
    let (folder, clock) = (Folder::new(), Clock::new());
    leave(&folder, &clock, At::Sleep, &["r"]).await;
    let before = info(&folder, "r");
    clock.advance(2 * HOUR);

    let store = clock.open(&folder).await;
    let runs = store.runs(flow(At::Sleep, "other")).await.unwrap();
    let waits = runs.get("r").await.unwrap().finished().await.unwrap_err();

    assert!(matches!(waits, DriveError::Restore { .. }), "{waits:?}");
    until("it says why", async || info(&folder, "r").refused.is_some()).await;
    assert_refused(&folder, &before);
    store.close().await;

    let store = clock.open(&folder).await;
    let runs = store.runs(flow(At::Sleep, "node")).await.unwrap();
    let run = runs.get("r").await.unwrap();
    assert_eq!(soon("it wakes", run.finished()).await.unwrap().ended().unwrap().state.n, 11);
    assert_eq!(run.info().await.unwrap().refused, None);
}

#[tokio::test]
async fn a_flow_that_is_registered_again_takes_up_what_was_refused() {
    let (folder, clock) = (Folder::new(), Clock::new());
    for at in [At::Sleep, At::Ask] {
        let id = if at == At::Sleep { "sleeps" } else { "asks" };
        leave(&folder, &clock, at, &[id]).await;
        clock.advance(2 * HOUR);
        if at == At::Ask {
            Requests::open(folder.store()).unwrap().answer(id, "node", true).unwrap();
        }
        let store = clock.open(&folder).await;
        store.runs(flow(at, "other")).await.unwrap();
        until("it says why", async || info(&folder, id).refused.is_some()).await;

        let runs = store.runs_with(flow(at, "other"), FlowOptions::new().rename("node", "other")).await.unwrap();
        soon("it goes on", runs.get(id).await.unwrap().finished()).await.unwrap().ended().unwrap();

        assert_eq!(info(&folder, id).refused, None);
        store.close().await;
    }
}

#[tokio::test]
async fn refused_sleepers_are_not_tried_again_and_again_and_hide_no_others() {
    const REFUSED: usize = 1100;

    let (folder, clock, tried) = (Folder::new(), Clock::new(), Arc::new(AtomicUsize::new(0)));
    let ids: Vec<String> = (0..REFUSED).map(|n| format!("old {n}")).collect();
    {
        let store = clock.open(&folder).await;
        let runs = store.runs(flow(At::Sleep, "node")).await.unwrap();
        for id in &ids {
            runs.start(&**id, Count::default()).await.unwrap();
        }
        let asleep = || Reader::open(folder.store()).unwrap().count().unwrap();
        until("they sleep", async || asleep() == [(Status::Sleeping, REFUSED as u64)]).await;
        store.close().await;
    }
    clock.advance(2 * HOUR);

    let store = clock.open(&folder).await;
    let count = Arc::clone(&tried);
    let options = FlowOptions::new().version(1, move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Err("no way".into())
    });
    let runs = store.runs_with(flow(At::Sleep, "node"), options).await.unwrap();
    // Others come due behind them, again and again: each is a look at who is due.
    for n in 0..5 {
        let run = runs.start(format!("new {n}"), Count::default()).await.unwrap();
        run.settled().await.unwrap();
        clock.advance(2 * HOUR);
        soon("it wakes", run.finished()).await.unwrap().ended().unwrap();
    }

    assert_eq!(tried.load(Ordering::Relaxed), REFUSED);
    let refused = |id: &String| info(&folder, id).refused.is_some_and(|why| why.ends_with("no way"));
    assert!(ids.iter().step_by(100).all(refused));
}

#[tokio::test]
async fn an_answer_to_a_run_that_cannot_go_on_is_refused_and_the_question_waits() {
    let (folder, clock) = (Folder::new(), Clock::new());
    leave(&folder, &clock, At::Ask, &["r"]).await;
    let before = info(&folder, "r");

    let store = clock.open(&folder).await;
    let runs = store.runs(flow(At::Ask, "other")).await.unwrap();
    let errors =
        [runs.answer("r", "node", true).await.unwrap_err(), store.answer("r", "node", true).await.unwrap_err()];

    assert!(errors.iter().all(|error| matches!(error, AnswerError::Drive(DriveError::Restore { .. }))), "{errors:?}");
    assert_refused(&folder, &before);
    assert_eq!(runs.get("r").await.unwrap().questions().await.unwrap()[0].answer, None);
    store.close().await;

    let runs = clock.open(&folder).await.runs(flow(At::Ask, "node")).await.unwrap();
    runs.answer("r", "node", true).await.unwrap();
    assert_eq!(soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap().state.n, 12);
}

#[tokio::test]
async fn an_answer_from_beside_is_kept_for_a_program_that_can_go_on() {
    let (folder, clock) = (Folder::new(), Clock::new());
    leave(&folder, &clock, At::Ask, &["r"]).await;
    let before = info(&folder, "r");
    Requests::open(folder.store()).unwrap().answer("r", "node", true).unwrap();

    let store = clock.open(&folder).await;
    store.runs(flow(At::Ask, "other")).await.unwrap();
    until("it says why", async || info(&folder, "r").refused.is_some()).await;
    let again = Requests::open(folder.store()).unwrap().answer("r", "node", false).unwrap_err();
    let resumed = store.resume_all().await.unwrap();

    assert_refused(&folder, &before);
    assert!(matches!(again, AnswerError::AlreadyAnswered { .. }), "{again:?}");
    assert_eq!(resumed.refused.len(), 1);
    store.close().await;

    let runs = clock.open(&folder).await.runs(flow(At::Ask, "node")).await.unwrap();
    assert_eq!(soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap().state.n, 12);
}

#[tokio::test]
async fn a_failed_run_that_cannot_go_on_stays_failed() {
    let (folder, clock) = (Folder::new(), Clock::new());
    leave(&folder, &clock, At::Failure, &["r"]).await;
    let before = info(&folder, "r");
    assert_eq!(before.status, Status::Failed);

    let store = clock.open(&folder).await;
    let runs = store.runs(flow(At::Failure, "other")).await.unwrap();
    let error = runs.retry_failed("r").await.unwrap_err();
    assert!(matches!(error, ChangeError::Drive(DriveError::Restore { .. })), "{error:?}");
    assert_refused(&folder, &before);
    Requests::open(folder.store()).unwrap().retry_failed("r").unwrap();
    until("it is as it was", async || info(&folder, "r").status == Status::Failed).await;
    assert_refused(&folder, &before);

    let runs = store.runs_with(flow(At::Failure, "other"), FlowOptions::new().rename("node", "other")).await.unwrap();
    Requests::open(folder.store()).unwrap().retry_failed("r").unwrap();
    soon("the end", async {
        until("it goes on", async || info(&folder, "r").status == Status::Ended).await;
        runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap()
    })
    .await;
    assert_eq!(info(&folder, "r").refused, None);
}

#[tokio::test]
async fn parked_runs_whose_node_is_gone_are_reported_at_the_start() {
    let (folder, clock) = (Folder::new(), Clock::new());
    leave(&folder, &clock, At::Ask, &["asks"]).await;
    leave(&folder, &clock, At::Sleep, &["sleeps"]).await;
    let before = ["asks", "sleeps"].map(|id| info(&folder, id));

    let store = clock.open(&folder).await;
    store.runs(flow(At::Ask, "other")).await.unwrap();
    let resumed = store.resume_all().await.unwrap();

    assert!(resumed.runs.is_empty() && resumed.unregistered.is_empty());
    assert_eq!(resumed.refused.len(), 2);
    before.iter().for_each(|before| assert_refused(&folder, before));
    // Once a program has a word for it, nothing is refused any more.
    store.runs_with(flow(At::Sleep, "other"), FlowOptions::new().rename("node", "other")).await.unwrap();
    assert_eq!(["asks", "sleeps"].map(|id| info(&folder, id).refused), [None, None]);
    assert!(store.resume_all().await.unwrap().refused.is_empty());
    clock.advance(2 * HOUR);
    until("it wakes", async || info(&folder, "sleeps").status == Status::Ended).await;
}

#[tokio::test]
async fn a_migrate_that_panics_is_a_typed_error() {
    let (folder, clock) = (Folder::new(), Clock::new());
    leave(&folder, &clock, At::Ask, &["asks"]).await;
    leave(&folder, &clock, At::Failure, &["failed"]).await;
    let store = clock.open(&folder).await;
    let options = FlowOptions::new().version(1, |_, _| panic!("no way"));
    let runs = store.runs_with(flow(At::Ask, "node"), options).await.unwrap();

    let errors = [
        DriveError::from(runs.state("asks").await.unwrap_err()),
        driving(runs.answer("asks", "node", true).await.unwrap_err()),
        driving(runs.retry_failed("failed").await.unwrap_err()),
        driving(runs.fork("asks", 1, "fork", |_| ()).await.unwrap_err()),
        store.resume_all().await.unwrap().refused.remove(0),
    ];

    assert!(
        errors.iter().all(|error| matches!(error, DriveError::Read(ReadError::Migrate { found: 0, wanted: 1, .. }))),
        "{errors:?}"
    );
    assert_eq!((info(&folder, "asks").status, info(&folder, "failed").status), (Status::Paused, Status::Failed));
    assert!(Reader::open(folder.store()).unwrap().run("fork").is_err());
}

#[tokio::test]
async fn a_fork_whose_edit_does_not_fit_begins_nothing() {
    let (folder, clock) = (Folder::new(), Clock::new());
    leave(&folder, &clock, At::Ask, &["r"]).await;
    let runs = clock.open(&folder).await.runs(flow(At::Ask, "node")).await.unwrap();

    let unfit = runs.fork("r", 1, "fork", |state| state["n"] = "many".into()).await.unwrap_err();
    assert!(
        matches!(&unfit, ChangeError::Read(ReadError::Decode { run, path, .. }) if *run == "fork" && path == "n"),
        "{unfit:?}"
    );
    let nothing = runs.fork("r", 1, "fork", |state| *state = Value::Null).await.unwrap_err();
    assert!(matches!(nothing, ChangeError::Read(ReadError::Decode { .. })), "{nothing:?}");
    assert!(Reader::open(folder.store()).unwrap().run("fork").is_err());

    let fork = runs.fork("r", 1, "fork", |state| state["n"] = json!(5)).await.unwrap();
    assert_eq!(fork.settled().await.unwrap(), Status::Paused);
    assert_eq!(fork.state().await.unwrap().n, 5);
}

#[tokio::test]
async fn a_fork_of_a_step_whose_node_is_gone_begins_nothing() {
    let (folder, clock) = (Folder::new(), Clock::new());
    leave(&folder, &clock, At::Ask, &["r"]).await;
    let runs = clock.open(&folder).await.runs(flow(At::Ask, "other")).await.unwrap();

    let gone = runs.fork("r", 1, "fork", |_| ()).await.unwrap_err();

    assert!(matches!(gone, ChangeError::Drive(DriveError::Restore { .. })), "{gone:?}");
    assert!(Reader::open(folder.store()).unwrap().run("fork").is_err());
}

/// A flow without a runtime is driven as well.
#[tokio::test]
async fn a_run_that_stands_in_a_visit_is_refused_once_and_goes_on_under_the_older_program() {
    let folder = Folder::new();
    let make = |name: &str| {
        let mut flow = Flow::builder("plain");
        let first = flow.add("first", |count: &mut Count| count.n += 1);
        let second = flow.add(name, |count: &mut Count| count.n += 1);
        flow.start(first);
        flow.route(first >> second);
        flow.build().unwrap()
    };
    let runs = Runs::open(folder.store(), make("second")).await.unwrap();
    runs.start("r", Count::default()).await.unwrap().finished().await.unwrap().ended().unwrap();
    runs.store().close().await;
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    db.execute_batch("DELETE FROM visits WHERE seq = 2; UPDATE runs SET status = 0, action = NULL").unwrap();
    drop(db);

    let runs = Runs::open(folder.store(), make("other")).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    soon("the refusal", run.finished()).await.unwrap_err();
    let refused = run.info().await.unwrap();
    assert_eq!((refused.status, refused.refused.is_some()), (Status::Running, true));
    runs.store().close().await;

    let runs = Runs::open(folder.store(), make("second")).await.unwrap();
    assert_eq!(runs.resume_all().await.unwrap().runs, ["r"]);
    assert_eq!(soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap().state.n, 2);
    assert_eq!(info(&folder, "r").refused, None);
}

#[tokio::test]
async fn a_run_that_is_refused_when_its_turn_comes_waits_again_under_a_flow_that_takes_it() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let one = || FlowOptions::new().concurrency(1);
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(gated(&ledger, &gate), one()).await.unwrap();
    runs.start("first", Count::to(2)).await.unwrap();
    until("the first works", async || ledger.len() == 1).await;
    runs.start("second", Count::to(2)).await.unwrap();
    store.close().await;
    // A program whose flow has no such node.
    let store = Store::open(folder.store()).await.unwrap();
    let mut other = AsyncFlow::builder("gated");
    let only = other.add("only", |count: &mut Count| count.n = 0);
    other.start(only);
    store.runs_with(other.build().unwrap(), one()).await.unwrap();
    store.resume_all().await.unwrap();
    until("both are refused", async || ["first", "second"].iter().all(|id| info(&folder, id).refused.is_some())).await;

    gate.open();
    let runs = store.runs_with(gated(&ledger, &gate), one()).await.unwrap();

    let second = runs.get("second").await.unwrap();
    assert_eq!(soon("the end", second.finished()).await.unwrap().ended().unwrap().state.n, 2);
    // One that was under way goes on when it is resumed, as ever.
    assert_eq!(info(&folder, "first").status, Status::Running);
}

#[tokio::test]
async fn whoever_waits_for_a_run_that_an_earlier_process_could_not_take_is_told_why() {
    let (folder, clock) = (Folder::new(), Clock::new());
    leave(&folder, &clock, At::Ask, &["r"]).await;
    let store = clock.open(&folder).await;
    store.runs(flow(At::Ask, "other")).await.unwrap();
    assert_eq!(store.resume_all().await.unwrap().refused.len(), 1);
    store.close().await;

    let store = clock.open(&folder).await;
    let runs = store.runs(flow(At::Ask, "other")).await.unwrap();
    let error = soon("the refusal", runs.get("r").await.unwrap().finished()).await.unwrap_err();

    assert!(matches!(error, DriveError::Restore { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeper_that_ends_while_the_store_is_looked_at_is_not_refused() {
    let hours = || {
        let mut flow = Flow::builder("hours");
        let sleep = flow.add("sleep", Sleep::by(|hours: &u32| HOUR * *hours));
        flow.start(sleep);
        flow.build().unwrap()
    };
    let (folder, clock) = (Folder::new(), Clock::new());
    let store = clock.open(&folder).await;
    let runs = store.runs(hours()).await.unwrap();
    for (id, hours) in [("long", 5), ("short", 1)] {
        runs.start(id, hours).await.unwrap().settled().await.unwrap();
    }
    store.close().await;

    // While the first is looked at, the second wakes and ends.
    let (now, path) = (clock.clone(), folder.store());
    let migrate = move |_, state: Value| {
        if state == 5 {
            now.advance(HOUR * 2);
            while Reader::open(&path)?.run("short")?.status != Status::Ended {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(state)
    };
    let store = clock.open(&folder).await;
    let runs = store.runs_with(hours(), FlowOptions::new().version(1, migrate)).await.unwrap();
    let resumed = soon("a look", store.resume_all()).await.unwrap();

    assert!(resumed.refused.is_empty(), "{:?}", resumed.refused);
    let short = runs.get("short").await.unwrap().info().await.unwrap();
    assert_eq!((short.status, short.refused), (Status::Ended, None));
}
