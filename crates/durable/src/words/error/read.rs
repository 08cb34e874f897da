//! Reading a run.

use std::sync::Arc;

use flowstone_core::{NodePath, RunId};

use crate::words::error::store::{JobError, StoreError, StoreFault};

/// An error of reading a run.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file fails; see [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no run with this id.
    #[error("there is no run `{run}`")]
    #[non_exhaustive]
    UnknownRun {
        /// The id.
        run: RunId,
    },
    /// The run has not made so many visits.
    #[error("run `{run}` has no step {step}; its last is {last}")]
    #[non_exhaustive]
    UnknownStep {
        /// The run.
        run: RunId,
        /// The step that was asked for.
        step: u64,
        /// The last step that there is.
        last: u64,
    },
    /// The id is taken by a run of another flow.
    #[error("run `{run}` belongs to flow `{found}`, not to flow `{wanted}`")]
    #[non_exhaustive]
    OtherFlow {
        /// The id.
        run: RunId,
        /// The flow that it belongs to.
        found: String,
        /// The flow that was asked for.
        wanted: String,
    },
    /// The run is a child, of a batch flow or of an `exec`: the request has to be made for its parent.
    #[error("run `{run}` is a child of run `{parent}`: ask that one")]
    #[non_exhaustive]
    IsChild {
        /// The run.
        run: RunId,
        /// The run that it belongs to.
        parent: RunId,
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
    /// A state in the store does not fit the state type.
    #[error("the state of run `{run}` does not decode at `{path}`")]
    #[non_exhaustive]
    Decode {
        /// The run.
        run: RunId,
        /// The place in the JSON, as `items[3].name`.
        path: String,
        /// The part that does not fit there.
        source: Arc<serde_json::Error>,
    },
    /// A state has an older version, and `migrate` failed or is missing.
    #[error("the state of run `{run}` has version {found}, and could not be brought to version {wanted}")]
    #[non_exhaustive]
    Migrate {
        /// The run.
        run: RunId,
        /// The version of its state.
        found: u32,
        /// The version of the flow.
        wanted: u32,
        /// The reason.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// `migrate_questions` failed for a question of an older version, or for its answer.
    #[error(
        "run `{run}`: the question of node `{node}` has version {found}, and could not be brought to version {wanted}"
    )]
    #[non_exhaustive]
    MigrateQuestion {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The version under which it was asked.
        found: u32,
        /// The version of the flow.
        wanted: u32,
        /// The reason.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(StoreError::from(error))
    }
}

impl JobError for ReadError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl ReadError {
    /// Returns the reason why a program cannot read a run, with its causes, in one line; `None` if the run is not at
    /// fault.
    pub(crate) fn refusal(&self) -> Option<String> {
        let is_of_run = match self {
            Self::Migrate { .. } | Self::Decode { .. } | Self::MigrateQuestion { .. } => true,
            Self::Store(error) => error.fault() == StoreFault::Corrupt,
            _ => false,
        };
        is_of_run.then(|| in_one_line(self))
    }
}

/// Returns an error with its causes, in one line.
pub(crate) fn in_one_line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
