//! Several agents as nodes of one flow, and an agent as a tool of another.

use std::sync::{Arc, Mutex};

use flowstone_core::{AsyncFlow, END, Event, RunOptions};
use flowstone_durable::{Runs, Status};
use flowstone_llm::{
    AgentExit, AgentState, Approval, Bound, Delta, Model, Reply, Request, ScriptedModel, ToolCall, ToolFault, Tools,
    agent,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::agent::{call, calls, doubling, run, scripted, told};

#[derive(Default)]
struct Team {
    writer: AgentState,
    editor: AgentState,
    gave_up: bool,
}

/// A writer whose text an editor reads; either may be stopped.
fn team(writer: &Model, editor: &Model) -> AsyncFlow<Team> {
    let mut flow = AsyncFlow::builder("team");
    let writing = agent(writer, doubling()).name("writing").max_turns(1).build().unwrap();
    let editing = agent(editor, Tools::new()).name("editing").build().unwrap();
    let writer = flow.add("writer", writing.within(|team: &mut Team| &mut team.writer));
    let hand_over = flow.add("hand_over", |team: &mut Team| {
        let text = team.writer.answer().unwrap_or_default();
        team.editor.ask(format!("Improve this: {text}"));
    });
    let editor = flow.add("editor", editing.within(|team: &mut Team| &mut team.editor));
    let give_up = flow.add("give_up", |team: &mut Team| team.gave_up = true);
    flow.start(writer);
    flow.route(writer - AgentExit::Answered >> hand_over >> editor);
    flow.route(writer - AgentExit::Stopped >> give_up);
    flow.route(editor - AgentExit::Answered >> END);
    flow.route(editor - AgentExit::Stopped >> give_up);
    flow.build().unwrap()
}

#[tokio::test]
async fn agents_work_on_parts_of_one_state() {
    let ((writer, _), (editor, script)) = (scripted(["a draft"]), scripted(["a text"]));

    let mut state = Team { writer: AgentState::new("Write"), ..Team::default() };
    team(&writer, &editor).run_async(&mut state).await.unwrap();

    assert_eq!((state.editor.answer().as_deref(), state.gave_up), (Some("a text"), false));
    assert_eq!(script.requests()[0].messages[0].text(), "Improve this: a draft");
}

#[tokio::test]
async fn an_agent_that_was_stopped_leads_elsewhere() {
    let ((writer, _), (editor, script)) = (scripted([calls([call("a", "double", 1)])]), scripted(["never"]));

    let mut state = Team { writer: AgentState::new("Write"), ..Team::default() };
    team(&writer, &editor).run_async(&mut state).await.unwrap();

    assert_eq!((state.writer.stopped(), state.gave_up), (Some(Bound::Turns { limit: 1 }), true));
    assert_eq!(script.requests().len(), 0);
}

/// Calls the tool `helper` with a task, twice at once, then answers with what it was told.
fn leading() -> Model {
    Model::new(ScriptedModel::by(|request: &Request| {
        let task = |id: &str, task: &str| ToolCall::new(id, "helper", json!({ "task": task }));
        Ok(match request.messages.len() {
            1 => calls([task("a", "double 1"), task("b", "double 2")]),
            _ => Reply::of_text("thanks"),
        })
    }))
}

/// Doubles what its task says.
fn helping() -> Model {
    Model::new(ScriptedModel::by(|request: &Request| {
        let task = request.messages[0].text();
        let number = task.trim_start_matches("double ").parse().unwrap();
        Ok(match request.messages.len() {
            1 => calls([call("x", "double", number)]),
            _ => Reply::of_text(format!("it is {}", crate::agent::results(&request.messages[2])[0].text)),
        })
    }))
}

#[tokio::test]
async fn an_agent_is_a_tool_of_another() {
    let helper = agent(&helping(), doubling()).name("helper").build_tool("helper", "Doubles numbers").unwrap();
    let flow = agent(&leading(), Tools::new().with(helper)).build().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let options = RunOptions::new().listen(move |event: &Event| {
        if let Some(Delta::Text(_)) = Delta::of_event(event) {
            hears.lock().unwrap().push(event.node.clone().unwrap().to_string());
        }
    });

    let mut state = AgentState::new("go");
    flow.run_async_with(&mut state, &options).await.unwrap();

    let texts: Vec<_> = told(&state).into_iter().map(|result| (result.text, result.fault)).collect();
    assert_eq!(texts, [("it is 2".to_owned(), None), ("it is 4".to_owned(), None)]);
    let mut heard = heard.lock().unwrap().clone();
    heard.sort();
    heard.dedup();
    assert_eq!(heard, ["act[0]/think", "act[1]/think", "think"]);
}

#[tokio::test]
async fn an_agent_that_was_stopped_is_a_tool_that_failed() {
    let helper = agent(&helping(), doubling()).max_turns(1).build_tool("helper", "Doubles numbers").unwrap();
    let flow = agent(&leading(), Tools::new().with(helper)).name("lead").build().unwrap();

    let mut state = AgentState::new("go");
    run(&flow, &mut state).await;

    let told = told(&state).remove(0);
    assert_eq!((told.text.as_str(), told.fault), ("the tool failed: no answer after 1 turns", Some(ToolFault::Failed)));
}

#[test]
fn an_agent_that_asks_a_person_is_no_tool() {
    let helper = agent(&helping(), doubling()).approve(["double"]).build_tool("helper", "Doubles numbers").unwrap();

    let error = agent(&leading(), Tools::new().with(helper)).build().unwrap_err();

    let expected = "flow `agent` has 1 fault:
  - node `act`: tool `helper`: a tool cannot wait for a person, and node `approve` of the agent asks";
    assert_eq!(error.to_string(), expected);
}

#[derive(Default, Serialize, Deserialize)]
struct Desk {
    clerk: AgentState,
    closed: bool,
}

/// A clerk whose tool takes approval, and a node after it.
fn desk(model: &Model) -> AsyncFlow<Desk> {
    let mut flow = AsyncFlow::builder("desk");
    let clerk = agent(model, doubling()).approve(["double"]).build().unwrap();
    let clerk = flow.add("clerk", clerk.within(|desk: &mut Desk| &mut desk.clerk));
    let close = flow.add("close", |desk: &mut Desk| desk.closed = true);
    flow.start(clerk);
    flow.route(clerk - AgentExit::Answered >> close);
    flow.route(clerk - AgentExit::Stopped >> END);
    flow.build().unwrap()
}

#[tokio::test]
async fn an_agent_that_is_a_node_is_parked_until_a_person_answers_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let (before, _) = scripted([calls([call("a", "double", 1), call("b", "double", 2)])]);
    let runs = Runs::open(&path, desk(&before)).await.unwrap();
    let start = Desk { clerk: AgentState::new("go"), ..Desk::default() };
    let run = runs.start("r", start).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Paused);
    runs.store().close().await;

    let (after, _) = scripted(["done"]);
    let runs = Runs::open(&path, desk(&after)).await.unwrap();
    let run = runs.get("r").await.unwrap();
    let question = run.questions().await.unwrap().remove(0);
    let answer = Approval::new().edit("a", json!({ "n": 7 })).refuse("b", "no");
    run.answer_question(&question, answer).await.unwrap();
    let limit = std::time::Duration::from_secs(10);
    let state = tokio::time::timeout(limit, run.finished()).await.unwrap().unwrap().ended().unwrap().state;

    assert_eq!(question.node.to_string(), "clerk/approve");
    assert_eq!((state.clerk.answer().as_deref(), state.closed), (Some("done"), true));
    let texts: Vec<_> = told(&state.clerk).into_iter().map(|result| result.text).collect();
    assert_eq!(texts, ["a person changed the arguments to {\"n\":7}\n14", "a person refused this call: no"]);
}
