//! Flows and folders that many tests use.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flowstone_core::{
    Action, Ask, AsyncBatchNode, AsyncFlow, AsyncNode, BoxFuture, Context, NodeError, NodeExt, Result, Sleep, step,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// A folder with a store in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.path().join("runs.db")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The names of what is in it.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Traces of nodes outside the store: each call of `exec`, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<String>>>);

impl Ledger {
    pub(crate) fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
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

/// Waits until something holds; fails when it does not within ten seconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came: {what}");
}

/// Waits for something that comes at once if it comes at all.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(10), future).await;
    waited.unwrap_or_else(|_| panic!("it never came: {what}"))
}

/// Holds back who passes until it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.add_permits(100_000);
    }

    /// Lets so many pass.
    pub(crate) fn open_for(&self, passes: usize) {
        self.0.add_permits(passes);
    }

    pub(crate) async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// The function that the `exec` of a [`Work`] calls.
pub(crate) type Exec = Arc<dyn Fn(Context) -> BoxFuture<'static, Result<u64>> + Send + Sync>;

/// A node whose `exec` is a closure that gets the context, and whose `post` gets what that returns.
pub(crate) struct Work<S> {
    exec: Exec,
    post: fn(&mut S, u64) -> Action,
}

/// Makes a node of two closures.
pub(crate) fn work<S, F>(
    exec: impl Fn(Context) -> F + Send + Sync + 'static,
    post: fn(&mut S, u64) -> Action,
) -> Work<S>
where
    F: Future<Output = Result<u64>> + Send + 'static,
{
    Work { exec: Arc::new(move |cx| Box::pin(exec(cx))), post }
}

impl<S: Send + Sync + 'static> AsyncNode<S> for Work<S> {
    type Prep = ();
    type Exec = u64;
    type Action = Action;

    async fn prep(&self, _: &S) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), cx: &Context) -> Result<u64> {
        (self.exec)(cx.clone()).await
    }

    async fn post(&self, state: &mut S, (): (), value: u64) -> Result<Action> {
        Ok((self.post)(state, value))
    }
}

/// A batch over [`Numbers`] whose `exec` is a closure that gets the context of its item.
pub(crate) struct Items(Exec);

/// Makes a batch node of a closure.
pub(crate) fn items<F>(exec: impl Fn(Context) -> F + Send + Sync + 'static) -> Items
where
    F: Future<Output = Result<u64>> + Send + 'static,
{
    Items(Arc::new(move |cx| Box::pin(exec(cx))))
}

impl AsyncBatchNode<Numbers> for Items {
    type Item = u64;
    type Output = u64;
    type Outcome = u64;
    type Action = ();

    async fn prep(&self, state: &Numbers) -> Result<Vec<u64>> {
        Ok(state.numbers.clone())
    }

    async fn exec(&self, _: &u64, cx: &Context) -> Result<u64> {
        (self.0)(cx.clone()).await
    }

    async fn post(&self, state: &mut Numbers, _: Vec<u64>, outputs: Vec<u64>) -> Result<()> {
        state.doubled = outputs;
        Ok(())
    }
}

/// The key of a visit or an item, without the part that only this life of the run has.
pub(crate) fn key(cx: &Context) -> String {
    without_life(&cx.idempotency_key())
}

/// A key, or the id of a child, without the part that only this life of the run has.
pub(crate) fn without_life(key: &str) -> String {
    let Some((id, rest)) = key.split_once('~') else { panic!("a key without a life: {key}") };
    format!("{id}{}", &rest[16..])
}

/// A number of numbers.
pub(crate) fn numbers(count: u64) -> Numbers {
    Numbers { numbers: (0..count).collect(), doubled: Vec::new() }
}

/// Counts to two; between the two it waits at the gate.
pub(crate) fn gated(ledger: &Ledger, gate: &Gate) -> AsyncFlow<Count> {
    let (ledger, gate) = (ledger.clone(), gate.clone());
    let mut flow = AsyncFlow::builder("gated");
    let first = flow.add("first", |count: &mut Count| count.n += 1);
    let wait = work(
        move |_| {
            let (ledger, gate) = (ledger.clone(), gate.clone());
            async move {
                ledger.add("waits");
                gate.pass().await;
                ledger.add("passed");
                Ok(1)
            }
        },
        |count: &mut Count, one| {
            count.n += one as u32;
            Action::from("done")
        },
    );
    let wait = flow.add("wait", wait);
    flow.start(first);
    flow.route(first >> wait);
    flow.build().unwrap()
}

/// An error that a test makes.
pub(crate) fn failure(text: &str) -> NodeError {
    NodeError::new(text.to_owned())
}

/// The tables of a store that have rows of runs, with how many.
pub(crate) fn rows(path: &std::path::Path) -> Vec<(&'static str, u64)> {
    let db = rusqlite::Connection::open(path).unwrap();
    let tables = ["runs", "visits", "pauses", "items", "under_way", "usage", "inbox"].into_iter();
    let count = |table| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap();
    tables.map(|table| (table, count(table) as u64)).filter(|(_, rows)| *rows > 0).collect()
}
