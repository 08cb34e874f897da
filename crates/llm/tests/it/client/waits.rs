//! Waits that a service names: in headers, dates, fields and words; and what it says that it has left.

use std::time::Duration;

use flowstone_core::Context;
use flowstone_llm::Failure;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use super::{answering, ask, completion, failed, fails, listened, model};

/// A wait in a header, a body, or both: the longest that is named.
#[tokio::test]
async fn a_wait_is_obeyed_in_each_form_and_the_longest_that_is_named() {
    let error = |fields: Value| json!({ "error": fields });
    let words = |words: &str| json!({ "error": { "message": words, "code": "rate_limit_exceeded" } });
    let info = |delay: Value| {
        json!({ "error": { "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded",
        "details": [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay }] } })
    };
    for (body, header, expected) in [
        (info(json!("13.5s")), None, 13_500),
        (info(json!({ "seconds": 13, "nanos": 500_000_000 })), None, 13_500),
        (json!([info(json!("13.5s"))]), None, 13_500),
        (error(json!({ "message": "Busy", "type": "rate_limit_error", "retryDelay": "7.8s" })), None, 7_800),
        (error(json!({ "message": "Busy", "code": 429, "retry_after": 7.8 })), None, 7_800),
        (
            error(json!({ "message": "Busy", "code": 429, "metadata": { "headers": { "Retry-After": "8" } } })),
            None,
            8_000,
        ),
        (error(json!({ "message": "Busy", "code": 429, "retry_after_ms": 7_800 })), None, 7_800),
        (words("Rate limit reached. Please try again in 7.8s."), None, 7_800),
        (words("Please try again in 1m2.5s."), None, 62_500),
        (words("Please retry your request after 30 seconds."), None, 30_000),
        (words("Please try again in 7.8s."), Some(("retry-after", "2")), 7_800),
        (words("Please try again in 7.8s."), Some(("retry-after", "20")), 20_000),
        (words("Please try again in 7.8s."), Some(("retry-after-ms", "9500")), 9_500),
        (words("Busy"), Some(("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")), 24 * 60 * 60 * 1_000),
    ] {
        let mut response = ResponseTemplate::new(429).set_body_json(&body);
        if let Some((name, value)) = header {
            response = response.insert_header(name, value);
        }
        let server = answering(response).await;

        let whole = fails(&model(&server), &ask()).await;
        let streamed = listened(&model(&server), ask(), 1).await.0.unwrap_err();

        let expected = Some(Duration::from_millis(expected));
        assert_eq!(whole.retry_after(), expected, "{body} {header:?}");
        assert_eq!(wait_of(failed(&streamed).0), expected, "{body} {header:?}, asked for a stream");
        if header.is_some() {
            continue;
        }
        // The same under the status 200, whole and as an event.
        let server = answering(ResponseTemplate::new(200).set_body_json(&body)).await;
        let whole = fails(&model(&server), &ask()).await;
        let events = ResponseTemplate::new(200).set_body_raw(format!("data: {body}\n\n"), "text/event-stream");
        let streamed = listened(&model(&answering(events).await), ask(), 1).await.0.unwrap_err();
        assert_eq!(whole.retry_after(), expected, "{body}, under 200");
        assert_eq!(wait_of(failed(&streamed).0), expected, "{body}, as an event");
    }
}

fn wait_of(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::RateLimited { retry_after, .. } | Failure::Unavailable { retry_after, .. } => *retry_after,
        _ => None,
    }
}

/// A service whose first answer says what it has left.
async fn with_little_left(headers: [(&str, &str); 2]) -> MockServer {
    let server = MockServer::start().await;
    let said: Value = completion(json!({ "content": "Yes." }), "stop");
    let first = headers
        .into_iter()
        .fold(ResponseTemplate::new(200).set_body_json(&said), |first, (name, value)| first.insert_header(name, value));
    Mock::given(method("POST")).respond_with(first).up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_json(&said)).mount(&server).await;
    server
}

/// The time that may have passed since a service said how long to wait.
const SINCE: Duration = Duration::from_secs(5);

/// Checks that a call is not made before this time has passed, and is made then.
async fn waits(model: &flowstone_llm::Model, request: &flowstone_llm::Request, server: &MockServer, wait: Duration) {
    let before = server.received_requests().await.unwrap().len();
    tokio::time::pause();
    {
        let cx = Context::detached();
        let call = model.chat(request, &cx);
        // Time passes as soon as nobody has anything else to do.
        let early = tokio::time::timeout(wait - SINCE, call).await;
        assert!(early.is_err(), "it was made before its time");
    }
    tokio::time::advance(SINCE).await;
    tokio::time::resume();
    assert_eq!(server.received_requests().await.unwrap().len(), before);
    model.chat(request, &Context::detached()).await.unwrap();
}

/// The answers say that no request is left: the next call waits, also of a model without limits.
#[tokio::test]
async fn a_service_that_has_nothing_left_is_left_alone() {
    let server =
        with_little_left([("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "20s")]).await;
    let model = model(&server);
    model.chat(&ask(), &Context::detached()).await.unwrap();

    waits(&model.clone(), &ask(), &server, Duration::from_secs(20)).await;
}

/// A refusal whose headers say that nothing is left, and until when, names a wait as well as one with `Retry-After`.
#[tokio::test]
async fn a_refusal_waits_until_there_is_more() {
    for (names, left, expected) in [
        (["x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"], "0", Some(7_500)),
        (["x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"], "0", Some(7_500)),
        (["x-ratelimit-remaining", "x-ratelimit-reset"], "0", Some(7_500)),
        (["x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"], "900", None),
    ] {
        let refusal = ResponseTemplate::new(429)
            .set_body_json(json!({ "error": { "message": "Slow down." } }))
            .insert_header(names[0], left)
            .insert_header(names[1], "7.5s");
        let server = answering(refusal).await;

        let failed = fails(&model(&server), &ask()).await;

        assert_eq!(failed.retry_after(), expected.map(Duration::from_millis), "{names:?}: {left}");
    }
}

/// The answers say that a few tokens are left: a call of fewer goes at once, a call of more waits until there are.
#[tokio::test]
async fn a_call_of_more_tokens_than_a_service_has_left_waits() {
    let server = with_little_left([("x-ratelimit-remaining-tokens", "50"), ("x-ratelimit-reset-tokens", "20s")]).await;
    let model = model(&server);
    model.chat(&ask(), &Context::detached()).await.unwrap();

    model.chat(&ask(), &Context::detached()).await.unwrap();
    let long = flowstone_llm::Request::new([flowstone_llm::Message::user("word ".repeat(2_000))]);

    waits(&model, &long, &server, Duration::from_secs(20)).await;
}
