//! State that a service wants back is sent back to it, whether it came whole or streamed; a conversation that was
//! accepted once stays so.

use std::time::Duration;

use flowstone_core::Context;
use flowstone_llm::{Conversation, Message, Model, Part, Reply, Request, ToolCall, ToolResult, ToolSpec};
use serde_json::{Value, json};
use wiremock::{MockServer, ResponseTemplate};

use super::{answering, answering_json, asked, completion, listened};

pub(super) fn tools() -> Vec<ToolSpec> {
    let parameters = json!({ "type": "object", "properties": {} });
    vec![ToolSpec { name: "now".into(), description: "The time".into(), parameters }]
}

fn result(id: &str) -> Message {
    Message::tool_results([ToolResult { id: id.into(), name: "now".into(), text: "noon".into(), fault: None }])
}

const LIMIT: Duration = Duration::from_secs(5);

/// All wires.
pub(crate) const WIRES: [&str; 5] = ["openai", "anthropic", "gemini", "responses", "ollama"];

/// A model of a service that speaks a wire.
pub(crate) fn model(wire: &str, server: &MockServer) -> Model {
    let connect = match wire {
        "openai" => Model::connect(&format!("{}/v1#tiny", server.uri())),
        "anthropic" => Model::connect("anthropic:claude-x").base_url(&server.uri()),
        "gemini" => Model::connect("gemini:gemini-x").base_url(&server.uri()),
        "responses" => Model::connect("openai:gpt-5-x").base_url(&server.uri()),
        "ollama" => return Model::connect("ollama:llama").base_url(&server.uri()).timeout(LIMIT).build().unwrap(),
        other => panic!("{other}"),
    };
    connect.key("any").timeout(LIMIT).build().unwrap()
}

/// A whole reply of a wire that says a text.
pub(crate) fn saying(wire: &str, text: &str) -> Value {
    match wire {
        "openai" => completion(json!({ "content": text }), "stop"),
        "anthropic" => {
            json!({ "type": "message", "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn" })
        }
        "gemini" => {
            json!({ "candidates": [{ "finishReason": "STOP", "content": { "parts": [{ "text": text }] } }] })
        }
        "responses" => {
            let content = json!([{ "type": "output_text", "text": text }]);
            json!({ "status": "completed", "output": [{ "type": "message", "content": content }] })
        }
        _ => json!({ "message": { "content": text }, "done": true, "done_reason": "stop" }),
    }
}

/// A whole reply of a wire, and the same as a stream of one frame.
pub(super) fn both(wire: &str, whole: &Value) -> [ResponseTemplate; 2] {
    let frame = match wire {
        "openai" => {
            let mut frame = whole.clone();
            if let Some(choice) = frame.pointer_mut("/choices/0").and_then(Value::as_object_mut)
                && let Some(message) = choice.remove("message")
            {
                choice.insert("delta".to_owned(), message);
            }
            format!("data: {frame}\n\ndata: [DONE]\n\n")
        }
        "responses" => format!("data: {}\n\n", json!({ "type": "response.completed", "response": whole })),
        "ollama" => format!("{whole}\n"),
        "anthropic" => format!("data: {whole}\n\ndata: {{\"type\":\"message_stop\"}}\n\n"),
        _ => format!("data: {whole}\n\n"),
    };
    [
        ResponseTemplate::new(200).set_body_json(whole),
        ResponseTemplate::new(200).set_body_raw(frame, "text/event-stream"),
    ]
}

#[tokio::test]
async fn state_of_a_service_comes_back_to_it_with_the_next_turn() {
    let details = json!([{ "type": "reasoning.text", "text": "Hm", "signature": "c2ln", "index": 0 }]);
    let blocks = json!([{ "type": "thinking", "thinking": "Hm", "signature": "c2ln" }]);
    let call = json!({ "id": "a", "type": "function", "function": { "name": "now", "arguments": "{}" },
        "extra_content": { "google": { "thought_signature": "c2ln" } }, "x_state": "of the service" });
    let message = json!({ "content": null, "reasoning_content": "Hm", "reasoning_details": details, "thinking_blocks": blocks, "tool_calls": [call] });
    let secret = json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "b3BhcXVl" });
    let function = json!({ "type": "function_call", "id": "fc", "call_id": "a", "name": "now", "arguments": "{}" });
    let cases = [
        (
            "openai",
            completion(message, "tool_calls"),
            vec![
                ("/messages/1/reasoning_details", details.clone()),
                ("/messages/1/thinking_blocks", blocks.clone()),
                ("/messages/1/reasoning_content", json!("Hm")),
                ("/messages/1/tool_calls/0/extra_content/google/thought_signature", json!("c2ln")),
                ("/messages/1/tool_calls/0/x_state", json!("of the service")),
            ],
        ),
        (
            "anthropic",
            json!({ "type": "message", "content": [
            { "type": "thinking", "thinking": "Hm", "signature": "c2ln" },
            { "type": "redacted_thinking", "data": "b3BhcXVl" },
            { "type": "tool_use", "id": "a", "name": "now", "input": {} }
        ], "stop_reason": "tool_use" }),
            vec![
                ("/messages/1/content/0", json!({ "type": "thinking", "thinking": "Hm", "signature": "c2ln" })),
                ("/messages/1/content/1", json!({ "type": "redacted_thinking", "data": "b3BhcXVl" })),
            ],
        ),
        (
            "gemini",
            json!({ "candidates": [{ "finishReason": "STOP", "content": { "parts": [
            { "text": "So", "thoughtSignature": "b25l" },
            { "functionCall": { "name": "now", "args": {}, "id": "a" }, "thoughtSignature": "dHdv" }
        ] } }] }),
            vec![
                ("/contents/1/parts/0/thoughtSignature", json!("b25l")),
                ("/contents/1/parts/1/thoughtSignature", json!("dHdv")),
                ("/contents/2/parts/0/functionResponse/id", json!("a")),
            ],
        ),
        (
            "responses",
            json!({ "id": "r", "status": "completed", "output": [secret, function] }),
            vec![
                ("/input/1", secret.clone()),
                ("/input/2/call_id", json!("a")),
                ("/input/3/type", json!("function_call_output")),
            ],
        ),
    ];
    for (wire, whole, expected) in cases {
        for (streamed, response) in both(wire, &whole).into_iter().enumerate() {
            let server = answering(response).await;
            let (model, request) = (model(wire, &server), Request::new([Message::user("When?")]).tools(tools()));

            let first = if streamed == 1 {
                listened(&model, request, 1).await.0.unwrap()
            } else {
                model.chat(&request, &Context::detached()).await.unwrap()
            };
            // As it is kept in a store.
            let kept: Message = serde_json::from_value(serde_json::to_value(&first.message).unwrap()).unwrap();
            let next = Request::new([Message::user("When?"), kept, result("a")]).tools(tools());
            drop(model.chat(&next, &Context::detached()).await);

            let sent: Value = server.received_requests().await.unwrap()[1].body_json().unwrap();
            for (path, value) in &expected {
                assert_eq!(sent.pointer(path), Some(value), "{wire}, streamed: {streamed}, {path}: {sent:#}");
            }
        }
    }
}

#[tokio::test]
async fn what_one_service_sent_is_not_sent_to_another() {
    let server =
        answering_json(200, completion(json!({ "content": "No.", "reasoning_details": [{ "data": "x" }] }), "stop"))
            .await;
    let first = model("openai", &server).chat(&Request::new([Message::user("?")]), &Context::detached()).await.unwrap();
    let other = answering_json(
        200,
        json!({ "type": "message", "content": [{ "type": "text", "text": "No." }], "stop_reason": "end_turn" }),
    )
    .await;

    let next = Request::new([Message::user("?"), first.message, Message::user("Why?")]);
    model("anthropic", &other).chat(&next, &Context::detached()).await.unwrap();

    let sent = asked(&other).await;
    assert_eq!(sent["messages"][1], json!({ "role": "assistant", "content": "No." }));
}

#[tokio::test]
async fn blank_texts_and_empty_messages_are_not_sent() {
    let blank = |call| Message {
        parts: [Part::Text("\n\n".to_owned())].into_iter().chain(call).collect(),
        ..Message::assistant("")
    };
    let call = Part::ToolCall(ToolCall::new("a", "now", json!({})));
    let messages = [
        Message::user("When?"),
        blank(Some(call)),
        result("a"),
        Message { parts: Vec::new(), ..Message::assistant("") },
        blank(None),
        Message::user("And?"),
    ];
    for wire in WIRES {
        let server = answering_json(200, saying(wire, "Noon.")).await;

        model(wire, &server).chat(&Request::new(messages.clone()).tools(tools()), &Context::detached()).await.unwrap();

        let sent = asked(&server).await.to_string();
        // Ollama's own interface takes an empty text beside calls.
        let sent = if wire == "ollama" { sent.replace("\"content\":\"\",\"tool_calls\"", "") } else { sent };
        assert!(!sent.contains("\\n\\n\"") && !sent.contains("\"\"") && !sent.contains("[]"), "{wire}: {sent}");
    }
}

/// A conversation as the version before this one stored it, of all wires.
#[tokio::test]
async fn a_conversation_of_the_version_before_is_read_and_sent() {
    let stored = include_str!("../../conversations/before-0028.json");
    let chat: Conversation = serde_json::from_str(stored).unwrap();
    for wire in WIRES {
        let server = answering_json(200, saying(wire, "x")).await;

        let request = Request::new(chat.messages.clone()).tools(tools());
        model(wire, &server).chat(&request, &Context::detached()).await.unwrap();

        let sent = asked(&server).await;
        for (path, value) in of_the_version_before(wire) {
            assert_eq!(sent.pointer(path), Some(&value), "{wire} {path}: {sent:#}");
        }
    }
}

/// State of a service in the old conversation, and where its wire sends it back.
pub(crate) fn of_the_version_before(wire: &str) -> Vec<(&'static str, Value)> {
    match wire {
        "openai" => {
            vec![("/messages/1/reasoning_details/0", json!({ "type": "reasoning.encrypted", "data": "b3BhcXVl" }))]
        }
        "anthropic" => vec![
            ("/messages/1/content/0", json!({ "type": "thinking", "thinking": "Hm", "signature": "c2ln" })),
            ("/messages/1/content/1", json!({ "type": "redacted_thinking", "data": "b3BhcXVl" })),
        ],
        "gemini" => vec![("/contents/1/parts/1/thoughtSignature", json!("Y2FsbA=="))],
        "responses" => {
            vec![("/input/1", json!({ "type": "reasoning", "encrypted_content": "YmxvYg==", "summary": [] }))]
        }
        _ => vec![("/messages/1/tool_calls/0/function/name", json!("now"))],
    }
}

/// The reply of a service may be empty once tools have done what there was to do.
#[tokio::test]
async fn an_empty_end_after_results_is_an_answer_of_an_agent() {
    use flowstone_llm::{AgentState, ScriptedModel, Tools, agent, function};
    let script = ScriptedModel::new([
        Reply::of_calls([ToolCall::new("a", "now", json!({}))]),
        Reply::of_text(""),
        "Later.".into(),
    ]);
    let now = function("now", "The time", |_: std::collections::BTreeMap<String, f64>| async { Ok("noon") });
    let flow = agent(&Model::new(script.clone()), Tools::new().with(now)).build().unwrap();

    let mut state = AgentState::new("When?");
    let exit = flow.run_async(&mut state).await.unwrap();
    let answer = state.answer();
    state.ask("And then?");
    flow.run_async(&mut state).await.unwrap();

    assert!(matches!(&exit, flowstone_core::Outcome::Ended(action) if *action == "answered"), "{exit:?}");
    assert_eq!((answer.as_deref(), state.answer().as_deref()), (Some(""), Some("Later.")));
}

/// The sources of a text that is blank, and not sent, do not go to the call behind it.
#[tokio::test]
async fn what_belongs_to_a_blank_text_is_not_sent_with_another_block() {
    let blocks = json!([
        { "type": "text", "text": "\n\n", "citations": [{ "type": "page", "cited_text": "x" }] },
        { "type": "tool_use", "id": "a", "name": "now", "input": {} },
    ]);
    let server = answering_json(200, json!({ "type": "message", "content": blocks, "stop_reason": "tool_use" })).await;
    let (model, request) = (model("anthropic", &server), Request::new([Message::user("When?")]).tools(tools()));
    let first = model.chat(&request, &Context::detached()).await.unwrap();

    let next = Request::new([Message::user("When?"), first.message, result("a")]).tools(tools());
    model.chat(&next, &Context::detached()).await.unwrap();

    let sent: Value = server.received_requests().await.unwrap()[1].body_json().unwrap();
    assert_eq!(sent["messages"][1]["content"], json!([{ "type": "tool_use", "id": "a", "name": "now", "input": {} }]));
}
