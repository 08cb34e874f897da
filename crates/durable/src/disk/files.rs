//! The files of an open store, and the check that they are still the ones at its path.
//!
//! A file that was deleted or renamed can be written for as long as it is open, but nobody will find those writes. So
//! the open files are compared with those at the path: by the writer in each commit, by a reader in each call.
//!
//! The main file, its log and its index belong together; only their names tell SQLite so.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::words::{
    error::{StoreError, StoreFault},
    guard::lock,
};

/// The stores that this process has open: for each main file, the number of times that it is open.
///
/// A process loses its POSIX locks on a file when it closes any handle to that file, so nobody may open one of these
/// beside SQLite.
static OPEN: Mutex<BTreeMap<Id, usize>> = Mutex::new(BTreeMap::new());

/// The number of links that are followed at most, as on Linux.
const LINKS: usize = 40;

/// A file, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;

        let known = std::fs::metadata(path).ok()?;
        Some(Self { device: known.dev(), inode: known.ino() })
    }

    /// Returns `None`: on other systems an open file can be neither deleted nor replaced.
    #[cfg(not(unix))]
    fn of(_: &Path) -> Option<Self> {
        None
    }
}

/// The files of a store that is open. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Files(Arc<[(PathBuf, Id)]>);

impl Files {
    /// Notes which files are open now. For the process that drives the store, the lock is one of them.
    pub(crate) fn of(main: &Path, drives: bool) -> Self {
        let mut ends = vec!["", "-wal", "-shm"];
        ends.extend(drives.then_some("-lock"));
        let paths = ends.into_iter().map(|end| beside(main, end));
        Self(paths.filter_map(|path| Id::of(&path).map(|id| (path, id))).collect())
    }

    /// Fails if one of the files is not at its path any more.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.0.iter().try_for_each(in_place)
    }

    /// Fails if the main file or its log is not at its path any more. A commit is in one of these; this takes about a
    /// microsecond.
    pub(crate) fn check_data(&self) -> Result<(), StoreError> {
        self.0.iter().take(2).try_for_each(in_place)
    }

    /// Fails if these are not the files of the store that is open as `other`.
    pub(crate) fn check_same(&self, other: &Self) -> Result<(), StoreError> {
        let mut both = self.0.iter().filter_map(|ours| Some((ours, other.0.iter().find(|theirs| theirs.0 == ours.0)?)));
        both.try_for_each(|(ours, theirs)| same(&theirs.0, Some(ours.1), theirs.1))
    }
}

/// Marks a main file as open in this process until the mark is dropped.
#[derive(Debug)]
pub(crate) struct Held(Option<Id>);

impl Held {
    /// Notes that a store is about to be opened. If this process does not have it open yet, `first` is called while no
    /// other thread can open it.
    pub(crate) fn opening<E>(main: &Path, first: impl FnOnce() -> Result<(), E>) -> Result<Self, E> {
        let mut open = lock(&OPEN);
        let id = Id::of(main);
        if id.is_none_or(|id| !open.contains_key(&id)) {
            first()?;
        }
        if let Some(id) = id {
            *open.entry(id).or_default() += 1;
        }
        Ok(Self(id))
    }

    /// Notes the file of a store that was just made. Fails if an existing file was replaced while it was opened.
    pub(crate) fn opened(&mut self, main: &Path) -> Result<(), StoreError> {
        if let Some(id) = self.0 {
            return same(main, Id::of(main), id);
        }
        self.0 = Id::of(main);
        if let Some(id) = self.0 {
            *lock(&OPEN).entry(id).or_default() += 1;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(id) = self.0 else { return };
        let mut open = lock(&OPEN);
        if let Some(count) = open.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                open.remove(&id);
            }
        }
    }
}

fn in_place((path, id): &(PathBuf, Id)) -> Result<(), StoreError> {
    same(path, Id::of(path), *id)
}

fn same(path: &Path, found: Option<Id>, wanted: Id) -> Result<(), StoreError> {
    let what = match found {
        Some(found) if found == wanted => return Ok(()),
        Some(_) => "is another file now",
        None => "is not there any more",
    };
    Err(StoreError::because(StoreFault::Moved, format!("`{}` {what}", path.display())))
}

/// Returns the path of a store's file with this ending, such as `-wal`.
pub(crate) fn beside(main: &Path, end: &str) -> PathBuf {
    let mut name = main.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Returns the path of a store's main file, which need not be there yet, with links resolved: SQLite puts the other
/// files beside the file that a link leads to.
pub(crate) fn real(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if let Ok(real) = std::fs::canonicalize(&path) {
            return real;
        }
        let Ok(to) = std::fs::read_link(&path) else { break };
        path = path.parent().map_or_else(|| to.clone(), |folder| folder.join(&to));
    }
    let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    match (folder.map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path,
    }
}
