//! A disk whose power is cut: the files of one folder, as they are on the disk and as programs see them.
//!
//! The model is that of "Atomic Commit In SQLite": a write is in the system's cache until its file is synced. When the
//! power fails, each part of it that lies in one sector of 512 bytes is on the disk or not, by itself and in any order.
//! The new end of a file that has grown may be zeros or noise. Making or deleting a file may be lost until its folder
//! is synced. A sync makes all earlier changes of its file durable. SQLite is told `SQLITE_IOCAP_POWERSAFE_OVERWRITE`
//! and no more: not that writes are atomic, nor that they are in order, nor that a file grows after it is written. The
//! reasons are in `docs/decisions/0027-a-disk-that-loses-what-was-not-synced.md`.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, Ordering},
    },
};

pub use crate::file::Losses;
use crate::{
    file::{File, Luck},
    vfs::{self, Device, DeviceFile, Failure, Opened, Opening, lock},
};

/// The disks whose power is on or was cut, by their folders.
static DISKS: Mutex<BTreeMap<PathBuf, Arc<Inner>>> = Mutex::new(BTreeMap::new());

/// The moment at which the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The power is cut at the sync of this number, counted from 0: right before it or right after it.
    Sync {
        /// The number of the sync.
        nth: u64,
        /// `true` if the sync is done, but its caller is not told.
        done: bool,
    },
    /// The power is cut right after the change of this number, counted from 0: a file was written, made, deleted or got
    /// another size.
    Change(u64),
}

/// The numbers of operations so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Syncs of files.
    pub syncs: u64,
    /// Files that were written, made, deleted, or got another size.
    pub changes: u64,
}

/// The content of a disk without power: its files by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image(BTreeMap<OsString, Vec<u8>>);

impl Image {
    /// Writes the files into a folder.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made, or a file not written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        self.0.iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
    }
}

/// The disk under the SQLite files of a folder, for every connection that this process opens.
pub struct Disk {
    folder: PathBuf,
    inner: Arc<Inner>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The state that the handle and its open files share.
struct Inner {
    state: Mutex<State>,
    /// Called once when the power is cut, before any other operation can reach the disk.
    then: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    /// All files that ever existed; names are indexes into them.
    files: Vec<File>,
    names: BTreeMap<OsString, usize>,
    /// The names as of the last sync of the folder.
    synced: BTreeMap<OsString, usize>,
    since: Vec<Rename>,
    cut: Option<Cut>,
    off: bool,
    lies: bool,
    counts: Counts,
}

/// A file was made under a name, or its name was deleted.
#[derive(Debug, Clone)]
struct Rename {
    name: OsString,
    file: Option<usize>,
}

impl Disk {
    /// Puts a disk under a folder, which is made and filled with the image. The power is cut at the moment of `cut`;
    /// `then` is called at that moment, and must not touch the disk.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn new(
        folder: &Path,
        image: &Image,
        cut: Option<Cut>,
        then: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(|| vfs::register_for_all("flowstone-power", &Disks));
        image.write(folder)?;
        let folder = std::fs::canonicalize(folder)?;
        let names: BTreeMap<_, _> = image.0.keys().cloned().zip(0..).collect();
        let files = image.0.values().cloned().map(File::new).collect();
        let state = State { files, synced: names.clone(), names, cut, ..State::default() };
        let inner = Arc::new(Inner { state: Mutex::new(state), then: Box::new(then) });
        lock(&DISKS).insert(folder.clone(), Arc::clone(&inner));
        Ok(Self { folder, inner })
    }

    /// Makes it a lying disk, which reports syncs that it has not done.
    #[must_use]
    pub fn lying(self) -> Self {
        lock(&self.inner.state).lies = true;
        self
    }

    /// Runs a function without any operation of the disk in between, if the power is still on.
    pub fn while_on<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let state = lock(&self.inner.state);
        (!state.off).then(work)
    }

    /// Returns `true` if the power was cut.
    #[must_use]
    pub fn is_off(&self) -> bool {
        lock(&self.inner.state).off
    }

    /// Returns the numbers of operations so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.inner.state).counts
    }

    /// Returns the files that the power cut has left; `random` gives numbers below its argument.
    pub fn survivors(&self, random: &mut dyn FnMut(u64) -> u64) -> (Image, Losses) {
        let state = lock(&self.inner.state);
        let mut luck = Luck::new(random);
        let (mut names, first) = (state.synced.clone(), luck.first(state.since.len()));
        for (nth, Rename { name, file }) in state.since.iter().enumerate() {
            match file {
                _ if !luck.keeps_name(nth < first) => None,
                Some(file) => names.insert(name.clone(), *file),
                None => names.remove(name),
            };
        }
        let files = names.into_iter().map(|(name, file)| (name, state.files[file].survivors(&mut luck)));
        (Image(files.collect()), luck.losses())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        lock(&DISKS).remove(&self.folder);
    }
}

impl Inner {
    /// Does an operation on the disk, and cuts the power if its moment has come.
    fn change(&self, work: impl FnOnce(&mut State)) -> Result<(), Failure> {
        let mut state = lock(&self.state);
        if state.off {
            return Err(Failure::Broken);
        }
        work(&mut state);
        let now = state.cut == Some(Cut::Change(state.counts.changes));
        state.counts.changes += 1;
        self.cut(&mut state, now)
    }

    /// Syncs a file, or the names of all files, and cuts the power before or after the sync if its moment has come.
    fn sync(&self, file: usize, folder: bool) -> Result<(), Failure> {
        let mut state = lock(&self.state);
        if state.off {
            return Err(Failure::Broken);
        }
        let nth = state.counts.syncs;
        state.counts.syncs += 1;
        let now = state.cut == Some(Cut::Sync { nth, done: false });
        self.cut(&mut state, now)?;
        if !state.lies {
            state.files[file].sync();
            if folder {
                state.sync_names();
            }
        }
        let now = state.cut == Some(Cut::Sync { nth, done: true });
        self.cut(&mut state, now)
    }

    fn cut(&self, state: &mut State, now: bool) -> Result<(), Failure> {
        if !now {
            return Ok(());
        }
        state.off = true;
        (self.then)();
        Err(Failure::Broken)
    }
}

impl State {
    fn sync_names(&mut self) {
        self.synced = self.names.clone();
        self.since.clear();
    }

    fn make(&mut self, name: &OsStr) -> usize {
        let file = self.files.len();
        self.files.push(File::default());
        self.names.insert(name.to_owned(), file);
        self.since.push(Rename { name: name.to_owned(), file: Some(file) });
        file
    }
}

/// All disks of the process, as one VFS. Files in no disk's folder are left to SQLite's own VFS.
struct Disks;

/// The disk and the name of a file.
fn place(path: &Path) -> Option<(Arc<Inner>, &OsStr)> {
    let inner = lock(&DISKS).get(path.parent()?).cloned()?;
    Some((inner, path.file_name()?))
}

impl Device for Disks {
    fn open(&self, path: &Path, opening: Opening) -> Result<Opened, Failure> {
        let Some((inner, name)) = place(path) else { return Ok(Opened::default()) };
        let known = {
            let state = lock(&inner.state);
            if state.off {
                return Err(Failure::Broken);
            }
            state.names.get(name).copied()
        };
        let mut file = known;
        if file.is_none() && opening.create {
            inner.change(|state| file = Some(state.make(name)))?;
        }
        let syncs_folder = AtomicBool::new(opening.create && opening.is_log);
        let file = file.map(|file| Box::new(OpenFile { inner, file, syncs_folder }) as Box<dyn DeviceFile>);
        Ok(Opened { file, read_only: false })
    }

    fn delete(&self, path: &Path, synced: bool) -> Result<(), Failure> {
        let Some((inner, name)) = place(path) else { return Ok(()) };
        inner.change(|state| {
            if state.names.remove(name).is_some() {
                state.since.push(Rename { name: name.to_owned(), file: None });
            }
            if synced && !state.lies {
                state.sync_names();
            }
        })
    }
}

/// A file that SQLite has opened.
struct OpenFile {
    inner: Arc<Inner>,
    file: usize,
    /// `true` if its next sync syncs its folder, too, as SQLite's own VFS does for a log that it may have made.
    syncs_folder: AtomicBool,
}

impl DeviceFile for OpenFile {
    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.inner.change(|state| state.files[self.file].write(at, bytes))
    }

    fn truncate(&self, size: u64) -> Result<(), Failure> {
        self.inner.change(|state| state.files[self.file].truncate(size))
    }

    fn sync(&self) -> Result<(), Failure> {
        self.inner.sync(self.file, self.syncs_folder.swap(false, Ordering::Relaxed))
    }
}
