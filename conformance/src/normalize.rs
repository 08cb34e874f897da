//! The one form in which traces are compared.
//!
//! Parallel work may interleave in any way, and after a failure inside parallel work it is open how far the siblings
//! got. So each unbroken stretch of parallel work is sorted into lanes, one per item, with the order within a lane
//! kept; and what happened inside a parallel element that failed is dropped.

use crate::{
    spec::{Element, Graph, GraphKind, Leaf, LeafKind, Spec},
    trace::{Ev, Event, Trace},
};

/// Brings a trace into the form in which traces are compared.
#[must_use]
pub fn normalize(spec: &Spec, trace: &Trace) -> Trace {
    let Trace { mut events, mut shared, last_action, error } = trace.clone();
    if let Some(error) = &error
        && let Some(outermost) = walk(spec, &error.path).into_iter().find(|step| step.inner.is_parallel())
    {
        events.retain(|event| !is_inside(&event.path, &outermost.path));
        if let Inner::Graph(graph) = outermost.inner {
            shared.retain(|key, _| !graph.writes(key));
        }
    }
    let placed = events.into_iter().map(|event| (lanes(spec, &event), event)).collect();
    Trace { events: arranged(placed, 0), shared, last_action, error }
}

/// Describes the first difference between two normalized traces.
#[must_use]
pub fn difference(expected: &Trace, actual: &Trace) -> Option<String> {
    let told = |what: &str, expected: &dyn std::fmt::Debug, actual: &dyn std::fmt::Debug| {
        Some(format!("{what}: expected {expected:?}, got {actual:?}"))
    };
    if expected.error != actual.error {
        return told("error", &expected.error, &actual.error);
    }
    if expected.last_action != actual.last_action {
        return told("last_action", &expected.last_action, &actual.last_action);
    }
    if expected.shared != actual.shared {
        return told("shared", &expected.shared, &actual.shared);
    }
    let count = expected.events.len().max(actual.events.len());
    let first = (0..count).find(|number| expected.events.get(*number) != actual.events.get(*number))?;
    told(&format!("event {first}"), &expected.events.get(first), &actual.events.get(first))
}

/// A stretch of parallel work, and a position in it.
type Lane = (String, Option<usize>);

/// An element on the way from the root flow to a node.
struct Step<'a> {
    inner: Inner<'a>,
    /// Its path, without an item index of its own.
    path: String,
    /// Its own item index, of a batch flow.
    index: Option<usize>,
}

/// The kind of an element; the root flow is no [`Element`] of a flow.
#[derive(Clone, Copy)]
enum Inner<'a> {
    Leaf(&'a Leaf),
    Graph(&'a Graph),
}

impl<'a> Inner<'a> {
    fn is_parallel(self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.kind == LeafKind::AsyncParallelBatchNode,
            Self::Graph(graph) => graph.kind == GraphKind::AsyncParallelBatchFlow,
        }
    }

    fn child(self, name: &str) -> Option<Self> {
        let Self::Graph(graph) = self else { return None };
        graph.nodes.iter().find(|element| element.name() == name).map(Self::of)
    }

    fn of(element: &'a Element) -> Self {
        match element {
            Element::Leaf(leaf) => Self::Leaf(leaf),
            Element::Graph(graph) => Self::Graph(graph),
        }
    }
}

/// The elements along a path, from the root flow down, as far as there are such.
fn walk<'a>(spec: &'a Spec, path: &str) -> Vec<Step<'a>> {
    let mut steps: Vec<Step<'a>> = Vec::new();
    let mut above = String::new();
    for segment in path.split('/') {
        let (name, index) = match segment.strip_suffix(']').and_then(|segment| segment.split_once('[')) {
            Some((name, index)) => (name, index.parse().ok()),
            None => (segment, None),
        };
        let inner = match steps.last() {
            None => Some(Inner::Graph(&spec.flow)),
            Some(step) => step.inner.child(name),
        };
        let Some(inner) = inner else { break };
        steps.push(Step { inner, path: format!("{above}{name}"), index });
        above.push_str(segment);
        above.push('/');
    }
    steps
}

fn is_inside(path: &str, element: &str) -> bool {
    path.strip_prefix(element).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '/']))
}

/// The lanes that an event is in, outermost first.
fn lanes(spec: &Spec, event: &Event) -> Vec<Lane> {
    let parallel = walk(spec, &event.path).into_iter().filter(|step| step.inner.is_parallel());
    let lane = |step: Step<'_>| match step.inner {
        Inner::Graph(_) => Some((step.path, step.index)),
        Inner::Leaf(_) if matches!(event.ev, Ev::Exec | Ev::Fallback) => {
            // Two visits in a row are two stretches. No path has a blank in it.
            Some((format!("{} {}", step.path, event.visit), event.item))
        }
        Inner::Leaf(_) => None,
    };
    parallel.filter_map(lane).collect()
}

/// Sorts each stretch of parallel work at this depth by lane, and then within each lane those one deeper.
fn arranged(events: Vec<(Vec<Lane>, Event)>, depth: usize) -> Vec<Event> {
    let stretch = |(lanes, _): &(Vec<Lane>, Event)| lanes.get(depth).map(|(name, _)| name.clone());
    let position = |(lanes, _): &(Vec<Lane>, Event)| lanes.get(depth).and_then(|(_, position)| *position);
    let mut result = Vec::with_capacity(events.len());
    for (name, mut group) in grouped(events, stretch) {
        if name.is_none() {
            result.extend(group.into_iter().map(|(_, event)| event));
            continue;
        }
        group.sort_by_key(position);
        result.extend(grouped(group, position).into_iter().flat_map(|(_, lane)| arranged(lane, depth + 1)));
    }
    result
}

/// Splits a row into stretches of one key.
fn grouped<T, K: PartialEq>(row: Vec<T>, key: impl Fn(&T) -> K) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for element in row {
        let own = key(&element);
        match groups.last_mut() {
            Some((last, group)) if *last == own => group.push(element),
            _ => groups.push((own, vec![element])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A parallel batch flow `par` whose sequential node `seq` and parallel node `all` add to `total`.
    fn spec() -> Spec {
        let node = |name: &str, kind: &str| json!({"name": name, "kind": kind, "post": {"op": "add", "key": "total"}});
        let par = json!({
            "name": "par", "kind": "async_parallel_batch_flow", "items": [{}, {}], "start": "seq",
            "nodes": [node("seq", "async_node"), node("all", "async_parallel_batch_node")],
            "edges": [{"from": "seq", "to": "all"}],
        });
        let nodes = json!([node("all", "async_parallel_batch_node"), par]);
        let flow = json!({
            "name": "main", "kind": "async_flow", "start": "all", "nodes": nodes,
            "edges": [{"from": "all", "to": "par"}],
        });
        Spec::parse(&json!({"shared": {}, "flow": flow}).to_string()).unwrap()
    }

    /// A trace from `(ev, path, item)`; each event gets its place in the row as its value.
    fn trace(events: &[(&str, &str, Option<usize>)], error: Option<&str>) -> Trace {
        let event = |(number, (ev, path, item)): (usize, &(&str, &str, Option<usize>))| json!({"ev": ev, "path": path, "visit": 0, "item": item, "value": number});
        let events: Vec<Value> = events.iter().enumerate().map(event).collect();
        let error = error.map(|path| json!({"path": path, "message": "boom"}));
        let shared = json!({"total": 1, "other": 2});
        serde_json::from_value(json!({"events": events, "shared": shared, "last_action": null, "error": error}))
            .unwrap()
    }

    fn values(trace: &Trace) -> Vec<&Value> {
        trace.events.iter().map(|event| &event.value).collect()
    }

    #[test]
    fn items_of_a_parallel_node_are_sorted_and_the_order_within_one_is_kept() {
        let all = "main/all";
        let events = [
            ("prep", all, None),
            ("exec", all, Some(1)),
            ("exec", all, Some(0)),
            ("fallback", all, Some(1)),
            ("fallback", all, Some(0)),
            ("post", all, None),
        ];

        let normal = normalize(&spec(), &trace(&events, None));

        assert_eq!(values(&normal), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn children_of_a_parallel_flow_are_sorted_first_and_parallel_nodes_within_each() {
        let events = [
            ("prep", "main/par[1]/seq", None),
            ("prep", "main/par[0]/seq", None),
            ("exec", "main/par[0]/all", Some(1)),
            ("exec", "main/par[1]/seq", None),
            ("exec", "main/par[0]/all", Some(0)),
            ("post", "main/par[0]/all", None),
        ];

        let normal = normalize(&spec(), &trace(&events, None));

        assert_eq!(values(&normal), [1, 4, 2, 5, 0, 3]);
    }

    #[test]
    fn sequential_work_splits_stretches() {
        let all = "main/all";
        let events = [("exec", all, Some(1)), ("post", all, None), ("exec", all, Some(0))];

        let normal = normalize(&spec(), &trace(&events, None));

        assert_eq!(values(&normal), [0, 1, 2]);
    }

    #[test]
    fn a_failed_parallel_flow_loses_its_events_and_the_keys_that_it_writes() {
        let events =
            [("post", "main/all", None), ("exec", "main/par[0]/seq", None), ("exec", "main/par[1]/all", Some(0))];

        let normal = normalize(&spec(), &trace(&events, Some("main/par[1]/all")));

        assert_eq!(values(&normal), [0]);
        assert_eq!(Value::Object(normal.shared), json!({"other": 2}));
    }

    #[test]
    fn a_failed_parallel_node_loses_its_events_and_no_key() {
        let events = [("prep", "main/all", None), ("exec", "main/all", Some(0))];

        let normal = normalize(&spec(), &trace(&events, Some("main/all")));

        assert!(normal.events.is_empty());
        assert_eq!(Value::Object(normal.shared), json!({"total": 1, "other": 2}));
    }

    #[test]
    fn the_first_difference_is_told() {
        let (left, right) = (trace(&[("prep", "main/all", None)], None), trace(&[], None));

        assert_eq!(difference(&left, &left), None);
        assert!(difference(&left, &right).is_some_and(|told| told.starts_with("event 0: expected Some(Event")));
    }
}
