//! Pictures of a flow: Mermaid and DOT for people, JSON for tools.
//!
//! They show the flow as it was written: nested flows are clusters, and edges go from and to them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    graph::{Edges, Graph, GraphNode, Level, NodeKind, Place},
    policy::OnError,
    words::action::Action,
};

impl Graph {
    pub(crate) fn to_mermaid(&self) -> String {
        let mut text = "flowchart TD\n".to_owned();
        self.mermaid_level(0, 1, "", &mut text);
        text
    }

    fn mermaid_level(&self, level: usize, depth: usize, prefix: &str, text: &mut String) {
        let pad = "    ".repeat(depth);
        let id = |place: Place| picture_id(prefix, place);
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
        let (start, end) = (format!("{prefix}s{level}"), format!("{prefix}e{level}"));
        let _ = writeln!(text, "{pad}{start} [shape=point];");
        for place in self.elements(level) {
            let title = quoted(&self.title(place));
            if !self.is_cluster(place) {
                let shape = self.dot_shape(place);
                let _ = writeln!(text, "{pad}{} [label={title}{shape}];", picture_id(prefix, place));
                continue;
            }
            let _ = writeln!(text, "{pad}subgraph {} {{\n{pad}    label={title};", cluster(prefix, place));
            match place {
                Place::Level(nested) => self.dot_level(nested, depth + 1, prefix, text),
                Place::Node(index) => {
                    if let Some(children) = &self.nodes[index].about.children {
                        children.dot_level(0, depth + 1, &format!("{}_", picture_id(prefix, place)), text);
                    }
                }
            }
            let _ = writeln!(text, "{pad}}}");
        }
        let first = self.levels[level].start;
        let _ = writeln!(
            text,
            "{pad}{start} -> {}{};",
            self.dot_first(first, prefix),
            self.dot_edge(prefix, None, Some(first))
        );
        let mut ends = false;
        for (from, action, to) in self.edges_in(level) {
            ends |= to.is_none();
            let head = to.map_or_else(|| end.clone(), |to| self.dot_first(to, prefix));
            let attributes = self.dot_edge(prefix, Some((from, &action)), to);
            let _ = writeln!(text, "{pad}{} -> {head}{attributes};", self.dot_first(from, prefix));
        }
        if ends {
            let _ = writeln!(text, "{pad}{end} [shape=doublecircle, label=\"\", width=0.15];");
        }
    }

    fn dot_shape(&self, place: Place) -> &'static str {
        match place {
            Place::Node(index) if self.nodes[index].about.kind == NodeKind::Sleep => ", shape=ellipse",
            _ => "",
        }
    }

    /// The attributes of an edge: its label, and the clusters that it is drawn from and to.
    fn dot_edge(&self, prefix: &str, from: Option<(Place, &Action)>, to: Option<Place>) -> String {
        let mut attributes = Vec::new();
        if let Some((from, action)) = from {
            if *action != Action::DEFAULT {
                attributes.push(format!("label={}", quoted(action.as_str())));
            }
            if self.is_cluster(from) {
                attributes.push(format!("ltail={}", cluster(prefix, from)));
            }
        }
        if let Some(to) = to.filter(|to| self.is_cluster(*to)) {
            attributes.push(format!("lhead={}", cluster(prefix, to)));
        }
        if attributes.is_empty() { String::new() } else { format!(" [{}]", attributes.join(", ")) }
    }

    /// The node that stands for a place in DOT, whose edges join nodes only.
    fn dot_first(&self, place: Place, prefix: &str) -> String {
        let first = Place::Node(self.first(place).index());
        let Place::Node(index) = first else { return picture_id(prefix, first) };
        match &self.nodes[index].about.children {
            None => picture_id(prefix, first),
            Some(children) => children.dot_first(children.levels[0].start, &format!("{}_", picture_id(prefix, first))),
        }
    }

    fn is_cluster(&self, place: Place) -> bool {
        match place {
            Place::Node(index) => self.nodes[index].about.children.is_some(),
            Place::Level(_) => true,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        self.to_json_in(self.sync)
    }

    /// As a part of a flow that is sync, and so has no use for the blocking pool, or of one that is not.
    fn to_json_in(&self, sync: bool) -> Value {
        let mut flow = self.json_level(0, sync);
        flow["flow"] = json!(self.name());
        flow
    }

    fn json_level(&self, level: usize, sync: bool) -> Value {
        let nodes: Vec<Value> = self.elements(level).map(|place| self.json_element(place, sync)).collect();
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

    fn json_element(&self, place: Place, sync: bool) -> Value {
        let index = match place {
            Place::Node(index) => index,
            Place::Level(index) => {
                let Level { name, path, flow, .. } = &self.levels[index];
                let mut nested = self.json_level(index, sync);
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
            "blocking_pool": policy.pooled && !sync,
        });
        if let Some(on_error) = about.on_error {
            node["limit"] = if policy.at_once() == usize::MAX { Value::Null } else { json!(policy.at_once()) };
            node["on_error"] = json!(on_error);
            node["journaled"] = json!(about.journaled);
        }
        if let Some(children) = &about.children {
            node["children"] = children.to_json_in(sync);
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
        let each = match (about.on_error, about.policy.at_once()) {
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
        let journaled = match (about.on_error, about.journaled) {
            (None, _) => "",
            (Some(_), true) => ", journaled",
            (Some(_), false) => ", not journaled",
        };
        format!("{name}{each}{collects}{attempts}{journaled}")
    }
}

fn picture_id(prefix: &str, place: Place) -> String {
    match place {
        Place::Node(index) => format!("{prefix}n{index}"),
        Place::Level(index) => format!("{prefix}f{index}"),
    }
}

/// Graphviz takes a subgraph for a cluster by its name.
fn cluster(prefix: &str, place: Place) -> String {
    format!("cluster_{}", picture_id(prefix, place))
}

fn mermaid_shape(node: &GraphNode) -> String {
    let text = mermaid_text(&node.title());
    match node.about.kind {
        NodeKind::Ask => format!("{{{{\"{text}\"}}}}"),
        NodeKind::Sleep => format!("([\"{text}\"])"),
        NodeKind::BatchNode | NodeKind::AsyncBatchNode => format!("[[\"{text}\"]]"),
        _ => format!("[\"{text}\"]"),
    }
}

/// Text between quotes in Mermaid, whose escapes are HTML's with `#`.
fn mermaid_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '#' | '"' | '<' | '>' | '&' | '`' | '%' => {
                let _ = write!(escaped, "#{};", u32::from(character));
            }
            '\n' | '\r' => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// A quoted string in DOT.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
