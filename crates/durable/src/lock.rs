//! One writer: the process that drives a store holds a lock beside it.
//!
//! The lock is the system's, on the file `<store>-lock`, so that it ends with the process however that ends. Who gets past
//! it all the same, because the file was deleted, is stopped by the epoch in the store itself, which
//! [the writer](crate::writer) checks in every commit. Why both: `docs/decisions/0008-a-lock-and-an-epoch.md`.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    error::OpenError,
    files::{beside, real},
};

/// Held while a store is driven.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The file, if this process made it.
    made: Option<PathBuf>,
    _file: File,
}

impl Lock {
    /// Takes the lock of a store.
    pub(crate) fn take(store: &Path) -> Result<Self, OpenError> {
        let failed = |source: std::io::Error| OpenError::File { path: store.to_owned(), source: source.into() };
        let path = path(store);
        let made = (!path.exists()).then(|| path.clone());
        loop {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
            match try_for_a_while(&file) {
                // Whoever had it may have deleted it before it was locked: then it keeps nobody out.
                Ok(()) if !is_at(&file, &path) => continue,
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut pid = String::new();
                    let pid = file.read_to_string(&mut pid).ok().and_then(|_| pid.trim().parse().ok());
                    return Err(OpenError::Locked { path: store.to_owned(), pid });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            return Ok(Self { made, _file: file });
        }
    }

    /// Gives the lock of a file back that is no store after all, and leaves nothing beside it.
    pub(crate) fn discard(self) {
        if let Some(made) = &self.made {
            // If it stays, it is an empty file that nobody holds.
            drop(std::fs::remove_file(made));
        }
    }
}

/// Returns whether a file that is open is the one at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Elsewhere a file that is open cannot be deleted.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Takes the lock; waits for a process that was killed a moment ago, and holds it until the system has buried it.
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

/// Returns whether a process drives the store, without waiting and without taking the lock for longer than a look.
pub(crate) fn is_driven(store: &Path) -> bool {
    OpenOptions::new().read(true).write(true).open(path(store)).is_ok_and(|file| file.try_lock().is_err())
}

fn path(store: &Path) -> PathBuf {
    // Beside the file itself, also where a link leads to it.
    beside(&real(store), "-lock")
}
