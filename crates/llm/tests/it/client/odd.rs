//! The same oddities for every wire: words in place of a reply, ids that repeat, arguments without a bottom, replies
//! that are withheld and cost all the same.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use flowstone_core::{AsyncFlow, Context, RunOptions};
use flowstone_llm::{Conversation, Failure, Message, Model, Request, ToolResult};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use super::{
    Speak, answering, answering_json, ask, completion, failed, failure,
    kept::{WIRES, both, model, tools},
    listened,
};

/// Asks whole, or with somebody who listens.
async fn ask_as(model: &Model, request: Request, streamed: bool) -> Result<Message, Failure> {
    if streamed {
        let (reply, _) = listened(model, request, 1).await;
        return match reply {
            Ok(reply) => Ok(reply.message),
            Err(error) => Err(again(failed(&error).0)),
        };
    }
    match model.chat(&request, &Context::detached()).await {
        Ok(reply) => Ok(reply.message),
        Err(error) => Err(again(failure(&error))),
    }
}

/// A failure of its own, since errors lend theirs.
fn again(failure: &Failure) -> Failure {
    match failure {
        Failure::Malformed { said } => Failure::Malformed { said: said.clone() },
        Failure::Broken { shown, said } => Failure::Broken { shown: *shown, said: said.clone() },
        other => Failure::Unsupported { said: other.to_string() },
    }
}

#[tokio::test]
async fn words_in_place_of_a_reply_are_told_by_every_wire() {
    for wire in WIRES {
        for (kind, words) in [
            ("text/html", "<!doctype html><title>Sign in to the hotel</title>"),
            ("text/event-stream", "<html>Sign in to the hotel</html>"),
            ("application/json", "\"Sign in to the hotel\""),
            ("text/plain", "error: Sign in to the hotel"),
            ("text/plain", "denied: Sign in to the hotel"),
            ("text/event-stream", "upstream says: Sign in to the hotel"),
        ] {
            let server = answering(ResponseTemplate::new(200).set_body_raw(words, kind)).await;
            for streamed in [false, true] {
                let error = ask_as(&model(wire, &server), ask(), streamed).await.unwrap_err();

                let told = matches!(&error, Failure::Malformed { said } if said.contains("Sign in to the hotel"));
                assert!(told, "{wire}, {kind}, streamed: {streamed}: {error:?}");
            }
        }
    }
}

/// A reply of a wire that calls two tools by these ids.
fn calling(wire: &str, ids: [Option<&str>; 2]) -> Value {
    match wire {
        "openai" => {
            let call = |id: Option<&str>| json!({ "id": id, "function": { "name": "now", "arguments": "{}" } });
            completion(json!({ "content": null, "tool_calls": ids.map(call) }), "tool_calls")
        }
        "anthropic" => {
            let call = |id: Option<&str>| json!({ "type": "tool_use", "id": id, "name": "now", "input": {} });
            json!({ "type": "message", "content": ids.map(call), "stop_reason": "tool_use" })
        }
        "gemini" => {
            let call = |id: Option<&str>| json!({ "functionCall": { "id": id, "name": "now", "args": {} } });
            json!({ "candidates": [{ "finishReason": "STOP", "content": { "parts": ids.map(call) } }] })
        }
        "responses" => {
            let call =
                |id: Option<&str>| json!({ "type": "function_call", "call_id": id, "name": "now", "arguments": "{}" });
            json!({ "id": "r", "status": "completed", "output": ids.map(call) })
        }
        _ => {
            let call = |id: Option<&str>| json!({ "id": id, "function": { "name": "now", "arguments": {} } });
            json!({ "message": { "content": "", "tool_calls": ids.map(call) }, "done": true, "done_reason": "stop" })
        }
    }
}

#[tokio::test]
async fn ids_of_calls_are_unique_in_a_conversation_of_every_wire() {
    for wire in WIRES {
        for ids in [[None, None], [Some(""), Some("")], [Some("call_0"), Some("call_1")], [Some("x"), Some("x")]] {
            for (streamed, response) in both(wire, &calling(wire, ids)).into_iter().enumerate() {
                let server = answering(response).await;
                let model = model(wire, &server);
                let mut chat = Conversation::default();
                chat.user("When?");

                for _ in 0..3 {
                    let request = Request::new(chat.messages.clone()).tools(tools());
                    let message = ask_as(&model, request, streamed == 1).await.unwrap();
                    let result =
                        |id: &str| ToolResult { id: id.into(), name: "now".into(), text: "noon".into(), fault: None };
                    let results: Vec<_> = message.tool_calls().map(|call| result(&call.id)).collect();
                    chat.messages.extend([message, Message::tool_results(results)]);
                }

                let all: Vec<_> = chat.messages.iter().flat_map(Message::tool_calls).map(|call| &call.id).collect();
                let different: BTreeSet<_> = all.iter().collect();
                assert_eq!((all.len(), different.len()), (6, 6), "{wire}, {ids:?}, streamed: {streamed}: {all:?}");
            }
        }
    }
}

/// A reply of a wire whose call has this as its arguments, as JSON or as a text.
fn with_arguments(wire: &str, arguments: &str) -> String {
    let marked = calling(wire, [Some("a"), Some("b")]).to_string();
    let empty = if marked.contains("\"arguments\":\"{}\"") { "\"arguments\":\"{}\"" } else { "{}" };
    let name = empty.strip_suffix("\"{}\"").unwrap_or_default();
    marked.replacen(empty, &format!("{name}{arguments}"), 1)
}

#[tokio::test]
async fn arguments_without_a_bottom_are_a_failure_or_told_and_end_nothing_else() {
    for wire in WIRES {
        for depth in [100, 1_000, 100_000] {
            let mut deep = String::new();
            (0..depth).for_each(|_| deep.push_str("{\"a\":"));
            deep.push('1');
            (0..depth).for_each(|_| deep.push('}'));
            let server =
                answering(ResponseTemplate::new(200).set_body_raw(with_arguments(wire, &deep), "application/json"))
                    .await;
            for streamed in [false, true] {
                match ask_as(&model(wire, &server), ask(), streamed).await {
                    // It can be stored, and read back.
                    Ok(message) => {
                        let stored = serde_json::to_string(&message).unwrap();
                        assert_eq!(serde_json::from_str::<Message>(&stored).unwrap(), message, "{wire}, {depth}");
                        let call = message.tool_calls().next().unwrap();
                        assert!(call.arguments.is_string() || depth < 128, "{wire}, {depth}");
                    }
                    Err(error) => assert!(matches!(error, Failure::Malformed { .. }), "{wire}, {depth}: {error:?}"),
                }
            }
        }
    }
}

/// A reply that nobody gets to see, with what it took.
fn withheld(wire: &str) -> Value {
    match wire {
        "openai" => completion(json!({ "content": null, "refusal": "I cannot." }), "stop"),
        "anthropic" => json!({ "type": "message", "content": [], "stop_reason": "refusal",
            "usage": { "input_tokens": 9, "output_tokens": 3 } }),
        "gemini" => json!({ "candidates": [{ "finishReason": "SAFETY" }],
            "usageMetadata": { "promptTokenCount": 9, "candidatesTokenCount": 3 } }),
        "responses" => {
            json!({ "id": "r", "status": "incomplete", "output": [], "incomplete_details": { "reason": "content_filter" },
            "usage": { "input_tokens": 9, "output_tokens": 3 } })
        }
        _ => {
            json!({ "message": { "content": "" }, "done": true, "done_reason": "unload", "prompt_eval_count": 9, "eval_count": 3 })
        }
    }
}

/// A budget would not hold otherwise: each attempt of a withheld or broken reply costs what it says.
#[tokio::test]
async fn what_a_reply_took_is_counted_also_if_nobody_gets_it() {
    for wire in WIRES {
        for (streamed, response) in both(wire, &withheld(wire)).into_iter().enumerate() {
            let server = answering(response).await;
            let request = if streamed == 1 { ask().streamed() } else { ask() };
            let mut flow = AsyncFlow::builder("speak");
            let speak = flow.add("speak", Speak { model: model(wire, &server), request });
            flow.start(speak);
            let flow = flow.build().unwrap();
            let used = Arc::new(Mutex::new(0));
            let adds = Arc::clone(&used);
            let options = RunOptions::new().listen(move |event: &flowstone_core::Event| {
                if let flowstone_core::EventKind::Used { usage, .. } = &event.kind {
                    *adds.lock().unwrap() += usage.input_tokens + usage.output_tokens;
                }
            });

            flow.run_async_with(&mut None, &options).await.unwrap_err();

            assert_eq!(*used.lock().unwrap(), 12, "{wire}, streamed: {streamed}");
        }
    }
}

#[tokio::test]
async fn a_conversation_that_says_nothing_is_not_sent() {
    let server = answering_json(200, completion(json!({ "content": "x" }), "stop")).await;
    for wire in WIRES {
        let blank = Request::new([Message::user(" \n"), Message::assistant("")]);

        let error = ask_as(&model(wire, &server), blank, false).await.unwrap_err();

        assert!(error.to_string().contains("a message that says something"), "{wire}: {error}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

/// Fields of a reply that are of another type than they should be.
#[tokio::test]
async fn a_field_of_another_type_is_a_failure_or_passed_over() {
    for wire in WIRES {
        let good = calling(wire, [Some("a"), Some("b")]);
        let answer = Arc::new(Mutex::new(ResponseTemplate::new(500)));
        let given = Arc::clone(&answer);
        let server = MockServer::start().await;
        let answers = move |_: &wiremock::Request| given.lock().unwrap().clone();
        Mock::given(method("POST")).respond_with(answers).mount(&server).await;
        let model = model(wire, &server);
        for path in paths(&good) {
            for odd in
                [json!(null), json!(7), json!("odd"), json!([]), json!({}), json!([[[]]]), json!(-1), json!(1e300)]
            {
                let mut body = good.clone();
                *body.pointer_mut(&path).unwrap() = odd.clone();
                for (streamed, response) in both(wire, &body).into_iter().enumerate() {
                    *answer.lock().unwrap() = response;

                    // It ends, one way or the other, and does not panic.
                    drop(ask_as(&model, ask(), streamed == 1).await);
                }
            }
        }
    }
}

/// All places in JSON but the root.
fn paths(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: &Value| {
        found.push(format!("/{name}"));
        found.extend(paths(value).into_iter().map(|rest| format!("/{name}{rest}")));
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| add(name, value)),
        Value::Array(values) => values.iter().enumerate().for_each(|(at, value)| add(&at.to_string(), value)),
        _ => {}
    }
    found
}
