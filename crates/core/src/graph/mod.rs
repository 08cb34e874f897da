//! The graph of a flow, without its nodes' code: names, edges, nested flows, and where each action leads.
//!
//! Flows inside flows are flattened when a flow is built: their nodes stand in one table, and each nested flow is a
//! [`Level`] that actions leave upwards.
//!
//! ```text
//! node returns an action ─▶ its edges ─▶ a node
//!                             └▶ none: leaves its level ─▶ map_exit ─▶ the edges of that flow, one level up ─▶ …
//!                                                                       └▶ no level above: the run ends
//! ```
//!
//! For every label that is known, the next node is computed once, when the flow is built ([`Graph::ways`]).

use std::{fmt, sync::Arc};

use crate::{
    outcome::Visit,
    policy::{OnError, Policy},
    words::{
        action::Action,
        guard::Panicked,
        path::{NodePath, Position},
    },
};

pub(crate) mod exits;
mod picture;

/// The parts of a flow, as data: see [`Flow::to_mermaid`](crate::Flow::to_mermaid).
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<GraphNode>,
    /// The flow itself, then the flows in it; a level comes before the levels inside it.
    pub(crate) levels: Vec<Level>,
    /// The first node that asks, which makes a run pause.
    pub(crate) asks: Option<Position>,
    /// `true` for the graph of a `Flow`, which uses no blocking pool.
    pub(crate) sync: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct GraphNode {
    pub(crate) name: String,
    pub(crate) path: NodePath,
    pub(crate) level: usize,
    pub(crate) about: About,
    pub(crate) edges: Edges,
}

/// A node as the builder knows it, without its code.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) kind: NodeKind,
    /// The labels of its actions; empty for string actions.
    pub(crate) labels: &'static [&'static str],
    pub(crate) policy: Policy,
    pub(crate) on_error: Option<OnError>,
    /// The flow that a batch flow runs for each item.
    pub(crate) children: Option<Arc<Graph>>,
    /// `true` if a driver that keeps runs keeps each item of this batch.
    pub(crate) journaled: bool,
    /// A fault that the node itself reports; never in a flow that is built.
    pub(crate) fault: Option<String>,
}

/// The kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeKind {
    Function,
    Node,
    AsyncNode,
    BatchNode,
    AsyncBatchNode,
    Ask,
    Sleep,
    BatchFlow,
}

impl NodeKind {
    pub(crate) fn is_batch(self) -> bool {
        matches!(self, Self::BatchNode | Self::AsyncBatchNode | Self::BatchFlow)
    }

    pub(crate) fn awaits(self) -> bool {
        matches!(self, Self::AsyncNode | Self::AsyncBatchNode)
    }
}

/// A flow in the flattened graph: the whole, or one inside it.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    /// The name of the flow's own definition.
    pub(crate) flow: String,
    /// The name that it was added under; that of the definition for the whole.
    pub(crate) name: String,
    pub(crate) path: NodePath,
    /// The level around it; `None` for the whole.
    pub(crate) parent: Option<usize>,
    /// Its edges in the level around it.
    pub(crate) edges: Edges,
    pub(crate) start: Place,
    pub(crate) unrouted: Unrouted,
    pub(crate) exits: Option<ExitMap>,
}

/// A place in a graph that edges lead from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Node(usize),
    Level(usize),
}

/// The effect of a string action that has no edge, at a node that has others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unrouted {
    /// The run stops with [`RunError::Unrouted`](crate::RunError::Unrouted).
    #[default]
    Error,
    /// The flow ends with that action, which is PocketFlow's rule.
    End,
}

/// The edges of a node or of a nested flow; no target is the end of its flow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edges(pub(crate) Vec<(Action, Option<Place>)>);

impl Edges {
    pub(crate) fn get(&self, action: &Action) -> Option<Option<Place>> {
        self.0.iter().find(|(label, _)| label == action).map(|(_, target)| *target)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = &Action> {
        self.0.iter().map(|(label, _)| label)
    }
}

/// The function that `map_exit` was given: it makes the action of a flow, for each way in which the flow can end.
#[derive(Clone)]
pub(crate) struct ExitMap {
    pub(crate) map: Arc<dyn Fn(&Action) -> Action + Send + Sync>,
    pub(crate) labels: &'static [&'static str],
}

impl fmt::Debug for ExitMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExitMap({:?})", self.labels)
    }
}

/// An action of a node that leads to another node, known when the flow is built.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) action: Action,
    pub(crate) next: Position,
}

/// The reason that an action leads nowhere.
pub(crate) enum Astray {
    /// The edges of a place do not fit it.
    NoEdge { place: Place, action: Action },
    /// A `map_exit` panicked.
    Panicked(Panicked),
}

impl Graph {
    pub(crate) fn path(&self, at: Position) -> &NodePath {
        &self.nodes[at.index()].path
    }

    /// The path of the first node that asks.
    pub(crate) fn asks(&self) -> Option<&NodePath> {
        self.asks.map(|at| self.path(at))
    }

    /// The position of the node with this path.
    pub(crate) fn position(&self, path: &str) -> Option<Position> {
        self.nodes.iter().position(|node| node.path == *path).map(Position::new)
    }

    pub(crate) fn name(&self) -> &str {
        self.levels.first().map_or("", |level| &level.flow)
    }

    pub(crate) fn push(&mut self, name: &str, path: NodePath, about: About) -> Place {
        let asks = about.kind == NodeKind::Ask || about.children.as_ref().is_some_and(|flow| flow.asks().is_some());
        if asks && self.asks.is_none() {
            self.asks = Some(Position::new(self.nodes.len()));
        }
        let node = GraphNode { name: name.to_owned(), path, level: 0, about, edges: Edges::default() };
        self.nodes.push(node);
        Place::Node(self.nodes.len() - 1)
    }

    pub(crate) fn edges_mut(&mut self, place: Place) -> &mut Edges {
        match place {
            Place::Node(index) => &mut self.nodes[index].edges,
            Place::Level(index) => &mut self.levels[index].edges,
        }
    }

    pub(crate) fn edges(&self, place: Place) -> (&Edges, usize) {
        match place {
            Place::Node(index) => (&self.nodes[index].edges, self.nodes[index].level),
            Place::Level(index) => (&self.levels[index].edges, self.levels[index].parent.unwrap_or_default()),
        }
    }

    /// The node with which a run begins.
    pub(crate) fn start(&self) -> Position {
        self.first(self.levels[0].start)
    }

    /// The node with which a place begins.
    pub(crate) fn first(&self, place: Place) -> Position {
        match place {
            Place::Node(index) => Position::new(index),
            Place::Level(index) => self.first(self.levels[index].start),
        }
    }

    /// Returns where each label of a node leads, or where each of its edges leads if its actions are strings: to a
    /// node, or out of the flow.
    pub(crate) fn ways(&self, at: Position) -> Box<[Result<Way, Action>]> {
        let node = &self.nodes[at.index()];
        let actions: Vec<Action> = match node.about.labels {
            [] => node.edges.labels().cloned().collect(),
            labels => labels.iter().map(|label| Action::from(*label)).collect(),
        };
        let way = |action: Action| match self.follow(Place::Node(at.index()), action.clone()) {
            Ok(Visit::Next { next, .. }) => Ok(Way { action, next }),
            _ => Err(action),
        };
        actions.into_iter().map(way).collect()
    }

    /// Follows an action of a place: to a node, or out of the flow.
    pub(crate) fn follow(&self, mut place: Place, action: Action) -> Result<Visit, Astray> {
        let mut exit = action.clone();
        loop {
            let (edges, level) = self.edges(place);
            match edges.get(&exit) {
                Some(Some(target)) => return Ok(Visit::Next { action, next: self.first(target) }),
                None if !edges.is_empty() && self.levels[level].unrouted == Unrouted::Error => {
                    return Err(Astray::NoEdge { place, action: exit });
                }
                Some(None) | None => {} // it ends the flow of this level
            }
            if let Some(exits) = &self.levels[level].exits {
                exit = Panicked::catch(|| (exits.map)(&exit)).map_err(Astray::Panicked)?;
            }
            if self.levels[level].parent.is_none() {
                return Ok(Visit::End { action, exit });
            }
            place = Place::Level(level);
        }
    }

    /// Takes in another flow as one of this flow's elements; its nodes keep their order.
    pub(crate) fn nest(&mut self, name: &str, inner: &Self) -> Place {
        let (nodes, levels) = (self.nodes.len(), self.levels.len());
        let moved = |place: Place| match place {
            Place::Node(index) => Place::Node(index + nodes),
            Place::Level(index) => Place::Level(index + levels),
        };
        let moved_edges = |edges: &Edges| Edges(edges.0.iter().map(|(a, to)| (a.clone(), to.map(moved))).collect());
        let below = |path: &NodePath| NodePath::from(format!("{name}/{path}"));
        self.levels.extend(inner.levels.iter().map(|level| Level {
            flow: level.flow.clone(),
            name: if level.parent.is_some() { level.name.clone() } else { name.to_owned() },
            path: if level.parent.is_some() { below(&level.path) } else { name.into() },
            parent: Some(level.parent.map_or(0, |parent| parent + levels)),
            edges: moved_edges(&level.edges),
            start: moved(level.start),
            unrouted: level.unrouted,
            exits: level.exits.clone(),
        }));
        self.nodes.extend(inner.nodes.iter().map(|node| GraphNode {
            name: node.name.clone(),
            path: below(&node.path),
            level: node.level + levels,
            about: node.about.clone(),
            edges: moved_edges(&node.edges),
        }));
        self.asks = self.asks.or(inner.asks.map(|asks| Position::new(asks.index() + nodes)));
        Place::Level(levels)
    }

    /// Returns whether this flow, or a flow in it, or one that it runs as a child, has this name.
    pub(crate) fn contains_flow(&self, name: &str) -> bool {
        let children = || self.nodes.iter().filter_map(|node| node.about.children.as_ref());
        self.levels.iter().any(|level| level.flow == name) || children().any(|graph| graph.contains_flow(name))
    }
}
