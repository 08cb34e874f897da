//! Building a flow from a spec, by Flowstone's public API alone.
//!
//! Each kind of the format is built as its counterpart in Flowstone:
//!
//! | kind | Flowstone |
//! |---|---|
//! | `node`, `batch_node` | `Node`, `BatchNode` |
//! | `async_node`, `async_batch_node` | `AsyncNode`, `AsyncBatchNode` |
//! | `async_parallel_batch_node` | `AsyncBatchNode` with `parallel` |
//! | `flow`, `async_flow` | `Flow`, `AsyncFlow`, added as they are |
//! | `batch_flow`, `async_batch_flow` | `Flow` and `AsyncFlow` with `batch` |
//! | `async_parallel_batch_flow` | `AsyncFlow` with `batch` and `parallel` |
//!
//! This module refuses what Flowstone's types forbid (an async node in a `Flow`) and what has no handle (an unknown
//! name); everything else is for `build()` to find.

use std::{collections::BTreeMap, fmt, time::Duration};

use flowstone::{Action, AsyncFlow, AsyncKind, At, BuildError, Builder, Flow, NodeExt, Retry, SyncKind, Unrouted};

use crate::{
    nodes::{AsyncBatch, AsyncSingle, Batch, Code, Single, Trail},
    spec::{Element, Graph, GraphKind, Items, Leaf, LeafKind},
    state::State,
};

/// The flow that is run, of either kind.
#[derive(Debug)]
pub enum Runnable {
    /// Needs no runtime.
    Sync(Flow<State>),
    /// Needs one.
    Async(AsyncFlow<State>),
}

/// The reason why no flow may be built from a spec.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refused {
    /// Flowstone's `build()` found faults.
    Faults(BuildError),
    /// An edge or the start names a node that does not exist.
    UnknownNode {
        /// The flow that names it.
        flow: String,
        /// The name.
        node: String,
    },
    /// An async node or an async flow directly inside a sync flow.
    AsyncInSync {
        /// The names from the root flow down to it.
        node: String,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faults(error) => error.fmt(f),
            Self::UnknownNode { flow, node } => write!(f, "flow `{flow}` has no node `{node}`, which it names"),
            Self::AsyncInSync { node } => write!(f, "`{node}` is async, and the flow around it is not"),
        }
    }
}

impl std::error::Error for Refused {}

impl From<BuildError> for Refused {
    fn from(error: BuildError) -> Self {
        Self::Faults(error)
    }
}

/// Builds the root flow of a spec.
///
/// A batch flow is a node in Flowstone, so one at the root gets a flow around it; its paths then begin with its name,
/// while those of another root flow leave the root's name out.
///
/// # Errors
///
/// If no flow may be built from the spec.
pub fn build(root: &Graph) -> Result<Runnable, Refused> {
    let above = Trail::default();
    Ok(match root.kind {
        GraphKind::Flow => Runnable::Sync(sync_flow(root, &above)?),
        GraphKind::AsyncFlow => Runnable::Async(async_flow(root, &above)?),
        GraphKind::BatchFlow => {
            let mut flow = Flow::builder(AROUND_THE_ROOT);
            let only = add_sync_graph(&mut flow, root, &above)?;
            flow.start(only);
            Runnable::Sync(flow.build()?)
        }
        GraphKind::AsyncBatchFlow | GraphKind::AsyncParallelBatchFlow => {
            let mut flow = AsyncFlow::builder(AROUND_THE_ROOT);
            let only = add_graph(&mut flow, root, &above)?;
            flow.start(only);
            Runnable::Async(flow.build()?)
        }
    })
}

/// The name of the flow around a batch flow at the root; no flow of a spec can have it.
const AROUND_THE_ROOT: &str = "(root)";

/// Adds an element to a builder.
type Add<K> = fn(&mut Builder<State, K>, &Element, &Trail) -> Result<At<Action>, Refused>;

fn sync_flow(graph: &Graph, above: &Trail) -> Result<Flow<State>, Refused> {
    let trail = above.below(graph.name.as_str(), graph.kind.is_batch());
    let flow = filled::<SyncKind>(Flow::builder(trail.names()), graph, &trail, add_sync)?.build()?;
    let map = graph.map_action.clone();
    let is_plain = graph.kind.is_batch() || map.is_identity();
    Ok(if is_plain { flow } else { flow.map_exit(move |exit| map.apply(exit)) })
}

fn async_flow(graph: &Graph, above: &Trail) -> Result<AsyncFlow<State>, Refused> {
    let trail = above.below(graph.name.as_str(), graph.kind.is_batch());
    let flow = filled::<AsyncKind>(AsyncFlow::builder(trail.names()), graph, &trail, add)?.build()?;
    let map = graph.map_action.clone();
    let is_plain = graph.kind.is_batch() || map.is_identity();
    Ok(if is_plain { flow } else { flow.map_exit(move |exit| map.apply(exit)) })
}

/// Fills a builder with the nodes and edges of a flow. The flow is named by its place, so that no flow seems to be
/// inside itself.
fn filled<K>(
    mut flow: Builder<State, K>,
    graph: &Graph,
    trail: &Trail,
    add: Add<K>,
) -> Result<Builder<State, K>, Refused> {
    let mut handles = BTreeMap::new();
    for element in &graph.nodes {
        let handle = add(&mut flow, element, trail)?;
        // Of two elements with one name any will do here: `build()` refuses the flow.
        handles.insert(element.name(), handle);
    }
    let find = |name: &str| {
        let unknown = || Refused::UnknownNode { flow: trail.names(), node: name.to_owned() };
        handles.get(name).copied().ok_or_else(unknown)
    };
    flow.start(find(&graph.start)?);
    for edge in &graph.edges {
        flow.route((find(&edge.from)? - edge.action.0.clone()) >> find(&edge.to)?);
    }
    flow.unrouted(Unrouted::End);
    Ok(flow)
}

/// Adds an element of any kind to an async flow.
fn add(flow: &mut Builder<State, AsyncKind>, element: &Element, above: &Trail) -> Result<At<Action>, Refused> {
    match element {
        Element::Leaf(leaf) => add_leaf(flow, leaf, above),
        Element::Graph(graph) => add_graph(flow, graph, above),
    }
}

/// Adds an element of a sync kind to a flow of either kind.
fn add_sync<K>(flow: &mut Builder<State, K>, element: &Element, above: &Trail) -> Result<At<Action>, Refused> {
    match element {
        Element::Leaf(leaf) => add_sync_leaf(flow, leaf, above),
        Element::Graph(graph) => add_sync_graph(flow, graph, above),
    }
}

fn add_leaf(flow: &mut Builder<State, AsyncKind>, leaf: &Leaf, above: &Trail) -> Result<At<Action>, Refused> {
    let (name, retry) = (leaf.name.as_str(), retry(leaf));
    Ok(match leaf.kind {
        LeafKind::AsyncNode => flow.add(name, AsyncSingle(code(leaf, above)).retry(retry)),
        LeafKind::AsyncBatchNode => flow.add(name, AsyncBatch(code(leaf, above)).retry(retry)),
        LeafKind::AsyncParallelBatchNode => {
            flow.add(name, AsyncBatch(code(leaf, above)).retry(retry).parallel(usize::MAX))
        }
        LeafKind::Node | LeafKind::BatchNode => add_sync_leaf(flow, leaf, above)?,
    })
}

fn add_sync_leaf<K>(flow: &mut Builder<State, K>, leaf: &Leaf, above: &Trail) -> Result<At<Action>, Refused> {
    let (name, retry) = (leaf.name.as_str(), retry(leaf));
    match leaf.kind {
        LeafKind::Node => Ok(flow.add(name, Single(code(leaf, above)).retry(retry))),
        LeafKind::BatchNode => Ok(flow.add(name, Batch(code(leaf, above)).retry(retry))),
        LeafKind::AsyncNode | LeafKind::AsyncBatchNode | LeafKind::AsyncParallelBatchNode => {
            Err(Refused::AsyncInSync { node: above.below(name, false).names() })
        }
    }
}

fn add_graph(flow: &mut Builder<State, AsyncKind>, graph: &Graph, above: &Trail) -> Result<At<Action>, Refused> {
    let name = graph.name.as_str();
    Ok(match graph.kind {
        GraphKind::AsyncFlow => flow.add(name, async_flow(graph, above)?),
        GraphKind::AsyncBatchFlow => flow.add(name, async_flow(graph, above)?.batch(fork(graph), join(graph))),
        GraphKind::AsyncParallelBatchFlow => {
            let batch = async_flow(graph, above)?.batch(fork(graph), join(graph));
            flow.add(name, batch.parallel(usize::MAX))
        }
        GraphKind::Flow | GraphKind::BatchFlow => add_sync_graph(flow, graph, above)?,
    })
}

fn add_sync_graph<K>(flow: &mut Builder<State, K>, graph: &Graph, above: &Trail) -> Result<At<Action>, Refused> {
    let name = graph.name.as_str();
    match graph.kind {
        GraphKind::Flow => Ok(flow.add(name, sync_flow(graph, above)?)),
        GraphKind::BatchFlow => Ok(flow.add(name, sync_flow(graph, above)?.batch(fork(graph), join(graph)))),
        GraphKind::AsyncFlow | GraphKind::AsyncBatchFlow | GraphKind::AsyncParallelBatchFlow => {
            Err(Refused::AsyncInSync { node: above.below(name, false).names() })
        }
    }
}

fn code(leaf: &Leaf, above: &Trail) -> Code {
    Code::new(leaf.clone(), above.below(leaf.name.as_str(), false))
}

fn retry(leaf: &Leaf) -> Retry {
    Retry::attempts(leaf.attempts).fixed(Duration::from_millis(leaf.wait_ms.into()))
}

fn fork(graph: &Graph) -> impl Fn(&State) -> Vec<State> + Send + Sync + 'static {
    let items = graph.items.clone().unwrap_or(Items::List(Vec::new()));
    move |state| state.children(&items)
}

/// The children write to their shared value, so only the action is left: the last action of a batch flow is the
/// default.
fn join(graph: &Graph) -> impl Fn(&mut State, Vec<State>) -> Action + Send + Sync + 'static {
    let action = graph.map_action.apply(&Action::DEFAULT);
    move |_, _| action.clone()
}
