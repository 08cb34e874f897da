//! Pauses in memory: a question, its answer, and a run that goes on as if it had not stopped (LESSONS row 12).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{Recorder, alone, alone_sync, blocking, ended};
use flowstone_core::{
    Action, Ask, AsyncFlow, CancellationToken, Flow, NodeError, Outcome, Pause, Phase, Result, RunError, RunId,
    RunOptions,
};
use serde_json::{Value, json};

/// Asks for a number, which it pushes.
struct Number(&'static str);

impl Ask<Vec<u32>> for Number {
    type Question = Value;
    type Answer = u32;
    type Action = Action;

    fn ask(&self, shared: &Vec<u32>) -> Result<Value> {
        Ok(json!({ "text": self.0, "known": shared }))
    }

    fn schema(&self) -> Value {
        json!({ "type": "integer" })
    }

    fn post(&self, shared: &mut Vec<u32>, answer: u32) -> Result<Action> {
        shared.push(answer);
        if answer == 13 { Err("unlucky".into()) } else { Ok(if answer == 0 { "zero" } else { "" }.into()) }
    }
}

/// `first` pushes 1, `ask` asks, `visit` pushes how many visits there were, `again` asks once more.
fn builder() -> AsyncFlow<Vec<u32>> {
    let mut flow = AsyncFlow::builder("asks");
    let first = flow.add("first", blocking(|_| Ok(1)));
    let ask = flow.add("ask", Number("how many?"));
    let visit = flow.add("visit", blocking(|cx| Ok(100 + cx.visit() as u32)));
    let again = flow.add("again", Number("and now?"));
    flow.start(first);
    flow.route(first >> ask >> visit >> again);
    flow.route(ask - "zero" >> ask);
    flow.build().unwrap()
}

fn paused(result: Result<Outcome, RunError>) -> Pause {
    match result.unwrap() {
        Outcome::Paused(pause) => pause,
        Outcome::Ended(action) => panic!("ended with {action}"),
    }
}

#[tokio::test]
async fn a_pause_says_where_it_is_and_what_it_asks() {
    let flow = builder();

    let mut state = vec![];
    let pause = paused(flow.run_async(&mut state).await);

    assert_eq!(*pause.node(), "ask");
    assert_eq!(Some(pause.position()), flow.position("ask"));
    assert_eq!(*pause.question(), json!({ "text": "how many?", "known": [1] }));
    assert_eq!(*pause.schema(), json!({ "type": "integer" }));
}

#[tokio::test]
async fn a_run_goes_on_from_its_pause_and_nothing_runs_again() {
    let flow = builder();

    let mut state = vec![];
    let pause = paused(flow.run_async(&mut state).await);
    let pause = paused(flow.resume(&mut state, pause, 7).await);
    assert_eq!((pause.node().as_str(), &state), ("again", &vec![1, 7, 102]));
    let action = ended(flow.resume(&mut state, pause, 9).await);

    assert_eq!((action.as_str(), state), ("default", vec![1, 7, 102, 9]));
}

#[tokio::test]
async fn an_answer_can_lead_to_the_same_question() {
    let flow = builder();

    let mut state = vec![];
    let mut pause = paused(flow.run_async(&mut state).await);
    for _ in 0..3 {
        pause = paused(flow.resume(&mut state, pause, 0).await);
        assert_eq!(*pause.node(), "ask");
    }
    paused(flow.resume(&mut state, pause, 5).await);

    assert_eq!(state, [1, 0, 0, 0, 5, 105]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_gives_the_pause_back_and_leaves_the_state() {
    let flow = builder();

    let mut state = vec![];
    let mut pause = paused(flow.run_async(&mut state).await);
    for wrong in [json!("seven"), json!(null), json!(-1), json!({ "n": 7 })] {
        let error = flow.resume(&mut state, pause, wrong).await.unwrap_err();
        assert!(error.to_string().contains("the answer to node `ask` does not fit"), "{error}");
        let RunError::Answer { pause: again, .. } = error else { panic!("{error}") };
        assert_eq!((state.as_slice(), again.node().as_str()), ([1].as_slice(), "ask"));
        pause = again;
    }
    paused(flow.resume(&mut state, pause, 7).await);

    assert_eq!(state, [1, 7, 102]);
}

#[test]
fn an_answer_that_is_no_json_gives_the_pause_back() {
    let flow = alone_sync(Number("how many?"));

    let mut state = vec![];
    let pause = paused(flow.run(&mut state));
    let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
    let error = flow.resume(&mut state, pause, no_json).unwrap_err();

    let RunError::Answer { pause, .. } = error else { panic!("{error}") };
    ended(flow.resume(&mut state, pause, 7));
}

#[test]
fn a_sync_flow_pauses_too() {
    let mut flow = Flow::builder("asks");
    let first = flow.add("first", blocking(|_| Ok(1)));
    let ask = flow.add("ask", Number("how many?"));
    let last = flow.add("last", blocking(|cx| Ok(100 + cx.visit() as u32)));
    flow.start(first);
    flow.route(first >> ask >> last);
    let flow = flow.build().unwrap();

    let mut state = vec![];
    let pause = paused(flow.run(&mut state));
    let RunError::Answer { pause, .. } = flow.resume(&mut state, pause, "x").unwrap_err() else { panic!() };
    ended(flow.resume(&mut state, pause, 7));

    assert_eq!(state, [1, 7, 102]);
}

#[test]
fn a_pause_of_another_flow_is_given_back() {
    let (flow, other) = (alone_sync(Number("how many?")), alone_sync(|_: &mut Vec<u32>| ()));
    let mut named = Flow::builder("named");
    let name = named.add("name", Number("who?"));
    named.start(name);
    let named = named.build().unwrap();

    let mut state = vec![];
    let mut pause = paused(flow.run(&mut state));
    for wrong in [&other, &named] {
        let error = wrong.resume(&mut state, pause, 7).unwrap_err();
        assert!(error.to_string().contains("has no pause at node `node`"), "{error}");
        let RunError::NoSuchPause { pause: again, flow, .. } = error else { panic!("{error}") };
        assert_eq!(flow, wrong.name());
        pause = again;
    }

    ended(flow.resume(&mut state, pause, 7));
    assert_eq!(state, [7]);
}

#[tokio::test]
async fn a_pause_of_a_longer_flow_is_given_back() {
    let (long, short) = (builder(), alone(|_: &mut Vec<u32>| ()));

    let mut state = vec![];
    let pause = paused(long.run_async(&mut state).await);
    let error = short.resume(&mut state, pause, 7).await.unwrap_err();

    assert!(matches!(error, RunError::NoSuchPause { .. }), "{error}");
}

#[test]
fn an_error_after_the_answer_ends_the_run() {
    let flow = alone_sync(Number("how many?"));

    let mut state = vec![];
    let pause = paused(flow.run(&mut state));
    let error = flow.resume(&mut state, pause, 13).unwrap_err();

    let RunError::Node { phase: Phase::Post, source, .. } = error else { panic!("{error}") };
    assert_eq!((source.to_string().as_str(), state), ("unlucky", vec![13]));
}

/// A state with a part that a nested flow works on.
#[derive(Default)]
struct Whole {
    part: Vec<u32>,
    other: u32,
}

impl AsRef<Vec<u32>> for Whole {
    fn as_ref(&self) -> &Vec<u32> {
        &self.part
    }
}

impl AsMut<Vec<u32>> for Whole {
    fn as_mut(&mut self) -> &mut Vec<u32> {
        &mut self.part
    }
}

#[tokio::test]
async fn a_nested_flow_over_a_part_pauses_and_goes_on() {
    let mut outer = AsyncFlow::builder("outer");
    let inner = outer.add("inner", builder().on::<Vec<u32>>());
    let last = outer.add("last", |whole: &mut Whole| whole.other = whole.part.iter().sum());
    outer.start(inner);
    outer.route(inner >> last);
    let flow = outer.build().unwrap();

    let mut state = Whole::default();
    let pause = paused(flow.run_async(&mut state).await);
    assert_eq!(*pause.node(), "inner/ask");
    let RunError::Answer { pause, .. } = flow.resume(&mut state, pause, "x").await.unwrap_err() else { panic!() };
    let pause = paused(flow.resume(&mut state, pause, 7).await);
    assert_eq!(*pause.node(), "inner/again");
    ended(flow.resume(&mut state, pause, 9).await);

    assert_eq!((state.part, state.other), (vec![1, 7, 102, 9], 119));
}

#[tokio::test]
async fn the_run_keeps_its_id_and_its_visits_over_pauses() {
    let flow = builder();
    let recorder = Recorder::default();
    let options = RunOptions::new().listen(recorder.clone());

    let mut state = vec![];
    let pause = paused(flow.run_async_with(&mut state, &options).await);
    let pause = paused(flow.resume_with(&mut state, pause, 7, &options).await);
    ended(flow.resume_with(&mut state, pause, 9, &options).await);

    let events = recorder.events();
    let ids: std::collections::BTreeSet<RunId> = events.iter().map(|event| event.run.clone()).collect();
    assert_eq!(ids.len(), 1, "one run has several ids: {ids:?}");
    let of_nodes = events.iter().filter(|event| event.node.is_some() && !event.is_terminal());
    let visits: Vec<_> = of_nodes.map(|event| event.visit).collect();
    assert!(visits.is_sorted() && visits.last() == Some(&3), "{visits:?}");
}

#[test]
fn a_sync_run_keeps_its_id_over_a_pause() {
    let flow = alone_sync(Number("how many?"));
    let recorder = Recorder::default();
    let options = RunOptions::new().listen(recorder.clone());

    let mut state = vec![];
    let pause = paused(flow.run_with(&mut state, &options));
    ended(flow.resume_with(&mut state, pause, 7, &options));

    let ids: std::collections::BTreeSet<RunId> = recorder.events().into_iter().map(|event| event.run).collect();
    assert_eq!(ids.len(), 1, "one run has several ids: {ids:?}");
}

#[tokio::test]
async fn a_resumed_run_that_is_cancelled_at_once_names_the_node_that_asked() {
    let flow = builder();
    let token = CancellationToken::new();
    token.cancel();

    let mut state = vec![];
    let pause = paused(flow.run_async(&mut state).await);
    let error = flow.resume_with(&mut state, pause, 7, &RunOptions::new().cancel(token)).await.unwrap_err();

    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
    assert_eq!((error.node().as_str(), state), ("ask", vec![1]));
}

/// Cannot ask.
struct Mute;

impl Ask<Vec<u32>> for Mute {
    type Question = ();
    type Answer = ();
    type Action = ();

    fn ask(&self, _: &Vec<u32>) -> Result<()> {
        Err(NodeError::new("nothing to ask"))
    }

    fn post(&self, _: &mut Vec<u32>, (): ()) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_question_that_cannot_be_made_ends_the_run() {
    let error = alone_sync(Mute).run(&mut vec![]).unwrap_err();

    assert!(matches!(error, RunError::Node { phase: Phase::Prep, attempts: 0, .. }), "{error}");
}

#[test]
fn any_number_of_runs_wait_at_once() {
    let flow = alone_sync(Number("how many?"));

    let mut states = vec![vec![]; 1_000];
    let pauses: Vec<_> = states.iter_mut().map(|state| paused(flow.run(state))).collect();
    for (number, (state, pause)) in states.iter_mut().zip(pauses).enumerate().rev() {
        ended(flow.resume(state, pause, number as u32 + 100));
    }

    assert!(states.iter().enumerate().all(|(number, state)| *state == [number as u32 + 100]));
}

#[tokio::test]
async fn a_run_keeps_the_name_that_it_was_given() {
    let flow = builder();
    let options = RunOptions::new().id("order-7");

    let mut state = vec![];
    let pause = paused(flow.run_async_with(&mut state, &options).await);
    let pause = paused(flow.resume(&mut state, pause, 7).await);
    let error = flow.resume(&mut state, pause, 13).await.unwrap_err();

    assert!(error.to_string().starts_with("run `order-7`: node `again`"), "{error}");
}

/// Asks for one of the numbers that the state has.
struct Pick;

impl Ask<Vec<u32>> for Pick {
    type Question = ();
    type Answer = u32;
    type Action = ();

    fn ask(&self, _: &Vec<u32>) -> Result<()> {
        Ok(())
    }

    fn schema_for(&self, shared: &Vec<u32>) -> Value {
        json!({ "enum": shared })
    }

    fn accepts(&self, shared: &Vec<u32>, answer: &u32) -> Result<()> {
        if shared.contains(answer) { Ok(()) } else { Err(format!("{answer} is none of {shared:?}").into()) }
    }

    fn post(&self, shared: &mut Vec<u32>, answer: u32) -> Result<()> {
        shared.retain(|number| *number == answer);
        Ok(())
    }
}

#[test]
fn a_question_may_take_only_what_its_state_allows() {
    let flow = alone_sync(Pick);

    let mut state = vec![3, 5, 8];
    let pause = paused(flow.run(&mut state));
    assert_eq!(*pause.schema(), json!({ "enum": [3, 5, 8] }));
    let error = flow.resume(&mut state, pause, 4).unwrap_err();
    let RunError::Answer { pause, source, .. } = error else { panic!("{error}") };
    assert_eq!((source.to_string().as_str(), &state), ("4 is none of [3, 5, 8]", &vec![3, 5, 8]));
    flow.resume(&mut state, pause, 5).unwrap();

    assert_eq!(state, [5]);
}
