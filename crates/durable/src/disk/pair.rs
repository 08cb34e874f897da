//! A main file and its log: two files that are one store.
//!
//! SQLite takes any log that is beside a file for the log of that file. If the main file is gone, SQLite makes a new
//! one and throws the log away; if the main file is another one, it mixes the pages of both. So the two are checked
//! before SQLite opens them; `docs/decisions/0019-a-log-is-known-by-its-marker.md` says why, and what the check can
//! find.
//!
//! **Invariant:** a pair that is refused is not changed.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use flowstone_core::BoxError;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::{
    disk::{
        access::{APPLICATION, Access},
        files::{Held, beside, real},
        lock,
    },
    words::error::OpenError,
};

/// The bytes with which the file of an SQLite database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The length of a database's header in bytes.
const HEADER: usize = 100;

/// The content of a main file without its log.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    /// `true` if a log was beside it.
    pub(crate) has_log: bool,
    /// The marker of the last log that was moved into it.
    marker: Option<i64>,
    /// The number of its tables' last change.
    tables: Option<u32>,
}

/// Checks the files of a store before it is opened.
pub(crate) fn look(path: &Path, vfs: Option<&str>, access: Access) -> Result<(Held, Alone), OpenError> {
    let main = real(path);
    let has_log = std::fs::metadata(beside(&main, "-wal")).is_ok_and(|log| log.len() > 0);
    let mut alone = Alone { has_log, ..Alone::default() };
    match std::fs::metadata(&main) {
        Ok(known) if !known.is_file() => return Err(no_file(path, "it is no file")),
        // SQLite would take the two files for a new store, and throw the log away.
        Ok(known) if known.len() == 0 && has_log => return Err(no_store(path, LOG_OF_EMPTY)),
        Err(error) if error.kind() == ErrorKind::NotFound && has_log => return Err(no_store(path, LOG_OF_NONE)),
        Err(error) if error.kind() == ErrorKind::NotFound && access != Access::Drive => {
            return Err(no_file(path, "there is no such file"));
        }
        _ => {}
    }
    let held = Held::opening(&main, || {
        // If a process drives the store, the two belong together, as that process has checked; and they change while
        // they are read.
        if has_log && (access == Access::Drive || !lock::is_driven(path)) {
            alone = of_header(path, &main)?;
            alone.marker = marker_of(&main, vfs);
        }
        Ok(())
    })?;
    Ok((held, alone))
}

impl Alone {
    /// Fails if the log that the connection reads belongs to another main file, as far as the markers show that.
    pub(crate) fn check(&self, path: &Path, connection: &Connection) -> Result<(), OpenError> {
        let tables = connection.pragma_query_value(None, "schema_version", |row| row.get::<_, u32>(0)).ok();
        if let (Some(alone), Some(both)) = (self.tables, tables)
            && alone > both
        {
            return Err(no_store(path, LOG_OF_OTHER));
        }
        let both = connection.query_row("SELECT log, log_before FROM owner WHERE one = 1", [], |row| {
            Ok([row.get::<_, i64>(0)?, row.get::<_, i64>(1)?])
        });
        match (self.marker.filter(|marker| is_marker(*marker)), both) {
            // A log changes the marker at most once, so the main file has that marker or the one before.
            (Some(alone), Ok(both)) if !both.contains(&alone) => Err(no_store(path, LOG_OF_OTHER)),
            _ => Ok(()),
        }
    }
}

const LOG_OF_EMPTY: &str = "it is empty, but the log beside it is not: bring the file back, or move the log away";

const LOG_OF_NONE: &str = "the file is missing, but its log (`-wal`) is there, and the newest commits are in that: bring the file \
                           back, or move the log away to begin with an empty store";

const LOG_OF_OTHER: &str = "the log (`-wal`) beside it is that of another file, or of this one at another time: if the file was \
                            restored from a backup, move the `-wal` and the `-shm` away; if not, bring back the file that the \
                            log belongs to";

fn no_store(path: &Path, what: &str) -> OpenError {
    OpenError::NotAStore { path: path.to_owned(), what: what.to_owned() }
}

fn no_file(path: &Path, what: &str) -> OpenError {
    OpenError::File { path: path.to_owned(), source: BoxError::from(what).into() }
}

/// Reads the header of a main file that has a log beside it.
fn of_header(path: &Path, main: &Path) -> Result<Alone, OpenError> {
    let mut header = [0; HEADER];
    let read = File::open(main).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(no_store(path, LOG_OF_OTHER)),
        Err(source) => return Err(OpenError::File { path: path.to_owned(), source: Arc::new(source) }),
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (uses_log, application, tables) = (header[18..20] == [2, 2], i64::from(number(68)), number(40));
    // No table was ever moved into this file, whatever its length: a file grows before its header says so. If the power
    // failed while the file was made, only the log may say that the file uses a log.
    let is_young = application == 0 && tables == 0;
    let is_store = application == APPLICATION && uses_log;
    if &header[..16] != MAGIC || !(is_store || is_young) {
        return Err(no_store(path, LOG_OF_OTHER));
    }
    Ok(Alone { has_log: true, marker: None, tables: Some(tables) })
}

/// Reads the marker of a main file as if it had no log; `None` if it has no marker, or none that can be read.
fn marker_of(main: &Path, vfs: Option<&str>) -> Option<i64> {
    let name = format!("file:{}?immutable=1", escaped(main)?);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(name, flags, vfs),
        None => Connection::open_with_flags(name, flags),
    };
    db.ok()?.query_row("SELECT log FROM owner WHERE one = 1", [], |row| row.get(0)).optional().ok()?
}

/// The log of a store that is driven; it is asked if SQLite has started it anew.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    /// The salts of the log that has a marker.
    marked: Option<[u8; 8]>,
}

impl Log {
    /// Opens the log of a store, after its driver has written a marker into the log where one was needed.
    pub(crate) fn marked(main: &Path) -> Self {
        // No process has a lock on this file, so closing it releases none.
        let mut log = Self { file: File::open(beside(main, "-wal")).ok(), marked: None };
        log.set_marked();
        log
    }

    /// Returns `true` if SQLite has started the log anew since it was marked.
    pub(crate) fn is_new(&self) -> bool {
        let salts = self.salts();
        salts.is_some() && salts != self.marked
    }

    /// Notes that the log has a marker.
    pub(crate) fn set_marked(&mut self) {
        self.marked = self.salts();
    }

    /// Reads the two numbers with which SQLite tells the frames of a log from those of the one before.
    fn salts(&self) -> Option<[u8; 8]> {
        let (mut salts, mut file) = ([0; 8], self.file.as_ref()?);
        file.seek(SeekFrom::Start(16)).ok()?;
        file.read_exact(&mut salts).ok()?;
        Some(salts)
    }
}

/// Writes a marker into a log that was started anew, in the transaction around it.
pub(crate) fn mark(db: &Connection) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached("UPDATE owner SET log_before = log, log = ?1 WHERE one = 1")?;
    update.execute([new_marker()]).map(drop)
}

/// Makes a marker that no other log has.
pub(crate) fn new_marker() -> i64 {
    marker(RandomState::new().hash_one(SystemTime::now()) as u32)
}

/// Makes a marker of a random number and its check. If the power failed while the log was moved into the main file, the
/// file has halves of pages, and without the check a torn marker would be believed.
fn marker(random: u32) -> i64 {
    let check = random.wrapping_mul(0x9e37_79b9).rotate_left(16) ^ 0x7f4a_7c15;
    (u64::from(random) << 32 | u64::from(check)).cast_signed()
}

fn is_marker(found: i64) -> bool {
    marker((found.cast_unsigned() >> 32) as u32) == found
}

/// Returns a path in the form that it has in a URI.
fn escaped(path: &Path) -> Option<String> {
    let mut name = String::new();
    for byte in path.to_str()?.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => name.push(char::from(byte)),
            byte => name.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(name)
}
