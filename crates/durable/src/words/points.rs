//! Moments at which a crash makes a difference, for tests that kill the process there.

use std::sync::Arc;

/// A moment in the life of a job, for tests that kill the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub struct WritePoint {
    /// What the job does, as `visit`.
    pub job: &'static str,
    /// How far it is.
    pub when: WriteMoment,
}

/// How far a job is, see [`WritePoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum WriteMoment {
    /// Nothing is written.
    Before,
    /// It is written, but not committed.
    Applied,
    /// It is committed, but nobody was told.
    Committed,
}

/// Gets every [`WritePoint`].
pub(crate) type OnWrite = Arc<dyn Fn(WritePoint) + Send + Sync>;
