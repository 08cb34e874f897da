//! Idempotency keys: the same before and after a crash, and no two things have the same.

use std::collections::BTreeSet;

use flowstone_core::{Action, AsyncFlow, NodeExt, Retry, driver::ItemKey};
use flowstone_durable::{Durability, FlowOptions, Reader, Runs, Status, Store, StoreOptions};

use crate::common::{
    Count, Folder, Gate, Ledger, Numbers, failure, items, key, numbers, soon, until, without_life, work,
};

/// Pauses, then works in a node, a batch and children; each waits at the gate once it has written down its key.
fn flow(ledger: &Ledger, gate: &Gate) -> AsyncFlow<Count> {
    let node = |ledger: &Ledger, gate: &Gate| {
        let (ledger, gate) = (ledger.clone(), gate.clone());
        work(
            move |cx| {
                let (ledger, gate) = (ledger.clone(), gate.clone());
                async move {
                    ledger.add(key(&cx));
                    if cx.attempt() == 0 {
                        return Err(failure("once"));
                    }
                    gate.pass().await;
                    Ok(1)
                }
            },
            |count: &mut Count, one| {
                count.n += one as u32;
                Action::from("")
            },
        )
        .retry(Retry::attempts(2))
    };
    let mut inner = AsyncFlow::builder("inner");
    let first = inner.add("first", node(ledger, &open()));
    let second = inner.add("second", node(ledger, gate));
    inner.start(first);
    inner.route(first >> second);
    let inner = inner.build().unwrap();

    let mut flow = AsyncFlow::builder("keys");
    let one = flow.add("one", node(ledger, &open()));
    let ask = flow.add("ask", Continue);
    let two = flow.add("two", node(ledger, gate));
    let join = |count: &mut Count, ended: Vec<Count>| count.n += ended.iter().map(|child| child.n).sum::<u32>();
    let each = inner.batch(|_: &Count| vec![Count::default(); 3], join).parallel(3).journaled();
    let each = flow.add("each", each);
    flow.start(one);
    flow.route(one >> ask);
    flow.route(ask >> two >> each);
    flow.build().unwrap()
}

fn open() -> Gate {
    let gate = Gate::closed();
    gate.open();
    gate
}

struct Continue;

impl flowstone_core::Ask<Count> for Continue {
    type Question = ();
    type Answer = ();
    type Action = ();

    fn ask(&self, _: &Count) -> flowstone_core::Result<()> {
        Ok(())
    }

    fn post(&self, _: &mut Count, (): ()) -> flowstone_core::Result<()> {
        Ok(())
    }
}

/// The keys of a run that is never stopped.
async fn undisturbed() -> BTreeSet<String> {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), flow(&ledger, &open())).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Paused);
    run.answer("ask", ()).await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 8);
    let keys: Vec<_> = ledger.take();
    assert_eq!(keys.len(), 16, "each twice, since each fails once: {keys:?}");
    keys.into_iter().collect()
}

#[tokio::test]
async fn keys_are_the_same_before_and_after_a_restart_and_a_pause() {
    let wanted = undisturbed().await;
    assert_eq!(wanted.len(), 8);
    let (folder, ledger, shut) = (Folder::new(), Ledger::default(), Gate::closed());

    // Stopped while paused, then in `two`, then in the second visits of the children.
    let runs = Runs::open(folder.store(), flow(&ledger, &shut)).await.unwrap();
    runs.start("r", Count::default()).await.unwrap().settled().await.unwrap();
    runs.store().close().await;

    let runs = Runs::open(folder.store(), flow(&ledger, &shut)).await.unwrap();
    runs.answer("r", "ask", ()).await.unwrap();
    until("two", async || ledger.count("r:2:two") == 2).await;
    runs.store().close().await;

    let runs = Runs::open(folder.store(), flow(&ledger, &open())).await.unwrap();
    runs.resume_all().await.unwrap();
    soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(ledger.count("r:2:two"), 4, "made again with the same key");
    assert_eq!(ledger.take().into_iter().collect::<BTreeSet<_>>(), wanted);
}

#[tokio::test]
async fn keys_of_children_are_the_same_after_a_restart_in_their_middle() {
    let wanted = undisturbed().await;
    let (folder, ledger, shut) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), flow(&ledger, &shut)).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    run.settled().await.unwrap();
    run.answer("ask", ()).await.unwrap();
    until("two", async || ledger.count("r:2:two") == 2).await;
    // Lets `two` pass, and what comes after it wait: a new gate for the rest.
    runs.store().close().await;
    let half = Gate::closed();
    half.open_for(1);
    let runs = Runs::open(folder.store(), flow(&ledger, &half)).await.unwrap();
    runs.resume_all().await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    let steps = || reader.children("r").unwrap().iter().map(|child| child.step).sum::<u64>();
    until("the children", async || steps() == 3 && ledger.len() >= 2 + 4 + 6 + 6).await;
    runs.store().close().await;

    let runs = Runs::open(folder.store(), flow(&ledger, &open())).await.unwrap();
    runs.resume_all().await.unwrap();
    soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(ledger.take().into_iter().collect::<BTreeSet<_>>(), wanted);
}

/// Pays once and waits at the gate, in a node, a batch, the children of a batch flow and a child of an `exec`. `name`
/// makes the names of the nodes; `inside` puts them all into a flow of that name.
fn paying(ledger: &Ledger, gate: &Gate, name: fn(&str) -> String, inside: Option<&str>) -> AsyncFlow<Numbers> {
    let pay = {
        let (ledger, gate) = (ledger.clone(), gate.clone());
        move |cx: flowstone_core::Context| {
            let (ledger, gate) = (ledger.clone(), gate.clone());
            async move {
                ledger.add(cx.idempotency_key());
                gate.pass().await;
                Ok(1)
            }
        }
    };
    let mut inner = AsyncFlow::builder("inner");
    let leaf = inner.add("leaf", work(pay.clone(), |_: &mut Numbers, _| Action::from("")));
    inner.start(leaf);
    let inner = inner.build().unwrap();

    let mut flow = AsyncFlow::builder(inside.unwrap_or("paying"));
    let one = flow.add(name("one"), work(pay.clone(), |_: &mut Numbers, _| Action::from("")));
    let batch = flow.add(name("batch"), items(pay).journaled());
    let each = inner.clone().batch(|_: &Numbers| vec![numbers(0); 2], |_: &mut Numbers, _| ()).journaled();
    let each = flow.add(name("each"), each);
    let exec = flow.add(name("exec"), {
        let runs = move |cx: flowstone_core::Context| {
            let inner = inner.clone();
            async move { inner.run_in(numbers(0), &cx).await.map(|_| 0) }
        };
        work(runs, |_: &mut Numbers, _| Action::from(""))
    });
    flow.start(one);
    flow.route(one >> batch >> each >> exec);
    let flow = flow.build().unwrap();
    if inside.is_none() {
        return flow;
    }
    let mut outer = AsyncFlow::builder("paying");
    let inner = outer.add(inside.unwrap(), flow);
    outer.start(inner);
    outer.build().unwrap()
}

#[tokio::test]
async fn a_renamed_node_keeps_its_key_and_so_do_its_items_and_its_children() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    // The program as it was, with other names, and with its nodes in a flow of their own.
    let programs = [
        (as_it_is as fn(&str) -> String, None, ""),
        (other as fn(&str) -> String, None, ""),
        (as_it_is as fn(&str) -> String, Some("pay"), "pay/"),
    ];
    let called = |program: usize, node: &str| format!("{}{}", programs[program].2, programs[program].0(node));
    let mut ended = false;
    for round in 0_usize.. {
        let program = round % 3;
        let mut options = FlowOptions::new();
        for (from, node) in (0..3).flat_map(|from| ["one", "batch", "each", "exec"].map(|node| (from, node))) {
            if called(from, node) != called(program, node) {
                options = options.rename(called(from, node), called(program, node));
            }
        }
        // Each third program gets a payment done; the others die while they pay.
        let gate = Gate::closed();
        gate.open_for(usize::from(program == 2));
        let store = Store::open(folder.store()).await.unwrap();
        let flow = paying(&ledger, &gate, programs[program].0, programs[program].1);
        let (before, runs) = (ledger.len(), store.runs_with(flow, options).await.unwrap());
        let run = runs.start("order 7", numbers(2)).await.unwrap();
        let payments = before + if program == 2 { 2 } else { 1 };
        until("a payment", async || {
            ended = run.info().await.unwrap().status == Status::Ended;
            ended || ledger.len() >= payments
        })
        .await;
        store.close().await;
        if ended {
            break;
        }
    }

    // One node, two items, two children and the child of an `exec` were paid for, each under one key.
    let keys = ledger.take();
    let known: BTreeSet<_> = keys.iter().map(|key| without_life(key)).collect();
    let item = |number: u64| ItemKey::of_json(&serde_json::to_vec(&number).unwrap(), 0);
    let child = |before| ItemKey::of_json(&serde_json::to_vec(&numbers(0)).unwrap(), before);
    let mut wanted = [
        "order%207:0:one".to_owned(),
        format!("order%207:1:batch[{}]", item(0)),
        format!("order%207:1:batch[{}]", item(1)),
        format!("order%207:2:each[{}]:0:leaf", child(0)),
        format!("order%207:2:each[{}]:0:leaf", child(1)),
        "order%207:3:exec[0]:0:leaf".to_owned(),
    ];
    wanted.sort();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), wanted.len(), "{keys:#?}");
    assert!(keys.len() > 2 * wanted.len(), "{keys:#?}");
    for (key, wanted) in known.iter().zip(wanted) {
        // Whichever name the node had when its visit became due.
        let node = wanted.split(':').nth(2).unwrap().split('[').next().unwrap();
        assert!((0..3).any(|program| wanted.replacen(node, &called(program, node), 1) == *key), "{key} {wanted}");
    }
}

fn as_it_is(name: &str) -> String {
    name.to_owned()
}

fn other(name: &str) -> String {
    format!("{name}-anew")
}

/// Takes the key of a run, whose node then fails.
async fn key_of(folder: &Folder, id: &str) -> String {
    let ledger = Ledger::default();
    let runs = Runs::open(folder.store(), failing(&ledger)).await.unwrap();
    runs.start(id, Count::default()).await.unwrap().settled().await.unwrap();
    runs.store().close().await;
    ledger.take().remove(0)
}

/// Counts, then fails, and leaves its key.
fn failing(ledger: &Ledger) -> AsyncFlow<Count> {
    let ledger = ledger.clone();
    let mut flow = AsyncFlow::builder("failing");
    let count = flow.add("count", |count: &mut Count| count.n += 1);
    let pay = work(
        move |cx| {
            ledger.add(cx.idempotency_key());
            async move { Err(failure("down")) }
        },
        |_: &mut Count, _| Action::from(""),
    );
    let pay = flow.add("pay", pay);
    flow.start(count);
    flow.route(count >> pay);
    flow.build().unwrap()
}

#[tokio::test]
async fn keys_of_two_stores_of_two_lives_and_of_a_fork_differ() {
    let (folder, other) = (Folder::new(), Folder::new());
    let ledger = Ledger::default();

    let mut keys = vec![key_of(&folder, "r").await, key_of(&other, "r").await];
    let runs = Runs::open(folder.store(), failing(&ledger)).await.unwrap();
    let fork = runs.fork("r", 1, "s", |_| ()).await.unwrap();
    fork.settled().await.unwrap();
    runs.delete("r").await.unwrap();
    let again = runs.start("r", Count::default()).await.unwrap();
    again.settled().await.unwrap();
    keys.extend(ledger.take());

    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 4, "{keys:?}");
    assert_eq!(
        keys.iter().map(|key| without_life(key)).collect::<Vec<_>>(),
        ["r:1:pay", "r:1:pay", "s:0:pay", "r:1:pay"]
    );
}

#[tokio::test]
async fn a_run_that_is_retried_and_a_backup_that_is_restored_keep_their_keys() {
    let (folder, backup, ledger) = (Folder::new(), Folder::new(), Ledger::default());
    let key = key_of(&folder, "r").await;
    std::fs::copy(folder.store(), backup.store()).unwrap();

    for folder in [&folder, &backup] {
        let runs = Runs::open(folder.store(), failing(&ledger)).await.unwrap();
        runs.retry_failed("r").await.unwrap().settled().await.unwrap();
        runs.retry_failed("r").await.unwrap().settled().await.unwrap();
        runs.store().close().await;
    }

    assert_eq!(ledger.take(), vec![key; 4]);
}

#[tokio::test]
async fn a_run_that_an_older_version_started_keeps_the_keys_that_it_had() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    key_of(&folder, "order 7").await;
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    db.execute("UPDATE runs SET key = NULL", []).unwrap();
    drop(db);

    let runs = Runs::open(folder.store(), failing(&ledger)).await.unwrap();
    runs.retry_failed("order 7").await.unwrap().settled().await.unwrap();
    runs.fork("order 7", 1, "fork", |_| ()).await.unwrap().settled().await.unwrap();

    let keys = ledger.take();
    assert_eq!(keys[0], "order 7:1:pay");
    assert!(keys[1].starts_with("fork~"), "a fork begins now: {}", keys[1]);
}

#[tokio::test]
async fn a_key_is_safe_for_a_header_whatever_the_id() {
    let ids = ["a\nb", "na\u{ef}ve \u{1f600}", "\"q\"", &"long ".repeat(200), "100%", "a:1:pay", "\u{7f}\t"];
    let folder = Folder::new();
    let mut keys = BTreeSet::new();
    for id in ids {
        keys.insert(key_of(&folder, id).await);
    }

    assert_eq!(keys.len(), ids.len());
    for key in keys {
        assert!(key.len() <= 255 && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'), "{key}");
    }
}

#[tokio::test]
async fn a_visit_that_is_made_again_behind_the_disk_has_the_key_of_its_node() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let flow = |ledger: &Ledger| {
        let (one, two, gate) = (ledger.clone(), ledger.clone(), Gate::closed());
        let mut flow = AsyncFlow::builder("behind");
        let first = flow.add(
            "first",
            work(
                move |cx| {
                    one.add(cx.idempotency_key());
                    async { Ok(0) }
                },
                |_: &mut Count, _| Action::from(""),
            ),
        );
        let second = flow.add(
            "second",
            work(
                move |cx| {
                    two.add(cx.idempotency_key());
                    let gate = gate.clone();
                    async move {
                        gate.pass().await;
                        Ok(0)
                    }
                },
                |_: &mut Count, _| Action::from(""),
            ),
        );
        flow.start(first);
        flow.route(first >> second);
        flow.build().unwrap()
    };
    let open = async |ledger: &Ledger| {
        let store = StoreOptions::new().durability(Durability::Behind(4)).open(folder.store()).await.unwrap();
        store.runs(flow(ledger)).await.unwrap()
    };
    for _ in 0..3 {
        let (runs, before) = (open(&ledger).await, ledger.len());
        runs.start("r", Count::default()).await.unwrap();
        until("the second", async || ledger.len() > before).await;
        runs.store().close().await;
    }

    let keys: BTreeSet<_> = ledger.take().iter().map(|key| without_life(key)).collect();
    assert_eq!(keys, ["r:0:first", "r:1:second"].map(str::to_owned).into());
}

#[tokio::test]
async fn a_node_whose_name_another_had_once_is_not_taken_for_that() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let node = |name: &'static str, gate: Gate| {
        let ledger = ledger.clone();
        let exec = move |_| {
            let (ledger, gate) = (ledger.clone(), gate.clone());
            async move {
                ledger.add(name.to_owned());
                gate.pass().await;
                Ok(1)
            }
        };
        work(exec, |count: &mut Count, one| {
            count.n += one as u32;
            Action::from("")
        })
    };
    // The node `pay` is `charge` now, and another node is `pay`.
    let open_again = async || {
        let mut flow = AsyncFlow::builder("renamed");
        let charge = flow.add("charge", node("charge", open()));
        let pay = flow.add("pay", node("pay", gate.clone()));
        flow.start(charge);
        flow.route(charge >> pay);
        let store = Store::open(folder.store()).await.unwrap();
        store.runs_with(flow.build().unwrap(), FlowOptions::new().rename("pay", "charge")).await.unwrap()
    };
    let runs = open_again().await;
    runs.start("r", Count::default()).await.unwrap();
    until("it pays", async || ledger.count("pay") == 1).await;
    runs.store().close().await;
    gate.open();

    let runs = open_again().await;
    runs.store().resume_all().await.unwrap();

    assert_eq!(soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap().state.n, 2);
    assert_eq!((ledger.count("charge"), ledger.count("pay")), (1, 2));
}
