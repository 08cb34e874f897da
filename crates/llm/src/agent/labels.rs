//! The actions of an agent and of its nodes.

use flowstone_core::{Action, Choice, Label};

/// The ends of an agent.
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

/// The step that follows a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Answered,
    Stopped,
    Act,
    Approve,
}

impl Next {
    /// The label of the edge. It is a text, so that an agent has edges for what it can do, and no others: one without
    /// approvals has none to a person.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Stopped => "stopped",
            Self::Act => "act",
            Self::Approve => "approve",
        }
    }
}
