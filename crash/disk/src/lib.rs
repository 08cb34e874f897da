//! Disks under SQLite, for tests: one that fails when it is told to, and one whose power is cut.
//!
//! | module | what it holds |
//! |---|---|
//! | `vfs` | the binding to SQLite's C interface of file systems; the only `unsafe` code |
//! | `faults` | operations that fail, by their number |
//! | `power`, `file` | a power cut: what a folder and a file have on the disk, and what they lose |
//!
//! Both keep the real files under them, and SQLite's own file system reads, locks and writes these: a disk is told of
//! each operation before it is done. No sync reaches the real disk.

mod faults;
mod file;
mod power;
mod vfs;

pub use faults::{Cause, Faults, Operation, Span};
pub use power::{Counts, Cut, Disk, Image, Losses};
