//! Changing the status of a run.

use flowstone_core::RunId;

use crate::words::{
    error::{
        read::ReadError,
        store::{JobError, StoreError},
    },
    status::Status,
};

/// The request needs a run in another status. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run `{run}` cannot be {wanted}: its status is `{status}`")]
#[non_exhaustive]
pub struct WrongStatus {
    /// The run.
    pub run: RunId,
    /// Its status.
    pub status: Status,
    /// The request, as a participle: `cancelled`.
    pub wanted: &'static str,
}

/// An error of changing the status of a run.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StatusError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Wrong(#[from] WrongStatus),
}

impl From<rusqlite::Error> for StatusError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(StoreError::from(error))
    }
}

impl From<StoreError> for StatusError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

impl JobError for StatusError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Read(error) => error.of_store(),
            _ => None,
        }
    }
}
