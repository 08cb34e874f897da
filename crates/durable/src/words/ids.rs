//! Ids of runs.

use flowstone_core::RunId;

/// The longest id of a run, in bytes.
pub(crate) const MAX_ID: usize = 1024;

/// Returns the length of an id if that is empty or too long for a run.
pub(crate) fn bad_length(id: &RunId) -> Option<usize> {
    Some(id.as_str().len()).filter(|length| *length == 0 || *length > MAX_ID)
}
