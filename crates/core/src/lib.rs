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
mod context;
mod define;
mod drive;
mod driver;
mod graph;
mod node;
mod policy;
mod visit;
mod words;

pub use context::{Context, KeyBase};
pub use define::add::{Added, AsyncKind, IntoNode, NodeIn, SyncKind};
pub use define::ask::{Ask, Pause, QuestionExpired};
pub use define::build::{BuildError, Builder, Fault};
pub use define::flow::{AsyncFlow, Flow};
pub use define::nest::{BatchFlow, IsSelf, On, Within};
pub use define::sleep::Sleep;
pub use define::step::{IntoAction, Step, step};
pub use drive::options::RunOptions;
pub use drive::run::Outcome;
pub use drive::run_in::CannotPause;
pub use drive::stream::EventStream;
pub use driver::{Forked, Journal, Standing, Waited};
pub use graph::Unrouted;
pub use node::{AsyncBatchNode, AsyncNode, BatchNode, HasItems, ItemOutcome, Node, OnError, State};
pub use policy::{ByItem, ByKey, InOrder, Inline, Journaled, Keyed, NodeExt, Parallel, Plain, Retry, Spawned, With};
pub use tokio_util::sync::CancellationToken;
pub use visit::attempt::BoxFuture;
pub use visit::children::Child;
pub use visit::running::{Execution, RestoreError, Running};
pub use visit::{Position, Visit};
pub use words::action::{Action, Choice, HasDefault, Label};
pub use words::clock::{Clock, ManualClock, SystemClock};
pub use words::codec::{StorageFault, Undecodable, Unstorable, storable};
pub use words::error::{BoxError, NodeError, Phase, Result, RunError, TimedOut};
pub use words::event::{Event, EventKind, Listener};
pub use words::guard::{Panicked, report};
pub use words::item_key::{ItemId, ItemKey};
pub use words::path::{NodePath, RunId};
pub use words::route::{At, END, End, Exit, Route};
pub use words::usage::{Budget, OverBudget, Usage, Usd};

/// A ready state for prototypes and for hosts that know their data at run time only: a JSON object.
pub type Shared = serde_json::Map<String, serde_json::Value>;
