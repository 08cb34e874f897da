//! The parts of a type that the probe has seen so far, and those that it has tried.

use std::cell::{Cell, RefCell};

use super::probe::Probe;

/// The deepest that a type is looked into: types that hold themselves have no end.
const DEPTH: usize = 8;

/// The most values that one pass may make: a type that holds itself five times would take five to the power of the
/// depth.
const STEPS: usize = 10_000;

/// One value inside a type.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Which of the answers is the next to try.
    pub(super) answer: usize,
    /// The inside of a value without a shape: the variants of an enum, the elements of a tuple.
    pub(super) inside: Vec<Self>,
}

#[derive(Debug, Default)]
pub(crate) enum Kind {
    #[default]
    Any,
    Option(Box<Node>),
    List(Box<Node>),
    Struct {
        name: &'static str,
        fields: Vec<Field>,
    },
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) node: Node,
    /// Left out: the type refuses it, or it is another name of a field that was there.
    pub(super) left_out: bool,
}

impl Node {
    /// The node inside with this number.
    pub(super) fn inside(&mut self, index: usize) -> &mut Self {
        if self.inside.len() <= index {
            self.inside.resize_with(index + 1, Self::default);
        }
        &mut self.inside[index]
    }

    pub(super) fn as_option(&mut self) -> &mut Self {
        if !matches!(self.kind, Kind::Option(_)) {
            self.kind = Kind::Option(Box::default());
        }
        if let Kind::Option(inner) = &mut self.kind { inner } else { unreachable!("invariant: it was just set") }
    }
}

/// One pass over a type.
#[derive(Debug, Default)]
pub(super) struct Pass {
    steps: Cell<usize>,
    learned: Cell<bool>,
    /// The enums that the value is in.
    enums: RefCell<Vec<&'static str>>,
}

impl Pass {
    pub(super) fn probe<'a>(&'a self, node: &'a mut Node) -> Probe<'a> {
        Probe { node, depth: 0, pass: self }
    }

    /// Returns `true` if another pass would see something else.
    pub(super) fn learned(&self) -> bool {
        self.learned.get()
    }

    /// Notes that something was refused and another thing will be tried in the next pass; at most once a pass, since a
    /// refusal is an error for everything around it, too.
    pub(super) fn learn(&self, change: impl FnOnce()) {
        if !self.learned.replace(true) {
            change();
        }
    }

    /// Notes that the probe is in an enum; `false` if it was.
    pub(super) fn enter(&self, name: &'static str) -> bool {
        let mut enums = self.enums.borrow_mut();
        let new = !enums.contains(&name);
        if new {
            enums.push(name);
        }
        new
    }

    pub(super) fn leave(&self) {
        self.enums.borrow_mut().pop();
    }

    /// Returns `true` if there may be more inside a value at this depth.
    pub(super) fn deeper(&self, depth: usize) -> bool {
        self.steps.set(self.steps.get() + 1);
        depth < DEPTH && self.steps.get() < STEPS
    }
}
