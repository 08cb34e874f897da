//! Listeners hear of durable runs as a whole that they begin, go on and halt, each once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, Ask, AsyncFlow, END, Event, EventKind, Result};
use flowstone_durable::{FlowOptions, Requests, Run, Runs, Status, Store, StoreOptions};

use crate::common::{
    Count, Folder, Gate, Invoice, Ledger, Numbers, approving, counting, failure, gated, numbers, sleeping, soon, until,
    work,
};

/// Notes what is heard of runs as a whole.
fn noting(heard: &Ledger) -> FlowOptions {
    let heard = heard.clone();
    FlowOptions::new().listen(move |event: &Event| {
        let at = event.node.as_ref().map_or_else(String::new, |node| format!(" at {node}"));
        let said = match &event.kind {
            EventKind::RunStarted { resumed: false, flow } => format!("begins {flow}"),
            EventKind::RunStarted { resumed: true, flow } => format!("goes on with {flow}"),
            EventKind::Asked { question } => format!("a child asks {question}"),
            EventKind::Paused { question } => format!("asks {question}"),
            EventKind::Sleeping { .. } => "sleeps".to_owned(),
            EventKind::Expired => "expired".to_owned(),
            EventKind::Ended { action } => format!("ended with {action}"),
            EventKind::Failed { error, .. } => format!("failed: {error}"),
            _ => return,
        };
        heard.add(format!("{} {said}{at}", event.run));
    })
}

async fn opened<S>(folder: &Folder, flow: AsyncFlow<S>, heard: &Ledger) -> (Runs<S>, Store)
where
    S: flowstone_core::State + serde::Serialize + serde::de::DeserializeOwned,
{
    let store = Store::open(folder.store()).await.unwrap();
    (store.runs_with(flow, noting(heard)).await.unwrap(), store)
}

async fn is<S>(run: &Run<S>, status: Status)
where
    S: flowstone_core::State + serde::Serialize + serde::de::DeserializeOwned,
{
    assert_eq!(soon("its halt", run.settled()).await.unwrap(), status);
}

#[tokio::test]
async fn a_run_begins_and_ends_once() {
    let (folder, heard) = (Folder::new(), Ledger::default());
    let (runs, store) = opened(&folder, counting(&Ledger::default()), &heard).await;
    soon("the end", runs.start("r", Count::to(2)).await.unwrap().finished()).await.unwrap().ended().unwrap();
    store.close().await;

    let (runs, _store) = opened(&folder, counting(&Ledger::default()), &heard).await;
    runs.resume_all().await.unwrap();
    soon("the end", runs.start("r", Count::to(2)).await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(heard.take(), ["r begins count", "r ended with done"]);
}

#[tokio::test]
async fn a_run_that_is_left_and_goes_on_is_heard_to_do_so() {
    let (folder, passed, heard, gate) = (Folder::new(), Ledger::default(), Ledger::default(), Gate::closed());
    let (runs, store) = opened(&folder, gated(&passed, &gate), &heard).await;
    runs.start("r", Count::default()).await.unwrap();
    until("the gate", async || passed.len() > 0).await;
    store.close().await;
    gate.open();

    let (runs, _store) = opened(&folder, gated(&passed, &gate), &heard).await;
    runs.resume_all().await.unwrap();
    soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(heard.take(), ["r begins gated", "r goes on with gated", "r ended with done"]);
}

#[tokio::test]
async fn a_pause_is_heard_with_its_question_and_not_again_after_a_restart() {
    let (folder, heard) = (Folder::new(), Ledger::default());
    let (runs, store) = opened(&folder, approving(&Ledger::default()), &heard).await;
    is(&runs.start("r", Invoice { amount: 5, ..Invoice::default() }).await.unwrap(), Status::Paused).await;
    store.close().await;
    assert_eq!(heard.take(), ["r begins approve", "r asks \"post 5?\" at ask"]);

    let (runs, _store) = opened(&folder, approving(&Ledger::default()), &heard).await;
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    run.answer("ask", false).await.unwrap();
    soon("the end", run.finished()).await.unwrap().ended().unwrap();

    assert_eq!(heard.take(), ["r goes on with approve", "r ended with no"]);
}

#[tokio::test]
async fn a_sleep_is_heard_with_its_end() {
    let (folder, until) = (Folder::new(), Arc::new(AtomicI64::new(0)));
    let into = Arc::clone(&until);
    let options = FlowOptions::new().listen(move |event: &Event| {
        if let EventKind::Sleeping { until } = event.kind {
            let left = until.duration_since(SystemTime::now()).unwrap();
            into.store(i64::try_from(left.as_secs()).unwrap(), SeqCst);
        }
    });
    let runs = Store::open(folder.store()).await.unwrap().runs_with(sleeping(), options).await.unwrap();

    is(&runs.start("r", Count::default()).await.unwrap(), Status::Sleeping).await;

    assert!((3000..=3600).contains(&until.load(SeqCst)), "an hour, less what has passed");
}

#[tokio::test]
async fn a_failure_is_heard_each_time() {
    let (folder, heard) = (Folder::new(), Ledger::default());
    let mut flow = AsyncFlow::builder("fails");
    let node = flow.add("node", work(|_| async { Err(failure("broken")) }, |_: &mut Count, _| Action::from("done")));
    flow.start(node);
    flow.route(node - "done" >> END);
    let (runs, _store) = opened(&folder, flow.build().unwrap(), &heard).await;

    let run = runs.start("r", Count::default()).await.unwrap();
    is(&run, Status::Failed).await;
    run.retry_failed().await.unwrap();
    is(&run, Status::Failed).await;

    let heard = heard.take();
    assert_eq!([&heard[0], &heard[2]], ["r begins fails", "r goes on with fails"]);
    assert!(
        heard[1] == heard[3] && heard[1].starts_with("r failed: ") && heard[1].ends_with("broken at node"),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_run_that_is_cancelled_is_heard_once_driven_or_parked() {
    let (folder, passed, heard) = (Folder::new(), Ledger::default(), Ledger::default());
    let (runs, store) = opened(&folder, gated(&passed, &Gate::closed()), &heard).await;
    let run = runs.start("r", Count::default()).await.unwrap();
    until("the gate", async || passed.len() > 0).await;
    run.cancel().await.unwrap();
    let asking = store.runs_with(approving(&passed), noting(&heard)).await.unwrap();
    let parked = asking.start("p", Invoice::default()).await.unwrap();
    is(&parked, Status::Paused).await;
    parked.cancel().await.unwrap();
    parked.cancel().await.unwrap();

    let wanted = [
        "r begins gated",
        "r failed: run `r`: cancelled at node `wait` at wait",
        "p begins approve",
        "p asks \"post 0?\" at ask",
        "p failed: run `p`: cancelled at node `ask` at ask",
    ];
    assert_eq!(heard.take(), wanted);
}

#[tokio::test]
async fn a_driven_run_that_another_process_cancels_is_heard_once() {
    let (folder, passed, heard) = (Folder::new(), Ledger::default(), Ledger::default());
    let (runs, store) = opened(&folder, gated(&passed, &Gate::closed()), &heard).await;
    let run = runs.start("r", Count::default()).await.unwrap();
    until("the gate", async || passed.len() > 0).await;

    Requests::open(folder.store()).unwrap().cancel("r").unwrap();
    is(&run, Status::Cancelled).await;
    store.close().await;

    assert_eq!(heard.take(), ["r begins gated", "r failed: run `r`: cancelled at node `wait` at wait"]);
}

#[tokio::test]
async fn a_parked_run_that_another_process_cancels_is_heard_once() {
    let (folder, heard) = (Folder::new(), Ledger::default());
    let (runs, store) = opened(&folder, approving(&Ledger::default()), &heard).await;
    is(&runs.start("r", Invoice::default()).await.unwrap(), Status::Paused).await;
    heard.take();

    Requests::open(folder.store()).unwrap().cancel("r").unwrap();
    until("it is heard", async || heard.len() > 0).await;
    store.close().await;
    let (_runs, store) = opened(&folder, approving(&Ledger::default()), &heard).await;
    store.resume_all().await.unwrap();

    assert_eq!(heard.take(), ["r failed: run `r`: cancelled at node `ask` at ask"]);
}

/// Asks, and expires after a minute, if it is to.
struct Sure(bool);

impl Ask<Count> for Sure {
    type Question = u32;
    type Answer = bool;
    type Action = Action;

    fn ask(&self, count: &Count) -> Result<u32> {
        Ok(count.of)
    }

    fn expires(&self, _: &Count) -> Option<Duration> {
        self.0.then(|| Duration::from_mins(1))
    }

    fn expired(&self, _: &mut Count) -> Result<Action> {
        Ok("late".into())
    }

    fn post(&self, _: &mut Count, _: bool) -> Result<Action> {
        Ok("done".into())
    }
}

fn sure(expires: bool) -> AsyncFlow<Count> {
    let mut flow = AsyncFlow::builder("sure");
    let ask = flow.add("ask", Sure(expires));
    flow.start(ask);
    flow.route(ask - "done" >> END);
    flow.route(ask - "late" >> END);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_question_that_expires_is_heard() {
    let (folder, heard, ahead) = (Folder::new(), Ledger::default(), Arc::new(AtomicI64::new(0)));
    let look = Arc::clone(&ahead);
    let clock = move || SystemTime::now() + Duration::from_secs(look.load(SeqCst).unsigned_abs());
    let store = StoreOptions::new().clock(clock).open(folder.store()).await.unwrap();
    let runs = store.runs_with(sure(true), noting(&heard)).await.unwrap();
    let run = runs.start("r", Count::to(7)).await.unwrap();
    is(&run, Status::Paused).await;

    ahead.store(61, SeqCst);
    soon("the end", run.finished()).await.unwrap().ended().unwrap();

    let wanted = ["r begins sure", "r asks 7 at ask", "r goes on with sure", "r expired at ask", "r ended with late"];
    assert_eq!(heard.take(), wanted);
}

#[tokio::test]
async fn questions_of_children_are_heard_with_their_paths() {
    let (folder, heard) = (Folder::new(), Ledger::default());
    let fork = |numbers: &Numbers| numbers.numbers.iter().map(|n| Count::to(*n as u32)).collect::<Vec<_>>();
    let mut flow = AsyncFlow::builder("each");
    let each = flow.add("each", sure(false).batch(fork, |_: &mut Numbers, _: Vec<Count>| ()).journaled());
    flow.start(each);
    let (runs, _store) = opened(&folder, flow.build().unwrap(), &heard).await;

    let run = runs.start("p", numbers(2)).await.unwrap();
    is(&run, Status::Paused).await;
    assert_eq!(
        heard.take(),
        [
            "p begins each",
            "p a child asks 0 at each[0]/ask",
            "p a child asks 1 at each[1]/ask",
            "p asks 0 at each[0]/ask"
        ]
    );
    run.answer("each[0]/ask", true).await.unwrap();
    is(&run, Status::Paused).await;
    assert_eq!(heard.take(), ["p goes on with each", "p asks 1 at each[1]/ask"]);
    run.answer("each[1]/ask", true).await.unwrap();
    soon("the end", run.finished()).await.unwrap().ended().unwrap();

    assert_eq!(heard.take(), ["p goes on with each", "p ended with default"]);
}
