//! Flowstone: small graphs of nodes over one shared state, for applications that wait.
//!
//! This crate is what users add. It holds no logic: it re-exports `flowstone-core` and the macros of
//! `flowstone-macros`. `use flowstone::prelude::*;` brings the names that most programs need:
//!
//! | to | use |
//! |---|---|
//! | write nodes | [`node`], [`Action`](macro@Action), [`step`], [`Ask`], [`Sleep`]; the traits [`Node`], [`AsyncNode`], [`BatchNode`], [`AsyncBatchNode`] |
//! | build a flow | [`Flow`], [`AsyncFlow`], [`Builder`], [`END`], [`Unrouted`], [`BuildError`] |
//! | set policies | [`NodeExt`], [`Retry`] |
//! | know the run inside `exec` | [`Context`] |
//! | fail | [`NodeError`], [`Result`], [`RunError`] |
//! | run | [`RunOptions`], [`Outcome`], [`Pause`], [`CancellationToken`], [`Budget`], [`Usage`] |
//! | watch | [`Event`], [`EventKind`], [`EventStream`], [`Listener`] |
//! | keep runs | the module `durable`, a feature |
//! | ask models | the module `llm`, a feature |
//! | have commands | the module `cli`, a feature |
//!
//! The rest of the root names types that these take and return. [`driver`] is for programs that keep runs by themselves.

#[cfg(doctest)]
mod guide;

/// The command line of a program with durable runs: the feature `cli`.
#[cfg(feature = "cli")]
pub use flowstone_cli as cli;
#[doc(hidden)]
pub use flowstone_core::__macros;
pub use flowstone_core::{
    Action, Added, Ask, AsyncBatchNode, AsyncFlow, AsyncKind, AsyncNode, At, BatchFlow, BatchNode, BoxError, BoxFuture,
    Budget, BuildError, Builder, ByItem, ByKey, CancellationToken, CannotPause, Child, Choice, Clock, Context, END,
    End, Event, EventKind, EventStream, Exit, Fault, Flow, HasDefault, HasItems, InOrder, Inline, IntoAction, IntoNode,
    IsSelf, ItemOutcome, Journaled, Keyed, Label, Listener, ManualClock, Node, NodeError, NodeExt, NodeIn, NodePath,
    On, OnError, Outcome, OverBudget, Parallel, Pause, Phase, Plain, QuestionExpired, Result, Retry, Route, RunError,
    RunId, RunOptions, Shared, Sleep, Spawned, State, Step, SyncKind, SystemClock, TimedOut, Unrouted, Usage, Usd,
    With, Within, step,
};
/// Durable runs: the feature `durable`.
#[cfg(feature = "durable")]
pub use flowstone_durable as durable;
pub use flowstone_macros::{Action, node};

/// For drivers: programs that make the visits of a run themselves, and may keep each.
///
/// A run as a driver sees it is an [`Execution`](driver::Execution); what the driver keeps inside a visit goes through a
/// [`Journal`](driver::Journal).
pub mod driver {
    pub use flowstone_core::{
        BoxFuture, Execution, Forked, ItemId, ItemKey, Journal, KeyBase, Panicked, Position, RestoreError, Running,
        Standing, StorageFault, Undecodable, Unstorable, Visit, Waited, report, storable,
    };
}

/// Models, prompts, tools and agents: the feature `llm`.
#[cfg(feature = "llm")]
pub mod llm {
    pub use flowstone_llm::*;
    pub use flowstone_macros::tool;
}

/// The names that most programs need: `use flowstone::prelude::*;`.
pub mod prelude {
    pub use std::time::Duration;

    pub use flowstone_core::{
        Action, Ask, AsyncBatchNode, AsyncFlow, AsyncNode, BatchNode, CancellationToken, Context, END, Event,
        EventKind, Flow, Label, Node, NodeError, NodeExt, Outcome, Result, Retry, RunError, RunOptions, Shared, Sleep,
        Unrouted, step,
    };
    #[cfg(feature = "durable")]
    pub use flowstone_durable::{Run, Runs, Store};
    #[cfg(feature = "llm")]
    pub use flowstone_llm::{AgentState, Chat, Classify, Conversation, Embed, Extract, Message, Model, Tools, agent};
    #[cfg(feature = "llm")]
    pub use flowstone_macros::tool;
    pub use flowstone_macros::{Action, node};
}
