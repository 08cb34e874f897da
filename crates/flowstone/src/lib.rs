//! Flowstone: small graphs of nodes over one shared state, for applications that wait.
//!
//! This crate is what users add. It holds no logic: it re-exports `flowstone-core` and the macros of
//! `flowstone-macros`. `use flowstone::prelude::*;` brings what most programs need.

#[cfg(doctest)]
mod guide;

/// The command line of a program with durable runs: the feature `cli`.
#[cfg(feature = "cli")]
pub use flowstone_cli as cli;
pub use flowstone_core::*;
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
