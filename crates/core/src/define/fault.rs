//! Everything that can be wrong with a flow: [`BuildError`], and each [`Fault`] in it.

use std::fmt;

use crate::words::action::Action;

/// Everything that is wrong with a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    flow: String,
    faults: Vec<Fault>,
}

impl BuildError {
    pub(crate) fn new(flow: String, faults: Vec<Fault>) -> Self {
        Self { flow, faults }
    }

    /// Returns the name of the flow.
    #[must_use]
    pub fn flow(&self) -> &str {
        &self.flow
    }

    /// Returns the faults, in the order in which nodes and edges were added.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl std::error::Error for BuildError {}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        write!(f, "flow `{}` has {count} fault{}:", self.flow, if count == 1 { "" } else { "s" })?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
    }
}

/// One thing that is wrong with a flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum Fault {
    #[error("it has no start: call `start` with a node")]
    NoStart,
    #[error("it has two starts, `{first}` and `{second}`")]
    TwoStarts { first: String, second: String },
    #[error("`{name}` is no name of a node: a name is not empty and has no `/`")]
    BadName { name: String },
    #[error("two nodes have the name `{name}`")]
    DuplicateName { name: String },
    #[error("node `{node}` has two edges for `{action}`, to {first} and to {second}")]
    DuplicateEdge { node: String, action: Action, first: String, second: String },
    #[error("node `{node}` can return `{action}`, which is routed nowhere: add an edge, or end the flow with `>> END`")]
    UnroutedLabel { node: String, action: Action },
    #[error("node `{node}` has an edge for `{action}`, which it never returns; it returns {actions:?}")]
    UnknownLabel { node: String, action: Action, actions: Vec<Action> },
    #[error("node `{node}` cannot be reached from the start")]
    Unreachable { node: String },
    #[error("an edge or the start has a handle of another flow's builder")]
    ForeignHandle,
    #[error("node `{node}` has zero attempts: nothing would run; `Retry::attempts(1)` means no retry")]
    ZeroAttempts { node: String },
    #[error("node `{node}` has a parallel limit of zero: nothing would run")]
    ZeroLimit { node: String },
    #[error(
        "node `{node}` has a timeout, but runs on the thread of the run, where nothing can interrupt it: \
         add it to an `AsyncFlow`, without `inline`"
    )]
    TimeoutInSyncFlow { node: String },
    #[error(
        "node `{node}` waits between attempts, but runs on the thread of the run, which others need: leave out `inline`, \
         or make it an async node"
    )]
    WaitInline { node: String },
    #[error("node `{node}` is async, and `inline` is for sync nodes: leave it out")]
    InlineAsync { node: String },
    #[error(
        "node `{node}` is `inline` and `parallel`, but on the thread of the run one item runs after the other: leave out one \
         of the two"
    )]
    InlineParallel { node: String },
    #[error(
        "node `{node}` is `inline` and journaled, but the thread of the run cannot wait until an item is kept: leave out one \
         of the two"
    )]
    InlineJournaled { node: String },
    #[error("node `{node}` has no items, and `parallel` is for batch nodes and batch flows: leave it out")]
    ParallelNotBatch { node: String },
    #[error(
        "node `{node}` is `parallel`, but a `Flow` runs one item after the other: add it to an `AsyncFlow`, or leave out \
         `parallel`"
    )]
    ParallelInSyncFlow { node: String },
    #[error("node `{node}` has `spawned`, which is for async batch nodes: leave it out")]
    SpawnedNotAsyncBatch { node: String },
    #[error("node `{node}` has `spawned`, but runs one item at a time: say `.parallel(limit).spawned()`")]
    SpawnedWithoutParallel { node: String },
    #[error("node `{node}` contains a flow named `{flow}`: a flow cannot be inside itself")]
    FlowInsideItself { node: String, flow: String },
    #[error("node `{node}`: {message}")]
    Node { node: String, message: String },
    #[error(
        "node `{node}` runs a flow per item in which `{ask}` asks: only a batch flow that is kept can wait for answers: \
         add it with `.journaled()`, and run it with a store"
    )]
    AskInBatchFlow { node: String, ask: String },
}
