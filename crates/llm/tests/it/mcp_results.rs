//! Results and schemas of servers, of any form: what can be read is told, and nothing ends more than its call.

use std::time::Duration;

use flowstone_core::Context;
use flowstone_llm::{ToolCall, ToolFault, Tools, mcp::Mcp};
use serde_json::{Value, json};

use crate::mcp_http::server;

#[tokio::test]
async fn a_result_that_takes_long_to_compare_with_its_schema_is_given_up_in_time() {
    let twice = |n: u32| json!({ "allOf": vec![json!({ "$ref": format!("#/$defs/{}", n + 1) }); 2] });
    let mut defs: serde_json::Map<_, _> = (0..21).map(|n| (n.to_string(), twice(n))).collect();
    defs.insert("21".to_owned(), json!({ "maxProperties": 3 }));
    let tool = json!({ "name": "bomb", "inputSchema": {}, "outputSchema": { "$ref": "#/$defs/0", "$defs": defs } });
    let bomb = server("bomber", move |method, _| match method {
        "tools/list" => json!({ "result": { "tools": [tool] } }),
        _ => json!({ "result": { "content": [], "structuredContent": {} } }),
    })
    .await;
    let server = Mcp::http(bomb.uri()).connect().await.unwrap();
    let tools = Tools::new().with_all(server.tools().await.unwrap()).timeout(Duration::from_millis(20));

    let result = tools.call(&ToolCall::new("1", "bomb", json!({})), &Context::detached()).await.unwrap();

    assert_eq!(result.fault, Some(ToolFault::Failed));
    assert!(result.text.ends_with("it was not done within 20ms"), "{}", result.text);
}

#[tokio::test]
async fn an_odd_block_of_a_result_is_named_and_the_others_are_read() {
    let server = server("odd", |method, _| match method {
        "tools/list" => json!({ "result": { "tools": [{ "name": "pay", "inputSchema": { "type": "object" } }] } }),
        _ => json!({ "result": { "content": [
            { "type": "text", "text": "paid" },
            { "type": "hologram", "beams": 3 },
            { "type": "image", "data": 7 },
            { "type": "text", "text": "receipt 17" },
        ] } }),
    })
    .await;
    let server = Mcp::http(server.uri()).connect().await.unwrap();
    let tools = Tools::new().with_all(server.tools().await.unwrap());

    let result = tools.call(&ToolCall::new("1", "pay", json!({})), &Context::detached()).await.unwrap();

    assert_eq!(result.fault, None, "{result:?}");
    assert_eq!(
        result.text,
        "paid\n[content of an unknown kind, `hologram`, left out]\n[content of an unknown kind, `image`, left out]\nreceipt 17"
    );
    // Some services refuse the schema of an object that does not list its properties.
    assert_eq!(tools.specs()[0].parameters["properties"], json!({}));
}

#[tokio::test]
async fn a_tool_without_parameters_is_sent_as_one_that_takes_an_empty_object() {
    let schemas = [json!(null), json!({}), json!({ "type": null }), json!({ "type": "object", "properties": null })];
    let named = |(n, schema): (usize, &Value)| json!({ "name": format!("t{n}"), "inputSchema": schema });
    let mut offered: Vec<Value> = schemas.iter().enumerate().map(named).collect();
    offered.push(json!({ "name": "bare" }));
    let server = server("terse", move |_, _| json!({ "result": { "tools": offered } })).await;
    let server = Mcp::http(server.uri()).connect().await.unwrap();

    let tools = Tools::new().with_all(server.tools().await.unwrap());

    tools.check().unwrap();
    let specs = tools.specs();
    assert_eq!(specs.len(), 5);
    assert!(specs.iter().all(|spec| spec.parameters == json!({ "type": "object", "properties": {} })), "{specs:?}");
}

/// The tool has acted: whatever its result looks like, the model is told of it.
#[tokio::test]
async fn a_result_of_any_form_is_told() {
    let block = |text: &str| json!({ "type": "text", "text": text });
    let cases = [
        (json!({}), "done; there is no result"),
        (json!({ "content": null }), "done; there is no result"),
        (json!({ "content": "paid" }), "paid"),
        (json!({ "content": block("paid") }), "paid"),
        (json!({ "content": ["paid", block("twice")] }), "paid\ntwice"),
        (json!({ "content": [{ "text": "paid" }] }), "paid"),
        (
            json!({ "content": [null, 7, block("paid")] }),
            "[content of an unknown kind, `no type`, left out]\n[content of an unknown kind, `no type`, left out]\npaid",
        ),
        (json!({ "content": [], "structuredContent": ["paid"] }), "[\"paid\"]"),
        (json!({ "structuredContent": { "paid": true } }), "{\"paid\":true}"),
        (json!({ "content": [block("{\"paid\":true}")], "structuredContent": { "paid": true } }), "{\"paid\":true}"),
        (
            json!({ "content": [{ "type": "resource", "resource": 7 }, block("paid")] }),
            "[content of an unknown kind, `resource`, left out]\npaid",
        ),
        (json!({ "toolResult": { "paid": true } }), "[a result of an unknown form] {\"toolResult\":{\"paid\":true}}"),
        (json!({ "content": 7 }), "[a result of an unknown form] {\"content\":7}"),
        (json!("paid"), "[a result of an unknown form] \"paid\""),
        (json!(["paid"]), "[a result of an unknown form] [\"paid\"]"),
    ];
    for (result, expected) in cases {
        let given = result.clone();
        let odd = server("odd", move |method, _| match method {
            "tools/list" => {
                json!({ "result": { "tools": [{ "name": "pay", "inputSchema": { "type": ["object", "null"] } }] } })
            }
            _ => json!({ "result": given }),
        })
        .await;
        let server = Mcp::http(odd.uri()).connect().await.unwrap();
        let tools = Tools::new().with_all(server.tools().await.unwrap()).timeout(Duration::from_secs(10));
        tools.check().unwrap();

        let told = tools.call(&ToolCall::new("1", "pay", json!({})), &Context::detached()).await.unwrap();

        assert_eq!((told.text.as_str(), told.fault), (expected, None), "{result}");
    }
}

/// Schemas that lead in a circle, or down without a bottom: refused, or checked, and nothing aborts.
#[tokio::test]
async fn schemas_of_a_server_that_lead_in_circles_end_nothing() {
    let mut deep = json!({ "type": "object" });
    for _ in 0..40 {
        deep = json!({ "type": "object", "properties": { "a": deep } });
    }
    let circles = [
        json!({ "type": "object", "$ref": "#" }),
        json!({ "type": "object", "allOf": [{ "$ref": "#" }] }),
        json!({ "type": "object", "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
        json!({ "type": "object", "anyOf": [{ "$ref": "#/$defs/a" }], "$defs": { "a": { "not": { "$ref": "#/$defs/a" } } } }),
        json!({ "type": "object", "properties": { "a": { "$dynamicRef": "#x" } }, "$dynamicAnchor": "x" }),
        json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/none" } } }),
        deep,
    ];
    for schema in circles {
        let given = schema.clone();
        let odd = server("odd", move |method, _| match method {
            "tools/list" => {
                json!({ "result": { "tools": [{ "name": "pay", "inputSchema": given, "outputSchema": given }] } })
            }
            _ => json!({ "result": { "content": [], "structuredContent": { "a": { "a": { "a": {} } } } } }),
        })
        .await;
        let server = Mcp::http(odd.uri()).connect().await.unwrap();
        let tools = Tools::new().with_all(server.tools().await.unwrap()).timeout(Duration::from_secs(10));

        let call = ToolCall::new("1", "pay", json!({ "a": { "a": { "a": {} } } }));
        let told = tools.check().is_err() || tools.call(&call, &Context::detached()).await.is_ok();

        assert!(told, "{schema}");
    }
}
