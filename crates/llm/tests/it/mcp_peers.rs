//! The protocol against programs that no one here wrote: the MCP project's own servers, and its client.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use flowstone_core::{CancellationToken, Context};
use flowstone_llm::{
    Role, ToolCall, ToolFault, Tools, function,
    mcp::{self, Body, Mcp, McpFailure, McpServer},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::peers;

fn npm(folder: &Path, package: &str, arguments: &[&str]) -> Mcp {
    let program = folder.join("node_modules/@modelcontextprotocol").join(package).join("dist/index.js");
    let arguments = std::iter::once(program.as_os_str()).chain(arguments.iter().map(AsRef::as_ref));
    Mcp::stdio("node", arguments).named(package)
}

async fn everything() -> Option<McpServer> {
    Some(npm(&peers::node()?, "server-everything", &["stdio"]).connect().await.unwrap())
}

async fn tools_of(server: &McpServer) -> Tools {
    Tools::new().with_all(server.tools().await.unwrap())
}

async fn call(tools: &Tools, name: &str, arguments: Value) -> (Option<ToolFault>, String) {
    let result = tools.call(&ToolCall::new("1", name, arguments), &Context::detached()).await.unwrap();
    (result.fault, result.text)
}

#[tokio::test]
async fn everything_gives_its_tools() {
    let Some(server) = everything().await else { return };
    let tools = tools_of(&server).await;

    tools.check().unwrap();
    let echo = call(&tools, "echo", json!({ "message": "hello" })).await;
    let sum = call(&tools, "get-sum", json!({ "a": 1, "b": 2 })).await;
    let wrong = call(&tools, "get-sum", json!({ "a": "one" })).await;
    let weather = call(&tools, "get-structured-content", json!({ "location": "Chicago" })).await;
    let image = call(&tools, "get-tiny-image", json!({})).await;
    let link = call(&tools, "get-resource-links", json!({ "count": 1 })).await;

    assert_eq!(echo, (None, "Echo: hello".to_owned()));
    assert_eq!(sum, (None, "The sum of 1 and 2 is 3.".to_owned()));
    assert_eq!(wrong.0, Some(ToolFault::Misuse), "it does not reach the server");
    let weather: Value = serde_json::from_str(&weather.1).unwrap();
    assert!(weather["temperature"].is_number(), "{weather}");
    assert!(image.1.contains("[an image of image/png, ") && image.1.len() < 500, "{image:?}");
    assert!(link.1.contains("[the resource demo://resource/"), "{link:?}");
    server.close().await;
}

#[tokio::test]
async fn everything_gives_its_resources_and_prompts() {
    let Some(server) = everything().await else { return };

    let resources = server.resources().await.unwrap();
    let read = server.read(&resources[0].uri).await.unwrap();
    let templates = server.resource_templates().await.unwrap();
    let bytes = server.read("demo://resource/dynamic/blob/1").await.unwrap();
    let prompts = server.prompts().await.unwrap();
    let messages = server.prompt("args-prompt", [("city", "Graz")]).await.unwrap();

    assert!(resources.iter().all(|resource| resource.uri.starts_with("demo://")));
    assert!(!read[0].text().unwrap().is_empty());
    assert!(templates.iter().any(|template| template.uri_template == "demo://resource/dynamic/text/{resourceId}"));
    assert!(matches!(&bytes[0].body, Body::Bytes(bytes) if bytes.starts_with(b"Resource 1")), "{bytes:?}");
    let city = &prompts.iter().find(|prompt| prompt.name == "args-prompt").unwrap().arguments[0];
    assert!(city.name == "city" && city.required);
    assert_eq!((messages[0].role, messages[0].text().as_str()), (Role::User, "What's weather in Graz?"));
}

#[tokio::test]
async fn everything_says_what_it_does_not_have() {
    let Some(server) = everything().await else { return };

    let resource = server.read("demo://nothing").await.unwrap_err();
    let prompt = server.prompt("nothing", [("", ""); 0]).await.unwrap_err();
    let argument = server.prompt("args-prompt", [("", ""); 0]).await.unwrap_err();

    for error in [&resource, &prompt, &argument] {
        assert!(matches!(error.failure, McpFailure::Refused { code: -32602, .. }), "{error}");
    }
    assert!(resource.to_string().starts_with("MCP server `server-everything`: read `demo://nothing`: it refuses: "));
}

#[tokio::test]
async fn everything_can_be_interrupted_in_a_long_call() {
    let Some(server) = everything().await else { return };
    let tools = tools_of(&server).await.timeout(Duration::from_millis(300));
    let start = Instant::now();

    let long = call(&tools, "trigger-long-running-operation", json!({ "duration": 30, "steps": 3 })).await;
    let next = call(&tools, "echo", json!({ "message": "still here" })).await;

    assert_eq!(long.0, Some(ToolFault::Failed));
    assert_eq!(next, (None, "Echo: still here".to_owned()));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn the_filesystem_is_read_within_its_folder_and_not_outside() {
    let Some(folder) = peers::node() else { return };
    let files = tempfile::tempdir().unwrap();
    let root = files.path().canonicalize().unwrap();
    std::fs::write(root.join("notes.txt"), "buy milk").unwrap();
    let server = npm(&folder, "server-filesystem", &[root.to_str().unwrap()]).connect().await.unwrap();
    let tools = tools_of(&server).await.only(["list_directory", "read_text_file"]);

    tools.check().unwrap();
    let list = call(&tools, "list_directory", json!({ "path": root })).await;
    let read = call(&tools, "read_text_file", json!({ "path": root.join("notes.txt") })).await;
    let escape = call(&tools, "read_text_file", json!({ "path": root.join("../../etc/passwd") })).await;
    let write = call(&tools, "write_file", json!({ "path": root.join("new.txt"), "content": "x" })).await;

    assert_eq!(list, (None, "[FILE] notes.txt".to_owned()));
    assert_eq!(read, (None, "buy milk".to_owned()), "once, and not again as its structured result");
    assert_eq!(escape.0, Some(ToolFault::Failed));
    assert!(escape.1.contains("Access denied"), "{}", escape.1);
    assert_eq!(write.0, Some(ToolFault::Misuse), "it was left out");
}

#[tokio::test]
async fn the_time_is_converted() {
    let Some(python) = peers::python() else { return };
    let server = Mcp::stdio(python, ["-m", "mcp_server_time"]).connect().await.unwrap();
    let tools = tools_of(&server).await;
    let noon = |zone: &str| json!({ "source_timezone": zone, "time": "12:00", "target_timezone": "Asia/Tokyo" });

    tools.check().unwrap();
    let tokyo = call(&tools, "convert_time", noon("Etc/UTC")).await;
    let nowhere = call(&tools, "convert_time", noon("Nowhere")).await;

    let tokyo: Value = serde_json::from_str(&tokyo.1).unwrap();
    assert_eq!(tokyo["time_difference"], "+9.0h");
    assert_eq!(nowhere.0, Some(ToolFault::Failed));
    assert!(nowhere.1.starts_with("the tool failed: MCP server `mcp-time`: tool `convert_time`: "), "{}", nowhere.1);
}

/// Runs the MCP project's own client, as it begins now and as it began before 2026; gives what it saw.
async fn their_client(python: &Path, calls: Value, place: &[&str]) -> [Value; 2] {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/mcp_client.py");
    let run = async |mode: &str| {
        let mut client = Command::new(python);
        client.arg(&script).arg(mode).arg(calls.to_string()).args(place).stdin(Stdio::null()).kill_on_drop(true);
        let ran = tokio::time::timeout(Duration::from_secs(60), client.output()).await.unwrap().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).unwrap()
    };
    let (now, before) = tokio::join!(run("auto"), run("legacy"));
    [now, before]
}

#[tokio::test]
async fn their_client_calls_a_flow_over_stdio() {
    let Some(python) = peers::python() else { return };
    let calls = json!([["count_words", { "text": "  one two three " }]]);

    for saw in their_client(&python, calls, &[env!("CARGO_BIN_EXE_mcp-server"), "flow"]).await {
        assert_eq!(saw["server"], "counter");
        assert_eq!(saw["tools"], json!(["count_words"]));
        assert_eq!(saw["results"], json!([{ "text": r#"{"words":3}"#, "failed": false }]));
    }
}

#[tokio::test]
async fn their_client_calls_tools_over_http() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Division {
        /// The number that is divided
        of: i64,
        /// The number that it is divided by
        by: i64,
    }

    let Some(python) = peers::python() else { return };
    let divide = function("divide", "Divides", |Division { of, by }: Division| async move {
        of.checked_div(by).ok_or_else(|| "nothing is divided by 0".into())
    });
    let stop = CancellationToken::new();
    let bound = mcp::serve("math", Tools::new().with(divide)).stop(stop.clone()).bind("127.0.0.1:0").await.unwrap();
    let (url, serving) = (bound.url(), tokio::spawn(bound.run()));
    let calls =
        json!([["divide", { "of": 42, "by": 2 }], ["divide", { "of": 42, "by": 0 }], ["divide", { "of": "much" }]]);

    for saw in their_client(&python, calls, &[&url]).await {
        let [good, failed, misused] = saw["results"].as_array().unwrap().as_slice() else { panic!("{saw}") };
        assert_eq!(good, &json!({ "text": "21", "failed": false }));
        assert_eq!(failed, &json!({ "text": "the tool failed: nothing is divided by 0", "failed": true }));
        assert!(misused["failed"] == true && misused["text"].as_str().unwrap().contains("at `/of`: "), "{misused}");
    }
    stop.cancel();
    serving.await.unwrap().unwrap();
}
