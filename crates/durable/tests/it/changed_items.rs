//! A batch under way, and a later program whose `prep` gives other items: what was kept stays with the item it was of.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flowstone_core::{AsyncBatchNode, AsyncFlow, Child, Context, NodeExt, Result, Retry};
use flowstone_durable::{DriveError, FlowOptions, Reader, Runs, Status, Store, StoreOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::common::{Count, Folder, Gate, Ledger, soon, until};

/// The results of a batch, by item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Orders {
    paid: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Order {
    number: u32,
    note: String,
}

/// Pays the orders of a list that belongs to the program, not to the state; waits at the gate from the `stops`th call
/// on.
#[derive(Clone)]
struct Pay {
    orders: Vec<Order>,
    ledger: Ledger,
    stops: usize,
    begun: Arc<Mutex<usize>>,
}

fn pay(ledger: &Ledger, numbers: &[u32], stops: usize) -> Pay {
    let orders = numbers.iter().map(|number| Order { number: *number, note: "as ordered".to_owned() }).collect();
    Pay { orders, ledger: ledger.clone(), stops, begun: Arc::default() }
}

impl AsyncBatchNode<Orders> for Pay {
    type Item = Order;
    type Output = String;
    type Outcome = String;
    type Action = ();

    async fn prep(&self, _: &Orders) -> Result<Vec<Order>> {
        Ok(self.orders.clone())
    }

    async fn exec(&self, order: &Order, cx: &Context) -> Result<String> {
        let call = {
            let mut begun = self.begun.lock().unwrap();
            *begun += 1;
            *begun
        };
        self.ledger.add(format!("{} {}", order.number, cx.idempotency_key()));
        if call > self.stops {
            std::future::pending::<()>().await;
        }
        Ok(format!("paid {}", order.number))
    }

    async fn post(&self, state: &mut Orders, orders: Vec<Order>, paid: Vec<String>) -> Result<()> {
        state.paid = orders.iter().zip(paid).map(|(order, paid)| format!("{}: {paid}", order.number)).collect();
        Ok(())
    }
}

fn numbers(entries: &[String]) -> Vec<&str> {
    entries.iter().map(|entry| entry.split(' ').next().unwrap()).collect()
}

fn keys(entries: &[String]) -> Vec<&str> {
    entries.iter().map(|entry| entry.split(' ').nth(1).unwrap()).collect()
}

macro_rules! flow {
    ($node:expr) => {{
        let mut flow = AsyncFlow::builder("orders");
        let node = flow.add("pay", $node);
        flow.start(node);
        flow.build().unwrap()
    }};
}

/// Runs the first flow until so many items are kept and another is under way, closes the store, and goes on with the
/// second.
async fn cut(
    (folder, ledger): (&Folder, &Ledger),
    first: AsyncFlow<Orders>,
    kept: usize,
    second: AsyncFlow<Orders>,
) -> Runs<Orders> {
    let runs = Runs::open(folder.store(), first).await.unwrap();
    runs.start("r", Orders::default()).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("the items", async || reader.items_done("r").unwrap() == kept as u64 && ledger.len() > kept).await;
    runs.store().close().await;
    Runs::open(folder.store(), second).await.unwrap()
}

async fn finish(runs: &Runs<Orders>) -> Vec<String> {
    runs.resume_all().await.unwrap();
    soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap().state.paid
}

#[tokio::test]
async fn what_was_kept_stays_with_its_item_in_every_mode() {
    type Mode = fn(Pay) -> AsyncFlow<Orders>;
    let modes: [Mode; 4] = [
        |pay| flow!(pay.journaled()),
        |pay| flow!(pay.parallel(1).journaled()),
        |pay| flow!(pay.parallel(1).spawned().journaled()),
        |pay| flow!(pay.journaled_by(|order| order.number)),
    ];
    for mode in modes {
        let (folder, ledger) = (Folder::new(), Ledger::default());
        let runs = cut(
            (&folder, &ledger),
            mode(pay(&ledger, &[10, 20, 30, 40], 2)),
            2,
            mode(pay(&ledger, &[30, 40, 20, 50], usize::MAX)), // sorted otherwise, one gone, one new
        )
        .await;
        let first = ledger.take();

        let paid = finish(&runs).await;

        assert_eq!(numbers(&first), ["10", "20", "30"]);
        assert_eq!(paid, ["30: paid 30", "40: paid 40", "20: paid 20", "50: paid 50"]);
        let second = ledger.take();
        assert_eq!(numbers(&second), ["30", "40", "50"]);
        assert_eq!(keys(&first)[2], keys(&second)[0], "30 was under way: it has the same key, at another place");
        assert!(!keys(&first)[..2].contains(&keys(&second)[1]), "40 has not the key of what was at its place");
    }
}

#[tokio::test]
async fn an_item_that_moved_twice_is_still_found() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = cut(
        (&folder, &ledger),
        flow!(pay(&ledger, &[10, 20, 30], 2).journaled()),
        2,
        flow!(pay(&ledger, &[20, 5, 30, 10], 1).journaled()),
    )
    .await;
    runs.resume_all().await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("one more", async || reader.items_done("r").unwrap() == 3).await;
    runs.store().close().await;
    ledger.take();

    let runs = Runs::open(folder.store(), flow!(pay(&ledger, &[10, 20, 30, 5], usize::MAX).journaled())).await.unwrap();
    let paid = finish(&runs).await;

    assert_eq!(paid, ["10: paid 10", "20: paid 20", "30: paid 30", "5: paid 5"]);
    assert_eq!(numbers(&ledger.take()), ["30"]);
}

#[tokio::test]
async fn equal_items_are_interchangeable_and_each_is_paid_once() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = cut(
        (&folder, &ledger),
        flow!(pay(&ledger, &[7, 8, 7, 7], 3).journaled()),
        3,
        flow!(pay(&ledger, &[7, 7, 7, 8, 7], usize::MAX).journaled()),
    )
    .await;
    let first = ledger.take();

    let paid = finish(&runs).await;

    assert_eq!(paid.len(), 5);
    let second = ledger.take();
    assert_eq!(numbers(&second), ["7", "7"], "two of four were kept");
    assert_eq!(keys(&second)[0], keys(&first)[3], "the third was under way");
    assert_ne!(keys(&second)[0], keys(&second)[1]);
}

#[tokio::test]
async fn a_key_that_the_user_gives_outlives_a_change_of_the_item() {
    for by_key in [true, false] {
        let (folder, ledger) = (Folder::new(), Ledger::default());
        let mut changed = pay(&ledger, &[20, 10], usize::MAX);
        changed.orders.iter_mut().for_each(|order| order.note = "a new text".to_owned());
        let before = pay(&ledger, &[10, 20], 1);
        let runs = if by_key {
            let by = |pay: Pay| flow!(pay.journaled_by(|order| order.number));
            cut((&folder, &ledger), by(before), 1, by(changed)).await
        } else {
            cut((&folder, &ledger), flow!(before.journaled()), 1, flow!(changed.journaled())).await
        };
        ledger.take();

        let paid = finish(&runs).await;

        assert_eq!(paid, ["20: paid 20", "10: paid 10"]);
        let again = ledger.take();
        assert_eq!(numbers(&again), if by_key { vec!["20"] } else { vec!["20", "10"] });
    }
}

#[tokio::test]
async fn items_in_order_are_refused_when_their_number_changes_and_nothing_is_lost() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let ordered = |numbers: &[u32], stops| flow!(pay(&ledger, numbers, stops).journaled_in_order());
    let runs = cut((&folder, &ledger), ordered(&[10, 20, 30, 40], 2), 2, ordered(&[30, 40], usize::MAX)).await;
    ledger.take();

    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    let error = soon("the error", run.finished()).await.unwrap_err();
    assert!(matches!(&error, DriveError::ItemCount { node, kept: 4, items: 2, .. } if *node == "pay"), "{error:?}");
    assert_eq!((run.info().await.unwrap().status, ledger.len()), (Status::Running, 0));
    runs.store().close().await;

    let runs = Runs::open(folder.store(), ordered(&[10, 20, 30, 40], usize::MAX)).await.unwrap();
    assert_eq!(finish(&runs).await, ["10: paid 10", "20: paid 20", "30: paid 30", "40: paid 40"]);
    assert_eq!(numbers(&ledger.take()), ["30", "40"]);
}

#[tokio::test]
async fn items_with_keys_and_without_are_not_taken_for_each_other() {
    for keyed_first in [true, false] {
        let (folder, ledger) = (Folder::new(), Ledger::default());
        let make = |keyed, stops| {
            let pay = pay(&ledger, &[10, 20], stops);
            if keyed { flow!(pay.journaled()) } else { flow!(pay.journaled_in_order()) }
        };
        let runs = cut((&folder, &ledger), make(keyed_first, 1), 1, make(!keyed_first, usize::MAX)).await;

        runs.resume_all().await.unwrap();
        let error = soon("the error", runs.get("r").await.unwrap().finished()).await.unwrap_err();

        assert!(matches!(&error, DriveError::ItemKeys { keyed, .. } if *keyed != keyed_first), "{error:?}");
        assert!(error.to_string().contains(if keyed_first {
            "say `journaled` as before"
        } else {
            "`journaled_in_order`"
        }));
    }
}

/// Children over one number each, which pay it in two visits; the second waits at the gate.
fn child(ledger: &Ledger, gate: &Gate) -> AsyncFlow<Count> {
    let (ledger, gate) = (ledger.clone(), gate.clone());
    let mut flow = AsyncFlow::builder("child");
    let first = flow.add("first", |count: &mut Count| count.n = count.of * 10);
    let second = crate::common::work(
        move |cx| {
            let (ledger, gate) = (ledger.clone(), gate.clone());
            async move {
                ledger.add(cx.idempotency_key());
                gate.pass().await;
                Ok(1)
            }
        },
        |count: &mut Count, one| {
            count.n += one as u32;
            flowstone_core::Action::from("")
        },
    );
    let second = flow.add("second", second);
    flow.start(first);
    flow.route(first >> second);
    flow.build().unwrap()
}

/// A child for each number of a list that belongs to the program.
fn parent(child: AsyncFlow<Count>, numbers: &'static [u32]) -> AsyncFlow<Orders> {
    let fork = move |_: &Orders| numbers.iter().map(|number| Count::to(*number)).collect();
    let join = |state: &mut Orders, ended: Vec<Child<Count>>| {
        state.paid = ended.iter().map(|child| format!("{}: {}", child.state.of, child.state.n)).collect();
    };
    flow!(child.batch_collect(fork, join).parallel(4).journaled())
}

#[tokio::test]
async fn children_go_on_with_their_own_state_in_another_order() {
    let (folder, ledger, half, open) = (Folder::new(), Ledger::default(), Gate::closed(), Gate::closed());
    half.open_for(1);
    open.open();
    let runs = Runs::open(folder.store(), parent(child(&ledger, &half), &[1, 2, 3])).await.unwrap();
    runs.start("r", Orders::default()).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    let steps = || reader.children("r").unwrap().iter().map(|child| child.step).sum::<u64>();
    until("four steps", async || ledger.len() == 3 && steps() == 4).await;
    runs.store().close().await;
    let first = ledger.take();

    let runs = Runs::open(folder.store(), parent(child(&ledger, &open), &[3, 1, 4])).await.unwrap();
    let ended = finish(&runs).await;

    assert_eq!(ended, ["3: 31", "1: 11", "4: 41"]);
    let second = ledger.take();
    assert_eq!(second.iter().filter(|key| first.contains(key)).count(), 1, "3 was under way: {first:?} {second:?}");
    assert_eq!(second.len(), 2);
    let children = reader.children("r").unwrap();
    let of = |status| children.iter().filter(|child| child.status == status).count();
    assert_eq!((of(Status::Ended), of(Status::Cancelled)), (3, 1), "the child of 2 is gone");
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Floats {
    made: Vec<f64>,
}

/// Gives `NAN` as long as that is broken.
struct Divide {
    broken: bool,
}

impl AsyncBatchNode<Floats> for Divide {
    type Item = u32;
    type Output = f64;
    type Outcome = f64;
    type Action = ();

    async fn prep(&self, _: &Floats) -> Result<Vec<u32>> {
        Ok(vec![1, 2])
    }

    async fn exec(&self, number: &u32, _: &Context) -> Result<f64> {
        Ok(if self.broken && *number == 2 { f64::NAN } else { f64::from(*number) })
    }

    async fn post(&self, state: &mut Floats, _: Vec<u32>, made: Vec<f64>) -> Result<()> {
        state.made = made;
        Ok(())
    }
}

#[tokio::test]
async fn an_item_that_json_cannot_hold_fails_at_once_and_can_be_retried() {
    let folder = Folder::new();
    let flow = |broken| {
        let mut flow = AsyncFlow::builder("divide");
        let node = flow.add("divide", Divide { broken }.journaled());
        flow.start(node);
        flow.build().unwrap()
    };
    let runs = Runs::open(folder.store(), flow(true)).await.unwrap();
    let run = runs.start("r", Floats::default()).await.unwrap();
    let error = soon("the error", run.finished()).await.unwrap().ended().unwrap_err();
    assert!(error.to_string().contains("item 1"), "{error}");
    assert!(error.to_string().contains("JSON does not hold"), "{error}");
    runs.store().close().await;

    let runs = Runs::open(folder.store(), flow(false)).await.unwrap();
    let run = runs.get("r").await.unwrap();
    run.retry_failed().await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.made, [1.0, 2.0]);
    let items = run.steps(1, 1).await.unwrap()[0].items.unwrap();
    assert_eq!((items.recorded, items.recalled), (2, 1));
}

/// As `Pay`, with an output of another shape.
struct PayAnew(Pay);

#[derive(Serialize, Deserialize)]
struct Receipt {
    text: String,
}

impl AsyncBatchNode<Orders> for PayAnew {
    type Item = Order;
    type Output = Receipt;
    type Outcome = Receipt;
    type Action = ();

    async fn prep(&self, state: &Orders) -> Result<Vec<Order>> {
        self.0.prep(state).await
    }

    async fn exec(&self, order: &Order, cx: &Context) -> Result<Receipt> {
        Ok(Receipt { text: self.0.exec(order, cx).await? })
    }

    async fn post(&self, state: &mut Orders, orders: Vec<Order>, paid: Vec<Receipt>) -> Result<()> {
        self.0.post(state, orders, paid.into_iter().map(|receipt| receipt.text).collect()).await
    }
}

/// A run whose first order is paid, under a program whose outputs have another shape.
async fn reshaped(folder: &Folder, ledger: &Ledger, options: FlowOptions) -> Runs<Orders> {
    let runs = cut(
        (folder, ledger),
        flow!(pay(ledger, &[10, 20], 1).journaled()),
        1,
        flow!(PayAnew(pay(ledger, &[20, 10], usize::MAX)).journaled()),
    )
    .await;
    runs.store().close().await;
    ledger.take();
    let store = Store::open(folder.store()).await.unwrap();
    let flow = flow!(PayAnew(pay(ledger, &[20, 10], usize::MAX)).journaled());
    store.runs_with(flow, options).await.unwrap()
}

#[tokio::test]
async fn a_kept_item_that_does_not_decode_refuses_its_run_unchanged() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = reshaped(&folder, &ledger, FlowOptions::new()).await;

    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    let error = soon("the error", run.finished()).await.unwrap_err();

    assert!(
        matches!(&error, DriveError::KeptItem { node, item: 1, path, .. } if *node == "pay" && path == "."),
        "{error:?}"
    );
    assert_eq!((run.info().await.unwrap().status, ledger.len()), (Status::Running, 0));
    runs.store().close().await;
    // The older program goes on with what is kept.
    let runs = Runs::open(folder.store(), flow!(pay(&ledger, &[10, 20], usize::MAX).journaled())).await.unwrap();
    assert_eq!(finish(&runs).await, ["10: paid 10", "20: paid 20"]);
    assert_eq!(numbers(&ledger.take()), ["20"]);
}

#[tokio::test]
async fn a_run_that_is_cancelled_and_retried_runs_items_again_that_do_not_decode() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = reshaped(&folder, &ledger, FlowOptions::new()).await;
    let run = runs.get("r").await.unwrap();

    run.cancel().await.unwrap();
    run.retry_failed().await.unwrap();

    assert_eq!(
        soon("the end", run.finished()).await.unwrap().ended().unwrap().state.paid,
        ["20: paid 20", "10: paid 10"]
    );
    assert_eq!(numbers(&ledger.take()), ["20", "10"]);
}

#[tokio::test]
async fn kept_items_are_migrated() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let options = FlowOptions::new().version(2, |_, state| Ok(state)).migrate_items(move |version, node, output| {
        log.lock().unwrap().push(format!("{version} {node} {output}"));
        Ok(json!({ "text": output }))
    });
    let runs = reshaped(&folder, &ledger, options).await;

    assert_eq!(finish(&runs).await, ["20: paid 20", "10: paid 10"]);
    assert_eq!(numbers(&ledger.take()), ["20"]);
    assert_eq!(*seen.lock().unwrap(), [r#"0 pay "paid 10""#]);
}

#[tokio::test]
async fn a_migration_of_items_that_fails_or_panics_refuses_the_run() {
    for panics in [false, true] {
        let (folder, ledger) = (Folder::new(), Ledger::default());
        let options = FlowOptions::new().version(1, |_, state| Ok(state)).migrate_items(move |_, _, _| {
            assert!(!panics, "a panic in a migration");
            Err("no".into())
        });
        let runs = reshaped(&folder, &ledger, options).await;

        let refused = runs.resume_all().await.unwrap().refused.remove(0);

        assert!(matches!(refused, DriveError::MigrateItem { found: 0, wanted: 1, .. }), "{refused:?}");
        assert_eq!(runs.get("r").await.unwrap().info().await.unwrap().status, Status::Running);
    }
}

/// Makes of what is kept what an older version would have: no keys, and no count.
fn as_if_older(folder: &Folder) {
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    db.execute_batch("UPDATE items SET item_key = NULL, version = NULL; DELETE FROM under_way").unwrap();
}

#[tokio::test]
async fn items_of_an_older_version_are_known_by_their_places_until_they_have_keys() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let make = |numbers: &[u32], stops| flow!(pay(&ledger, numbers, stops).journaled());
    let runs = cut((&folder, &ledger), make(&[10, 20, 30, 40], 2), 2, make(&[10, 20, 30, 40], 0)).await;
    runs.store().close().await;
    as_if_older(&folder);
    ledger.take();

    // It goes on with one more item, and then the list changes.
    let runs = Runs::open(folder.store(), make(&[10, 20, 30, 40], 1)).await.unwrap();
    runs.resume_all().await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("one more", async || reader.items_done("r").unwrap() == 3).await;
    runs.store().close().await;
    ledger.take();
    let runs = Runs::open(folder.store(), make(&[40, 20, 10], usize::MAX)).await.unwrap();

    assert_eq!(finish(&runs).await, ["40: paid 40", "20: paid 20", "10: paid 10"]);
    assert_eq!(numbers(&ledger.take()), ["40"]);
}

#[tokio::test]
async fn items_of_an_older_version_are_refused_if_there_are_fewer_now() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let make = |numbers: &[u32], stops| flow!(pay(&ledger, numbers, stops).journaled());
    let runs = cut((&folder, &ledger), make(&[10, 20, 30], 2), 2, make(&[20], usize::MAX)).await;
    as_if_older(&folder);
    ledger.take();

    runs.resume_all().await.unwrap();
    let error = soon("the error", runs.get("r").await.unwrap().finished()).await.unwrap_err();

    assert!(matches!(&error, DriveError::ItemCount { kept: 2, items: 1, .. }), "{error:?}");
    assert_eq!(ledger.len(), 0);
}

/// Fails each item once, and notes its attempts.
struct Again(Pay);

impl AsyncBatchNode<Orders> for Again {
    type Item = Order;
    type Output = String;
    type Outcome = String;
    type Action = ();

    async fn prep(&self, state: &Orders) -> Result<Vec<Order>> {
        self.0.prep(state).await
    }

    async fn exec(&self, order: &Order, cx: &Context) -> Result<String> {
        self.0.ledger.add(format!("{} {}", order.number, cx.attempt()));
        if cx.attempt() == 0 && order.number == 20 {
            Err("not yet".into())
        } else {
            Ok(format!("paid {}", order.number))
        }
    }

    async fn post(&self, state: &mut Orders, orders: Vec<Order>, paid: Vec<String>) -> Result<()> {
        self.0.post(state, orders, paid).await
    }
}

#[tokio::test]
async fn a_kept_wait_stays_with_its_item() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let open = async |numbers: &[u32], stops| {
        let node = Again(pay(&ledger, numbers, stops)).parallel(2).journaled();
        let retry = Retry::attempts(2).fixed(Duration::from_millis(300));
        let options = StoreOptions::new().keep_waits(Duration::from_millis(100));
        options.open(folder.store()).await.unwrap().runs(flow!(node.retry(retry))).await.unwrap()
    };
    let runs = open(&[10, 20], 0).await;
    runs.start("r", Orders::default()).await.unwrap();
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    let kept = || db.query_row("SELECT count(*) FROM items", [], |row| row.get::<_, i64>(0)).unwrap();
    until("an output and a wait", async || kept() == 2).await;
    runs.store().close().await;
    ledger.take();

    let runs = open(&[20, 30, 10], 0).await;

    assert_eq!(finish(&runs).await, ["20: paid 20", "30: paid 30", "10: paid 10"]);
    let mut done = ledger.take();
    done.sort();
    assert_eq!(done, ["20 1", "30 0"]);
}

/// Runs a flow for each order of its list, by its place.
struct ByPlace {
    orders: Vec<Order>,
    child: AsyncFlow<Count>,
}

impl flowstone_core::AsyncNode<Orders> for ByPlace {
    type Prep = Vec<Order>;
    type Exec = Vec<String>;
    type Action = ();

    async fn prep(&self, _: &Orders) -> Result<Vec<Order>> {
        Ok(self.orders.clone())
    }

    async fn exec(&self, orders: &Vec<Order>, cx: &Context) -> Result<Vec<String>> {
        let mut paid = Vec::new();
        for (place, order) in orders.iter().enumerate() {
            let (child, _) = self.child.run_in(Count::to(order.number), &cx.clone().with_item(place)).await?;
            paid.push(format!("{}: {}", order.number, child.n));
        }
        Ok(paid)
    }

    async fn post(&self, state: &mut Orders, _: Vec<Order>, paid: Vec<String>) -> Result<()> {
        state.paid = paid;
        Ok(())
    }
}

#[tokio::test]
async fn a_child_that_is_numbered_by_its_place_is_not_taken_for_another() {
    let (folder, ledger, half, open) = (Folder::new(), Ledger::default(), Gate::closed(), Gate::closed());
    half.open_for(1);
    open.open();
    let make = |numbers: &[u32], gate: &Gate| {
        flow!(ByPlace { orders: pay(&ledger, numbers, 0).orders, child: child(&ledger, gate) })
    };
    let runs = Runs::open(folder.store(), make(&[1, 2, 3], &half)).await.unwrap();
    runs.start("r", Orders::default()).await.unwrap();
    until("two", async || ledger.len() == 2).await;
    runs.store().close().await;
    let first = ledger.take();

    let runs = Runs::open(folder.store(), make(&[2, 3], &open)).await.unwrap();

    assert_eq!(finish(&runs).await, ["2: 21", "3: 31"]);
    let second = ledger.take();
    assert!(second.iter().all(|key| !first.contains(key)), "no key of another child: {first:?} {second:?}");
    let children = Reader::open(folder.store()).unwrap().children("r").unwrap();
    let of = |status| children.iter().filter(|child| child.status == status).count();
    assert_eq!(
        (of(Status::Ended), of(Status::Cancelled)),
        (3, 1),
        "that of 1 had ended, the old one of 2 is cancelled"
    );
}
