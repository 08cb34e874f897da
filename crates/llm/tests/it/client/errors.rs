//! Every way in which a service says no, or says nothing, is a failure that knows whether another attempt may help.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flowstone_core::{AsyncFlow, Context, Event, EventKind, NodeExt, Retry, RunOptions};
use flowstone_llm::{Failure, Finish, Model, Options};
use serde_json::json;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use super::{
    KEY, answering, answering_events, answering_json, ask, completion, failed, fails, failure, listened, model,
};

/// Returns a word for a failure, and what it says.
fn word(failure: &Failure) -> (&'static str, String) {
    match failure {
        Failure::Refused { said, .. } => ("refused", said.clone()),
        Failure::NotFound { said } => ("not found", said.clone()),
        Failure::Invalid { said, .. } => ("invalid", said.clone()),
        Failure::RateLimited { said, .. } => ("limited", said.clone()),
        Failure::Unavailable { said, .. } => ("unavailable", said.clone()),
        Failure::Malformed { said } => ("malformed", said.clone()),
        Failure::Broken { said, .. } => ("broken", said.clone()),
        Failure::Filtered { said } => ("filtered", said.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_status_decides_whether_to_try_again() {
    for (status, expected, again) in [
        (301, "invalid", false),
        (307, "invalid", false),
        (400, "invalid", false),
        (401, "refused", false),
        (402, "refused", false),
        (403, "refused", false),
        (404, "not found", false),
        (408, "unavailable", true),
        (409, "unavailable", true),
        (413, "invalid", false),
        (422, "invalid", false),
        (429, "limited", true),
        (500, "unavailable", true),
        (502, "unavailable", true),
        (503, "unavailable", true),
        (504, "unavailable", true),
        (529, "unavailable", true),
    ] {
        let body = json!({ "error": { "message": "because", "type": "some_kind" } });
        let response = ResponseTemplate::new(status).insert_header("location", "/elsewhere").set_body_json(body);
        let server = answering(response).await;

        let whole = fails(&model(&server), &ask()).await;
        let (streamed, heard) = listened(&model(&server), ask(), 1).await;

        let (word_of, said) = word(failure(&whole));
        assert_eq!((word_of, whole.is_terminal()), (expected, !again), "{status}: {whole:?}");
        assert!(said == "because" || (300..400).contains(&status), "{status}: {said}");
        let error = streamed.unwrap_err();
        let (of_stream, terminal) = failed(&error);
        assert_eq!((word(of_stream).0, terminal), (expected, !again), "{status}, as a stream: {error}");
        assert!(heard.is_empty());
        assert_eq!(server.received_requests().await.unwrap().len(), 2, "{status} is not followed");
    }
}

#[tokio::test]
async fn a_service_says_when_to_come_back() {
    for (name, value, expected) in [
        ("retry-after", "2", Duration::from_secs(2)),
        ("retry-after", "0.5", Duration::from_millis(500)),
        ("retry-after-ms", "1500", Duration::from_millis(1500)),
        ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT", Duration::ZERO),
    ] {
        for status in [429, 503, 529] {
            let server = answering(ResponseTemplate::new(status).insert_header(name, value)).await;

            let whole = fails(&model(&server), &ask()).await;
            let streamed = listened(&model(&server), ask(), 1).await.0.unwrap_err();

            assert_eq!(whole.retry_after(), Some(expected), "{status} {name}: {value}");
            let (Failure::RateLimited { retry_after, .. } | Failure::Unavailable { retry_after, .. }) =
                failed(&streamed).0
            else {
                panic!("{streamed}")
            };
            assert_eq!(*retry_after, Some(expected), "{status} {name}: {value}");
        }
    }
}

#[tokio::test]
async fn the_words_of_a_service_are_shown_in_one_short_line() {
    for (body, expected) in [
        (r#"{"error":{"message":"No such\n\n  model"}}"#, "No such model"),
        (r#"{"error":"model 'x' not found"}"#, "model 'x' not found"),
        (r#"{"detail":"Not Found"}"#, "Not Found"),
        (r#"[{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}]"#, "API key not valid"),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: too many"}}"#,
            "max_tokens: too many",
        ),
        ("", "Unprocessable Entity"),
        ("<html>\n<h1>Oh\tno</h1>", "<html> <h1>Oh no</h1>"),
    ] {
        let server = answering(ResponseTemplate::new(422).set_body_string(body)).await;

        let error = fails(&model(&server), &ask()).await;

        assert_eq!(word(failure(&error)).1, expected);
    }
    let server = answering(ResponseTemplate::new(500).set_body_string("ä".repeat(100_000))).await;
    let error = fails(&model(&server), &ask()).await;
    assert_eq!(word(failure(&error)).1.chars().count(), 301, "{error:?}");
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_no_reason_to_try_again() {
    let body = json!({ "error": { "message": "You exceeded your quota", "code": "insufficient_quota" } });
    let server = answering_json(429, body).await;

    let error = fails(&model(&server), &ask()).await;

    assert!(error.is_terminal());
    assert!(matches!(failure(&error), Failure::Refused { status: 429, .. }));
}

#[tokio::test]
async fn what_is_no_reply_is_said_to_be_none() {
    let html = ResponseTemplate::new(200).set_body_raw("<html>welcome</html>", "text/html");
    let broken = ResponseTemplate::new(200).set_body_raw("{\"choices\": [", "application/json");
    let other = ResponseTemplate::new(200).set_body_json(json!({ "answer": 42 }));
    let list = ResponseTemplate::new(200).set_body_json(json!([1, 2]));
    let empty = ResponseTemplate::new(200).set_body_json(completion(json!({ "content": "" }), "stop"));
    let nothing = ResponseTemplate::new(200).set_body_json(completion(json!({ "content": null }), "stop"));
    for response in [html, broken, other, list, empty, nothing] {
        let server = answering(response).await;

        let error = fails(&model(&server), &ask()).await;

        assert_eq!((word(failure(&error)).0, error.is_terminal()), ("malformed", false), "{error:?}");
    }
}

#[tokio::test]
async fn an_error_under_the_status_200_is_what_its_kind_says() {
    for (kind, expected) in [
        (json!({ "message": "m", "type": "overloaded_error" }), "unavailable"),
        (json!({ "message": "m", "code": 502 }), "unavailable"),
        (json!({ "message": "m", "type": "rate_limit_error" }), "limited"),
        (json!({ "message": "m", "code": "invalid_api_key" }), "refused"),
        (json!({ "message": "m", "code": "model_not_found" }), "not found"),
        (json!({ "message": "m", "type": "invalid_request_error" }), "invalid"),
        (json!({ "message": "m", "code": "content_filter" }), "filtered"),
        (json!({ "message": "m", "status": "RESOURCE_EXHAUSTED" }), "limited"),
        (json!({ "message": "m", "type": "odd" }), "broken"),
    ] {
        let server = answering_json(200, json!({ "error": kind })).await;
        let events = answering_events(&format!("data: {}\n\n", json!({ "error": kind }))).await;

        let whole = fails(&model(&server), &ask()).await;
        let streamed = listened(&model(&events), ask(), 1).await.0.unwrap_err();

        assert_eq!(word(failure(&whole)).0, expected, "{kind}");
        assert_eq!(word(failed(&streamed).0).0, expected, "{kind}, as an event");
    }
}

#[tokio::test]
async fn a_content_filter_and_a_length_stop_are_typed() {
    let filtered = answering_json(200, completion(json!({ "content": "I " }), "content_filter")).await;
    let refused = answering_json(400, json!({ "error": { "message": "m", "code": "content_filter" } })).await;
    let cut = answering_json(200, completion(json!({ "content": "once upon" }), "length")).await;
    let silent = answering_json(200, completion(json!({ "content": "" }), "length")).await;

    for server in [filtered, refused] {
        let error = fails(&model(&server), &ask()).await;
        assert!(matches!(failure(&error), Failure::Filtered { .. }) && error.is_terminal(), "{error:?}");
    }
    for (server, text) in [(cut, "once upon"), (silent, "")] {
        let reply = model(&server).chat(&ask(), &Context::detached()).await.unwrap();
        assert_eq!((reply.finish, reply.message.text().as_str()), (Finish::Length, text));
    }
}

#[tokio::test]
async fn a_key_that_a_server_echoes_is_not_shown() {
    let body = json!({ "error": { "message": format!("Incorrect API key: {KEY}. Bearer {KEY}") } });
    for response in [
        ResponseTemplate::new(401).set_body_json(&body),
        ResponseTemplate::new(500).set_body_string(format!("key={KEY}")),
        ResponseTemplate::new(200).set_body_raw(format!("<p>{KEY}</p>"), format!("text/html; {KEY}").as_str()),
        ResponseTemplate::new(200).set_body_raw(format!("{{ {KEY}"), "application/json"),
        ResponseTemplate::new(200).set_body_json(&body),
        ResponseTemplate::new(200).set_body_json(completion(json!({ "content": "" }), KEY)),
        // The key is at the place where the text is cut.
        ResponseTemplate::new(500).set_body_string(format!("{}{KEY}", "x".repeat(295))),
    ] {
        let server = answering(response).await;
        let model = model(&server);

        let whole = fails(&model, &ask()).await;
        let (streamed, _) = listened(&model, ask(), 1).await;

        let streamed = streamed.unwrap_err();
        for text in [format!("{whole} {whole:?}"), format!("{streamed} {streamed:?} {}", streamed.report())] {
            assert!(!text.contains("c0ffee"), "{text}");
        }
        assert!(!format!("{model:?}").contains(KEY));
    }
}

#[tokio::test]
async fn a_key_in_the_query_of_a_url_is_not_shown() {
    const QUERY: &str = "version=2025-01-01&key=abc%2Fdef-5ecret";
    let body = format!("no route /v1?{QUERY}, abc/def-5ecret");
    let server = answering(ResponseTemplate::new(404).set_body_string(body)).await;
    let name = format!("{}/v1?{QUERY}#tiny", server.uri());

    let error = fails(&Model::named(&name).unwrap(), &ask()).await;

    assert!(error.to_string().ends_with("no route /v1?version=2025-01-01&key=[key], [key]"), "{error}");
}

#[tokio::test]
async fn no_service_at_all_is_unreachable() {
    let port = crate::peers::free_port();
    let model = Model::named(&format!("http://127.0.0.1:{port}/v1?api-key={KEY}#tiny")).unwrap();

    let whole = fails(&model, &ask()).await;
    let streamed = listened(&model, ask(), 1).await.0.unwrap_err();

    assert!(matches!(failure(&whole), Failure::Unreachable { .. }) && !whole.is_terminal());
    assert!(matches!(failed(&streamed), (Failure::Unreachable { .. }, false)));
    let text = whole.source_ref().to_string();
    assert!(text.starts_with(&format!("model `127.0.0.1:{port}:tiny`: the service cannot be reached: ")), "{text}");
    assert!(!format!("{whole:?}{streamed:?}").contains(KEY));
}

#[tokio::test]
async fn a_reply_that_takes_too_long_is_given_up() {
    let response = ResponseTemplate::new(200).set_delay(Duration::from_secs(30));
    let server = answering(response).await;
    let limit = Duration::from_millis(50);
    let request = ask().options(Options { timeout: Some(limit), ..Options::default() });

    let whole = fails(&model(&server), &request).await;
    let streamed = listened(&model(&server), request, 1).await.0.unwrap_err();

    assert!(matches!(failure(&whole), Failure::TimedOut { limit: of } if *of == limit), "{whole:?}");
    assert!(matches!(failed(&streamed), (Failure::TimedOut { .. }, false)));
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_before_anything_is_sent() {
    let server = MockServer::start().await;
    let odd = Options { reasoning: Some("very".to_owned()), ..Options::default() };
    let counted = Options { reasoning: Some("1024".to_owned()), ..Options::default() };
    let no_header = Model::connect(&format!("{}/v1#tiny", server.uri())).key("a\nb").build().unwrap();
    let empty = flowstone_llm::Request::new([]);

    for (model, request) in [
        (&model(&server), ask().options(odd)),
        (&model(&server), ask().options(counted)),
        (&model(&server), empty),
        (&no_header, ask()),
    ] {
        let error = fails(model, &request).await;
        assert!(matches!(failure(&error), Failure::Unsupported { .. }) && error.is_terminal(), "{error:?}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_reply_of_more_than_the_most_bytes_is_refused() {
    let server = answering_json(200, completion(json!({ "content": "x".repeat(2000) }), "stop")).await;
    let model = Model::connect(&format!("{}/v1#tiny", server.uri())).max_reply_bytes(1000).build().unwrap();

    let error = fails(&model, &ask()).await;

    assert!(matches!(failure(&error), Failure::TooLong { limit: 1000 }) && error.is_terminal());
}

#[tokio::test]
async fn a_node_waits_as_long_as_the_service_asks_and_asks_again() {
    let server = MockServer::start().await;
    let busy = ResponseTemplate::new(429).insert_header("retry-after-ms", "120");
    Mock::given(method("POST")).respond_with(busy).up_to_n_times(1).mount(&server).await;
    let reply = ResponseTemplate::new(200)
        .set_body_raw(super::events(&[json!({ "content": "Here." })], Some("stop")), "text/event-stream");
    Mock::given(method("POST")).respond_with(reply).mount(&server).await;
    let waits = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&waits);
    let options = RunOptions::new().listen(move |event: &Event| {
        if let EventKind::Retry { wait, .. } = &event.kind {
            hears.lock().unwrap().push(*wait);
        }
    });
    let mut flow = AsyncFlow::builder("speak");
    let speak = super::Speak { model: model(&server), request: ask().streamed() };
    let speak = flow.add("speak", speak.retry(Retry::attempts(2)));
    flow.start(speak);

    let mut reply = None;
    flow.build().unwrap().run_async_with(&mut reply, &options).await.unwrap();

    assert_eq!(reply.unwrap().text(), "Here.");
    assert_eq!(*waits.lock().unwrap(), [Duration::from_millis(120)]);
}

/// A person reads the run, the node, the model, and the fault.
#[tokio::test]
async fn an_error_of_a_run_names_the_run_the_node_and_the_model() {
    let saying =
        async |status: u16, message: &str| answering_json(status, json!({ "error": { "message": message } })).await;
    let (wrong_key, unknown) = (saying(401, "Incorrect API key").await, saying(404, "no such model `x`").await);
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/v1#x", listener.local_addr().unwrap())
    };
    let models = [
        (model(&wrong_key), "the key is refused (status 401): Incorrect API key"),
        (model(&unknown), "it is not to be found there (status 404): no such model `x`"),
        (Model::named(&nobody).unwrap(), "the service cannot be reached: "),
    ];

    for (model, wrong) in models {
        let named = format!("run `r1`: node `speak` failed in exec after 1 attempt: model `{}`: {wrong}", model.id());
        let mut flow = AsyncFlow::builder("speak");
        let speak = flow.add("speak", super::Speak { model, request: ask() });
        flow.start(speak);
        let flow = flow.build().unwrap();

        let error = flow.run_async_with(&mut None, &RunOptions::new().id("r1")).await.unwrap_err();

        assert!(error.report().starts_with(&named), "{}", error.report());
    }
}
