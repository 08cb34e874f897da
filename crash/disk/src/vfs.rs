//! The binding to SQLite's C interface of file systems.
//!
//! A VFS here is SQLite's default one but for a few functions: `open` and `delete`, and of an open file `write`,
//! `sync`, `truncate`, `close`. A file is the default's own object, with a table of methods in which those are
//! replaced, and with the [`DeviceFile`] behind it. All else, shared memory and locks included, is therefore the
//! default's to the byte.
//!
//! ```text
//!  sqlite3_vfs  ── copied, xOpen and xDelete replaced ──▶ Vfs   { vfs, default, device }
//!  io_methods   ── copied, some replaced ───────────────▶ Table { methods, default }   one for each of the default's
//!  sqlite3_file ── the default's, szOsFile bytes ──────── │ Box<dyn DeviceFile>
//! ```
//!
//! A VFS, once registered, lives as long as the process.

#![expect(unsafe_code, reason = "the binding to SQLite's C interface of file systems; all above it is safe")]

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, OsStr, c_char, c_int, c_void},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::ffi::{
    SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOCAP_POWERSAFE_OVERWRITE, SQLITE_IOCAP_SUBPAGE_READ, SQLITE_IOERR_CLOSE,
    SQLITE_IOERR_DELETE, SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE, SQLITE_OK, SQLITE_OPEN_CREATE,
    SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_READONLY, SQLITE_OPEN_READWRITE, SQLITE_OPEN_SUPER_JOURNAL, SQLITE_OPEN_WAL,
    sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find,
    sqlite3_vfs_register,
};

/// A disk, which SQLite's file system tells each operation before it is done.
pub(crate) trait Device: Send + Sync + 'static {
    /// A file is about to be opened.
    fn open(&self, path: &Path, opening: Opening) -> Result<Opened, Failure>;

    /// A file is about to be deleted, and its folder to be synced if `synced` is `true`.
    fn delete(&self, path: &Path, synced: bool) -> Result<(), Failure>;
}

/// An open file of a disk.
pub(crate) trait DeviceFile: Send + Sync + 'static {
    /// Bytes are about to be written.
    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Failure>;

    /// The file is about to get another size.
    fn truncate(&self, size: u64) -> Result<(), Failure>;

    /// The written bytes are to be synced. No real sync follows.
    fn sync(&self) -> Result<(), Failure>;
}

/// The manner in which a file is to be opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// `true` if a missing file is made.
    pub(crate) create: bool,
    /// `true` if it is a journal or a log: its first sync syncs its folder as well, if the file may have been made.
    pub(crate) is_log: bool,
}

/// The answer of a disk to the opening of a file.
#[derive(Default)]
pub(crate) struct Opened {
    /// `true` if it may be read only.
    pub(crate) read_only: bool,
    /// The receiver of the file's operations, if they are wanted.
    pub(crate) file: Option<Box<dyn DeviceFile>>,
}

/// The way in which an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// An I/O error; nothing is done.
    Broken,
    /// An I/O error, after this many bytes have been written.
    Torn(usize),
    /// There is no room left. At `fsync` SQLite has no code for that.
    Full,
}

/// Registers a VFS under a name that no other has.
pub(crate) fn register(name: &str, device: &'static dyn Device) {
    make(name, device, 0);
}

/// Registers a VFS, and makes it the one of every connection that is opened without a name from now on.
pub(crate) fn register_for_all(name: &str, device: &'static dyn Device) {
    make(name, device, 1);
}

fn make(name: &str, device: &'static dyn Device, for_all: c_int) {
    let name = CString::new(name).expect("a name without a NUL").into_raw();

    // SAFETY: a null name asks for the default VFS, which exists in every build with one and is never taken away.
    // It is copied as it stands. What is registered is leaked, so it outlives every connection; its name too.
    let done = unsafe {
        let default = sqlite3_vfs_find(std::ptr::null());
        assert!(!default.is_null(), "SQLite has a default VFS");
        let mut vfs = *default;
        vfs.zName = name;
        vfs.pNext = std::ptr::null_mut();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        let behind = usize::try_from(vfs.szOsFile).expect("a size").next_multiple_of(align_of::<Behind>());
        vfs.szOsFile = c_int::try_from(behind + size_of::<Behind>()).expect("a size");
        let vfs = Box::leak(Box::new(Vfs { vfs, default, device, behind, tables: Mutex::default() }));
        sqlite3_vfs_register(&raw mut vfs.vfs, for_all)
    };
    assert_eq!(done, SQLITE_OK, "registered");
}

/// The object that lies behind the default's object of a file.
type Behind = Box<dyn DeviceFile>;

/// The VFS that SQLite is given. Invariant: `vfs` is the first field, so a pointer to it is one to the whole.
#[repr(C)]
struct Vfs {
    vfs: sqlite3_vfs,
    default: *mut sqlite3_vfs,
    device: &'static dyn Device,
    /// The distance of a file's [`Behind`] from the start of the file's object, in bytes.
    behind: usize,
    /// Our tables, by the addresses of the default's. There are a handful, each leaked once.
    tables: Mutex<BTreeMap<usize, &'static Table>>,
}

/// The methods of an open file. Invariant: `methods` is the first field, as above.
#[repr(C)]
struct Table {
    methods: sqlite3_io_methods,
    default: *const sqlite3_io_methods,
    behind: usize,
}

// SAFETY: its pointer is to a table of functions that is constant for as long as the process lives.
unsafe impl Sync for Table {}
// SAFETY: as above.
unsafe impl Send for Table {}

/// Opens a file as the default VFS does, and puts our table in the place of its own if the device wants to hear of it.
unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls this with the VFS that it belongs to, which `make` made as the front of a leaked `Vfs`.
    let ours: &'static Vfs = unsafe { &*vfs.cast::<Vfs>() };
    let logs = SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL;
    let opening = Opening { create: flags & SQLITE_OPEN_CREATE != 0, is_log: flags & logs != 0 };
    // SAFETY: a name, if there is one, is a string that outlives this call.
    let opened = match unsafe { path(name) } {
        Some(path) => ours.device.open(path, opening),
        None => Ok(Opened::default()),
    };
    let Ok(Opened { read_only: is_read_only, file: heard }) = opened else {
        // SAFETY: SQLite wants to know that there is nothing to close.
        unsafe { (*file).pMethods = std::ptr::null() };
        return SQLITE_CANTOPEN;
    };
    let flags = if is_read_only { read_only(flags) } else { flags };

    // SAFETY: the arguments are SQLite's own, passed on to the function that they are meant for: `szOsFile` is larger
    // than the default's, so `file` has the room that the default needs, and behind it that of a `Behind`, which is
    // aligned since SQLite aligns the whole. Its methods, if it set any, are a table that lives forever.
    unsafe {
        let Some(default_open) = (*ours.default).xOpen else { return SQLITE_CANTOPEN };
        let done = default_open(ours.default, name, file, flags, out_flags);
        if let (Some(methods), Some(heard)) = ((*file).pMethods.as_ref(), heard) {
            behind(file, ours.behind).write(heard);
            (*file).pMethods = &raw const table(ours, methods).methods;
        }
        done
    }
}

/// Returns the flags for a read-only file as a file system has them: it is neither made nor written.
fn read_only(flags: c_int) -> c_int {
    flags & !(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) | SQLITE_OPEN_READONLY
}

/// Deletes a file as the default VFS does.
unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: as in `open`; the default's function gets its own VFS. It is told not to sync.
    unsafe {
        let ours: &'static Vfs = &*vfs.cast::<Vfs>();
        if path(name).is_some_and(|path| ours.device.delete(path, sync & 1 != 0).is_err()) {
            return SQLITE_IOERR_DELETE;
        }
        (*ours.default).xDelete.map_or(SQLITE_IOERR_DELETE, |delete| delete(ours.default, name, 0))
    }
}

/// Returns the path of a file, if it has one.
///
/// # Safety
///
/// `name` is null or a string that lives as long as what is returned is used.
unsafe fn path<'a>(name: *const c_char) -> Option<&'a Path> {
    // SAFETY: as the caller says.
    (!name.is_null()).then(|| unsafe { Path::new(OsStr::from_bytes(CStr::from_ptr(name).to_bytes())) })
}

/// Returns our table for one of the default's.
fn table(vfs: &Vfs, default: &'static sqlite3_io_methods) -> &'static Table {
    let default: *const sqlite3_io_methods = default;
    lock(&vfs.tables).entry(default.addr()).or_insert_with(|| {
        // SAFETY: it came from a reference, just above.
        let mut methods = unsafe { *default };
        methods.xClose = Some(close);
        methods.xWrite = Some(write);
        methods.xSync = Some(sync);
        methods.xTruncate = Some(truncate);
        methods.xDeviceCharacteristics = Some(characteristics);
        Box::leak(Box::new(Table { methods, default, behind: vfs.behind }))
    })
}

/// Returns the place of a file's [`Behind`].
///
/// # Safety
///
/// `file` has the room that a VFS of ours asks for.
unsafe fn behind(file: *mut sqlite3_file, offset: usize) -> *mut Behind {
    // SAFETY: as the caller says, it is within the same allocation.
    unsafe { file.byte_add(offset).cast() }
}

/// Returns our part and the default's part of an open file.
///
/// # Safety
///
/// `file` was opened by [`open`], which put our table into it, and is not closed.
unsafe fn of<'a>(file: *mut sqlite3_file) -> (&'a dyn DeviceFile, &'static sqlite3_io_methods) {
    // SAFETY: `open` made the file's methods the front of a leaked `Table`, whose default lives forever, and wrote what
    // is behind the file.
    unsafe {
        let table: &'static Table = &*(*file).pMethods.cast::<Table>();
        let heard: &'a Behind = &*behind(file, table.behind);
        (&**heard, &*table.default)
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once. What is behind it is taken out, and not looked at again.
    unsafe {
        let table: &'static Table = &*(*file).pMethods.cast::<Table>();
        drop(behind(file, table.behind).read());
        (*table.default).xClose.map_or(SQLITE_IOERR_CLOSE, |close| close(file))
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, bytes: *const c_void, count: c_int, at: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls the methods of a file only while it is open, and with so many bytes. A lesser count than
    // SQLite's stays within them.
    unsafe {
        let (heard, default) = of(file);
        let (Ok(length), Ok(place)) = (usize::try_from(count), u64::try_from(at)) else { return SQLITE_IOERR_WRITE };
        let Some(default_write) = default.xWrite else { return SQLITE_IOERR_WRITE };
        match heard.write(place, std::slice::from_raw_parts(bytes.cast(), length)) {
            Ok(()) => default_write(file, bytes, count, at),
            Err(failure) => {
                if let Failure::Torn(written) = failure {
                    default_write(file, bytes, c_int::try_from(written.min(length)).unwrap_or(0), at);
                }
                if failure == Failure::Full { SQLITE_FULL } else { SQLITE_IOERR_WRITE }
            }
        }
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite calls the methods of a file only while it is open.
    let (heard, _) = unsafe { of(file) };
    heard.sync().map_or(SQLITE_IOERR_FSYNC, |()| SQLITE_OK)
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls the methods of a file only while it is open.
    unsafe {
        let (heard, default) = of(file);
        match (heard.truncate(u64::try_from(size).unwrap_or_default()), default.xTruncate) {
            (Ok(()), Some(default_truncate)) => default_truncate(file, size),
            _ => SQLITE_IOERR_TRUNCATE,
        }
    }
}

/// Claims to SQLite at most that a write leaves the bytes beside it as they are, also when it is torn.
unsafe extern "C" fn characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite calls the methods of a file only while it is open.
    unsafe {
        let (_, default) = of(file);
        let claimed = default.xDeviceCharacteristics.map_or(0, |characteristics| characteristics(file));
        claimed & (SQLITE_IOCAP_POWERSAFE_OVERWRITE | SQLITE_IOCAP_SUBPAGE_READ)
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
