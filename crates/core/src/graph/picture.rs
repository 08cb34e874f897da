//! Pictures of a flow: Mermaid and DOT for people, JSON for tools.
//!
//! They show the flow as it was written: nested flows are clusters, and edges go from and to them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Edges, Graph, GraphNode, Kind, Level, Place};
use crate::{action::Action, node::OnError};

impl Graph {
    pub(crate) fn to_mermaid(&self) -> String {
        let mut text = "flowchart TD\n".to_owned();
        self.mermaid_level(0, 1, "", &mut text);
        text
    }

    fn mermaid_level(&self, level: usize, depth: usize, prefix: &str, text: &mut String) {
        let pad = "    ".repeat(depth);
        let id = |place: Place| mermaid_id(prefix, place);
        // Every line below ends in a line break, and writing to a string cannot fail.
        let mut line = |content: String| {
            text.push_str(&pad);
            text.push_str(&content);
            text.push('\n');
        };
        line(format!("{prefix}s{level}(( )) --> {}", id(self.levels[level].start)));
        let mut clusters = Vec::new();
        for place in self.elements(level) {
            match place {
                Place::Node(index) if self.nodes[index].about.children.is_some() => clusters.push(place),
                Place::Node(index) => line(format!("{}{}", id(place), mermaid_shape(&self.nodes[index]))),
                Place::Level(_) => clusters.push(place),
            }
        }
        for cluster in clusters {
            let pad = "    ".repeat(depth);
            let title = mermaid_text(&self.title(cluster));
            let _ = writeln!(text, "{pad}subgraph {} [\"{title}\"]", id(cluster));
            match cluster {
                Place::Level(inner) => self.mermaid_level(inner, depth + 1, prefix, text),
                Place::Node(index) => {
                    if let Some(children) = &self.nodes[index].about.children {
                        children.mermaid_level(0, depth + 1, &format!("{}_", id(cluster)), text);
                    }
                }
            }
            let _ = writeln!(text, "{pad}end");
        }
        let mut ends = false;
        for (from, action, to) in self.edges_in(level) {
            let target = to.map_or_else(|| format!("{prefix}e{level}"), id);
            ends |= to.is_none();
            let arrow = if action == Action::DEFAULT {
                "-->".to_owned()
            } else {
                format!("-->|\"{}\"|", mermaid_text(action.as_str()))
            };
            let _ = writeln!(text, "{pad}{} {arrow} {target}", id(from));
        }
        if ends {
            let _ = writeln!(text, "{pad}{prefix}e{level}((( )))");
        }
    }

    pub(crate) fn to_dot(&self) -> String {
        let mut text =
            format!("digraph {} {{\n    compound=true;\n    node [shape=box, style=rounded];\n", quoted(self.name()));
        self.dot_level(0, 1, "", &mut text);
        text.push_str("}\n");
        text
    }

    fn dot_level(&self, level: usize, depth: usize, prefix: &str, text: &mut String) {
        let pad = "    ".repeat(depth);
        let name = |node: &GraphNode| format!("{prefix}{}", node.path);
        let (start, end) =
            (format!("{prefix}{}:start", self.levels[level].path), format!("{prefix}{}:end", self.levels[level].path));
        let _ = writeln!(text, "{pad}{} [shape=point];", quoted(&start));
        for place in self.elements(level) {
            let (title, inner) = (quoted(&self.title(place)), depth + 1);
            match place {
                Place::Node(index) => match &self.nodes[index].about.children {
                    None => {
                        let _ = writeln!(text, "{pad}{} [label={title}];", quoted(&name(&self.nodes[index])));
                    }
                    Some(children) => {
                        let below = format!("{}/", name(&self.nodes[index]));
                        let _ = writeln!(
                            text,
                            "{pad}subgraph {} {{\n{pad}    label={title};",
                            quoted(&self.cluster(place, prefix))
                        );
                        children.dot_level(0, inner, &below, text);
                        let _ = writeln!(text, "{pad}}}");
                    }
                },
                Place::Level(nested) => {
                    let _ = writeln!(
                        text,
                        "{pad}subgraph {} {{\n{pad}    label={title};",
                        quoted(&self.cluster(place, prefix))
                    );
                    self.dot_level(nested, inner, prefix, text);
                    let _ = writeln!(text, "{pad}}}");
                }
            }
        }
        let mut ends = false;
        let first = (Place::Level(level), None, Some(self.levels[level].start));
        let edges = self.edges_in(level).map(|(from, action, to)| (from, Some(action), to));
        for (from, action, to) in std::iter::once(first).chain(edges) {
            ends |= to.is_none();
            let mut attributes = Vec::new();
            let tail = match action {
                None => start.clone(),
                Some(action) => {
                    if action != Action::DEFAULT {
                        attributes.push(format!("label={}", quoted(action.as_str())));
                    }
                    if self.is_cluster(from) {
                        attributes.push(format!("ltail={}", quoted(&self.cluster(from, prefix))));
                    }
                    self.dot_first(from, prefix)
                }
            };
            let head = to.map_or_else(|| end.clone(), |to| self.dot_first(to, prefix));
            if let Some(to) = to.filter(|to| self.is_cluster(*to)) {
                attributes.push(format!("lhead={}", quoted(&self.cluster(to, prefix))));
            }
            let attributes =
                if attributes.is_empty() { String::new() } else { format!(" [{}]", attributes.join(", ")) };
            let _ = writeln!(text, "{pad}{} -> {}{attributes};", quoted(&tail), quoted(&head));
        }
        if ends {
            let _ = writeln!(text, "{pad}{} [shape=doublecircle, label=\"\", width=0.15];", quoted(&end));
        }
    }

    /// The node that stands for a place in DOT, whose edges join nodes only.
    fn dot_first(&self, place: Place, prefix: &str) -> String {
        let node = &self.nodes[self.first(place).index()];
        match &node.about.children {
            None => format!("{prefix}{}", node.path),
            Some(children) => children.dot_first(children.levels[0].start, &format!("{prefix}{}/", node.path)),
        }
    }

    fn is_cluster(&self, place: Place) -> bool {
        match place {
            Place::Node(index) => self.nodes[index].about.children.is_some(),
            Place::Level(_) => true,
        }
    }

    /// Graphviz takes a subgraph for a cluster by its name.
    fn cluster(&self, place: Place, prefix: &str) -> String {
        let path = match place {
            Place::Node(index) => &self.nodes[index].path,
            Place::Level(index) => &self.levels[index].path,
        };
        format!("cluster {prefix}{path}")
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut flow = self.json_level(0);
        flow["flow"] = json!(self.name());
        flow
    }

    fn json_level(&self, level: usize) -> Value {
        let nodes: Vec<Value> = self.elements(level).map(|place| self.json_element(place)).collect();
        let edges = self.edges_in(level).map(|(from, action, to)| {
            json!({ "from": self.name_of(from), "action": action, "to": to.map(|to| self.name_of(to)) })
        });
        let Level { start, unrouted, exits, .. } = &self.levels[level];
        json!({
            "start": self.name_of(*start),
            "unrouted": unrouted,
            "maps_exits": exits.is_some(),
            "nodes": nodes,
            "edges": edges.collect::<Vec<_>>(),
        })
    }

    fn json_element(&self, place: Place) -> Value {
        let index = match place {
            Place::Node(index) => index,
            Place::Level(index) => {
                let Level { name, path, flow, .. } = &self.levels[index];
                let mut nested = self.json_level(index);
                nested["name"] = json!(name);
                nested["path"] = json!(path);
                nested["kind"] = json!("flow");
                nested["flow"] = json!(flow);
                return nested;
            }
        };
        let GraphNode { name, path, about, .. } = &self.nodes[index];
        let policy = &about.policy;
        let millis = |limit: Option<std::time::Duration>| limit.map(|limit| limit.as_secs_f64() * 1e3);
        let mut node = json!({
            "name": name,
            "path": path,
            "kind": about.kind,
            "actions": if about.labels.is_empty() { Value::Null } else { json!(about.labels) },
            "attempts": policy.retry.count(),
            "timeout_ms": millis(policy.timeout),
            "total_timeout_ms": millis(policy.total_timeout),
            "blocking_pool": policy.pooled,
        });
        if let Some(on_error) = about.on_error {
            node["limit"] = if about.limit == usize::MAX { Value::Null } else { json!(about.limit) };
            node["on_error"] = json!(on_error);
        }
        if let Some(children) = &about.children {
            node["children"] = children.to_json();
        }
        node
    }

    /// The nodes and flows directly in a level, nodes first, each in the order in which it was added.
    fn elements(&self, level: usize) -> impl Iterator<Item = Place> {
        let nodes = self.nodes.iter().enumerate().filter(move |(_, node)| node.level == level);
        let levels = self.levels.iter().enumerate().filter(move |(_, inner)| inner.parent == Some(level));
        nodes.map(|(index, _)| Place::Node(index)).chain(levels.map(|(index, _)| Place::Level(index)))
    }

    fn edges_in(&self, level: usize) -> impl Iterator<Item = (Place, Action, Option<Place>)> {
        self.elements(level).flat_map(|place| {
            let Edges(edges) = self.edges(place).0;
            edges.iter().map(move |(action, to)| (place, action.clone(), *to))
        })
    }

    fn name_of(&self, place: Place) -> &str {
        match place {
            Place::Node(index) => &self.nodes[index].name,
            Place::Level(index) => &self.levels[index].name,
        }
    }

    /// A name, with what a reader should know at a glance.
    fn title(&self, place: Place) -> String {
        match place {
            Place::Node(index) => self.nodes[index].title(),
            Place::Level(index) => self.levels[index].name.clone(),
        }
    }
}

impl GraphNode {
    fn title(&self) -> String {
        let Self { name, about, .. } = self;
        let each = match (about.on_error, about.limit) {
            (None, _) => String::new(),
            (Some(_), 1) => ", each".to_owned(),
            (Some(_), usize::MAX) => ", all at once".to_owned(),
            (Some(_), limit) => format!(", {limit} at once"),
        };
        let collects = if about.on_error == Some(OnError::Collect) { ", errors collected" } else { "" };
        let attempts = match about.policy.retry.count() {
            1 => String::new(),
            attempts => format!(", {attempts} attempts"),
        };
        format!("{name}{each}{collects}{attempts}")
    }
}

fn mermaid_id(prefix: &str, place: Place) -> String {
    match place {
        Place::Node(index) => format!("{prefix}n{index}"),
        Place::Level(index) => format!("{prefix}f{index}"),
    }
}

fn mermaid_shape(node: &GraphNode) -> String {
    let text = mermaid_text(&node.title());
    match node.about.kind {
        Kind::Ask => format!("{{{{\"{text}\"}}}}"),
        Kind::BatchNode | Kind::AsyncBatchNode => format!("[[\"{text}\"]]"),
        _ => format!("[\"{text}\"]"),
    }
}

/// Text between quotes in Mermaid, whose escapes are HTML's with `#`.
fn mermaid_text(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;").replace('\n', " ")
}

/// A quoted string in DOT.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
