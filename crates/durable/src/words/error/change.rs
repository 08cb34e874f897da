//! Cancelling, retrying, forking, deleting and pruning runs.

use flowstone_core::RunId;

use crate::words::error::{
    drive::DriveError,
    keep::KeepError,
    read::ReadError,
    start::StartError,
    status::{StatusError, WrongStatus},
    store::{JobError, Refuses, StoreError},
};

/// An error of changing a run, which stays as it is.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The run cannot be found or read; see [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The request needs a run in another status.
    #[error(transparent)]
    WrongStatus(#[from] WrongStatus),
    /// After this step the run is at its end: nothing can follow.
    #[error("run `{run}` is at its end after step {step}: fork it from an earlier one")]
    #[non_exhaustive]
    AtEnd {
        /// The run.
        run: RunId,
        /// The step.
        step: u64,
    },
    /// The fork cannot be started; see [`StartError`].
    #[error(transparent)]
    Start(#[from] StartError),
    /// The edited state cannot be kept; see [`KeepError`].
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// Its flow cannot go on with it; see [`DriveError`].
    #[error(transparent)]
    Drive(DriveError),
}

impl From<rusqlite::Error> for ChangeError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(StoreError::from(error))
    }
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

impl From<StatusError> for ChangeError {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Read(error) => Self::Read(error),
            StatusError::Wrong(error) => Self::WrongStatus(error),
        }
    }
}

impl JobError for ChangeError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Read(error) => error.of_store(),
            Self::Start(error) => error.of_store(),
            _ => None,
        }
    }
}

impl Refuses for ChangeError {
    fn refusal(&self) -> Option<String> {
        match self {
            Self::Drive(error) => error.refusal(),
            Self::Read(error) => error.refusal(),
            _ => None,
        }
    }
}

impl From<DriveError> for ChangeError {
    fn from(error: DriveError) -> Self {
        match error {
            DriveError::Read(error) => Self::Read(error),
            DriveError::Keep(error) => Self::Keep(error),
            error => Self::Drive(error),
        }
    }
}
