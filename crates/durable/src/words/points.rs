//! Moments at which a crash makes a difference, for tests that kill the process there.

use std::sync::Arc;

/// A moment in the life of a job, for tests that kill the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub struct WritePoint {
    /// The kind of the job, as `visit`.
    pub job: &'static str,
    /// The progress of the job.
    pub when: WriteMoment,
}

/// The progress of a job, see [`WritePoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum WriteMoment {
    /// Nothing is written.
    Before,
    /// The job is written, but not committed.
    Applied,
    /// The job is committed, but its caller was not told.
    Committed,
}

/// Gets every [`WritePoint`].
pub(crate) type OnWrite = Arc<dyn Fn(WritePoint) + Send + Sync>;
