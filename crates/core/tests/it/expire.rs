//! Questions that expire, in memory; and questions of children, which take a run that is kept.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::time::Duration;

use crate::common::Recorder;
use flowstone_core::{
    Action, Ask, AsyncFlow, EventKind, Fault, Flow, Outcome, Pause, QuestionExpired, Result, RunError, RunOptions,
};

/// Asks for a number; stands for as many minutes as the state has, and goes on with 0 if it is even.
struct Number;

impl Ask<Vec<u32>> for Number {
    type Question = &'static str;
    type Answer = u32;
    type Action = Action;

    fn ask(&self, _: &Vec<u32>) -> Result<&'static str> {
        Ok("how many?")
    }

    fn expires(&self, numbers: &Vec<u32>) -> Option<Duration> {
        numbers.first().map(|minutes| Duration::from_mins(u64::from(*minutes)))
    }

    fn expired(&self, numbers: &mut Vec<u32>) -> Result<Action> {
        numbers.push(0);
        Ok("late".into())
    }

    fn post(&self, numbers: &mut Vec<u32>, answer: u32) -> Result<Action> {
        numbers.push(answer);
        Ok("done".into())
    }
}

/// Says nothing of what happens when its question expires.
struct Silent;

impl Ask<Vec<u32>> for Silent {
    type Question = &'static str;
    type Answer = u32;
    type Action = ();

    fn ask(&self, _: &Vec<u32>) -> Result<&'static str> {
        Ok("how many?")
    }

    fn post(&self, _: &mut Vec<u32>, _: u32) -> Result<()> {
        Ok(())
    }
}

fn flow() -> Flow<Vec<u32>> {
    let mut flow = Flow::builder("number");
    let ask = flow.add("ask", Number);
    let late = flow.add("late", |numbers: &mut Vec<u32>| numbers.push(100));
    flow.start(ask);
    flow.route(ask - "late" >> late);
    flow.route(ask - "done" >> flowstone_core::END);
    flow.build().unwrap()
}

fn paused(outcome: Result<Outcome, RunError>) -> Pause {
    match outcome.unwrap() {
        Outcome::Paused(pause) => pause,
        Outcome::Ended(action) => panic!("ended with {action}"),
    }
}

#[test]
fn a_pause_says_how_long_its_question_stands() {
    let pause = paused(flow().run(&mut vec![5]));
    assert_eq!(pause.expires(), Some(Duration::from_mins(5)));

    let pause = paused(flow().run(&mut vec![]));
    assert_eq!(pause.expires(), None);
}

#[tokio::test]
async fn an_expired_question_goes_on_without_an_answer() {
    let mut numbers = vec![5];
    let pause = paused(flow().run(&mut numbers));
    flow().expire(&mut numbers, pause).unwrap();
    assert_eq!(numbers, [5, 0, 100]);

    let (flow, recorder) = (AsyncFlow::from(flow()), Recorder::default());
    let mut numbers = vec![5];
    let pause = paused(flow.run_async(&mut numbers).await);
    let options = RunOptions::new().listen(recorder.clone());
    flow.expire_with(&mut numbers, pause, &options).await.unwrap();
    assert_eq!(numbers, [5, 0, 100]);
    assert!(recorder.events().iter().any(|event| matches!(event.kind, EventKind::Expired)));
}

#[test]
fn a_node_without_expired_fails_with_a_typed_error() {
    let mut flow = Flow::builder("number");
    let ask = flow.add("ask", Silent);
    flow.start(ask);
    let flow = flow.build().unwrap();

    let mut numbers = vec![];
    let pause = paused(flow.run(&mut numbers));
    let error = flow.expire(&mut numbers, pause).unwrap_err();

    let RunError::Node { node, terminal, source, .. } = error else { panic!("{error}") };
    assert_eq!((node.as_str(), terminal), ("ask", true));
    assert!(source.is::<QuestionExpired>());
}

#[tokio::test]
async fn children_that_ask_take_a_journaled_batch_and_a_run_that_is_kept() {
    let fork = |numbers: &Vec<u32>| vec![numbers.clone(), numbers.clone()];
    let join = |numbers: &mut Vec<u32>, _: Vec<Vec<u32>>| numbers.push(1);
    let mut plain = Flow::builder("outer");
    let each = plain.add("each", flow().batch(fork, join));
    plain.start(each);
    let faults = plain.build().unwrap_err();
    assert!(matches!(&faults.faults()[0], Fault::AskInBatchFlow { node, ask } if node == "each" && ask == "ask"));
    assert!(faults.to_string().contains(".journaled()"), "{faults}");

    let mut outer = Flow::builder("outer");
    let each = outer.add("each", flow().batch(fork, join).journaled());
    outer.start(each);
    let outer = outer.build().unwrap();
    let sync = outer.run(&mut vec![]).unwrap_err();
    let parallel = AsyncFlow::from(outer.clone()).run_async(&mut vec![]).await.unwrap_err();

    for error in [sync, parallel] {
        assert!(matches!(&error, RunError::NeedsStore { node, .. } if node == "each[0]/ask"), "{error:?}");
    }
    assert_eq!(outer.asks().unwrap(), "each");
}
