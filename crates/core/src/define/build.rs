//! Building a flow: collecting nodes and edges, and checking all of it at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    define::{
        add::{Added, AddedGraph, IntoNode},
        fault::{BuildError, Fault},
    },
    graph::{About, Edges, Graph, Level, NodeKind, Place, Unrouted, exits::Exits},
    node::State,
    visit::{Definition, body::Body},
    words::{
        action::Action,
        route::{At, Edge, Route, Spot},
    },
};

/// Collects the nodes and edges of a flow. [`Flow::builder`](crate::Flow::builder) and
/// [`AsyncFlow::builder`](crate::AsyncFlow::builder) make one.
///
/// Nothing that is wrong panics or is lost: [`build`](Self::build) reports every fault at once.
///
/// # Example
///
/// ```
/// use flowstone_core::{Flow, Label, Action};
///
/// let mut flow = Flow::<u32>::builder("broken");
/// let a = flow.add("a", |_: &mut u32| ());
/// let b = flow.add("b", |_: &mut u32| ());
/// flow.route(a >> a);
///
/// let error = flow.build().unwrap_err();
/// assert_eq!(error.to_string(), "flow `broken` has 1 fault:\n  - it has no start: call `start` with a node");
/// ```
pub struct Builder<S, K> {
    id: u64,
    name: String,
    elements: Vec<Element<S>>,
    edges: Vec<Edge>,
    starts: Vec<Spot>,
    unrouted: Unrouted,
    kind: PhantomData<fn() -> K>,
}

struct Element<S> {
    name: String,
    added: Added<S>,
}

/// Tells the builders of a process apart, so that a handle of another builder is noticed.
static BUILDERS: AtomicU64 = AtomicU64::new(0);

impl<S, K> fmt::Debug for Builder<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.elements.iter().map(|element| &element.name).collect();
        f.debug_struct("Builder").field("name", &self.name).field("nodes", &names).finish_non_exhaustive()
    }
}

impl<S: State, K> Builder<S, K> {
    pub(crate) fn new(name: String) -> Self {
        let id = BUILDERS.fetch_add(1, Ordering::Relaxed);
        let (elements, edges, starts) = (Vec::new(), Vec::new(), Vec::new());
        Self { id, name, elements, edges, starts, unrouted: Unrouted::default(), kind: PhantomData }
    }

    /// Adds a node, a flow or a closure under a name, and returns its handle.
    ///
    /// A name is any UTF-8 text that is not empty and has no `/`. Names differ within a flow.
    pub fn add<M, N: IntoNode<S, K, M>>(&mut self, name: impl Into<String>, node: N) -> At<N::Action> {
        self.elements.push(Element { name: name.into(), added: node.into_node() });
        At::new(Spot { builder: self.id, index: self.elements.len() - 1 })
    }

    /// Sets the node with which the flow begins.
    pub fn start<A>(&mut self, node: At<A>) {
        self.starts.push(node.spot);
    }

    /// Adds edges: `a >> b`, `a >> b >> c`, `a - Label::X >> b`, `a - "x" >> END`.
    pub fn route<A>(&mut self, route: Route<A>) {
        self.edges.extend(route.edges);
    }

    /// Sets the effect of a string action that has no edge, at a node that has other edges. The default is an error.
    pub fn unrouted(&mut self, unrouted: Unrouted) {
        self.unrouted = unrouted;
    }

    pub(crate) fn finish(self, sync: bool) -> Result<Definition<S>, BuildError> {
        let mut check = Check::default();
        let mut graph = Graph { sync, ..Graph::default() };
        graph.levels.push(Level {
            flow: self.name.clone(),
            name: self.name.clone(),
            path: self.name.as_str().into(),
            parent: None,
            edges: Edges::default(),
            start: Place::Node(0),
            unrouted: self.unrouted,
            exits: None,
        });
        let mut elements = Vec::new();
        let mut bodies: Vec<Body<S>> = Vec::new();
        for Element { name, added } in self.elements {
            check.name(&name);
            let (place, exits) = match added.graph {
                AddedGraph::Node(about) => {
                    check.node(&name, &about, sync, &self.name);
                    let exits = about.exits();
                    (graph.push(&name, name.as_str().into(), about), exits)
                }
                AddedGraph::Flow(inner) => {
                    check.nested(&name, &inner, &self.name, sync);
                    (graph.nest(&name, &inner), inner.exits())
                }
            };
            bodies.extend(added.bodies);
            elements.push(Placed { place, exits, labels: added.labels });
        }
        check.edges(self.id, &self.edges, &elements, &mut graph);
        check.start(self.id, &self.starts, &elements, &mut graph);
        if !check.faults.is_empty() {
            return Err(BuildError::new(self.name, check.faults));
        }
        Ok(Definition::new(graph, bodies))
    }
}

/// An element in the graph, and what it can return.
struct Placed {
    place: Place,
    exits: Exits,
    labels: &'static [&'static str],
}

/// The checks, and what they found.
#[derive(Default)]
struct Check {
    faults: Vec<Fault>,
    /// The names of the elements, in the order in which they were added.
    names: Vec<String>,
    taken: BTreeSet<String>,
}

impl Check {
    fn name(&mut self, name: &str) {
        if name.is_empty() || name.contains('/') {
            self.faults.push(Fault::BadName { name: name.to_owned() });
        } else if !self.taken.insert(name.to_owned()) {
            self.faults.push(Fault::DuplicateName { name: name.to_owned() });
        }
        self.names.push(name.to_owned());
    }

    fn node(&mut self, name: &str, about: &About, sync: bool, flow: &str) {
        let node = || name.to_owned();
        if about.policy.retry.count() == 0 {
            self.faults.push(Fault::ZeroAttempts { node: node() });
        }
        if about.policy.parallel == Some(0) {
            self.faults.push(Fault::ZeroLimit { node: node() });
        }
        self.mode(name, about, sync);
        let timeout = about.policy.timeout.or(about.policy.total_timeout);
        if timeout.is_some() && (sync || about.runs_inline()) {
            self.faults.push(Fault::TimeoutInSyncFlow { node: node() });
        }
        if !sync && about.waits_inline() {
            self.faults.push(Fault::WaitInline { node: node() });
        }
        if let Some(message) = &about.fault {
            self.faults.push(Fault::Node { node: node(), message: message.clone() });
        }
        let Some(children) = &about.children else { return };
        if children.contains_flow(flow) {
            self.faults.push(Fault::FlowInsideItself { node: node(), flow: flow.to_owned() });
        }
        if let Some(ask) = children.asks().filter(|_| !about.journaled) {
            self.faults.push(Fault::AskInBatchFlow { node: node(), ask: ask.to_string() });
        }
        self.waits(name, children, sync);
    }

    /// Checks that `exec` of this kind of node can run where its policy says, and so many items at once.
    fn mode(&mut self, name: &str, about: &About, sync: bool) {
        let (kind, policy) = (about.kind, &about.policy);
        let (inline, parallel, spawned) = (policy.inline, policy.parallel.is_some(), policy.spawned);
        let mut refuse = |is_wrong: bool, fault: fn(String) -> Fault| {
            self.faults.extend(is_wrong.then(|| fault(name.to_owned())));
        };
        refuse(inline && kind.awaits(), |node| Fault::InlineAsync { node });
        refuse(inline && parallel && kind == NodeKind::BatchNode, |node| Fault::InlineParallel { node });
        refuse(inline && about.journaled && kind == NodeKind::BatchNode, |node| Fault::InlineJournaled { node });
        refuse(parallel && !kind.is_batch(), |node| Fault::ParallelNotBatch { node });
        refuse(parallel && kind.is_batch() && sync && !inline, |node| Fault::ParallelInSyncFlow { node });
        refuse(spawned && kind != NodeKind::AsyncBatchNode, |node| Fault::SpawnedNotAsyncBatch { node });
        let alone = kind == NodeKind::AsyncBatchNode && !parallel;
        refuse(spawned && alone, |node| Fault::SpawnedWithoutParallel { node });
    }

    /// Looks for nodes of a sync flow that would wait on the thread of the async flow around it.
    fn waits(&mut self, name: &str, inner: &Graph, sync: bool) {
        for node in inner.nodes.iter().filter(|_| inner.sync && !sync) {
            let name = format!("{name}/{}", node.path);
            if node.about.waits_inline() {
                self.faults.push(Fault::WaitInline { node: name.clone() });
            }
            if let Some(children) = &node.about.children {
                self.waits(&name, children, sync);
            }
        }
    }

    fn nested(&mut self, name: &str, inner: &Graph, flow: &str, sync: bool) {
        self.waits(name, inner, sync);
        if inner.contains_flow(flow) {
            self.faults.push(Fault::FlowInsideItself { node: name.to_owned(), flow: flow.to_owned() });
        }
    }

    /// Puts the edges into the graph, and checks that they fit what their nodes return.
    fn edges(&mut self, builder: u64, edges: &[Edge], elements: &[Placed], graph: &mut Graph) {
        for Edge { from, action, to } in edges {
            if [Some(from), to.as_ref()].into_iter().flatten().any(|spot| spot.builder != builder) {
                self.faults.push(Fault::ForeignHandle);
                continue;
            }
            let target = to.map(|to| elements[to.index].place);
            let known = graph.edges_mut(elements[from.index].place);
            if let Some(first) = known.get(action) {
                self.faults.push(Fault::DuplicateEdge {
                    node: self.names[from.index].clone(),
                    action: action.clone(),
                    first: self.target(first, elements),
                    second: self.target(target, elements),
                });
                continue;
            }
            known.0.push((action.clone(), target));
        }
        for (element, name) in elements.iter().zip(&self.names) {
            let edges = graph.edges_mut(element.place);
            let Exits::Closed(returned) = &element.exits else { continue };
            if edges.is_empty() {
                continue;
            }
            let unrouted = returned.iter().filter(|action| edges.get(action).is_none());
            self.faults
                .extend(unrouted.map(|action| Fault::UnroutedLabel { node: name.clone(), action: action.clone() }));
            let unknown = edges.labels().filter(|action| !returned.contains(action));
            let unknown = unknown.filter(|action| !element.labels.contains(&action.as_str()));
            self.faults.extend(unknown.map(|action| Fault::UnknownLabel {
                node: name.clone(),
                action: action.clone(),
                actions: returned.iter().cloned().collect(),
            }));
        }
    }

    fn target(&self, target: Option<Place>, elements: &[Placed]) -> String {
        let place = target.and_then(|target| elements.iter().position(|element| element.place == target));
        place.map_or_else(|| "the end".to_owned(), |index| format!("`{}`", self.names[index]))
    }

    /// Sets the start, and checks that it reaches every element.
    fn start(&mut self, builder: u64, starts: &[Spot], elements: &[Placed], graph: &mut Graph) {
        let start = match starts {
            [] => return self.faults.push(Fault::NoStart),
            [start] => start,
            [first, .., second] => {
                let name = |spot: &Spot| self.names.get(spot.index).cloned().unwrap_or_default();
                return self.faults.push(Fault::TwoStarts { first: name(first), second: name(second) });
            }
        };
        if start.builder != builder {
            return self.faults.push(Fault::ForeignHandle);
        }
        let start = elements[start.index].place;
        graph.levels[0].start = start;
        let index: BTreeMap<Place, usize> = elements.iter().enumerate().map(|(index, e)| (e.place, index)).collect();
        let mut reached = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(place) = open.pop() {
            let targets = graph.edges_mut(place).0.iter().filter_map(|(_, target)| *target);
            open.extend(targets.filter(|target| reached.insert(*target)));
        }
        let lost = elements.iter().filter(|element| !reached.contains(&element.place));
        self.faults.extend(lost.map(|element| Fault::Unreachable { node: self.names[index[&element.place]].clone() }));
    }
}

impl About {
    /// Returns the actions that the node can return.
    fn exits(&self) -> Exits {
        if self.labels.is_empty() {
            return Exits::Open;
        }
        Exits::Closed(self.labels.iter().map(|label| Action::from(*label)).collect())
    }

    /// Returns whether `exec` waits between attempts on the thread of the run.
    fn waits_inline(&self) -> bool {
        self.runs_inline() && self.policy.retry.waits()
    }

    /// Returns whether `exec` runs on the thread of the run, where no timeout can interrupt it.
    fn runs_inline(&self) -> bool {
        matches!(self.kind, NodeKind::Node | NodeKind::BatchNode) && !self.policy.pooled
    }
}
