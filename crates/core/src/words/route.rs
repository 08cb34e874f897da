//! PocketFlow's notation for edges: `a >> b`, `a - Label::X >> b`, `a - "x" >> END`.
//!
//! Everything here is a plain value: [`At`] is a node's handle, [`Exit`] one of its labels, [`Route`] a chain of edges
//! that [`Builder::route`](crate::Builder::route) takes.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Shr, Sub},
};

use crate::words::action::{Action, HasDefault, Label};

/// The handle of a node in a builder, with the node's action type.
///
/// It is `Copy`; `handle - label` names one of the node's labels, and `>>` makes an edge.
pub struct At<A> {
    pub(crate) spot: Spot,
    action: PhantomData<fn() -> A>,
}

/// A node of one builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) builder: u64,
    pub(crate) index: usize,
}

impl<A> At<A> {
    pub(crate) fn new(spot: Spot) -> Self {
        Self { spot, action: PhantomData }
    }
}

impl<A> Clone for At<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for At<A> {}

impl<A> fmt::Debug for At<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "At({})", self.spot.index)
    }
}

/// One label of a node, waiting for its target: `node - Label::X`.
#[derive(Debug)]
pub struct Exit {
    from: Spot,
    action: Action,
}

/// The end of the flow in which it stands, as the target of an edge: `node - Label::X >> END`.
///
/// The flow ends with the action that led there; for a flow inside a flow that action picks the outer edge.
pub const END: End = End;

/// The type of [`END`].
#[derive(Clone, Copy, Debug)]
pub struct End;

/// One or more edges in a row; its last node has the action type `A`.
///
/// Made by `>>`, taken by [`Builder::route`](crate::Builder::route).
#[must_use = "an edge does nothing until it is given to `route`"]
pub struct Route<A> {
    pub(crate) edges: Vec<Edge>,
    last: Spot,
    action: PhantomData<fn() -> A>,
}

/// An edge as the user wrote it; no target is the end of the flow.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub(crate) from: Spot,
    pub(crate) action: Action,
    pub(crate) to: Option<Spot>,
}

impl<A> fmt::Debug for Route<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.edges).finish()
    }
}

impl<A> Route<A> {
    fn then<B>(mut self, exit: Exit, to: Option<Spot>) -> Route<B> {
        let last = to.unwrap_or(exit.from);
        self.edges.push(Edge { from: exit.from, action: exit.action, to });
        Route { edges: self.edges, last, action: PhantomData }
    }
}

fn start<B>(exit: Exit, to: Option<Spot>) -> Route<B> {
    Route { edges: Vec::new(), last: exit.from, action: PhantomData::<fn()> }.then(exit, to)
}

fn default(from: Spot) -> Exit {
    Exit { from, action: Action::DEFAULT }
}

/// `node - Label::X`: the label has to be of the node's own action type.
impl<A: Label> Sub<A> for At<A> {
    type Output = Exit;

    fn sub(self, label: A) -> Exit {
        Exit { from: self.spot, action: label.action() }
    }
}

/// `node - "x"`, for nodes with string actions.
impl Sub<&'static str> for At<Action> {
    type Output = Exit;

    fn sub(self, action: &'static str) -> Exit {
        Exit { from: self.spot, action: action.into() }
    }
}

impl<A: HasDefault, B> Shr<At<B>> for At<A> {
    type Output = Route<B>;

    fn shr(self, to: At<B>) -> Route<B> {
        start(default(self.spot), Some(to.spot))
    }
}

impl<A: HasDefault> Shr<End> for At<A> {
    type Output = Route<End>;

    fn shr(self, _: End) -> Route<End> {
        start(default(self.spot), None)
    }
}

impl<B> Shr<At<B>> for Exit {
    type Output = Route<B>;

    fn shr(self, to: At<B>) -> Route<B> {
        start(self, Some(to.spot))
    }
}

impl Shr<End> for Exit {
    type Output = Route<End>;

    fn shr(self, _: End) -> Route<End> {
        start(self, None)
    }
}

impl<A: HasDefault, B> Shr<At<B>> for Route<A> {
    type Output = Route<B>;

    fn shr(self, to: At<B>) -> Route<B> {
        let exit = default(self.last);
        self.then(exit, Some(to.spot))
    }
}

impl<A: HasDefault> Shr<End> for Route<A> {
    type Output = Route<End>;

    fn shr(self, _: End) -> Route<End> {
        let exit = default(self.last);
        self.then(exit, None)
    }
}
