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
