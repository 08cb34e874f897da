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
mod outcome;
mod policy;
mod visit;
mod words;

pub use context::{Context, key::KeyBase};
pub use define::{
    add::{Added, AsyncKind, IntoNode, NodeIn, SyncKind},
    ask::{Ask, QuestionExpired},
    build::{BuildError, Builder, Fault},
    flow::{AsyncFlow, Flow},
    nest::{BatchFlow, IsSelf, On, Within},
    sleep::Sleep,
    step::{IntoAction, Step, step},
};
pub use drive::{options::RunOptions, run_in::CannotPause, stream::EventStream};
pub use driver::{BoxFuture, Execution, Forked, Journal, RestoreError, Standing, Waited};
pub use graph::Unrouted;
pub use node::{AsyncBatchNode, AsyncNode, BatchNode, ItemOutcome, Node, State};
pub use outcome::{Outcome, Visit};
pub use policy::{
    ByItem, ByKey, HasItems, InOrder, Inline, Journaled, Keyed, OnError, Parallel, Plain, Retry, Spawned, With,
    ext::NodeExt,
};
pub use tokio_util::sync::CancellationToken;
pub use visit::{children::Child, running::Running};
pub use words::{
    action::{Action, Choice, HasDefault, Label},
    clock::{Clock, ManualClock, SystemClock},
    codec::{StorageFault, Undecodable, Unstorable, storable},
    error::{BoxError, NodeError, Phase, Result, RunError, TimedOut},
    event::{Event, EventKind, Listener},
    guard::{Panicked, report},
    item_key::{ItemId, ItemKey},
    path::{NodePath, Position, RunId},
    pause::Pause,
    route::{At, END, End, Exit, Route},
    usage::{Budget, OverBudget, Usage, Usd},
};

/// A ready state for prototypes and for hosts that know their data at run time only: a JSON object.
pub type Shared = serde_json::Map<String, serde_json::Value>;
