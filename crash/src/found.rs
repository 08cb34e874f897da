//! The content of a store that nobody drives, read by SQL, so that the code under test does not check itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::{ledger::in_memory, version::plain};

/// A run as it is in the store.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// 0 running, 1 paused, 2 sleeping, 3 ended, 4 failed, 5 cancelled.
    pub(crate) status: i64,
    /// The number of its last step.
    pub(crate) last: u64,
    /// The number of committed visits that were questions.
    pub(crate) answers: u64,
    /// The node of each committed visit.
    pub(crate) nodes: Vec<String>,
    /// The outputs of items of a visit under way, by step and by the part of the key that names an item; `-1` is the
    /// node itself.
    items: BTreeMap<(u64, String), Kept>,
    /// The steps whose questions have an answer, also one that did not fit.
    answered: BTreeSet<u64>,
    /// The steps whose questions have taken an answer.
    pub(crate) taken: BTreeSet<u64>,
    /// The steps whose questions expired.
    pub(crate) expired: BTreeSet<u64>,
    /// The number of times that its process died in the visit under way.
    pub(crate) deaths: u64,
    /// The number of deaths for which it failed, if it did.
    pub(crate) failed_after: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Kept {
    Output,
    /// The number of the attempt that follows.
    Wait(u32),
}

/// The content of a store.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) runs: BTreeMap<String, Stored>,
    /// Each visit by its place in the table: in the order of commits.
    pub(crate) visits: BTreeMap<i64, (i64, u64)>,
    pub(crate) items: usize,
    /// The numbers of the runs.
    pub(crate) numbers: BTreeSet<i64>,
    /// The numbers of runs that are deleted, and have rows in other tables yet.
    pub(crate) deleting: BTreeSet<i64>,
}

/// The progress of a deed of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It is in the store, and must never be done again.
    Committed,
    /// It belongs to the visit that follows the last committed one.
    InFlight,
    /// It belongs to a visit this many after that.
    Ahead(u64),
    /// Its run is not in the store.
    Unknown,
}

pub(crate) const ENDED: i64 = 3;

impl Found {
    /// Checks a file, and reads it. A file that was never made a store has no content.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        // A process that was killed while it made the file has left a journal, which takes a writer to roll back.
        if path.with_extension("db-journal").exists() {
            Connection::open(path)?.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).context("the store cannot be opened for reading")?;
        let integrity: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        ensure!(integrity == "ok", "integrity_check says: {integrity}");
        let tables: i64 =
            db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'runs'", [], |row| row.get(0))?;
        if tables == 0 {
            return Ok(Self::default());
        }
        Self::rows(&db).context("the store cannot be read")
    }

    /// Reads a file that is being driven, as it is at one moment.
    pub(crate) fn beside_driver(path: &Path) -> Result<Self> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        let moment = db.unchecked_transaction()?;
        Self::rows(&moment)
    }

    /// Checks that all rows are there that were seen earlier, unless their run was deleted since, and counts them.
    pub(crate) fn has_all_of(&self, seen: &Self) -> Result<u64> {
        let mut count = 0;
        for (id, run) in &seen.runs {
            let Some(stored) = self.runs.get(id) else { continue };
            ensure!(stored.last >= run.last, "run {id} was seen after step {}, and is after {}", run.last, stored.last);
            let lost = run.items.keys().find(|place| place.0 > stored.last && !stored.items.contains_key(place));
            ensure!(lost.is_none(), "run {id} was seen with an item that is not there: {lost:?}");
            let lost = run.answered.iter().find(|step| **step > stored.last && !stored.has_answer(**step));
            ensure!(lost.is_none(), "run {id} was seen with an answer that is not there: {lost:?}");
            count += run.last + (run.items.len() + run.answered.len()) as u64;
        }
        Ok(count)
    }

    fn rows(db: &Connection) -> Result<Self> {
        let mut found = Self::default();
        let mut ids = BTreeMap::new();
        // These are the remains of deleted runs: their numbers, and their children, which no longer exist either.
        let mut select = db.prepare("SELECT run FROM deleting")?;
        let mut deleted: BTreeSet<i64> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        found.deleting.clone_from(&deleted);
        let mut select = db.prepare(
            "SELECT run, id, status, parent, resumes,
                 iif(status = 4, json_extract(error, '$.deaths'), NULL) FROM runs ORDER BY run",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (number, id): (i64, String) = (row.get(0)?, row.get(1)?);
            let parent: Option<i64> = row.get(3)?;
            if parent.is_some_and(|parent| deleted.contains(&parent)) {
                deleted.insert(number);
                continue;
            }
            let id = in_memory(&id);
            let (deaths, failed_after) = (row.get::<_, i64>(4)?, row.get::<_, Option<i64>>(5)?);
            let (deaths, failed_after) = (u64::try_from(deaths)?, failed_after.map(u64::try_from).transpose()?);
            let stored = Stored { status: row.get(2)?, deaths, failed_after, ..Stored::default() };
            ids.insert(number, id.clone());
            found.numbers.insert(number);
            found.runs.insert(id, stored);
        }
        let id_of = |run: i64| ids.get(&run).with_context(|| format!("rows of run {run}, which is not there"));
        let mut select = db.prepare("SELECT visit, run, seq, node FROM visits ORDER BY run, seq")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (visit, run, seq, node): (i64, i64, i64, Option<String>) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            if deleted.contains(&run) {
                continue;
            }
            let seq = u64::try_from(seq)?;
            let stored = found.runs.get_mut(id_of(run)?).context("a run that was there a moment ago")?;
            ensure!(
                seq == stored.nodes.len() as u64 + u64::from(node.is_some()),
                "run {run} lacks a step before {seq}"
            );
            stored.last = seq;
            stored.answers += u64::from(node.as_deref().is_some_and(is_question));
            stored.nodes.extend(node.as_deref().map(plain));
            found.visits.insert(visit, (run, seq));
        }
        let mut select = db.prepare("SELECT run, seq, iif(item_key IS NULL, CAST(item AS TEXT), lower(hex(item_key))), output IS NOT NULL, attempt
             FROM items",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            if deleted.contains(&row.get(0)?) {
                continue;
            }
            let kept = if row.get(3)? { Kept::Output } else { Kept::Wait(row.get(4)?) };
            let stored = found.runs.get_mut(id_of(row.get(0)?)?).context("a run that was there a moment ago")?;
            found.items += usize::from(matches!(kept, Kept::Output));
            stored.items.insert((u64::try_from(row.get::<_, i64>(1)?)?, row.get(2)?), kept);
        }
        let mut select = db.prepare(
            "SELECT run, seq, answer IS NOT NULL OR refused IS NOT NULL, answer IS NOT NULL, expired_at IS NOT NULL FROM pauses",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            if deleted.contains(&row.get(0)?) {
                continue;
            }
            let stored = found.runs.get_mut(id_of(row.get(0)?)?).context("a run that was there a moment ago")?;
            let step = u64::try_from(row.get::<_, i64>(1)?)?;
            let (answered, expired): (bool, bool) = (row.get(3)?, row.get(4)?);
            ensure!(
                !(answered && expired),
                "a question of run {:?}, step {step}, was answered, and expired",
                row.get_ref(0)?
            );
            if row.get(2)? {
                stored.answered.insert(step);
            }
            if answered {
                stored.taken.insert(step);
            }
            if expired {
                stored.expired.insert(step);
            }
        }
        Ok(found)
    }

    /// Returns the progress of a deed by its key: `run:visit:node[item]`; for a child, the key of its parent and then
    /// its own; after a question, the id of the run or child and `?number`.
    pub(crate) fn standing(&self, key: &str, attempt: u32) -> Standing {
        let (key, question) = match key.split_once('?') {
            Some((key, number)) => (key, Some(number.parse().unwrap_or(u64::MAX))),
            None => (key, None),
        };
        let mut parts = key.split(':');
        let mut run = parts.next().unwrap_or_default().to_owned();
        loop {
            if let Some(number) = question
                && parts.clone().next().is_none()
            {
                return self.standing_of_answer(&run, number);
            }
            let (Some(visit), Some(node)) = (parts.next(), parts.next()) else { return Standing::Unknown };
            let Some(stored) = self.runs.get(&run) else { return Standing::Unknown };
            let visit: u64 = visit.parse().unwrap_or(u64::MAX);
            if visit < stored.last {
                return Standing::Committed;
            }
            if visit > stored.last {
                return Standing::Ahead(visit - stored.last);
            }
            let child = format!("{run}:{visit}:{node}");
            if question.is_none() && parts.clone().next().is_none() {
                return stored.in_flight(visit + 1, node, attempt);
            }
            match self.runs.get(&child) {
                Some(stored) if stored.status == ENDED => return Standing::Committed,
                Some(_) => run = child,
                // The children of a batch flow that is not journaled are not in the store.
                None if is_kept_flow(node) => return Standing::Unknown,
                None => return Standing::InFlight,
            }
        }
    }

    fn standing_of_answer(&self, run: &str, number: u64) -> Standing {
        let Some(stored) = self.runs.get(run) else { return Standing::Unknown };
        match number.cmp(&stored.answers) {
            std::cmp::Ordering::Less => Standing::Committed,
            std::cmp::Ordering::Equal => Standing::InFlight,
            std::cmp::Ordering::Greater => Standing::Ahead(number - stored.answers),
        }
    }
}

impl Stored {
    pub(crate) fn has_answer(&self, step: u64) -> bool {
        self.answered.contains(&step)
    }

    fn in_flight(&self, step: u64, node: &str, attempt: u32) -> Standing {
        let item = node.rsplit_once('[').map_or("-1", |(_, item)| item.trim_end_matches(']'));
        match self.items.get(&(step, item.to_owned())) {
            Some(Kept::Output) => Standing::Committed,
            Some(Kept::Wait(next)) if attempt < *next => Standing::Committed,
            _ => Standing::InFlight,
        }
    }
}

fn last_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_question(path: &str) -> bool {
    last_name(path).starts_with("ask")
}

fn is_kept_flow(path: &str) -> bool {
    last_name(path).starts_with("keptflows")
}

/// The files of a store beside the main one.
pub(crate) fn beside(store: &Path, suffix: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
