//! Flowstone: small graphs of nodes over one shared state, for applications that wait.
//!
//! These twenty names are enough for most programs; `use flowstone::prelude::*;` brings them:
//!
//! | to | use |
//! |---|---|
//! | write nodes | [`#[node]`](node), [`#[derive(Action)]`](macro@Action), [`step`] |
//! | wait for a person, or for a time | [`Ask`], [`Sleep`] |
//! | build a flow | [`Flow`] of sync nodes, [`AsyncFlow`] of both kinds, [`Builder`], [`END`], [`BuildError`] |
//! | set policies | [`NodeExt`], [`Retry`] |
//! | know the run inside `exec` | [`Context`] |
//! | fail | [`Result`], [`NodeError`], [`RunError`] |
//! | run | [`RunOptions`], [`Outcome`], [`CancellationToken`] |
//! | watch | [`Event`] |
//!
//! The rest of the root are types that these take and return, and the traits that `#[node]` implements ([`Node`],
//! [`AsyncNode`], [`BatchNode`], [`AsyncBatchNode`]).
//!
//! Modules behind features: `durable` keeps runs, `llm` asks models, `cli` gives a program its commands. The feature
//! `schema` has `schema_of`, the JSON schema of an answer. [`driver`] is for programs that make the visits of runs
//! themselves.
//!
//! This crate holds no logic: it re-exports the crates `flowstone-core`, `flowstone-macros`, and those of its features.

#[cfg(doctest)]
mod guide;

/// The command line of a program with durable runs: the feature `cli`.
#[cfg(feature = "cli")]
pub use flowstone_cli as cli;
#[cfg(feature = "schema")]
pub use flowstone_core::schema_of;
#[doc(hidden)]
pub use flowstone_core::{__macros, End, Exit, HasDefault, IntoAction, Journaled, On, Route, Step, With, Within};
pub use flowstone_core::{
    Action, Ask, AsyncBatchNode, AsyncFlow, AsyncKind, AsyncNode, At, BatchFlow, BatchNode, BoxError, BoxFuture,
    Budget, BuildError, Builder, CancellationToken, CannotPause, Child, Choice, Clock, Context, END, Event, EventKind,
    EventStream, Fault, Flow, IntoNode, ItemOutcome, Label, Listener, ManualClock, Node, NodeError, NodeExt, NodePath,
    OnError, Outcome, OverBudget, Pause, Phase, QuestionExpired, Result, Retry, RunError, RunId, RunOptions, Shared,
    Sleep, State, SyncKind, SystemClock, TimedOut, Unrouted, Usage, Usd, driver, step,
};
/// Durable runs: the feature `durable`.
#[cfg(feature = "durable")]
pub use flowstone_durable as durable;
pub use flowstone_macros::{Action, node};

/// Models, prompts, tools and agents: the feature `llm`.
#[cfg(feature = "llm")]
pub mod llm {
    pub use flowstone_llm::*;
    pub use flowstone_macros::tool;
}

/// The names that most programs need: `use flowstone::prelude::*;`.
pub mod prelude {
    pub use std::time::Duration;

    #[cfg(feature = "schema")]
    pub use flowstone_core::schema_of;
    pub use flowstone_core::{
        Action, Ask, AsyncBatchNode, AsyncFlow, AsyncNode, BatchNode, BuildError, Builder, CancellationToken, Context,
        END, Event, EventKind, Flow, Label, Node, NodeError, NodeExt, Outcome, Result, Retry, RunError, RunOptions,
        Shared, Sleep, Unrouted, step,
    };
    #[cfg(feature = "durable")]
    pub use flowstone_durable::{Run, Runs, Store};
    #[cfg(feature = "llm")]
    pub use flowstone_llm::{AgentState, Chat, Classify, Conversation, Embed, Extract, Message, Model, Tools, agent};
    #[cfg(feature = "llm")]
    pub use flowstone_macros::tool;
    pub use flowstone_macros::{Action, node};
}
