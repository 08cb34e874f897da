//! Servers that die, lie and never answer: what a flow is told, and that it can go on.

use std::{path::Path, time::Duration};

use flowstone_core::Context;
use flowstone_llm::{
    ToolCall, ToolFault, ToolResult, Tools,
    mcp::{Mcp, McpFailure, McpServer},
};
use serde_json::json;

use crate::peers::Peer;

const SERVER: &str = env!("CARGO_BIN_EXE_mcp-server");
const SECRET: &str = "sk-do-not-show-this";

/// The longest that a server may take for a sign of life, and a moment more.
const ALIVE: Duration = Duration::from_millis(5_010);

pub(crate) fn server(mode: &str) -> Mcp {
    Mcp::stdio(SERVER, [mode]).env("SECRET", SECRET)
}

pub(crate) async fn connected(mode: &str) -> (McpServer, Tools) {
    let server = server(mode).connect().await.unwrap();
    let tools = Tools::new().with_all(server.tools().await.unwrap());
    (server, tools)
}

pub(crate) async fn call(tools: &Tools, name: &str) -> ToolResult {
    tools.call(&ToolCall::new("1", name, json!({})), &Context::detached()).await.unwrap()
}

async fn pid(tools: &Tools) -> u32 {
    call(tools, "pid").await.text.parse().unwrap()
}

/// Waits until a process is gone.
async fn is_gone(pid: u32) -> bool {
    for _ in 0..800 {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn a_server_that_dies_in_a_call_fails_the_call_and_is_started_anew_by_the_next() {
    let (_server, tools) = connected("good").await;
    let first = pid(&tools).await;

    let died = call(&tools, "die").await;
    let (second, third) = tokio::join!(pid(&tools), pid(&tools));

    assert_eq!(died.fault, Some(ToolFault::Failed));
    assert_eq!(
        died.text,
        "the tool failed: MCP server `misbehaving`: tool `die`: it ended, or closed the connection; the last that it \
         printed is:\nout of memory, with key ***"
    );
    assert_ne!(first, second);
    assert_eq!(second, third, "two calls at once start one server");
    assert!(is_gone(first).await);
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why_and_keeps_its_secret() {
    let error = server("exits").named("base").connect().await.unwrap_err();

    assert!(matches!(error.failure, McpFailure::Ended { .. }));
    assert_eq!(
        error.to_string(),
        "MCP server `base`: connect: it ended, or closed the connection; the last that it printed is:\n\
         cannot open the database\nthe key is ***"
    );
    assert!(!format!("{error:?} {:?}", server("exits")).contains(SECRET));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time() {
    let error = server("mute").timeout(Duration::from_millis(200)).connect().await.unwrap_err();

    assert_eq!(error.to_string(), "MCP server `mcp-server`: connect: nothing came within 200ms");
}

#[tokio::test]
async fn a_server_without_the_handshake_of_before_2026_is_met_as_it_likes() {
    let (_server, tools) = connected("modern").await;

    assert_eq!(call(&tools, "truth").await.text, r#"{"n":7}"#);
}

#[tokio::test]
async fn garbage_and_endless_lines_are_passed_over() {
    let (_server, tools) = connected("good").await;

    assert_eq!(call(&tools, "garbage").await.text, "still here");
    assert_eq!(call(&tools, "huge").await.text, "still here");
}

#[tokio::test]
async fn a_tool_without_a_schema_is_named_and_the_others_stay_usable() {
    let (server, tools) = connected("lies").await;

    let refused = tools.check().unwrap_err().to_string();
    let usable = tools.only(["pid", "truth"]);

    for tool in ["text.for/schema", "strange_type", "strange_result"] {
        assert!(refused.contains(&format!("MCP server `misbehaving`: tool `{tool}`: ")), "{refused}");
    }
    usable.check().unwrap();
    assert_eq!(call(&usable, "truth").await.text, r#"{"n":7}"#);
    assert_eq!(server.name(), "misbehaving");
}

#[tokio::test]
async fn a_result_that_is_not_as_its_schema_says_is_an_error_that_names_the_place() {
    let (_server, tools) = connected("good").await;

    let lie = call(&tools, "lie").await;
    let silence = call(&tools, "lie_by_silence").await;

    assert_eq!((lie.fault, silence.fault), (Some(ToolFault::Failed), Some(ToolFault::Failed)));
    assert_eq!(
        lie.text,
        "the tool failed: MCP server `misbehaving`: tool `lie`: it does not keep to its schema: its result does not fit: \
         at `/n`: \"many\" is not of type \"integer\""
    );
    assert!(silence.text.ends_with("it has a schema for its result, and the result has no structure"));
}

#[tokio::test]
async fn a_tool_that_says_that_it_failed_has_failed() {
    let (_server, tools) = connected("good").await;

    let refused = call(&tools, "refuse").await;

    assert_eq!(refused.fault, Some(ToolFault::Failed));
    assert_eq!(refused.text, "the tool failed: MCP server `misbehaving`: tool `refuse`: no such city");
}

#[tokio::test]
async fn what_is_no_text_is_named_and_left_out() {
    let (_server, tools) = connected("good").await;

    assert_eq!(
        call(&tools, "image").await.text,
        "a cat\n[an image of image/png, 6 bytes, left out]\n[the resource cat://1: The cat]\n[the resource cat://2]\nmeow"
    );
}

#[tokio::test]
async fn a_list_is_read_to_its_end_and_one_without_an_end_is_refused() {
    let (_server, tools) = connected("pages").await;
    let endless = server("endless").connect().await.unwrap().tools().await.unwrap_err();
    let circle = server("circle").connect().await.unwrap().tools().await.unwrap_err();

    assert_eq!(tools.len(), 300);
    assert!(endless.to_string().ends_with("its list does not come to an end after 10100 entries"), "{endless}");
    assert!(circle.to_string().ends_with("its list does not come to an end after 2 entries"), "{circle}");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_taken_back() {
    let (_server, tools) = connected("good").await;
    let tools = tools.timeout(Duration::from_millis(200));

    let slow = call(&tools, "never").await;

    assert_eq!(slow.fault, Some(ToolFault::Failed));
    assert_eq!(call(&tools, "taken_back").await.text, "1");
}

#[tokio::test]
async fn a_server_that_is_silent_after_a_call_that_was_given_up_is_started_anew() {
    let (_server, tools) = connected("good").await;
    let first = pid(&tools).await;

    let given_up = call(&tools.clone().timeout(Duration::from_millis(200)), "hang").await;
    // The sign of life that it is asked for does not come: that time passes at once.
    tokio::time::pause();
    let resumes = async {
        tokio::time::sleep(ALIVE).await;
        tokio::time::resume();
    };
    let (second, ()) = tokio::join!(pid(&tools), resumes);

    assert_eq!(given_up.fault, Some(ToolFault::Failed));
    assert_ne!(first, second);
    assert!(is_gone(first).await);
}

#[tokio::test]
async fn a_server_that_answers_after_a_call_that_was_given_up_is_kept() {
    let (_server, tools) = connected("good").await;
    let first = pid(&tools).await;

    call(&tools.clone().timeout(Duration::from_millis(200)), "never").await;

    assert_eq!(pid(&tools).await, first);
}

/// Only one call is under way: an error that names none is its own.
#[tokio::test]
async fn an_error_without_an_id_belongs_to_the_only_call() {
    let (_server, tools) = connected("good").await;

    let nameless = call(&tools, "nameless").await;

    assert_eq!(nameless.fault, Some(ToolFault::Failed));
    assert!(nameless.text.contains("this cannot be read"), "{}", nameless.text);
    assert_eq!(call(&tools, "truth").await.fault, None);
}

#[tokio::test]
async fn a_server_ends_with_its_last_handle_also_if_it_does_not_want_to() {
    for mode in ["good", "stubborn"] {
        let (server, tools) = connected(mode).await;
        let pid = pid(&tools).await;

        drop(server);
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "its tools need it");
        drop(tools);

        assert!(is_gone(pid).await, "{mode}");
    }
}

#[test]
fn a_server_ends_with_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (server, pid) = runtime.block_on(async {
        let (server, tools) = connected("stubborn").await;
        (server, pid(&tools).await)
    });

    drop(runtime);

    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(other.block_on(is_dead(pid)));
    drop(server);
}

/// Waits until a process has ended, also if nobody has asked how.
async fn is_dead(pid: u32) -> bool {
    for _ in 0..800 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        if status.map_or(true, |status| status.contains(") Z ")) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn a_server_has_no_variables_but_the_usual_and_its_own() {
    let (_server, tools) = connected("good").await;

    let variables = call(&tools, "env").await.text;

    let variables: Vec<&str> = variables.split_whitespace().collect();
    assert!(variables.contains(&"SECRET") && variables.contains(&"PATH"), "{variables:?}");
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok() && !variables.contains(&"CARGO_MANIFEST_DIR"));
}

#[tokio::test]
async fn tools_of_two_servers_differ_by_their_prefix() {
    let first = server("good").prefix("first.").connect().await.unwrap();
    let second = server("good").prefix("second_").connect().await.unwrap();

    let tools = Tools::new().with_all(first.tools().await.unwrap()).with_all(second.tools().await.unwrap());

    tools.check().unwrap();
    let tools = tools.only(["first_pid", "second_pid"]);
    tools.check().unwrap();
    assert_ne!(call(&tools, "first_pid").await.text, call(&tools, "second_pid").await.text);
}

#[tokio::test]
async fn a_server_that_was_closed_has_ended() {
    let (server, tools) = connected("good").await;
    let pid = pid(&tools).await;

    server.close().await;

    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_server_over_http_that_dies_in_a_call_is_found_again_when_it_is_back() {
    let start = |port: u16| {
        let mut command = std::process::Command::new(SERVER);
        command.arg("http").arg(port.to_string());
        command
    };
    let first = Peer::start(start);
    let port = first.port();
    let server = Mcp::http(format!("http://127.0.0.1:{port}/mcp")).connect().await.unwrap();
    let tools = Tools::new().with_all(server.tools().await.unwrap());
    assert_eq!(pid(&tools).await, first.id());

    let died = call(&tools, "die").await;
    let gone = call(&tools, "pid").await;
    let second = Peer::start_at(port, start(port));
    let back = pid(&tools).await;

    assert_eq!((died.fault, gone.fault), (Some(ToolFault::Failed), Some(ToolFault::Failed)));
    assert_eq!(died.text, "the tool failed: MCP server `mortal`: tool `die`: it ended, or closed the connection");
    assert!(gone.text.contains("refused"), "{}", gone.text);
    assert_eq!(back, second.id());
}
