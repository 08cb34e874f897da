//! The core of Flowstone: nodes, flows, one visit, and the driver in memory.
//!
//! Users add the crate `flowstone`, which re-exports this one. Folders are layers, from the lowest: a module imports
//! from its own layer and from the rows before it, and `cargo xtask lint` refuses the rest.
//!
//! | layer | what it holds |
//! |---|---|
//! | `words` | actions, routes, paths, pauses, events, errors, usage, clocks, JSON that is read back: plain values |
//! | `outcome` | what came of a visit and of a run |
//! | `driver` | what a driver that keeps runs has to know: the traits `Execution` and `Journal` |
//! | `policy` | retries, timeouts, where `exec` runs, what a failed item does |
//! | `graph` | where each action leads; pictures. No code of users |
//! | `context` | what a visit knows of its run; what a run shares with all that it starts |
//! | `node` | the four node traits |
//! | `visit` | the one way through a node: `visit` and `follow`; attempts, batches, children, the blocking pool |
//! | `define` | from what users write to a checked flow: `add`, `build`, closures, questions, sleeps, batch flows |
//! | `drive` | built flows and the driver in memory: runs, their options, streams, flows inside an `exec` |
//!
//! `__macros` is what the written code of the macros asks of a type.
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
    nest::{BatchFlow, IsSelf, On, Within},
    sleep::Sleep,
    step::{IntoAction, Step, step},
};
pub use drive::{
    flow::{AsyncFlow, Flow},
    options::RunOptions,
    run_in::CannotPause,
    stream::EventStream,
};
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
    codec::{
        Undecodable,
        fault::{StorageFault, Unstorable},
        storable,
    },
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
