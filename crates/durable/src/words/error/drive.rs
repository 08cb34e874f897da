//! Driving a run.

use std::sync::Arc;

use flowstone_core::{NodePath, RunId, driver::RestoreError};

use crate::words::error::{
    keep::KeepError,
    read::{ReadError, in_one_line},
    start::StartError,
    status::{StatusError, WrongStatus},
    store::{JobError, Refuses, StoreError},
};

/// An error of driving a run: as a rule its flow has changed too much, or its store fails. The last commit stands.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    /// The run cannot be found or read; see [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No flow of this name was given to the store.
    #[error("no flow `{flow}` is registered with this store")]
    #[non_exhaustive]
    UnknownFlow {
        /// The name.
        flow: String,
    },
    /// The run cannot go on under the flow as it is now.
    #[error(
        "run `{run}` cannot go on from step {step} (`FlowOptions::version` migrates states, `FlowOptions::rename` names \
         nodes that have moved)"
    )]
    #[non_exhaustive]
    Restore {
        /// The run.
        run: RunId,
        /// Its last step.
        step: u64,
        /// The part that is missing.
        source: Arc<RestoreError>,
    },
    /// The output of an item, as an earlier process kept it, does not fit its type any more.
    #[error(
        "run `{run}`: what item {item} of node `{node}` gave is kept, and does not decode at `{path}`: add a \
         `migrate_items` to its flow, or cancel the run and retry it, which runs such items again"
    )]
    #[non_exhaustive]
    KeptItem {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The place of the item in the batch as it is now.
        item: usize,
        /// The place in the JSON, as `lines[3].name`.
        path: String,
        /// The part that does not fit there.
        source: Arc<serde_json::Error>,
    },
    /// `migrate_items` failed for what an item of an older version gave.
    #[error(
        "run `{run}`: what an item of node `{node}` gave has version {found}, and could not be brought to version {wanted}"
    )]
    #[non_exhaustive]
    MigrateItem {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The version under which it was kept.
        found: u32,
        /// The version of the flow.
        wanted: u32,
        /// The reason.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A batch knows its items by their places alone, and has another number of them than when it was begun, so they
    /// cannot be matched.
    #[error(
        "run `{run}`: node `{node}` has {items} item(s), and had {kept} when its batch was begun; as `journaled_in_order` \
         only their places tell them apart: start the program that began it, or fork the run"
    )]
    #[non_exhaustive]
    ItemCount {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The number of items that there were.
        kept: u64,
        /// The number of items that there are now.
        items: u64,
    },
    /// A batch has keys for its items now, and had none when they were kept, or the other way round, so they cannot be
    /// matched.
    #[error("run `{run}`: node `{node}` has kept its items {}", Kept(*.keyed))]
    #[non_exhaustive]
    ItemKeys {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// `true` if the batch goes by keys now.
        keyed: bool,
    },
    /// An `exec` ran a second flow for the same visit and item, or the same flow with another state than before: a
    /// later process could not tell which of the two to continue.
    #[error(
        "run `{run}`: node `{node}` runs more than one flow as its number {item}, or not always with the same state: \
         give each a number of its own, by `Context::with_item`"
    )]
    #[non_exhaustive]
    SecondChild {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The item; 0 for a node that is no batch.
        item: usize,
    },
    /// Another writer has committed this step; nothing of this one was written.
    #[error("step {step} of run `{run}` was committed by somebody else, or the run is gone")]
    #[non_exhaustive]
    Conflict {
        /// The run.
        run: RunId,
        /// The step.
        step: u64,
    },
    /// The request needs a run in another status.
    #[error(transparent)]
    WrongStatus(#[from] WrongStatus),
    /// The run failed because its process died again and again in one of its visits. The other runs go on.
    #[error(
        "run `{run}`: the process has died {deaths} times while node `{node}` was visited: mend the node, then retry the run"
    )]
    #[non_exhaustive]
    KillsItsProcess {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The number of deaths.
        deaths: u32,
    },
    /// The engine panicked while it drove the run. The last commit stands, and the run is marked as failed.
    #[error("run `{run}`: its driving panicked: {message}; retry it from its last commit")]
    #[non_exhaustive]
    Panicked {
        /// The run.
        run: RunId,
        /// The message of the panic.
        message: String,
    },
    /// A value of the run cannot be kept; see [`KeepError`].
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A child of the run cannot be started; see [`StartError`].
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Refuses for DriveError {
    fn refusal(&self) -> Option<String> {
        match self {
            Self::Restore { .. }
            | Self::KeptItem { .. }
            | Self::MigrateItem { .. }
            | Self::ItemCount { .. }
            | Self::ItemKeys { .. }
            | Self::UnknownFlow { .. } => Some(in_one_line(self)),
            Self::Read(error) => error.refusal(),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for DriveError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(StoreError::from(error))
    }
}

impl From<StoreError> for DriveError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

impl From<StatusError> for DriveError {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Read(error) => Self::Read(error),
            StatusError::Wrong(error) => Self::WrongStatus(error),
        }
    }
}

impl JobError for DriveError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Read(error) => error.of_store(),
            Self::Start(error) => error.of_store(),
            _ => None,
        }
    }
}

/// Returns the part of a message that says how items are kept, and what to do.
struct Kept(bool);

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0 {
            "by their places: say `journaled_in_order` as before until the batch has ended, or fork the run"
        } else {
            "under keys: say `journaled` as before until the batch has ended, or fork the run"
        })
    }
}
