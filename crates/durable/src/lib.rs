//! Durable runs: one SQLite file, in which runs survive the end of their process at any instant.
//!
//! ```text
//! start ─▶ visit ─▶ commit ─▶ visit ─▶ commit ─▶ … ─▶ end
//!                     └▶ the file: state, next node, what happened     (kill -9)
//!                                         └────▶ resume ─▶ visit ─▶ commit ─▶ …
//! ```
//!
//! Users add the crate `flowstone` with its feature `durable`, which re-exports this one.
//!
//! # Layers
//!
//! Each folder is a layer: a file imports from its own folder and from those below, never from above.
//!
//! | folder | what it holds |
//! |---|---|
//! | `api` | what users call: a store, the runs of a flow, one run, following, requests from beside, pruning |
//! | `drive` | the runs that are driven: the loop of visit and commit, its journal, children, wakes, the inbox |
//! | `flows` | a flow without its types; what a stored run needs to go on with it |
//! | `records` | runs, steps, items, questions as rows: writing and reading them |
//! | `disk` | the file: its tables, its lock, its writer; a state beside its predecessor |
//! | `words` | status, errors, options, waits: what all the others speak of |
//!
//! # Invariants
//!
//! - One visit, one transaction: what is committed ran once; what was under way at a crash runs again, from its `prep`.
//! - What a caller was told is on disk.
//! - One process drives a store; others read it, and leave requests.
//! - What refuses a run has not changed it.
//! - Nothing in the file is code, and nothing in it is believed: what does not decode is an error.

mod api {
    //! The API of the crate.

    pub(crate) mod follow;
    pub(crate) mod handle;
    pub(crate) mod prune;
    pub(crate) mod requests;
    pub(crate) mod run;
    pub(crate) mod runs;
    pub(crate) mod store;
}

mod disk {
    //! The files of a store.

    pub(crate) mod access;
    pub(crate) mod files;
    pub(crate) mod job;
    pub(crate) mod lock;
    pub(crate) mod owner;
    pub(crate) mod pair;
    pub(crate) mod schema;
    pub(crate) mod snapshot;
    pub(crate) mod space;
    pub(crate) mod states;
    pub(crate) mod writer;
}

mod drive {
    //! The runs that this process drives.

    pub(crate) mod active;
    pub(crate) mod announce;
    pub(crate) mod answers;
    pub(crate) mod changes;
    pub(crate) mod children;
    pub(crate) mod drives;
    pub(crate) mod engine;
    pub(crate) mod halts;
    pub(crate) mod heard;
    pub(crate) mod inbox;
    pub(crate) mod journal;
    pub(crate) mod meter;
    pub(crate) mod news;
    pub(crate) mod observer;
    pub(crate) mod places;
    pub(crate) mod readers;
    pub(crate) mod resume;
    pub(crate) mod run_driver;
    pub(crate) mod shared;
    pub(crate) mod storage;
    pub(crate) mod surroundings;
    pub(crate) mod turns;
    pub(crate) mod wakes;
    pub(crate) mod work;
}

mod flows {
    //! Flows without their types.

    pub(crate) mod any_flow;
    pub(crate) mod asking;
    pub(crate) mod description;
    pub(crate) mod fitness;
    pub(crate) mod registered;
    pub(crate) mod registry;
}

mod records {
    //! Runs as rows of a store.

    pub(crate) mod deleting;
    pub(crate) mod flows;
    pub(crate) mod ids;
    pub(crate) mod inbox;
    pub(crate) mod items;
    pub(crate) mod list;
    pub(crate) mod load;
    pub(crate) mod owner;
    pub(crate) mod parked;
    pub(crate) mod pauses;
    pub(crate) mod questions;
    pub(crate) mod reader;
    pub(crate) mod retry;
    pub(crate) mod runs;
    pub(crate) mod state;
    pub(crate) mod status;
    pub(crate) mod steps;
    pub(crate) mod stored_flow;
    pub(crate) mod turns;
    pub(crate) mod usage;
    pub(crate) mod visits;
}

mod words {
    //! Types that every layer speaks of.

    pub(crate) mod checked;
    pub(crate) mod columns;
    pub(crate) mod error;
    pub(crate) mod flow_options;
    pub(crate) mod guard;
    pub(crate) mod ids;
    pub(crate) mod info;
    pub(crate) mod migrate;
    pub(crate) mod points;
    pub(crate) mod renamed;
    pub(crate) mod status;
    pub(crate) mod store_options;
    pub(crate) mod texts;
    pub(crate) mod waits;
}

pub use api::follow::Seen;
pub use api::prune::{Prune, Pruned};
pub use api::requests::Requests;
pub use api::run::{Ended, Finished, Run};
pub use api::runs::Runs;
pub use api::store::Store;

pub use drive::resume::{Resumed, Unregistered};
pub use records::list::Filter;
pub use records::reader::Reader;
pub use records::stored_flow::StoredFlow;
pub use words::error::{
    AnswerError, ChangeError, DriveError, Error, KeepError, NotEnded, OpenError, ReadError, StartError, StoreError,
    StoreFault, Written, WrongStatus,
};
pub use words::flow_options::FlowOptions;
pub use words::info::{Cursor, FailedAttempt, Items, Left, Question, RunFailure, RunInfo, StepInfo};
pub use words::migrate::Asking;
#[doc(hidden)]
pub use words::points::{WriteMoment, WritePoint};
pub use words::status::{Status, UnknownStatus};
pub use words::store_options::{Durability, StoreOptions};
