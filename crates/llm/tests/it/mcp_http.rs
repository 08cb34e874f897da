//! Servers over HTTP that are not what they should be: one that shows the token, one that sends the call elsewhere, one
//! that forgets its session.

use std::{sync::Arc, time::Duration};

use flowstone_core::Context;
use flowstone_llm::{Tool, ToolCall, Tools, mcp::Mcp};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, Respond, ResponseTemplate,
    matchers::{any, method},
};

use crate::client::logs::Log;

const TOKEN: &str = "token-of-the-test";
const IN_QUERY: &str = "key-in-the-query";

/// Answers by hand: a server of some name, and the result or the error of each further request.
struct Answers {
    name: &'static str,
    answer: Arc<Answer>,
}

type Answer = dyn Fn(&str, &Value) -> Value + Send + Sync;

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let request: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let (id, parameters) = (&request["id"], &request["params"]);
        if id.is_null() {
            return ResponseTemplate::new(if request.is_null() { 405 } else { 202 });
        }
        let mut body = match request["method"].as_str().unwrap() {
            "initialize" => json!({ "result": {
                "protocolVersion": parameters["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": self.name, "version": "1" },
            } }),
            method => (self.answer)(method, parameters),
        };
        (body["jsonrpc"], body["id"]) = (json!("2.0"), id.clone());
        ResponseTemplate::new(200).set_body_json(body)
    }
}

pub(crate) async fn server(
    name: &'static str,
    answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(Answers { name, answer: Arc::new(answer) }).mount(&server).await;
    server
}

#[tokio::test]
async fn a_token_that_a_server_shows_is_in_no_error_and_no_result() {
    let long = "long".repeat(1_000);
    let tools = json!([TOKEN, "cut", "result", &long].map(|name| json!({ "name": name, "inputSchema": {} })));
    let shows = server(TOKEN, move |method, parameters| match (method, parameters["name"].as_str()) {
        ("tools/list", _) => json!({ "result": { "tools": tools } }),
        ("tools/call", Some("result")) => {
            json!({ "result": { "content": [{ "type": "text", "text": format!("you are {TOKEN}") }] } })
        }
        // The token is where the text is cut.
        _ => json!({ "error": { "code": -32000, "message": format!("{}{TOKEN} {IN_QUERY}", "x".repeat(490)) } }),
    })
    .await;
    // As nobody writes it, so that what is shown of it is not the text that was given.
    let url = format!("{}/mcp?key={IN_QUERY}", shows.uri().replace("http://127.0.0.1", "HTTP://127.000.000.001"));
    let server = Mcp::http(url).token(TOKEN).connect().await.unwrap();

    let mut shown = vec![format!("{server:?} {}", server.name()), server.read("x").await.unwrap_err().to_string()];
    let mut results = Vec::new();
    for tool in server.tools().await.unwrap() {
        match tool.call(json!({}), &Context::detached()).await {
            Ok(result) => results.push(result),
            Err(error) => shown.push(format!("{error} {error:?}")),
        }
    }

    assert_eq!((shown.len(), &*results), (5, &["you are ***".to_owned()][..]));
    for text in shown {
        assert!(!text.contains("token-") && !text.contains("key-in") && text.len() < 4_000, "{text}");
    }
}

#[tokio::test]
async fn what_is_logged_has_neither_the_token_nor_the_url() {
    let log = Log::default();
    let logging = log.begin();
    let greets = ResponseTemplate::new(200).insert_header("mcp-session-id", "1").set_body_json(json!({
        "jsonrpc": "2.0", "id": 0, "result": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": { "name": "odd", "version": "1" },
        },
    }));
    let odd = MockServer::start().await;
    Mock::given(method("POST")).respond_with(greets).mount(&odd).await;

    let server =
        Mcp::http(format!("{}/mcp?key={IN_QUERY}", odd.uri())).token(TOKEN).timeout(Duration::from_millis(500));
    let server = server.connect().await.unwrap();
    // Nothing comes in time, but what it opens beside the question is refused.
    server.tools().await.unwrap_err();
    server.close().await;
    drop(logging);

    let text = log.text.lock().unwrap().clone();
    assert!(text.contains("fail to delete session") && text.contains("fail to get common stream"), "{text}");
    assert!(!text.contains(IN_QUERY) && !text.contains(TOKEN), "{text}");
}

#[tokio::test]
async fn a_path_that_may_be_a_key_is_not_shown() {
    let nobody = format!("http://127.0.0.1:{}", crate::peers::free_port());

    let error = Mcp::http(format!("{nobody}/s/a-key-of-a-user/mcp")).connect().await.unwrap_err().to_string();

    assert!(error.starts_with(&format!("MCP server `{nobody}/…`: connect: it cannot be reached: ")), "{error}");
}

#[tokio::test]
async fn a_token_is_not_carried_to_another_host() {
    let other = server("other", |_, _| json!({ "result": {} })).await;
    for status in [301, 302, 303, 307, 308] {
        let sends_on = MockServer::start().await;
        let elsewhere = ResponseTemplate::new(status).insert_header("location", format!("{}/mcp", other.uri()));
        Mock::given(any()).respond_with(elsewhere).expect(1..).mount(&sends_on).await;

        Mcp::http(sends_on.uri()).token(TOKEN).connect().await.unwrap_err();
    }

    assert!(other.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn headers_of_ones_own_are_sent_to_a_server_and_not_shown() {
    const SECRET: &str = "secret-of-the-tenant";
    let shows =
        server("tenant", |_, _| json!({ "error": { "code": -32000, "message": format!("no tenant {SECRET}") } })).await;
    let mcp = Mcp::http(shows.uri()).header("x-tenant", SECRET);
    assert!(!format!("{mcp:?}").contains(SECRET));
    let server = mcp.connect().await.unwrap();

    let error = server.tools().await.unwrap_err();

    assert!(error.to_string().contains("no tenant ***") && !format!("{error:?}").contains(SECRET), "{error}");
    let requests = shows.received_requests().await.unwrap();
    assert!(requests.iter().all(|request| request.headers["x-tenant"] == SECRET));
    let odd = Mcp::http(shows.uri()).header("two words", "x").connect().await.unwrap_err();
    assert!(odd.to_string().contains("the header `two words`"), "{odd}");
}

/// A server that forgets its session once, and says so by an error without an id.
#[tokio::test]
async fn a_lost_session_is_made_anew_and_the_call_is_made_once() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    // Some servers give such errors an id of their own.
    for (status, id) in [
        (200, json!(null)),
        (400, json!(null)),
        (404, json!(null)),
        (410, json!(null)),
        (500, json!(null)),
        (404, json!("server-error")),
        (200, json!("server-error")),
        (400, json!("server-error")),
    ] {
        for events in [false, true] {
            let id = id.clone();
            let (greeted, called) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let forgets = MockServer::start().await;
            let (greets, calls) = (Arc::clone(&greeted), Arc::clone(&called));
            let respond = move |request: &Request| {
                let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                if asked["id"].is_null() {
                    return ResponseTemplate::new(if asked.is_null() { 405 } else { 202 });
                }
                let result = match asked["method"].as_str().unwrap() {
                    "initialize" => {
                        greets.fetch_add(1, SeqCst);
                        json!({ "protocolVersion": asked["params"]["protocolVersion"], "capabilities": { "tools": {} },
                            "serverInfo": { "name": "forgets", "version": "1" } })
                    }
                    "tools/list" => json!({ "tools": [{ "name": "pay", "inputSchema": {} }] }),
                    _ if greets.load(SeqCst) == 1 => {
                        let error = json!({ "jsonrpc": "2.0", "id": id,
                            "error": { "code": -32000, "message": "Bad Request: no valid session" } });
                        return if events && status == 200 {
                            let event = format!("event: message\ndata: {error}\n\n");
                            ResponseTemplate::new(200).set_body_raw(event, "text/event-stream")
                        } else {
                            ResponseTemplate::new(status).set_body_json(error)
                        };
                    }
                    _ => {
                        calls.fetch_add(1, SeqCst);
                        json!({ "content": [{ "type": "text", "text": "paid" }] })
                    }
                };
                let body = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result });
                ResponseTemplate::new(200).insert_header("mcp-session-id", "s1").set_body_json(body)
            };
            Mock::given(any()).respond_with(respond).mount(&forgets).await;
            let server = Mcp::http(forgets.uri()).connect().await.unwrap();
            let tools = Tools::new().with_all(server.tools().await.unwrap()).timeout(Duration::from_secs(10));

            let result = tools.call(&ToolCall::new("1", "pay", json!({})), &Context::detached()).await.unwrap();

            assert_eq!((result.text.as_str(), result.fault), ("paid", None), "{status}, events: {events}");
            assert_eq!((greeted.load(SeqCst), called.load(SeqCst)), (2, 1), "{status}, events: {events}");
        }
    }
}
