//! Policies that a node cannot have: `inline`, `parallel` and `spawned` are values, and `build()` checks each against
//! the node.

use std::sync::atomic::{AtomicUsize, Ordering};

use flowstone_core::{AsyncFlow, AsyncKind, Context, Fault, Flow, IntoNode, NodeExt, Retry, SyncKind, step};

use crate::common::{async_items, awaiting, blocking, items, ms};

type State = Vec<u32>;

fn faults<M, N: IntoNode<State, AsyncKind, M>>(node: N) -> Vec<Fault> {
    let mut flow = AsyncFlow::<State>::builder("modes");
    let node = flow.add("node", node);
    flow.start(node);
    flow.build().map(|_| ()).expect_err("the flow has faults").faults().to_vec()
}

fn faults_of_sync<M, N: IntoNode<State, SyncKind, M>>(node: N) -> Vec<Fault> {
    let mut flow = Flow::<State>::builder("modes");
    let node = flow.add("node", node);
    flow.start(node);
    flow.build().map(|_| ()).expect_err("the flow has faults").faults().to_vec()
}

fn node() -> String {
    "node".to_owned()
}

macro_rules! single {
    () => {
        awaiting(|_| async { Ok(1) })
    };
}

macro_rules! batch {
    () => {
        async_items(1, |_, _| async { Ok(1) })
    };
}

#[test]
fn inline_is_refused_on_async_nodes() {
    let refused = [Fault::InlineAsync { node: node() }];
    let waits = step(|_: &State| (), |()| async { Ok(()) }, |_: &mut State, (), ()| ());

    assert_eq!(faults(single!().inline()), refused);
    assert_eq!(faults(batch!().inline()), refused);
    assert_eq!(faults(batch!().parallel(2).inline()), refused);
    assert_eq!(faults(waits.inline()), refused);
}

#[test]
fn parallel_is_refused_on_nodes_without_items() {
    let refused = [Fault::ParallelNotBatch { node: node() }];

    assert_eq!(faults(single!().parallel(4)), refused);
    assert_eq!(faults(blocking(|_| Ok(1)).parallel(4)), refused);
    assert_eq!(faults_of_sync(blocking(|_| Ok(1)).parallel(4)), refused);
    assert_eq!(faults(step(|_: &State| (), |(): &()| Ok(()), |_: &mut State, (), ()| ()).parallel(4)), refused);
}

#[test]
fn parallel_is_refused_in_a_sync_flow() {
    let mut inner = Flow::<u32>::builder("inner");
    let only = inner.add("only", |_: &mut u32| ());
    inner.start(only);
    let each = inner.build().expect("it is right").batch(|_: &State| vec![1], |_: &mut State, _| ());

    let refused = [Fault::ParallelInSyncFlow { node: node() }];
    assert_eq!(faults_of_sync(items(1, |_, _| Ok(1)).parallel(4)), refused);
    assert_eq!(faults_of_sync(items(1, |_, _| Ok(1)).journaled_in_order().parallel(4)), refused);
    assert_eq!(faults_of_sync(each.parallel(4)), refused);
}

#[test]
fn inline_excludes_parallel_and_journaled() {
    let parallel = [Fault::InlineParallel { node: node() }];
    let journaled = [Fault::InlineJournaled { node: node() }];

    assert_eq!(faults(items(1, |_, _| Ok(1)).inline().parallel(2)), parallel);
    assert_eq!(faults_of_sync(items(1, |_, _| Ok(1)).parallel(2).inline()), parallel);
    assert_eq!(faults(items(1, |_, _| Ok(1)).journaled().inline()), journaled);
    assert_eq!(faults_of_sync(items(1, |_, _| Ok(1)).inline().journaled()), journaled);
    assert_eq!(
        faults(items(1, |_, _| Ok(1)).parallel(2).journaled_in_order().inline()),
        [parallel, journaled].concat()
    );
}

#[test]
fn spawned_is_for_parallel_async_batches() {
    let no_batch = [Fault::SpawnedNotAsyncBatch { node: node() }];
    let alone = [Fault::SpawnedWithoutParallel { node: node() }];

    assert_eq!(faults(blocking(|_| Ok(1)).spawned()), no_batch);
    assert_eq!(faults(single!().spawned()), no_batch);
    assert_eq!(faults(items(1, |_, _| Ok(1)).parallel(2).spawned()), no_batch);
    assert_eq!(faults_of_sync(items(1, |_, _| Ok(1)).spawned()), no_batch);
    assert_eq!(faults(batch!().spawned()), alone);
    assert_eq!(faults(batch!().retry(Retry::attempts(2)).spawned()), alone);
    assert_eq!(faults(batch!().spawned().journaled()), alone);
}

#[test]
fn every_wrong_policy_is_reported_at_once_with_what_to_do() {
    let mut flow = AsyncFlow::<State>::builder("modes");
    let a = flow.add("a", single!().inline().parallel(2).spawned());
    let b = flow.add("b", batch!().spawned());
    let c = flow.add("c", items(1, |_, _| Ok(1)).inline().parallel(2).journaled());
    flow.start(a);
    flow.route(a >> b >> c);

    let error = flow.build().map(|_| ()).expect_err("the flow has faults").to_string();

    assert_eq!(error, [
        "flow `modes` has 6 faults:",
        "node `a` is async, and `inline` is for sync nodes: leave it out",
        "node `a` has no items, and `parallel` is for batch nodes and batch flows: leave it out",
        "node `a` has `spawned`, which is for async batch nodes: leave it out",
        "node `b` has `spawned`, but runs one item at a time: say `.parallel(limit).spawned()`",
        "node `c` is `inline` and `parallel`, but on the thread of the run one item runs after the other: leave out one of the two",
        "node `c` is `inline` and journaled, but the thread of the run cannot wait until an item is kept: leave out one of the two",
    ]
    .join("\n  - "));
}

#[tokio::test(start_paused = true)]
async fn the_order_in_which_policies_are_said_does_not_matter() {
    let most = |flow: AsyncFlow<State>, at_once: &'static AtomicUsize| async move {
        flow.run_async(&mut vec![]).await.expect("it runs");
        at_once.swap(0, Ordering::SeqCst)
    };
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let work = || {
        async_items(9, |_, _: Context| async {
            MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(ms(10)).await;
            NOW.fetch_sub(1, Ordering::SeqCst);
            Ok(1)
        })
    };

    assert_eq!(most(crate::common::alone(work().spawned().parallel(3)), &MOST).await, 3);
    assert_eq!(most(crate::common::alone(work().journaled().parallel(4)), &MOST).await, 4);
    assert_eq!(most(crate::common::alone(work().parallel(2).parallel(5)), &MOST).await, 5);
}
