//! A file system that fails when it is told to, under SQLite.
//!
//! It is SQLite's default VFS but for four functions: `open`, and of an open file `write`, `sync` and `truncate`. A file
//! is the default's own object, with a table of methods in which those three are replaced. All else, shared memory
//! and locks included, is therefore the default's to the byte.
//!
//! ```text
//!  sqlite3_vfs  ── copied, xOpen replaced ──▶ Vfs   { vfs, default, state }
//!  io_methods   ── copied, three replaced ──▶ Table { methods, default, state }   one for each table of the default's
//! ```
//!
//! What is registered lives as long as the process, so [`Faults`] may be cloned and kept at will.

#![expect(unsafe_code, reason = "the binding to SQLite's C interface of file systems; the tests above it are safe")]

use std::{
    collections::BTreeMap,
    ffi::{CString, c_int, c_void},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::ffi::{
    SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE, SQLITE_OK,
    SQLITE_OPEN_CREATE, SQLITE_OPEN_READONLY, SQLITE_OPEN_READWRITE, sqlite3_file, sqlite3_filename, sqlite3_int64,
    sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

/// What may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Write,
    Sync,
    Truncate,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An I/O error; nothing is done.
    Broken,
    /// An I/O error after half of the bytes have been written.
    Torn,
    /// There is no room left.
    Full,
}

/// When it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Once,
    UntilHealed,
}

/// A failing VFS, by its handle.
#[derive(Clone, Copy)]
pub(crate) struct Faults {
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
    pub(crate) fn register(name: &'static str) -> Self {
        let state: &'static Mutex<State> = Box::leak(Box::default());
        let c_name = CString::new(name).expect("a name without a NUL").into_raw();

        // SAFETY: a null name asks for the default VFS, which exists in every build with one and is never taken away.
        // It is copied as it stands. What is registered is leaked, so it outlives every connection; its name too.
        let done = unsafe {
            let default = sqlite3_vfs_find(std::ptr::null());
            assert!(!default.is_null(), "SQLite has a default VFS");
            let mut vfs = *default;
            vfs.zName = c_name;
            vfs.pNext = std::ptr::null_mut();
            vfs.xOpen = Some(open);
            let vfs = Box::leak(Box::new(Vfs { vfs, default, state, tables: Mutex::default() }));
            sqlite3_vfs_register(&raw mut vfs.vfs, 0)
        };
        assert_eq!(done, SQLITE_OK, "registered");
        Self { name, state }
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// How many operations there have been, and forgets them: counting starts anew.
    pub(crate) fn take_count(self) -> usize {
        std::mem::take(&mut self.state().seen)
    }

    /// Lets the `nth` operation from now fail, counted from 0; of one kind, or of any.
    pub(crate) fn fail(self, nth: usize, of: Option<Operation>, cause: Cause, span: Span) {
        self.state().plan = Some(Plan { left: nth, of, cause, span, failed: 0 });
    }

    /// How many operations have failed since the last [`fail`](Self::fail).
    pub(crate) fn failed(self) -> usize {
        self.state().plan.map_or(0, |plan| plan.failed)
    }

    /// Makes every file one that can be read only, those that are open as well.
    pub(crate) fn make_read_only(self) {
        self.state().read_only = true;
    }

    /// Takes the cause away: from now on all goes well.
    pub(crate) fn heal(self) {
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
    /// Counts an operation; says how it is to fail, if it is.
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

/// A code of SQLite for what fails. There is none for a full disk at `fsync`: Linux reports it, SQLite calls it I/O.
fn code(operation: Operation, cause: Cause) -> c_int {
    match (operation, cause) {
        (Operation::Write, Cause::Full) => SQLITE_FULL,
        (Operation::Write, _) => SQLITE_IOERR_WRITE,
        (Operation::Sync, _) => SQLITE_IOERR_FSYNC,
        (Operation::Truncate, _) => SQLITE_IOERR_TRUNCATE,
    }
}

/// What SQLite is given as a VFS. Invariant: `vfs` is the first field, so a pointer to it is one to the whole.
#[repr(C)]
struct Vfs {
    vfs: sqlite3_vfs,
    default: *mut sqlite3_vfs,
    state: &'static Mutex<State>,
    /// By the address of the default's table. There are a handful, each leaked once.
    tables: Mutex<BTreeMap<usize, &'static Table>>,
}

/// What an open file has as its methods. Invariant: `methods` is the first field, as above.
#[repr(C)]
struct Table {
    methods: sqlite3_io_methods,
    default: *const sqlite3_io_methods,
    state: &'static Mutex<State>,
}

// SAFETY: its pointer is to a table of functions that is constant for as long as the process lives.
unsafe impl Sync for Table {}
// SAFETY: as above.
unsafe impl Send for Table {}

/// Opens a file as the default VFS does, and puts our table in the place of its own.
unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls this with the VFS that it belongs to, which `register` made as the front of a leaked `Vfs`.
    let ours: &'static Vfs = unsafe { &*vfs.cast::<Vfs>() };
    let flags = if lock(ours.state).read_only { read_only(flags) } else { flags };

    // SAFETY: the arguments are SQLite's own, passed on to the function that they are meant for: `szOsFile` was copied,
    // so `file` has the room that the default needs. Its methods, if it set any, are a table that lives forever.
    unsafe {
        let Some(default_open) = (*ours.default).xOpen else { return SQLITE_CANTOPEN };
        let done = default_open(ours.default, name, file, flags, out_flags);
        if let Some(methods) = (*file).pMethods.as_ref() {
            (*file).pMethods = &raw const table(ours, methods).methods;
        }
        done
    }
}

/// What becomes of flags when the file can be read only, as a file system would have it: it is not made, nor written.
fn read_only(flags: c_int) -> c_int {
    flags & !(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) | SQLITE_OPEN_READONLY
}

/// Our table for one of the default's.
fn table(vfs: &Vfs, default: &'static sqlite3_io_methods) -> &'static Table {
    let default: *const sqlite3_io_methods = default;
    lock(&vfs.tables).entry(default.addr()).or_insert_with(|| {
        // SAFETY: it came from a reference, just above.
        let mut methods = unsafe { *default };
        methods.xWrite = Some(write);
        methods.xSync = Some(sync);
        methods.xTruncate = Some(truncate);
        Box::leak(Box::new(Table { methods, default, state: vfs.state }))
    })
}

/// What is ours and what is the default's of an open file.
///
/// # Safety
///
/// `file` was opened by [`open`] and is not closed.
unsafe fn of(file: *mut sqlite3_file) -> (&'static Mutex<State>, &'static sqlite3_io_methods) {
    // SAFETY: `open` made the file's methods the front of a leaked `Table`, whose default lives forever.
    unsafe {
        let table: &'static Table = &*(*file).pMethods.cast::<Table>();
        (table.state, &*table.default)
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, bytes: *const c_void, count: c_int, at: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls the methods of a file only while it is open, and with bytes that it may write. A lesser
    // count than SQLite's stays within them.
    unsafe {
        let (state, default) = of(file);
        let failure = lock(state).meet(Operation::Write);
        let Some(default_write) = default.xWrite else { return SQLITE_IOERR_WRITE };
        match failure {
            None => default_write(file, bytes, count, at),
            Some(cause) => {
                if cause == Cause::Torn {
                    default_write(file, bytes, count / 2, at);
                }
                code(Operation::Write, cause)
            }
        }
    }
}

/// Says that all is on the disk. Nobody cuts the power here, so that may as well be later.
unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite calls the methods of a file only while it is open.
    let (state, _) = unsafe { of(file) };
    let failure = lock(state).meet(Operation::Sync);
    failure.map_or(SQLITE_OK, |cause| code(Operation::Sync, cause))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls the methods of a file only while it is open.
    unsafe {
        let (state, default) = of(file);
        let failure = lock(state).meet(Operation::Truncate);
        match (failure, default.xTruncate) {
            (None, Some(default_truncate)) => default_truncate(file, size),
            (cause, _) => code(Operation::Truncate, cause.unwrap_or(Cause::Broken)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
