//! Types that hold themselves, or each other, in all the ways that Rust lets them: the schema that is sent can be used
//! by itself, and replies are read by it.

use std::collections::BTreeMap;

use flowstone_core::{AsyncFlow, Context};
use flowstone_llm::{Dialect, Extract, Model, Schemas, ScriptedModel, ToolCall, Tools, function};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    client::{answering_json, asked, completion},
    extract::{doc, read, reading},
};

/// A company, whose people know it.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Company {
    name: String,
    /// Those who work there.
    people: Vec<Person>,
}

/// A person.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Person {
    name: String,
    /// The one above.
    boss: Option<Box<Self>>,
    /// Where else they work.
    others: Vec<Company>,
}

/// A formula: three types in a circle, one of them an enum.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Formula {
    Number(i64),
    Call(Call),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Call {
    function: String,
    arguments: Vec<Argument>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Argument {
    name: Option<String>,
    value: Formula,
}

/// An enum whose form is told by a field.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum Shape {
    Dot,
    Group { shapes: Vec<Framed> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "a frame/of ~1")]
struct Framed {
    wide: u8,
    shape: Box<Shape>,
}

/// A list of itself, and nothing else.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Nest(Vec<Self>);

/// Fields that hold the type in each way at once.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Each {
    boxed: Option<Box<Self>>,
    listed: Vec<Self>,
    listed_or_not: Option<Vec<Self>>,
    paired: Vec<(String, Self)>,
    #[serde(default)]
    shared: Option<std::sync::Arc<Shared>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Shared {
    back: Option<Box<Each>>,
}

/// Its keys are the model's choice, which strict services do not take.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Folder {
    files: Vec<String>,
    folders: BTreeMap<String, Self>,
}

/// Asks for a value; returns it, and the schema that was sent.
async fn asked_for<T>(reply: &Value) -> (T, Value)
where
    T: JsonSchema + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let script = ScriptedModel::new([reply.to_string()]);
    let mut state = doc();
    reading::<T>(&script, |read| read.repairs(0)).run_async(&mut state).await.unwrap();
    (state.found.unwrap(), script.last_request().unwrap().schema.unwrap().schema)
}

/// Checks that a schema can be used as it is: its references lead somewhere and stand alone; objects name their fields.
fn usable(schema: &Value, root: &Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref") {
                let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                let pointer = pointer.replace("%20", " ");
                assert!(root.pointer(&pointer).is_some(), "{reference} leads nowhere in {root}");
                assert_eq!(fields.len(), 1, "{schema}");
            }
            if let Some(properties) =
                fields.get("properties").and_then(Value::as_object).filter(|_| schema["type"] == "object")
            {
                let names: Vec<&String> = properties.keys().collect();
                assert_eq!(fields["required"], json!(names), "{schema}");
                assert_eq!(fields["additionalProperties"], json!(false), "{schema}");
            }
            fields.values().for_each(|value| usable(value, root));
        }
        Value::Array(values) => values.iter().for_each(|value| usable(value, root)),
        _ => {}
    }
}

/// Asks for a value by a reply that is right; checks what was sent, and that it takes the reply and not the wrong one.
async fn goes_round<T>(right: Value, wrong: Value)
where
    T: JsonSchema + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let (found, sent) = asked_for::<T>(&right).await;

    assert_eq!(sent["type"], "object", "{sent}");
    usable(&sent, &sent);
    let validator = jsonschema::draft202012::new(&sent).unwrap();
    let wrapped = sent["properties"].get("value").is_some() && right.get("value").is_none();
    let as_sent = |value: &Value| if wrapped { json!({ "value": value }) } else { value.clone() };
    assert!(validator.is_valid(&as_sent(&right)), "{right} does not fit {sent}");
    assert!(!validator.is_valid(&as_sent(&wrong)), "{wrong} fits {sent}");
    assert_eq!(serde_json::to_value(found).unwrap(), right);
    let wrong: &'static str = wrong.to_string().leak();
    assert!(read::<T>([wrong]).await.is_err());
}

#[tokio::test]
async fn types_that_hold_each_other_are_sent_and_read() {
    let person = json!({ "name": "Ann", "boss": null, "others": [] });
    let boss = json!({ "name": "Bo", "boss": person, "others": [{ "name": "Pens", "people": [] }] });
    let wrong = json!({ "name": "Bo", "boss": null, "others": [{ "name": "Pens", "people": [{ "name": 7 }] }] });

    goes_round::<Company>(json!({ "name": "Ink", "people": [boss] }), json!({ "name": "Ink", "people": [wrong] }))
        .await;
    goes_round::<Person>(boss.clone(), wrong.clone()).await;
    goes_round::<Vec<Person>>(json!([boss]), json!([wrong])).await;
    goes_round::<Option<Company>>(json!({ "name": "Ink", "people": [boss] }), json!({ "name": "Ink" })).await;
}

#[tokio::test]
async fn enums_in_a_circle_are_sent_and_read() {
    let call = |value: Value| json!({ "call": { "function": "sum", "arguments": [{ "name": null, "value": value }] } });
    let (right, wrong) = (call(call(json!({ "number": 7 }))), call(call(json!({ "number": "seven" }))));

    goes_round::<Formula>(right.clone(), wrong.clone()).await;
    goes_round::<Call>(right["call"].clone(), wrong["call"].clone()).await;
    goes_round::<Vec<Formula>>(json!([right]), json!([wrong])).await;

    let shape = |wide: Value| json!({ "kind": "Group", "shapes": [{ "wide": wide, "shape": { "kind": "Dot" } }] });
    goes_round::<Shape>(shape(json!(3)), shape(json!(-3))).await;
    let framed = |wide: Value| json!({ "wide": 1, "shape": shape(wide) });
    goes_round::<Framed>(framed(json!(3)), framed(json!("wide"))).await;
}

#[tokio::test]
async fn a_type_holds_itself_in_a_box_a_list_an_option_or_a_newtype() {
    let leaf = json!({ "boxed": null, "listed": [], "listed_or_not": null, "paired": [], "shared": null });
    let mut right = leaf.clone();
    right["boxed"] = leaf.clone();
    right["listed"] = json!([leaf, leaf]);
    right["listed_or_not"] = json!([leaf]);
    right["shared"] = json!({ "back": leaf });
    for place in ["/boxed/listed", "/listed/1/boxed", "/listed_or_not/0/listed", "/shared/back/boxed"] {
        let mut wrong = right.clone();
        *wrong.pointer_mut(place).unwrap() = "wrong".into();
        goes_round::<Each>(right.clone(), wrong).await;
    }
    goes_round::<Nest>(json!([[], [[]]]), json!([[], ["wrong"]])).await;
}

#[tokio::test]
async fn a_map_of_a_type_in_itself_is_sent_and_read() {
    let folder = |files: Value| json!({ "files": [], "folders": { "a": { "files": files, "folders": {} } } });

    let (found, sent) = asked_for::<Folder>(&folder(json!(["x"]))).await;

    assert_eq!(found.folders["a"].files, ["x"]);
    let validator = jsonschema::draft202012::new(&sent).unwrap();
    assert!(validator.is_valid(&folder(json!(["x"]))) && !validator.is_valid(&folder(json!([7]))), "{sent}");
}

/// A strict service, one that is not, and one that is asked for some object: each is sent what it takes.
#[tokio::test]
async fn all_kinds_of_services_are_sent_types_that_hold_each_other() {
    #[derive(Default, Serialize, Deserialize)]
    struct Doc {
        company: Option<Company>,
    }
    let reply = json!({ "name": "Ink", "people": [{ "name": "Ann", "boss": null, "others": [] }] });
    let any_object = Dialect { schemas: Schemas::AnyObject, ..Dialect::SERVER };
    for dialect in [Dialect::OPENAI, Dialect::SERVER, any_object] {
        let server = answering_json(200, completion(json!({ "content": reply.to_string() }), "stop")).await;
        let model = Model::connect(&format!("{}/v1#tiny", server.uri())).dialect(dialect).build().unwrap();
        let mut flow = AsyncFlow::builder("read");
        let read = Extract::prompt(&model, "Read.", |doc: &mut Doc, company: Company| doc.company = Some(company));
        let read = flow.add("read", read);
        flow.start(read);
        let mut doc = Doc::default();

        flow.build().unwrap().run_async(&mut doc).await.unwrap();

        assert_eq!(serde_json::to_value(doc.company).unwrap(), reply);
        let sent = asked(&server).await;
        match sent["response_format"].pointer("/json_schema/schema") {
            Some(schema) => usable(schema, schema),
            None => assert_eq!(sent["response_format"], json!({ "type": "json_object" })),
        }
        let told = sent["messages"].to_string();
        assert!(told.contains("It has to fit this JSON schema") && told.contains("#/$defs/"), "{told}");
    }
}

#[tokio::test]
async fn a_tool_takes_arguments_of_types_that_hold_each_other() {
    let count = function("count", "Counts the people", |company: Company| async move { Ok(company.people.len()) });
    let tools = Tools::new().with(count);
    tools.check().unwrap();
    let schema = tools.specs()[0].parameters.clone();
    let person = json!({ "name": "Ann", "boss": null, "others": [{ "name": "Pens", "people": [] }] });
    let call = |people: Value| ToolCall::new("1", "count", json!({ "name": "Ink", "people": people }));

    let right = tools.call(&call(json!([person])), &Context::detached()).await.unwrap();
    let wrong = tools.call(&call(json!([{ "name": "Ann", "others": [{ "name": 7 }] }])), &Context::detached()).await;

    assert_eq!((right.text.as_str(), right.fault), ("1", None));
    assert!(wrong.unwrap().text.contains("/people/0/others/0"));
    assert_eq!(schema["properties"]["people"]["type"], "array");
}
