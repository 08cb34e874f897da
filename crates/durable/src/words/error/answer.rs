//! Answering a question.

use std::time::SystemTime;

use flowstone_core::{NodePath, RunId};

use crate::words::error::{
    drive::DriveError,
    keep::KeepError,
    read::ReadError,
    status::{StatusError, WrongStatus},
    store::{JobError, Refuses, StoreError},
};

/// An error of answering a question, which is not changed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The run cannot be found or read; see [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The run does not wait for an answer at this node.
    #[error("run `{run}` does not wait for an answer at node `{node}`; {}", Asks(.asks.as_ref()))]
    #[non_exhaustive]
    NotAsking {
        /// The run.
        run: RunId,
        /// The node that was answered.
        node: NodePath,
        /// The node that asks, if one does.
        asks: Option<NodePath>,
    },
    /// The question was answered before.
    #[error("the question of run `{run}` at node `{node}` was answered before")]
    #[non_exhaustive]
    AlreadyAnswered {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
    },
    /// The question has expired: the run goes on without an answer.
    #[error("the question of run `{run}` at node `{node}` has expired: the run goes on without an answer")]
    #[non_exhaustive]
    Expired {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The time at which it expired.
        at: SystemTime,
    },
    /// The answer does not fit its schema or its type; the question still waits.
    #[error("the answer to run `{run}` at node `{node}` does not fit: {what}")]
    #[non_exhaustive]
    Unfit {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The part that does not fit, with its place in the JSON.
        what: String,
    },
    /// The request needs a run in another status.
    #[error(transparent)]
    WrongStatus(#[from] WrongStatus),
    /// The answer cannot be kept; see [`KeepError`].
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// Its flow cannot go on with it; see [`DriveError`].
    #[error(transparent)]
    Drive(DriveError),
}

impl From<rusqlite::Error> for AnswerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(StoreError::from(error))
    }
}

impl From<StoreError> for AnswerError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

impl From<StatusError> for AnswerError {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Read(error) => Self::Read(error),
            StatusError::Wrong(error) => Self::WrongStatus(error),
        }
    }
}

impl JobError for AnswerError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Read(error) => error.of_store(),
            _ => None,
        }
    }
}

/// Returns the part of a message that names the node that asks.
struct Asks<'a>(Option<&'a NodePath>);

impl std::fmt::Display for Asks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(node) => write!(f, "node `{node}` asks"),
            None => f.write_str("it asks nothing"),
        }
    }
}

impl Refuses for AnswerError {
    fn refusal(&self) -> Option<String> {
        match self {
            Self::Drive(error) => error.refusal(),
            Self::Read(error) => error.refusal(),
            _ => None,
        }
    }
}

impl From<DriveError> for AnswerError {
    fn from(error: DriveError) -> Self {
        match error {
            DriveError::Read(error) => Self::Read(error),
            DriveError::Keep(error) => Self::Keep(error),
            error => Self::Drive(error),
        }
    }
}
