//! Durable runs: one SQLite file, in which runs survive the end of their process at any instant.
//!
//! ```text
//! start ─▶ visit ─▶ commit ─▶ visit ─▶ commit ─▶ … ─▶ end
//!                     └▶ the file: state, next node, what happened     (kill -9)
//!                                         └────▶ resume ─▶ visit ─▶ commit ─▶ …
//! ```
//!
//! Users add the crate `flowstone` with its feature `durable`, which re-exports this one. In the order in which a run meets
//! them:
//!
//! | module | what it holds |
//! |---|---|
//! | `store`, `options` | a file of runs that this process drives |
//! | `runs`, `run`, `flows`, `renamed` | the runs of one flow, and one of them; a flow without its types; names over time |
//! | `shared` | what is driven at the moment, and who waits for it |
//! | `keeper` | the loop: visit, commit |
//! | `journal`, `children` | what a visit under way has done: items, waits, children |
//! | `observer`, `follow` | attempts for the history; history and life as one stream |
//! | `usage` | what visits use of paid services |
//! | `states`, `snapshot` | a state beside its predecessor |
//! | `writer`, `lock` | one thread that commits for everyone; one process |
//! | `files`, `pair` | the files of a store are still its own; a main file and its log belong together |
//! | `schema`, `rows`, `load` | the tables; writing and reading them |
//! | `turns` | whose turn it is, where not all can be driven at once |
//! | `waits` | how long something waits, by a clock that may be set |
//! | `watch` | sleeping runs wake; what other processes ask for is done |
//! | `readers` | threads that read beside the writer |
//! | `reader`, `list`, `status` | runs, steps, states, questions, for everyone who may read the file |
//! | `control`, `requests`, `answers`, `changes`, `prune`, `deleting` | answers, cancelling, retrying, forks, deleting |
//! | `error` | what can go wrong |
//!
//! # Invariants
//!
//! - One visit, one transaction: what is committed ran once; what was under way at a crash runs again, from its `prep`.
//! - What a caller was told is on disk.
//! - One process drives a store; others read it, and leave requests.
//! - What refuses a run has not changed it.
//! - Nothing in the file is code, and nothing in it is believed: what does not decode is an error.

mod answers;
mod asking;
mod changes;
mod checked;
mod children;
mod control;
mod deleting;
mod error;
mod files;
mod fitness;
mod flows;
mod follow;
mod journal;
mod keeper;
mod list;
mod load;
mod lock;
mod observer;
mod options;
mod pair;
mod parked;
mod prune;
mod questions;
mod reader;
mod readers;
mod renamed;
mod requests;
mod rows;
mod run;
mod runs;
mod schema;
mod shared;
mod snapshot;
mod states;
mod status;
mod store;
mod turns;
mod usage;
mod waits;
mod watch;
mod writer;

pub use asking::Asking;
pub use error::{Error, OpenError, StoreError, StoreFault, Written};
pub use follow::Seen;
pub use list::Filter;
pub use options::{Durability, FlowOptions, StoreOptions};
pub use prune::{Prune, Pruned};
pub use reader::{Reader, StoredFlow};
pub use requests::Requests;
pub use run::{Finished, Run};
pub use runs::{Resumed, Runs, Unregistered};
pub use status::{Cursor, FailedAttempt, Failure, Items, Left, Question, RunInfo, Status, Step, UnknownStatus};
pub use store::Store;
#[doc(hidden)]
pub use writer::{WriteMoment, WritePoint};
