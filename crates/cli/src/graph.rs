//! `graph`: the flows of a store or of a program, and the nodes that start over after a crash.

use std::io::Write;

use flowstone_durable::Reader;
use serde_json::{Value, json};

use crate::{
    arguments::GraphArguments,
    flows::{Flows, Picture},
    screen::Screen,
    stop::{Result, Stop},
    words::took,
};

pub(crate) fn graph<W: Write>(arguments: &GraphArguments, flows: &Flows, screen: &mut Screen<W>) -> Result<()> {
    let pictures = pictures(arguments, flows)?;
    let form = &arguments.form;
    if form.json {
        let flows: Vec<_> = pictures.iter().map(Picture::view).collect();
        return screen.json(&json!({ "flows": flows }));
    }
    if form.mermaid || form.dot {
        let [picture] = pictures.as_slice() else { return Err(several(&pictures)) };
        return screen.text(if form.mermaid { &picture.mermaid } else { &picture.dot });
    }
    for (index, picture) in pictures.iter().enumerate() {
        if index > 0 {
            screen.gap()?;
        }
        lines(picture).iter().try_for_each(|line| screen.line(line))?;
    }
    Ok(())
}

/// The flows that were asked for, of each the newest version.
fn pictures(arguments: &GraphArguments, flows: &Flows) -> Result<Vec<Picture>> {
    let mut found: Vec<Picture> = Vec::new();
    match &arguments.store {
        Some(store) => {
            for flow in Reader::open(store)?.flows()? {
                found.retain(|older| older.name != flow.name);
                found.push(flow.into());
            }
        }
        None if flows.is_empty() => {
            return Err(Stop::Usage("give the store with --store FILE, or in FLOWSTONE_STORE".into()));
        }
        None => found = flows.pictures(),
    }
    let Some(name) = &arguments.flow else { return Ok(found) };
    let names = names(&found);
    found.retain(|flow| flow.name == *name);
    if found.is_empty() {
        return Err(Stop::failed(format!("there is no flow `{name}`; there is {names}")));
    }
    Ok(found)
}

fn several(pictures: &[Picture]) -> Stop {
    match pictures {
        [] => Stop::failed("the store has no flows yet"),
        _ => Stop::failed(format!("a picture is of one flow: name it with --flow; there is {}", names(pictures))),
    }
}

fn names(pictures: &[Picture]) -> String {
    let names: Vec<_> = pictures.iter().map(|picture| format!("`{}`", picture.name)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Returns the paths of the batch nodes in a flow that start over with all their items after a crash.
///
/// Nodes inside such a node start over with it, and so are not named.
pub(crate) fn restarts_whole(graph: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(graph, "", &mut found);
    found
}

fn collect(graph: &Value, around: &str, found: &mut Vec<String>) {
    for node in list(&graph["nodes"]) {
        let path = format!("{around}{}", text(&node["path"]));
        if node["journaled"] == false {
            found.push(path);
        } else if node["children"].is_object() {
            // A child is a run of its own, in which paths begin anew.
            collect(&node["children"], &format!("{path}/"), found);
        } else {
            collect(node, around, found);
        }
    }
}

/// A flow as a list: each node with its edges.
fn lines(picture: &Picture) -> Vec<String> {
    let version = picture.fingerprint.as_ref().map_or_else(String::new, |print| format!(" (version {print})"));
    let mut lines = vec![format!("flow {}{version}", picture.name)];
    level(&picture.graph, 1, &mut lines);
    for node in restarts_whole(&picture.graph) {
        lines.push(format!("after a crash batch `{node}` restarts whole: it is not journaled"));
    }
    lines
}

fn level(graph: &Value, depth: usize, lines: &mut Vec<String>) {
    let pad = "  ".repeat(depth);
    let end = if depth == 1 { "(end)" } else { "(exit)" };
    lines.push(format!("{pad}(start) -> {}", text(&graph["start"])));
    for node in list(&graph["nodes"]) {
        let name = text(&node["name"]);
        lines.push(format!("{pad}{name}: {}", about(node)));
        let mut routed = 0;
        for edge in list(&graph["edges"]).iter().filter(|edge| edge["from"] == node["name"]) {
            let action = Some(text(&edge["action"])).filter(|action| *action != "default");
            let action = action.map_or_else(String::new, |action| format!("{action} "));
            lines.push(format!("{pad}    {action}-> {}", edge["to"].as_str().unwrap_or(end)));
            routed += 1;
        }
        if routed == 0 {
            lines.push(format!("{pad}    -> {end}"));
        } else if graph["unrouted"] == "end" && node["actions"].is_null() {
            lines.push(format!("{pad}    any other -> {end}"));
        }
        let inner = if node["children"].is_object() { &node["children"] } else { node };
        if inner["nodes"].is_array() {
            level(inner, depth + 2, lines);
        }
    }
}

/// Returns the kind of a node and its policies, in words.
fn about(node: &Value) -> String {
    let mut words = vec![match text(&node["kind"]) {
        "node" => "node".to_owned(),
        "async_node" => "async node".to_owned(),
        "batch_node" => "batch".to_owned(),
        "async_batch_node" => "async batch".to_owned(),
        "ask" => "asks, and waits for an answer".to_owned(),
        "sleep" => "sleeps".to_owned(),
        "batch_flow" => format!("flow `{}` for each item", text(&node["children"]["flow"])),
        "flow" => format!("flow `{}`", text(&node["flow"])),
        // Kinds that this version does not know have names, too.
        kind => kind.replace('_', " "),
    }];
    match node.get("limit") {
        Some(Value::Null) => words.push("all at once".to_owned()),
        Some(limit) if *limit != 1 => words.push(format!("{limit} at once")),
        _ => {}
    }
    if node["attempts"].as_u64().is_some_and(|attempts| attempts > 1) {
        words.push(format!("{} attempts", node["attempts"]));
    }
    for (key, name) in [("timeout_ms", "timeout"), ("total_timeout_ms", "timeout in all")] {
        if let Some(limit) =
            node[key].as_f64().and_then(|millis| std::time::Duration::try_from_secs_f64(millis / 1e3).ok())
        {
            words.push(format!("{name} {}", took(limit)));
        }
    }
    if node["on_error"] == "collect" {
        words.push("errors collected".to_owned());
    }
    match node["journaled"].as_bool() {
        Some(true) => words.push("journaled".to_owned()),
        Some(false) => words.push("not journaled".to_owned()),
        None => {}
    }
    words.join(", ")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_are_not_journaled_restart_whole_wherever_they_are() {
        let inner = json!({ "nodes": [{ "path": "grade", "journaled": false }, { "path": "sum" }] });
        let graph = json!({ "nodes": [
            { "path": "read", "journaled": true },
            { "path": "classes", "journaled": true, "children": inner },
            { "path": "schools", "journaled": false, "children": inner },
            { "path": "pay", "kind": "flow", "nodes": [{ "path": "pay/each", "journaled": false }] },
        ]});

        assert_eq!(restarts_whole(&graph), ["classes/grade", "schools", "pay/each"]);
    }
}
