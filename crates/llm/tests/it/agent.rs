//! An agent thinks, acts, and thinks again, until it has an answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flowstone_core::{
    AsyncFlow, Budget, Context, Event, NodeError, Outcome, OverBudget, Result, Retry, RunError, RunOptions,
};
use flowstone_llm::{
    AgentExit, AgentState, Delta, Failure, Finish, Message, Model, ModelError, NothingAsked, Part, Reply, Request,
    Role, ScriptedModel, ToolCall, ToolFault, ToolResult, Tools, agent, function, function_with_context,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) type AgentFlow = AsyncFlow<AgentState, AgentExit>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Number {
    /// A number
    pub(crate) n: i64,
}

/// A model with a script, and the script to look into.
pub(crate) fn scripted<R: Into<Reply>>(replies: impl IntoIterator<Item = R>) -> (Model, ScriptedModel) {
    let script = ScriptedModel::new(replies);
    (Model::new(script.clone()), script)
}

pub(crate) fn call(id: &str, tool: &str, n: i64) -> ToolCall {
    ToolCall::new(id, tool, json!({ "n": n }))
}

pub(crate) fn calls(calls: impl IntoIterator<Item = ToolCall>) -> Reply {
    Reply::of_calls(calls)
}

/// A tool that doubles.
pub(crate) fn doubling() -> Tools {
    Tools::new().with(function("double", "Doubles a number", |number: Number| async move { Ok(number.n * 2) }))
}

/// The results that the model was told last.
pub(crate) fn told(state: &AgentState) -> Vec<ToolResult> {
    let last = state.conversation().messages.iter().rfind(|message| message.role == Role::Tool).unwrap();
    results(last)
}

pub(crate) fn results(message: &Message) -> Vec<ToolResult> {
    let result = |part: &Part| if let Part::ToolResult(result) = part { Some(result.clone()) } else { None };
    message.parts.iter().filter_map(result).collect()
}

/// Runs an agent to its end.
pub(crate) async fn run(flow: &AgentFlow, state: &mut AgentState) -> AgentExit {
    match flow.run_async(state).await.unwrap() {
        Outcome::Ended(action) if action == "answered" => AgentExit::Answered,
        Outcome::Ended(action) if action == "stopped" => AgentExit::Stopped,
        other => panic!("{other:?}"),
    }
}

/// The error of the model inside that of a run.
pub(crate) fn failure(error: &RunError) -> &Failure {
    let RunError::Node { source, .. } = error else { panic!("{error}") };
    &source.downcast_ref::<ModelError>().unwrap().failure
}

#[tokio::test]
async fn an_agent_calls_tools_until_it_has_an_answer() {
    let (model, script) = scripted([
        calls([call("a", "double", 1), call("b", "double", 2)]),
        calls([call("c", "double", 4)]),
        Reply::of_text("It is 8."),
    ]);
    let flow = agent(&model, doubling()).system("You count.").build().unwrap();

    let mut state = AgentState::new("Twice four?");
    let exit = run(&flow, &mut state).await;

    assert_eq!((exit, state.answer().as_deref(), state.turns()), (AgentExit::Answered, Some("It is 8."), 3));
    assert_eq!((state.stopped(), state.waiting().len(), state.misuses()), (None, 0, 0));
    let roles: Vec<_> = state.conversation().messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Assistant, Role::Tool, Role::Assistant]);
    let requests = script.requests();
    assert_eq!(requests[0].messages, [Message::system("You count."), Message::user("Twice four?")]);
    assert_eq!((requests[0].tools.len(), requests[0].stream), (1, true));
    let first: Vec<_> = results(&requests[1].messages[3]).into_iter().map(|result| (result.id, result.text)).collect();
    assert_eq!(first, [("a".into(), "2".into()), ("b".into(), "4".into())]);
}

#[tokio::test]
async fn the_next_question_goes_on_with_the_conversation_and_counts_anew() {
    let (model, script) = scripted([calls([call("a", "double", 1)]), "2".into(), "It was 2.".into()]);
    let flow = agent(&model, doubling()).max_turns(2).build().unwrap();

    let mut state = AgentState::new("Twice one?");
    run(&flow, &mut state).await;
    assert_eq!((state.turns(), state.usage().calls), (2, 2));
    state.ask("What was it?");
    assert_eq!((state.turns(), state.answer()), (0, None));
    let exit = run(&flow, &mut state).await;

    assert_eq!((exit, state.answer().as_deref(), state.turns()), (AgentExit::Answered, Some("It was 2."), 1));
    assert_eq!(script.requests()[2].messages.len(), 5);
}

/// A tool that waits as many seconds as its number says.
fn waiting() -> Tools {
    Tools::new().with(function("wait", "Waits", |number: Number| async move {
        tokio::time::sleep(Duration::from_secs(number.n as u64)).await;
        Ok(format!("waited {}", number.n))
    }))
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_reply_overlap_and_their_results_are_in_order() {
    let (model, _) =
        scripted([calls([call("a", "wait", 30), call("b", "wait", 10), call("c", "wait", 20)]), "done".into()]);
    let flow = agent(&model, waiting()).build().unwrap();

    let begun = tokio::time::Instant::now();
    let mut state = AgentState::new("go");
    run(&flow, &mut state).await;

    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    assert_eq!(state.took(), Duration::from_secs(30));
    let texts: Vec<_> = told(&state).into_iter().map(|result| result.text).collect();
    assert_eq!(texts, ["waited 30", "waited 10", "waited 20"]);
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_under_way_than_allowed() {
    let (model, _) = scripted([calls((0..6).map(|id| call(&id.to_string(), "wait", 10))), "done".into()]);
    let flow = agent(&model, waiting()).parallel(2).build().unwrap();

    let begun = tokio::time::Instant::now();
    run(&flow, &mut AgentState::new("go")).await;

    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}

#[tokio::test]
async fn the_model_is_told_of_an_unknown_tool_and_goes_on() {
    let wrong = ToolCall::new("b", "double", json!({ "n": "two" }));
    let (model, _) = scripted([calls([call("a", "halve", 1), wrong, call("c", "double", 3)]), "sorry".into()]);
    let flow = agent(&model, doubling()).build().unwrap();

    let mut state = AgentState::new("Half of one?");
    let exit = run(&flow, &mut state).await;

    assert_eq!((exit, state.answer().as_deref(), state.misuses()), (AgentExit::Answered, Some("sorry"), 1));
    let told = told(&state);
    assert_eq!(told[0].text, "there is no tool `halve`: there are `double`");
    assert!(told[1].text.starts_with("the arguments of `double` do not fit:\n- at `/n`: "), "{}", told[1].text);
    let faults: Vec<_> = told.iter().map(|result| result.fault).collect();
    assert_eq!(faults, [Some(ToolFault::Misuse), Some(ToolFault::Misuse), None]);
    assert_eq!(told[2].text, "6");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_fails_panics_or_hangs_is_told_to_the_model() {
    let tools = Tools::new()
        .with(function("fail", "Fails", |_: Number| async { Err::<(), _>(NodeError::new("out of paper")) }))
        .with(function("panic", "Panics", |number: Number| async move {
            assert!(number.n > 100, "it is only {}", number.n);
            Ok(())
        }))
        .with(function("hang", "Hangs", |_: Number| async {
            std::future::pending::<()>().await;
            Ok(())
        }));
    let (model, _) =
        scripted([calls([call("a", "fail", 1), call("b", "panic", 2), call("c", "hang", 3)]), "sorry".into()]);
    let flow = agent(&model, tools.timeout(Duration::from_secs(5))).build().unwrap();

    let mut state = AgentState::new("go");
    let exit = run(&flow, &mut state).await;

    assert_eq!(exit, AgentExit::Answered);
    let told = told(&state);
    assert!(told.iter().all(|result| result.fault == Some(ToolFault::Failed)), "{told:?}");
    for (result, what) in told.iter().zip(["out of paper", "it is only 2", "5s"]) {
        assert!(result.text.contains(what), "{result:?}");
    }
    assert_eq!(state.misuses(), 0);
}

#[tokio::test]
async fn calls_with_one_id_are_told_apart() {
    let (model, _) =
        scripted([calls([call("x", "double", 1), call("x", "double", 2), call("", "double", 3)]), "ok".into()]);
    let flow = agent(&model, doubling()).build().unwrap();

    let mut state = AgentState::new("go");
    run(&flow, &mut state).await;

    let told: Vec<_> = told(&state).into_iter().map(|result| (result.id, result.text)).collect();
    assert_eq!(told, [("x".into(), "2".into()), ("call_0_1".into(), "4".into()), ("call_0_2".into(), "6".into())]);
}

#[tokio::test]
async fn a_reply_that_is_not_whole_is_a_typed_error_and_the_state_goes_on() {
    let cut = Reply::new(Message::assistant("It is because"), Finish::Length);
    let filtered = Reply::new(Message::assistant(""), Finish::Filtered);
    let (model, _) = scripted([cut, filtered, Reply::of_text(" "), Reply::of_text("Because.")]);
    let flow = agent(&model, Tools::new()).build().unwrap();

    let mut state = AgentState::new("Why?");
    let mut errors = Vec::new();
    for _ in 0..3 {
        errors.push(flow.run_async(&mut state).await.unwrap_err());
        assert_eq!((state.conversation().messages.len(), state.turns()), (1, 0));
    }
    let exit = run(&flow, &mut state).await;

    assert!(matches!(failure(&errors[0]), Failure::Cut { text } if text == "It is because"));
    assert!(matches!(failure(&errors[1]), Failure::Filtered { .. }));
    assert!(matches!(failure(&errors[2]), Failure::Malformed { .. }));
    assert!(errors[0].report().contains("node `think` failed in exec after 1 attempt: model `scripted:script`"));
    assert_eq!((exit, state.answer().as_deref()), (AgentExit::Answered, Some("Because.")));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_fails_is_tried_again_as_the_agent_says() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    let script = ScriptedModel::by(move |_: &Request| match counts.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Failure::Unavailable { status: 503, retry_after: None, said: "busy".to_owned() }),
        1 => Err(Failure::RateLimited { retry_after: Some(Duration::from_secs(7)), said: "slow down".to_owned() }),
        _ => Ok(Reply::of_text("Here I am.")),
    });
    let retry = Retry::attempts(3).fixed(Duration::from_secs(1));
    let flow = agent(&Model::new(script), Tools::new()).retry(retry).build().unwrap();

    let mut state = AgentState::new("Are you there?");
    run(&flow, &mut state).await;

    assert_eq!((asked.load(Ordering::Relaxed), state.turns(), state.took()), (3, 1, Duration::from_secs(8)));
}

#[tokio::test]
async fn an_agent_that_is_asked_nothing_says_so() {
    let (model, script) = scripted([Reply::of_text("Hello!")]);
    let flow = agent(&model, Tools::new()).build().unwrap();

    let none = flow.run_async(&mut AgentState::default()).await.unwrap_err();
    let mut state = AgentState::new("Hello?");
    run(&flow, &mut state).await;
    let again = flow.run_async(&mut state).await.unwrap_err();

    for (error, answered) in [(none, false), (again, true)] {
        let RunError::Node { source, terminal, .. } = &error else { panic!("{error}") };
        assert_eq!((source.downcast_ref::<NothingAsked>().unwrap().answered, *terminal), (answered, true));
    }
    assert_eq!(script.requests().len(), 1);
}

#[tokio::test]
async fn text_comes_from_think_as_it_comes() {
    let (model, _) = scripted([calls([call("a", "double", 1)]), "It is two.".into()]);
    let flow = agent(&model, doubling()).build().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let options = RunOptions::new().listen(move |event: &Event| {
        if let Some(Delta::Text(text)) = Delta::of_event(event) {
            hears.lock().unwrap().push((event.node.clone().unwrap().to_string(), text.to_owned()));
        }
    });

    flow.run_async_with(&mut AgentState::new("Twice one?"), &options).await.unwrap();

    let heard = heard.lock().unwrap().clone();
    assert!(heard.iter().all(|(node, _)| node == "think"), "{heard:?}");
    assert_eq!(heard.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), ["It ", "is ", "two."]);
}

#[tokio::test]
async fn a_budget_of_the_run_that_is_used_up_keeps_the_state() {
    let (model, _) = scripted([calls([call("a", "double", 1)]), "It is two.".into()]);
    let flow = agent(&model, doubling()).build().unwrap();

    let mut state = AgentState::new("Twice one?");
    let options = RunOptions::new().budget(Budget::new().calls(1));
    let error = flow.run_async_with(&mut state, &options).await.unwrap_err();

    let RunError::Node { source, node, terminal: true, .. } = &error else { panic!("{error}") };
    assert!(source.is::<OverBudget>(), "{error:?}");
    assert_eq!((node.as_str(), state.turns(), told(&state)[0].text.as_str()), ("think", 1, "2"));
    run(&flow, &mut state).await;
    assert_eq!(state.answer().as_deref(), Some("It is two."));
}

#[tokio::test]
async fn a_tool_knows_the_key_of_its_call() {
    let tools = Tools::new().with(function_with_context("key", "Says its key", |_: Number, cx: Context| async move {
        Ok(cx.idempotency_key())
    }));
    let (model, _) = scripted([calls([call("a", "key", 1), call("b", "key", 1)]), "ok".into()]);
    let flow = agent(&model, tools).build().unwrap();

    let mut state = AgentState::new("go");
    flow.run_async_with(&mut state, &RunOptions::new().id("r1")).await.unwrap();

    let keys: Vec<_> = told(&state).into_iter().map(|result| result.text).collect();
    assert_eq!(keys, ["r1:1:act[0]", "r1:1:act[1]"]);
}

#[test]
fn a_state_is_stored_as_it_was() {
    let stored = json!({
        "conversation": [
            { "role": "user", "parts": [{ "text": "Refund it" }] },
            { "role": "assistant", "parts": [{ "tool_call": { "id": "a", "name": "refund", "arguments": { "n": 5 } } }] },
        ],
        "decisions": { "a": { "decision": "edit", "arguments": { "n": 4 } } },
        "turns": 1,
        "misuses": 0,
        "usage": { "calls": 1, "input_tokens": 10, "output_tokens": 5, "cost": 2_000_000 },
        "took_ms": 1500,
        "stopped": { "tokens": { "limit": 10, "used": 15 } },
    });

    let state: AgentState = serde_json::from_value(stored.clone()).unwrap();

    assert_eq!(serde_json::to_value(&state).unwrap(), stored);
    assert_eq!((state.turns(), state.waiting()[0].name.as_str()), (1, "refund"));
    assert_eq!(state.took(), Duration::from_millis(1500));
    // A state of an older version may lack what was added since.
    let older: AgentState = serde_json::from_value(json!({ "conversation": [] })).unwrap();
    assert_eq!(older, AgentState::default());
    let empty: Value = serde_json::to_value(AgentState::default()).unwrap();
    assert_eq!(empty["conversation"], json!([]));
}

#[test]
fn build_reports_every_fault_of_an_agent() -> Result<()> {
    let (model, _) = scripted(["never"]);
    let twice = doubling().with_all(doubling());

    let error =
        agent(&model, twice).max_turns(0).max_tokens(0).parallel(0).approve(["double", "refund"]).build().unwrap_err();

    let expected = "flow `agent` has 4 faults:
  - node `think`: `max_turns(0)`, `max_tokens(0)`: the agent would stop before it begins
  - node `approve`: [\"refund\"] are to be approved, which are no tools; the tools are [\"double\"]
  - node `act` has a parallel limit of zero: nothing would run
  - node `act`: there are two tools `double`";
    assert_eq!(error.to_string(), expected);
    Ok(())
}

#[tokio::test]
async fn calls_have_ids_of_their_own_whatever_the_model_calls_them() {
    let same = [call("", "double", 1), call("call_0_0", "double", 2), call("call_0_2", "double", 3)];
    let (model, _) = scripted([calls(same.into_iter().chain([call("call_0_2", "double", 4)])), "ok".into()]);

    let mut state = AgentState::new("go");
    run(&agent(&model, doubling()).build().unwrap(), &mut state).await;

    let told = told(&state);
    let ids: std::collections::BTreeSet<_> = told.iter().map(|result| &result.id).collect();
    let texts: Vec<_> = told.iter().map(|result| &*result.text).collect();
    assert_eq!((ids.len(), texts), (4, vec!["2", "4", "6", "8"]));
}

#[tokio::test]
async fn names_that_no_provider_takes_back_are_not_sent_back() {
    let names = ["functions.double", "", &"n".repeat(1000), "dóuble me"];
    let (model, script) =
        scripted([calls(names.iter().map(|name| call(&format!("id of {name}"), name, 1))), "ok".into()]);

    let mut state = AgentState::new("go");
    run(&agent(&model, doubling()).build().unwrap(), &mut state).await;

    let sent: Vec<_> = script.requests()[1].messages[1].tool_calls().map(|call| call.name.clone()).collect();
    assert_eq!(sent, ["functions_double", "unnamed", &"n".repeat(64), "d_uble_me"]);
    let told = told(&state);
    assert!(told.iter().zip(&sent).all(|(told, sent)| told.name == *sent && told.fault == Some(ToolFault::Misuse)));
    assert_eq!(state.misuses(), 1);
}
