//! Replies of services, each whole and streamed, in `tests/replies`: both make the same reply, wherever the bytes are
//! cut.
//!
//! A file is a case. Its name begins with its wire. `## whole` and `## stream` are what is sent, `## reply` what comes
//! of both: a reply, or a line `failure: …`. With `UPDATE_EXPECT=1` the last section is written anew. `## heard` is the
//! text that is heard of the stream, where that is not what the reply says in the end.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use flowstone_core::Context;
use flowstone_llm::{Failure, Message, Model, Reply, Request, ToolCall, ToolResult};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Mutex,
};

use crate::client::{failed, failure, listened};

/// The number of variations of each stream.
const VARIATIONS: u64 = 12;

struct Case {
    path: PathBuf,
    name: String,
    text: String,
}

impl Case {
    fn all() -> Vec<Self> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/replies");
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let case = |path: PathBuf| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            Self { name, text: fs::read_to_string(&path).unwrap(), path }
        };
        paths.into_iter().map(case).collect()
    }

    fn section(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.text.split_once(&format!("\n## {name}\n"))?;
        Some(rest.split("\n## ").next().unwrap_or(rest).trim_matches('\n'))
    }

    fn wire(&self) -> &str {
        self.name.split('-').next().unwrap()
    }

    fn request(&self) -> Request {
        let mut messages = vec![Message::user("Where is Rome?")];
        if self.text.contains("\n## after results\n") {
            messages.push(Reply::of_calls([ToolCall::new("t", "look", json!({}))]).message);
            let result = ToolResult { id: "t".into(), name: "look".into(), text: "Italy".into(), fault: None };
            messages.push(Message::tool_results([result]));
        }
        Request::new(messages)
    }

    /// Returns the reply that the file expects.
    fn expected(&self) -> Value {
        let text = self.section("reply").unwrap_or_default();
        serde_json::from_str(text).unwrap_or_else(|_| text.into())
    }

    fn write(&self, came: &Value) {
        let (before, _) = self.text.split_once("\n## reply\n").unwrap();
        let shown = came.as_str().map_or_else(|| serde_json::to_string_pretty(came).unwrap(), str::to_owned);
        fs::write(&self.path, format!("{before}\n## reply\n{shown}\n")).unwrap();
    }
}

/// A service that gives every request the same answer, a chunk of HTTP for each piece.
struct Service {
    port: u16,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(Mutex::new(Vec::new()));
        let given = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 65_536];
                let mut read = 0;
                while !String::from_utf8_lossy(&buffer[..read]).trim_end().ends_with('}') {
                    match stream.read(&mut buffer[read..]).await {
                        Ok(count) if count > 0 => read += count,
                        _ => break,
                    }
                }
                let _gone = stream.write_all(&given.lock().await).await;
            }
        });
        Self { port, answer }
    }

    /// Sets the answer, cut into pieces of these lengths.
    async fn answers(&self, kind: &str, body: &[u8], mut piece: impl FnMut() -> usize) {
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\ncontent-type: ";
        let mut answer = format!("{head}{kind}\r\n\r\n").into_bytes();
        let mut rest = body;
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(piece().clamp(1, rest.len()));
            answer.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
            rest = more;
        }
        answer.extend(b"0\r\n\r\n");
        *self.answer.lock().await = answer;
    }

    fn model(&self, wire: &str) -> Model {
        let host = format!("http://127.0.0.1:{}", self.port);
        let connect = match wire {
            "openai" => Model::connect(&format!("{host}/v1#tiny")),
            "anthropic" => Model::connect("anthropic:claude-x").base_url(&host),
            "gemini" => Model::connect("gemini:gemini-x").base_url(&host),
            "responses" => Model::connect("openai:gpt-5-x").base_url(&host),
            "ollama" => Model::connect("ollama:llama").base_url(&host),
            other => panic!("no wire is called {other}"),
        };
        let connect = if wire == "ollama" { connect } else { connect.key("a key of the test") };
        connect.timeout(Duration::from_secs(10)).build().unwrap()
    }

    /// Asks, and says what came.
    async fn ask(&self, case: &Case, streamed: bool) -> Value {
        let (model, request) = (self.model(case.wire()), case.request());
        if streamed {
            let (result, heard) = listened(&model, request, 1).await;
            match result {
                Ok(reply) => {
                    let text: String = heard.iter().filter(|piece| !piece.starts_with('(')).cloned().collect();
                    let said = reply.text();
                    let heard = case.section("heard").unwrap_or(&said);
                    assert_eq!(text, heard, "{}: what was heard is what was said", case.name);
                    serde_json::to_value(reply).unwrap()
                }
                Err(error) => described(failed(&error).0, !heard.is_empty()),
            }
        } else {
            match model.chat(&request, &Context::detached()).await {
                Ok(reply) => serde_json::to_value(reply).unwrap(),
                Err(error) => described(failure(&error), false),
            }
        }
    }
}

/// A failure in a line. That part of the reply was shown before is no difference between the whole and the stream.
fn described(failure: &Failure, shown: bool) -> Value {
    const SHOWN: &str = " after part of it was shown";
    let (kind, text) = (format!("{failure:?}"), failure.to_string());
    assert!(text.contains(SHOWN) <= shown, "{text}");
    format!("failure: {}: {}", kind.split([' ', '{', '(']).next().unwrap(), text.replace(SHOWN, "")).into()
}

fn kind(case: &Case, streamed: bool) -> &'static str {
    match (streamed, case.wire()) {
        (false, _) => "application/json",
        (true, "ollama") => "application/x-ndjson",
        (true, _) => "text/event-stream",
    }
}

#[tokio::test]
async fn a_reply_is_the_same_whole_and_streamed() {
    let service = Service::start().await;
    let mut wrong = Vec::new();
    for case in Case::all() {
        let mut came = Vec::new();
        for (section, streamed) in [("whole", false), ("stream", true)] {
            let Some(body) = case.section(section) else { continue };
            let body = if streamed { format!("{body}\n\n") } else { body.to_owned() };
            service.answers(kind(&case, streamed), body.as_bytes(), || usize::MAX).await;
            came.push((section, service.ask(&case, streamed).await));
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            case.write(&came[0].1);
        }
        let expected = if std::env::var_os("UPDATE_EXPECT").is_some() { came[0].1.clone() } else { case.expected() };
        for (section, came) in came {
            if came != expected {
                wrong.push(format!("{}, {section}:\n{came:#}\nand not\n{expected:#}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Bytes cut anywhere, comments, other ends of lines, empty lines, other orders, unknown fields, fields that are
/// `null`.
#[tokio::test]
async fn what_makes_no_difference_makes_none() {
    let service = Service::start().await;
    for case in Case::all() {
        let expected = case.expected();
        for (section, streamed) in [("whole", false), ("stream", true)] {
            let Some(body) = case.section(section) else { continue };
            for seed in 0..VARIATIONS {
                let mut numbers = Numbers(seed * 7_919 + 1);
                let varied = vary(&case, body, streamed, &mut numbers);
                let most = [1, 2, 7, 64, 4_096][numbers.below(5)];
                service.answers(kind(&case, streamed), varied.as_bytes(), || 1 + numbers.below(most)).await;

                let came = service.ask(&case, streamed).await;

                // A service's own words may show what was varied.
                assert_eq!(kind_of(&came), kind_of(&expected), "{}, {section}, seed {seed}:\n{varied}", case.name);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_off_is_no_other_reply() {
    let service = Service::start().await;
    for case in Case::all() {
        let (Some(body), expected) = (case.section("stream"), case.expected()) else { continue };
        let mut numbers = Numbers(7);
        for _ in 0..VARIATIONS {
            let cut = body.floor_char_boundary(numbers.below(body.len()));
            service.answers(kind(&case, true), &body.as_bytes()[..cut], || usize::MAX).await;

            let came = service.ask(&case, true).await;

            // Counts may still be missing once the reply has said why it ends.
            let same = (&came["message"], &came["finish"]) == (&expected["message"], &expected["finish"]);
            assert!(same || came.is_string(), "{}, cut at {cut}: {came:#}", case.name);
        }
    }
}

fn kind_of(came: &Value) -> &Value {
    static UNKNOWN: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| "failure: Malformed".into());
    let is_unknown = came.as_str().is_some_and(|failure| failure.starts_with("failure: Malformed"));
    if is_unknown { &UNKNOWN } else { came }
}

/// Numbers that look random, and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn sometimes(&mut self) -> bool {
        self.below(3) == 0
    }
}

fn vary(case: &Case, body: &str, streamed: bool, numbers: &mut Numbers) -> String {
    if !streamed {
        let json = varied(case.wire(), serde_json::from_str(body).unwrap(), numbers);
        return if numbers.sometimes() { format!(" \n{json:#}\n") } else { json.to_string() };
    }
    if case.wire() == "ollama" {
        let lines =
            body.lines().map(|line| varied(case.wire(), serde_json::from_str(line).unwrap(), numbers).to_string());
        let mut text = lines.collect::<Vec<_>>().join("\n");
        if numbers.sometimes() {
            text += "\n\n";
        }
        return text;
    }
    let end = ["\n", "\r\n", "\r"][numbers.below(3)];
    let mut text = String::new();
    for event in body.split("\n\n") {
        if numbers.sometimes() {
            text += &format!(": a comment{end}{end}");
        }
        for line in event.lines() {
            let line = match line.strip_prefix("data: ").map(serde_json::from_str::<Value>) {
                Some(Ok(json)) => {
                    format!("data:{}{}", if numbers.sometimes() { "" } else { " " }, varied(case.wire(), json, numbers))
                }
                _ => line.to_owned(),
            };
            text += &format!("{line}{end}");
            if numbers.sometimes() {
                text += &format!(":{end}retry: 3000{end}unknown: field{end}");
            }
        }
        text += end;
        if numbers.sometimes() {
            text += end;
        }
    }
    // The last event may lack its empty line.
    if numbers.sometimes() { text.trim_end().to_owned() } else { text }
}

/// A frame that means the same.
fn varied(wire: &str, mut frame: Value, numbers: &mut Numbers) -> Value {
    let optional: &[&str] = match wire {
        "openai" => &["error", "usage", "system_fingerprint", "service_tier", "created"],
        "anthropic" => &["error"],
        "gemini" => &["promptFeedback", "createTime", "error"],
        "ollama" => &["error", "done_reason", "eval_duration"],
        _ => &["sequence_number"],
    };
    add(&mut frame, optional, numbers);
    for path in ["/choices/0", "/candidates/0"] {
        if let Some(choice) = frame.pointer_mut(path) {
            add(
                choice,
                &["logprobs", "finish_reason", "finishReason", "error", "usage", "content_filter_results"],
                numbers,
            );
        }
    }
    for path in ["/choices/0/message", "/choices/0/delta"] {
        if let Some(message) = frame.pointer_mut(path) {
            let fields = [
                "content",
                "refusal",
                "tool_calls",
                "function_call",
                "reasoning",
                "reasoning_content",
                "audio",
                "role",
                "reasoning_details",
            ];
            add(message, &fields, numbers);
        }
    }
    for path in ["/message", "/response", "/content_block", "/delta"] {
        if let Some(inner) = frame.pointer_mut(path).filter(|inner| inner.is_object()) {
            let of_text = inner.get("type").is_some() && path == "/content_block";
            let fields: &[&str] =
                if of_text { &["citations"] } else { &["stop_sequence", "thinking", "images", "container"] };
            nulls(inner, fields, numbers);
        }
    }
    reorder(frame, numbers)
}

/// Adds fields that are `null`, and one that nobody knows.
fn add(object: &mut Value, optional: &[&str], numbers: &mut Numbers) {
    nulls(object, optional, numbers);
    if let (Some(fields), true) = (object.as_object_mut(), numbers.sometimes()) {
        fields.insert("x_unknown".to_owned(), json!({ "a": [1, "two"] }));
    }
}

fn nulls(object: &mut Value, optional: &[&str], numbers: &mut Numbers) {
    let Some(fields) = object.as_object_mut() else { return };
    for name in optional {
        if numbers.sometimes() {
            fields.entry(*name).or_insert(Value::Null);
        }
    }
}

/// Puts the fields of all objects in another order.
fn reorder(value: Value, numbers: &mut Numbers) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, reorder(value, numbers))).collect();
            for at in (1..fields.len()).rev() {
                fields.swap(at, numbers.below(at + 1));
            }
            Value::Object(Map::from_iter(fields))
        }
        Value::Array(values) => values.into_iter().map(|value| reorder(value, numbers)).collect(),
        other => other,
    }
}
