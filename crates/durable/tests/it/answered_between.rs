//! Children that ask, with processes that end between their answers: what they use is counted once, whatever the order.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use flowstone_core::{Action, Ask, AsyncFlow, Budget, END, Result};
use flowstone_durable::{FlowOptions, NotEnded, Reader, Requests, Run, Runs, Status, Store};
use serde::{Deserialize, Serialize};

use crate::{
    common::{Folder, Ledger, soon, work},
    usage::{call, calls},
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Invoice {
    number: u64,
    read: bool,
    paid: bool,
}

type Month = Vec<Invoice>;

struct Approve(Arc<AtomicU32>);

impl Ask<Invoice> for Approve {
    type Question = u64;
    type Answer = bool;
    type Action = Action;

    fn ask(&self, invoice: &Invoice) -> Result<u64> {
        self.0.fetch_add(1, SeqCst);
        Ok(invoice.number)
    }

    fn post(&self, _: &mut Invoice, answer: bool) -> Result<Action> {
        Ok(if answer { "yes" } else { "no" }.into())
    }
}

/// Traces of processes outside the store.
#[derive(Clone, Default)]
struct World {
    ledger: Ledger,
    asked: Arc<AtomicU32>,
}

impl World {
    /// A node that makes a call, and leaves an entry.
    fn node(&self, name: &'static str, post: fn(&mut Invoice, u64) -> Action) -> crate::common::Work<Invoice> {
        let ledger = self.ledger.clone();
        let exec = move |cx: flowstone_core::Context| {
            let ledger = ledger.clone();
            async move {
                call(&cx)?;
                ledger.add(format!("{name} {}", cx.node()));
                Ok(1)
            }
        };
        work(exec, post)
    }

    /// Reads each invoice with a call, asks, and pays it with another.
    fn flow(&self) -> AsyncFlow<Month> {
        let mut one = AsyncFlow::builder("invoice");
        let read = self.node("read", |invoice, _| {
            invoice.read = true;
            "read".into()
        });
        let read = one.add("read", read);
        let approve = one.add("approve", Approve(Arc::clone(&self.asked)));
        let pay = self.node("pay", |invoice, _| {
            invoice.paid = true;
            "paid".into()
        });
        let pay = one.add("pay", pay);
        one.start(read);
        one.route(read - "read" >> approve);
        one.route(approve - "yes" >> pay);
        one.route(approve - "no" >> END);
        one.route(pay - "paid" >> END);
        let join = |month: &mut Month, invoices: Vec<Invoice>| *month = invoices;
        let mut flow = AsyncFlow::builder("month");
        let review = flow.add("review", one.build().unwrap().batch(Month::clone, join).parallel(2).journaled());
        flow.start(review);
        flow.build().unwrap()
    }

    /// Opens the store, as one process after another does.
    async fn open(&self, folder: &Folder, budget: u64) -> (Runs<Month>, Run<Month>) {
        let store = Store::open(folder.store()).await.unwrap();
        let runs = store.runs_with(self.flow(), FlowOptions::new().budget(Budget::new().calls(budget))).await.unwrap();
        let month = (0..3).map(|number| Invoice { number, ..Invoice::default() }).collect();
        let run = runs.start("m", month).await.unwrap();
        runs.resume_all().await.unwrap();
        (runs, run)
    }

    /// Starts it, and waits until all three ask.
    async fn asked(&self, folder: &Folder, budget: u64) -> (Runs<Month>, Run<Month>) {
        let (runs, run) = self.open(folder, budget).await;
        assert_eq!(soon("the questions", run.settled()).await.unwrap(), Status::Paused);
        assert_eq!(used(folder), (3, vec![1, 1, 1]));
        (runs, run)
    }
}

/// The calls that the run made, its children included, and those of each child.
fn used(folder: &Folder) -> (u64, Vec<u64>) {
    let reader = Reader::open(folder.store()).unwrap();
    let each = reader.children("m").unwrap().into_iter().map(|child| reader.usage(child.id).unwrap().calls).collect();
    (reader.usage("m").unwrap().calls, each)
}

fn path(item: usize) -> String {
    format!("review[{item}]/approve")
}

#[tokio::test]
async fn answers_in_any_order_have_their_effect_with_an_end_of_the_process_after_each() {
    for (order, beside) in [([0, 1, 2], false), ([2, 1, 0], false), ([1, 2, 0], false), ([2, 0, 1], true)] {
        let (folder, world) = (Folder::new(), World::default());
        let (runs, _) = world.asked(&folder, 100).await;
        runs.store().close().await;

        for item in order {
            let (runs, _) = match beside {
                true => {
                    Requests::open(folder.store()).unwrap().answer("m", path(item), true).unwrap();
                    world.open(&folder, 100).await
                }
                false => {
                    let opened = world.open(&folder, 100).await;
                    opened.0.answer("m", path(item), true).await.unwrap();
                    opened
                }
            };
            // Whatever is under way then is cut off.
            runs.store().close().await;
        }
        let (_runs, run) = world.open(&folder, 100).await;
        let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();

        assert!(ended.state.iter().all(|invoice| invoice.read && invoice.paid), "{order:?}: {:?}", ended.state);
        assert_eq!(world.asked.load(SeqCst), 3, "{order:?}: each asks once");
        let entries = world.ledger.take();
        assert_eq!(entries.iter().collect::<BTreeSet<_>>().len(), 6, "{order:?}: {entries:?}");
        let reads = entries.iter().filter(|entry| entry.starts_with("read")).count();
        assert_eq!(reads, 3, "{order:?}: nothing before a question runs twice");
        // A visit that was cut off spent what it had spent, and is made again.
        let (sum, each) = used(&folder);
        assert_eq!((sum, sum), (each.iter().sum(), entries.len() as u64), "{order:?}: {entries:?}");
        let left = run.questions().await.unwrap().iter().filter(|question| question.is_open()).count();
        assert_eq!(left, 0, "{order:?}");
    }
}

#[tokio::test]
async fn what_parked_children_used_is_counted_once_in_one_process_and_over_several() {
    for restarts in [false, true] {
        let (folder, world) = (Folder::new(), World::default());
        let (mut runs, mut run) = world.asked(&folder, 6).await;

        for (answered, item) in [2, 0, 1].into_iter().enumerate() {
            if restarts {
                runs.store().close().await;
                (runs, run) = world.open(&folder, 6).await;
                assert_eq!(soon("it waits", run.settled()).await.unwrap(), Status::Paused);
            }
            runs.answer("m", path(item), true).await.unwrap();
            let settled = soon("it waits, or ends", run.settled()).await.unwrap();
            assert_eq!(settled, if answered == 2 { Status::Ended } else { Status::Paused }, "{restarts}: {item}");
            assert_eq!(used(&folder).0, 4 + answered as u64, "{restarts}: {item}");
        }

        assert_eq!(used(&folder), (6, vec![2, 2, 2]), "{restarts}: six calls were enough");
        assert_eq!(run.usage().await.unwrap(), calls(6));
    }
}

#[tokio::test]
async fn a_budget_counts_what_children_used_before_they_were_parked() {
    for restarts in [false, true] {
        let (folder, world) = (Folder::new(), World::default());
        let (mut runs, mut run) = world.asked(&folder, 4).await;
        if restarts {
            runs.store().close().await;
            (runs, run) = world.open(&folder, 4).await;
        }

        runs.answer("m", path(1), true).await.unwrap();
        assert_eq!(soon("the fourth call", run.settled()).await.unwrap(), Status::Paused);
        runs.answer("m", path(2), true).await.unwrap();

        let error = soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();
        assert!(matches!(&error, NotEnded::Failed { node, .. } if node == "review[2]/pay"), "{restarts}: {error:?}");
        assert!(error.to_string().contains("budget of 4 calls is used up"), "{error}");
        assert_eq!(used(&folder), (4, vec![1, 2, 1]), "{restarts}");

        // A larger one lets it go on: those whose questions were closed ask again.
        runs.store().close().await;
        let (runs, run) = world.open(&folder, 6).await;
        run.retry_failed().await.unwrap();
        assert_eq!(soon("it asks again", run.settled()).await.unwrap(), Status::Paused);
        assert_eq!(run.questions().await.unwrap().into_iter().filter(|asked| asked.is_open()).count(), 1);
        runs.answer("m", path(0), true).await.unwrap();
        let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();
        assert!(ended.state.iter().all(|invoice| invoice.paid));
        assert_eq!(used(&folder), (6, vec![2, 2, 2]), "{restarts}");
    }
}
