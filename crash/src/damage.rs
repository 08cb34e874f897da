//! Damaged copies of a store as a kill left it: the log is torn, the file is cut short, or pages are overwritten.

use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use flowstone::durable::{OpenError, ReadError, Reader};

use crate::{
    expected::Expected,
    found::{Found, beside},
    random::Random,
};

/// The damage that is done to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Damage {
    /// The log ends early.
    LogCut,
    /// The end of the log is noise.
    LogNoise,
    /// The file ends early.
    FileCut,
    /// A page of the file is noise.
    PageNoise,
}

impl Damage {
    pub(crate) const ALL: [Self; 4] = [Self::LogCut, Self::LogNoise, Self::FileCut, Self::PageNoise];

    /// Returns `true` if only the last commits may be missing.
    pub(crate) fn is_harmless(self) -> bool {
        matches!(self, Self::LogCut | Self::LogNoise)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LogCut => "log cut",
            Self::LogNoise => "log noise",
            Self::FileCut => "file cut",
            Self::PageNoise => "page noise",
        }
    }
}

/// The files of a store as they were right after a kill, before anybody opened them.
#[derive(Debug)]
pub(crate) struct Snapshot {
    store: PathBuf,
}

impl Snapshot {
    pub(crate) fn take(store: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let copy = folder.join("runs.db");
        for suffix in ["", "-wal", "-shm"] {
            let from = beside(store, suffix);
            if from.exists() {
                fs::copy(&from, beside(&copy, suffix))?;
            }
        }
        Ok(Self { store: copy })
    }

    /// Makes a damaged copy; `None` if nothing can be damaged in this way.
    pub(crate) fn damaged(&self, damage: Damage, folder: &Path, random: &mut Random) -> Result<Option<PathBuf>> {
        fs::create_dir_all(folder)?;
        let (copy, log) = (folder.join("runs.db"), beside(&self.store, "-wal"));
        if !self.store.exists() {
            return Ok(None);
        }
        fs::copy(&self.store, &copy)?;
        if log.exists() {
            fs::copy(&log, beside(&copy, "-wal"))?;
        }
        let done = if damage.is_harmless() { self.log(damage, &copy, random)? } else { file(damage, &copy, random)? };
        Ok(done.then_some(copy))
    }

    fn log(&self, damage: Damage, copy: &Path, random: &mut Random) -> Result<bool> {
        let log = beside(copy, "-wal");
        let size = fs::metadata(&log).map_or(0, |data| data.len());
        let floor = self.floor()?;
        if size <= floor {
            return Ok(false);
        }
        let at = floor + random.below(size - floor);
        let mut log = OpenOptions::new().write(true).open(log)?;
        match damage {
            Damage::LogCut => log.set_len(at)?,
            _ => {
                log.seek(SeekFrom::Start(at))?;
                log.write_all(&random.bytes(usize::try_from(size - at)?))?;
            }
        }
        Ok(true)
    }

    /// Returns the end of the part of the log that SQLite has begun to copy into the file. That part was synced before,
    /// so no crash of a machine can tear it, and the file is of no use without it.
    fn floor(&self) -> Result<u64> {
        const ATTEMPTED: usize = 128; // `nBackfillAttempted` in the index of the log
        const FRAME: u64 = 24;
        let header = fs::read(&self.store)?;
        let page = header.get(16..18).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let page = if page == 1 { 65_536 } else { u64::from(page) };
        let index = fs::read(beside(&self.store, "-shm")).unwrap_or_default();
        let frames: [u8; 4] = index.get(ATTEMPTED..ATTEMPTED + 4).unwrap_or(&[0; 4]).try_into()?;
        Ok(32 + u64::from(u32::from_ne_bytes(frames)) * (FRAME + page))
    }
}

fn file(damage: Damage, copy: &Path, random: &mut Random) -> Result<bool> {
    const PAGE: u64 = 4096;
    let size = fs::metadata(copy)?.len();
    if size < 2 * PAGE {
        return Ok(false);
    }
    let mut file = OpenOptions::new().write(true).open(copy)?;
    match damage {
        // To SQLite a file of no bytes is a new store, and the log beside it is dropped.
        Damage::FileCut => file.set_len(random.between(1, size - 1))?,
        _ => {
            file.seek(SeekFrom::Start(random.below(size / PAGE) * PAGE))?;
            file.write_all(&random.bytes(4096))?;
        }
    }
    Ok(true)
}

/// Checks that a torn log leaves the first commits and nothing else, except for runs that were deleted later.
pub(crate) fn is_prefix(whole: &Found, part: &Found) -> Result<()> {
    let deleted = |(run, _): &(i64, u64)| !whole.numbers.contains(run);
    let Some(last) = part.visits.keys().next_back() else { return Ok(()) };
    for (visit, place) in whole.visits.range(..=last) {
        let same = part.visits.get(visit).is_some_and(|known| known == place || deleted(known));
        ensure!(same, "visit #{visit} {place:?} is missing in the middle");
    }
    for (visit, place) in &part.visits {
        ensure!(whole.visits.contains_key(visit) || deleted(place), "visit #{visit} {place:?} never was");
    }
    Ok(())
}

/// Reads everything from a damaged file and checks that each result is right or a typed error. Returns `true` if there
/// was an error.
pub(crate) fn read_damaged(store: &Path, expected: &Expected) -> Result<bool> {
    let reader = match Reader::open(store) {
        Ok(reader) => reader,
        Err(OpenError::Store { .. } | OpenError::NotAStore { .. } | OpenError::File { .. }) => return Ok(true),
        Err(error) => bail!("opened with {error:?}"),
    };
    let mut damaged = false;
    for (run, course) in &expected.courses {
        let (info, steps) = (reader.run(run.as_str()), reader.steps(run.as_str(), 0, usize::MAX));
        damaged |= matches!(&info, Err(error) if is_damage(error)) || matches!(&steps, Err(error) if is_damage(error));
        for step in 0..=course.last() {
            match reader.state(run.as_str(), Some(step)) {
                Ok(state) => ensure!(course.has_state(step, &state), "a wrong state of {run} after step {step}"),
                Err(error) => damaged |= is_damage(&error),
            }
        }
    }
    Ok(damaged)
}

fn is_damage(error: &ReadError) -> bool {
    !matches!(error, ReadError::UnknownRun { .. } | ReadError::UnknownStep { .. })
}

/// Checks that the ends of runs over a damaged file are right, as far as they can be read.
pub(crate) fn ends_of_damaged(store: &Path, expected: &Expected) -> Result<()> {
    read_damaged(store, expected).map(drop).context("after runs went on over it")
}
