//! Flowstone: small graphs of nodes over one shared state, for applications that wait.
//!
//! This crate is what users add. It holds no logic: it re-exports `flowstone-core` and the macros of
//! `flowstone-macros`. `use flowstone::prelude::*;` brings what most programs need.

#[cfg(doctest)]
mod guide;

pub use flowstone_core::*;
pub use flowstone_macros::{Action, node};

/// What most programs need: `use flowstone::prelude::*;`.
pub mod prelude {
    pub use std::time::Duration;

    pub use flowstone_core::{
        Action, Ask, AsyncBatchNode, AsyncFlow, AsyncNode, BatchNode, CancellationToken, Context, END, Event,
        EventKind, Flow, Label, Node, NodeError, NodeExt, Outcome, Result, Retry, RunError, RunOptions, Shared,
        Unrouted, step,
    };
    pub use flowstone_macros::{Action, node};
}
