//! Listing runs a page at a time, at a cost that does not depend on how many there are.

use std::time::SystemTime;

use rusqlite::OptionalExtension;

use crate::{
    records::reader::Reader,
    words::{
        columns::{int, millis},
        error::ReadError,
        info::{Cursor, RunInfo},
        status::Status,
    },
};

/// A filter of the runs that [`Reader::list`] returns, newest first.
///
/// Without further conditions: the newest hundred of all flows, in any status, children of batch flows left out.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The names of flows to take; all flows if it is empty.
    flows: Vec<String>,
    statuses: Vec<Status>,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
    after: Option<Cursor>,
    limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self { flows: Vec::new(), statuses: Vec::new(), since: None, until: None, after: None, limit: 100 }
    }
}

impl Filter {
    /// Creates a filter that takes every run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes runs of this flow only.
    #[must_use]
    pub fn flow(mut self, name: impl Into<String>) -> Self {
        self.flows = vec![name.into()];
        self
    }

    /// Takes runs that are in the store under one of these names of a flow.
    pub(crate) fn flows(mut self, names: Vec<String>) -> Self {
        self.flows = names;
        self
    }

    /// Takes runs in this status; called again, in one of these.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.statuses.push(status);
        self
    }

    /// Takes runs that were started at this time or later.
    #[must_use]
    pub fn since(mut self, at: SystemTime) -> Self {
        self.since = Some(at);
        self
    }

    /// Takes runs that were started before this time.
    #[must_use]
    pub fn until(mut self, at: SystemTime) -> Self {
        self.until = Some(at);
        self
    }

    /// Goes on after the last run of the page before.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Takes at most so many runs; the default is 100.
    #[must_use]
    pub fn limit(mut self, runs: usize) -> Self {
        self.limit = runs;
        self
    }

    fn statuses(&self) -> &[Status] {
        if self.statuses.is_empty() { &Status::ALL } else { &self.statuses }
    }
}

impl Reader {
    /// Returns a page of runs, newest first.
    ///
    /// The cost depends on the page, not on how many runs there are.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<RunInfo>, ReadError> {
        self.at_once(|reader| reader.page(filter))
    }

    fn page(&self, filter: &Filter) -> Result<Vec<RunInfo>, ReadError> {
        let oldest = filter.since.map(|at| self.first_since(at)).transpose()?.unwrap_or(0);
        let newest = filter.until.map(|at| self.first_since(at)).transpose()?.unwrap_or(i64::MAX);
        let newest = newest.min(filter.after.map_or(i64::MAX, |cursor| cursor.0));
        // The index has runs in order only within one flow and status, so each pair of these gets one short walk.
        let mut numbers = Vec::new();
        let mut select = self.db.prepare_cached(
            "SELECT run FROM runs WHERE flow = ?1 AND status = ?2 AND parent IS NULL AND run >= ?3 AND run < ?4
             ORDER BY run DESC LIMIT ?5",
        )?;
        for flow in self.flow_numbers(&filter.flows)? {
            for status in filter.statuses() {
                let rows =
                    select.query_map((flow, status.code(), oldest, newest, int(filter.limit)), |row| row.get(0))?;
                numbers.extend(rows.collect::<rusqlite::Result<Vec<i64>>>()?);
            }
        }
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.dedup();
        numbers.into_iter().take(filter.limit).filter_map(|run| self.info(run).transpose()).collect()
    }

    /// Returns the numbers of the versions of the flows with these names; of all that have runs, if none is given.
    pub(crate) fn flow_numbers(&self, names: &[String]) -> Result<Vec<i64>, ReadError> {
        let mut numbers: Vec<i64> = Vec::new();
        if names.is_empty() {
            // This goes from version to version along the index: each deployment may add a version.
            let mut select = self.db.prepare_cached(
                "WITH RECURSIVE used (flow) AS (
                     SELECT min(flow) FROM runs WHERE parent IS NULL
                     UNION ALL
                     SELECT (SELECT min(flow) FROM runs WHERE parent IS NULL AND flow > used.flow)
                         FROM used WHERE used.flow IS NOT NULL
                 )
                 SELECT flow FROM used WHERE flow IS NOT NULL",
            )?;
            numbers.extend(select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?);
        }
        let mut select = self.db.prepare_cached("SELECT flow FROM flows WHERE name = ?1")?;
        for name in names {
            numbers.extend(select.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?);
        }
        Ok(numbers)
    }

    /// Returns the number of the first run that was started at a time or later. It is found by halving, since numbers
    /// and times grow together.
    fn first_since(&self, at: SystemTime) -> Result<i64, ReadError> {
        let at = millis(at);
        let mut look =
            self.db.prepare_cached("SELECT run, created_at FROM runs WHERE run >= ?1 ORDER BY run LIMIT 1")?;
        let newest: Option<i64> = self.db.query_row("SELECT max(run) FROM runs", [], |row| row.get(0))?;
        let (mut low, mut high) = (0, newest.unwrap_or(0) + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let found =
                look.query_row([middle], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
            match found {
                Some((run, created)) if created < at => low = run + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}
