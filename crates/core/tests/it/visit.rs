//! One visit: its phases, their order, and what is tried again (SEMANTICS rows 1, 2, 3, 5, 8, 9; LESSONS rows 6, 7).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{Count, Log, alone, alone_sync, awaiting, blocking, ended};
use flowstone_core::{
    Action, AsyncFlow, AsyncNode, Context, Flow, Node, NodeError, NodeExt, Phase, Result, Retry, RunError,
};

/// A node that writes down each phase, and fails where it is told to.
#[derive(Clone, Default)]
struct Traced {
    log: Log,
    fails: Option<Phase>,
    rescues: bool,
}

impl Traced {
    fn phase(&self, phase: Phase) -> Result<()> {
        if self.fails == Some(phase) { Err(format!("{phase} broke").into()) } else { Ok(()) }
    }
}

impl Node<Vec<u32>> for Traced {
    type Prep = usize;
    type Exec = u32;
    type Action = Action;

    fn prep(&self, shared: &Vec<u32>) -> Result<usize> {
        self.log.push(format!("prep {shared:?}"));
        self.phase(Phase::Prep)?;
        Ok(shared.len())
    }

    fn exec(&self, prep: &usize, cx: &Context) -> Result<u32> {
        self.log.push(format!("exec {prep} attempt {}", cx.attempt()));
        self.phase(Phase::Exec)?;
        Ok(7)
    }

    fn exec_fallback(&self, prep: &usize, error: NodeError, cx: &Context) -> Result<u32> {
        self.log.push(format!("fallback {prep} attempt {} {error}", cx.attempt()));
        if self.rescues { Ok(8) } else { Err(format!("fallback after {error}").into()) }
    }

    fn post(&self, shared: &mut Vec<u32>, prep: usize, exec: u32) -> Result<Action> {
        self.log.push(format!("post {prep} {exec}"));
        shared.push(exec);
        self.phase(Phase::Post)?;
        Ok("done".into())
    }
}

/// The same node with phases that await.
struct AsyncTraced(Traced);

impl AsyncNode<Vec<u32>> for AsyncTraced {
    type Prep = usize;
    type Exec = u32;
    type Action = Action;

    async fn prep(&self, shared: &Vec<u32>) -> Result<usize> {
        tokio::task::yield_now().await;
        self.0.prep(shared)
    }

    async fn exec(&self, prep: &usize, cx: &Context) -> Result<u32> {
        tokio::task::yield_now().await;
        self.0.exec(prep, cx)
    }

    async fn exec_fallback(&self, prep: &usize, error: NodeError, cx: &Context) -> Result<u32> {
        tokio::task::yield_now().await;
        self.0.exec_fallback(prep, error, cx)
    }

    async fn post(&self, shared: &mut Vec<u32>, prep: usize, exec: u32) -> Result<Action> {
        tokio::task::yield_now().await;
        self.0.post(shared, prep, exec)
    }
}

/// A visit in short: its node, the state after it, and its error (phase, attempts and text) or its action.
type Seen = (Vec<String>, Vec<u32>, Result<String, (Phase, u32, String)>);

/// Visits the node in a `Flow`, in an `AsyncFlow`, there inline, and as an async node; they have to agree.
async fn visit(node: &Traced, retry: Retry) -> Seen {
    let fresh = || Traced { log: Log::default(), ..node.clone() };

    let (sync, pooled, inline, awaited) = (fresh(), fresh(), fresh(), fresh());
    let logs = [&sync, &pooled, &inline, &awaited].map(|node| node.log.clone());
    let flow = alone_sync(sync.retry(retry.clone()));
    let flows: [AsyncFlow<Vec<u32>>; 3] = [
        alone(pooled.retry(retry.clone())),
        alone(inline.retry(retry.clone()).inline()),
        alone(AsyncTraced(awaited).retry(retry)),
    ];

    let mut states = vec![vec![1]; 4];
    let mut results = vec![flow.run(&mut states[0])];
    for (flow, state) in flows.iter().zip(&mut states[1..]) {
        results.push(flow.run_async(state).await);
    }

    let results = results.into_iter().map(|result| match result {
        Ok(outcome) => Ok(outcome.action().unwrap().to_string()),
        Err(RunError::Node { phase, attempts, source, .. }) => Err((phase, attempts, source.to_string())),
        Err(other) => panic!("{other}"),
    });
    let mut seen = logs.into_iter().zip(states).zip(results).map(|((log, state), result)| (log.lines(), state, result));
    let first = seen.next().unwrap();
    for (kind, other) in ["pooled", "inline", "async"].iter().zip(seen) {
        assert_eq!(other, first, "the {kind} visit differs from the sync one");
    }
    first
}

#[tokio::test]
async fn phases_run_in_order_and_pass_their_results_on() {
    let node = Traced::default();

    let (log, state, result) = visit(&node, Retry::default()).await;

    assert_eq!(log, ["prep [1]", "exec 1 attempt 0", "post 1 7"]);
    assert_eq!(state, [1, 7]);
    assert_eq!(result, Ok("done".to_owned()));
}

#[tokio::test]
async fn an_error_in_prep_goes_straight_up() {
    let node = Traced { fails: Some(Phase::Prep), rescues: true, ..Traced::default() };

    let (log, state, result) = visit(&node, Retry::attempts(3)).await;

    assert_eq!(log, ["prep [1]"]);
    assert_eq!(state, [1]);
    assert_eq!(result, Err((Phase::Prep, 0, "prep broke".to_owned())));
}

#[tokio::test]
async fn an_error_in_post_goes_straight_up_and_its_writes_stay() {
    let node = Traced { fails: Some(Phase::Post), rescues: true, ..Traced::default() };

    let (log, state, result) = visit(&node, Retry::attempts(3)).await;

    assert_eq!(log, ["prep [1]", "exec 1 attempt 0", "post 1 7"]);
    assert_eq!(state, [1, 7]);
    assert_eq!(result, Err((Phase::Post, 0, "post broke".to_owned())));
}

#[tokio::test]
async fn one_attempt_is_one_call() {
    let node = Traced { fails: Some(Phase::Exec), rescues: true, ..Traced::default() };

    let (log, ..) = visit(&node, Retry::attempts(1)).await;

    assert_eq!(log.iter().filter(|line| line.starts_with("exec")).count(), 1);
}

#[tokio::test]
async fn each_attempt_knows_its_number_and_the_fallback_comes_once_after_the_last() {
    let node = Traced { fails: Some(Phase::Exec), rescues: true, ..Traced::default() };

    let (log, state, result) = visit(&node, Retry::attempts(3)).await;

    assert_eq!(
        log,
        [
            "prep [1]",
            "exec 1 attempt 0",
            "exec 1 attempt 1",
            "exec 1 attempt 2",
            "fallback 1 attempt 2 exec broke",
            "post 1 8"
        ]
    );
    assert_eq!(state, [1, 8]);
    assert_eq!(result, Ok("done".to_owned()));
}

#[tokio::test]
async fn a_fallback_that_fails_is_not_tried_again() {
    let node = Traced { fails: Some(Phase::Exec), rescues: false, ..Traced::default() };

    let (log, state, result) = visit(&node, Retry::attempts(2)).await;

    assert_eq!(log.iter().filter(|line| line.starts_with("fallback")).count(), 1);
    assert_eq!(log.iter().filter(|line| line.starts_with("post")).count(), 0);
    assert_eq!(state, [1]);
    assert_eq!(result, Err((Phase::Exec, 2, "fallback after exec broke".to_owned())));
}

#[test]
fn without_a_fallback_the_last_error_is_the_runs() {
    let flow = alone_sync(
        blocking(|cx| Result::<u32>::Err(format!("attempt {} broke", cx.attempt()).into())).retry(Retry::attempts(3)),
    );

    let error = flow.run(&mut vec![]).unwrap_err();

    let RunError::Node { attempts: 3, source, .. } = error else { panic!("{error}") };
    assert_eq!(source.to_string(), "attempt 2 broke");
}

#[tokio::test]
async fn without_a_fallback_the_last_error_of_an_async_node_is_the_runs() {
    let flow = alone(
        awaiting(|cx| async move { Result::<u32>::Err(format!("attempt {} broke", cx.attempt()).into()) })
            .retry(Retry::attempts(3)),
    );

    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    let RunError::Node { attempts: 3, source, .. } = error else { panic!("{error}") };
    assert_eq!(source.to_string(), "attempt 2 broke");
}

#[test]
fn an_attempt_that_succeeds_is_the_last() {
    let calls = Count::default();
    let counted = calls.clone();
    let flow = alone_sync(
        blocking(move |_| if counted.up() < 2 { Err("not yet".into()) } else { Ok(1) }).retry(Retry::attempts(9)),
    );

    let mut state = vec![];
    ended(flow.run(&mut state));

    assert_eq!(calls.get(), 3);
    assert_eq!(state, [1]);
}

#[test]
fn the_attempts_of_each_visit_count_from_zero() {
    let mut flow = Flow::builder("twice");
    let fails_first = || blocking(|cx| if cx.attempt() == 0 { Err("first".into()) } else { Ok(cx.attempt()) });
    let (a, b) = (
        flow.add("a", fails_first().retry(Retry::attempts(2))),
        flow.add("b", fails_first().retry(Retry::attempts(2))),
    );
    flow.start(a);
    flow.route(a >> b);

    let mut state = vec![];
    ended(flow.build().unwrap().run(&mut state));

    assert_eq!(state, [1, 1]);
}

#[test]
fn an_error_leaves_what_earlier_nodes_wrote() {
    let mut flow = Flow::builder("breaks");
    let write = flow.add("write", |state: &mut Vec<u32>| state.extend([1, 2]));
    let fail = flow.add("fail", blocking(|_| Result::<u32>::Err("broken".into())));
    flow.start(write);
    flow.route(write >> fail);

    let mut state = vec![0];
    let error = flow.build().unwrap().run(&mut state).unwrap_err();

    assert_eq!(error.node(), "fail");
    assert_eq!(state, [0, 1, 2]);
}

#[test]
fn a_closure_that_writes_and_fails_keeps_what_it_wrote() {
    let flow = alone_sync(|state: &mut Vec<u32>| -> Result<()> {
        state.push(5);
        Err("broken".into())
    });

    let mut state = vec![];
    let error = flow.run(&mut state).unwrap_err();

    assert!(matches!(error, RunError::Node { phase: Phase::Post, attempts: 0, .. }));
    assert_eq!(state, [5]);
}
