//! A file system that fails when it is told to.

use std::{
    fmt,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use crate::vfs::{self, Device, DeviceFile, Failure, Opened, Opening, lock};

/// The kind of operation that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Bytes are written.
    Write,
    /// The written bytes are synced to the disk.
    Sync,
    /// A file gets another size.
    Truncate,
}

/// The way in which an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An I/O error; nothing is done.
    Broken,
    /// An I/O error after half of the bytes have been written.
    Torn,
    /// There is no room left.
    Full,
}

/// The number of operations that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// One operation fails.
    Once,
    /// All fail until [`Faults::heal`].
    UntilHealed,
}

/// The handle of a VFS that fails when it is told to. The VFS itself stays registered as long as the process lives.
#[derive(Clone, Copy)]
pub struct Faults {
    name: &'static str,
    state: &'static Mutex<State>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("name", &self.name).field("state", &*self.state()).finish()
    }
}

impl Faults {
    /// Registers a VFS under a name that no other has. It works as the default one until it is told to fail.
    ///
    /// # Panics
    ///
    /// If SQLite does not take it.
    #[must_use]
    pub fn register(name: &'static str) -> Self {
        let state: &'static Mutex<State> = Box::leak(Box::default());
        vfs::register(name, Box::leak(Box::new(Failing(state))));
        Self { name, state }
    }

    /// Returns the name under which files are opened through it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Returns the number of operations so far, and starts counting again.
    pub fn take_count(self) -> usize {
        std::mem::take(&mut self.state().seen)
    }

    /// Lets the `nth` operation from now fail, counted from 0; of one kind, or of any.
    pub fn fail(self, nth: usize, of: Option<Operation>, cause: Cause, span: Span) {
        self.state().plan = Some(Plan { left: nth, of, cause, span, failed: 0 });
    }

    /// Returns the number of operations that have failed since the last [`fail`](Self::fail).
    #[must_use]
    pub fn failed(self) -> usize {
        self.state().plan.map_or(0, |plan| plan.failed)
    }

    /// Makes every file read-only, also those that are open.
    pub fn make_read_only(self) {
        self.state().read_only = true;
    }

    /// Ends the fault: from now on all operations succeed.
    pub fn heal(self) {
        let mut state = self.state();
        state.plan = None;
        state.read_only = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(self.state)
    }
}

#[derive(Debug, Default)]
struct State {
    seen: usize,
    plan: Option<Plan>,
    read_only: bool,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    left: usize,
    of: Option<Operation>,
    cause: Cause,
    span: Span,
    failed: usize,
}

impl State {
    /// Counts an operation, and returns the failure that it has to have, if any.
    fn meet(&mut self, operation: Operation) -> Option<Cause> {
        self.seen += 1;
        if self.read_only && operation != Operation::Sync {
            return Some(Cause::Broken);
        }
        let plan = self.plan.as_mut().filter(|plan| plan.of.is_none_or(|of| of == operation))?;
        if plan.left > 0 {
            plan.left -= 1;
            return None;
        }
        if plan.span == Span::Once && plan.failed > 0 {
            return None;
        }
        plan.failed += 1;
        Some(plan.cause)
    }
}

/// The disk and each of its files, which all share one state.
#[derive(Clone, Copy)]
struct Failing(&'static Mutex<State>);

impl Failing {
    fn meet(self, operation: Operation, length: usize) -> Result<(), Failure> {
        match lock(self.0).meet(operation) {
            None => Ok(()),
            Some(Cause::Broken) => Err(Failure::Broken),
            Some(Cause::Torn) => Err(Failure::Torn(length / 2)),
            Some(Cause::Full) => Err(Failure::Full),
        }
    }
}

impl Device for Failing {
    fn open(&self, _: &Path, _: Opening) -> Result<Opened, Failure> {
        Ok(Opened { read_only: lock(self.0).read_only, file: Some(Box::new(*self)) })
    }

    fn delete(&self, _: &Path, _: bool) -> Result<(), Failure> {
        Ok(())
    }
}

impl DeviceFile for Failing {
    fn write(&self, _: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.meet(Operation::Write, bytes.len())
    }

    fn truncate(&self, _: u64) -> Result<(), Failure> {
        self.meet(Operation::Truncate, 0)
    }

    fn sync(&self) -> Result<(), Failure> {
        self.meet(Operation::Sync, 0)
    }
}
