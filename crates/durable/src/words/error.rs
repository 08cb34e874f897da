//! Errors, one for each operation, and [`Error`] for all of them.
//!
//! | operation | error |
//! |---|---|
//! | opening a store, registering a flow | [`OpenError`] |
//! | reading runs | [`ReadError`] |
//! | starting a run | [`StartError`] |
//! | answering | [`AnswerError`] |
//! | cancelling, retrying, forking, deleting, pruning | [`ChangeError`] |
//! | driving, and waiting for it | [`DriveError`] |
//!
//! Each of them can hold a [`StoreError`], for a file that fails, or a [`KeepError`], for a value that cannot be kept.
//! The end of a run is no error: it is the value of [`Run::finished`](crate::Run::finished).

use flowstone_core::{NodePath, RunId};

pub use answer::AnswerError;
pub use change::ChangeError;
pub use drive::DriveError;
pub use keep::{KeepError, Written};
pub use open::OpenError;
pub use read::ReadError;
pub use start::StartError;
pub(crate) use status::StatusError;
pub use status::WrongStatus;
pub(crate) use store::{JobError, Refuses, damaged};
pub use store::{StoreError, StoreFault};

mod answer;
mod change;
mod drive;
mod keep;
mod open;
mod read;
mod start;
mod status;
mod store;

/// Any error of this crate, for code that does several things with a store.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file of a store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of a run cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A run cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An answer is not taken.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// A run is not changed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A run cannot go on.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// A run failed or was cancelled where an exit was expected.
    #[error(transparent)]
    NotEnded(#[from] NotEnded),
}

impl Error {
    /// Returns the fault of the store's file, if that is behind the error.
    #[must_use]
    pub fn fault(&self) -> Option<StoreFault> {
        let store = match self {
            Self::Open(OpenError::Store { source, .. }) | Self::Store(source) => Some(source),
            Self::Read(error) => error.of_store(),
            Self::Start(error) => error.of_store(),
            Self::Answer(error) => error.of_store(),
            Self::Change(error) => error.of_store(),
            Self::Drive(error) => error.of_store(),
            Self::Open(_) | Self::NotEnded(_) => None,
        };
        store.map(StoreError::fault)
    }
}

/// The run came to its end, but not to an exit of its flow: the error of [`Finished::ended`](crate::Finished::ended).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEnded {
    /// It failed.
    #[error("{message}")]
    #[non_exhaustive]
    Failed {
        /// The node that failed.
        node: NodePath,
        /// The error with its causes.
        message: String,
    },
    /// It was cancelled.
    #[error("run `{run}` was cancelled")]
    #[non_exhaustive]
    Cancelled {
        /// The run.
        run: RunId,
    },
}
