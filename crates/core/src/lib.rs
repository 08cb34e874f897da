//! The core of Flowstone: nodes, flows, one visit, and the driver in memory.
//!
//! Users add the crate `flowstone`, which re-exports this one. In the order in which a run meets them:
//!
//! | module | what it holds |
//! |---|---|
//! | `node` | the kinds of node: three phases over a shared state |
//! | `action`, `route` | what `post` returns, and PocketFlow's notation for edges |
//! | `policy` | retries, timeouts, and where `exec` runs |
//! | `step`, `ask`, `nest` | nodes from closures, pauses for people, flows as nodes |
//! | `add`, `build` | taking the types off; checking a flow, every fault at once |
//! | `graph` | the flattened graph: where each action leads; pictures |
//! | `flow`, `definition` | a built flow, and `visit`, the waist that every driver goes through |
//! | `visit`, `batch`, `children`, `pool` | what a visit does, by kind of node |
//! | `context` | what a visit knows of its run |
//! | `drive`, `options` | the driver in memory: a loop over `visit` |
//! | `event`, `stream`, `clock` | watching a run, and its time |
//! | `error` | what can go wrong |
//!
//! # Invariants
//!
//! - `exec` never sees the state (types).
//! - A flow that exists is right; `build()` reports every fault at once.
//! - When a run returns, nothing that it started still runs.
//! - A visit costs the same whatever the size of the graph and the length of the run.

mod action;
mod add;
mod ask;
mod batch;
mod build;
mod children;
mod clock;
mod context;
mod definition;
mod drive;
mod error;
mod event;
mod flow;
mod graph;
mod nest;
mod node;
mod options;
mod path;
mod policy;
mod pool;
mod route;
mod step;
mod stream;
mod visit;

pub use action::{Action, HasDefault, Label};
pub use add::{Added, AsyncKind, IntoNode, NodeIn, SyncKind};
pub use ask::{Ask, Pause};
pub use build::{BuildError, Builder, Fault};
pub use children::Child;
pub use clock::{Clock, ManualClock, SystemClock};
pub use context::Context;
pub use definition::{Position, Visit};
pub use drive::Outcome;
pub use error::{BoxError, NodeError, Panicked, Phase, Result, RunError, TimedOut};
pub use event::{Event, EventKind, Listener};
pub use flow::{AsyncFlow, Flow};
pub use graph::Unrouted;
pub use nest::{BatchFlow, IsSelf, On};
pub use node::{AsyncBatchNode, AsyncNode, BatchNode, ItemOutcome, Node, OnError, State};
pub use options::RunOptions;
pub use path::{NodePath, RunId};
pub use policy::{Inline, NodeExt, Parallel, Plain, Retry, Spawned, With};
pub use route::{At, END, End, Exit, Route};
pub use step::{IntoAction, Step, step};
pub use stream::EventStream;
pub use tokio_util::sync::CancellationToken;

/// A ready state for prototypes and for hosts that know their data at run time only: a JSON object.
pub type Shared = serde_json::Map<String, serde_json::Value>;
