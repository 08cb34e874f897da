//! How the file of a store is opened, and what says that it is one.

use std::time::Duration;

/// `FLOW`, where SQLite keeps the number of the program that a file belongs to.
pub(crate) const APPLICATION: i64 = 0x464c_4f57;

/// How long to wait for a lock that another program holds on the file: no program that behaves holds it for so long.
pub(crate) const BUSY: Duration = Duration::from_secs(20);

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// To drive it; it is made if it is not there.
    Drive,
    /// To write a few rows beside the process that drives it.
    Write,
    /// Also one of an older schema.
    Read,
}
