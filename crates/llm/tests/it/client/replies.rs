//! Requests to OpenAI's interface, and its replies.

use std::time::Duration;

use flowstone_core::Context;
use flowstone_llm::{
    Finish, Image, Message, Model, Options, Part, Reply, Request, Role, ToolCall, ToolChoice, ToolFault, ToolResult,
    ToolSpec,
};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path},
};

use super::{KEY, answering_events, answering_json, ask, asked, completion, failure, listened, model};

async fn reply(model: &Model, request: &Request) -> Reply {
    model.chat(request, &Context::detached()).await.unwrap()
}

#[tokio::test]
async fn everything_that_is_asked_is_sent() {
    let server = answering_json(200, completion(json!({ "content": "Yes." }), "stop")).await;
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let call = ToolCall::new("c1", "weather", json!({ "city": "Rome" }));
    let result =
        ToolResult { id: "c1".into(), name: "weather".into(), text: "22".into(), fault: Some(ToolFault::Failed) };
    let request = Request::new([
        Message::system("Be brief."),
        Message::user("What is this?")
            .with_image(Image::from_bytes("image/png", b"png"))
            .with_image(Image::Url("https://images.example/cat.webp?size=1".to_owned())),
        Reply::of_calls([call]).message,
        Message::tool_results([result]),
    ])
    .tools(vec![ToolSpec { name: "weather".into(), description: "The weather".into(), parameters: parameters.clone() }])
    .schema("my answer", json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] }))
    .options(Options {
        temperature: Some(0.5),
        top_p: Some(0.9),
        max_tokens: Some(100),
        stop: vec!["END".to_owned()],
        seed: Some(7),
        reasoning: Some("low".to_owned()),
        tool_choice: ToolChoice::Tool("weather".to_owned()),
        ..Options::default()
    });

    reply(&model(&server), &request).await;

    let sent = asked(&server).await;
    for (field, expected) in [
        ("model", json!("tiny")),
        ("stream", json!(false)),
        ("temperature", json!(0.5)),
        ("top_p", json!(0.9)),
        ("max_tokens", json!(100)),
        ("stop", json!(["END"])),
        ("seed", json!(7)),
        ("reasoning_effort", json!("low")),
        ("tool_choice", json!({ "type": "function", "function": { "name": "weather" } })),
    ] {
        assert_eq!(sent[field], expected, "{field}");
    }
    assert_eq!(sent["tools"][0]["function"]["name"], "weather");
    assert_eq!(sent["tools"][0]["function"]["parameters"], parameters);
    assert_eq!(sent["response_format"]["json_schema"]["name"], "my_answer");
    assert_eq!(sent["response_format"]["json_schema"]["schema"]["required"], json!(["a"]));
    let messages = sent["messages"].as_array().unwrap();
    assert_eq!(messages[0], json!({ "role": "system", "content": "Be brief." }));
    assert_eq!(messages[1]["content"][1]["image_url"]["url"], "data:image/png;base64,cG5n");
    assert_eq!(messages[1]["content"][2]["image_url"]["url"], "https://images.example/cat.webp?size=1");
    let arguments = messages[2]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), json!({ "city": "Rome" }));
    assert_eq!(messages[3], json!({ "role": "tool", "content": "22", "tool_call_id": "c1" }));
}

#[tokio::test]
async fn the_key_goes_into_the_header_and_the_query_stays_in_the_url() {
    let server = MockServer::start().await;
    let response = ResponseTemplate::new(200).set_body_json(completion(json!({ "content": "Yes." }), "stop"));
    Mock::given(method("POST"))
        .and(path("/base/v1/chat/completions"))
        .and(wiremock::matchers::query_param("api-version", "1"))
        .and(header("authorization", format!("Bearer {KEY}")))
        .respond_with(response)
        .expect(1)
        .mount(&server)
        .await;

    let name = format!("{}/base/v1?api-version=1#tiny", server.uri());
    let reply = reply(&Model::connect(&name).key(KEY).build().unwrap(), &ask()).await;

    assert_eq!(reply.text(), "Yes.");
}

#[tokio::test]
async fn the_name_of_a_model_is_sent_as_it_is() {
    for name in ["qwen-max", "hf::org/model", "gpt-oss-20b"] {
        let server = answering_json(200, completion(json!({ "content": "Yes." }), "stop")).await;
        let model = Model::named(&format!("{}/v1#{name}", server.uri())).unwrap();

        reply(&model, &ask()).await;

        let sent = asked(&server).await;
        assert_eq!((&sent["model"], &sent["reasoning_effort"]), (&json!(name), &Value::Null));
    }
}

#[tokio::test]
async fn a_reply_has_its_text_its_calls_its_thoughts_and_what_it_took() {
    let message = json!({
        "role": "assistant", "content": "Let me look.", "reasoning_content": "Where is Rome?",
        "tool_calls": [
            { "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{\"city\":\"Rome\"}" } },
            { "id": "c2", "type": "function", "function": { "name": "now", "arguments": "{}" } }
        ]
    });
    let mut body = completion(message, "stop");
    body["usage"] = json!({
        "prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70,
        "prompt_tokens_details": { "cached_tokens": 40 }, "completion_tokens_details": { "reasoning_tokens": 15 }
    });
    let server = answering_json(200, body).await;

    let reply = reply(&model(&server), &ask()).await;

    assert_eq!(reply.message.role, Role::Assistant);
    assert_eq!(reply.message.parts[0], Part::Reasoning { text: "Where is Rome?".to_owned(), signature: None });
    assert_eq!(reply.text(), "Let me look.");
    let calls: Vec<_> = reply.message.tool_calls().cloned().collect();
    assert_eq!(
        calls,
        [ToolCall::new("c1", "weather", json!({ "city": "Rome" })), ToolCall::new("c2", "now", json!({}))]
    );
    assert_eq!(reply.finish, Finish::ToolCalls);
    let tokens = reply.tokens.unwrap();
    assert_eq!((tokens.input, tokens.cached_input, tokens.output, tokens.reasoning), (50, 40, 20, 15));
    assert_eq!((reply.id.as_deref(), reply.model.as_deref()), (Some("chatcmpl-1"), Some("tiny-2025")));
}

#[tokio::test]
async fn arguments_that_are_no_json_stay_as_they_are() {
    let message = json!({ "content": null, "tool_calls": [
        { "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{city: Rome" } },
        { "id": "c2", "type": "function", "function": { "name": "now", "arguments": "" } }
    ] });
    let server = answering_json(200, completion(message, "tool_calls")).await;

    let reply = reply(&model(&server), &ask()).await;

    let arguments: Vec<_> = reply.message.tool_calls().map(|call| call.arguments.clone()).collect();
    assert_eq!(arguments, [json!("{city: Rome"), json!({})]);
    assert_eq!((reply.finish, reply.tokens.unwrap().input), (Finish::ToolCalls, 9));
}

#[tokio::test]
async fn a_reply_without_usage_has_none() {
    let mut body = completion(json!({ "content": "Yes." }), "stop");
    body.as_object_mut().unwrap().remove("usage");
    let server = answering_json(200, body).await;

    assert_eq!(reply(&model(&server), &ask()).await.tokens, None);
}

#[tokio::test]
async fn what_names_a_reply_has_no_key_in_it() {
    let mut body = completion(json!({ "content": "Yes." }), "stop");
    (body["id"], body["model"]) = (json!(KEY), json!(format!("tiny of {KEY}")));
    let whole = answering_json(200, body.clone()).await;
    body["choices"][0]["delta"] = json!({ "content": "Yes." });
    let streaming = answering_events(&format!("data: {body}\n\ndata: [DONE]\n\n")).await;

    for reply in [reply(&model(&whole), &ask()).await, listened(&model(&streaming), ask(), 1).await.0.unwrap()] {
        assert_eq!((reply.id.as_deref(), reply.model.as_deref()), (Some("[key]"), Some("tiny of [key]")));
    }
}

#[tokio::test]
async fn a_reply_is_not_asked_for_compressed() {
    let server = answering_json(200, completion(json!({ "content": "Yes." }), "stop")).await;

    reply(&model(&server), &ask()).await;

    // A small one could be made to fill the memory.
    assert!(!server.received_requests().await.unwrap()[0].headers.contains_key("accept-encoding"));
}

#[tokio::test]
async fn vectors_come_in_the_order_of_their_texts() {
    let data = json!([{ "index": 1, "embedding": [0.5, 1.0] }, { "index": 0, "embedding": [0.25, 0.0] }]);
    let body = json!({ "data": data, "model": "tiny", "usage": { "prompt_tokens": 4, "total_tokens": 4 } });
    let server = answering_json(200, body).await;
    let texts = ["a".to_owned(), "b".to_owned()];

    let embeddings = model(&server).embed(&texts, &Context::detached()).await.unwrap();
    let short = model(&server).embed(&texts[..1], &Context::detached()).await.unwrap_err();
    let none = model(&server).embed(&[], &Context::detached()).await.unwrap();

    assert_eq!(embeddings.vectors, [[0.25, 0.0], [0.5, 1.0]]);
    assert_eq!(embeddings.tokens.unwrap().input, 4);
    assert_eq!(failure(&short).to_string(), "the service sent what is no reply: 2 vectors for 1 texts");
    assert!(none.vectors.is_empty());
    let requests = server.received_requests().await.unwrap();
    assert_eq!((requests.len(), requests[0].url.path()), (2, "/v1/embeddings"));
    assert_eq!(asked(&server).await["input"], json!(["a", "b"]));
}

#[tokio::test]
async fn many_calls_at_once_all_come_back() {
    let response = ResponseTemplate::new(200)
        .set_body_json(completion(json!({ "content": "Yes." }), "stop"))
        .set_delay(Duration::from_millis(100));
    let server = super::answering(response).await;
    let model = Model::connect(&format!("{}/v1#tiny", server.uri())).build().unwrap();

    let request = ask();
    let cx = Context::detached();
    let calls = futures_util::future::join_all((0..200).map(|_| model.chat(&request, &cx))).await;

    assert!(calls.into_iter().all(|reply| reply.unwrap().text() == "Yes."));
}

#[test]
fn each_runtime_has_connections_of_its_own() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A runtime that is there, and does not run: nobody drives its connections.
    let (first, second, serving) = (runtime(), runtime(), tokio::runtime::Runtime::new().unwrap());
    let server = serving.block_on(answering_json(200, completion(json!({ "content": "Yes." }), "stop")));
    let model = Model::connect(&format!("{}/v1#tiny", server.uri())).timeout(Duration::from_secs(5)).build().unwrap();

    for runtime in [&first, &second, &first] {
        assert_eq!(runtime.block_on(reply(&model, &ask())).text(), "Yes.");
    }
    drop(first);
    assert_eq!(second.block_on(reply(&model, &ask())).text(), "Yes.");
}
