//! Servers of the Model Context Protocol, as the tests start them: a flow over stdio, one that misbehaves there, and
//! one over HTTP that dies.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a server for tests")]

use std::{
    env,
    io::{BufRead, Write, stdin, stdout},
    process, thread,
    time::Duration,
};

use flowstone_core::AsyncFlow;
use flowstone_llm::{Tools, flow_tool, function, mcp};
use serde_json::{Value, json};

fn main() {
    let mode = env::args().nth(1).unwrap_or_default();
    match mode.as_str() {
        "flow" => flow(),
        "http" => http(),
        "exits" => {
            eprintln!("cannot open the database\nthe key is {}", env::var("SECRET").unwrap_or_default());
            process::exit(3);
        }
        "mute" => loop {
            thread::sleep(Duration::from_secs(60));
        },
        mode => misbehave(mode),
    }
}

/// Serves a flow of two nodes.
fn flow() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Words {
        /// The text to count the words of
        text: String,
    }
    #[derive(serde::Serialize, serde::Deserialize)]
    struct State {
        text: String,
        words: usize,
    }

    let mut flow = AsyncFlow::builder("count");
    let trim = flow.add("trim", |state: &mut State| state.text = state.text.trim().to_owned());
    let count = flow.add("count", |state: &mut State| state.words = state.text.split_whitespace().count());
    flow.start(trim);
    flow.route(trim >> count);
    let tool = flow_tool(
        "count_words",
        "Counts words",
        flow.build().unwrap(),
        |Words { text }| State { text, words: 0 },
        |state: State| json!({ "words": state.words }),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(mcp::serve("counter", Tools::new().with(tool)).stdio()).unwrap();
}

/// Serves at a port until a call ends it.
fn http() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Nothing {}

    let pid = function("pid", "Says its number", |_: Nothing| async { Ok(process::id()) });
    let die = function("die", "Dies", |_: Nothing| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        process::exit(1);
        #[expect(unreachable_code, reason = "it says what the tool would return")]
        Ok(())
    });
    let address = format!("127.0.0.1:{}", env::args().nth(2).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = mcp::serve("mortal", Tools::new().with(pid).with(die)).bind(address).await.unwrap();
        server.run().await.unwrap();
    });
}

/// Answers line after line, by hand, and not always as it should.
fn misbehave(mode: &str) {
    let (mut taken_back, mut grown) = (0, false);
    for line in stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if request["method"] == "notifications/cancelled" {
            taken_back += 1;
        }
        let Some(id) = request.get("id") else { continue };
        if mode == "modern" && request["method"] == "initialize" {
            let error = json!({ "code": -32601, "message": "what is that?" });
            say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string());
            continue;
        }
        grown |= request["params"]["name"] == "grow";
        let result = match request["method"].as_str().unwrap() {
            "server/discover" => json!({
                "supportedVersions": ["2026-07-28"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "modern", "version": "1" },
                "resultType": "complete",
                "ttlMs": 0,
                "cacheScope": "private",
            }),
            "initialize" => json!({
                "protocolVersion": request["params"]["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "misbehaving", "version": "1" },
            }),
            "tools/list" => tools(mode, request["params"]["cursor"].as_str(), grown),
            // From here on it reads nothing.
            "tools/call" if request["params"]["name"] == "hang" => loop {
                thread::sleep(Duration::from_secs(60));
            },
            "tools/call" if request["params"]["name"] == "nameless" => {
                let error = json!({ "code": -32700, "message": "this cannot be read" });
                say(&json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string());
                continue;
            }
            "tools/call" => match call(&request["params"], taken_back) {
                Some(result) => result,
                None => continue,
            },
            _ => json!({}),
        };
        say(&json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string());
    }
    if mode == "stubborn" {
        thread::sleep(Duration::from_secs(60));
    }
}

fn tools(mode: &str, cursor: Option<&str>, grown: bool) -> Value {
    let page: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
    let tool = |name: String| json!({ "name": name, "inputSchema": { "type": "object" } });
    match mode {
        "pages" | "endless" => {
            let next = (page < 2 || mode == "endless").then(|| (page + 1).to_string());
            let tools: Vec<Value> = (0..100).map(|n| tool(format!("tool-{}", page * 100 + n))).collect();
            json!({ "tools": tools, "nextCursor": next })
        }
        "circle" => json!({ "tools": [tool("one".to_owned())], "nextCursor": "1" }),
        _ => {
            let names = [
                "die",
                "env",
                "garbage",
                "grow",
                "hang",
                "huge",
                "image",
                "nameless",
                "never",
                "pid",
                "refuse",
                "taken_back",
            ];
            let mut tools: Vec<Value> = names.map(|name| tool(name.to_owned())).into();
            if grown {
                tools.retain(|tool| tool["name"] != "env");
                tools.push(tool("grown".to_owned()));
            }
            let promise = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
            for name in ["lie", "lie_by_silence", "truth"] {
                tools.push(json!({ "name": name, "inputSchema": {}, "outputSchema": promise }));
            }
            if mode == "lies" {
                tools.push(json!({ "name": "text.for/schema", "inputSchema": "whatever you like" }));
                tools.push(json!({ "name": "strange_type", "inputSchema": { "type": "object", "required": 7 } }));
                let strange = json!({ "type": "strange" });
                tools.push(json!({ "name": "strange_result", "inputSchema": {}, "outputSchema": strange }));
            }
            json!({ "tools": tools })
        }
    }
}

/// Returns the result of a tool; nothing if it never answers.
fn call(parameters: &Value, taken_back: usize) -> Option<Value> {
    let text = |text: String| Some(json!({ "content": [{ "type": "text", "text": text }] }));
    match parameters["name"].as_str().unwrap() {
        "die" => {
            eprintln!("out of memory, with key {}", env::var("SECRET").unwrap_or_default());
            process::exit(1);
        }
        "env" => text(env::vars().map(|(name, _)| name).collect::<Vec<_>>().join(" ")),
        "garbage" => {
            say("Server started!");
            say("{\"jsonrpc\": \"2.0\", \"what\": 1}");
            say("[1, 2, 3]");
            say("\u{0}\u{1}{{{{");
            text("still here".to_owned())
        }
        "grown" => text("I am new".to_owned()),
        "grow" => {
            say(&json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }).to_string());
            text("there are more tools now".to_owned())
        }
        "huge" => {
            // More than a line may have: it is thrown away as it comes.
            (0..40).for_each(|_| print!("{}", "x".repeat(1 << 20)));
            say("");
            text("still here".to_owned())
        }
        "image" => Some(json!({ "content": [
            { "type": "text", "text": "a cat" },
            { "type": "image", "mimeType": "image/png", "data": "AAAAAAAA" },
            { "type": "resource_link", "uri": "cat://1", "name": "cat", "description": "The cat" },
            { "type": "resource", "resource": { "uri": "cat://2", "text": "meow" } },
        ] })),
        "lie" => Some(json!({ "content": [], "structuredContent": { "n": "many" } })),
        "lie_by_silence" => text("1".to_owned()),
        "never" => None,
        "pid" => text(process::id().to_string()),
        "refuse" => Some(json!({ "isError": true, "content": [{ "type": "text", "text": "no such city" }] })),
        "taken_back" => text(taken_back.to_string()),
        "truth" => Some(json!({ "content": [], "structuredContent": { "n": 7 } })),
        name => text(format!("there is no tool {name}")),
    }
}

fn say(line: &str) {
    println!("{line}");
    stdout().flush().unwrap();
}
