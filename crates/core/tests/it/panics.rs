//! A panic is a bug: an error of its phase, with its message, without a retry and without a fallback.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{Count, alone, alone_sync, async_items, awaiting, blocking, ended, items};
use flowstone_core::{
    Ask, AsyncFlow, AsyncNode, Context, Flow, Node, NodeError, NodeExt, Outcome, Phase, Result, Retry, RunError,
    driver::Panicked,
};

/// A node that panics in one phase.
#[derive(Clone, Copy)]
struct Bang(Phase);

impl Bang {
    fn at(self, phase: Phase) {
        assert!(self.0 != phase, "bang in {phase}");
    }
}

impl Node<Vec<u32>> for Bang {
    type Prep = ();
    type Exec = ();
    type Action = ();

    fn prep(&self, _: &Vec<u32>) -> Result<()> {
        self.at(Phase::Prep);
        Ok(())
    }

    fn exec(&self, (): &(), _: &Context) -> Result<()> {
        self.at(Phase::Exec);
        Ok(())
    }

    fn exec_fallback(&self, (): &(), _: NodeError, _: &Context) -> Result<()> {
        panic!("a fallback was called for a panic");
    }

    fn post(&self, shared: &mut Vec<u32>, (): (), (): ()) -> Result<()> {
        shared.push(1);
        self.at(Phase::Post);
        Ok(())
    }
}

/// The same with phases that await.
struct AsyncBang(Bang);

impl AsyncNode<Vec<u32>> for AsyncBang {
    type Prep = ();
    type Exec = ();
    type Action = ();

    async fn prep(&self, _: &Vec<u32>) -> Result<()> {
        tokio::task::yield_now().await;
        self.0.at(Phase::Prep);
        Ok(())
    }

    async fn exec(&self, (): &(), _: &Context) -> Result<()> {
        tokio::task::yield_now().await;
        self.0.at(Phase::Exec);
        Ok(())
    }

    async fn exec_fallback(&self, (): &(), _: NodeError, _: &Context) -> Result<()> {
        panic!("a fallback was called for a panic");
    }

    async fn post(&self, shared: &mut Vec<u32>, (): (), (): ()) -> Result<()> {
        shared.push(1);
        tokio::task::yield_now().await;
        self.0.at(Phase::Post);
        Ok(())
    }
}

/// The phase, the number of attempts and the message of a panic that ended a run.
fn panicked(result: Result<Outcome, RunError>) -> (Phase, u32, String) {
    let error = result.unwrap_err();
    let RunError::Node { phase, attempts, source, .. } = error else { panic!("{error}") };
    (phase, attempts, source.downcast_ref::<Panicked>().expect("the source is a panic").message.clone())
}

#[tokio::test]
async fn a_panic_in_any_phase_is_an_error_of_that_phase() {
    for (phase, attempts) in [(Phase::Prep, 0), (Phase::Exec, 1), (Phase::Post, 0)] {
        let bang = Bang(phase);
        let retry = || Retry::attempts(5);
        let sync = alone_sync(bang.retry(retry()));
        let flows = [
            alone(bang.retry(retry())),
            alone(bang.retry(retry()).inline()),
            alone(AsyncBang(bang).retry(retry())),
            alone(AsyncBang(bang).retry(retry()).timeout(crate::common::secs(9))),
        ];

        let mut states = vec![vec![]; 5];
        let mut results = vec![sync.run(&mut states[0])];
        for (flow, state) in flows.iter().zip(&mut states[1..]) {
            results.push(flow.run_async(state).await);
        }

        for (kind, result) in results.into_iter().enumerate() {
            assert_eq!(panicked(result), (phase, attempts, format!("bang in {phase}")), "kind {kind}");
        }
        let written = usize::from(phase == Phase::Post);
        assert!(states.iter().all(|state| state.len() == written), "writes before a panic in post stay");
    }
}

#[tokio::test]
async fn a_panic_after_a_retry_is_not_tried_again() {
    let calls = Count::default();
    let exec = |calls: &Count| {
        let calls = calls.clone();
        move |cx: &Context| -> Result<u32> {
            calls.up();
            assert!(cx.attempt() == 0, "bang");
            Err("first".into())
        }
    };
    let awaited = exec(&calls);
    let retry = || Retry::attempts(5);

    let results = [
        alone_sync(blocking(exec(&calls)).retry(retry())).run(&mut vec![]),
        alone(blocking(exec(&calls)).retry(retry())).run_async(&mut vec![]).await,
        alone(awaiting(move |cx| std::future::ready(awaited(&cx))).retry(retry())).run_async(&mut vec![]).await,
    ];

    for result in results {
        assert_eq!(panicked(result), (Phase::Exec, 2, "bang".to_owned()));
    }
    assert_eq!(calls.get(), 6);
}

#[tokio::test]
async fn a_panic_in_a_fallback_is_an_error_of_exec() {
    let bang = |_: NodeError, _: &Context| -> Result<u32> { panic!("bang in the fallback") };
    let fails = |_: &Context| Result::<u32>::Err("broken".into());

    let results = [
        alone_sync(blocking(fails).or(bang)).run(&mut vec![]),
        alone(blocking(fails).or(bang)).run_async(&mut vec![]).await,
        alone(awaiting(move |cx| async move { fails(&cx) }).or(bang)).run_async(&mut vec![]).await,
    ];

    for result in results {
        assert_eq!(panicked(result), (Phase::Exec, 1, "bang in the fallback".to_owned()));
    }
}

#[tokio::test]
async fn a_panic_of_an_item_is_not_tried_again_and_has_no_fallback() {
    let calls = Count::default();
    let exec = |calls: &Count| {
        let calls = calls.clone();
        move || -> Result<u32> {
            calls.up();
            panic!("bang");
        }
    };
    let (one, two, three) = (exec(&calls), exec(&calls), exec(&calls));
    let awaited = move |_, _| {
        let exec = three.clone();
        async move { exec() }
    };
    let never = |_: NodeError, _: &Context| -> Result<u32> { panic!("a fallback was called for a panic") };
    let retry = || Retry::attempts(5);
    let flow: Flow<Vec<u32>> = alone_sync(items(1, move |_, _| one()).or(never).retry(retry()));
    let flows: [AsyncFlow<Vec<u32>>; 2] = [
        alone(items(1, move |_, _| two()).or(never).retry(retry()).parallel(2)),
        alone(async_items(1, awaited).or(never).retry(retry()).parallel(2)),
    ];

    let mut results = vec![flow.run(&mut vec![])];
    for flow in flows {
        results.push(flow.run_async(&mut vec![]).await);
    }

    for result in results {
        assert_eq!(panicked(result), (Phase::Exec, 1, "bang".to_owned()));
    }
    assert_eq!(calls.get(), 3);
}

fn one_child() -> Flow<u32> {
    let mut flow = Flow::builder("child");
    let node = flow.add("node", |_: &mut u32| ());
    flow.start(node);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_panic_in_fork_or_join_is_an_error_of_its_phase() {
    let fork = |n: &u32| -> Vec<u32> {
        assert!(*n != 1, "bang in fork");
        vec![1, 2]
    };
    let join = |n: &mut u32, _: Vec<u32>| assert!(*n != 2, "bang in join");
    let (sync, parallel) =
        (alone_sync(one_child().batch(fork, join)), alone(one_child().batch(fork, join).parallel(2)));

    for (state, phase, message) in [(1, Phase::Prep, "bang in fork"), (2, Phase::Post, "bang in join")] {
        let results = [sync.run(&mut state.clone()), parallel.run_async(&mut state.clone()).await];
        for result in results {
            assert_eq!(panicked(result), (phase, 0, message.to_owned()));
        }
    }
    ended(parallel.run_async(&mut 0).await);
}

#[test]
fn a_panic_in_a_closure_is_an_error_of_post() {
    let flow = alone_sync(|_: &mut u32| {
        if true {
            panic!("bang {}", 7);
        }
    });

    assert_eq!(panicked(flow.run(&mut 0)), (Phase::Post, 0, "bang 7".to_owned()));
}

#[test]
fn a_panic_with_something_else_than_a_text_is_an_error_too() {
    let flow = alone_sync(|_: &mut u32| {
        if true {
            std::panic::panic_any(7);
        }
    });

    assert_eq!(panicked(flow.run(&mut 0)).2, "a panic without a text");
}

#[test]
fn a_panic_in_a_retry_condition_is_an_error_of_exec() {
    let retry = Retry::attempts(3).retry_if(|_| panic!("bang in retry_if"));
    let flow = alone_sync(blocking(|_| Result::<u32>::Err("broken".into())).retry(retry));

    assert_eq!(panicked(flow.run(&mut vec![])), (Phase::Exec, 1, "bang in retry_if".to_owned()));
}

/// Panics when it asks, or when it is answered.
struct Riddle(bool);

impl Ask<u32> for Riddle {
    type Question = ();
    type Answer = ();
    type Action = ();

    fn ask(&self, _: &u32) -> Result<()> {
        assert!(!self.0, "bang in ask");
        Ok(())
    }

    fn post(&self, _: &mut u32, (): ()) -> Result<()> {
        panic!("bang in the answer");
    }
}

#[test]
fn a_panic_of_a_pause_is_an_error_of_its_phase() {
    let (asks, answers) = (alone_sync(Riddle(true)), alone_sync(Riddle(false)));

    let asked = asks.run(&mut 0);
    let Ok(Outcome::Paused(pause)) = answers.run(&mut 0) else { panic!() };
    let answered = answers.resume(&mut 0, pause, ());

    assert_eq!(panicked(asked), (Phase::Prep, 0, "bang in ask".to_owned()));
    assert_eq!(panicked(answered), (Phase::Post, 0, "bang in the answer".to_owned()));
}

#[tokio::test]
async fn a_flow_runs_on_after_a_panic_in_another_run_of_it() {
    let flow = alone(blocking(|cx| {
        assert!(cx.run_id() != "bad", "bang");
        Ok(1)
    }));
    let bad = flowstone_core::RunOptions::new().id("bad");

    for _ in 0..100 {
        assert_eq!(panicked(flow.run_async_with(&mut vec![], &bad).await).2, "bang");
        ended(flow.run_async(&mut vec![]).await);
    }
}
