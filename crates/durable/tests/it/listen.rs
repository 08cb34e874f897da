//! Listening to all runs of a flow: from the first event on, with what happens in children, and without history.

use flowstone_core::{Action, AsyncFlow, END, Event, EventKind};
use flowstone_durable::{FlowOptions, Store};

use crate::common::{Count, Folder, Gate, Ledger, Numbers, counting, doubling, gated, numbers, soon, until, work};

/// Notes what nodes emit, and which visits end.
fn noting(ledger: &Ledger) -> FlowOptions {
    let ledger = ledger.clone();
    FlowOptions::new().listen(move |event: &Event| {
        let Some(node) = &event.node else { return };
        match &event.kind {
            EventKind::Emitted { value } => ledger.add(format!("{} {node} emits {value}", event.run)),
            EventKind::VisitEnded { .. } => ledger.add(format!("{} {node} ended", event.run)),
            _ => {}
        }
    })
}

/// Emits at once, and then in a child.
fn emitting() -> AsyncFlow<Count> {
    let mut child = AsyncFlow::builder("child");
    let only = work(
        |cx| async move {
            cx.emit("from the child");
            Ok(1)
        },
        |count: &mut Count, one| {
            count.n += one as u32;
            Action::from("done")
        },
    );
    let only = child.add("only", only);
    child.start(only);
    child.route(only - "done" >> END);
    let child = child.build().unwrap();

    let mut flow = AsyncFlow::builder("emitting");
    let emit = work(
        move |cx| {
            cx.emit("at once");
            let child = child.clone();
            async move { Ok(u64::from(child.run_in(Count::default(), &cx).await?.0.n)) }
        },
        |count: &mut Count, n| {
            count.n = n as u32;
            Action::from("done")
        },
    );
    let emit = flow.add("emit", emit);
    flow.start(emit);
    flow.route(emit - "done" >> END);
    flow.build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_is_heard_from_its_first_event_on_with_its_children() {
    let (folder, heard, counted) = (Folder::new(), Ledger::default(), Ledger::default());
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(emitting(), noting(&heard)).await.unwrap();
    let others = store.runs(counting(&counted)).await.unwrap();

    for id in ["a", "b"] {
        soon("its end", runs.start(id, Count::default()).await.unwrap().finished()).await.unwrap().ended().unwrap();
        soon("the other's", others.start(format!("other {id}"), Count::to(1)).await.unwrap().finished())
            .await
            .unwrap()
            .ended()
            .unwrap();
    }

    let of = |id| {
        [
            format!("{id} emit emits \"at once\""),
            format!("{id} emit[0]/only emits \"from the child\""),
            format!("{id} emit[0]/only ended"),
            format!("{id} emit ended"),
        ]
    };
    assert_eq!(heard.take(), [of("a"), of("b")].concat());
}

#[tokio::test]
async fn what_is_history_is_not_heard_again() {
    let (folder, passed, heard) = (Folder::new(), Ledger::default(), Ledger::default());
    {
        let store = Store::open(folder.store()).await.unwrap();
        let runs = store.runs_with(gated(&passed, &Gate::closed()), noting(&heard)).await.unwrap();
        runs.start("r", Count::default()).await.unwrap();
        until("the gate", async || passed.len() > 0).await;
        store.close().await;
    }
    assert_eq!(heard.take(), ["r first ended"]);

    let (gate, store) = (Gate::closed(), Store::open(folder.store()).await.unwrap());
    gate.open();
    let runs = store.runs_with(gated(&passed, &gate), noting(&heard)).await.unwrap();
    soon("the end", runs.start("r", Count::default()).await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(heard.take(), ["r wait ended"]);
}

/// Notes each item that ends, and was not recalled.
fn counting_items(ledger: &Ledger, recalled: &Ledger) -> FlowOptions {
    let (ledger, again) = (ledger.clone(), recalled.clone());
    FlowOptions::new().listen(move |event: &Event| {
        if let EventKind::ItemEnded { error: None, recalled } = event.kind {
            if recalled { &again } else { &ledger }.add(event.item.unwrap().to_string());
        }
    })
}

/// All items from 0 on, once.
fn each_once(count: usize, ledger: &Ledger) {
    let mut items: Vec<usize> = ledger.take().iter().map(|item| item.parse().unwrap()).collect();
    items.sort_unstable();
    assert_eq!(items, (0..count).collect::<Vec<_>>());
}

#[tokio::test]
async fn items_are_counted_once_over_all_lives_of_their_run() {
    let (folder, ran, ended, recalled) = (Folder::new(), Ledger::default(), Ledger::default(), Ledger::default());
    let runs = |store: Store, stops_at| {
        let (flow, options) = (doubling(&ran, stops_at), counting_items(&ended, &recalled));
        async move { (store.runs_with(flow, options).await.unwrap(), store) }
    };
    let (before, store) = runs(Store::open(folder.store()).await.unwrap(), 10).await;
    before.start("r", numbers(20)).await.unwrap();
    until("ten items", async || ended.len() == 10).await;
    store.close().await;

    let (after, _store) = runs(Store::open(folder.store()).await.unwrap(), 20).await;
    after.resume_all().await.unwrap();
    soon("the end", after.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    each_once(20, &ended);
    each_once(10, &recalled);
}

#[tokio::test]
async fn children_are_counted_once_over_all_lives_of_their_run() {
    let (folder, passed, ended, recalled) = (Folder::new(), Ledger::default(), Ledger::default(), Ledger::default());
    let flow = |gate: &Gate| {
        let fork = |numbers: &Numbers| numbers.numbers.iter().map(|n| Count::to(*n as u32)).collect::<Vec<_>>();
        let mut flow = AsyncFlow::builder("each");
        let each = gated(&passed, gate).batch(fork, |_: &mut Numbers, _: Vec<Count>| ());
        let each = flow.add("each", each.parallel(4).journaled());
        flow.start(each);
        flow.build().unwrap()
    };
    let gate = Gate::closed();
    gate.open_for(2);
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(flow(&gate), counting_items(&ended, &recalled)).await.unwrap();
    runs.start("p", numbers(4)).await.unwrap();
    until("two children", async || ended.len() == 2).await;
    store.close().await;

    gate.open();
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(flow(&gate), counting_items(&ended, &recalled)).await.unwrap();
    runs.resume_all().await.unwrap();
    soon("the end", runs.get("p").await.unwrap().finished()).await.unwrap().ended().unwrap();

    each_once(4, &ended);
    assert_eq!(recalled.len(), 2);
}

#[tokio::test]
async fn several_listeners_hear_it_in_order() {
    let (folder, counted, heard) = (Folder::new(), Ledger::default(), Ledger::default());
    let store = Store::open(folder.store()).await.unwrap();
    let second = heard.clone();
    let options = noting(&heard).listen(move |event: &Event| {
        if matches!(event.kind, EventKind::VisitEnded { .. }) {
            second.add("the second heard it");
        }
    });

    let runs = store.runs_with(counting(&counted), options).await.unwrap();
    soon("its end", runs.start("r", Count::to(1)).await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(heard.take(), ["r add ended", "the second heard it"]);
}
