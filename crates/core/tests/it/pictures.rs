//! Pictures of flows: labels on edges, nested flows as clusters; and JSON for tools.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{items, secs};
use flowstone_core::{Action, AsyncFlow, END, Flow, NodeExt, Retry, Sleep, Unrouted};
use serde_json::json;

/// A flow with a nested flow, a batch node and a batch flow.
fn shop() -> AsyncFlow<Vec<u32>> {
    let nothing = |_: &mut Vec<u32>| ();
    let mut pay = Flow::builder("pay");
    let card = pay.add("card", nothing);
    let check = pay.add("check", |_: &mut Vec<u32>| Action::from("paid"));
    pay.start(card);
    pay.route(card >> check);
    let mut child = Flow::<u32>::builder("grow");
    let add = child.add("add", |n: &mut u32| *n += 1);
    child.start(add);

    let mut shop = AsyncFlow::builder("shop");
    let pick = shop.add("pick", items(3, |_, _| Ok(1)).parallel(4).retry(Retry::attempts(3)).timeout(secs(2)));
    let pay = shop.add("pay", pay.build().unwrap());
    let each = shop.add("each", child.build().unwrap().batch(Vec::clone, |_: &mut Vec<u32>, _| ()).journaled());
    let sorry = shop.add("say \"sorry\"", nothing);
    let nap = shop.add("nap", Sleep::new(secs(1)));
    shop.start(pick);
    shop.route(pick >> pay);
    shop.route(pay - "paid" >> each);
    shop.route(pay - "refused" >> sorry >> nap);
    shop.route(pay - "odd" >> END);
    shop.unrouted(Unrouted::End);
    shop.build().unwrap()
}

#[test]
fn mermaid_shows_labels_and_clusters() {
    let expected = r#"flowchart TD
    s0(( )) --> n0
    n0[["pick, 4 at once, 3 attempts, not journaled"]]
    n4["say #34;sorry#34;"]
    n5(["nap"])
    subgraph n3 ["each, each, journaled"]
        n3_s0(( )) --> n3_n0
        n3_n0["add"]
    end
    subgraph f1 ["pay"]
        s1(( )) --> n1
        n1["card"]
        n2["check"]
        n1 --> n2
    end
    n0 --> f1
    n4 --> n5
    f1 -->|"paid"| n3
    f1 -->|"refused"| n4
    f1 -->|"odd"| e0
    e0((( )))
"#;

    assert_eq!(shop().to_mermaid(), expected);
}

#[test]
fn dot_shows_labels_and_clusters() {
    let expected = r#"digraph "shop" {
    compound=true;
    node [shape=box, style=rounded];
    s0 [shape=point];
    n0 [label="pick, 4 at once, 3 attempts, not journaled"];
    subgraph cluster_n3 {
        label="each, each, journaled";
        n3_s0 [shape=point];
        n3_n0 [label="add"];
        n3_s0 -> n3_n0;
    }
    n4 [label="say \"sorry\""];
    n5 [label="nap", shape=ellipse];
    subgraph cluster_f1 {
        label="pay";
        s1 [shape=point];
        n1 [label="card"];
        n2 [label="check"];
        s1 -> n1;
        n1 -> n2;
    }
    s0 -> n0;
    n0 -> n1 [lhead=cluster_f1];
    n4 -> n5;
    n1 -> n3_n0 [label="paid", ltail=cluster_f1, lhead=cluster_n3];
    n1 -> n4 [label="refused", ltail=cluster_f1];
    n1 -> e0 [label="odd", ltail=cluster_f1];
    e0 [shape=doublecircle, label="", width=0.15];
}
"#;

    assert_eq!(shop().to_dot(), expected);
}

#[test]
fn json_tells_tools_everything() {
    let function = |name: &str, path: &str| {
        json!({
            "name": name, "path": path, "kind": "function", "actions": ["default"], "attempts": 1,
            "timeout_ms": null, "total_timeout_ms": null, "blocking_pool": false,
        })
    };
    let mut check = function("check", "pay/check");
    check["actions"] = json!(null);
    let mut nap = function("nap", "nap");
    nap["kind"] = json!("sleep");
    let expected = json!({
        "flow": "shop", "start": "pick", "unrouted": "end", "maps_exits": false,
        "nodes": [
            {
                "name": "pick", "path": "pick", "kind": "batch_node", "actions": ["default"], "attempts": 3,
                "timeout_ms": 2000.0, "total_timeout_ms": null, "blocking_pool": true, "limit": 4, "on_error": "stop",
                "journaled": false,
            },
            {
                "name": "each", "path": "each", "kind": "batch_flow", "actions": ["default"], "attempts": 1,
                "timeout_ms": null, "total_timeout_ms": null, "blocking_pool": false, "limit": 1, "on_error": "stop",
                "journaled": true,
                "children": {
                    "flow": "grow", "start": "add", "unrouted": "error", "maps_exits": false,
                    "nodes": [function("add", "add")], "edges": [],
                },
            },
            function("say \"sorry\"", "say \"sorry\""),
            nap,
            {
                "name": "pay", "path": "pay", "kind": "flow", "flow": "pay", "start": "card", "unrouted": "error",
                "maps_exits": false, "nodes": [function("card", "pay/card"), check],
                "edges": [{ "from": "card", "action": "default", "to": "check" }],
            },
        ],
        "edges": [
            { "from": "pick", "action": "default", "to": "pay" },
            { "from": "say \"sorry\"", "action": "default", "to": "nap" },
            { "from": "pay", "action": "paid", "to": "each" },
            { "from": "pay", "action": "refused", "to": "say \"sorry\"" },
            { "from": "pay", "action": "odd", "to": null },
        ],
    });

    assert_eq!(shop().to_json(), expected);
}
