//! Spans of calls, as any subscriber of `tracing` sees them: their names, what is in them, and what never is.

use std::{collections::BTreeMap, process::Command};

use flowstone_core::{BoxFuture, Context, RunOptions};
use flowstone_llm::{
    AgentState, ChatModel, Embeddings, Failure, Finish, Message, Model, ModelError, ModelId, Reply, Request,
    ScriptedModel, Tokens, ToolCall, Tools, agent, function,
};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

pub(crate) mod seen;

use seen::{Client, Spans, request, run, watch};

fn watched_run(model: impl ChatModel, request: Request, options: &RunOptions) -> Spans {
    watch(false, || run(Model::new(model), request, options)).0
}

fn client() -> Client {
    Client(ModelId::new("gemini", "gem-3"))
}

fn failing(failure: impl Fn() -> Failure + Send + Sync + 'static) -> ScriptedModel {
    ScriptedModel::by(move |_| Err(failure()))
}

fn fields<const N: usize>(expected: [(&str, &str); N]) -> BTreeMap<String, String> {
    expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_call_is_inside_its_run_and_says_what_the_conventions_name() {
    let spans = watched_run(client(), request(), &RunOptions::new().id("r1"));

    let chat = spans.of("chat");
    assert_eq!(chat.path, "run>visit>attempt>chat");
    assert_eq!(
        chat.fields,
        fields([
            ("otel.name", "chat gem-3"),
            ("otel.kind", "client"),
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "gcp.gemini"),
            ("gen_ai.conversation.id", "r1"),
            ("gen_ai.request.model", "gem-3"),
            ("gen_ai.request.temperature", "0.5"),
            ("gen_ai.request.top_p", "0.9"),
            ("gen_ai.request.max_tokens", "50"),
            ("gen_ai.request.seed", "7"),
            ("gen_ai.request.stop_sequences", "[\"END\"]"),
            ("gen_ai.response.id", "r-1"),
            ("gen_ai.response.model", "m-2026"),
            ("gen_ai.response.finish_reasons", "[\"stop\"]"),
            ("gen_ai.usage.input_tokens", "9"),
            ("gen_ai.usage.output_tokens", "4"),
            ("gen_ai.usage.cache_read.input_tokens", "5"),
            ("gen_ai.usage.reasoning.output_tokens", "2"),
        ])
    );
}

#[test]
fn a_run_is_a_workflow() {
    let spans = watched_run(client(), request(), &RunOptions::new().id("r1"));

    let workflow = fields([
        ("otel.name", "invoke_workflow trip"),
        ("otel.kind", "internal"),
        ("gen_ai.operation.name", "invoke_workflow"),
        ("gen_ai.agent.name", "trip"),
        ("gen_ai.conversation.id", "r1"),
    ]);
    assert_eq!(spans.of("run").fields, workflow);
}

#[test]
fn a_model_with_a_url_says_where_it_is() {
    let places = ["127.0.0.1:8080", "[::1]:8080", "models.example", "localhost"];

    let told = places.map(|place| {
        let spans = watched_run(Client(ModelId::new(place, "m")), Request::default(), &RunOptions::new());
        let chat = spans.of("chat").fields;
        ["server.address", "server.port"].map(|name| chat.get(name).cloned().unwrap_or_default()).join(" ")
    });

    assert_eq!(told, ["127.0.0.1 8080", "::1 8080", "models.example ", "localhost "]);
}

#[test]
fn a_failed_call_says_the_kind_of_its_error_and_no_more() {
    let limited = || Failure::RateLimited { retry_after: None, said: "hidden-answer".to_owned() };
    let spans = watched_run(failing(limited), request(), &RunOptions::new());

    let (chat, run) = (spans.of("chat").fields, spans.of("run").fields);
    assert_eq!((&*chat["error.type"], &*chat["otel.status_code"]), ("429", "error"));
    assert_eq!((&*run["error.type"], &*run["otel.status_code"]), ("node", "error"));
    assert!(!format!("{:?}", spans.all()).contains("hidden"));
}

#[test]
fn errors_have_the_status_or_a_word() {
    type Fails = fn() -> Failure;
    let failures: [(Fails, &str); 4] = [
        (|| Failure::Unavailable { status: 529, retry_after: None, said: String::new() }, "529"),
        (|| Failure::NotFound { said: String::new() }, "404"),
        (|| Failure::Filtered { said: "no".to_owned() }, "content_filter"),
        (|| Failure::Other { retryable: false, source: "own".into() }, "_OTHER"),
    ];

    for (failure, word) in failures {
        let spans = watched_run(failing(failure), Request::default(), &RunOptions::new());
        assert_eq!(spans.of("chat").fields["error.type"], word);
    }
}

#[test]
fn a_call_that_is_dropped_was_cancelled() {
    struct Hangs(ModelId);

    impl ChatModel for Hangs {
        fn id(&self) -> &ModelId {
            &self.0
        }

        fn chat<'a>(&'a self, _: &'a Request, _: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>> {
            Box::pin(std::future::pending())
        }
    }

    let (spans, _) = watch(false, || async {
        let (model, request, cx) = (Model::new(Hangs(ModelId::new("p", "m"))), request(), Context::detached());
        tokio::time::timeout(std::time::Duration::from_millis(1), model.chat(&request, &cx)).await.is_err()
    });

    assert_eq!(spans.of("chat").fields["error.type"], "cancelled");
}

#[test]
fn a_stream_says_when_its_first_piece_came() {
    let heard = RunOptions::new().listen(|_: &flowstone_core::Event| ());

    let streamed = watched_run(client(), request().streamed(), &heard).of("chat").fields;
    let unheard = watched_run(client(), request().streamed(), &RunOptions::new()).of("chat").fields;

    assert_eq!(streamed["gen_ai.request.stream"], "true");
    let first: f64 = streamed["gen_ai.response.time_to_first_chunk"].parse().unwrap();
    assert!(first > 0.0 && first < 5.0, "{first}");
    // Nobody listens, so that nothing is streamed.
    assert!(!unheard.contains_key("gen_ai.request.stream"));
    assert!(!unheard.contains_key("gen_ai.response.time_to_first_chunk"));
}

#[test]
fn a_schema_asks_for_json() {
    let spans = watched_run(client(), request().schema("city", json!({})), &RunOptions::new());

    assert_eq!(spans.of("chat").fields["gen_ai.output.type"], "json");
}

#[test]
fn embeddings_say_their_tokens_and_dimensions() {
    struct Embeds(ModelId);

    impl ChatModel for Embeds {
        fn id(&self) -> &ModelId {
            &self.0
        }

        fn chat<'a>(&'a self, _: &'a Request, _: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>> {
            Box::pin(std::future::pending())
        }

        fn embed<'a>(&'a self, _: &'a [String], _: &'a Context) -> BoxFuture<'a, Result<Embeddings, ModelError>> {
            let tokens = Tokens { input: 6, ..Tokens::default() };
            Box::pin(async move { Ok(Embeddings::new(vec![vec![0.5; 3]], Some(tokens))) })
        }
    }

    let (spans, _) = watch(false, || async {
        let model = Model::new(Embeds(ModelId::new("openai", "e-3")));
        model.embed(&["hidden".to_owned()], &Context::detached()).await
    });

    let seen = spans.of("embeddings").fields;
    let told = ["otel.name", "otel.kind", "gen_ai.usage.input_tokens", "gen_ai.embeddings.dimension.count"];
    assert_eq!(told.map(|name| &*seen[name]), ["embeddings e-3", "client", "6", "3"]);
    assert!(!format!("{seen:?}").contains("hidden"));
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Place {
    /// Where
    city: String,
}

fn tools() -> Tools {
    Tools::new().with(function("weather", "Tells the weather", async |place: Place| {
        if place.city == "nowhere" {
            Err("hidden-error".into())
        } else {
            Ok(format!("hidden-result in {}", place.city))
        }
    }))
}

async fn call_weather(arguments: Value) {
    let call = ToolCall::new("c1", "weather", arguments);
    tools().call(&call, &Context::detached()).await.unwrap();
}

#[test]
fn a_tool_says_its_name_and_how_it_came_out() {
    let calls = [json!({ "city": "Rome" }), json!({ "city": "nowhere" }), json!({ "town": "Rome" })];

    let seen = calls.map(|arguments| watch(false, || call_weather(arguments)).0.of("execute_tool").fields);

    let told = [
        "otel.name",
        "otel.kind",
        "gen_ai.operation.name",
        "gen_ai.tool.name",
        "gen_ai.tool.type",
        "gen_ai.tool.call.id",
    ];
    let expected = ["execute_tool weather", "internal", "execute_tool", "weather", "function", "c1"];
    assert_eq!(told.map(|name| &*seen[0][name]), expected);
    let errors = seen.each_ref().map(|fields| fields.get("error.type").map(String::as_str));
    assert_eq!(errors, [None, Some("failed"), Some("misuse")]);
    assert!(!format!("{seen:?}").contains("hidden"));
}

#[test]
fn what_is_said_is_in_no_span() {
    let spans = watched_run(client(), request(), &RunOptions::new());

    let all = format!("{:?}", spans.all());
    assert!(!all.contains("hidden") && !all.contains("12 degrees"), "{all}");
}

/// Runs in a process of its own, since the variable is read once.
#[test]
fn what_is_said_is_in_the_spans_if_it_is_asked_for() {
    const VARIABLE: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";
    if std::env::var_os(VARIABLE).is_none() {
        let this = "spans::what_is_said_is_in_the_spans_if_it_is_asked_for";
        let mut program = Command::new(std::env::current_exe().unwrap());
        let ran = program.args(["--exact", this, "--nocapture"]).env(VARIABLE, "true").output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed"), "the copy has tested nothing");
        return;
    }

    let chat = watched_run(client(), request(), &RunOptions::new()).of("chat").fields;
    let (tool, ()) = watch(false, || call_weather(json!({ "city": "Rome" })));

    let json = |name: &str| serde_json::from_str::<Value>(&chat[name]).unwrap();
    assert_eq!(json("gen_ai.system_instructions"), json!([{ "type": "text", "content": "hidden-system" }]));
    let call =
        json!({ "type": "tool_call", "id": "c1", "name": "weather", "arguments": { "city": "hidden-argument" } });
    let input = json!([
        { "role": "user", "parts": [{ "type": "text", "content": "hidden-question" }] },
        { "role": "assistant", "parts": [call] }
    ]);
    assert_eq!(json("gen_ai.input.messages"), input);
    let said = json!({ "type": "text", "content": "12 degrees." });
    let output = json!([{ "role": "assistant", "parts": [said], "finish_reason": "stop" }]);
    assert_eq!(json("gen_ai.output.messages"), output);
    let tool = tool.of("execute_tool").fields;
    assert_eq!(tool["gen_ai.tool.call.arguments"], r#"{"city":"Rome"}"#);
    assert_eq!(tool["gen_ai.tool.call.result"], "hidden-result in Rome");
}

#[test]
fn what_an_agent_asks_is_inside_the_span_of_the_agent() {
    let (spans, _) = watch(false, async || {
        let flow = agent(&Model::new(client()), Tools::new()).name("helper").build().unwrap();
        flow.run_async(&mut AgentState::new("hidden-question")).await.unwrap();
    });

    assert_eq!(spans.of("chat").path, "run>visit>attempt>invoke_agent>chat");
    let agent = spans.of("invoke_agent").fields;
    let told = ["otel.name", "otel.kind", "gen_ai.operation.name", "gen_ai.agent.name"];
    assert_eq!(told.map(|name| &*agent[name]), ["invoke_agent helper", "internal", "invoke_agent", "helper"]);
}

#[test]
fn no_key_is_in_any_span() {
    const KEY: &str = "sk-key-of-the-test";

    let (spans, _) = watch(false, || async {
        let server = MockServer::start().await;
        let refusal = json!({ "error": { "message": format!("Incorrect API key provided: {KEY}") } });
        Mock::given(any()).respond_with(ResponseTemplate::new(401).set_body_json(refusal)).mount(&server).await;
        let model = Model::connect(&format!("{}/v1#tiny", server.uri())).key(KEY).build().unwrap();
        run(model, request(), &RunOptions::new()).await;
        server.received_requests().await.unwrap().len()
    });

    assert_eq!(spans.of("chat").fields["error.type"], "401");
    assert!(!format!("{:?}", spans.all()).contains(KEY));
}

#[test]
fn why_a_reply_ends_is_said_by_the_conventions_words() {
    let ends = [Finish::ToolCalls, Finish::Length, Finish::Other("odd".to_owned())];

    let told = ends.map(|end| {
        let model = ScriptedModel::by(move |_| Ok(Reply::new(Message::assistant(""), end.clone())));
        watched_run(model, Request::default(), &RunOptions::new()).of("chat").fields["gen_ai.response.finish_reasons"]
            .clone()
    });

    assert_eq!(told, [r#"["tool_call"]"#, r#"["length"]"#, r#"["odd"]"#]);
}

#[test]
fn no_span_is_made_where_nobody_looks() {
    let (spans, _) = watch(true, || async {
        run(Model::new(client()), request(), &RunOptions::new()).await;
        call_weather(json!({ "city": "Rome" })).await;
    });

    assert!(spans.all().is_empty());
}
