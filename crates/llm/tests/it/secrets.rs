//! A key is in no store: not in the states of a run, not in its errors, also where the service echoes it.

use flowstone_durable::{Runs, Status};
use flowstone_llm::{AgentState, Model, Tools, agent};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

const KEY: &str = "sk-very-secret-0123456789";

/// A service that refuses the first call and answers the second.
async fn echoing() -> MockServer {
    let server = MockServer::start().await;
    let refused =
        json!({ "error": { "message": format!("Incorrect API key provided: {KEY}"), "code": "invalid_api_key" } });
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        format!(
            "data: {}\n\n",
            json!({ "id": KEY, "object": "chat.completion.chunk", "model": KEY, "choices": [choice] })
        )
    };
    let said = chunk(json!({ "role": "assistant", "content": "Oslo." }), Value::Null);
    let answer = format!("{said}{}data: [DONE]\n\n", chunk(json!({}), "stop".into()));
    let refuses = ResponseTemplate::new(401).set_body_json(refused).insert_header("x-request-id", KEY);
    Mock::given(method("POST")).respond_with(refuses).up_to_n_times(1).mount(&server).await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(answer, "text/event-stream"))
        .mount(&server)
        .await;
    server
}

#[tokio::test]
async fn no_key_is_in_the_store_though_the_service_echoes_it() {
    let server = echoing().await;
    let model = Model::connect(&format!("{}/v1#m", server.uri())).key(KEY).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let flow = agent(&model, Tools::new()).build().unwrap();

    let runs = Runs::open(folder.path().join("runs.db"), flow).await.unwrap();
    let run = runs.start("r", AgentState::new("What is the capital?")).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Failed);
    let failed = run.info().await.unwrap().error.unwrap();
    run.retry_failed().await.unwrap();
    let state = run.finished().await.unwrap().ended().unwrap().state;
    runs.store().close().await;

    assert!(failed.message.contains("Incorrect API key provided: [key]"), "{failed:?}");
    assert_eq!(state.answer().as_deref(), Some("Oslo."));
    assert!(!serde_json::to_string(&state).unwrap().contains(KEY));
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|bytes| bytes == KEY.as_bytes()));
    }
}
