//! Ways to open the file of a store, and the number that says that it is one.

use std::time::Duration;

/// `FLOW`, where SQLite keeps the number of the program that a file belongs to.
pub(crate) const APPLICATION: i64 = 0x464c_4f57;

/// The longest wait for a lock that another program holds on the file: no program that behaves holds it for so long.
pub(crate) const BUSY: Duration = Duration::from_secs(20);

/// A way to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// To drive it; it is made if it is not there.
    Drive,
    /// To write a few rows beside the process that drives it.
    Write,
    /// Also one of an older schema.
    Read,
}
