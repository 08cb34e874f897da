//! The client against PyPI's llmock, which mocks ten providers and breaks them as it is told: every provider's own
//! interface as somebody else understands it.

use std::{path::Path, process::Command, time::Duration};

use flowstone_core::Context;
use flowstone_llm::{Failure, Finish, Message, Model, ReplySchema, Request, ToolResult, ToolSpec};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{failed, failure, listened},
    peers::{self, Peer},
};

/// The providers, and the paths that llmock has for them.
const PROVIDERS: [(&str, &str); 6] = [
    ("openai:gpt-4o-mini", "/v1"),
    ("openai:gpt-5-mini", "/v1"),
    ("anthropic:claude-sonnet-4-5", "/anthropic/v1"),
    ("gemini:gemini-2.5-flash", "/gemini/v1beta"),
    ("groq:llama-3.3-70b-versatile", "/groq/openai/v1"),
    ("mistral:mistral-small-latest", "/mistral/v1"),
];

fn start(python: &Path) -> Peer {
    Peer::start(|port| {
        let mut command = Command::new(python);
        command.args([
            "-c",
            "from llmock.cli import app; app()",
            "serve",
            "--host",
            "127.0.0.1",
            "--response-style",
            "echo",
        ]);
        command.args(["--port", &port.to_string()]);
        command
    })
}

fn model(peer: &Peer, (name, base): (&str, &str)) -> Model {
    let base = format!("http://127.0.0.1:{}{base}", peer.port());
    Model::connect(name).base_url(&base).key("any").timeout(Duration::from_secs(20)).build().unwrap()
}

/// Sends a request to llmock's own interface.
async fn tell(peer: &Peer, method: &str, path: &str, body: &Value) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", peer.port())).await.unwrap();
    let body = body.to_string();
    let head = format!("{method} /_llmock/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Says how the next requests are to be answered.
async fn script(peer: &Peer, behaviors: Value) {
    let answer = tell(peer, "POST", "scenario", &json!({ "behaviors": behaviors })).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

fn weather() -> Vec<ToolSpec> {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    vec![ToolSpec { name: "get_weather".into(), description: "The weather of a city".into(), parameters }]
}

fn ask() -> Request {
    Request::new([Message::user("What is the weather in Rome?")])
}

#[tokio::test]
async fn every_provider_calls_a_tool_and_answers_with_its_result() {
    let Some(python) = peers::python() else { return };
    let peer = start(&python);
    for provider in PROVIDERS {
        for streamed in [false, true] {
            let model = model(&peer, provider);
            let request = ask().tools(weather());

            let first = if streamed {
                listened(&model, request, 1).await.0.unwrap()
            } else {
                model.chat(&request, &Context::detached()).await.unwrap()
            };
            let call = first.message.tool_calls().next().unwrap().clone();
            let result =
                ToolResult { id: call.id.clone(), name: call.name.clone(), text: "22 degrees".into(), fault: None };
            let mut messages = ask().messages;
            messages.extend([first.message.clone(), Message::tool_results([result])]);
            let (second, heard) = listened(&model, Request::new(messages).tools(weather()), 1).await;

            assert_eq!(call.name, "get_weather", "{provider:?}");
            assert!(call.arguments["city"].is_string(), "{provider:?}: {call:?}");
            assert_eq!(first.finish, Finish::ToolCalls, "{provider:?}");
            let second = second.unwrap();
            assert!(!second.text().is_empty() && second.finish == Finish::Stop, "{provider:?}: {second:?}");
            assert_eq!(heard.concat(), second.text(), "{provider:?}");
            let tokens = second.tokens.unwrap();
            assert!(tokens.input > 0 && tokens.output > 0, "{provider:?}: {tokens:?}");
        }
    }
}

#[tokio::test]
async fn a_schema_is_kept_to() {
    let Some(python) = peers::python() else { return };
    let peer = start(&python);
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" }, "degrees": { "type": "integer" } },
        "required": ["city", "degrees"], "additionalProperties": false });
    for provider in [PROVIDERS[0], PROVIDERS[1], PROVIDERS[3], PROVIDERS[4]] {
        let mut request = ask();
        request.schema = Some(ReplySchema { name: "weather".into(), schema: schema.clone() });

        let reply = model(&peer, provider).chat(&request, &Context::detached()).await.unwrap();

        let value: Value = serde_json::from_str(&reply.text()).unwrap();
        assert!(value["city"].is_string() && value["degrees"].is_i64(), "{provider:?}: {value}");
    }
}

#[tokio::test]
async fn a_service_that_is_busy_is_asked_again_when_it_says() {
    let Some(python) = peers::python() else { return };
    let peer = start(&python);
    for provider in PROVIDERS {
        script(&peer, json!([{ "type": "fail", "status": 429, "retry_after": 1, "times": 1 }])).await;
        let start = std::time::Instant::now();

        let (reply, _) = listened(&model(&peer, provider), ask(), 2).await;

        assert!(!reply.unwrap().text().is_empty(), "{provider:?}");
        assert!(start.elapsed() >= Duration::from_secs(1), "{provider:?}");
    }
    let verdict = tell(&peer, "GET", "verdict?format=text", &Value::Null).await;
    assert!(!verdict.contains("FAIL"), "{verdict}");
}

#[tokio::test]
async fn what_cannot_be_helped_is_not_tried_again() {
    let Some(python) = peers::python() else { return };
    let peer = start(&python);
    for provider in PROVIDERS {
        for status in [400, 401, 403, 404] {
            script(&peer, json!([{ "type": "fail", "status": status, "times": 1 }])).await;

            let error = model(&peer, provider).chat(&ask(), &Context::detached()).await.unwrap_err();

            let fits = match failure(&error) {
                Failure::Refused { status: of, .. } | Failure::Invalid { status: of, .. } => *of == status,
                Failure::NotFound { .. } => status == 404,
                _ => false,
            };
            assert!(fits && error.is_terminal(), "{provider:?} {status}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_broken_stream_is_never_taken_for_a_whole_reply() {
    let Some(python) = peers::python() else { return };
    let peer = start(&python);
    for provider in PROVIDERS {
        for kind in ["disconnect", "truncate", "malformed"] {
            let reply = json!({ "type": "reply", "text": "one two three four five six seven eight" });
            script(&peer, json!([reply, { "type": "stream_fault", "kind": kind, "after_chunks": 3 }])).await;

            let (result, heard) = listened(&model(&peer, provider), ask(), 1).await;

            let error = result.unwrap_err();
            match failed(&error) {
                (Failure::Broken { shown, .. }, terminal) => {
                    assert_eq!((*shown, terminal), (!heard.is_empty(), *shown))
                }
                (Failure::Malformed { .. }, false) => assert!(heard.is_empty()),
                (other, _) => panic!("{provider:?} {kind}: {other}"),
            }
        }
    }
}

#[tokio::test]
async fn broken_arguments_reach_whoever_tells_the_model() {
    let Some(python) = peers::python() else { return };
    let peer = start(&python);
    for streamed in [false, true] {
        script(&peer, json!([{ "type": "tool_fault", "kind": "malformed_arguments" }])).await;
        let (model, request) = (model(&peer, PROVIDERS[0]), ask().tools(weather()));

        let reply = if streamed {
            listened(&model, request, 1).await.0.unwrap()
        } else {
            model.chat(&request, &Context::detached()).await.unwrap()
        };

        assert!(reply.message.tool_calls().next().unwrap().arguments.is_string(), "{reply:?}");
    }
}

#[tokio::test]
async fn vectors_are_made() {
    let Some(python) = peers::python() else { return };
    let peer = start(&python);
    let texts = ["a".to_owned(), "b".to_owned()];

    let of_openai = model(&peer, ("openai:text-embedding-3-small", "/v1"));
    let embeddings = of_openai.embed(&texts, &Context::detached()).await.unwrap();

    assert_eq!(embeddings.vectors.len(), 2);
    assert!(embeddings.vectors.iter().all(|vector| vector.len() > 10));
}
