//! Starting a run.

use flowstone_core::RunId;

use crate::words::error::{
    keep::KeepError,
    store::{JobError, StoreError},
};

/// An error of starting a run. Nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The file fails; see [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The id is taken by a run of another flow.
    #[error("run `{run}` belongs to flow `{found}`, not to flow `{wanted}`")]
    #[non_exhaustive]
    OtherFlow {
        /// The id.
        run: RunId,
        /// The flow that it belongs to.
        found: String,
        /// The flow that was to run.
        wanted: String,
    },
    /// The id is taken.
    #[error("there is a run `{run}` already")]
    #[non_exhaustive]
    Taken {
        /// The id.
        run: RunId,
    },
    /// The id is empty or too long.
    #[error("a run's id has 1 to {most} bytes; this one has {length}")]
    #[non_exhaustive]
    BadId {
        /// Its length in bytes.
        length: usize,
        /// The most that an id may have.
        most: usize,
    },
    /// Its state cannot be kept; see [`KeepError`].
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl From<rusqlite::Error> for StartError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(StoreError::from(error))
    }
}

impl JobError for StartError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
