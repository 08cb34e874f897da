//! A disk that fails at each write in turn: the run stops with a typed error, and what resumes ends as if nothing had
//! happened.
//!
//! A commit that SQLite reports as failed may still be found in the file when it is opened again, and one that it
//! reports as done must be. Between the two lies every mistake that a store can make: to go on after a failed commit,
//! to lose the one before it, to run a visit twice that is there. `flowstone_disk` has the disk, [`harness`] a run that
//! writes down beside the store what it did.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod causes;
mod harness;
mod sweep;
