//! Errors of the file of an open store.

use std::sync::Arc;

use flowstone_core::BoxError;

/// An error of a store's file. The last commit stands; nothing after it was written.
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
    /// The content of the file is not what was written.
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
    /// A statement or a job failed that should never fail. Either this library has a bug, which is worth a report, or
    /// somebody changed the tables of the file.
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

    /// Returns the kind of fault.
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
            // The column has a value that this library never writes there.
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

/// An error of a job, which may hold an error of the store.
pub(crate) trait JobError: std::error::Error + From<StoreError> + Clone + Send + 'static {
    /// Returns the error of the store, if it is one.
    fn of_store(&self) -> Option<&StoreError>;
}

impl JobError for StoreError {
    fn of_store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

/// Returns the error of a value in the store that is not the one that was written.
pub(crate) fn damaged(what: impl Into<BoxError>) -> StoreError {
    StoreError::because(StoreFault::Corrupt, what)
}

/// An error that may say that a flow refuses a run.
pub(crate) trait Refuses {
    /// Returns the reason why the flow refuses the run, with its causes, in one line; `None` if the flow does not
    /// refuse it.
    fn refusal(&self) -> Option<String>;
}
