//! Pruning: deleting runs that are at an end, so that a store does not grow for ever.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rusqlite::Connection;

use crate::{
    disk::space::{cut_log, give_some_back, size},
    drive::shared::Shared,
    records::{deleting, reader::Reader},
    words::{
        columns::{int, millis},
        error::{ChangeError, ReadError},
        status::Status,
    },
};

/// The most runs that are marked in one transaction, so that others need not wait for long.
const CHUNK: usize = 200;

/// A choice of the runs to delete. By default these are all runs that ended or were cancelled.
///
/// Every condition that is given must hold. Runs that are under way, parked or asleep are never deleted.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    older_than: Option<Duration>,
    keep: usize,
    statuses: Vec<Status>,
    /// The names of flows; all flows if it is empty.
    flows: Vec<String>,
    dry_run: bool,
}

/// The outcome of pruning: the runs that were deleted, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// The number of runs.
    pub runs: u64,
    /// The number of bytes by which the file has shrunk; 0 for a dry run.
    pub bytes: u64,
}

impl Prune {
    /// Deletes all runs that ended or were cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Spares runs whose status changed less than this time ago.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Spares this many of the runs that could be deleted, the newest ones.
    #[must_use]
    pub fn keep(mut self, runs: usize) -> Self {
        self.keep = runs;
        self
    }

    /// Deletes runs in this status, instead of those that ended or were cancelled; called again, in one of these.
    ///
    /// A status that is not final deletes nothing.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.statuses.push(status);
        self
    }

    /// Deletes runs of this flow only.
    #[must_use]
    pub fn flow(mut self, name: impl Into<String>) -> Self {
        self.flows = vec![name.into()];
        self
    }

    /// Deletes runs that are in the store under one of these names of a flow.
    pub(crate) fn flows(mut self, names: Vec<String>) -> Self {
        self.flows = names;
        self
    }

    /// Only counts the runs, and deletes nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    fn statuses(&self) -> Vec<Status> {
        let all = if self.statuses.is_empty() { vec![Status::Ended, Status::Cancelled] } else { self.statuses.clone() };
        all.into_iter().filter(|status| status.is_final()).collect()
    }

    /// Returns the bounds of the runs to look at: those that were started before the newest ones that are spared.
    pub(crate) fn bounds(&self, reader: &Reader, now: SystemTime) -> Result<Bounds, ChangeError> {
        let oldest = self.older_than.map_or(i64::MAX, |age| now.checked_sub(age).map_or(0, millis));
        let mut bounds = Bounds { after: 0, before: i64::MAX, oldest };
        if self.keep == 0 {
            return Ok(bounds);
        }
        let mut select = reader.db.prepare_cached(
            "SELECT run FROM runs WHERE flow = ?1 AND status = ?2 AND parent IS NULL ORDER BY run DESC LIMIT ?3",
        )?;
        let mut newest: Vec<i64> = Vec::new();
        for flow in reader.flow_numbers(&self.flows)? {
            for status in self.statuses() {
                let rows = select.query_map((flow, status.code(), int(self.keep)), |row| row.get::<_, i64>(0))?;
                newest.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
            }
        }
        newest.sort_unstable_by(|a, b| b.cmp(a));
        // If there are fewer, all are spared.
        bounds.before = newest.get(self.keep - 1).copied().unwrap_or(0);
        Ok(bounds)
    }

    /// Returns some of the runs to delete, by number, and moves the bounds past them.
    pub(crate) fn page(&self, reader: &Reader, bounds: &mut Bounds) -> Result<Vec<i64>, ChangeError> {
        let mut select = reader.db.prepare_cached(
            "SELECT run FROM runs WHERE flow = ?1 AND status = ?2 AND parent IS NULL AND run > ?3 AND run < ?4
                 AND changed_at <= ?5 ORDER BY run LIMIT ?6",
        )?;
        let Bounds { after, before, oldest } = *bounds;
        let mut found: Vec<i64> = Vec::new();
        for flow in reader.flow_numbers(&self.flows)? {
            for status in self.statuses() {
                let which = (flow, status.code(), after, before, oldest, int(CHUNK));
                let rows = select.query_map(which, |row| row.get::<_, i64>(0))?;
                found.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
            }
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(CHUNK);
        bounds.after = found.last().copied().unwrap_or(after);
        Ok(found)
    }

    pub(crate) fn is_dry(&self) -> bool {
        self.dry_run
    }

    /// Marks those of the runs that are still at an end as deleted, in the transaction around it.
    pub(crate) fn delete(&self, db: &Connection, runs: &[i64]) -> Result<u64, ChangeError> {
        let statuses = self.statuses();
        let mut deleted = 0;
        for run in runs {
            match crate::records::status::status(db, *run) {
                Ok(status) if statuses.contains(&status) => {}
                Ok(_) | Err(ReadError::UnknownRun { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
            deleting::mark(db, *run)?;
            deleted += 1;
        }
        Ok(deleted)
    }
}

/// The bounds of the runs to look at: their numbers, and the latest time of their last change.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    after: i64,
    before: i64,
    oldest: i64,
}

/// Deletes runs through the writer, a few at a time.
pub(crate) async fn prune(shared: &Arc<Shared>, prune: &Prune) -> Result<Pruned, ChangeError> {
    let (first, now) = (prune.clone(), shared.now_exact());
    let find = move |reader: &Reader| Ok::<_, ChangeError>((first.bounds(reader, now)?, size(&reader.db)?));
    let (mut bounds, before) = shared.read(find).await?;
    let mut pruned = Pruned::default();
    loop {
        let page = prune.clone();
        let next = move |reader: &Reader| Ok::<_, ChangeError>((page.page(reader, &mut bounds)?, bounds));
        let (runs, moved) = shared.read(next).await?;
        bounds = moved;
        if runs.is_empty() {
            break;
        }
        if prune.is_dry() {
            pruned.runs += runs.len() as u64;
            continue;
        }
        let delete = prune.clone();
        pruned.runs += shared.writer.call("prune", move |db| delete.delete(db, &runs)).await?;
        shared.delete_left().await?;
    }
    if prune.is_dry() {
        return Ok(pruned);
    }
    while shared.writer.alone(give_some_back).await? {}
    shared.writer.alone(cut_log).await?;
    let after = shared.read(|reader| size(&reader.db)).await?;
    pruned.bytes = before.saturating_sub(after);
    Ok(pruned)
}
