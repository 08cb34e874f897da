//! Requests to strict services: templates, schemas, choices of tools, headers; and vectors, which come in many forms.

use flowstone_core::{AsyncFlow, Context};
use flowstone_llm::{
    AgentState, Dialect, Extract, Failure, Message, Model, Options, Reply, Request, ScriptedModel, ToolCall,
    ToolChoice, Tools, agent, function,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{KEY, answering_json, ask, asked, completion, fails, failure, model};

#[tokio::test]
async fn instructions_and_messages_of_a_kind_are_joined_for_strict_templates() {
    let server = answering_json(200, completion(json!({ "content": "Yes." }), "stop")).await;
    let said = [
        Message::system("Be brief."),
        Message::user("One."),
        Message::user("Two."),
        Message::assistant("Three."),
        Message::system("Be kind."),
        Message::user("Four."),
    ];
    let loose = Model::connect(&format!("{}/v1#tiny", server.uri())).dialect(Dialect::OPENAI).build().unwrap();

    for model in [model(&server), loose] {
        model.chat(&Request::new(said.clone()), &Context::detached()).await.unwrap();
    }

    let requests = server.received_requests().await.unwrap();
    let sent: Vec<Value> =
        requests.iter().map(|request| request.body_json::<Value>().unwrap()["messages"].take()).collect();
    assert_eq!(
        sent[0],
        json!([
            { "role": "system", "content": "Be brief.\n\nBe kind." },
            { "role": "user", "content": "One.\n\nTwo." },
            { "role": "assistant", "content": "Three." },
            { "role": "user", "content": "Four." },
        ])
    );
    assert_eq!(sent[1].as_array().unwrap().len(), 6);
}

/// A part of a document.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Section {
    title: String,
    /// The section below, which holds one more.
    below: Option<Box<Self>>,
    /// All others.
    others: Vec<Self>,
}

#[tokio::test]
async fn a_type_that_holds_itself_with_a_comment_is_sent_and_its_references_stand_alone() {
    #[derive(Default, Serialize, Deserialize)]
    struct Doc {
        title: String,
    }
    let reply = json!({ "title": "One", "below": null, "others": [] }).to_string();
    let server = answering_json(200, completion(json!({ "content": reply }), "stop")).await;
    let mut flow = AsyncFlow::builder("read");
    let read = Extract::prompt(&model(&server), "Read.", |doc: &mut Doc, section: Section| doc.title = section.title);
    let read = flow.add("read", read);
    flow.start(read);
    let mut doc = Doc::default();

    flow.build().unwrap().run_async(&mut doc).await.unwrap();

    assert_eq!(doc.title, "One");
    let sent = asked(&server).await["response_format"]["json_schema"]["schema"].take();
    alone(&sent);
}

/// Checks that nothing stands beside a reference.
fn alone(schema: &Value) {
    if let Value::Object(fields) = schema {
        assert!(!fields.contains_key("$ref") || fields.len() == 1, "{schema}");
        fields.values().for_each(alone);
    } else if let Value::Array(values) = schema {
        values.iter().for_each(alone);
    }
}

#[tokio::test]
async fn a_forced_call_is_forced_once_and_one_that_cannot_be_made_is_a_fault() {
    let now = || function("now", "The time", |_: std::collections::BTreeMap<String, f64>| async { Ok("noon") });
    let choosing = |choice| Options { tool_choice: choice, ..Options::default() };
    for choice in [ToolChoice::Required, ToolChoice::Tool("now".to_owned())] {
        let script = ScriptedModel::by(|request: &Request| {
            Ok(match &request.options.tool_choice {
                ToolChoice::Auto => Reply::of_text("Noon."),
                _ => Reply::of_calls([ToolCall::new("a", "now", json!({}))]),
            })
        });
        let flow =
            agent(&Model::new(script.clone()), Tools::new().with(now())).options(choosing(choice)).build().unwrap();
        let mut state = AgentState::new("When?");

        flow.run_async(&mut state).await.unwrap();
        state.ask("And now?");
        flow.run_async(&mut state).await.unwrap();

        assert_eq!((state.answer().as_deref(), script.requests().len()), (Some("Noon."), 4));
    }
    let model = Model::new(ScriptedModel::new([""; 0]));
    for (tools, choice, fault) in [
        (Tools::new(), ToolChoice::Required, "a call is required, and there is no tool"),
        (Tools::new().with(now()), ToolChoice::Tool("then".into()), "a call of `then` is required, which is no tool"),
    ] {
        let error = agent(&model, tools).options(choosing(choice)).build().unwrap_err();
        assert!(error.to_string().contains(fault), "{error}");
    }
}

#[tokio::test]
async fn headers_of_ones_own_are_sent_and_not_shown() {
    const SECRET: &str = "a-secret-of-the-gateway";
    let server = answering_json(401, json!({ "error": { "message": format!("unknown tenant {SECRET}") } })).await;
    let name = format!("{}/v1#tiny", server.uri());
    let own = Model::connect(&name).key(KEY).header("x-tenant", SECRET).build().unwrap();
    let instead =
        Model::connect("openai:gpt-4o").base_url(&server.uri()).header("Authorization", SECRET).build().unwrap();

    let shown = [fails(&own, &ask()).await, fails(&instead, &ask()).await]
        .map(|error| format!("{error:?} {}", error.source_ref()));

    let requests = server.received_requests().await.unwrap();
    assert_eq!(
        (&requests[0].headers["x-tenant"], &requests[1].headers["authorization"]),
        (&SECRET.parse().unwrap(), &SECRET.parse().unwrap())
    );
    assert_eq!(requests[0].headers["authorization"], format!("Bearer {KEY}"));
    assert!(shown.iter().all(|text| text.contains("unknown tenant [key]") && !text.contains(SECRET)), "{shown:?}");
    assert!(!format!("{own:?}").contains(SECRET));
}

#[tokio::test]
async fn vectors_are_what_counts_in_whatever_they_come() {
    let texts = ["a".to_owned(), "b".to_owned()];
    for body in [
        json!({ "data": [{ "embedding": [1.0] }, { "embedding": [2.0] }] }),
        json!({ "data": [{ "index": 1, "embedding": [2.0] }, { "index": 0, "embedding": [1.0] }], "model": null, "usage": null }),
        json!({ "embeddings": [[1.0], [2.0]] }),
        json!([{ "index": 0, "embedding": [1.0] }, { "index": 1, "embedding": [2.0] }]),
    ] {
        let server = answering_json(200, body.clone()).await;

        let embeddings = model(&server).embed(&texts, &Context::detached()).await.unwrap();

        assert_eq!((embeddings.vectors, embeddings.tokens), (vec![vec![1.0], vec![2.0]], None), "{body}");
    }
}

#[tokio::test]
async fn an_error_in_place_of_vectors_is_what_the_service_says() {
    for (body, expected) in [
        (json!({ "error": { "message": "no such model", "code": "model_not_found" } }), "it is not to be found there"),
        (
            json!({ "error": "input is too long for the context window" }),
            "the conversation is longer than the model takes",
        ),
        (json!({ "detail": "the model is asleep" }), "the reply broke off: the model is asleep"),
    ] {
        let server = answering_json(200, body).await;

        let error = model(&server).embed(&["a".to_owned()], &Context::detached()).await.unwrap_err();

        assert!(failure(&error).to_string().contains(expected), "{error:?}");
    }
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_said_to_be_so_by_all_services() {
    for (status, body) in [
        (
            400,
            json!({ "error": { "message": "This model's maximum context length is 128000 tokens.", "type": "invalid_request_error", "code": "context_length_exceeded" } }),
        ),
        (
            400,
            json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum" } }),
        ),
        (
            400,
            json!({ "error": { "code": 400, "status": "INVALID_ARGUMENT", "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)." } }),
        ),
        (
            400,
            json!({ "error": { "code": 400, "type": "exceed_context_size_error", "message": "the request exceeds the available context size" } }),
        ),
        (413, json!({ "error": { "type": "request_too_large", "message": "Request exceeds the maximum size" } })),
        (
            422,
            json!({ "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length" }),
        ),
        (400, json!({ "error": "input length exceeds the context length" })),
        (
            400,
            json!({ "object": "error", "message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096." }),
        ),
        (400, json!({ "error": { "message": "Your request exceeded model token limit: 8192" } })),
    ] {
        let server = answering_json(status, body.clone()).await;

        let error = fails(&model(&server), &ask()).await;

        assert!(matches!(failure(&error), Failure::ContextOverflow { .. }) && error.is_terminal(), "{body}: {error:?}");
    }
    let other = json!({ "error": { "message": "Request too large: limit 30000 tokens per minute", "code": "rate_limit_exceeded" } });
    let error = fails(&model(&answering_json(429, other).await), &ask()).await;
    assert!(matches!(failure(&error), Failure::RateLimited { .. }), "{error:?}");
}

/// An error that the same prompt would give again is not paid for again.
#[tokio::test]
async fn extract_does_not_repeat_what_cannot_be_helped() {
    #[derive(Default, Serialize, Deserialize)]
    struct Doc;
    for (status, body) in [
        (200, completion(json!({ "content": null, "refusal": "I cannot." }), "stop")),
        (400, json!({ "error": { "message": "maximum context length is 8", "code": "context_length_exceeded" } })),
        (401, json!({ "error": { "message": "wrong key" } })),
    ] {
        use flowstone_core::{NodeExt, Retry};
        let server = answering_json(status, body).await;
        let mut flow = AsyncFlow::builder("read");
        let read = Extract::prompt(&model(&server), "Read.", |_: &mut Doc, _: u8| ()).retry(Retry::attempts(3));
        let read = flow.add("read", read);
        flow.start(read);

        flow.build().unwrap().run_async(&mut Doc).await.unwrap_err();

        assert_eq!(server.received_requests().await.unwrap().len(), 1, "{status}");
    }
}
