//! Opening a store.

use std::{path::PathBuf, sync::Arc};

use flowstone_core::driver::Unstorable;

use crate::words::{
    error::{drive::DriveError, store::StoreError},
    info::Left,
};

/// An error of opening a store.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened or made.
    #[error("cannot open the store `{}`", .path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The file is not a store: it belongs to another program, or is no database at all.
    #[error("`{}` is not a store of Flowstone: {what}", .path.display())]
    #[non_exhaustive]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// The kind of file that it is instead.
        what: String,
    },
    /// The store was written by a newer version of this library.
    #[error("the store `{}` has schema {found}, and this version knows schemas up to {known}: open it with a newer version", .path.display())]
    #[non_exhaustive]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that is known here.
        known: i64,
    },
    /// Another process drives the store.
    #[error(
        "the store `{}` is driven by {}: stop it, open the store with `Reader`, or use `flowstone runs`",
        .path.display(), Owner(*.pid)
    )]
    #[non_exhaustive]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process that drives it, if the lock file names it.
        pid: Option<u32>,
    },
    /// The store was closed, but work of its runs that cannot be interrupted still goes on. Another driver could now do
    /// the same work a second time beside it.
    #[error(
        "the store `{}` was closed, but {} still runs what cannot be interrupted, of {}: wait until that has ended, or end the process",
        .path.display(), Owner(*.pid), Lefts(.left)
    )]
    #[non_exhaustive]
    StillRuns {
        /// The file.
        path: PathBuf,
        /// The process in which they run, if the lock file names it.
        pid: Option<u32>,
        /// The runs, and the nodes that they visited.
        left: Vec<Left>,
    },
    /// The file cannot be read or written.
    #[error("the store `{}` cannot be used", .path.display())]
    #[non_exhaustive]
    Store {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: StoreError,
    },
    /// A flow is nested too deep for its picture to be kept.
    #[error("flow `{flow}` cannot be kept as JSON: nest fewer flows in one another")]
    #[non_exhaustive]
    FlowTooDeep {
        /// The flow.
        flow: String,
        /// The fault.
        source: Arc<Unstorable>,
    },
    /// The runs that an earlier version of the flow could not take cannot be tried again.
    #[error("the runs of flow `{flow}` that could not go on before cannot be tried again")]
    #[non_exhaustive]
    Resume {
        /// The flow.
        flow: String,
        /// The reason.
        source: DriveError,
    },
}

/// Returns the part of a message that names a process.
struct Owner(Option<u32>);

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// Returns the part of a message that names the first few runs.
struct Lefts<'a>(&'a [Left]);

impl std::fmt::Display for Lefts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMED: usize = 5;

        for (index, left) in self.0.iter().take(NAMED).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}run `{}` at node `{}`", left.run, left.node)?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
