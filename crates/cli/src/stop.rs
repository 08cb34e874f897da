//! Why a command ends before it is done: [`Stop`].

use std::{error::Error as StdError, io};

use flowstone_durable::{Error, OpenError};

use crate::words::plain;

pub(crate) type Result<T, E = Stop> = std::result::Result<T, E>;

/// The most that is printed of a message, in characters: what was typed or stored is part of it.
const LONGEST: usize = 1000;

/// Why a command ends before it is done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// What was asked failed, for this reason.
    Failed(String),
    /// The arguments do not go together.
    Usage(String),
    /// Ctrl-C was pressed.
    Interrupted,
    /// Whoever read the output has seen enough, as `head` does. No failure.
    PipeClosed,
}

impl Stop {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// What was done when it went wrong, and why it did.
    pub(crate) fn because(what: &str, error: &dyn StdError) -> Self {
        Self::Failed(format!("{what}: {}", chain(error)))
    }
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Self {
        Self::Failed(chain(&error))
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(chain(&error))
    }
}

/// Only the output is written with `?`; what is read says which file it was.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::because("the output cannot be written", &error),
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors say what their cause says.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// A message as one line of bounded length.
pub(crate) fn one_line(message: &str) -> String {
    let plain = plain(message);
    match plain.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain.into_owned(),
    }
}
