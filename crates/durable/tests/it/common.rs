//! Flows and folders that many tests use.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flowstone_core::{Action, Ask, AsyncBatchNode, AsyncFlow, Context, NodeError, NodeExt, Result, Sleep, step};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a store in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.path().join("runs.db")
    }
}

/// What nodes leave outside the store: each call of `exec`, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<String>>>);

impl Ledger {
    pub(crate) fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn count(&self, entry: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|known| *known == entry).count()
    }
}

/// Counts up to a number, one visit at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) n: u32,
    pub(crate) of: u32,
}

impl Count {
    pub(crate) fn to(of: u32) -> Self {
        Self { n: 0, of }
    }
}

/// A loop that counts, and leaves an entry at each visit.
pub(crate) fn counting(ledger: &Ledger) -> AsyncFlow<Count> {
    let ledger = ledger.clone();
    let mut flow = AsyncFlow::builder("count");
    let add = flow.add(
        "add",
        step(
            |count: &Count| count.n,
            move |n: u32| {
                let ledger = ledger.clone();
                async move {
                    ledger.add(format!("add {n}"));
                    Ok(n + 1)
                }
            },
            |count: &mut Count, _, n: u32| {
                count.n = n;
                Action::from(if n < count.of { "again" } else { "done" })
            },
        ),
    );
    flow.start(add);
    flow.route(add - "again" >> add);
    flow.route(add - "done" >> flowstone_core::END);
    flow.build().unwrap()
}

/// A batch of numbers that are doubled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Numbers {
    pub(crate) numbers: Vec<u64>,
    pub(crate) doubled: Vec<u64>,
}

/// Doubles each number; waits for ever from item `stops_at` on, while that is not reached.
pub(crate) struct Double {
    pub(crate) ledger: Ledger,
    pub(crate) stops_at: Arc<AtomicUsize>,
}

impl AsyncBatchNode<Numbers> for Double {
    type Item = u64;
    type Output = u64;
    type Outcome = u64;
    type Action = ();

    async fn prep(&self, state: &Numbers) -> Result<Vec<u64>> {
        Ok(state.numbers.clone())
    }

    async fn exec(&self, number: &u64, cx: &Context) -> Result<u64> {
        if cx.item().unwrap() >= self.stops_at.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.ledger.add(format!("double {number}"));
        Ok(number * 2)
    }

    async fn post(&self, state: &mut Numbers, _: Vec<u64>, doubled: Vec<u64>) -> Result<()> {
        state.doubled = doubled;
        Ok(())
    }
}

/// An invoice that a person approves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Invoice {
    pub(crate) amount: u32,
    pub(crate) approved: Option<bool>,
    pub(crate) posted: bool,
}

/// Asks whether to post.
pub(crate) struct Approve;

impl Ask<Invoice> for Approve {
    type Question = String;
    type Answer = bool;
    type Action = Action;

    fn ask(&self, invoice: &Invoice) -> Result<String> {
        Ok(format!("post {}?", invoice.amount))
    }

    fn schema(&self) -> Value {
        json!({ "type": "boolean" })
    }

    fn post(&self, invoice: &mut Invoice, answer: bool) -> Result<Action> {
        invoice.approved = Some(answer);
        Ok(if answer { "yes".into() } else { "no".into() })
    }
}

/// Asks, then posts what was approved.
pub(crate) fn approving(ledger: &Ledger) -> AsyncFlow<Invoice> {
    let ledger = ledger.clone();
    let mut flow = AsyncFlow::builder("approve");
    let ask = flow.add("ask", Approve);
    let post = flow.add("post", move |invoice: &mut Invoice| {
        ledger.add("post");
        invoice.posted = true;
    });
    flow.start(ask);
    flow.route(ask - "yes" >> post);
    flow.route(ask - "no" >> flowstone_core::END);
    flow.build().unwrap()
}

/// Sleeps for an hour, then counts.
pub(crate) fn sleeping() -> AsyncFlow<Count> {
    let mut flow = AsyncFlow::builder("sleep");
    let sleep = flow.add("sleep", Sleep::new(Duration::from_secs(3600)));
    let add = flow.add("add", |count: &mut Count| count.n += 1);
    flow.start(sleep);
    flow.route(sleep >> add);
    flow.build().unwrap()
}

/// Doubles numbers, up to eight at once, each kept as it is done.
pub(crate) fn doubling(ledger: &Ledger, stops_at: usize) -> AsyncFlow<Numbers> {
    let (ledger, stops_at) = (ledger.clone(), Arc::new(AtomicUsize::new(stops_at)));
    let mut flow = AsyncFlow::builder("double");
    let double = flow.add("double", Double { ledger, stops_at }.parallel(8).journaled());
    flow.start(double);
    flow.build().unwrap()
}

/// An error that a test makes.
pub(crate) fn failure(text: &str) -> NodeError {
    NodeError::new(text.to_owned())
}
