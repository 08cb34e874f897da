//! The actions of an agent and of its nodes.

use flowstone_core::{Action, Choice, Label};

/// How an agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentExit {
    /// It has an answer: [`AgentState::answer`](super::AgentState::answer).
    Answered,
    /// It met a bound: [`AgentState::stopped`](super::AgentState::stopped).
    Stopped,
}

impl AgentExit {
    const ALL: [Self; 2] = [Self::Answered, Self::Stopped];
}

impl Label for AgentExit {
    const NAMES: &'static [&'static str] = &["answered", "stopped"];

    fn index(&self) -> Option<usize> {
        Some(*self as usize)
    }

    fn action(self) -> Action {
        Self::NAMES[self as usize].into()
    }
}

impl Choice for AgentExit {
    const ABOUT: &'static [&'static str] = &["It has an answer.", "It met a bound."];

    fn choose(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }
}

/// What follows a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Answered,
    Stopped,
    Act,
    Approve,
}

/// The labels of `think`: those that an agent can return, so that its picture has no edge that nothing takes.
pub(super) trait Thought: Label {
    fn of(next: Next) -> Self;
}

/// The labels of an agent whose tools need no approval.
#[derive(Debug, Clone, Copy)]
pub(super) struct Free(Next);

/// The labels of an agent of whose tools some do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gated(Next);

impl Next {
    const NAMES: [&'static str; 4] = ["answered", "stopped", "act", "approve"];
}

impl Thought for Free {
    fn of(next: Next) -> Self {
        Self(if next == Next::Approve { Next::Act } else { next })
    }
}

impl Thought for Gated {
    fn of(next: Next) -> Self {
        Self(next)
    }
}

impl Label for Free {
    const NAMES: &'static [&'static str] = {
        let [answered, stopped, act, _] = Next::NAMES;
        &[answered, stopped, act]
    };

    fn index(&self) -> Option<usize> {
        Some(self.0 as usize)
    }

    fn action(self) -> Action {
        Next::NAMES[self.0 as usize].into()
    }
}

impl Label for Gated {
    const NAMES: &'static [&'static str] = &Next::NAMES;

    fn index(&self) -> Option<usize> {
        Some(self.0 as usize)
    }

    fn action(self) -> Action {
        Next::NAMES[self.0 as usize].into()
    }
}
