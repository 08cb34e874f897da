//! The wire of each provider: a whole reply and a stream, thoughts with their signatures, calls of tools.

use flowstone_core::Context;
use flowstone_llm::{Failure, Finish, Message, Model, Options, Part, Reply, Request, ToolCall, ToolResult, ToolSpec};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path},
};

use super::{KEY, answering_events, answering_json, ask, asked, completion, failed, fails, failure, listened};

fn model(name: &str, server: &MockServer, base: &str) -> Model {
    Model::connect(name).base_url(&format!("{}{base}", server.uri())).key(KEY).build().unwrap()
}

async fn chat(model: &Model, request: &Request) -> Reply {
    model.chat(request, &Context::detached()).await.unwrap()
}

fn weather() -> Vec<ToolSpec> {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    vec![ToolSpec { name: "weather".into(), description: "The weather".into(), parameters }]
}

/// Server-sent events with their names.
fn named_events(events: &[Value]) -> String {
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
}

fn signed(text: &str, signature: &str) -> Part {
    Part::Reasoning { text: text.to_owned(), signature: Some(signature.to_owned()) }
}

/// The first header of that name that a server was sent.
async fn sent_header(server: &MockServer, name: &str) -> Option<String> {
    let requests = server.received_requests().await.unwrap();
    requests[0].headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn anthropic_replies_think_and_call_and_are_told_the_same_again() {
    let content = json!([
        { "type": "thinking", "thinking": "Rome?", "signature": "c2ln" },
        { "type": "redacted_thinking", "data": "b3BhcXVl" },
        { "type": "text", "text": "I look." },
        { "type": "tool_use", "id": "t1", "name": "weather", "input": { "city": "Rome" } }
    ]);
    let usage = json!({ "input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 20 });
    let body =
        json!({ "id": "msg_1", "model": "claude-x-1", "content": content, "stop_reason": "tool_use", "usage": usage });
    let server = answering_json(200, body).await;
    let model = model("anthropic:claude-x", &server, "/v1");
    let request = ask().tools(weather()).options(Options { reasoning: Some("2048".to_owned()), ..Options::default() });

    let reply = chat(&model, &request).await;
    let result = ToolResult { id: "t1".into(), name: "weather".into(), text: "22".into(), fault: None };
    let next = Request::new([Message::user("Hello?"), reply.message.clone(), Message::tool_results([result])]);
    chat(&model, &next.tools(weather())).await;

    assert_eq!(reply.message.parts[0], signed("Rome?", "c2ln"));
    assert_eq!(reply.message.tool_calls().next().unwrap().arguments, json!({ "city": "Rome" }));
    assert_eq!(
        (reply.text().as_str(), &reply.finish, reply.id.as_deref()),
        ("I look.", &Finish::ToolCalls, Some("msg_1"))
    );
    let tokens = reply.tokens.unwrap();
    assert_eq!((tokens.input, tokens.cached_input, tokens.output), (100, 90, 20));
    assert_eq!(sent_header(&server, "x-api-key").await.as_deref(), Some(KEY));
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests[0].url.path(), "/v1/messages");
    let again: Value = requests[1].body_json().unwrap();
    let blocks = again["messages"][1]["content"].as_array().unwrap();
    let has = |block: &Value| blocks.iter().any(|other| other == block);
    assert!(has(&json!({ "type": "thinking", "thinking": "Rome?", "signature": "c2ln" })), "{blocks:?}");
    assert!(has(&json!({ "type": "redacted_thinking", "data": "b3BhcXVl" })), "{blocks:?}");
    assert_eq!(again["messages"][2]["content"][0]["tool_use_id"], "t1");
}

#[tokio::test]
async fn arguments_that_are_no_object_go_back_as_one() {
    let body = json!({ "id": "m", "model": "claude-x-1", "content": [{ "type": "text", "text": "Ah." }],
        "stop_reason": "end_turn", "usage": { "input_tokens": 1, "output_tokens": 1 } });
    let server = answering_json(200, body).await;
    let calls = [("a", json!("{not json")), ("b", Value::Null), ("c", json!({ "city": "Rome" }))];
    let asked = Reply::of_calls(calls.map(|(id, arguments)| ToolCall::new(id, "weather", arguments)));
    let told =
        ["a", "b", "c"].map(|id| ToolResult { id: id.into(), name: "weather".into(), text: "-".into(), fault: None });
    let request = Request::new([Message::user("Hello?"), asked.message, Message::tool_results(told)]);

    chat(&model("anthropic:claude-x", &server, "/v1"), &request.tools(weather())).await;

    let sent: Value = server.received_requests().await.unwrap()[0].body_json().unwrap();
    let blocks = sent["messages"][1]["content"].as_array().unwrap();
    let inputs: Vec<_> = blocks.iter().map(|block| block["input"].clone()).collect();
    assert_eq!(inputs, [json!({ "arguments": "{not json" }), json!({}), json!({ "city": "Rome" })]);
}

fn anthropic_events() -> Vec<Value> {
    vec![
        json!({ "type": "message_start", "message": { "id": "msg_2", "model": "claude-x-1", "usage": { "input_tokens": 8, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "thinking", "thinking": "", "signature": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "thinking_delta", "thinking": "Hm" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "signature_delta", "signature": "c2ln" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "ping" }),
        json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "text_delta", "text": "I look." } }),
        json!({ "type": "content_block_stop", "index": 1 }),
        json!({ "type": "content_block_start", "index": 2, "content_block": { "type": "tool_use", "id": "t1", "name": "weather", "input": {} } }),
        json!({ "type": "content_block_delta", "index": 2, "delta": { "type": "input_json_delta", "partial_json": "{\"city\":" } }),
        json!({ "type": "content_block_delta", "index": 2, "delta": { "type": "input_json_delta", "partial_json": "\"Rome\"}" } }),
        json!({ "type": "content_block_stop", "index": 2 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage": { "output_tokens": 30 } }),
        json!({ "type": "message_stop" }),
    ]
}

#[tokio::test]
async fn anthropic_streams() {
    let server = answering_events(&named_events(&anthropic_events())).await;

    let (reply, heard) = listened(&model("anthropic:claude-x", &server, "/v1"), ask().tools(weather()), 1).await;

    let reply = reply.unwrap();
    assert_eq!(heard, ["(Hm)", "I look."]);
    assert_eq!(reply.message.parts[0], signed("Hm", "c2ln"));
    assert_eq!(reply.message.tool_calls().next().unwrap().arguments, json!({ "city": "Rome" }));
    assert_eq!(
        (reply.finish, reply.id.as_deref(), reply.model.as_deref()),
        (Finish::ToolCalls, Some("msg_2"), Some("claude-x-1"))
    );
    assert_eq!(reply.tokens.unwrap().tokens(), 38);
}

#[tokio::test]
async fn anthropic_breaks_off_and_says_what_is_wrong() {
    let cut = answering_events(&named_events(&anthropic_events()[..4])).await;
    let overloaded = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    let busy = answering_events(&named_events(&[overloaded])).await;
    let refused = json!({ "id": "m", "model": "x", "content": [], "stop_reason": "refusal", "usage": {} });
    let refusing = answering_json(200, refused).await;

    let cut = listened(&model("anthropic:claude-x", &cut, "/v1"), ask(), 1).await.0.unwrap_err();
    let busy = listened(&model("anthropic:claude-x", &busy, "/v1"), ask(), 1).await.0.unwrap_err();
    let refusing = fails(&model("anthropic:claude-x", &refusing, "/v1"), &ask()).await;

    assert!(matches!(failed(&cut), (Failure::Broken { shown: true, .. }, true)), "{cut:?}");
    assert!(matches!(failed(&busy), (Failure::Unavailable { status: 529, .. }, false)), "{busy:?}");
    assert!(matches!(failure(&refusing), Failure::Filtered { .. }), "{refusing:?}");
}

fn gemini(parts: &Value, finish: Option<&str>) -> Value {
    json!({
        "candidates": [{ "content": { "role": "model", "parts": parts }, "finishReason": finish }],
        "usageMetadata": { "promptTokenCount": 6, "candidatesTokenCount": 4, "thoughtsTokenCount": 2, "totalTokenCount": 12 },
        "modelVersion": "gemini-x-001", "responseId": "resp-1"
    })
}

#[tokio::test]
async fn gemini_replies_and_is_given_its_signatures_back() {
    let parts = json!([
        { "text": "Rome?", "thought": true },
        { "functionCall": { "name": "weather", "args": { "city": "Rome" } }, "thoughtSignature": "c2ln" }
    ]);
    let server = answering_json(200, gemini(&parts, Some("STOP"))).await;
    let model = model("gemini:gemini-x", &server, "/v1beta");

    let reply = chat(&model, &ask().tools(weather())).await;
    let call: ToolCall = reply.message.tool_calls().next().unwrap().clone();
    let result = ToolResult { id: call.id.clone(), name: "weather".into(), text: "22".into(), fault: None };
    chat(&model, &Request::new([Message::user("Hello?"), reply.message.clone(), Message::tool_results([result])]))
        .await;

    assert_eq!(
        (call.name.as_str(), &call.arguments, &reply.finish),
        ("weather", &json!({ "city": "Rome" }), &Finish::ToolCalls)
    );
    assert_eq!((reply.id.as_deref(), reply.model.as_deref()), (Some("resp-1"), Some("gemini-x-001")));
    assert_eq!(reply.tokens.unwrap().output, 6);
    assert_eq!(sent_header(&server, "x-goog-api-key").await.as_deref(), Some(KEY));
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests[0].url.path(), "/v1beta/models/gemini-x:generateContent");
    let again = requests[1].body_json::<Value>().unwrap();
    assert!(again["contents"].to_string().contains("\"thoughtSignature\":\"c2ln\""), "{again}");
}

#[tokio::test]
async fn gemini_streams_and_its_end_is_told_from_a_break() {
    let chunk = |text: &str, finish| format!("data: {}\n\n", gemini(&json!([{ "text": text }]), finish));
    let whole = answering_events(&(chunk("Hel", None) + &chunk("lo", Some("STOP")))).await;
    let cut = answering_events(&chunk("Hel", None)).await;

    let (reply, heard) = listened(&model("gemini:gemini-x", &whole, "/v1beta"), ask(), 1).await;
    let cut = listened(&model("gemini:gemini-x", &cut, "/v1beta"), ask(), 1).await.0.unwrap_err();

    let reply = reply.unwrap();
    assert_eq!((heard, reply.text().as_str()), (vec!["Hel".to_owned(), "lo".to_owned()], "Hello"));
    assert_eq!((reply.tokens.unwrap().input, reply.id.as_deref()), (6, Some("resp-1")));
    assert!(matches!(failed(&cut), (Failure::Broken { shown: true, .. }, true)), "{cut:?}");
}

#[tokio::test]
async fn gemini_says_that_a_prompt_is_blocked() {
    let server = answering_json(200, json!({ "promptFeedback": { "blockReason": "SAFETY" } })).await;
    let mid = answering_json(200, gemini(&json!([{ "text": "I" }]), Some("SAFETY"))).await;

    for server in [server, mid] {
        let error = fails(&model("gemini:gemini-x", &server, "/v1beta"), &ask()).await;
        assert!(matches!(failure(&error), Failure::Filtered { .. }) && error.is_terminal(), "{error:?}");
    }
}

fn ollama(server: &MockServer) -> Model {
    Model::connect("ollama:llama").base_url(&server.uri()).build().unwrap()
}

#[tokio::test]
async fn ollama_replies_and_streams() {
    let done = json!({ "model": "llama", "message": { "role": "assistant", "content": "Hello" }, "done": true,
        "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 3 });
    let whole = answering_json(200, done.clone()).await;
    let line = |text: &str| format!("{}\n", json!({ "model": "llama", "message": { "content": text }, "done": false }));
    let lines = line("Hel") + &line("lo");
    let body = format!(
        "{lines}{}\n",
        json!({ "message": { "content": "" }, "done": true, "prompt_eval_count": 5, "eval_count": 3 })
    );
    let stream = super::answering(ResponseTemplate::new(200).set_body_raw(body, "application/x-ndjson")).await;
    let cut = super::answering(ResponseTemplate::new(200).set_body_raw(lines, "application/x-ndjson")).await;

    let reply = chat(&ollama(&whole), &ask()).await;
    let (streamed, heard) = listened(&ollama(&stream), ask(), 1).await;
    let cut = listened(&ollama(&cut), ask(), 1).await.0.unwrap_err();

    assert_eq!((reply.text().as_str(), reply.tokens.unwrap().tokens()), ("Hello", 8));
    assert_eq!((streamed.unwrap().text().as_str(), heard.len()), ("Hello", 2));
    assert!(matches!(failed(&cut), (Failure::Broken { shown: true, .. }, true)), "{cut:?}");
    assert_eq!(whole.received_requests().await.unwrap()[0].url.path(), "/api/chat");
    assert_eq!(sent_header(&whole, "authorization").await, None);
}

#[tokio::test]
async fn ollama_is_held_to_a_schema() {
    let server = MockServer::start().await;
    let response = ResponseTemplate::new(200).set_body_json(completion(json!({ "content": "{\"a\":1}" }), "stop"));
    Mock::given(method("POST")).and(path("/v1/chat/completions")).respond_with(response).mount(&server).await;

    let request = ask().schema("answer", json!({ "type": "object", "properties": { "a": { "type": "integer" } } }));
    let reply = chat(&ollama(&server), &request).await;

    assert_eq!(reply.text(), "{\"a\":1}");
    assert_eq!(asked(&server).await["response_format"]["type"], "json_schema");
    assert_eq!(sent_header(&server, "authorization").await, None);
}

#[tokio::test]
async fn openais_newer_interface_replies_and_streams() {
    let text =
        json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "Hello" }] });
    let call =
        json!({ "type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\":\"Rome\"}" });
    let response = json!({ "id": "resp_1", "model": "gpt-5-x", "status": "completed", "output": [text, call],
        "usage": { "input_tokens": 5, "output_tokens": 3, "total_tokens": 8 } });
    let whole = answering_json(200, response.clone()).await;
    let stream = answering_events(&named_events(&[
        json!({ "type": "response.created", "response": { "id": "resp_1", "model": "gpt-5-x", "status": "in_progress", "output": [] } }),
        json!({ "type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hel" }),
        json!({ "type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "lo" }),
        json!({ "type": "response.completed", "response": response }),
    ]))
    .await;
    let failed_one = answering_events(&named_events(&[json!({ "type": "response.failed", "response":
        { "id": "r", "model": "m", "status": "failed", "output": [], "error": { "code": "server_error", "message": "Oops" } } })]))
    .await;

    let reply = chat(&model("openai:gpt-5-mini", &whole, "/v1"), &ask().tools(weather())).await;
    let (streamed, heard) = listened(&model("openai:gpt-5-mini", &stream, "/v1"), ask(), 1).await;
    let error = listened(&model("openai:gpt-5-mini", &failed_one, "/v1"), ask(), 1).await.0.unwrap_err();

    assert_eq!((reply.text().as_str(), reply.finish), ("Hello", Finish::ToolCalls));
    assert_eq!((reply.id.as_deref(), reply.tokens.unwrap().tokens()), (Some("resp_1"), 8));
    let streamed = streamed.unwrap();
    assert_eq!((streamed.text().as_str(), heard.len(), streamed.id.as_deref()), ("Hello", 2, Some("resp_1")));
    assert!(matches!(failed(&error), (Failure::Broken { shown: false, said }, false) if said == "Oops"), "{error:?}");
    let requests = whole.received_requests().await.unwrap();
    assert_eq!(requests[0].url.path(), "/v1/responses");
    assert_eq!(asked(&whole).await["store"], json!(false));
}

#[tokio::test]
async fn openais_older_interface_and_groq_reply() {
    for (name, base, at) in [
        ("openai:gpt-4o-mini", "/v1", "/v1/chat/completions"),
        ("groq:llama", "/openai/v1/", "/openai/v1/chat/completions"),
    ] {
        let server = MockServer::start().await;
        let response = ResponseTemplate::new(200).set_body_json(completion(json!({ "content": "Yes." }), "stop"));
        let asked = Mock::given(method("POST")).and(path(at)).and(header("authorization", format!("Bearer {KEY}")));
        asked.respond_with(response).mount(&server).await;

        assert_eq!(chat(&model(name, &server, base), &ask()).await.text(), "Yes.");
    }
}

#[tokio::test]
async fn vectors_of_ollama_and_gemini() {
    let texts = ["a".to_owned(), "b".to_owned()];
    let cx = Context::detached();
    let vectors =
        answering_json(200, json!({ "model": "nomic", "embeddings": [[1.0], [2.0]], "prompt_eval_count": 2 })).await;
    let google = answering_json(200, json!({ "embeddings": [{ "values": [1.0] }, { "values": [2.0] }] })).await;
    let none = MockServer::start().await;

    let of_ollama = ollama(&vectors).embed(&texts, &cx).await.unwrap();
    let of_gemini = model("gemini:embedding-x", &google, "/v1beta").embed(&texts, &cx).await.unwrap();
    let of_groq = model("groq:llama", &none, "/v1").embed(&texts, &cx).await.unwrap_err();

    assert_eq!(of_ollama.vectors, [[1.0], [2.0]]);
    assert_eq!(of_gemini.vectors, [[1.0], [2.0]]);
    assert_eq!(failure(&of_groq).to_string(), "it cannot do this: embeddings of this provider");
}
