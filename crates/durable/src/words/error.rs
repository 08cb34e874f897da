//! What can go wrong with a store and with the runs in it.
//!
//! [`OpenError`] is for opening, [`StoreError`] for the file while it is used, [`Error`] for what is asked of a run. What
//! the engine acts on is in the type: after a [`StoreError`] the last commit stands, and its runs can be resumed.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use flowstone_core::{BoxError, NodePath, RestoreError, RunId, Unstorable};

use crate::words::{
    info::{Failure, Left},
    status::Status,
};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened or made.
    #[error("cannot open the store `{}`", .path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: BoxError,
    },
    /// The file is not a store: another program's, or no database at all.
    #[error("`{}` is not a store of Flowstone: {what}", .path.display())]
    #[non_exhaustive]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is instead.
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
        /// The process that drives it, if it could be told.
        pid: Option<u32>,
    },
    /// The store was closed, but something of its runs cannot be interrupted, and still runs: to drive it now could run that a
    /// second time beside it.
    #[error(
        "the store `{}` was closed, but {} still runs what cannot be interrupted, of {}: wait until that has ended, or end the process",
        .path.display(), Owner(*.pid), Lefts(.left)
    )]
    #[non_exhaustive]
    StillRuns {
        /// The file.
        path: PathBuf,
        /// The process in which it runs, if it could be told.
        pid: Option<u32>,
        /// The runs, and the nodes that they visited.
        left: Vec<Left>,
    },
    /// The file cannot be read or written as it should.
    #[error("the store `{}` cannot be used", .path.display())]
    #[non_exhaustive]
    Store {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: StoreError,
    },
}

/// The part of a message that names a process.
struct Owner(Option<u32>);

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// The part of a message that names runs: the first few.
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

/// What is wrong with the file of a store. The last commit stands; what was not committed is not there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}")]
pub struct StoreError {
    kind: StoreFault,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFault {
    /// There is no room for the next commit.
    #[error("the disk is full: make room, then resume the runs")]
    Full,
    /// The file may not be written.
    #[error("the store is read-only: allow writing, then resume the runs")]
    ReadOnly,
    /// The system failed to read, write or sync.
    #[error("the store could not be read or written: mend the cause, then resume the runs")]
    Io,
    /// Another program holds the write lock for too long.
    #[error("the store is busy: another program has kept it locked for seconds")]
    Busy,
    /// What is in the file is not what was written.
    #[error("the store is damaged: restore it from a backup")]
    Corrupt,
    /// The files at the store's path are not those that were opened.
    #[error(
        "the files of the store were deleted, moved or replaced while it was open: nothing was written to those that are \
         there now; put them back, or open the store again"
    )]
    Moved,
    /// Another process drives the store now; this one may not commit any more.
    #[error("another process has taken the store over: this one cannot commit any more")]
    LockLost,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A statement or a job failed that cannot: a fault of this library, which is worth a report, or of a file whose tables
    /// somebody changed.
    #[error("the store could not do what was asked of it, by a fault of this library or of the file's tables")]
    Internal,
}

impl StoreError {
    pub(crate) fn new(kind: StoreFault) -> Self {
        Self { kind, source: None }
    }

    pub(crate) fn because(kind: StoreFault, source: impl Into<BoxError>) -> Self {
        Self { kind, source: Some(Arc::from(source.into())) }
    }

    /// Returns what kind of fault it is.
    #[must_use]
    pub fn fault(&self) -> StoreFault {
        self.kind
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as Sql;

        let kind = match &error {
            Sql::SqliteFailure(code, _) | Sql::SqlInputError { error: code, .. } => fault(*code),
            // A value that cannot have been written where it was read.
            Sql::FromSqlConversionFailure(..)
            | Sql::IntegralValueOutOfRange(..)
            | Sql::InvalidColumnType(..)
            | Sql::Utf8Error(..) => StoreFault::Corrupt,
            _ => StoreFault::Internal,
        };
        Self::because(kind, error)
    }
}

/// Returns the fault that an error of SQLite stands for.
fn fault(error: rusqlite::ffi::Error) -> StoreFault {
    use rusqlite::{ErrorCode, ffi};

    match (error.code, error.extended_code) {
        (_, ffi::SQLITE_READONLY_DBMOVED) => StoreFault::Moved,
        (ErrorCode::DiskFull, _) => StoreFault::Full,
        (ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _) => StoreFault::ReadOnly,
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed, _) => {
            StoreFault::Busy
        }
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => StoreFault::Corrupt,
        (
            ErrorCode::Unknown
            | ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::ApiMisuse
            | ErrorCode::ParameterOutOfRange
            | ErrorCode::TooBig
            | ErrorCode::SchemaChanged
            | ErrorCode::NotFound,
            _,
        ) => StoreFault::Internal,
        _ => StoreFault::Io,
    }
}

/// Why what was asked of a run cannot be done. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// No id of a run: empty, or too long.
    #[error("a run's id has 1 to {most} bytes; this one has {length}")]
    #[non_exhaustive]
    BadId {
        /// Its length in bytes.
        length: usize,
        /// The most that an id may have.
        most: usize,
    },
    /// The state is larger than the store's options allow.
    #[error(
        "the state of run `{run}` has {size} bytes, more than the {most} that the store's options allow (`max_state`)"
    )]
    #[non_exhaustive]
    StateTooLarge {
        /// The run.
        run: RunId,
        /// The size of the state as JSON.
        size: usize,
        /// The most that is allowed.
        most: usize,
    },
    /// Something was to be written that would not be read back, or not as what it was. Nothing of it was written.
    #[error("run `{run}`, node `{node}`: {what} cannot be kept")]
    #[non_exhaustive]
    Unstorable {
        /// The run.
        run: RunId,
        /// The node that it belongs to; for a state, the one after which it was to be kept, or with which the run begins.
        node: NodePath,
        /// What it is: a state, an answer.
        what: Written,
        /// Why not, with the place in it.
        source: Arc<Unstorable>,
    },
    /// A node asks with something as the schema of its answer that is no JSON schema: no answer could fit it.
    #[error("run `{run}`: the schema of node `{node}` is no JSON schema: {what}")]
    #[non_exhaustive]
    BadSchema {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// What is wrong with it.
        what: String,
    },
    /// Something beside a state is larger than the store's options allow for one.
    #[error("run `{run}`, node `{node}`: {what} has {size} bytes, more than the {most} that are allowed{}", Limit(*.what))]
    #[non_exhaustive]
    TooLarge {
        /// The run.
        run: RunId,
        /// The node that it belongs to.
        node: NodePath,
        /// What it is: a question, an answer.
        what: Written,
        /// Its size as JSON.
        size: usize,
        /// The most that is allowed.
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
        /// What does not fit there.
        source: Arc<serde_json::Error>,
    },
    /// After this step the run is at its end: nothing can follow.
    #[error("run `{run}` is at its end after step {step}: fork it from an earlier one")]
    #[non_exhaustive]
    AtEnd {
        /// The run.
        run: RunId,
        /// The step.
        step: u64,
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
        /// What is missing.
        source: Arc<RestoreError>,
    },
    /// `migrate` failed, or there is none for a state of an older version.
    #[error("the state of run `{run}` has version {found}, and could not be brought to version {wanted}")]
    #[non_exhaustive]
    Migrate {
        /// The run.
        run: RunId,
        /// The version of its state.
        found: u32,
        /// The version of the flow.
        wanted: u32,
        /// Why not.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// What an item of a batch gave, as an earlier process kept it, does not fit its type any more.
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
        /// What does not fit there.
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
        /// Why not.
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
        /// Why not.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A batch whose items are known by their places alone has not as many as when it was begun: which is which cannot be
    /// told.
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
        /// How many there were.
        kept: u64,
        /// How many there are now.
        items: u64,
    },
    /// A batch that goes by keys finds items that were kept without, or the other way round: which is which cannot be told.
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
    /// Another writer has committed this step: this one is behind, and nothing of it was written.
    #[error("step {step} of run `{run}` was committed by somebody else, or the run is gone")]
    #[non_exhaustive]
    Conflict {
        /// The run.
        run: RunId,
        /// The step.
        step: u64,
    },
    /// What was asked needs a run in another status.
    #[error("run `{run}` cannot be {wanted}: its status is `{status}`")]
    #[non_exhaustive]
    WrongStatus {
        /// The run.
        run: RunId,
        /// Its status.
        status: Status,
        /// What was asked for.
        wanted: &'static str,
    },
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
        /// When it expired.
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
        /// What does not fit, with its place in the JSON.
        what: String,
    },
    /// An `exec` ran a second flow for the same visit and item, or the same one with another state than before: which of
    /// them a later process is to go on with could not be told.
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
    /// The run is a child, of a batch flow or of an `exec`: what is asked has to be asked of its parent.
    #[error("run `{run}` is a child of run `{parent}`: ask that one")]
    #[non_exhaustive]
    IsChild {
        /// The run.
        run: RunId,
        /// The run that it belongs to.
        parent: RunId,
    },
    /// A flow is nested too deep for its picture to be kept.
    #[error("flow `{flow}` cannot be kept as JSON: nest fewer flows in one another")]
    #[non_exhaustive]
    FlowTooDeep {
        /// The flow.
        flow: String,
        /// What is wrong.
        source: Arc<Unstorable>,
    },
    /// The driving of the run panicked, outside of all that is guarded. Its last commit stands, and it is marked as failed.
    #[error("run `{run}`: its driving panicked: {message}; retry it from its last commit")]
    #[non_exhaustive]
    Panicked {
        /// The run.
        run: RunId,
        /// What the panic said.
        message: String,
    },
    /// No flow of this name was given to the store.
    #[error("no flow `{flow}` is registered with this store")]
    #[non_exhaustive]
    UnknownFlow {
        /// The name.
        flow: String,
    },
    /// The run failed since its process died again and again in one of its visits: the others go on without it.
    #[error(
        "run `{run}`: the process has died {deaths} times while node `{node}` was visited: mend the node, then retry the run"
    )]
    #[non_exhaustive]
    KillsItsProcess {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// How often.
        deaths: u32,
    },
    /// The run failed.
    #[error("{message}")]
    #[non_exhaustive]
    Failed {
        /// The run.
        run: RunId,
        /// The node that failed.
        node: NodePath,
        /// What went wrong, with its causes.
        message: String,
    },
    /// The run was cancelled.
    #[error("run `{run}` was cancelled")]
    #[non_exhaustive]
    Cancelled {
        /// The run.
        run: RunId,
    },
}

/// A part of what is written for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Written {
    /// Its state.
    #[error("the state")]
    State,
    /// The state of a fork, as it was edited.
    #[error("the edited state")]
    Edit,
    /// A question.
    #[error("the question")]
    Question,
    /// The schema of an answer.
    #[error("the schema of the answer")]
    Schema,
    /// An answer.
    #[error("the answer")]
    Answer,
    /// The action that a node returned.
    #[error("the action")]
    Action,
}

/// The part of a message that names the option that sets a limit.
struct Limit(Written);

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Written::Action => Ok(()),
            _ => f.write_str(" (`max_state`)"),
        }
    }
}

/// The part of a message that says how items are kept, and what to do.
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

impl Error {
    /// Returns, with its causes and in one line, why the program that met this cannot go on with the run; `None` if that is
    /// not what it says: what is wrong is the store, or what was asked.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Self::Restore { .. }
            | Self::Migrate { .. }
            | Self::Decode { .. }
            | Self::KeptItem { .. }
            | Self::MigrateItem { .. }
            | Self::MigrateQuestion { .. }
            | Self::ItemCount { .. }
            | Self::ItemKeys { .. }
            | Self::UnknownFlow { .. } => {}
            Self::Store(error) if error.fault() == StoreFault::Corrupt => {}
            _ => return None,
        }
        let error: &dyn std::error::Error = self;
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        Some(causes.fold(self.to_string(), |text, cause| format!("{text}: {cause}")))
    }
}

/// The part of a message that names the node that asks.
struct Asks<'a>(Option<&'a NodePath>);

impl std::fmt::Display for Asks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(node) => write!(f, "node `{node}` asks"),
            None => f.write_str("it asks nothing"),
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Error {
    /// The error of a run that failed.
    pub(crate) fn of_failed(run: &RunId, failure: Failure) -> Self {
        let Failure { node, message, deaths, .. } = failure;
        match deaths {
            Some(deaths) => Self::KillsItsProcess { run: run.clone(), node, deaths },
            None => Self::Failed { run: run.clone(), node, message },
        }
    }
}

/// The error of something in the store that is not what was written.
pub(crate) fn damaged(what: impl Into<BoxError>) -> Error {
    StoreError::because(StoreFault::Corrupt, what).into()
}
