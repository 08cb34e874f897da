//! Flows that run inside an `exec`: after a stop in the middle of one, its finished visits are not run again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flowstone_core::{Action, AsyncBatchNode, AsyncFlow, AsyncNode, Context, END, NodeError, NodeExt, Result, Retry};
use flowstone_durable::{FlowOptions, NotEnded, Prune, Reader, Runs, Status, Store};

use crate::common::{self, Count, Folder, Gate, Ledger, Numbers, failure, key, rows, soon, until, without_life, work};

/// The deed of the second visit of a child.
#[derive(Clone)]
enum Second {
    Nothing,
    /// It waits at a gate.
    Gate(Gate),
    /// It fails so many times.
    Fails(Arc<AtomicUsize>),
}

fn fails(times: usize) -> Second {
    Second::Fails(Arc::new(AtomicUsize::new(times)))
}

/// A child: counts to three, one visit each, which leave their keys.
fn child(ledger: &Ledger, second: &Second) -> AsyncFlow<Count> {
    let (ledger, second) = (ledger.clone(), second.clone());
    let mut flow = AsyncFlow::builder("child");
    let visit = work(
        move |cx| {
            let (ledger, second) = (ledger.clone(), second.clone());
            async move {
                if cx.visit() == 1 {
                    match &second {
                        Second::Nothing => {}
                        Second::Gate(gate) => gate.pass().await,
                        Second::Fails(left) => {
                            let down =
                                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                            if down.is_ok() {
                                return Err(failure("down"));
                            }
                        }
                    }
                }
                ledger.add(key(&cx));
                Ok(1)
            }
        },
        |count: &mut Count, one| {
            count.n += one as u32;
            Action::from(if count.n % 10 < 3 { "again" } else { "done" })
        },
    );
    let visit = flow.add("visit", visit);
    flow.start(visit);
    flow.route(visit - "again" >> visit);
    flow.route(visit - "done" >> END);
    flow.build().unwrap()
}

/// The code that follows the child in an `exec`.
type After = fn(&Context, u32) -> Result<u32>;

/// A node whose `exec` runs the child.
struct Agent {
    child: AsyncFlow<Count>,
    after: After,
}

impl AsyncNode<Count> for Agent {
    type Prep = u32;
    type Exec = u32;
    type Action = ();

    async fn prep(&self, state: &Count) -> Result<u32> {
        Ok(state.n)
    }

    async fn exec(&self, n: &u32, cx: &Context) -> Result<u32> {
        let (state, action) = self.child.run_in(Count { n: *n, of: 0 }, cx).await?;
        assert_eq!(action, "done");
        (self.after)(cx, state.n)
    }

    async fn exec_fallback(&self, _: &u32, error: NodeError, _: &Context) -> Result<u32> {
        if error.to_string().contains("timed out") { Ok(100) } else { Err(error) }
    }

    async fn post(&self, state: &mut Count, _: u32, n: u32) -> Result<()> {
        state.n = n + 7;
        Ok(())
    }
}

fn agent(child: AsyncFlow<Count>) -> Agent {
    Agent { child, after: |_, n| Ok(n) }
}

/// A flow in which an agent stands in a loop of two turns.
fn turns(child: AsyncFlow<Count>) -> AsyncFlow<Count> {
    let mut flow = AsyncFlow::builder("turns");
    let agent = flow.add("agent", agent(child));
    let look = flow.add("look", |state: &mut Count| Action::from(if state.n < state.of { "again" } else { "done" }));
    flow.start(agent);
    flow.route(agent >> look);
    flow.route(look - "again" >> agent);
    flow.route(look - "done" >> END);
    flow.build().unwrap()
}

/// A flow of one node.
macro_rules! alone {
    ($node:expr) => {{
        let mut flow = AsyncFlow::builder("alone");
        let node = flow.add("agent", $node);
        flow.start(node);
        flow.build().unwrap()
    }};
}

// Below the macro, which it uses.
mod numbers;

fn keys(of: &str, visits: impl IntoIterator<Item = u32>) -> Vec<String> {
    visits.into_iter().map(|visit| format!("{of}:{visit}:visit")).collect()
}

#[tokio::test]
async fn a_child_of_an_exec_goes_on_in_its_middle() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let make = || turns(child(&ledger, &Second::Gate(gate.clone())));
    gate.open_for(1);
    let runs = Runs::open(folder.store(), make()).await.unwrap();
    runs.start("r", Count::to(20)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    // The child of the first turn is done; that of the second has made one visit.
    until("the middle", async || {
        let children = reader.children("r").unwrap();
        children.len() == 2 && children[1].step == 1
    })
    .await;
    runs.store().close().await;
    assert_eq!(ledger.take(), [keys("r:0:agent[0]", 0..3), keys("r:2:agent[0]", 0..1)].concat());

    gate.open();
    let runs = Runs::open(folder.store(), make()).await.unwrap();
    assert_eq!(runs.resume_all().await.unwrap().runs.len(), 1, "a child is gone on with by its parent only");
    let ended = soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(ended.state.n, 20);
    assert_eq!(ledger.take(), keys("r:2:agent[0]", 1..3));
    let children = reader.children("r").unwrap();
    let known = children.iter().map(|child| (without_life(child.id.as_str()), child.status, child.step, child.item));
    let wanted = ["r:0:agent[0]", "r:2:agent[0]"].map(|id| (id.to_owned(), Status::Ended, 3, Some(0)));
    assert!(known.eq(wanted));
    assert_eq!(reader.state(children[1].id.clone(), Some(2)).unwrap(), serde_json::json!({ "n": 12, "of": 0 }));
    assert_eq!(reader.steps("r", 1, 4).unwrap().iter().map(|step| step.attempts).collect::<Vec<_>>(), [1, 0, 1, 0]);
}

/// A batch whose items each run a child.
struct Agents {
    child: AsyncFlow<Count>,
}

impl AsyncBatchNode<Numbers> for Agents {
    type Item = u64;
    type Output = u64;
    type Outcome = u64;
    type Action = ();

    async fn prep(&self, state: &Numbers) -> Result<Vec<u64>> {
        Ok(state.numbers.clone())
    }

    async fn exec(&self, number: &u64, cx: &Context) -> Result<u64> {
        let (state, _) = self.child.run_in(Count { n: *number as u32 * 10, of: 0 }, cx).await?;
        Ok(state.n.into())
    }

    async fn post(&self, state: &mut Numbers, _: Vec<u64>, outputs: Vec<u64>) -> Result<()> {
        state.doubled = outputs;
        Ok(())
    }
}

/// Stops a batch of six in which four items are done and two are in their middle; returns what ran before and after.
async fn cut_batch(make: impl Fn(AsyncFlow<Count>) -> AsyncFlow<Numbers>) -> (Folder, [Vec<String>; 2]) {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let child = child(&ledger, &Second::Gate(gate.clone()));
    gate.open_for(4);
    let runs = Runs::open(folder.store(), make(child.clone())).await.unwrap();
    runs.start("r", common::numbers(6)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("the middle", async || {
        let steps = reader.children("r").unwrap().iter().map(|child| child.step).sum::<u64>();
        reader.items_done("r").unwrap() == 4 && steps == 4 * 3 + 2
    })
    .await;
    runs.store().close().await;
    let before = ledger.take();

    gate.open();
    let runs = Runs::open(folder.store(), make(child)).await.unwrap();
    runs.resume_all().await.unwrap();
    let ended = soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();
    assert_eq!(ended.state.doubled, (0..6).map(|n| n * 10 + 3).collect::<Vec<_>>());
    runs.store().close().await;
    (folder, [before, ledger.take()])
}

#[tokio::test]
async fn children_of_the_items_of_a_batch_go_on_each_in_its_middle() {
    let journaled = |child| alone!(Agents { child }.parallel(6).journaled());
    let spawned = |child| alone!(Agents { child }.parallel(6).spawned().journaled());
    let plain = |child| alone!(Agents { child }.parallel(6));

    for (folder, [before, after]) in [cut_batch(journaled).await, cut_batch(spawned).await, cut_batch(plain).await] {
        assert_eq!((before.len(), after.len()), (4 * 3 + 2, 2 * 2));
        assert!(after.iter().all(|key| !before.contains(key)), "{before:?} {after:?}");
        let reader = Reader::open(folder.store()).unwrap();
        let items = reader.steps("r", 1, 1).unwrap()[0].items.unwrap();
        // An item and its child are counted once.
        assert_eq!((items.recorded, items.recalled), (6, 4));
        assert_eq!(reader.children("r").unwrap().len(), 6);
        assert_eq!(rows(&folder.store()), [("runs", 7), ("visits", 2 + 6 * 4)]);
    }
}

#[tokio::test]
async fn the_next_attempt_goes_on_with_a_child_that_failed() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let flow = alone!(agent(child(&ledger, &fails(2))).retry(Retry::attempts(3)));
    let store = Store::open(folder.store()).await.unwrap();
    // Its visits count once each, however often it is gone on with.
    let runs = store.runs_with(flow, FlowOptions::new().max_visits(4)).await.unwrap();

    let run = runs.start("r", Count::default()).await.unwrap();
    let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();

    assert_eq!(ended.state.n, 10);
    assert_eq!(ledger.take(), keys("r:0:agent[0]", 0..3));
    let step = &run.steps(1, 1).await.unwrap()[0];
    assert_eq!((step.attempts, step.items.unwrap().recorded), (3, 1));
}

#[tokio::test]
async fn a_child_that_has_ended_is_not_run_again_by_the_next_attempt() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let after: After = |cx, n| if cx.attempt() == 0 { Err(failure("too short")) } else { Ok(n) };
    let agent = Agent { child: child(&ledger, &Second::Nothing), after };
    let runs = Runs::open(folder.store(), alone!(agent.retry(Retry::attempts(2)))).await.unwrap();

    let run = runs.start("r", Count::default()).await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 10);
    assert_eq!(ledger.len(), 3);
    let items = run.steps(1, 1).await.unwrap()[0].items.unwrap();
    assert_eq!((items.recorded, items.recalled), (1, 0));
}

#[tokio::test]
async fn a_failed_run_goes_on_in_its_child() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), alone!(agent(child(&ledger, &fails(1))))).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    let error = soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();
    let NotEnded::Failed { node, message, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*node, "agent");
    assert!(message.contains("node `agent[0]/visit` failed in exec after 1 attempt: down"), "{message}");
    let reader = Reader::open(folder.store()).unwrap();
    assert_eq!((reader.children("r").unwrap()[0].status, ledger.len()), (Status::Failed, 1));

    run.retry_failed().await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 10);
    assert_eq!(ledger.take(), keys("r:0:agent[0]", 0..3));
}

#[tokio::test]
async fn a_child_that_is_dropped_by_a_timeout_goes_on_in_the_next_attempt() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let node = agent(child(&ledger, &Second::Gate(gate.clone())));
    let node = node.timeout(Duration::from_millis(300)).retry(Retry::attempts(1000));
    let runs = Runs::open(folder.store(), alone!(node)).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    until("the second visit", async || ledger.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    gate.open();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 10);
    assert_eq!(ledger.take(), keys("r:0:agent[0]", 0..3));
    assert!(run.steps(1, 1).await.unwrap()[0].attempts > 1);
}

#[tokio::test]
async fn a_child_that_nobody_goes_on_with_is_cancelled() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let node = agent(child(&ledger, &Second::Gate(gate))).timeout(Duration::from_millis(200));
    let runs = Runs::open(folder.store(), alone!(node)).await.unwrap();

    let run = runs.start("r", Count::default()).await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 107);
    let child = &Reader::open(folder.store()).unwrap().children("r").unwrap()[0];
    assert_eq!((child.status, child.step), (Status::Cancelled, 1));
}

#[tokio::test]
async fn deleting_and_pruning_a_run_take_its_children() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), turns(child(&ledger, &Second::Nothing))).await.unwrap();
    for id in ["a", "b"] {
        soon("the end", runs.start(id, Count::to(20)).await.unwrap().finished()).await.unwrap().ended().unwrap();
    }
    assert_eq!(rows(&folder.store()), [("runs", 6), ("visits", 2 * (5 + 2 * 4))]);

    runs.delete("a").await.unwrap();
    assert_eq!(rows(&folder.store()), [("runs", 3), ("visits", 5 + 2 * 4)]);
    assert_eq!(runs.prune(&Prune::new()).await.unwrap().runs, 1);

    assert_eq!(rows(&folder.store()), []);
}
