//! `#[tool]`: every form that is accepted, called as a model calls it, and as the function that it is.

#![cfg(feature = "llm")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flowstone::{llm::*, prelude::*};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

async fn called(tool: impl Tool, arguments: Value) -> (String, Option<ToolFault>) {
    let name = tool.spec().name;
    let tools = Tools::new().with(tool);
    tools.check().unwrap();
    let result = tools.call(&ToolCall::new("1", name, arguments), &Context::detached()).await.unwrap();
    (result.text, result.fault)
}

async fn text(tool: impl Tool, arguments: Value) -> String {
    let (text, fault) = called(tool, arguments).await;
    assert_eq!(fault, None, "{text}");
    text
}

type Answered<T> = std::result::Result<T, String>;

/// Answers, or not.
#[tool]
async fn answers(
    /// `true` if it fails
    fails: bool,
) -> Answered<u32> {
    if fails { Err("nobody knows".to_owned()) } else { Ok(42) }
}

/// Answers, or not.
#[tool]
fn answers_slowly() -> Answered<u32> {
    Err("nobody knows".to_owned())
}

#[tokio::test]
async fn an_error_is_one_whatever_the_result_is_called() {
    let failed = ("the tool failed: nobody knows".to_owned(), Some(ToolFault::Failed));

    assert_eq!(text(answers {}, json!({ "fails": false })).await, "42");
    assert_eq!(called(answers {}, json!({ "fails": true })).await, failed);
    assert_eq!(called(answers_slowly {}, json!({})).await, failed);
}

/// A service. It and what is below are `pub`, so that the lints look at what the macro writes, too.
#[derive(Debug)]
pub struct Docs(Vec<&'static str>);

/// A document that was found.
#[derive(Debug, PartialEq, Serialize)]
pub struct Hit {
    title: String,
    place: usize,
}

/// Nothing was found.
#[derive(Debug)]
pub struct NotFound(String);

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing about {}", self.0)
    }
}

impl std::error::Error for NotFound {}

/// Searches the documents.
///
/// Call it before you answer:
///   - once for each word
#[tool]
pub async fn search(
    docs: &Docs,
    /// The words to look for
    query: String,
    /// The most documents
    /// to find
    limit: Option<usize>,
    cx: &Context,
) -> Result<Vec<Hit>, NotFound> {
    assert!(!cx.cancelled());
    let found = docs.0.iter().enumerate().filter(|(_, doc)| doc.contains(&query));
    let hit = |(place, title): (usize, &&str)| Hit { title: (*title).to_owned(), place };
    let hits: Vec<Hit> = found.take(limit.unwrap_or(10)).map(hit).collect();
    if hits.is_empty() { Err(NotFound(query)) } else { Ok(hits) }
}

fn docs() -> Arc<Docs> {
    Arc::new(Docs(vec!["ants", "bees", "pants"]))
}

#[test]
fn a_tool_is_described_by_its_function() {
    let spec = search { docs: docs() }.spec();

    assert_eq!(spec.name, "search");
    assert_eq!(spec.description, "Searches the documents.\n\nCall it before you answer:\n  - once for each word");
    assert_eq!(
        spec.parameters,
        json!({
            "type": "object",
            "properties": {
                "query": { "type": "string", "description": "The words to look for" },
                "limit": { "type": ["integer", "null"], "minimum": 0, "description": "The most documents\nto find" },
            },
            "required": ["query"],
            "additionalProperties": false,
        })
    );
}

#[tokio::test]
async fn a_model_calls_it_with_json() {
    let tool = search { docs: docs() };

    let both = r#"[{"title":"ants","place":0},{"title":"pants","place":2}]"#;
    assert_eq!(text(tool.clone(), json!({ "query": "ant" })).await, both);
    assert_eq!(text(tool.clone(), json!({ "query": "e", "limit": null })).await, r#"[{"title":"bees","place":1}]"#);
    let failed = ("the tool failed: nothing about elks".to_owned(), Some(ToolFault::Failed));
    assert_eq!(called(tool.clone(), json!({ "query": "elks" })).await, failed);
    let (text, fault) = called(tool, json!({ "query": 1, "page": 2 })).await;
    assert_eq!((fault, text.lines().count()), (Some(ToolFault::Misuse), 3), "{text}");
}

#[tokio::test]
async fn a_function_is_called_as_what_it_is() {
    let hits = search(&docs(), "bee".to_owned(), None, &Context::detached()).await.unwrap();

    assert_eq!(hits, [Hit { title: "bees".to_owned(), place: 1 }]);
}

#[test]
fn a_tool_shows_nothing_of_what_it_holds() {
    assert_eq!(format!("{:?}", search { docs: docs() }), "search");
}

/// Says hello.
#[tool]
async fn hello() -> &'static str {
    "hello"
}

/// Does nothing.
#[tool]
async fn nothing() {}

/// Fails, or not.
#[tool]
async fn may_fail(
    /// `true` if it fails
    fails: bool,
) -> Result<()> {
    if fails { Err("as asked".into()) } else { Ok(()) }
}

/// Fails by a text.
#[tool]
async fn says_why() -> std::result::Result<u32, String> {
    Err("for a reason".to_owned())
}

/// Adds up.
#[tool]
#[must_use]
async fn add(
    /// The first
    mut a: u64,
    /// The second
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    b: u64,
) -> u64 {
    a += b;
    a
}

fn one() -> u64 {
    1
}

#[tokio::test]
async fn tools_without_services_take_and_return_what_they_like() {
    assert_eq!(text(hello {}, json!({})).await, "hello");
    assert_eq!(text(hello {}, json!(null)).await, "hello");
    assert_eq!(text(nothing {}, json!({})).await, "done");
    assert_eq!(text(may_fail {}, json!({ "fails": false })).await, "done");
    assert_eq!(called(may_fail {}, json!({ "fails": true })).await.0, "the tool failed: as asked");
    assert_eq!(called(says_why {}, json!({})).await.0, "the tool failed: for a reason");
    assert_eq!(text(add {}, json!({ "a": 1 })).await, "2");
    assert_eq!(called(add {}, json!({ "a": 1, "b": 0 })).await.1, Some(ToolFault::Misuse));
    assert_eq!(add(2, 3).await, 5);
    let (text, _) = called(hello {}, json!({ "loud": true })).await;
    assert!(text.contains("'loud' was unexpected"), "{text}");
}

/// Names that the macro uses itself.
#[tool]
async fn arguments(
    cx: &str_length::Length,
    /// One
    this: String,
    /// Two
    given: String,
    context: &Context,
    /// Three
    result: String,
    /// Four
    arguments: String,
    /// Five
    r#type: String,
) -> usize {
    assert_eq!(context.attempt(), 0);
    [this, given, result, arguments, r#type].iter().map(|text| cx.of(text)).sum()
}

mod str_length {
    pub(crate) struct Length;

    impl Length {
        pub(crate) fn of(&self, text: &str) -> usize {
            text.len()
        }
    }
}

#[tokio::test]
async fn names_are_the_users() {
    let given = json!({ "this": "a", "given": "bb", "result": "ccc", "arguments": "dddd", "type": "eeeee" });

    assert_eq!(text(arguments { cx: Arc::new(str_length::Length) }, given).await, "15");
}

trait Clock: Send + Sync {
    fn now(&self) -> String;
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> String {
        "12:00".to_owned()
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "serde", rename_all = "lowercase")]
#[schemars(crate = "flowstone::llm::schemars")]
enum Zone {
    Utc,
    Local,
}

mod elsewhere {
    use super::{Clock, Zone, tool};

    /// Tells the time.
    #[tool]
    pub(crate) async fn time(
        clock: &(dyn Clock + Send),
        /// Where
        zone: Zone,
        /// The day, where it matters
        #[serde(default)]
        days: Vec<String>,
    ) -> String {
        let zone = if matches!(zone, Zone::Utc) { "UTC" } else { "here" };
        format!("{} {zone} {}", clock.now(), days.len())
    }
}

#[tokio::test]
async fn a_service_may_be_a_trait_object_and_an_argument_the_users_own_type() {
    let tool = elsewhere::time { clock: Arc::new(Noon) };

    assert_eq!(text(tool.clone(), json!({ "zone": "utc", "days": ["May"] })).await, "12:00 UTC 1");
    let (text, fault) = called(tool, json!({ "zone": "mars" })).await;
    assert_eq!(
        (fault, text.lines().last()),
        (Some(ToolFault::Misuse), Some("- at `/zone`: \"mars\" is not one of \"utc\" or \"local\""))
    );
}

struct Threads(Mutex<Vec<std::thread::ThreadId>>);

/// Blocks its thread.
#[tool]
fn blocks(
    threads: &Threads,
    /// The word to say
    word: String,
    cx: &Context,
) -> Result<String> {
    threads.0.lock().unwrap().push(std::thread::current().id());
    if word == "panic" {
        panic!("as asked");
    }
    Ok(format!("{word} {}", cx.attempt()))
}

#[tokio::test]
async fn a_function_that_is_not_async_runs_on_the_blocking_pool() {
    let tool = blocks { threads: Arc::new(Threads(Mutex::default())) };

    assert_eq!(text(tool.clone(), json!({ "word": "hi" })).await, "hi 0");
    let panicked = ("the tool panicked: as asked".to_owned(), Some(ToolFault::Failed));
    assert_eq!(called(tool.clone(), json!({ "word": "panic" })).await, panicked);
    let threads = tool.threads.0.lock().unwrap();
    assert!(!threads.contains(&std::thread::current().id()) && threads.len() == 2);
}

/// Waits until it is let go.
#[tool]
fn waits(go: &AtomicBool, begun: &AtomicBool) {
    begun.store(true, Ordering::Relaxed);
    while !go.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn a_blocking_tool_is_not_waited_for_when_its_time_is_over() {
    let tool = waits { go: Arc::default(), begun: Arc::default() };
    let tools = Tools::new().with(tool.clone()).timeout(Duration::from_millis(50));

    let result = tools.call(&ToolCall::new("1", "waits", json!({})), &Context::detached()).await.unwrap();
    tool.go.store(true, Ordering::Relaxed);

    assert_eq!(result.text, "the tool failed: it was stopped, since it was not done within 50ms");
}
