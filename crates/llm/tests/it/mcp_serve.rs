//! Tools as a server over HTTP: who is let in, what is told of errors, and how it stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flowstone_core::{Budget, CancellationToken, Context, RunOptions};
use flowstone_llm::{
    Tool, ToolCall, ToolFault, Tools, function, function_with_context,
    mcp::{self, Mcp, McpFailure, ServeError},
};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinHandle};
use wiremock::{MockServer, ResponseTemplate, matchers};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Number {
    /// A number
    n: i64,
}

/// A server under test, which stops when it is told to.
struct Serving {
    url: String,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

async fn serving(tools: Tools) -> Serving {
    serving_at("127.0.0.1:0", tools).await
}

async fn serving_at(address: &str, tools: Tools) -> Serving {
    let stop = CancellationToken::new();
    let bound = mcp::serve("tested", tools).stop(stop.clone()).bind(address).await.unwrap();
    Serving { url: bound.url(), stop, task: tokio::spawn(bound.run()) }
}

impl Serving {
    async fn tools(&self) -> Tools {
        let server = Mcp::http(&self.url).connect().await.unwrap();
        Tools::new().with_all(server.tools().await.unwrap())
    }

    async fn stopped(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn double() -> impl Tool {
    function("double", "Doubles a number", |Number { n }| async move { Ok(n * 2) })
}

async fn call(tools: &Tools, name: &str, arguments: Value) -> (Option<ToolFault>, String) {
    let result = tools.call(&ToolCall::new("1", name, arguments), &Context::detached()).await.unwrap();
    (result.fault, result.text)
}

#[tokio::test]
async fn errors_and_panics_are_results_and_the_server_goes_on() {
    let fails =
        function("fails", "Fails", |_: Nothing| async { flowstone_core::Result::<()>::Err("no such table".into()) });
    let panics = function("panics", "Panics", |_: Nothing| async {
        assert!(std::hint::black_box(false), "a bug");
        Ok(())
    });
    let server = serving(Tools::new().with(double()).with(fails).with(panics)).await;
    let tools = server.tools().await;

    let failed = call(&tools, "fails", json!({})).await;
    let panicked = call(&tools, "panics", json!({})).await;
    let good = call(&tools, "double", json!({ "n": 21 })).await;

    let text = |what: &str| format!("the tool failed: MCP server `tested`: tool `{what}");
    assert_eq!(failed, (Some(ToolFault::Failed), text("fails`: the tool failed: no such table")));
    assert_eq!(panicked, (Some(ToolFault::Failed), text("panics`: the tool panicked: a bug")));
    assert_eq!(good, (None, "42".to_owned()));
    server.stopped().await;
}

#[tokio::test]
async fn a_call_is_a_run_with_the_options_of_the_server() {
    let asks = function_with_context("asks", "Asks", |_: Nothing, cx: Context| async move {
        Ok(format!("{} {}", cx.node(), cx.budget().is_some()))
    });
    let options = RunOptions::new().budget(Budget::new().calls(1));
    let server = mcp::serve("tested", Tools::new().with(asks)).options(options).bind("127.0.0.1:0").await.unwrap();
    let (url, task) = (server.url(), tokio::spawn(server.run()));
    let client = Mcp::http(url).connect().await.unwrap();

    let said = client.tools().await.unwrap().remove(0).call(json!({}), &Context::detached()).await;

    assert_eq!(said.map_err(|error| error.to_string()).unwrap(), "call true");
    task.abort();
}

#[tokio::test]
async fn a_call_that_is_taken_back_is_dropped() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dropped);
    let waits = function("waits", "Waits", move |_: Nothing| {
        let flag = Dropped(Arc::clone(&flag));
        async move {
            std::future::pending::<()>().await;
            drop(flag);
            Ok(())
        }
    });
    let server = serving(Tools::new().with(waits)).await;
    let tools = server.tools().await.timeout(Duration::from_millis(200));

    let (fault, _) = call(&tools, "waits", json!({})).await;

    assert_eq!(fault, Some(ToolFault::Failed));
    tokio::time::timeout(Duration::from_secs(5), async {
        while !dropped.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    server.stopped().await;
}

#[tokio::test]
async fn a_server_that_stops_finishes_the_calls_under_way() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let waits = function("waits", "Waits", {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        move |_: Nothing| {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move {
                begun.notify_one();
                go_on.notified().await;
                Ok("done")
            }
        }
    });
    let Serving { url, stop, task } = serving(Tools::new().with(waits)).await;
    let server = Mcp::http(url).connect().await.unwrap();
    let tools = Tools::new().with_all(server.tools().await.unwrap());

    let under_way = tokio::spawn(async move { call(&tools, "waits", json!({})).await });
    begun.notified().await;
    stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    go_on.notify_one();

    assert_eq!(under_way.await.unwrap(), (None, "done".to_owned()));
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_for_another_host_or_of_a_web_page_is_refused() {
    let server = serving(Tools::new().with(double())).await;
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "raw", "version": "1" },
    } });
    let status = async |header: &str, value: &str| {
        let request = reqwest::Client::new().post(&server.url).header(header, value).json(&hello);
        request.header("accept", "application/json, text/event-stream").send().await.unwrap().status().as_u16()
    };

    assert_eq!(status("x-nothing", "1").await, 200);
    assert_eq!(status("host", "rebound.example.org").await, 403);
    assert_eq!(status("origin", "http://rebound.example.org").await, 403);
    assert_eq!(status("origin", "null").await, 403);
    server.stopped().await;
}

#[tokio::test]
async fn an_address_that_is_open_to_others_needs_its_name() {
    let tools = || Tools::new().with(double());

    let open = mcp::serve("tested", tools()).bind("0.0.0.0:0").await.unwrap_err();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = mcp::serve("tested", tools()).bind(taken.local_addr().unwrap().to_string()).await.unwrap_err();

    assert!(matches!(open, ServeError::Open { .. }));
    assert!(matches!(taken, ServeError::Listen { .. }));
}

#[tokio::test]
async fn tools_that_are_wrong_are_not_served() {
    let error = mcp::serve("tested", Tools::new().with(double()).with(double())).stdio().await.unwrap_err();

    assert!(matches!(error, ServeError::Tools(_)));
}

#[tokio::test]
async fn a_client_connects_again_after_the_server_was_started_anew() {
    let port = crate::peers::free_port();
    let address = format!("127.0.0.1:{port}");
    let first = serving_at(&address, Tools::new().with(double())).await;
    let tools = first.tools().await;
    first.stopped().await;

    let gone = call(&tools, "double", json!({ "n": 1 })).await;
    let second = serving_at(&address, Tools::new().with(double())).await;
    let back = call(&tools, "double", json!({ "n": 1 })).await;

    assert_eq!(gone.0, Some(ToolFault::Failed));
    assert_eq!(back, (None, "2".to_owned()));
    second.stopped().await;
}

#[tokio::test]
async fn a_token_goes_to_the_server_and_is_shown_nowhere() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(500).set_body_string("the token secret-token is bad");
    wiremock::Mock::given(matchers::header("authorization", "Bearer secret-token"))
        .respond_with(answer)
        .expect(1..)
        .mount(&server)
        .await;
    let mcp = Mcp::http(format!("{}/mcp?key=also-secret", server.uri())).token("secret-token");

    let shown = format!("{mcp:?}");
    let error = mcp.connect().await.unwrap_err();

    let shown = format!("{shown} {error} {error:?}");
    assert!(!shown.contains("secret-token") && !shown.contains("also-secret"), "{shown}");
    assert!(matches!(error.failure, McpFailure::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn what_keeps_a_client_out_is_said() {
    let locked = MockServer::start().await;
    wiremock::Mock::given(matchers::any()).respond_with(ResponseTemplate::new(401)).mount(&locked).await;
    let page = MockServer::start().await;
    let html = ResponseTemplate::new(200).set_body_raw("<html>hello</html>", "text/html");
    wiremock::Mock::given(matchers::any()).respond_with(html).mount(&page).await;

    let unauthorized = Mcp::http(locked.uri()).named("wiki").connect().await.unwrap_err();
    let no_server = Mcp::http(page.uri()).named("wiki").connect().await.unwrap_err();
    let nobody = format!("http://127.0.0.1:{}/mcp", crate::peers::free_port());
    let nobody = Mcp::http(nobody).named("wiki").connect().await.unwrap_err();
    let no_address = Mcp::http("wiki").named("wiki").connect().await.unwrap_err();

    assert!(matches!(unauthorized.failure, McpFailure::Unauthorized), "{unauthorized}");
    assert!(matches!(no_server.failure, McpFailure::Protocol { .. } | McpFailure::Unreachable { .. }), "{no_server}");
    assert!(nobody.to_string().contains("refused"), "{nobody}");
    assert!(matches!(no_address.failure, McpFailure::Address { .. }), "{no_address}");
}
