//! The reasons for which a command ends before it is done: [`Stop`].

#[cfg(unix)]
use std::task::Poll;
use std::{error::Error as StdError, io};

use flowstone_durable::{AnswerError, ChangeError, DriveError, OpenError, ReadError, StartError, StoreError};

use crate::words::plain;

pub(crate) type Result<T, E = Stop> = std::result::Result<T, E>;

/// The most characters that are printed of a message, which may quote a long input.
const LONGEST: usize = 1000;

/// The reason why a command ends before it is done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It failed, for this reason.
    Failed(String),
    /// The arguments do not go together.
    Usage(String),
    /// Ctrl-C was pressed, or the system asked the process to end.
    Signalled(Signal),
    /// The reader of the output has seen enough, as `head` does. No failure.
    PipeClosed,
}

/// A signal that asks a process to end in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// The signal of `kill`, and of managers that stop services.
    Terminate,
    /// The terminal was closed.
    HangUp,
}

impl Signal {
    /// The exit code that shells give to a process that this signal ended: 128 and its number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::HangUp => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// Returns the signal in one word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
            Self::HangUp => "hung up",
        }
    }
}

/// The signals that ask this process to end; from the first moment that this is there, they end it in good order only.
///
/// A signal that the process was started to ignore, as by `nohup`, stays ignored.
#[cfg(unix)]
pub(crate) struct Signals(Vec<(Signal, tokio::signal::unix::Signal)>);

#[cfg(unix)]
impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let kinds = [
            (Signal::Interrupt, SignalKind::interrupt()),
            (Signal::Terminate, SignalKind::terminate()),
            (Signal::HangUp, SignalKind::hangup()),
        ];
        let ignored = ignored();
        let heeded = kinds.into_iter().filter(|(_, kind)| ignored & (1 << (kind.as_raw_value() - 1)) == 0);
        heeded.map(|(name, kind)| Ok((name, signal(kind)?))).collect::<io::Result<_>>().map(Self)
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            let mut came = self.0.iter_mut().filter_map(|(name, signal)| match signal.poll_recv(cx) {
                Poll::Ready(Some(())) => Some(*name),
                _ => None,
            });
            came.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The signals that this process ignores, a bit each, where the system tells.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or_default()
}

/// Elsewhere there is Ctrl-C.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "as on unix")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Stop {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// Returns a failure that says which work failed, and the causes of the error.
    pub(crate) fn because(what: &str, error: &dyn StdError) -> Self {
        Self::Failed(format!("{what}: {}", chain(error)))
    }
}

/// An error of a store is told with its causes.
macro_rules! of_store {
    ($($error:ty),*) => {
        $(impl From<$error> for Stop {
            fn from(error: $error) -> Self {
                Self::Failed(chain(&error))
            }
        })*
    };
}

of_store!(OpenError, ReadError, StartError, AnswerError, ChangeError, DriveError, StoreError);

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
        // Some errors repeat the words of their cause.
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
