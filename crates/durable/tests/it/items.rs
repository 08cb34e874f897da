//! The item journal: after a stop in the middle of a batch, only what is not recorded runs again.

use std::sync::{Arc, atomic::AtomicUsize};

use flowstone_core::{AsyncFlow, BatchNode, Context, NodeExt, Result};
use flowstone_durable::{Reader, Runs};

use crate::common::{Double, Folder, Gate, Ledger, Numbers, doubling, items, numbers, rows, soon, until};

/// Runs a batch of twenty that stops at item 10, closes the store, and runs it on with another flow.
///
/// Returns the items of both processes.
async fn cut(
    before: impl FnOnce(&Ledger) -> AsyncFlow<Numbers>,
    after: impl FnOnce(&Ledger) -> AsyncFlow<Numbers>,
) -> [Vec<String>; 2] {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), before(&ledger)).await.unwrap();
    runs.start("r", numbers(20)).await.unwrap();
    until("ten items", async || ledger.len() >= 10).await;
    let reader = Reader::open(folder.store()).unwrap();
    until("they are recorded, or will never be", {
        let mut looks = 0;
        async move || {
            looks += 1;
            reader.items_done("r").unwrap() >= 10 || looks > 40
        }
    })
    .await;
    runs.store().close().await;
    let first = ledger.take();

    let runs = Runs::open(folder.store(), after(&ledger)).await.unwrap();
    runs.resume_all().await.unwrap();
    let ended = soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();
    assert_eq!(ended.state.doubled, (0..20).map(|n| n * 2).collect::<Vec<_>>());
    assert!(!rows(&folder.store()).iter().any(|(table, _)| *table == "items"), "a committed visit has no items");
    [first, ledger.take()]
}

/// Both processes together have done each item once.
fn each_once([mut first, second]: [Vec<String>; 2]) {
    assert_eq!((first.len(), second.len()), (10, 10));
    first.extend(second);
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 20);
}

fn double(ledger: &Ledger, stops_at: usize) -> Double {
    Double { ledger: ledger.clone(), stops_at: Arc::new(AtomicUsize::new(stops_at)) }
}

fn flow(
    name: &str,
    add: impl FnOnce(&mut flowstone_core::Builder<Numbers, flowstone_core::AsyncKind>),
) -> AsyncFlow<Numbers> {
    let mut flow = AsyncFlow::builder(name);
    add(&mut flow);
    flow.build().unwrap()
}

#[tokio::test]
async fn items_of_a_sequential_batch_are_recalled() {
    let make = |stops_at| {
        move |ledger: &Ledger| {
            flow("double", |flow| {
                let node = flow.add("double", double(ledger, stops_at).journaled());
                flow.start(node);
            })
        }
    };
    each_once(cut(make(10), make(usize::MAX)).await);
}

#[tokio::test]
async fn items_of_a_parallel_batch_are_recalled() {
    each_once(cut(|ledger| doubling(ledger, 10), |ledger| doubling(ledger, usize::MAX)).await);
}

#[tokio::test]
async fn items_of_a_spawned_batch_are_recalled() {
    let make = |stops_at| {
        move |ledger: &Ledger| {
            flow("double", |flow| {
                let node = flow.add("double", double(ledger, stops_at).parallel(20).spawned().journaled());
                flow.start(node);
            })
        }
    };
    each_once(cut(make(10), make(usize::MAX)).await);
}

/// As `Double`, but not async.
struct Pooled {
    ledger: Ledger,
    stops_at: usize,
}

impl BatchNode<Numbers> for Pooled {
    type Item = u64;
    type Output = u64;
    type Outcome = u64;
    type Action = ();

    fn prep(&self, state: &Numbers) -> Result<Vec<u64>> {
        Ok(state.numbers.clone())
    }

    fn exec(&self, number: &u64, cx: &Context) -> Result<u64> {
        while cx.item().unwrap() >= self.stops_at && !cx.cancelled() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if cx.item().unwrap() < self.stops_at {
            self.ledger.add(format!("double {number}"));
        }
        Ok(number * 2)
    }

    fn post(&self, state: &mut Numbers, _: Vec<u64>, doubled: Vec<u64>) -> Result<()> {
        state.doubled = doubled;
        Ok(())
    }
}

#[tokio::test]
async fn items_of_a_pooled_batch_are_recalled() {
    let make = |stops_at| {
        move |ledger: &Ledger| {
            flow("double", |flow| {
                let node = flow.add("double", Pooled { ledger: ledger.clone(), stops_at }.journaled());
                flow.start(node);
            })
        }
    };
    each_once(cut(make(10), make(usize::MAX)).await);
}

#[tokio::test]
async fn a_batch_that_is_not_journaled_starts_over() {
    let make = |stops_at| {
        move |ledger: &Ledger| {
            flow("double", |flow| {
                let node = flow.add("double", double(ledger, stops_at).parallel(8));
                flow.start(node);
            })
        }
    };

    let [first, second] = cut(make(10), make(usize::MAX)).await;

    assert_eq!((first.len(), second.len()), (10, 20));
}

#[tokio::test]
async fn of_ten_thousand_items_only_those_not_recorded_run_again() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let make = |stops_at| {
        flow("double", |flow| {
            let node = flow.add("double", double(&ledger, stops_at).parallel(500).journaled());
            flow.start(node);
        })
    };
    let runs = Runs::open(folder.store(), make(6000)).await.unwrap();
    let run = runs.start("r", numbers(10_000)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("six thousand", async || reader.items_done("r").unwrap() == 6000).await;
    runs.store().close().await;
    drop(run);
    ledger.take();

    let runs = Runs::open(folder.store(), make(usize::MAX)).await.unwrap();
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    soon("the end", run.finished()).await.unwrap().ended().unwrap();

    assert_eq!(ledger.len(), 4000);
    let items = run.steps(1, 1).await.unwrap()[0].items.unwrap();
    assert_eq!((items.recorded, items.recalled), (10_000, 6000));
}

#[tokio::test]
async fn items_are_those_of_their_visit_in_a_loop() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let make = |ledger: &Ledger, gate: &Gate| {
        let (ledger, gate) = (ledger.clone(), gate.clone());
        let mut flow = AsyncFlow::builder("loop");
        let batch = items(move |cx| {
            let (ledger, gate) = (ledger.clone(), gate.clone());
            async move {
                if cx.visit() == 2 && cx.item() == Some(3) {
                    gate.pass().await;
                }
                ledger.add(format!("{}:{}", cx.visit(), cx.item().unwrap()));
                Ok(cx.visit() * 100 + cx.item().unwrap() as u64)
            }
        });
        let batch = flow.add("batch", batch.parallel(1).journaled());
        let again = flow.add("again", |state: &mut Numbers| {
            state.numbers.push(0);
            flowstone_core::Action::from(if state.numbers.len() < 7 { "again" } else { "done" })
        });
        flow.start(batch);
        flow.route(batch >> again);
        flow.route(again - "again" >> batch);
        flow.route(again - "done" >> flowstone_core::END);
        flow.build().unwrap()
    };
    let runs = Runs::open(folder.store(), make(&ledger, &gate)).await.unwrap();
    runs.start("r", numbers(5)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("the second batch", async || reader.run("r").unwrap().step == 2 && reader.items_done("r").unwrap() == 3)
        .await;
    runs.store().close().await;
    ledger.take();
    gate.open();

    let runs = Runs::open(folder.store(), make(&ledger, &gate)).await.unwrap();
    runs.resume_all().await.unwrap();
    let ended = soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(ended.state.doubled, [200, 201, 202, 203, 204, 205]);
    assert_eq!(ledger.take(), ["2:3", "2:4", "2:5"]);
}
