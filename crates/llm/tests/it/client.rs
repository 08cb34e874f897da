//! The built-in client, against servers on loopback: `wiremock`, and bare sockets for what that cannot do.

mod endless;
mod environment;
mod errors;
pub(crate) mod kept;
pub(crate) mod logs;
mod names;
mod odd;
mod raw;
mod replies;
mod streams;
mod strict;
mod waits;
mod wires;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flowstone_core::{AsyncFlow, AsyncNode, Context, Event, NodeError, NodeExt, Result, Retry, RunError, RunOptions};
use flowstone_llm::{Delta, Failure, Message, Model, ModelError, Reply, Request};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

/// A key that must not be seen anywhere.
const KEY: &str = "sk-c0ffee-5ecret";

fn ask() -> Request {
    Request::new([Message::user("Hello?")])
}

/// A model of a server on loopback that speaks OpenAI's interface.
fn model(server: &MockServer) -> Model {
    Model::connect(&format!("{}/v1#tiny", server.uri())).key(KEY).timeout(Duration::from_secs(5)).build().unwrap()
}

/// A server that always answers so.
async fn answering(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(response).mount(&server).await;
    server
}

/// A server that always answers with this JSON.
pub(crate) async fn answering_json(status: u16, body: Value) -> MockServer {
    answering(ResponseTemplate::new(status).set_body_json(body)).await
}

/// A server that always answers with these events.
async fn answering_events(events: &str) -> MockServer {
    answering(ResponseTemplate::new(200).set_body_raw(events.to_owned(), "text/event-stream")).await
}

/// A reply of OpenAI's interface.
pub(crate) fn completion(message: Value, finish: &str) -> Value {
    let mut body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "tiny-2025",
        "choices": [{ "index": 0, "finish_reason": finish }],
        "usage": { "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12 }
    });
    body["choices"][0]["message"] = message;
    body
}

/// Events of OpenAI's interface.
fn events(deltas: &[Value], finish: Option<&str>) -> String {
    let chunk = |delta: &Value, finish: Option<&str>| {
        let choices = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        format!("data: {}\n\n", json!({ "id": "chatcmpl-2", "model": "tiny-2025", "choices": choices }))
    };
    let mut text: String = deltas.iter().map(|delta| chunk(delta, None)).collect();
    if let Some(finish) = finish {
        text += &chunk(&json!({}), Some(finish));
        let usage = json!({ "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9 });
        text += &format!("data: {}\n\ndata: [DONE]\n\n", json!({ "id": "chatcmpl-2", "choices": [], "usage": usage }));
    }
    text
}

/// Returns the body of the first request to a server.
pub(crate) async fn asked(server: &MockServer) -> Value {
    server.received_requests().await.unwrap()[0].body_json().unwrap()
}

async fn fails(model: &Model, request: &Request) -> NodeError {
    model.chat(request, &Context::detached()).await.unwrap_err()
}

pub(crate) fn failure(error: &NodeError) -> &Failure {
    &error.downcast_ref::<ModelError>().unwrap().failure
}

/// A node that asks a model.
pub(crate) struct Speak {
    pub(crate) model: Model,
    pub(crate) request: Request,
}

impl AsyncNode<Option<Reply>> for Speak {
    type Prep = ();
    type Exec = Reply;
    type Action = ();

    async fn prep(&self, _: &Option<Reply>) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), cx: &Context) -> Result<Reply> {
        self.model.chat(&self.request, cx).await
    }

    async fn post(&self, state: &mut Option<Reply>, (): (), reply: Reply) -> Result<()> {
        *state = Some(reply);
        Ok(())
    }
}

/// Asks in a run that is listened to, and returns what was heard.
pub(crate) async fn listened(model: &Model, request: Request, attempts: u32) -> (Result<Reply, RunError>, Vec<String>) {
    let mut flow = AsyncFlow::builder("listened");
    let speak = Speak { model: model.clone(), request: request.streamed() };
    let speak = flow.add("speak", speak.retry(Retry::attempts(attempts)));
    flow.start(speak);
    let flow = flow.build().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let options = RunOptions::new().listen(move |event: &Event| match Delta::of_event(event) {
        Some(Delta::Text(text)) => hears.lock().unwrap().push(text.to_owned()),
        Some(Delta::Reasoning(text)) => hears.lock().unwrap().push(format!("({text})")),
        _ => {}
    });
    let mut state = None;
    let result = flow.run_async_with(&mut state, &options).await.map(|_| state.unwrap());
    let heard = heard.lock().unwrap().clone();
    (result, heard)
}

/// The failure of a run's only node, and whether it was terminal.
pub(crate) fn failed(error: &RunError) -> (&Failure, bool) {
    let RunError::Node { source, terminal, .. } = error else { panic!("{error}") };
    (&source.downcast_ref::<ModelError>().unwrap().failure, *terminal)
}
