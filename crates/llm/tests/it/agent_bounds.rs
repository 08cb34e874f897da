//! Bounds that stop an agent before it has an answer: it ends as stopped, says why, and its conversation can go on.

use std::time::Duration;

use flowstone_core::{BuildError, Usd};
use flowstone_llm::{
    AgentBuilder, AgentExit, AgentState, Bound, History, Model, Price, Prices, Reply, Role, ScriptedModel, ToolCall,
    ToolFault, Tools, agent, function,
};
use serde_json::json;

use crate::agent::{Number, call, calls, doubling, results, run, told};

/// A model that always calls the same tool, for so many tokens each time, at a dollar for a million.
fn calling(tool: &'static str, tokens: u64) -> (Model, ScriptedModel) {
    let script = ScriptedModel::by(move |request| {
        let turn = request.messages.len();
        Ok(calls([call(&format!("call_{turn}"), tool, 1)]).with_tokens(tokens, 0))
    });
    let prices = Prices::default().with("scripted:*", Price::per_million(Usd::dollars(1.0), Usd::dollars(1.0)));
    (Model::new(script.clone()).prices(prices), script)
}

/// Runs an agent until it is stopped; gives its state, and how often the model was asked.
async fn stopped(make: impl FnOnce(AgentBuilder) -> AgentBuilder) -> (AgentState, usize) {
    let (model, script) = calling("double", 1_000);
    let flow = make(agent(&model, doubling())).build().unwrap();
    let mut state = AgentState::new("go");
    assert_eq!(run(&flow, &mut state).await, AgentExit::Stopped);
    assert_eq!((state.answer(), state.waiting().len()), (None, 0));
    (state, script.requests().len())
}

#[tokio::test]
async fn the_calls_of_the_last_turn_are_not_made_and_have_a_result() {
    let (state, asked) = stopped(|agent| agent.max_turns(3)).await;

    assert_eq!((state.stopped(), asked), (Some(Bound::Turns { limit: 3 }), 3));
    let tools = state.conversation().messages.iter().filter(|message| message.role == Role::Tool);
    let texts: Vec<_> = tools.flat_map(results).map(|result| (result.text, result.fault)).collect();
    let why = "this call was not made: no answer after 3 turns".to_owned();
    assert_eq!(texts, [("2".to_owned(), None), ("2".to_owned(), None), (why, Some(ToolFault::Failed))]);
}

#[tokio::test]
async fn an_agent_makes_twenty_turns_unless_it_is_said_otherwise() {
    let (state, asked) = stopped(|agent| agent).await;

    assert_eq!((state.stopped(), asked), (Some(Bound::Turns { limit: 20 }), 20));
}

#[tokio::test]
async fn tokens_are_bounded() {
    let (state, asked) = stopped(|agent| agent.max_tokens(2_500)).await;

    assert_eq!((state.stopped(), asked), (Some(Bound::Tokens { limit: 2_500, used: 3_000 }), 3));
}

#[tokio::test]
async fn money_is_bounded() {
    let (state, asked) = stopped(|agent| agent.max_cost(Usd::dollars(0.002))).await;

    let bound = Bound::Cost { limit: Usd::dollars(0.002), used: Usd::dollars(0.002) };
    assert_eq!((state.stopped(), asked), (Some(bound), 2));
    assert_eq!(bound.to_string(), "no answer for $0.002: it has cost $0.002");
}

#[test]
fn money_is_not_bounded_for_a_model_without_a_price() {
    let model = Model::new(ScriptedModel::new(["never"])).prices(Prices::default());

    let error = agent(&model, Tools::new()).max_cost(Usd::dollars(1.0)).build().unwrap_err();

    assert!(error.to_string().contains("node `think`: model `scripted:script`: "), "{error}");
    assert!(error.to_string().contains("no price of this model is known"), "{error}");
}

#[tokio::test]
async fn wrong_calls_are_bounded() {
    let (model, script) = calling("halve", 1);
    let flow = agent(&model, doubling()).max_misuse(2).build().unwrap();

    let mut state = AgentState::new("go");
    let exit = run(&flow, &mut state).await;

    assert_eq!((exit, state.stopped()), (AgentExit::Stopped, Some(Bound::Misuse { limit: 2 })));
    assert_eq!((script.requests().len(), state.misuses()), (2, 2));
}

#[tokio::test]
async fn several_wrong_calls_of_one_reply_count_once() {
    let wrong = |id| ToolCall::new(id, "double", json!({}));
    let model = Model::new(ScriptedModel::new([calls([wrong("a"), wrong("b"), wrong("c")]), "sorry".into()]));
    let flow = agent(&model, doubling()).max_misuse(2).build().unwrap();

    let mut state = AgentState::new("go");
    let exit = run(&flow, &mut state).await;

    assert_eq!((exit, state.misuses()), (AgentExit::Answered, 1));
}

/// A tool that waits a minute, and its agent.
fn slow(model: &Model) -> AgentBuilder {
    let tools = Tools::new().with(function("wait", "Waits", |_: Number| async {
        tokio::time::sleep(Duration::from_mins(1)).await;
        Ok("waited")
    }));
    agent(model, tools.timeout(Duration::from_hours(1)))
}

#[tokio::test(start_paused = true)]
async fn time_is_bounded_and_what_is_under_way_is_dropped() {
    let (model, script) = calling("wait", 1);
    let limit = Duration::from_secs(150);
    let flow = slow(&model).max_time(limit).build().unwrap();

    let begun = tokio::time::Instant::now();
    let mut state = AgentState::new("go");
    let exit = run(&flow, &mut state).await;

    assert_eq!((exit, state.stopped()), (AgentExit::Stopped, Some(Bound::Time { limit })));
    assert_eq!((begun.elapsed(), state.took(), script.requests().len()), (limit, limit, 3));
    assert_eq!(told(&state)[0].text, "it was stopped: the agent's time is over");
}

#[tokio::test(start_paused = true)]
async fn time_is_that_of_the_question_also_in_another_process() {
    let (model, _) = calling("wait", 1);
    let flow = slow(&model).max_time(Duration::from_secs(150)).max_turns(2).build().unwrap();
    let mut state = AgentState::new("go");
    run(&flow, &mut state).await;
    assert_eq!(state.took(), Duration::from_mins(1));

    let stored = serde_json::to_string(&state).unwrap();
    let mut state: AgentState = serde_json::from_str(&stored).unwrap();
    let flow = slow(&model).max_time(Duration::from_secs(50)).build().unwrap();
    run(&flow, &mut state).await;

    assert_eq!(state.stopped(), Some(Bound::Time { limit: Duration::from_secs(50) }));
}

#[tokio::test]
async fn an_agent_that_was_stopped_can_be_asked_again() {
    let script = ScriptedModel::new([calls([call("a", "double", 1)]), Reply::of_text("Fine.")]);
    let flow = agent(&Model::new(script.clone()), doubling()).max_turns(1).build().unwrap();
    let mut state = AgentState::new("go");
    assert_eq!(run(&flow, &mut state).await, AgentExit::Stopped);

    state.ask("Leave it.");
    let exit = run(&flow, &mut state).await;

    assert_eq!((exit, state.stopped(), state.answer().as_deref()), (AgentExit::Answered, None, Some("Fine.")));
    assert_eq!(script.requests()[1].messages.len(), 4);
}

#[test]
fn bounds_that_cannot_hold_are_faults() {
    let model = Model::new(ScriptedModel::new(["never"]));
    let fault = |make: fn(AgentBuilder) -> AgentBuilder| -> BuildError {
        make(agent(&model, Tools::new())).build().unwrap_err()
    };

    for (make, what) in [
        ((|agent| agent.max_turns(0)) as fn(AgentBuilder) -> AgentBuilder, "`max_turns(0)`"),
        (|agent| agent.max_misuse(0), "`max_misuse(0)`"),
        (|agent| agent.max_cost(Usd::default()), "`max_cost` of nothing"),
        (|agent| agent.max_time(Duration::ZERO), "`max_time` of nothing"),
        (|agent| agent.history(History::drop_above(0)), "a limit of 0 tokens"),
        (|agent| agent.history(History::summarise_above(0)), "a limit of 0 tokens"),
    ] {
        let error = fault(make).to_string();
        assert!(error.contains("node `think`: ") && error.contains(what), "{what}: {error}");
    }
}
