//! The bounds of stored states, and the faults of stored bytes.

use thiserror::Error;

/// A state of more bytes than this is refused by the writer, so the reader need not believe a greater length.
///
/// SQLite takes values of up to 10^9 bytes, but a state is held three times while it is compressed.
pub(crate) const MAX_STATE: usize = 128 << 20;

/// The reason why stored bytes do not lead to a state.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Unreadable {
    #[error("the first of its snapshots is not a full one")]
    NoFull,
    #[error("there is no kind {code} of snapshots")]
    Kind { code: i64 },
    #[error("a snapshot has a body that its kind does not have")]
    Form,
    #[error("a snapshot is cut off, or does not fit the one before it")]
    Cut,
    #[error("a snapshot cannot be decompressed")]
    Frame,
    #[error("the state is not the one that was stored")]
    Check,
}
