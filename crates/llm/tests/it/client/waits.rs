//! How long a service wants to be left alone: in headers, dates, fields and words; and what it says that it has left.

use std::time::Duration;

use flowstone_core::Context;
use flowstone_llm::Failure;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

use super::{answering, ask, completion, failed, fails, listened, model};

#[tokio::test]
async fn a_wait_in_the_body_is_obeyed_and_the_longest_that_is_named() {
    let retry_info = json!({ "error": { "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded",
        "details": [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13.5s" }] } });
    let words = json!({ "error": { "message": "Rate limit reached. Please try again in 7.8s.", "code": "rate_limit_exceeded" } });
    for (body, header, expected) in
        [(&retry_info, None, 13_500), (&words, None, 7_800), (&words, Some("2"), 7_800), (&words, Some("20"), 20_000)]
    {
        let mut response = ResponseTemplate::new(429).set_body_json(body);
        if let Some(header) = header {
            response = response.insert_header("retry-after", header);
        }
        let server = answering(response).await;

        let whole = fails(&model(&server), &ask()).await;

        assert_eq!(whole.retry_after(), Some(Duration::from_millis(expected)), "{body} {header:?}");
    }
    let event = format!("data: {words}\n\n");
    let stream = answering(ResponseTemplate::new(200).set_body_raw(event, "text/event-stream")).await;
    let error = listened(&model(&stream), ask(), 1).await.0.unwrap_err();
    assert!(
        matches!(failed(&error), (Failure::RateLimited { retry_after: Some(wait), .. }, false) if wait.as_millis() == 7_800)
    );
}

/// The answers say that no request is left: the next call waits, also of a model without limits.
#[tokio::test]
async fn a_service_that_has_nothing_left_is_left_alone() {
    let server = MockServer::start().await;
    let said: Value = completion(json!({ "content": "Yes." }), "stop");
    let last = ResponseTemplate::new(200)
        .set_body_json(&said)
        .insert_header("x-ratelimit-remaining-requests", "0")
        .insert_header("x-ratelimit-reset-requests", "200ms");
    Mock::given(method("POST")).respond_with(last).up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_json(&said)).mount(&server).await;
    let model = model(&server);
    model.chat(&ask(), &Context::detached()).await.unwrap();

    let begun = std::time::Instant::now();
    model.clone().chat(&ask(), &Context::detached()).await.unwrap();

    assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
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
    let server = MockServer::start().await;
    let said: Value = completion(json!({ "content": "Yes." }), "stop");
    let last = ResponseTemplate::new(200)
        .set_body_json(&said)
        .insert_header("x-ratelimit-remaining-tokens", "50")
        .insert_header("x-ratelimit-reset-tokens", "2s");
    Mock::given(method("POST")).respond_with(last).up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_json(&said)).mount(&server).await;
    let model = model(&server);
    model.chat(&ask(), &Context::detached()).await.unwrap();

    let begun = std::time::Instant::now();
    model.chat(&ask(), &Context::detached()).await.unwrap();
    let small = begun.elapsed();
    let long = flowstone_llm::Request::new([flowstone_llm::Message::user("word ".repeat(2_000))]);
    model.chat(&long, &Context::detached()).await.unwrap();

    assert!(small < Duration::from_millis(1_500), "{small:?}");
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "{:?}", begun.elapsed());
}
