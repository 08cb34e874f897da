//! Batch flows: each child is a run of its own, that goes on where it was.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use flowstone_core::{Action, AsyncFlow, Child, END};
use flowstone_durable::{NotEnded, Reader, Runs, StartError, Status};
use serde::{Deserialize, Serialize};

use crate::common::{Count, Folder, Gate, Ledger, failure, key, rows, soon, until, without_life, work};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Parent {
    children: u32,
    sums: Vec<u32>,
}

/// A child: three visits, the second of which may wait or fail.
fn child(ledger: &Ledger, gate: &Gate, broken: &Arc<AtomicBool>) -> AsyncFlow<Count> {
    let (ledger, gate, broken) = (ledger.clone(), gate.clone(), Arc::clone(broken));
    let mut flow = AsyncFlow::builder("child");
    let visit = work(
        move |cx| {
            let (ledger, gate, broken) = (ledger.clone(), gate.clone(), Arc::clone(&broken));
            async move {
                if cx.visit() == 1 {
                    gate.pass().await;
                    if broken.load(Ordering::Relaxed) && cx.node().as_str().contains("[1]") {
                        return Err(failure("broken"));
                    }
                }
                ledger.add(key(&cx));
                Ok(1)
            }
        },
        |count: &mut Count, one| {
            count.n += one as u32;
            Action::from(if count.n < 3 { "again" } else { "done" })
        },
    );
    let visit = flow.add("visit", visit);
    flow.start(visit);
    flow.route(visit - "again" >> visit);
    flow.route(visit - "done" >> END);
    flow.build().unwrap()
}

fn parent(child: AsyncFlow<Count>, journaled: bool) -> AsyncFlow<Parent> {
    let mut flow = AsyncFlow::builder("parent");
    let begin = flow.add("begin", |_: &mut Parent| ());
    let fork = |parent: &Parent| (0..parent.children).map(Count::to).collect::<Vec<_>>();
    let join = |parent: &mut Parent, ended: Vec<Count>| parent.sums = ended.iter().map(|count| count.n).collect();
    let each = child.batch(fork, join).parallel(4);
    let each = if journaled { flow.add("each", each.journaled()) } else { flow.add("each", each) };
    flow.start(begin);
    flow.route(begin >> each);
    flow.build().unwrap()
}

async fn cut(journaled: bool) -> (Folder, Vec<String>, Vec<String>) {
    let (folder, ledger, gate, fine) = (Folder::new(), Ledger::default(), Gate::closed(), Arc::default());
    let make = |gate: &Gate| parent(child(&ledger, gate, &fine), journaled);
    let runs = Runs::open(folder.store(), make(&gate)).await.unwrap();
    runs.start("p", Parent { children: 4, sums: Vec::new() }).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    let steps = |reader: &Reader| reader.children("p").unwrap().iter().map(|child| child.step).sum::<u64>();
    until("the middle", async || ledger.len() == 4 && (!journaled || steps(&reader) == 4)).await;
    runs.store().close().await;
    let before = ledger.take();

    gate.open();
    let runs = Runs::open(folder.store(), make(&gate)).await.unwrap();
    assert_eq!(runs.resume_all().await.unwrap().runs.len(), 1, "a child is gone on with by its parent only");
    let ended = soon("the end", runs.get("p").await.unwrap().finished()).await.unwrap().ended().unwrap();
    assert_eq!(ended.state.sums, [3, 3, 3, 3]);
    runs.store().close().await;
    let after = ledger.take();
    (folder, before, after)
}

#[tokio::test]
async fn children_go_on_in_their_middle() {
    let (folder, before, after) = cut(true).await;

    assert_eq!((before.len(), after.len()), (4, 8));
    assert!(after.iter().all(|key| !before.contains(key)), "{before:?} {after:?}");
    let reader = Reader::open(folder.store()).unwrap();
    let children = reader.children("p").unwrap();
    let known = children.iter().map(|child| (child.status, child.step, child.item, child.parent.clone().unwrap()));
    let wanted = (0..4).map(|item| (Status::Ended, 3, Some(item), "p".into()));
    assert!(known.eq(wanted), "{children:?}");
    assert_eq!(reader.state(children[2].id.clone(), Some(2)).unwrap(), serde_json::json!({ "n": 2, "of": 2 }));
    assert_eq!(reader.list(&flowstone_durable::Filter::new()).unwrap().len(), 1, "children are not in the list");
    let step = &reader.steps("p", 2, 1).unwrap()[0];
    assert_eq!((step.items.unwrap().recorded, step.items.unwrap().recalled), (4, 0));
}

#[tokio::test]
async fn children_that_are_not_journaled_start_over() {
    let (folder, before, after) = cut(false).await;

    assert_eq!((before.len(), after.len()), (4, 12));
    assert!(before.iter().all(|key| after.contains(key)), "keys are the same");
    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 3)]);
}

#[tokio::test]
async fn children_that_have_ended_do_not_run_again() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    gate.open();
    let broken = Arc::new(AtomicBool::new(true));
    let runs = Runs::open(folder.store(), parent(child(&ledger, &gate, &broken), true)).await.unwrap();
    let run = runs.start("p", Parent { children: 2, sums: Vec::new() }).await.unwrap();
    let error = soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();
    assert!(matches!(&error, NotEnded::Failed { node, .. } if node == "each[1]/visit"), "{error:?}");
    let reader = Reader::open(folder.store()).unwrap();
    let failed = reader.children("p").unwrap();
    assert_eq!((failed[1].status, failed[1].step), (Status::Failed, 1));
    let first = failed[0].step;
    runs.store().close().await;
    ledger.take();

    broken.store(false, Ordering::Relaxed);
    let runs = Runs::open(folder.store(), parent(child(&ledger, &gate, &broken), true)).await.unwrap();
    let run = runs.get("p").await.unwrap();
    run.retry_failed().await.unwrap();
    let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();

    assert_eq!(ended.state.sums, [3, 3]);
    let again = ledger.take();
    assert_eq!(again.len() as u64, (3 - first) + 2, "{again:?}");
    let failed_first: Vec<_> = again.iter().filter(|key| key.contains(&without_life(failed[1].id.as_str()))).collect();
    assert_eq!(failed_first.len(), 2);
}

#[tokio::test]
async fn a_child_that_fails_may_be_collected() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    gate.open();
    let mut flow = AsyncFlow::builder("collect");
    let fork = |parent: &Parent| (0..parent.children).map(Count::to).collect::<Vec<_>>();
    let join = |parent: &mut Parent, ended: Vec<Child<Count>>| {
        parent.sums =
            ended.iter().map(|child| if child.result.is_ok() { child.state.n } else { 100 + child.state.n }).collect();
    };
    let broken = Arc::new(AtomicBool::new(true));
    let each = flow.add("each", child(&ledger, &gate, &broken).batch_collect(fork, join).journaled());
    flow.start(each);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();

    let run = runs.start("p", Parent { children: 3, sums: Vec::new() }).await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.sums, [3, 101, 3]);
}

/// A flow with children that have children.
fn grand(inner: AsyncFlow<Parent>) -> AsyncFlow<Parent> {
    let mut flow = AsyncFlow::builder("grand");
    let fork =
        |parent: &Parent| (0..parent.children).map(|_| Parent { children: 2, sums: Vec::new() }).collect::<Vec<_>>();
    let join =
        |parent: &mut Parent, ended: Vec<Parent>| parent.sums = ended.iter().map(|p| p.sums.iter().sum()).collect();
    let each = flow.add("outer", inner.batch(fork, join).parallel(2).journaled());
    flow.start(each);
    flow.build().unwrap()
}

/// The statuses of what is below a run, all generations.
fn below(reader: &Reader, run: &str) -> Vec<Status> {
    let children = reader.children(run).unwrap();
    let below = children.iter().flat_map(|child| below(reader, child.id.as_str()));
    children.iter().map(|child| child.status).chain(below.collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn with_a_run_that_is_cancelled_all_that_is_below_it_is_cancelled_and_goes_on_when_it_is_retried() {
    let (folder, ledger, gate, fine) = (Folder::new(), Ledger::default(), Gate::closed(), Arc::default());
    let runs = Runs::open(folder.store(), grand(parent(child(&ledger, &gate, &fine), true))).await.unwrap();
    let run = runs.start("g", Parent { children: 2, sums: Vec::new() }).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("the middle", async || ledger.len() == 4 && below(&reader, "g").len() == 6).await;

    run.cancel().await.unwrap();

    assert_eq!(below(&reader, "g"), [Status::Cancelled; 6]);
    gate.open();
    run.retry_failed().await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.sums, [6, 6]);
    assert_eq!(below(&reader, "g"), [Status::Ended; 6]);
    assert_eq!(ledger.len(), 4 * 3, "nothing ran twice");
}

#[tokio::test]
async fn with_a_run_that_fails_all_that_is_below_it_is_cancelled() {
    let (folder, ledger, gate, broken) = (Folder::new(), Ledger::default(), Gate::closed(), Arc::default());
    let runs = Runs::open(folder.store(), grand(parent(child(&ledger, &gate, &broken), true))).await.unwrap();
    let run = runs.start("g", Parent { children: 2, sums: Vec::new() }).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("the middle", async || ledger.len() == 4).await;

    broken.store(true, Ordering::Relaxed);
    gate.open();
    assert_eq!(soon("the end", run.settled()).await.unwrap(), Status::Failed);

    let below = below(&reader, "g");
    assert!(below.contains(&Status::Failed), "{below:?}");
    assert!(below.iter().all(|status| status.is_final()), "{below:?}");
}

/// Somebody cancels a run beside, while nobody drives it.
#[tokio::test]
async fn with_a_run_that_is_cancelled_while_nobody_drives_it_its_children_are_cancelled() {
    let (folder, ledger, gate, fine) = (Folder::new(), Ledger::default(), Gate::closed(), Arc::default());
    let make = || parent(child(&ledger, &gate, &fine), true);
    let runs = Runs::open(folder.store(), make()).await.unwrap();
    runs.start("p", Parent { children: 3, sums: Vec::new() }).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("the middle", async || ledger.len() == 3 && below(&reader, "p").len() == 3).await;
    runs.store().close().await;

    flowstone_durable::Requests::open(folder.store()).unwrap().cancel("p").unwrap();
    let runs = Runs::open(folder.store(), make()).await.unwrap();
    runs.resume_all().await.unwrap();

    assert_eq!(runs.get("p").await.unwrap().info().await.unwrap().status, Status::Cancelled);
    assert_eq!(below(&reader, "p"), [Status::Cancelled; 3]);
}

#[tokio::test]
async fn children_of_children_go_on_where_they_were() {
    let (folder, ledger, gate, fine) = (Folder::new(), Ledger::default(), Gate::closed(), Arc::default());
    let make = |gate: &Gate| grand(parent(child(&ledger, gate, &fine), true));
    let runs = Runs::open(folder.store(), make(&gate)).await.unwrap();
    runs.start("g", Parent { children: 2, sums: Vec::new() }).await.unwrap();
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    let visits = || db.query_row("SELECT count(*) FROM visits", [], |row| row.get::<_, i64>(0)).unwrap();
    // The start of g; start and `begin` of two parents; start and one visit of four children.
    until("the middle", async || visits() == 1 + 2 * 2 + 4 * 2).await;
    runs.store().close().await;
    let before = ledger.take();
    gate.open();

    let runs = Runs::open(folder.store(), make(&gate)).await.unwrap();
    runs.resume_all().await.unwrap();
    let ended = soon("the end", runs.get("g").await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(ended.state.sums, [6, 6]);
    let after = ledger.take();
    assert_eq!((before.len(), after.len()), (4, 8));
    assert!(after.iter().all(|key| !before.contains(key)));
    runs.store().close().await;
    let reader = Reader::open(folder.store()).unwrap();
    assert_eq!(reader.children(reader.children("g").unwrap()[1].id.clone()).unwrap().len(), 2);
}

#[tokio::test]
async fn nothing_else_has_the_id_of_a_child() {
    let (folder, ledger, gate, fine) = (Folder::new(), Ledger::default(), Gate::closed(), Arc::default());
    gate.open();
    let runs = Runs::open(folder.store(), parent(child(&ledger, &gate, &fine), true)).await.unwrap();
    let first = runs.start("p:1:each[0]", Parent { children: 0, sums: Vec::new() }).await.unwrap();
    first.finished().await.unwrap().ended().unwrap();

    let run = runs.start("p", Parent { children: 1, sums: Vec::new() }).await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.sums, [3]);
    let child = Reader::open(folder.store()).unwrap().children("p").unwrap().remove(0);
    let taken = runs.start(child.id, Parent::default()).await.unwrap_err();

    assert!(matches!(taken, StartError::Taken { .. }), "{taken:?}");
}
