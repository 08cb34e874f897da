//! Tools: what is wrong with a set, what a model is told of it, and which arguments fit.

use std::{collections::BTreeMap, time::Duration};

use flowstone_core::{BoxFuture, Context, NodeError, Result};
use flowstone_llm::{ArgumentFault, BadTool, BadTools, Misuse, Tool, ToolCall, ToolFault, ToolSpec, Tools, function};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod flows;
mod outcomes;

/// A tool as a server describes it: it tells its arguments.
struct Plain {
    name: &'static str,
    parameters: Value,
}

impl Tool for Plain {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: self.name.into(),
            description: "Tells its arguments".into(),
            parameters: self.parameters.clone(),
        }
    }

    fn call<'a>(&'a self, arguments: Value, _: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move { Ok(arguments.to_string()) })
    }

    fn check(&self) -> Result<()> {
        if self.name == "broken" { Err(NodeError::new("it has no key")) } else { Ok(()) }
    }
}

fn plain(name: &'static str) -> Plain {
    Plain { name, parameters: json!({ "type": "object" }) }
}

fn with_schema(parameters: Value) -> Tools {
    Tools::new().with(Plain { name: "plain", parameters })
}

async fn call(tools: &Tools, name: &str, arguments: Value) -> (String, Option<ToolFault>) {
    let result = tools.call(&ToolCall::new("c1", name, arguments), &Context::detached()).await.unwrap();
    assert_eq!((result.id.as_str(), result.name.as_str()), ("c1", name));
    (result.text, result.fault)
}

#[test]
fn check_says_everything_that_is_wrong() {
    let invalid =
        Plain { name: "invalid", parameters: json!({ "type": "object", "properties": { "a": { "type": "text" } } }) };
    let list = Plain { name: "list", parameters: json!({ "type": "array" }) };
    let elsewhere =
        Plain { name: "elsewhere", parameters: json!({ "type": "object", "$ref": "http://127.0.0.1:9/x" }) };
    let long: &str = "x".repeat(65).leak();
    let tools = Tools::new()
        .with_all([plain("good"), plain("good"), plain("two words"), plain(""), plain(long)])
        .with_all([invalid, list, elsewhere, plain("broken")])
        .timeout_of("none", Duration::from_secs(1))
        .timeout_of("good", Duration::ZERO);

    let error = tools.check().unwrap_err();

    assert!(error.is_terminal());
    let BadTools { faults, .. } = error.downcast_ref().unwrap();
    let mut lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.iter_mut().for_each(|line| *line = line.replace(long, "xxx…"));
    let name = "is not one to 64 letters, digits, `_` and `-`";
    assert_eq!(lines[0], "there are two tools `good`");
    assert!(
        lines[1].starts_with("there is no tool `none`: there are ``, `broken`, `elsewhere`, `good`"),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2], format!("the name of tool `` {name}"));
    assert_eq!(lines[3], "tool `broken`: it has no key");
    assert!(lines[4].starts_with("the schema of tool `elsewhere` is no JSON schema: "), "{}", lines[4]);
    assert_eq!(lines[5], "the calls of tool `good` have no time at all");
    assert!(lines[6].starts_with("the schema of tool `invalid` is no JSON schema: \"text\""), "{}", lines[6]);
    assert_eq!(
        lines[7..],
        [
            "the arguments of tool `list` are not an object: its schema is to have `\"type\": \"object\"`".to_owned(),
            format!("the name of tool `two words` {name}"),
            format!("the name of tool `xxx…` {name}"),
        ]
    );
}

#[test]
fn only_drops_tools_and_what_is_wrong_with_them() {
    let tools = Tools::new().with_all([plain("a"), plain("b"), plain("b"), plain("two words")]);

    let kept = tools.clone().only(["a"]);
    kept.check().unwrap();
    assert_eq!((kept.names().collect::<Vec<_>>(), kept.len(), kept.is_empty()), (vec!["a"], 1, false));
    assert!(kept.get("b").is_none() && tools.get("b").is_some());

    let error = tools.only(["a", "c"]).check().unwrap_err();
    let names = ["a", "b", "two words"].map(str::to_owned).to_vec();
    assert_eq!(error.downcast_ref::<BadTools>().unwrap().faults, [BadTool::Missing { tool: "c".into(), names }]);
}

#[tokio::test]
async fn a_set_is_added_to_another() {
    let first: Tools = [plain("b"), plain("a")].into_iter().collect();

    let both = Tools::new().with(plain("c")).with_all(first);

    assert_eq!(both.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(call(&both, "b", json!({ "x": 1 })).await, (r#"{"x":1}"#.to_owned(), None));
    assert_eq!(format!("{both:?}"), r#"{"a", "b", "c"}"#);
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Search {
    /// The words to look for
    query: String,
    /// The most to find
    limit: Option<u32>,
    #[serde(default)]
    filter: Option<Filter>,
    /// Where
    #[serde(default)]
    places: Vec<Place>,
}

/// Narrows a search.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// From this year on
    since: i64,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Place {
    Web,
    Mail,
}

fn searching() -> Tools {
    Tools::new().with(function("search", "Searches", |search: Search| async move { Ok(search) }))
}

#[test]
fn a_schema_has_what_a_model_needs_and_providers_take() {
    let specs = searching().specs();

    assert_eq!((specs[0].name.as_str(), specs[0].description.as_str()), ("search", "Searches"));
    assert_eq!(
        specs[0].parameters,
        json!({
            "type": "object",
            "properties": {
                "query": { "type": "string", "description": "The words to look for" },
                "limit": { "type": ["integer", "null"], "minimum": 0, "description": "The most to find" },
                "filter": {
                    "type": ["object", "null"],
                    "description": "Narrows a search.",
                    "properties": { "since": { "type": "integer", "description": "From this year on" } },
                    "required": ["since"],
                    "additionalProperties": false,
                    "default": null,
                },
                "places": {
                    "type": "array",
                    "items": { "type": "string", "enum": ["web", "mail"] },
                    "description": "Where",
                    "default": [],
                },
            },
            "required": ["query"],
            "additionalProperties": false,
        })
    );
}

#[tokio::test]
async fn everything_that_does_not_fit_is_said_at_once_and_where() {
    let arguments = json!({
        "limit": "many", "filter": { "since": "May", "until": 1 }, "places": ["web", "moon"], "topic": "ants",
    });

    let (text, fault) = call(&searching(), "search", arguments).await;

    assert_eq!(fault, Some(ToolFault::Misuse));
    let mut lines: Vec<&str> = text.lines().collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "the arguments of `search` do not fit:",
            "- \"query\" is a required property",
            "- Additional properties are not allowed ('topic' was unexpected)",
            "- at `/filter/since`: \"May\" is not of type \"integer\"",
            "- at `/filter`: Additional properties are not allowed ('until' was unexpected)",
            "- at `/limit`: \"many\" is not of type null or integer",
            "- at `/places/1`: \"moon\" is not one of \"web\" or \"mail\"",
        ]
    );
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(tag = "shape", rename_all = "lowercase", deny_unknown_fields)]
enum Shape {
    Circle { radius: u32 },
    Square { side: u32 },
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Draw {
    shape: Shape,
}

#[tokio::test]
async fn of_several_forms_the_one_that_is_meant_is_explained() {
    let drawing = Tools::new().with(function("draw", "Draws", |draw: Draw| async move { Ok(draw) }));
    let text_or_object = json!({ "anyOf": [{ "type": "string" }, { "type": "object", "required": ["a"] }] });
    let plain = with_schema(json!({ "type": "object", "properties": { "x": text_or_object } }));

    let (text, _) = call(&drawing, "draw", json!({ "shape": { "shape": "square", "side": "x" } })).await;
    assert!(text.ends_with("fit:\n- at `/shape/side`: \"x\" is not of type \"integer\""), "{text}");
    let (text, _) = call(&drawing, "draw", json!({ "shape": { "shape": "line" } })).await;
    assert!(text.contains("- at `/shape`: {\"shape\":\"line\"} is not valid under any"), "{text}");
    let (text, _) = call(&plain, "plain", json!({ "x": {} })).await;
    assert!(text.ends_with("fit:\n- at `/x`: \"a\" is a required property"), "{text}");
}

#[tokio::test]
async fn a_long_list_of_faults_and_a_long_one_are_cut() {
    let places = vec![json!("x".repeat(1000)); 100];

    let (text, _) = call(&searching(), "search", json!({ "query": "a", "places": places })).await;

    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[9]), (10, "- and 92 more"));
    assert!(lines[1].ends_with("x…") && lines[1].len() < 350, "{}", lines[1]);
}

#[tokio::test]
async fn what_a_schema_cannot_say_is_misuse_too() {
    let (text, fault) = call(&searching(), "search", json!({ "query": "a", "limit": 1_u64 << 40 })).await;

    assert_eq!(fault, Some(ToolFault::Misuse));
    assert!(
        text.starts_with("the arguments of `search` do not fit:\n- invalid value: integer `1099511627776`"),
        "{text}"
    );
}

#[tokio::test]
async fn what_some_models_send_for_an_object_is_taken_for_one() {
    let tools = with_schema(json!({ "type": "object", "properties": { "x": { "type": "integer" } } }));

    for (sent, taken) in [(json!(r#"{"x": 1}"#), r#"{"x":1}"#), (json!(null), "{}"), (json!("  "), "{}")] {
        assert_eq!(call(&tools, "plain", sent).await, (taken.to_owned(), None));
    }
    for sent in [json!([1]), json!("[1]"), json!(1), json!("x")] {
        let (text, fault) = call(&tools, "plain", sent).await;
        assert_eq!(fault, Some(ToolFault::Misuse));
        assert!(text.ends_with("is not of type \"object\""), "{text}");
    }
    let (text, _) = call(&tools, "plain", json!(r#"{"x": "1"}"#)).await;
    assert!(text.contains("at `/x`"), "{text}");
}

#[tokio::test]
async fn a_call_of_no_tool_is_told_which_there_are() {
    let (text, fault) = call(&Tools::new().with_all([plain("a"), plain("b")]), "c", json!({})).await;
    assert_eq!((text.as_str(), fault), ("there is no tool `c`: there are `a`, `b`", Some(ToolFault::Misuse)));

    let (text, _) = call(&Tools::new(), "c", json!({})).await;
    assert_eq!(text, "there is no tool `c`: there are none");
}

#[test]
fn a_call_can_be_looked_at_without_making_it() {
    let tools = searching();
    let misuse = |name: &str, arguments| {
        let error = tools.accepts(&ToolCall::new("1", name, arguments)).unwrap_err();
        assert!(error.is_terminal());
        error.downcast_ref::<Misuse>().unwrap().clone()
    };

    tools.accepts(&ToolCall::new("1", "search", json!({ "query": "a" }))).unwrap();
    let fault = ArgumentFault { at: String::new(), message: "\"query\" is a required property".into() };
    assert_eq!(misuse("search", json!({})), Misuse::Arguments { tool: "search".into(), faults: vec![fault] });
    assert_eq!(misuse("find", json!({})), Misuse::NoSuchTool { tool: "find".into(), names: vec!["search".into()] });
}

#[tokio::test]
async fn a_tool_whose_schema_is_none_is_not_called() {
    let tools = with_schema(json!({ "type": "text" }));

    let error = tools.call(&ToolCall::new("1", "plain", json!({})), &Context::detached()).await.unwrap_err();

    assert!(error.is_terminal());
    assert!(matches!(error.downcast_ref(), Some(BadTools { faults, .. }) if faults.len() == 1), "{error:?}");
}

/// A server may lie in its schema: one without an end must not end the process.
#[tokio::test]
async fn a_schema_that_refers_to_itself_has_an_end() {
    for schema in [
        json!({ "type": "object", "$ref": "#" }),
        json!({ "type": "object", "allOf": [{ "$ref": "#" }] }),
        json!({ "type": "object", "anyOf": [{ "$ref": "#/$defs/a" }], "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "not": { "$ref": "#/$defs/a" } } } }),
        json!({ "type": "object", "properties": { "x": { "$ref": "#/properties/x" } } }),
    ] {
        let tools = with_schema(schema);
        if tools.check().is_ok() {
            call(&tools, "plain", json!({ "x": { "x": 1 } })).await;
        }
    }
}

#[tokio::test]
async fn arguments_of_any_names_go_into_a_map() {
    let count = function("count", "Counts", |all: BTreeMap<String, Value>| async move { Ok(all.len()) });

    assert_eq!(call(&Tools::new().with(count), "count", json!({ "a": 1, "b": 2 })).await, ("2".to_owned(), None));
}
