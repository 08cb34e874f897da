//! Children that a changed flow cannot take refuse their whole run, before anything of it is changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, AsyncFlow, NodeError, Sleep};
use flowstone_durable::{AnswerError, ChangeError, DriveError, Reader, Requests, RunInfo, Runs, Status, StoreOptions};
use serde::{Deserialize, Serialize};

use crate::common::{Approve, Folder, Invoice, soon, until};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Month {
    paid: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Year {
    paid: u32,
}

/// One invoice: a node that asks, then one that pays.
fn invoice(node: &str) -> AsyncFlow<Invoice> {
    let mut flow = AsyncFlow::builder("invoice");
    let ask = flow.add(node, Approve);
    let pay = flow.add("pay", |invoice: &mut Invoice| invoice.posted = true);
    flow.start(ask);
    flow.route(ask - "yes" >> pay);
    flow.route(ask - "no" >> flowstone_core::END);
    flow.build().unwrap()
}

/// Three invoices at the node `review`.
fn month(invoice: AsyncFlow<Invoice>, node: &str) -> AsyncFlow<Month> {
    let fork = |_: &Month| (0..3).map(|amount| Invoice { amount, ..Invoice::default() }).collect();
    let join = |month: &mut Month, invoices: Vec<Invoice>| {
        month.paid = invoices.iter().filter(|invoice| invoice.posted).count() as u32;
    };
    let mut flow = AsyncFlow::builder("month");
    let review = flow.add(node, invoice.batch(fork, join).parallel(2).journaled());
    flow.start(review);
    flow.build().unwrap()
}

fn year(month: AsyncFlow<Month>) -> AsyncFlow<Year> {
    let join = |year: &mut Year, months: Vec<Month>| year.paid = months.iter().map(|month| month.paid).sum();
    let mut flow = AsyncFlow::builder("year");
    let months = flow.add("months", month.batch(|_: &Year| vec![Month::default()], join).journaled());
    flow.start(months);
    flow.build().unwrap()
}

/// The run and all below it: what must not change when it is refused.
fn standing(reader: &Reader) -> Vec<(Status, Option<SystemTime>)> {
    fn add(reader: &Reader, info: &RunInfo, to: &mut Vec<(Status, Option<SystemTime>)>) {
        to.push((info.status, info.wake_at));
        for child in reader.children(info.id.clone()).unwrap() {
            add(reader, &child, to);
        }
    }
    let mut found = Vec::new();
    add(reader, &reader.run("m").unwrap(), &mut found);
    found
}

#[tokio::test]
async fn a_run_whose_children_stand_at_a_node_that_is_gone_is_refused_unchanged_by_an_answer() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), month(invoice("ask"), "review")).await.unwrap();
    runs.start("m", Month::default()).await.unwrap().settled().await.unwrap();
    runs.store().close().await;
    let reader = Reader::open(folder.store()).unwrap();
    let before = standing(&reader);

    let runs = Runs::open(folder.store(), month(invoice("decide"), "review")).await.unwrap();
    let resumed = runs.resume_all().await.unwrap();
    let refused = runs.answer("m", "review[1]/ask", true).await.unwrap_err();

    assert!(matches!(&resumed.refused[..], [DriveError::Restore { .. }]), "known before anybody answers: {resumed:?}");
    assert!(matches!(refused, AnswerError::Drive(DriveError::Restore { .. })), "{refused:?}");
    assert_eq!(standing(&reader), before);
    assert!(reader.run("m").unwrap().refused.is_some());
    assert_eq!(reader.open_questions("m").unwrap().len(), 3);
    runs.store().close().await;

    let runs = Runs::open(folder.store(), month(invoice("ask"), "review")).await.unwrap();
    for item in 0..3 {
        runs.answer("m", format!("review[{item}]/ask"), true).await.unwrap();
    }
    let run = runs.get("m").await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.paid, 3);
    assert_eq!(run.info().await.unwrap().refused, None);
}

#[tokio::test]
async fn an_answer_from_beside_to_a_child_that_cannot_go_on_waits_for_a_program_that_can() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), month(invoice("ask"), "review")).await.unwrap();
    runs.start("m", Month::default()).await.unwrap().settled().await.unwrap();
    runs.store().close().await;
    let reader = Reader::open(folder.store()).unwrap();
    let before = standing(&reader);
    Requests::open(folder.store()).unwrap().answer("m", "review[1]/ask", true).unwrap();

    let runs = Runs::open(folder.store(), month(invoice("decide"), "review")).await.unwrap();
    runs.resume_all().await.unwrap();
    until("it is refused", async || reader.run("m").unwrap().refused.is_some()).await;
    assert_eq!(standing(&reader), before);
    runs.store().close().await;

    let runs = Runs::open(folder.store(), month(invoice("ask"), "review")).await.unwrap();
    runs.resume_all().await.unwrap();
    until("its answer has its effect", async || {
        reader.children("m").unwrap().iter().filter(|child| child.status == Status::Ended).count() == 1
    })
    .await;
}

#[tokio::test]
async fn the_runs_between_a_child_and_the_run_that_the_user_started_are_read_back_first() {
    let folder = Folder::new();
    let flow = |node: &str| year(month(invoice("ask"), node));
    let runs = Runs::open(folder.store(), flow("review")).await.unwrap();
    runs.start("m", Year::default()).await.unwrap().settled().await.unwrap();
    runs.store().close().await;
    let reader = Reader::open(folder.store()).unwrap();
    let before = standing(&reader);

    let runs = Runs::open(folder.store(), flow("check")).await.unwrap();
    let error = runs.answer("m", "months[0]/review[2]/ask", true).await.unwrap_err();
    assert!(matches!(&error, AnswerError::Drive(DriveError::Restore { .. }) | AnswerError::Unfit { .. }), "{error:?}");
    assert_eq!(runs.resume_all().await.unwrap().refused.len(), 1);
    assert_eq!(standing(&reader), before);
    runs.store().close().await;

    let runs = Runs::open(folder.store(), flow("review")).await.unwrap();
    for item in 0..3 {
        runs.answer("m", format!("months[0]/review[{item}]/ask"), true).await.unwrap();
    }
    assert_eq!(soon("the end", runs.get("m").await.unwrap().finished()).await.unwrap().ended().unwrap().state.paid, 3);
}

#[tokio::test]
async fn a_child_that_is_due_sleeps_on_while_its_node_is_gone() {
    let folder = Folder::new();
    let minutes = Arc::new(AtomicU64::new(0));
    let reminder = |node: &str| {
        let mut flow = AsyncFlow::builder("invoice");
        let wait = flow.add(node, Sleep::new(Duration::from_mins(10)));
        let pay = flow.add("pay", |invoice: &mut Invoice| invoice.posted = true);
        flow.start(wait);
        flow.route(wait >> pay);
        month(flow.build().unwrap(), "review")
    };
    let open = async |node: &str| {
        let clock = Arc::clone(&minutes);
        let now = move || SystemTime::now() + Duration::from_mins(clock.load(SeqCst));
        let store = StoreOptions::new().clock(now).open(folder.store()).await.unwrap();
        store.runs(reminder(node)).await.unwrap()
    };
    let runs = open("wait").await;
    runs.start("m", Month::default()).await.unwrap().settled().await.unwrap();
    runs.store().close().await;
    let reader = Reader::open(folder.store()).unwrap();
    let before = standing(&reader);

    minutes.store(11, SeqCst);
    let runs = open("rest").await;
    until("it is refused", async || reader.run("m").unwrap().refused.is_some()).await;
    assert_eq!(standing(&reader), before);
    runs.store().close().await;

    let runs = open("wait").await;
    assert_eq!(soon("the end", runs.get("m").await.unwrap().finished()).await.unwrap().ended().unwrap().state.paid, 3);
}

#[tokio::test]
async fn a_run_that_failed_with_a_child_whose_node_is_gone_is_not_tried_again() {
    let folder = Folder::new();
    let failing = |node: &str, fails: bool| {
        let mut flow = AsyncFlow::builder("invoice");
        let pay = flow.add(node, move |invoice: &mut Invoice| {
            if fails {
                return Err(NodeError::terminal("no money"));
            }
            invoice.posted = true;
            Ok(Action::from("paid"))
        });
        flow.start(pay);
        flow.route(pay - "paid" >> flowstone_core::END);
        month(flow.build().unwrap(), "review")
    };
    let runs = Runs::open(folder.store(), failing("pay", true)).await.unwrap();
    runs.start("m", Month::default()).await.unwrap().finished().await.unwrap().ended().unwrap_err();
    runs.store().close().await;
    let reader = Reader::open(folder.store()).unwrap();
    let before = standing(&reader);

    let runs = Runs::open(folder.store(), failing("charge", false)).await.unwrap();
    let refused = runs.get("m").await.unwrap().retry_failed().await.unwrap_err();
    assert!(matches!(refused, ChangeError::Drive(DriveError::Restore { .. })), "{refused:?}");
    assert_eq!(standing(&reader), before);
    runs.store().close().await;

    let runs = Runs::open(folder.store(), failing("pay", false)).await.unwrap();
    let run = runs.get("m").await.unwrap();
    run.retry_failed().await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.paid, 3);
}
