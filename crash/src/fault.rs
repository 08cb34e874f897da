//! The faults that stop a driver, and the line that tells the parent process of one.

use flowstone::durable::{AnswerError, ChangeError, DriveError, Error, NotEnded, OpenError, ReadError, StartError};

/// The reason why a driver stops before its end.
pub(crate) enum Fault {
    /// The store or one of its runs fails.
    Store(Error),
    /// A finding that no fault explains: a bug.
    Odd(String),
}

/// Converts the errors of the operations to faults of the store or its runs.
macro_rules! of_store {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Store(error.into())
            }
        })*
    };
}

of_store!(Error, OpenError, ReadError, StartError, AnswerError, ChangeError, DriveError, NotEnded);

impl Fault {
    /// Returns the line that tells the parent process of it.
    pub(crate) fn line(&self) -> String {
        let (kind, text) = match self {
            Self::Store(error) => {
                let other = if matches!(error, Error::Open(_)) { "open" } else { "run" };
                (error.fault().map_or_else(|| other.to_owned(), |fault| format!("{fault:?}")), format!("{error:?}"))
            }
            Self::Odd(text) => ("odd".to_owned(), text.clone()),
        };
        format!("fault {} {}", kind.to_lowercase(), text.replace('\n', " "))
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Odd(text) => text.fmt(f),
        }
    }
}

/// Returns `true` if an error says that somebody else was faster.
pub(crate) fn came_late(error: &Error) -> bool {
    matches!(
        error,
        Error::Change(ChangeError::WrongStatus(_))
            | Error::Answer(
                AnswerError::WrongStatus(_) | AnswerError::AlreadyAnswered { .. } | AnswerError::NotAsking { .. }
            )
    )
}
