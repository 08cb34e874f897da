//! Questions that expire: an answer or the time, whichever is first, also after a restart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, Ask, AsyncFlow, Result};
use flowstone_durable::{
    AnswerError, FlowOptions, Question, Requests, Run, Runs, Status, Store, StoreOptions, WrongStatus,
};
use serde::{Deserialize, Serialize};

use crate::common::{Folder, soon, until};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Said {
    /// For how long the question stands; for ever if zero.
    stands: Duration,
    silent: bool,
    asked: u32,
    said: Vec<String>,
}

struct AskName;

impl Ask<Said> for AskName {
    type Question = String;
    type Answer = String;
    type Action = Action;

    fn ask(&self, _: &Said) -> Result<String> {
        Ok("who?".to_owned())
    }

    fn expires(&self, said: &Said) -> Option<Duration> {
        Some(said.stands).filter(|stands| !stands.is_zero())
    }

    fn expired(&self, said: &mut Said) -> Result<Action> {
        if said.silent {
            return Err(flowstone_core::NodeError::terminal("nobody"));
        }
        said.said.push("nobody".into());
        Ok("late".into())
    }

    fn post(&self, said: &mut Said, answer: String) -> Result<Action> {
        said.said.push(answer);
        Ok("done".into())
    }
}

fn asking(name: &str) -> AsyncFlow<Said> {
    let mut flow = AsyncFlow::builder("names");
    let ask = flow.add(name, AskName);
    let late = flow.add("late", |said: &mut Said| said.said.push("too late".into()));
    flow.start(ask);
    flow.route(ask - "late" >> late);
    flow.route(ask - "done" >> flowstone_core::END);
    flow.build().unwrap()
}

/// The store's clock, by how many minutes it is ahead of the system's.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn set(&self, minutes: i64) {
        self.0.store(minutes, SeqCst);
    }

    async fn store(&self, folder: &Folder) -> Store {
        let clock = self.clone();
        let now = move || {
            let minutes = clock.0.load(SeqCst);
            let by = Duration::from_mins(minutes.unsigned_abs());
            if minutes < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
        };
        StoreOptions::new().clock(now).open(folder.store()).await.unwrap()
    }
}

async fn asked(folder: &Folder, clock: &Clock) -> (Runs<Said>, Run<Said>) {
    asked_for(folder, clock, Duration::from_mins(10)).await
}

async fn asked_for(folder: &Folder, clock: &Clock, stands: Duration) -> (Runs<Said>, Run<Said>) {
    let runs = clock.store(folder).await.runs(asking("ask")).await.unwrap();
    let run = runs.start("r", Said { stands, ..Said::default() }).await.unwrap();
    assert_eq!(soon("the question", run.settled()).await.unwrap(), Status::Paused);
    (runs, run)
}

async fn question(run: &Run<Said>) -> Question {
    run.questions().await.unwrap().remove(0)
}

#[tokio::test]
async fn a_question_expires_when_its_time_is_over_and_an_answer_is_too_late() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let (_runs, run) = asked(&folder, &clock).await;
    let known = question(&run).await;
    assert_eq!(
        known.expires_at,
        Some(known.asked_at + Duration::from_mins(10)).map(|at| at.min(known.expires_at.unwrap()))
    );
    assert_eq!(run.info().await.unwrap().wake_at, known.expires_at);
    assert!(known.is_open());

    clock.set(11);
    let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();

    assert_eq!(ended.state.said, ["nobody", "too late"]);
    let steps = run.steps(1, 1).await.unwrap();
    assert_eq!(steps[0].action.as_ref().unwrap().as_str(), "late");
    let question = question(&run).await;
    assert!(!question.is_open() && question.expired_at.is_some() && question.answer.is_none());
    let late = run.answer("ask", "Ada").await.unwrap_err();
    assert!(matches!(late, AnswerError::Expired { .. }), "{late:?}");
    let beside = Requests::open(folder.store()).unwrap().answer("r", "ask", "Ada").unwrap_err();
    assert!(matches!(beside, AnswerError::Expired { .. }), "{beside:?}");
}

#[tokio::test]
async fn an_answer_before_the_time_is_over_wins() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let (_runs, run) = asked(&folder, &clock).await;

    run.answer("ask", "Ada").await.unwrap();
    clock.set(11);

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["Ada"]);
    assert_eq!(question(&run).await.expired_at, None);
}

#[tokio::test]
async fn an_answer_after_the_time_is_refused_also_while_nobody_drives_the_store() {
    let (folder, clock) = (Folder::new(), Clock::default());
    // The process beside goes by the system's clock.
    clock.set(-20);
    let (runs, _) = asked(&folder, &clock).await;
    runs.store().close().await;

    let late = Requests::open(folder.store()).unwrap().answer("r", "ask", "Ada").unwrap_err();
    assert!(matches!(late, AnswerError::Expired { .. }), "{late:?}");

    clock.set(0);
    let runs = clock.store(&folder).await.runs(asking("ask")).await.unwrap();
    let run = runs.get("r").await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["nobody", "too late"]);
}

#[tokio::test]
async fn a_question_expires_after_a_restart_and_under_another_name() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let (runs, _) = asked(&folder, &clock).await;
    runs.store().close().await;

    let store = clock.store(&folder).await;
    let runs = store.runs_with(asking("who"), FlowOptions::new().rename("ask", "who")).await.unwrap();
    let run = runs.get("r").await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Paused);
    clock.set(11);

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["nobody", "too late"]);
}

#[tokio::test]
async fn a_question_without_a_time_stands_for_ever() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let runs = clock.store(&folder).await.runs(asking("ask")).await.unwrap();
    let run = runs.start("r", Said::default()).await.unwrap();
    soon("the question", run.settled()).await.unwrap();

    clock.set(60 * 24 * 365 * 50);
    assert_eq!((question(&run).await.expires_at, run.info().await.unwrap().wake_at), (None, None));
    run.answer("ask", "Ada").await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["Ada"]);
}

#[tokio::test]
async fn an_answer_that_is_refused_leaves_the_question_with_its_time() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let (_runs, run) = asked(&folder, &clock).await;

    Requests::open(folder.store()).unwrap().answer("r", "ask", 7).unwrap();
    until("it is refused", async || question(&run).await.refused.is_some()).await;
    soon("it asks again", run.settled()).await.unwrap();
    assert!(run.info().await.unwrap().wake_at.is_some());
    clock.set(11);

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["nobody", "too late"]);
}

#[tokio::test]
async fn a_node_that_fails_for_it_asks_once_more_when_it_is_tried_again() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let runs = clock.store(&folder).await.runs(asking("ask")).await.unwrap();
    let run = runs.start("r", Said { stands: Duration::from_mins(10), silent: true, ..Said::default() }).await.unwrap();
    soon("the question", run.settled()).await.unwrap();
    clock.set(11);
    let error = soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();
    assert!(error.to_string().contains("nobody"), "{error}");

    run.retry_failed().await.unwrap();
    assert_eq!(soon("it asks again", run.settled()).await.unwrap(), Status::Paused);
    let again = question(&run).await;
    assert!(again.is_open());
    run.answer("ask", "Ada").await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["Ada"]);
}

#[tokio::test]
async fn a_cancelled_run_does_not_expire() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let (_runs, run) = asked(&folder, &clock).await;

    run.cancel().await.unwrap();
    clock.set(11);
    let late = run.answer("ask", "Ada").await.unwrap_err();

    assert!(
        matches!(
            late,
            AnswerError::Expired { .. } | AnswerError::NotAsking { .. } | AnswerError::WrongStatus(WrongStatus { .. })
        ),
        "{late:?}"
    );
    assert_eq!(run.info().await.unwrap().status, Status::Cancelled);
    assert_eq!(run.info().await.unwrap().wake_at, None);
}

const YEAR: i64 = 365 * 24 * 60;

/// Opens the store again, as the next process does.
async fn again(folder: &Folder, clock: &Clock) -> Run<Said> {
    clock.store(folder).await.runs(asking("ask")).await.unwrap().get("r").await.unwrap()
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_question_stand_longer() {
    for restarts in [false, true] {
        let (folder, clock) = (Folder::new(), Clock::default());
        let (runs, mut run) = asked_for(&folder, &clock, Duration::from_millis(1500)).await;

        clock.set(-YEAR);
        if restarts {
            runs.store().close().await;
            run = again(&folder, &clock).await;
        }

        assert_eq!(
            soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said,
            ["nobody", "too late"],
            "{restarts}"
        );
        let late = run.answer("ask", "Ada").await.unwrap_err();
        assert!(matches!(late, AnswerError::Expired { .. }), "{late:?}");
    }
}

#[tokio::test]
async fn the_time_that_a_store_is_driven_counts_over_restarts() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let (runs, _) = asked_for(&folder, &clock, Duration::from_secs(3600)).await;
    let owner = || rusqlite::Connection::open(folder.store()).unwrap();
    let ticks = || owner().query_row("SELECT ticks FROM owner", [], |row| row.get::<_, i64>(0)).unwrap();
    let asked = ticks();
    tokio::time::sleep(Duration::from_millis(20)).await;
    runs.store().close().await;
    assert!(ticks() >= asked + 20, "closing notes it");

    // As if it had been driven for 59 minutes and 59 seconds since.
    owner().execute("UPDATE owner SET ticks = ?1", [asked + 3_599_000]).unwrap();
    clock.set(-YEAR);
    let run = again(&folder, &clock).await;

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["nobody", "too late"]);
}

#[tokio::test]
async fn a_clock_that_is_set_back_and_then_right_is_believed() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let (runs, _) = asked(&folder, &clock).await;
    runs.store().close().await;
    clock.set(-YEAR);
    let run = again(&folder, &clock).await;
    assert_eq!(run.settled().await.unwrap(), Status::Paused);
    assert!(question(&run).await.is_open());

    clock.set(11);

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["nobody", "too late"]);
}

#[tokio::test]
async fn a_clock_that_is_set_forward_ends_questions() {
    for restarts in [false, true] {
        let (folder, clock) = (Folder::new(), Clock::default());
        let (runs, mut run) = asked(&folder, &clock).await;

        if restarts {
            runs.store().close().await;
        }
        clock.set(YEAR);
        if restarts {
            run = again(&folder, &clock).await;
        }

        assert_eq!(
            soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said,
            ["nobody", "too late"],
            "{restarts}"
        );
    }
}

#[tokio::test]
async fn a_question_may_be_answered_by_a_clock_that_was_set_back() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let (_runs, run) = asked(&folder, &clock).await;

    clock.set(-YEAR);
    run.answer("ask", "Ada").await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["Ada"]);
}

#[tokio::test]
async fn an_answer_that_is_refused_gives_the_question_no_more_time_by_a_clock_that_is_set_back() {
    let (folder, clock) = (Folder::new(), Clock::default());
    let (_runs, run) = asked_for(&folder, &clock, Duration::from_secs(4)).await;

    Requests::open(folder.store()).unwrap().answer("r", "ask", 7).unwrap();
    until("it is refused", async || question(&run).await.refused.is_some()).await;
    clock.set(-YEAR);

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.said, ["nobody", "too late"]);
}
