//! Lists of tools that change while a flow runs: an agent goes on with the list as it is then.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use flowstone_core::{AsyncFlow, AsyncNode, Context, Event, EventKind, Result, RunOptions};
use flowstone_llm::{AgentState, Model, Part, Reply, Request, ScriptedModel, ToolCall, Tools, agent, mcp::Mcp};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::mcp::{call, connected, server};

/// Makes a call, as a node.
struct Calls(Tools, &'static str);

impl AsyncNode<()> for Calls {
    type Prep = ();
    type Exec = ();
    type Action = ();

    async fn prep(&self, (): &()) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), cx: &Context) -> Result<()> {
        self.0.call(&ToolCall::new("1", self.1, json!({})), cx).await.map(drop)
    }

    async fn post(&self, (): &mut (), (): (), (): ()) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn tools_that_change_are_told_to_those_who_wait_and_to_the_run_that_calls_one() {
    let (server, tools) = connected("good").await;
    let mut flow = AsyncFlow::builder("calls");
    let calls = flow.add("calls", Calls(tools.clone(), "pid"));
    flow.start(calls);
    let flow = flow.build().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let options = RunOptions::new().listen(move |event: &Event| {
        if let EventKind::Emitted { value, .. } = &event.kind {
            hears.lock().unwrap().extend(value.get("mcp_tools_changed").cloned());
        }
    });

    let changed = tokio::time::timeout(Duration::from_secs(20), server.tools_changed());
    let (changed, _) = tokio::join!(changed, call(&tools, "grow"));
    for _ in 0..2 {
        flow.run_async_with(&mut (), &options).await.unwrap();
    }

    assert!(changed.is_ok());
    assert!(server.tools().await.unwrap().len() > 10);
    assert_eq!(*told.lock().unwrap(), [json!("misbehaving")], "it is told once");
}

/// An agent with these tools, whose model calls `grow`, then `grown`, and then answers; which tools each turn had.
async fn grown(tools: Tools) -> (AgentState, Vec<Vec<String>>, usize) {
    let offered = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&offered);
    let script = ScriptedModel::by(move |request: &Request| {
        let mut asked = asked.lock().unwrap();
        asked.push(request.tools.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>());
        Ok(match asked.len() {
            1 => Reply::of_calls([ToolCall::new("a", "grow", json!({}))]),
            2 => Reply::of_calls([ToolCall::new("b", "grown", json!({}))]),
            _ => Reply::of_text("done"),
        })
    });
    let flow = agent(&Model::new(script), tools).build().unwrap();
    let told = Arc::new(Mutex::new(0));
    let hears = Arc::clone(&told);
    let options = RunOptions::new().listen(move |event: &Event| {
        if let EventKind::Emitted { value, .. } = &event.kind {
            *hears.lock().unwrap() += usize::from(value["mcp_tools_changed"] == "misbehaving");
        }
    });

    let mut state = AgentState::new("Grow!");
    flow.run_async_with(&mut state, &options).await.unwrap();

    let (offered, told) = (offered.lock().unwrap().clone(), *told.lock().unwrap());
    (state, offered, told)
}

fn results(state: &AgentState) -> Vec<String> {
    let parts = state.conversation().messages.iter().flat_map(|message| &message.parts);
    parts
        .filter_map(|part| if let Part::ToolResult(result) = part { Some(result.text.clone()) } else { None })
        .collect()
}

#[tokio::test]
async fn the_next_turn_of_an_agent_has_the_tools_that_its_server_has_by_then() {
    let server = server("good").connect().await.unwrap();
    let wanted = server.tools().await.unwrap().into_iter().filter(|tool| tool.original_name() != "die");

    let (state, offered, told) = grown(Tools::new().with_all(wanted)).await;

    let has = |turn: usize, name: &str| offered[turn].iter().any(|tool| tool == name);
    assert_eq!((has(0, "env"), has(0, "grown")), (true, false));
    assert_eq!((has(1, "env"), has(1, "grown"), has(1, "pid")), (false, true, true), "{offered:?}");
    assert!(!has(1, "die"), "what was left out stays out");
    assert_eq!(results(&state), ["there are more tools now", "I am new"]);
    assert_eq!((state.answer().as_deref(), told), (Some("done"), 1));
}

#[tokio::test]
async fn a_tool_that_is_new_is_not_offered_beside_those_that_alone_are_wanted() {
    let (_server, tools) = connected("good").await;

    let (state, offered, _) = grown(tools.only(["grow", "pid"])).await;

    assert_eq!(offered[1], ["grow", "pid"]);
    assert!(results(&state)[1].starts_with("there is no tool `grown`"), "{:?}", results(&state));
}

/// A list that cannot be had stays as it was, the run is told why, and the next turn asks again.
#[tokio::test]
async fn a_list_that_has_changed_and_cannot_be_had_is_asked_for_again() {
    let lists = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&lists);
    let respond = move |request: &wiremock::Request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, tool) = (&asked["id"], |name: &str| json!({ "name": name, "inputSchema": {} }));
        if id.is_null() {
            return ResponseTemplate::new(if asked.is_null() { 405 } else { 202 });
        }
        let answer = match asked["method"].as_str().unwrap() {
            "initialize" => json!({ "result": { "protocolVersion": asked["params"]["protocolVersion"],
                "capabilities": { "tools": {} }, "serverInfo": { "name": "moody", "version": "1" } } }),
            "tools/list" => match counts.fetch_add(1, SeqCst) {
                0 => json!({ "result": { "tools": [tool("grow")] } }),
                1 => json!({ "error": { "code": -32000, "message": "not now" } }),
                _ => json!({ "result": { "tools": [tool("grow"), tool("grown")] } }),
            },
            _ => {
                let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
                let result = json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [] } });
                let events = format!("data: {changed}\n\ndata: {result}\n\n");
                return ResponseTemplate::new(200).set_body_raw(events, "text/event-stream");
            }
        };
        let mut body = answer;
        (body["jsonrpc"], body["id"]) = (json!("2.0"), id.clone());
        ResponseTemplate::new(200).set_body_json(body)
    };
    let moody = MockServer::start().await;
    Mock::given(any()).respond_with(respond).mount(&moody).await;
    let server = Mcp::http(moody.uri()).connect().await.unwrap();
    let tools = Tools::new().with_all(server.tools().await.unwrap());
    let offered = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&offered);
    let script = ScriptedModel::by(move |request: &Request| {
        let mut asked = asked.lock().unwrap();
        asked.push(request.tools.len());
        Ok(if asked.len() < 3 {
            Reply::of_calls([ToolCall::new("a", "grow", json!({}))])
        } else {
            Reply::of_text("done")
        })
    });
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let options = RunOptions::new().listen(move |event: &Event| {
        if let EventKind::Emitted { value, .. } = &event.kind
            && value.get("mcp_tools_changed").is_some()
        {
            hears.lock().unwrap().extend(value["error"].as_str().map(str::to_owned));
        }
    });

    let flow = agent(&Model::new(script), tools).build().unwrap();
    flow.run_async_with(&mut AgentState::new("Grow!"), &options).await.unwrap();

    assert_eq!(*offered.lock().unwrap(), [1, 1, 2]);
    let told = told.lock().unwrap().clone();
    assert!(matches!(&told[..], [error] if error.contains("not now")), "{told:?}");
}
