//! Sync nodes of an async flow: `exec` on the blocking pool, everything else on the run's thread (SEMANTICS row 28).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{
    sync::{Arc, Mutex},
    thread::{ThreadId, current},
};

use crate::common::{Meeting, alone, blocking, ended, items};
use flowstone_core::{AsyncFlow, Context, Flow, Node, NodeError, NodeExt, Phase, Result, Retry, RunError, step};
use futures_util::future::join_all;

/// A node that notes the thread of each phase, and whether it was told to stop.
#[derive(Clone, Default)]
struct Threads {
    seen: Arc<Mutex<Vec<(&'static str, ThreadId)>>>,
    fails: bool,
}

impl Threads {
    fn note(&self, phase: &'static str) {
        self.seen.lock().unwrap().push((phase, current().id()));
    }

    /// The phases in order, and whether each was on this thread.
    fn here(&self) -> Vec<(&'static str, bool)> {
        self.seen.lock().unwrap().iter().map(|(phase, id)| (*phase, *id == current().id())).collect()
    }
}

impl Node<()> for Threads {
    type Prep = ();
    type Exec = ();
    type Action = ();

    fn prep(&self, (): &()) -> Result<()> {
        self.note("prep");
        Ok(())
    }

    fn exec(&self, (): &(), _: &Context) -> Result<()> {
        self.note("exec");
        if self.fails { Err("broken".into()) } else { Ok(()) }
    }

    fn exec_fallback(&self, (): &(), _: NodeError, _: &Context) -> Result<()> {
        self.note("fallback");
        Ok(())
    }

    fn post(&self, (): &mut (), (): (), (): ()) -> Result<()> {
        self.note("post");
        Ok(())
    }
}

#[tokio::test]
async fn a_sync_exec_leaves_the_thread_of_the_run() {
    let node = Threads::default();

    ended(alone(node.clone()).run_async(&mut ()).await);

    assert_eq!(node.here(), [("prep", true), ("exec", false), ("post", true)]);
}

#[tokio::test]
async fn a_sync_fallback_leaves_the_thread_of_the_run() {
    let node = Threads { fails: true, ..Threads::default() };

    ended(alone(node.clone()).run_async(&mut ()).await);

    assert_eq!(node.here(), [("prep", true), ("exec", false), ("fallback", false), ("post", true)]);
}

#[tokio::test]
async fn an_inline_exec_stays_on_the_thread_of_the_run() {
    let node = Threads { fails: true, ..Threads::default() };

    ended(alone(node.clone().inline()).run_async(&mut ()).await);

    assert_eq!(node.here(), [("prep", true), ("exec", true), ("fallback", true), ("post", true)]);
}

#[test]
fn all_phases_of_a_sync_flow_are_on_the_callers_thread() {
    let node = Threads { fails: true, ..Threads::default() };

    ended(crate::common::alone_sync(node.clone()).run(&mut ()));

    assert_eq!(node.here(), [("prep", true), ("exec", true), ("fallback", true), ("post", true)]);
}

#[tokio::test]
async fn a_closure_over_the_state_stays_on_the_thread_of_the_run() {
    let flow = alone(|seen: &mut Option<ThreadId>| *seen = Some(current().id()));

    let mut seen = None;
    ended(flow.run_async(&mut seen).await);

    assert_eq!(seen, Some(current().id()));
}

#[tokio::test]
async fn a_sync_step_leaves_the_thread_of_the_run() {
    let node =
        step(|_: &Option<ThreadId>| (), |(): &()| Ok(current().id()), |seen: &mut Option<_>, (), id| *seen = Some(id));

    let mut seen = None;
    ended(alone(node).run_async(&mut seen).await);

    assert_ne!(seen, Some(current().id()));
}

#[tokio::test]
async fn a_node_of_a_sync_flow_in_an_async_flow_leaves_the_thread_of_the_run() {
    let node = Threads::default();
    let mut inner = Flow::builder("inner");
    let only = inner.add("only", node.clone());
    inner.start(only);

    ended(alone(inner.build().unwrap()).run_async(&mut ()).await);

    assert_eq!(node.here(), [("prep", true), ("exec", false), ("post", true)]);
}

#[tokio::test]
async fn blocking_nodes_of_runs_on_one_thread_overlap() {
    let meeting = Meeting::of(4);
    let flow = alone(blocking(move |_| Ok(meeting.met())));

    let runs = (0..4).map(|_| async {
        let mut state = vec![];
        ended(flow.run_async(&mut state).await);
        state
    });
    let states = join_all(runs).await;

    assert_eq!(states, vec![[true]; 4], "a blocking node stalled the other runs");
}

#[tokio::test]
async fn parallel_items_of_a_sync_batch_overlap() {
    let meeting = Meeting::of(4);
    let flow = alone(items(4, move |_, _| Ok(meeting.met())).parallel(4));

    let mut state: Vec<bool> = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [true; 4]);
}

#[tokio::test]
async fn items_of_a_sync_batch_leave_the_thread_of_the_run_and_inline_ones_stay() {
    let exec = |_, _: &Context| Ok(current().id());
    let flows: [AsyncFlow<Vec<ThreadId>>; 3] =
        [alone(items(3, exec)), alone(items(3, exec).parallel(2)), alone(items(3, exec).inline())];

    let mut stayed = vec![];
    for flow in flows {
        let mut state = vec![];
        ended(flow.run_async(&mut state).await);
        stayed.push(state.iter().filter(|id| **id == current().id()).count());
    }

    assert_eq!(stayed, [0, 0, 3]);
}

#[tokio::test]
async fn a_panic_in_the_pool_is_the_nodes_error() {
    let flow = alone(blocking(|_| -> Result<u32> { panic!("the pool is empty") }));

    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    let RunError::Node { phase: Phase::Exec, attempts: 1, source, .. } = error else { panic!("{error}") };
    assert_eq!(source.to_string(), "panicked: the pool is empty");
}

#[tokio::test]
async fn a_fallback_in_the_pool_is_not_told_to_stop() {
    let node = blocking(|_| Err("broken".into())).or(|_, cx| Ok(cx.cancelled()));

    let mut state = vec![];
    ended(alone(node.retry(Retry::attempts(2))).run_async(&mut state).await);

    assert_eq!(state, [false], "nobody cancelled anything");
}

#[tokio::test]
async fn a_fallback_of_an_item_in_the_pool_is_not_told_to_stop() {
    let node = items(3, |_, _| Err("broken".into())).or(|_, cx| Ok(cx.cancelled()));
    let flow = alone(node.parallel(2));

    let mut state: Vec<bool> = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [false; 3], "nobody cancelled anything");
}
