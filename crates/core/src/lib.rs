//! The core of Flowstone: nodes, flows, one visit, and the driver in memory.
//!
//! Users add the crate `flowstone`, which re-exports this one. Folders are layers, from the lowest: a module imports
//! from its own layer and from the rows before it, and `cargo xtask lint` refuses the rest.
//!
//! | layer | what it holds |
//! |---|---|
//! | `words` | actions, routes, paths, pauses, events, errors, usage, clocks, JSON that is read back: plain values |
//! | `outcome` | what came of a visit and of a run |
//! | `execution` | what a driver that keeps runs has to know: the traits `Execution` and `Journal` |
//! | `policy` | retries, timeouts, where `exec` runs, what a failed item does |
//! | `graph` | where each action leads; pictures. No code of users |
//! | `context` | what a visit knows of its run; what a run shares with all that it starts |
//! | `node` | the four node traits |
//! | `visit` | the one way through a node: `visit` and `follow`; attempts, batches, children, the blocking pool |
//! | `define` | from what users write to a checked flow: `add`, `build`, closures, questions, sleeps, batch flows |
//! | `drive` | built flows and the driver in memory: runs, their options, streams, flows inside an `exec` |
//!
//! The public module [`driver`] has the names that only drivers need. `__macros` has the checks of types in the code
//! that the macros write.
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
mod execution;
mod graph;
mod node;
mod outcome;
mod policy;
mod visit;
mod words;

pub use context::Context;
pub use define::{
    add::{AsyncKind, IntoNode, SyncKind},
    ask::{Ask, QuestionExpired},
    build::Builder,
    fault::{BuildError, Fault},
    nest::BatchFlow,
    sleep::Sleep,
    step::step,
};
pub use drive::{
    flow::{AsyncFlow, Flow},
    options::RunOptions,
    run_in::CannotPause,
    stream::EventStream,
};
pub use execution::BoxFuture;
pub use graph::Unrouted;
pub use node::{AsyncBatchNode, AsyncNode, BatchNode, ItemOutcome, Node, State};
pub use outcome::Outcome;
pub use policy::{OnError, Retry, ext::NodeExt};
pub use tokio_util::sync::CancellationToken;
pub use visit::children::Child;
pub use words::{
    action::{Action, Choice, Label},
    clock::{Clock, ManualClock, SystemClock},
    error::{BoxError, NodeError, Phase, Result, RunError, TimedOut},
    event::{Event, EventKind, Listener},
    path::{NodePath, RunId},
    pause::Pause,
    route::{At, END},
    usage::{Budget, OverBudget, Usage, Usd},
};

#[cfg(feature = "schema")]
pub use words::schema::schema_of;

// Types that the compiler finds by itself: they are named in its messages, and seldom in a program.
#[doc(hidden)]
pub use define::{
    nest::{On, Within},
    step::{IntoAction, Step},
};
#[doc(hidden)]
pub use policy::{Journaled, With};
#[doc(hidden)]
pub use words::{
    action::HasDefault,
    route::{End, Exit, Route},
};

/// For drivers: programs that make the visits of a run themselves, and may keep each of them.
///
/// A driver sees a run as an [`Execution`](driver::Execution), and keeps what happens inside a visit through a
/// [`Journal`](driver::Journal).
pub mod driver {
    pub use crate::{
        context::key::KeyBase,
        execution::{Execution, Forked, Journal, RestoreError, Standing, Waited},
        outcome::Visit,
        visit::running::Running,
        words::{
            codec::{
                Undecodable,
                fault::{StorageFault, Unstorable},
                storable,
            },
            guard::{Panicked, report},
            item_key::{ItemId, ItemKey},
            path::Position,
        },
    };
}

/// A ready state for prototypes and for hosts that know their data at run time only: a JSON object.
pub type Shared = serde_json::Map<String, serde_json::Value>;
