//! The core of Flowstone: nodes, flows, one visit, and the driver in memory.
//!
//! Users add the crate `flowstone`, which re-exports this one. In the order in which a run meets them:
//!
//! | module | what it holds |
//! |---|---|
//! | `node` | the kinds of node: three phases over a shared state |
//! | `action`, `route` | what `post` returns, and PocketFlow's notation for edges |
//! | `policy` | retries, timeouts, and where `exec` runs |
//! | `step`, `ask`, `sleep`, `nest` | nodes from closures, pauses for people, waits, flows as nodes |
//! | `add`, `build` | taking the types off; checking a flow, every fault at once |
//! | `graph` | the flattened graph: where each action leads; pictures |
//! | `flow`, `definition` | a built flow, and `visit`, the waist that every driver goes through |
//! | `visit`, `batch`, `children`, `pool` | what a visit does, by kind of node |
//! | `run_in` | a flow that runs inside an `exec` |
//! | `context` | what a visit knows of its run |
//! | `drive`, `options` | the driver in memory: a loop over `visit` |
//! | `execution`, `journal`, `codec` | a run without its types, for drivers that keep runs; what they keep inside a visit |
//! | `event`, `stream`, `clock` | watching a run, and its time |
//! | `usage` | what a run uses of paid services, and may use |
//! | `error`, `guard` | what can go wrong; the guard around all code that is not the engine's |
//! | `__macros` | what the written code of the macros asks of a type |
//!
//! # Invariants
//!
//! - `exec` never sees the state (types).
//! - A flow that exists is right; `build()` reports every fault at once.
//! - When a run returns, nothing that it started still runs.
//! - A run in memory has no journal, and never finds one: what a driver keeps reaches a visit through its context only.
//! - What was kept and does not decode is an error, never a default.
//! - A visit costs the same whatever the size of the graph and the length of the run.

#[doc(hidden)]
pub mod __macros;
mod action;
mod add;
mod ask;
mod batch;
mod build;
mod children;
mod clock;
mod codec;
mod context;
mod definition;
mod drive;
mod error;
mod event;
mod execution;
mod flow;
mod graph;
mod guard;
mod item_key;
mod journal;
mod nest;
mod node;
mod options;
mod path;
mod policy;
mod pool;
mod route;
mod run_in;
mod sleep;
mod step;
mod stream;
mod usage;
mod visit;

pub use action::{Action, Choice, HasDefault, Label};
pub use add::{Added, AsyncKind, IntoNode, NodeIn, SyncKind};
pub use ask::{Ask, Pause, QuestionExpired};
pub use build::{BuildError, Builder, Fault};
pub use children::Child;
pub use clock::{Clock, ManualClock, SystemClock};
pub use codec::{StorageFault, Undecodable, Unstorable, storable};
pub use context::{Context, KeyBase};
pub use definition::{Position, Visit};
pub use drive::Outcome;
pub use error::{BoxError, NodeError, Phase, Result, RunError, TimedOut};
pub use event::{Event, EventKind, Listener};
pub use execution::{Execution, RestoreError, Running};
pub use flow::{AsyncFlow, Flow};
pub use graph::Unrouted;
pub use guard::{Panicked, report};
pub use item_key::{ItemId, ItemKey};
pub use journal::{Forked, Journal, Standing, Waited};
pub use nest::{BatchFlow, IsSelf, On, Within};
pub use node::{AsyncBatchNode, AsyncNode, BatchNode, HasItems, ItemOutcome, Node, OnError, State};
pub use options::RunOptions;
pub use path::{NodePath, RunId};
pub use policy::{ByItem, ByKey, InOrder, Inline, Journaled, Keyed, NodeExt, Parallel, Plain, Retry, Spawned, With};
pub use route::{At, END, End, Exit, Route};
pub use run_in::CannotPause;
pub use sleep::Sleep;
pub use step::{IntoAction, Step, step};
pub use stream::EventStream;
pub use tokio_util::sync::CancellationToken;
pub use usage::{Budget, OverBudget, Usage, Usd};
pub use visit::BoxFuture;

/// A ready state for prototypes and for hosts that know their data at run time only: a JSON object.
pub type Shared = serde_json::Map<String, serde_json::Value>;
