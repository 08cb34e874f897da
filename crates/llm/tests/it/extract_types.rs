//! Types of many shapes as what a model replies: objects, and what is put into one; types that hold themselves.

use flowstone_llm::ScriptedModel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::extract::{Tax, doc, read, reading};

#[tokio::test]
async fn a_type_that_is_no_object_is_sent_as_one_and_taken_bare_as_well() {
    let script = ScriptedModel::new([r#"{"value": ["a", "b"]}"#]);
    let mut state = doc::<Vec<String>>();

    reading(&script, |read| read).run_async(&mut state).await.unwrap();

    let schema = script.last_request().unwrap().schema.unwrap().schema;
    assert_eq!((&schema["type"], &schema["properties"]["value"]["type"]), (&json!("object"), &json!("array")));
    assert_eq!(state.found.unwrap(), ["a", "b"]);
    assert_eq!(read::<Vec<String>>([r#"["a"]"#]).await.unwrap(), ["a"]);
    assert_eq!(read::<u8>(["7"]).await, Ok(7));
    assert_eq!(read::<Tax>([r#"{"value": {"kind": "none"}}"#]).await, Ok(Tax::None));
    assert!(
        read::<u8>([r#"{"value": 700}"#])
            .await
            .unwrap_err()
            .contains("at `/value`: 700 is greater than the maximum of 255")
    );
}

/// A comment and its answers.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Thread {
    text: String,
    answers: Vec<Self>,
}

#[tokio::test]
async fn a_type_that_holds_itself_has_a_schema() {
    let reply = r#"{"text": "a", "answers": [{"text": "b", "answers": []}]}"#;

    let found = read::<Thread>([reply]).await.unwrap();
    let wrong = read::<Thread>([r#"{"text": "a", "answers": [{"text": "b"}]}"#]).await.unwrap_err();

    assert_eq!(found.answers[0].text, "b");
    assert!(wrong.contains("at `/answers/0`: \"answers\" is a required property"), "{wrong}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
enum Sum {
    Number(i64),
    Of(Vec<Self>),
}

#[tokio::test]
async fn an_enum_that_holds_itself_is_sent_in_an_object_and_taken_bare_as_well() {
    let script = ScriptedModel::new([r#"{"value": {"Of": [{"Number": 1}, {"Of": []}]}}"#]);
    let mut state = doc();

    reading::<Sum>(&script, |it| it).run_async(&mut state).await.unwrap();
    let bare = read::<Sum>([r#"{"Of": [{"Number": 2}]}"#]).await.unwrap();
    let wrong = read::<Sum>([r#"{"value": {"Of": [{"Number": "two"}]}}"#]).await;

    let sent = script.last_request().unwrap().schema.unwrap().schema;
    assert_eq!(sent["properties"]["value"], json!({ "$ref": "#/$defs/value" }));
    assert_eq!(sent["$defs"]["value"]["anyOf"][1]["properties"]["Of"]["items"], json!({ "$ref": "#/$defs/value" }));
    assert_eq!(state.found, Some(Sum::Of(vec![Sum::Number(1), Sum::Of(vec![])])));
    assert_eq!(bare, Sum::Of(vec![Sum::Number(2)]));
    assert!(wrong.is_err());
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum Gauge {
    Known { value: u32 },
    Unknown,
}

#[tokio::test]
async fn a_field_that_is_called_as_the_object_around_it_is_no_obstacle() {
    let bare = read::<Gauge>([r#"{"kind": "Known", "value": 7}"#]).await;
    let wrapped = read::<Gauge>([r#"{"value": {"kind": "Known", "value": 7}}"#]).await;
    let unknown = read::<Gauge>([r#"{"kind": "Unknown"}"#]).await;

    assert_eq!(bare, Ok(Gauge::Known { value: 7 }));
    assert_eq!((wrapped, unknown), (bare, Ok(Gauge::Unknown)));
}

/// Everything that a number or a container may be.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Wide {
    most: u64,
    least: i64,
    maybe: Option<u8>,
    letter: char,
    pair: (u8, String),
    marks: std::collections::BTreeMap<String, u8>,
    time: std::time::Duration,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Rest {
    #[serde(rename = "default")]
    usual: Option<u8>,
}

#[tokio::test]
async fn limits_of_numbers_maps_pairs_and_flat_fields_are_taken() {
    let reply = r#"{
        "most": 18446744073709551615, "least": -9223372036854775808, "maybe": null, "letter": "é", "pair": [1, "x"],
        "marks": { "a": 255 }, "time": { "secs": 1, "nanos": 2 }, "default": 3
    }"#;

    let found = read::<Wide>([reply]).await.unwrap();
    let beyond = read::<u64>(["18446744073709551616"]).await.unwrap_err();

    assert_eq!((found.most, found.least, found.letter, found.rest.usual), (u64::MAX, i64::MIN, 'é', Some(3)));
    assert!(beyond.contains("expected u64"), "{beyond}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Tagged {
    letter: char,
    tags: std::collections::BTreeSet<String>,
}

#[tokio::test]
async fn what_strict_providers_refuse_is_not_sent_and_holds_all_the_same() {
    let script = ScriptedModel::new([r#"{"letter": "ab", "tags": ["x", "x"]}"#, r#"{"letter": "a", "tags": ["x"]}"#]);
    let mut state = doc::<Tagged>();

    reading(&script, |read| read).run_async(&mut state).await.unwrap();

    let requests = script.requests();
    let sent = requests[0].schema.clone().unwrap().schema;
    assert_eq!(sent["properties"]["letter"], json!({ "type": "string" }));
    assert_eq!(sent["properties"]["tags"], json!({ "type": "array", "items": { "type": "string" } }));
    let told = requests[1].messages[3].text();
    assert!(told.contains("at `/letter`") && told.contains("at `/tags`"), "{told}");
    assert_eq!(state.found.unwrap().letter, 'a');
}

#[tokio::test]
async fn a_part_of_a_broken_reply_is_not_taken_for_the_whole() {
    let broken = "{\n  \"text\": \"a\",\n  \"answers\": [\n    {\"text\": \"b\", \"answers\": []},\n    {\"text\":";

    let error = read::<Thread>([broken]).await.unwrap_err();

    assert!(error.contains("the reply is not JSON: EOF"), "{error}");
}
