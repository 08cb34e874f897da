//! The schema of an answer is made of its type.

use flowstone_core::{Ask, Flow, Outcome, Result, schema_of};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// The decision about an invoice.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Decision {
    Pay,
    Refuse(Remark),
}

#[derive(Deserialize, JsonSchema)]
struct Remark {
    /// A sentence for the supplier.
    text: String,
    copies: Option<u32>,
}

/// A remark, with the answers to it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Thread {
    text: String,
    answers: Vec<Self>,
}

struct Approve;

impl Ask<Vec<String>> for Approve {
    type Question = &'static str;
    type Answer = Decision;
    type Action = ();

    fn ask(&self, _: &Vec<String>) -> Result<&'static str> {
        Ok("pay 120 euros?")
    }

    fn schema(&self) -> Value {
        schema_of::<Self::Answer>()
    }

    fn post(&self, log: &mut Vec<String>, answer: Decision) -> Result<()> {
        log.push(match answer {
            Decision::Pay => "paid".to_owned(),
            Decision::Refuse(remark) => format!("refused: {}, {}", remark.text, remark.copies.unwrap_or(1)),
        });
        Ok(())
    }
}

#[test]
fn a_pause_has_the_schema_of_its_answers_type() {
    let mut flow = Flow::builder("invoice");
    let approve = flow.add("approve", Approve);
    flow.start(approve);
    let flow = flow.build().expect("it is right");
    let mut log = vec![];

    let Ok(Outcome::Paused(pause)) = flow.run(&mut log) else { panic!("it asks") };

    let remark = json!({
        "type": "object",
        "properties": {
            "text": { "description": "A sentence for the supplier.", "type": "string" },
            "copies": { "type": ["integer", "null"], "format": "uint32", "minimum": 0 },
        },
        "required": ["text"],
    });
    let refuse = json!({ "type": "object", "properties": { "refuse": remark }, "required": ["refuse"],
        "additionalProperties": false });
    let decision = json!({ "description": "The decision about an invoice.",
        "oneOf": [{ "type": "string", "enum": ["pay"] }, refuse] });
    assert_eq!(*pause.schema(), decision);
    flow.resume(&mut log, pause, json!({ "refuse": { "text": "late" } })).expect("it fits");
    assert_eq!(log, ["refused: late, 1"]);
}

#[test]
fn a_type_that_contains_itself_has_a_schema_with_references() {
    let schema = schema_of::<Thread>();

    assert_eq!(schema["properties"]["text"], json!({ "type": "string" }));
    let items = schema["properties"]["answers"]["items"]["$ref"].as_str().expect("it refers to itself");
    assert!(items == "#" || schema.pointer(items.trim_start_matches('#')).is_some(), "{schema}");
}
