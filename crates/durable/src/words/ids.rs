//! Ids of runs.

use flowstone_core::RunId;

use crate::words::error::Error;

/// The longest id of a run, in bytes.
pub(crate) const MAX_ID: usize = 1024;

/// Checks the id of a run that is to begin.
pub(crate) fn check_id(id: &RunId) -> Result<(), Error> {
    let length = id.as_str().len();
    if length == 0 || length > MAX_ID { Err(Error::BadId { length, most: MAX_ID }) } else { Ok(()) }
}
