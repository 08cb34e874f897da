//! The usage of children is theirs, and counts for the runs around them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use flowstone_core::{AsyncFlow, AsyncNode, Context, NodeExt, Result, Retry};
use flowstone_durable::{Reader, Runs};

use crate::{
    common::{Count, Folder, Gate, failure, rows, soon, until},
    usage::{calls, spending},
};

/// Runs a child for each of three numbers: of one, two and three visits, with a call each.
fn parent(child: AsyncFlow<Count>, journaled: bool) -> AsyncFlow<Vec<u32>> {
    let mut flow = AsyncFlow::builder("parent");
    let fork = |counts: &Vec<u32>| counts.iter().map(|of| Count::to(*of)).collect::<Vec<_>>();
    let each = child.batch(fork, |_: &mut Vec<u32>, _: Vec<Count>| ()).parallel(3);
    let each = if journaled { flow.add("each", each.journaled()) } else { flow.add("each", each) };
    flow.start(each);
    flow.build().unwrap()
}

/// The usage of a run in all, its step 1 by itself, and each of its children.
fn used(path: &Path, run: &str) -> (u64, u64, Vec<u64>) {
    let reader = Reader::open(path).unwrap();
    let children = reader.children(run).unwrap();
    let children = children.iter().map(|child| reader.usage(child.id.clone()).unwrap().calls).collect();
    let step = reader.steps(run, 1, 1).unwrap().first().map_or(0, |step| step.usage.calls);
    (reader.usage(run).unwrap().calls, step, children)
}

#[tokio::test]
async fn a_child_that_is_kept_has_its_own_and_the_run_the_sum() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), parent(spending(|_| async { Ok(()) }), true)).await.unwrap();

    runs.start("r", vec![1, 2, 3]).await.unwrap().finished().await.unwrap().ended().unwrap();

    assert_eq!(used(&folder.store(), "r"), (6, 0, vec![1, 2, 3]));
    let reader = Reader::open(folder.store()).unwrap();
    let last = &reader.children("r").unwrap()[2];
    assert_eq!(reader.steps(last.id.clone(), 4, 1).unwrap()[0].usage, calls(1));
}

#[tokio::test]
async fn a_child_in_memory_spends_from_the_visit_of_its_parent() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), parent(spending(|_| async { Ok(()) }), false)).await.unwrap();

    runs.start("r", vec![1, 2, 3]).await.unwrap().finished().await.unwrap().ended().unwrap();

    assert_eq!(used(&folder.store(), "r"), (6, 6, vec![]));
}

#[tokio::test]
async fn a_child_that_is_dropped_under_way_keeps_what_it_spent() {
    let (folder, never, others) = (Folder::new(), Gate::closed(), Gate::closed());
    let child = spending(move |cx| {
        let (never, others) = (never.clone(), others.clone());
        async move {
            if !cx.node().as_str().contains("[2]") {
                others.open_for(1);
                never.pass().await;
            }
            if cx.attempt() == 0 {
                // Until both others wait.
                others.pass().await;
                others.pass().await;
            }
            Err(failure("down"))
        }
    });
    let runs = Runs::open(folder.store(), parent(child, true)).await.unwrap();

    runs.start("r", vec![1, 2, 3]).await.unwrap().finished().await.unwrap().ended().unwrap_err();

    assert_eq!(used(&folder.store(), "r"), (4, 0, vec![1, 1, 2]));
}

/// A node that runs a flow inside its `exec`, and makes a call after it, which fails at first.
struct Agent(AsyncFlow<Count>);

impl AsyncNode<u32> for Agent {
    type Prep = ();
    type Exec = u32;
    type Action = ();

    async fn prep(&self, _: &u32) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), cx: &Context) -> Result<u32> {
        let (count, _) = self.0.run_in(Count::to(2), cx).await?;
        super::usage::call(cx)?;
        if cx.attempt() == 0 { Err(failure("busy")) } else { Ok(count.n) }
    }

    async fn post(&self, state: &mut u32, (): (), n: u32) -> Result<()> {
        *state = n;
        Ok(())
    }
}

/// An agent inside each child of a batch.
fn nested(child: AsyncFlow<Count>) -> AsyncFlow<Vec<u32>> {
    let mut inner = AsyncFlow::builder("inner");
    let agent = inner.add("agent", Agent(child).retry(Retry::attempts(2)));
    inner.start(agent);
    let fork = |counts: &Vec<u32>| counts.clone();
    let mut flow = AsyncFlow::builder("outer");
    let each = inner.build().unwrap().batch(fork, |_: &mut Vec<u32>, _: Vec<u32>| ()).journaled();
    let each = flow.add("each", each);
    flow.start(each);
    flow.build().unwrap()
}

#[tokio::test]
async fn children_of_children_count_for_all_around_them_and_once() {
    let (folder, gate, came) = (Folder::new(), Gate::closed(), Arc::new(AtomicU64::new(0)));
    let child = || {
        let (gate, came) = (gate.clone(), Arc::clone(&came));
        spending(move |_| {
            let (gate, came) = (gate.clone(), Arc::clone(&came));
            async move {
                came.fetch_add(1, Relaxed);
                gate.pass().await;
                Ok(())
            }
        })
    };
    let runs = Runs::open(folder.store(), nested(child())).await.unwrap();
    runs.start("r", vec![1, 2]).await.unwrap();
    // The first child's agent is through, and the second's has made one visit of two.
    gate.open_for(3);
    until("the fourth call of the innermost", async || came.load(Relaxed) == 4).await;
    runs.store().close().await;
    assert_eq!(used(&folder.store(), "r"), (6, 0, vec![4, 2]));

    gate.open();
    let runs = Runs::open(folder.store(), nested(child())).await.unwrap();
    runs.resume_all().await.unwrap();
    soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    // Two calls of each agent, two of each innermost child, and the one that was cut off.
    assert_eq!(used(&folder.store(), "r"), (9, 0, vec![4, 5]));
    let reader = Reader::open(folder.store()).unwrap();
    let second = &reader.children("r").unwrap()[1];
    assert_eq!(used(&folder.store(), second.id.as_str()), (5, 2, vec![3]));
    runs.delete("r").await.unwrap();
    assert_eq!(rows(&folder.store()), []);
}

#[tokio::test]
async fn parents_that_lead_in_a_circle_come_to_an_end() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), spending(|_| async { Ok(()) })).await.unwrap();
    runs.start("r", Count::to(2)).await.unwrap().finished().await.unwrap().ended().unwrap();
    runs.store().close().await;
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    db.execute("UPDATE runs SET parent = run", []).unwrap();

    assert_eq!(Reader::open(folder.store()).unwrap().usage("r").unwrap(), calls(2));
}
