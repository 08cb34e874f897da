//! Ways to open the file of a store, and the number that marks a file as a store.

use std::time::Duration;

/// `FLOW`, where SQLite keeps the number of the program that a file belongs to.
pub(crate) const APPLICATION: i64 = 0x464c_4f57;

/// The longest wait for a lock that another program holds on the file. No well-behaved program holds it that long.
pub(crate) const BUSY: Duration = Duration::from_secs(20);

/// A way to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Opens it to drive its runs; a missing file is made.
    Drive,
    /// Opens it to write a few rows beside the process that drives it.
    Write,
    /// Opens it to read, also with an older schema.
    Read,
}
