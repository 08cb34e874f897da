//! Questions side by side: the children of a batch flow ask, sleep and are put away, each by itself.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, Ask, AsyncFlow, Child, END, NodeError, Result, Sleep};
use flowstone_durable::{
    AnswerError, FlowOptions, NotEnded, Reader, Requests, Run, Runs, Status, StoreOptions, WrongStatus,
};
use serde::{Deserialize, Serialize};

use crate::common::{Folder, Gate, Ledger, soon, until, work};

mod again;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Invoice {
    number: u32,
    approved: Option<bool>,
    posted: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Month {
    invoices: u32,
    approved: Vec<u32>,
    failed: u32,
}

impl Month {
    fn of(invoices: u32) -> Self {
        Self { invoices, ..Self::default() }
    }
}

/// Asks for each invoice; expires after some minutes, if it is to.
struct Approve {
    asked: Arc<AtomicU32>,
    minutes: u64,
    unlucky: Option<u32>,
}

impl Ask<Invoice> for Approve {
    type Question = String;
    type Answer = bool;
    type Action = Action;

    fn ask(&self, invoice: &Invoice) -> Result<String> {
        self.asked.fetch_add(1, SeqCst);
        Ok(format!("pay {}?", invoice.number))
    }

    fn schema(&self) -> serde_json::Value {
        serde_json::json!({ "type": "boolean" })
    }

    fn expires(&self, _: &Invoice) -> Option<Duration> {
        (self.minutes > 0).then(|| Duration::from_mins(self.minutes))
    }

    fn expired(&self, invoice: &mut Invoice) -> Result<Action> {
        invoice.approved = Some(false);
        Ok("no".into())
    }

    fn post(&self, invoice: &mut Invoice, answer: bool) -> Result<Action> {
        invoice.approved = Some(answer);
        if self.unlucky == Some(invoice.number) {
            return Err(NodeError::terminal("unlucky"));
        }
        Ok(if answer { "yes" } else { "no" }.into())
    }
}

/// Settings of a test.
#[derive(Clone, Default)]
struct World {
    ledger: Ledger,
    asked: Arc<AtomicU32>,
    minutes: u64,
    /// The number of the invoice whose answer fails.
    unlucky: Option<u32>,
}

/// One invoice: `read` leaves an entry, `approve` asks, `pay` leaves an entry.
fn invoice(world: &World) -> AsyncFlow<Invoice> {
    let (read, pay) = (world.ledger.clone(), world.ledger.clone());
    let mut flow = AsyncFlow::builder("invoice");
    let read = flow.add("read", move |invoice: &mut Invoice| read.add(format!("read {}", invoice.number)));
    let approve = flow
        .add("approve", Approve { asked: Arc::clone(&world.asked), minutes: world.minutes, unlucky: world.unlucky });
    let pay = flow.add("pay", move |invoice: &mut Invoice| {
        pay.add(format!("pay {}", invoice.number));
        invoice.posted = true;
    });
    flow.start(read);
    flow.route(read >> approve);
    flow.route(approve - "yes" >> pay);
    flow.route(approve - "no" >> END);
    flow.build().unwrap()
}

fn fork(month: &Month) -> Vec<Invoice> {
    (0..month.invoices).map(|number| Invoice { number, ..Invoice::default() }).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "a batch flow gives its children away")]
fn join(month: &mut Month, invoices: Vec<Invoice>) {
    month.approved = invoices.iter().filter(|invoice| invoice.posted).map(|invoice| invoice.number).collect();
}

fn month(world: &World, limit: usize) -> AsyncFlow<Month> {
    let mut flow = AsyncFlow::builder("month");
    let begin = flow.add("begin", |_: &mut Month| ());
    let review = flow.add("review", invoice(world).batch(fork, join).parallel(limit).journaled());
    flow.start(begin);
    flow.route(begin >> review);
    flow.build().unwrap()
}

async fn asked(folder: &Folder, world: &World, invoices: u32, limit: usize) -> (Runs<Month>, Run<Month>) {
    let runs = Runs::open(folder.store(), month(world, limit)).await.unwrap();
    let run = runs.start("m", Month::of(invoices)).await.unwrap();
    assert_eq!(soon("the questions", run.settled()).await.unwrap(), Status::Paused);
    (runs, run)
}

fn open(reader: &Reader) -> Vec<String> {
    reader.open_questions("m").unwrap().into_iter().map(|question| question.node.to_string()).collect()
}

#[tokio::test]
async fn each_child_asks_its_own_question_and_they_are_answered_in_any_order() {
    let (folder, world) = (Folder::new(), World::default());
    let (runs, run) = asked(&folder, &world, 33, 4).await;
    let reader = Reader::open(folder.store()).unwrap();

    let questions = run.questions().await.unwrap();
    assert_eq!(questions.len(), 33, "all are asked, whatever the limit");
    assert_eq!((questions[7].node.as_str(), &questions[7].question), ("review[7]/approve", &"pay 7?".into()));
    let info = run.info().await.unwrap();
    assert_eq!((info.status, info.node.unwrap().as_str()), (Status::Paused, "review"));

    for item in (0..33).rev().filter(|item| *item != 5) {
        runs.answer("m", format!("review[{item}]/approve"), item % 2 == 0).await.unwrap();
    }
    until("all but one have ended", async || world.ledger.len() == 33 + 17).await;
    soon("it waits again", run.settled()).await.unwrap();
    assert_eq!(open(&reader), ["review[5]/approve"]);
    runs.answer("m", "review[5]/approve", true).await.unwrap();

    let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();
    let approved: Vec<u32> = (0..33).filter(|number| number % 2 == 0 || *number == 5).collect();
    assert_eq!(ended.state.approved, approved);
    assert_eq!(world.asked.load(SeqCst), 33, "no question is asked twice");
    let entries = world.ledger.take();
    assert_eq!(entries.len(), entries.iter().collect::<BTreeSet<_>>().len(), "nothing runs twice");
}

#[tokio::test]
async fn a_parked_parent_has_no_task_and_goes_on_after_a_restart() {
    let (folder, world) = (Folder::new(), World::default());
    let (runs, _) = asked(&folder, &world, 3, 1).await;
    runs.store().close().await;

    Requests::open(folder.store()).unwrap().answer("m", "review[1]/approve", true).unwrap();
    let runs = Runs::open(folder.store(), month(&world, 1)).await.unwrap();
    let run = runs.get("m").await.unwrap();
    runs.resume_all().await.unwrap();
    until("the answer has its effect", async || world.ledger.count("pay 1") == 1).await;
    assert_eq!(soon("it waits", run.settled()).await.unwrap(), Status::Paused);
    for item in [2, 0] {
        runs.answer("m", format!("review[{item}]/approve"), true).await.unwrap();
    }

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.approved, [0, 1, 2]);
    assert_eq!(world.asked.load(SeqCst), 3);
}

#[tokio::test]
async fn an_answer_is_given_once_to_a_question_that_is_there() {
    let (folder, world) = (Folder::new(), World::default());
    let (runs, run) = asked(&folder, &world, 3, 2).await;
    let children = Reader::open(folder.store()).unwrap().children("m").unwrap();

    let unfit = runs.answer("m", "review[0]/approve", "perhaps").await.unwrap_err();
    assert!(matches!(unfit, AnswerError::Unfit { .. }), "{unfit:?}");
    for wrong in ["review[3]/approve", "review[0]/pay", "approve", "review", "other[0]/approve"] {
        let error = runs.answer("m", wrong, true).await.unwrap_err();
        assert!(
            matches!(&error, AnswerError::NotAsking { asks: Some(asks), .. } if asks == "review[0]/approve"),
            "{error:?}"
        );
    }
    runs.answer(children[1].id.clone(), "approve", true).await.unwrap();
    until("it has its effect", async || world.ledger.count("pay 1") == 1).await;
    let twice = runs.answer("m", "review[1]/approve", true).await.unwrap_err();
    assert!(matches!(twice, AnswerError::AlreadyAnswered { .. }), "{twice:?}");
    let question = run.questions().await.unwrap().into_iter().find(|question| question.is_open()).unwrap();
    run.answer_question(&question, false).await.unwrap();
    let mut beside = Requests::open(folder.store()).unwrap();
    beside.answer(children[2].id.clone(), "review[2]/approve", true).unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.approved, [1, 2]);
}

#[tokio::test]
async fn an_answered_child_goes_on_while_others_still_run() {
    let (folder, world, gate) = (Folder::new(), World::default(), Gate::closed());
    let mut flow = AsyncFlow::builder("invoice");
    let (wait, ledger) = (gate.clone(), world.ledger.clone());
    let first = work(
        move |cx| {
            let (wait, first) = (wait.clone(), cx.node().as_str().contains("[0]"));
            async move {
                if first {
                    wait.pass().await;
                }
                Ok(0)
            }
        },
        |_: &mut Invoice, _| Action::from("done"),
    );
    let first = flow.add("first", first);
    let approve = flow.add("approve", Approve { asked: Arc::clone(&world.asked), minutes: 0, unlucky: None });
    let pay = flow.add("pay", move |invoice: &mut Invoice| {
        ledger.add(format!("pay {}", invoice.number));
        invoice.posted = true;
    });
    flow.start(first);
    flow.route(first - "done" >> approve);
    flow.route(approve - "yes" >> pay);
    flow.route(approve - "no" >> END);
    let mut parent = AsyncFlow::builder("month");
    let review = parent.add("review", flow.build().unwrap().batch(fork, join).parallel(2).journaled());
    parent.start(review);
    let runs = Runs::open(folder.store(), parent.build().unwrap()).await.unwrap();
    let run = runs.start("m", Month::of(3)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("two ask", async || open(&reader).len() == 2).await;
    assert_eq!(run.info().await.unwrap().status, Status::Running);

    runs.answer("m", "review[2]/approve", true).await.unwrap();
    until("it goes on", async || world.ledger.count("pay 2") == 1).await;
    Requests::open(folder.store()).unwrap().answer("m", "review[1]/approve", true).unwrap();
    until("from beside, too", async || world.ledger.count("pay 1") == 1).await;
    gate.open();
    until("the first asks", async || open(&reader) == ["review[0]/approve"]).await;
    soon("it waits", run.settled()).await.unwrap();
    runs.answer("m", "review[0]/approve", true).await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.approved, [0, 1, 2]);
}

#[tokio::test]
async fn cancelling_the_parent_cancels_its_children_and_their_questions() {
    let (folder, world) = (Folder::new(), World::default());
    let (runs, run) = asked(&folder, &world, 3, 2).await;
    let reader = Reader::open(folder.store()).unwrap();

    run.cancel().await.unwrap();

    assert_eq!(open(&reader), [""; 0]);
    assert!(reader.children("m").unwrap().iter().all(|child| child.status == Status::Cancelled));
    let late = runs.answer("m", "review[1]/approve", true).await.unwrap_err();
    assert!(matches!(late, AnswerError::NotAsking { .. } | AnswerError::WrongStatus(WrongStatus { .. })), "{late:?}");
    // Tried again, each child asks once more.
    run.retry_failed().await.unwrap();
    soon("it waits again", run.settled()).await.unwrap();
    for item in 0..3 {
        runs.answer("m", format!("review[{item}]/approve"), true).await.unwrap();
    }
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.approved, [0, 1, 2]);
    assert_eq!(world.ledger.take().iter().filter(|entry| entry.starts_with("read")).count(), 3);
}

#[tokio::test]
async fn a_child_that_fails_stops_its_parent_and_closes_the_questions_of_the_others() {
    let (folder, world) = (Folder::new(), World { unlucky: Some(13), ..World::default() });
    let (runs, run) = asked(&folder, &world, 14, 4).await;
    let reader = Reader::open(folder.store()).unwrap();

    runs.answer("m", "review[13]/approve", true).await.unwrap();
    let error = soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();

    assert!(matches!(&error, NotEnded::Failed { node, .. } if node == "review[13]/approve"), "{error:?}");
    assert_eq!(open(&reader), [""; 0]);
    assert!(runs.answer("m", "review[0]/approve", true).await.is_err());
    runs.delete("m").await.unwrap();
    assert!(reader.questions("m").is_err());
}

#[tokio::test]
async fn a_batch_that_collects_joins_what_failed() {
    let (folder, world) = (Folder::new(), World { unlucky: Some(13), ..World::default() });
    let fork = |month: &Month| {
        vec![Invoice { number: 13, ..Invoice::default() }, Invoice { number: month.invoices, ..Invoice::default() }]
    };
    let join = |month: &mut Month, ended: Vec<Child<Invoice>>| {
        month.failed = ended.iter().filter(|child| child.result.is_err()).count() as u32;
        month.approved = ended.iter().filter(|child| child.state.posted).map(|child| child.state.number).collect();
    };
    let mut flow = AsyncFlow::builder("month");
    let review = flow.add("review", invoice(&world).batch_collect(fork, join).journaled());
    flow.start(review);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("m", Month::of(2)).await.unwrap();
    soon("the questions", run.settled()).await.unwrap();

    runs.answer("m", "review[0]/approve", true).await.unwrap();
    until("it failed", async || open(&Reader::open(folder.store()).unwrap()) == ["review[1]/approve"]).await;
    soon("it waits", run.settled()).await.unwrap();
    runs.answer("m", "review[1]/approve", true).await.unwrap();

    let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();
    assert_eq!((ended.state.failed, ended.state.approved), (1, vec![2]));
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Year {
    months: Vec<Month>,
}

#[tokio::test]
async fn children_of_children_ask_and_sleep() {
    let (folder, world) = (Folder::new(), World::default());
    let mut flow = AsyncFlow::builder("year");
    let fork = |_: &Year| vec![Month::of(1), Month::of(2)];
    let join = |year: &mut Year, months: Vec<Month>| year.months = months;
    let months = flow.add("months", month(&world, 2).batch(fork, join).parallel(2).journaled());
    flow.start(months);
    let flow = flow.build().unwrap();
    let runs = Runs::open(folder.store(), flow).await.unwrap();
    let run = runs.start("m", Year::default()).await.unwrap();
    assert_eq!(soon("the questions", run.settled()).await.unwrap(), Status::Paused);
    let reader = Reader::open(folder.store()).unwrap();
    let paths = ["months[0]/review[0]/approve", "months[1]/review[0]/approve", "months[1]/review[1]/approve"];
    assert_eq!(open(&reader), paths);

    for path in [paths[2], paths[0], paths[1]] {
        runs.answer("m", path, true).await.unwrap();
    }

    let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();
    assert_eq!(ended.state.months.iter().map(|month| month.approved.len()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(world.asked.load(SeqCst), 3);
}

#[tokio::test]
async fn children_sleep_and_their_parent_with_them() {
    let folder = Folder::new();
    let minutes = Arc::new(AtomicI64::new(0));
    let mut inner = AsyncFlow::builder("reminder");
    let wait =
        inner.add("wait", Sleep::by(|invoice: &Invoice| Duration::from_mins(10 * u64::from(invoice.number + 1))));
    let send = inner.add("send", |invoice: &mut Invoice| invoice.posted = true);
    inner.start(wait);
    inner.route(wait >> send);
    let mut flow = AsyncFlow::builder("month");
    let review = flow.add("review", inner.build().unwrap().batch(fork, join).journaled());
    flow.start(review);
    let clock = Arc::clone(&minutes);
    let now = move || SystemTime::now() + Duration::from_mins(clock.load(SeqCst) as u64);
    let store = StoreOptions::new().clock(now).open(folder.store()).await.unwrap();
    let runs = store.runs(flow.build().unwrap()).await.unwrap();
    let run = runs.start("m", Month::of(3)).await.unwrap();
    assert_eq!(soon("it sleeps", run.settled()).await.unwrap(), Status::Sleeping);
    let info = run.info().await.unwrap();
    assert!(info.wake_at.unwrap() < SystemTime::now() + Duration::from_mins(11));
    let reader = Reader::open(folder.store()).unwrap();

    minutes.store(11, SeqCst);
    let ended =
        |reader: &Reader| reader.children("m").unwrap().iter().filter(|child| child.status == Status::Ended).count();
    until("the first has ended", async || ended(&reader) == 1).await;
    assert_eq!(soon("it sleeps on", run.settled()).await.unwrap(), Status::Sleeping);
    minutes.store(31, SeqCst);

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.approved, [0, 1, 2]);
}

#[tokio::test]
async fn questions_of_children_expire_each_by_itself() {
    let folder = Folder::new();
    let (world, minutes) = (World { minutes: 10, ..World::default() }, Arc::new(AtomicI64::new(0)));
    let clock = Arc::clone(&minutes);
    let now = move || SystemTime::now() + Duration::from_mins(clock.load(SeqCst) as u64);
    let store = StoreOptions::new().clock(now).open(folder.store()).await.unwrap();
    let runs = store.runs(month(&world, 4)).await.unwrap();
    let run = runs.start("m", Month::of(3)).await.unwrap();
    soon("the questions", run.settled()).await.unwrap();

    runs.answer("m", "review[1]/approve", true).await.unwrap();
    until("it is paid", async || world.ledger.count("pay 1") == 1).await;
    minutes.store(11, SeqCst);

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.approved, [1]);
    let late = runs.answer("m", "review[0]/approve", true).await.unwrap_err();
    assert!(matches!(late, AnswerError::Expired { .. } | AnswerError::NotAsking { .. }), "{late:?}");
}

#[tokio::test]
async fn a_batch_flow_that_was_renamed_answers_to_both_names() {
    let (folder, world) = (Folder::new(), World::default());
    let (runs, _) = asked(&folder, &world, 2, 2).await;
    runs.store().close().await;

    let mut flow = AsyncFlow::builder("month");
    let check = flow.add("check", invoice(&world).batch(fork, join).journaled());
    flow.start(check);
    let store = StoreOptions::new().open(folder.store()).await.unwrap();
    let options = FlowOptions::new().rename("review", "check");
    let runs = store.runs_with(flow.build().unwrap(), options).await.unwrap();
    runs.answer("m", "review[1]/approve", true).await.unwrap();
    runs.answer("m", "check[0]/approve", true).await.unwrap();

    let run = runs.get("m").await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.approved, [0, 1]);
}

#[tokio::test]
async fn visits_of_children_count_for_the_limit_of_the_run_once() {
    for (limit, ends) in [(1 + 1 + 3 * 3, true), (1 + 1 + 3 * 3 - 1, false)] {
        let (folder, world) = (Folder::new(), World::default());
        let store = StoreOptions::new().open(folder.store()).await.unwrap();
        let options = FlowOptions::new().max_visits(limit);
        let runs = store.runs_with(month(&world, 2), options).await.unwrap();
        let run = runs.start("m", Month::of(3)).await.unwrap();
        soon("the questions", run.settled()).await.unwrap();
        for item in 0..3 {
            // It may fail before all are answered.
            drop(runs.answer("m", format!("review[{item}]/approve"), true).await);
        }
        assert_eq!(soon("the end", run.finished()).await.unwrap().ended().is_ok(), ends, "{limit}");
    }
}

#[tokio::test]
async fn a_fork_of_the_parent_asks_anew() {
    let (folder, world) = (Folder::new(), World::default());
    let (runs, _) = asked(&folder, &world, 2, 2).await;

    let fork = runs.fork("m", 1, "f", |_| ()).await.unwrap();
    soon("it asks", fork.settled()).await.unwrap();
    for item in 0..2 {
        runs.answer("f", format!("review[{item}]/approve"), false).await.unwrap();
    }

    assert_eq!(soon("the end", fork.finished()).await.unwrap().ended().unwrap().state.approved, [0_u32; 0]);
    assert_eq!(open(&Reader::open(folder.store()).unwrap()).len(), 2, "the questions of the first stand");
}

#[tokio::test]
async fn in_memory_a_child_that_asks_is_an_error_that_says_what_it_takes() {
    let world = World::default();

    let error = month(&world, 2).run_async(&mut Month::of(2)).await.unwrap_err();

    assert!(
        matches!(&error, flowstone_core::RunError::NeedsStore { node, .. } if node == "review[0]/approve"),
        "{error:?}"
    );
    assert!(error.to_string().contains("run the flow with a store"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_from_many_sides_at_once_are_all_taken() {
    let (folder, world) = (Folder::new(), World::default());
    let (runs, run) = asked(&folder, &world, 40, 3).await;

    let answers = (0..40).map(|item| {
        let (runs, path) = (runs.clone(), folder.store());
        tokio::spawn(async move {
            let node = format!("review[{item}]/approve");
            if item % 3 == 0 {
                let beside = move || Requests::open(path).unwrap().answer("m", node, true);
                tokio::task::spawn_blocking(beside).await.unwrap().unwrap();
            } else {
                runs.answer("m", node, true).await.unwrap();
            }
        })
    });
    for answer in answers.collect::<Vec<_>>() {
        answer.await.unwrap();
    }

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.approved.len(), 40);
    assert_eq!(world.asked.load(SeqCst), 40);
}
