//! A model is asked for a value of a type until its reply is one, and told what is wrong with each that is not.

use flowstone_core::{AsyncFlow, Fault, NodeExt, RunError, RunOptions};
use flowstone_llm::{
    Extract, ExtractError, Failure, Finish, Message, Model, ModelError, One, Reply, Request, ScriptedModel,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::extract_types::Thread;

/// An invoice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Invoice {
    /// Its writer.
    seller: String,
    lines: Vec<Line>,
    #[serde(default)]
    paid: bool,
    note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Line {
    what: String,
    cents: u32,
    tax: Tax,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Tax {
    None,
    Percent { percent: u8 },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Doc<T> {
    text: String,
    pub(crate) found: Option<T>,
}

pub(crate) type Post<T> = fn(&mut Doc<T>, T);

/// A flow of one extraction.
pub(crate) fn reading<T>(script: &ScriptedModel, change: impl FnOnce(Reading<T>) -> Reading<T>) -> AsyncFlow<Doc<T>>
where
    T: JsonSchema + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let post: Post<T> = |doc, found| doc.found = Some(found);
    let mut flow = AsyncFlow::builder("reading");
    let read = flow.add("read", change(Extract::prompt(&Model::new(script.clone()), "Read: {{ text }}", post)));
    flow.start(read);
    flow.build().unwrap()
}

pub(crate) type Reading<T> = Extract<T, One<Doc<T>, Post<T>, ()>>;

pub(crate) fn doc<T>() -> Doc<T> {
    Doc { text: "Ink Ltd, pens, 990".to_owned(), found: None }
}

/// Returns what comes of these replies.
pub(crate) async fn read<T>(replies: impl IntoIterator<Item = &'static str>) -> Result<T, String>
where
    T: JsonSchema + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let (script, mut doc) = (ScriptedModel::new(replies), doc());
    let ended = reading::<T>(&script, |read| read.repairs(0)).run_async(&mut doc).await;
    ended.map(|_| doc.found.unwrap()).map_err(|error| error.report())
}

fn whole() -> Value {
    json!({
        "seller": "Ink Ltd",
        "lines": [{ "what": "pens", "cents": 990, "tax": { "kind": "percent", "percent": 20 } }],
        "paid": true,
        "note": null
    })
}

fn invoice() -> Invoice {
    serde_json::from_value(whole()).unwrap()
}

fn extract_error(error: &RunError) -> &ExtractError {
    let RunError::Node { source, terminal: true, .. } = error else { panic!("{error}") };
    source.downcast_ref().unwrap()
}

#[tokio::test]
async fn the_strict_schema_of_the_type_is_sent_and_told_in_words() {
    let script = ScriptedModel::new([whole().to_string()]);
    let mut state = doc();

    reading::<Invoice>(&script, |read| read.system("You read invoices.")).run_async(&mut state).await.unwrap();

    let asked = script.last_request().unwrap();
    let schema = asked.schema.unwrap();
    let expected = json!({
        "title": "Invoice",
        "description": "An invoice.",
        "type": "object",
        "properties": {
            "seller": { "description": "Its writer.", "type": "string" },
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "what": { "type": "string" },
                        "cents": { "type": "integer", "minimum": 0 },
                        "tax": {
                            "anyOf": [
                                {
                                    "type": "object",
                                    "properties": { "kind": { "type": "string", "const": "none" } },
                                    "required": ["kind"],
                                    "additionalProperties": false
                                },
                                {
                                    "type": "object",
                                    "properties": {
                                        "percent": { "type": "integer", "minimum": 0, "maximum": 255 },
                                        "kind": { "type": "string", "const": "percent" }
                                    },
                                    "required": ["percent", "kind"],
                                    "additionalProperties": false
                                }
                            ]
                        }
                    },
                    "required": ["what", "cents", "tax"],
                    "additionalProperties": false
                }
            },
            "paid": { "type": "boolean" },
            "note": { "type": ["string", "null"] }
        },
        "required": ["seller", "lines", "paid", "note"],
        "additionalProperties": false
    });
    assert_eq!((&*schema.name, sorted(&schema.schema)), ("Invoice", sorted(&expected)));
    let told = asked.messages[0].text();
    assert!(told.starts_with("You read invoices.\n\nReply with JSON only, and no other text."), "{told}");
    assert!(told.ends_with(&schema.schema.to_string()), "{told}");
    assert_eq!(asked.messages[1], Message::user("Read: Ink Ltd, pens, 990"));
    assert!(!asked.stream);
    assert_eq!(state.found, Some(invoice()));
}

/// The same schema with its lists of names in order, which is that of the fields or of the alphabet.
fn sorted(schema: &Value) -> Value {
    match schema {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), sorted(value))).collect(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let mut names: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            names.sort_unstable();
            json!(names)
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_reply_is_told_to_the_model_with_its_place() {
    let wrong = r#"{"seller": 7, "lines": [{"what": "pens", "cents": -1, "tax": {"kind": "none"}}]}"#;
    let script = ScriptedModel::new([wrong.to_owned(), "Sorry!".to_owned(), whole().to_string()]);
    let mut state = doc();

    reading::<Invoice>(&script, |read| read).run_async(&mut state).await.unwrap();

    let requests = script.requests();
    let [first, second, third] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((first.messages.len(), second.messages.len(), third.messages.len()), (2, 4, 4));
    assert_eq!(second.messages[..2], first.messages);
    assert_eq!(second.messages[2], Message::assistant(wrong));
    assert_eq!(
        second.messages[3].text(),
        "Your reply cannot be used:\n\
         - at `/seller`: 7 is not of type \"string\"\n\
         - at `/lines/0/cents`: -1 is less than the minimum of 0\n\
         Reply again with the whole of it, corrected, and nothing else."
    );
    assert_eq!(third.messages[2], Message::assistant("Sorry!"), "only the last reply is sent back");
    assert!(third.messages[3].text().contains("the reply is not JSON: expected value at line 1 column 1"));
    assert_eq!(second.schema, first.schema);
    assert_eq!(state.found, Some(invoice()));
}

#[tokio::test]
async fn repairs_are_bounded_and_their_end_names_run_node_model_and_faults() {
    let script = ScriptedModel::new(["1", "2", "3", "{}", "never"]);
    let flow = reading::<Invoice>(&script, |read| read.repairs(3));

    let error = flow.run_async_with(&mut doc(), &RunOptions::new().id("r1")).await.unwrap_err();

    assert_eq!(script.requests().len(), 4);
    assert_eq!(
        error.report(),
        "run `r1`: node `read` failed in exec after 1 attempt: model `scripted:script` gave no `Invoice` in 4 replies: \
         \"seller\" is a required property; \"lines\" is a required property; its last reply: \"{}\""
    );
    assert_eq!((extract_error(&error).tries, extract_error(&error).faults.len()), (4, 2));
}

#[tokio::test]
async fn a_retry_of_the_node_does_not_begin_the_repairs_again() {
    let script = ScriptedModel::by(|_: &Request| Ok(Reply::of_text("nonsense")));
    let post: Post<Invoice> = |doc, found| doc.found = Some(found);
    let mut flow = AsyncFlow::builder("reading");
    let read = Extract::prompt(&Model::new(script.clone()), "{{ text }}", post).repairs(1);
    let read = flow.add("read", read.retry(flowstone_core::Retry::attempts(5)));
    flow.start(read);

    let error = flow.build().unwrap().run_async(&mut doc()).await.unwrap_err();

    assert_eq!((extract_error(&error).tries, script.requests().len()), (2, 2));
}

#[tokio::test]
async fn endless_nonsense_is_shortened_for_the_model_and_in_the_error() {
    let script = ScriptedModel::new(["x".repeat(100_000), "y".repeat(100_000)]);

    let error = reading::<Invoice>(&script, |read| read.repairs(1)).run_async(&mut doc()).await.unwrap_err();

    let sent_back: usize = script.requests()[1].messages[2..].iter().map(|message| message.text().len()).sum();
    assert!(sent_back < 9_000, "{sent_back}");
    assert!(error.report().len() < 1_000, "{}", error.report().len());
    assert!(extract_error(&error).reply.ends_with("… (100000 bytes in all)"));
}

#[tokio::test]
async fn a_reply_that_is_cut_off_or_withheld_is_not_repaired() {
    let cut = Reply::new(Message::assistant("{\"seller\": \"Ink"), Finish::Length);
    let filtered = Reply::new(Message::assistant(""), Finish::Filtered);
    for (reply, is_cut) in [(cut, true), (filtered, false)] {
        let script = ScriptedModel::new([reply]);

        let error = reading::<Invoice>(&script, |read| read).run_async(&mut doc()).await.unwrap_err();

        let RunError::Node { source, terminal: true, .. } = error else { panic!("{error}") };
        let failure = &source.downcast_ref::<ModelError>().unwrap().failure;
        assert_eq!(
            (matches!(failure, Failure::Cut { .. }), matches!(failure, Failure::Filtered { .. })),
            (is_cut, !is_cut)
        );
        assert_eq!(script.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_empty_reply_is_not_sent_back() {
    let script = ScriptedModel::new([" \n".to_owned(), whole().to_string()]);

    reading::<Invoice>(&script, |read| read).run_async(&mut doc()).await.unwrap();

    let asked = script.last_request().unwrap().messages;
    assert_eq!(asked.len(), 3);
    assert!(asked[2].text().contains("- the reply has no text\n"));
}

#[tokio::test]
async fn a_rule_of_the_users_own_is_told_to_the_model() {
    let mut wrong = whole();
    wrong["lines"] = json!([]);
    let script = ScriptedModel::new([wrong.to_string(), whole().to_string()]);
    let rule =
        |invoice: &Invoice| if invoice.lines.is_empty() { Err("`lines` has no line".to_owned()) } else { Ok(()) };
    let mut state = doc();

    reading::<Invoice>(&script, |read| read.check(rule)).run_async(&mut state).await.unwrap();

    assert!(script.last_request().unwrap().messages[3].text().contains("\n- `lines` has no line\n"));
    assert_eq!(state.found, Some(invoice()));
}

#[tokio::test]
async fn a_reply_may_leave_out_what_the_type_does_not_need_and_say_more() {
    let reply = r#"{"seller": "Ink Ltd", "lines": [], "by the way": "thanks"}"#;

    let found = read::<Invoice>([reply]).await.unwrap();

    assert_eq!(found, Invoice { seller: "Ink Ltd".to_owned(), lines: vec![], paid: false, note: None });
}

#[tokio::test]
async fn json_is_found_in_a_fence_and_among_text_but_never_guessed() {
    let fenced = "Here it is:\n```json\n{\"seller\": \"A\", \"lines\": []}\n```\nBye.";
    let among = "Sure: {\"seller\": \"A\", \"lines\": []}. Bye.";
    let two = "{\"seller\": \"A\", \"lines\": []} or {\"seller\": \"B\", \"lines\": []}";
    let broken = "{\"seller\": \"A\", \"lines\": [";

    assert_eq!(read::<Invoice>([fenced]).await.unwrap().seller, "A");
    assert_eq!(read::<Invoice>([among]).await.unwrap().seller, "A");
    assert!(read::<Invoice>([two]).await.unwrap_err().contains("the reply has more than one JSON object"));
    assert!(read::<Invoice>([broken]).await.unwrap_err().contains("EOF while parsing a list"));
}

/// A type whose schema is none.
#[derive(Debug, Serialize, Deserialize)]
struct Odd;

impl JsonSchema for Odd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Odd".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        json!({ "type": "thing" }).try_into().unwrap()
    }
}

#[test]
fn a_schema_that_is_none_and_an_unknown_name_are_faults_of_build() {
    let model = Model::new(ScriptedModel::new([""; 0]));
    let mut flow = AsyncFlow::builder("reading");
    let odd = flow.add("odd", Extract::prompt(&model, "{{ text }}", |_: &mut Doc<Odd>, _: Odd| ()));
    let slip = flow.add("slip", Extract::prompt(&model, "{{ txt }}", |_: &mut Doc<Odd>, _: Thread| ()));
    let texts = |_: &Doc<Odd>| vec![Line { what: String::new(), cents: 0, tax: Tax::None }];
    let each = Extract::each(&model, "{{ item.waht }} {{ text }}", texts, |_: &mut Doc<Odd>, _: Vec<Thread>| ());
    let each = flow.add("each", each.parallel(2));
    flow.start(odd);
    flow.route(odd >> slip >> each);

    let error = flow.build().unwrap_err();

    let messages = error.faults().iter().map(|fault| {
        let Fault::Node { node, message } = fault else { panic!("{fault:?}") };
        (&**node, &**message)
    });
    let messages: Vec<_> = messages.collect();
    assert!(messages[0].1.starts_with("the schema of `Odd` is none: "), "{}", messages[0].1);
    assert_eq!(messages[1], ("slip", "the prompt, line 1: `Doc` has no `txt`; did you mean `text`?"));
    assert_eq!(
        messages[2],
        (
            "each",
            "the prompt, line 1: `Line` has no `waht`; did you mean `what`?; \
             line 1: the prompt has no `text`; it has `item`"
        )
    );
}
