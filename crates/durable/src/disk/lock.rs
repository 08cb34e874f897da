//! One writer: the process that drives a store holds a lock beside it.
//!
//! The operating system holds the lock, on the file `<store>-lock`, so it ends with the process, however the process
//! ends. If the lock file was deleted, a second process can get past it; the epoch in the store then stops the older
//! one, since [the writer](crate::disk::writer) checks it in every commit. The reasons for both are in
//! `docs/decisions/0008-a-lock-and-an-epoch.md`.
//!
//! A driver that closes cannot interrupt all work. The work that is left keeps the lock and is listed in the lock file,
//! so that the next process to open the store is told which runs still work. The reasons are in
//! `docs/decisions/0021-what-is-left-holds-the-lock.md`.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use crate::{
    disk::files::{beside, real},
    words::{error::OpenError, guard::lock, info::Left},
};

/// The locks of this process, in which the work that is left is found even if the lock file was deleted.
static TAKEN: Mutex<Vec<Weak<Lock>>> = Mutex::new(Vec::new());

/// The lock of a store: held while the store is driven, and until all work of its runs has ended.
#[derive(Debug)]
pub(crate) struct Lock {
    store: PathBuf,
    /// The file, if this process made it.
    made: Option<PathBuf>,
    notes: Mutex<Notes>,
}

/// The file of a lock: the process on its first line, then the work that is left, one run a line.
#[derive(Debug)]
struct Notes {
    file: File,
    left: BTreeMap<u64, Left>,
    next: u64,
}

impl Lock {
    /// Takes the lock of a store.
    pub(crate) fn take(store: &Path) -> Result<Arc<Self>, OpenError> {
        let failed = |source: std::io::Error| OpenError::File { path: store.to_owned(), source: Arc::new(source) };
        let path = path(store);
        let made = (!path.exists()).then(|| path.clone());
        let file = loop {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
            match try_for_a_while(&file) {
                // Its last holder may have deleted the file before it was locked here: such a lock keeps nobody out.
                Ok(()) if !is_at(&file, &path) => {}
                Ok(()) => break file,
                Err(TryLockError::WouldBlock) => return Err(held(store, &mut file)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        };
        let real = real(store);
        let left = left_here(&real);
        if !left.is_empty() {
            return Err(OpenError::StillRuns { path: store.to_owned(), pid: Some(std::process::id()), left });
        }
        let notes = Notes { file, left: BTreeMap::new(), next: 1 };
        notes.write().map_err(failed)?;
        let taken = Arc::new(Self { store: real, made, notes: Mutex::new(notes) });
        lock(&TAKEN).push(Arc::downgrade(&taken));
        Ok(taken)
    }

    /// Releases the lock of a file that turned out to be no store, and deletes the lock file.
    pub(crate) fn discard(&self) {
        if let Some(made) = &self.made {
            // If it stays, it is an empty file that nobody holds.
            drop(std::fs::remove_file(made));
        }
    }

    /// Notes that work of a run is left, and returns the number of the note.
    pub(crate) fn note(&self, left: Left) -> u64 {
        let mut notes = lock(&self.notes);
        let number = notes.next;
        notes.next += 1;
        notes.left.insert(number, left);
        notes.keep();
        number
    }

    /// Removes a note, since its work has ended.
    pub(crate) fn forget(&self, number: u64) {
        let mut notes = lock(&self.notes);
        notes.left.remove(&number);
        notes.keep();
    }
}

impl Notes {
    /// Writes the file. Its text is only for the messages of errors.
    fn keep(&self) {
        if let Err(error) = self.write() {
            tracing::debug!(target: "flowstone", %error, "the lock's file cannot be written");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let mut text = format!("{}\n", std::process::id());
        for left in self.left.values() {
            text += &serde_json::to_string(left)?;
            text += "\n";
        }
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    }
}

/// Returns the work that is left in this process of a store that the process drove.
fn left_here(store: &Path) -> Vec<Left> {
    let mut taken = lock(&TAKEN);
    taken.retain(|lock| lock.strong_count() > 0);
    let of_store = taken.iter().filter_map(Weak::upgrade).filter(|taken| taken.store == store);
    of_store.flat_map(|taken| lock(&taken.notes).left.values().cloned().collect::<Vec<_>>()).collect()
}

/// Returns the error of opening a store whose lock is held.
fn held(store: &Path, file: &mut File) -> OpenError {
    let mut text = String::new();
    let path = store.to_owned();
    if file.read_to_string(&mut text).is_err() {
        return OpenError::Locked { path, pid: None };
    }
    let mut lines = text.lines();
    let pid = lines.next().and_then(|pid| pid.trim().parse().ok());
    let left: Vec<Left> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
    if left.is_empty() { OpenError::Locked { path, pid } } else { OpenError::StillRuns { path, pid, left } }
}

/// Returns `true` if an open file is the one at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Returns `true`: on other systems an open file cannot be deleted.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Takes the lock. A process that was killed a moment ago holds it until the system has cleaned up, so this waits a
/// little.
fn try_for_a_while(file: &File) -> Result<(), TryLockError> {
    const TRIES: u32 = 25;
    const WAIT: Duration = Duration::from_millis(20);

    for _ in 1..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(WAIT),
            taken => return taken,
        }
    }
    file.try_lock()
}

/// Returns `true` if a process drives the store. It does not wait, and holds the lock only for a moment.
pub(crate) fn is_driven(store: &Path) -> bool {
    OpenOptions::new().read(true).write(true).open(path(store)).is_ok_and(|file| file.try_lock().is_err())
}

fn path(store: &Path) -> PathBuf {
    // The lock is beside the file itself, also where the path is a link.
    beside(&real(store), "-lock")
}
