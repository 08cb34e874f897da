//! Turns, for runs that cannot all be driven at once: those beyond a limit, and those that may kill their process.
//!
//! ```text
//! runs ─▶ take_up ─┬─ begins
//!                  └─ waits: runs.queued_at ─▶ due ─▶ choose ─▶ Place ─▶ begins
//! ```
//!
//! A waiting run is only a mark in the store: it has no task and takes no memory. Children have no turns: they belong
//! to the run that the user started.
//!
//! If a run was under way when its process died, the death is counted when the run is taken up again. After two deaths
//! in one visit the run is a *suspect*. Suspects are taken up one at a time, those with the fewest deaths first, so
//! that the next death is counted for the run that was being driven. The reasons are in
//! `docs/decisions/0022-suspects-run-one-at-a-time.md`.

use std::collections::BTreeMap;

use flowstone_core::{NodePath, RunId};
use rusqlite::{Connection, OptionalExtension};

use crate::{
    records::{
        deleting, ids,
        status::{self, Change},
    },
    words::{
        columns::int,
        error::{DriveError, StatusError, StoreError},
        info::RunFailure,
        status::{Happened, Status},
    },
};

/// The number of deaths in a visit from which on its run is a suspect. The indexes of the store have the same number.
pub(crate) const SUSPECT: i64 = 2;

/// The terms on which a run is taken up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Its turn has come.
    pub(crate) is_placed: bool,
    /// There is a limit, of its flow or of the store.
    pub(crate) is_limited: bool,
    /// The process that drove the store before has died.
    pub(crate) died: bool,
    /// The number of times that a visit may be begun again after a death.
    pub(crate) max_resumes: u32,
    /// The time since which it is due, in milliseconds since 1970; `None` stands for the time at which its status
    /// changed.
    pub(crate) since: Option<i64>,
}

/// The outcome of taking up a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It begins.
    Begins,
    /// It waits in the store.
    Waits,
    /// It failed: its process has died too often.
    Failed,
    /// It was cancelled or deleted since it was read.
    Gone,
}

/// The row of a run when it is taken up.
struct Found {
    is_queued: bool,
    /// `true` if its row still says why the run could not go on, or which status it had before.
    is_refused: bool,
    /// The number of the driver that let it run, if one did.
    epoch: Option<i64>,
    mine: i64,
    changed_at: i64,
    /// The step that its visit under way will be.
    seq: i64,
    resumes: i64,
    resumed_seq: Option<i64>,
    resumed_kept: i64,
}

/// Takes up a run whose status is `Running` and that was just read back: it begins, or waits for its turn.
pub(crate) fn take_up(db: &Connection, run: i64, terms: Terms) -> Result<Turn, StatusError> {
    let Some(found) = find(db, run)? else { return Ok(Turn::Gone) };
    if deleting::is_gone(db, run)? {
        return Ok(Turn::Gone);
    }
    if found.is_refused {
        status::accept(db, run)?;
    }
    if terms.is_placed {
        let mut update = db.prepare_cached("UPDATE runs SET queued_at = NULL, epoch = ?2 WHERE run = ?1")?;
        update.execute((run, found.mine))?;
        return Ok(Turn::Begins);
    }
    if found.is_queued {
        return Ok(Turn::Waits);
    }
    let same_visit = found.resumed_seq == Some(found.seq);
    let (mut resumes, mut kept) = if same_visit { (found.resumes, found.resumed_kept) } else { (0, 0) };
    // A run that was let run by this process, or by a request, was not under way when the last process died.
    let was_begun = found.epoch.is_some_and(|epoch| epoch != found.mine);
    if terms.died && was_begun {
        let now = count_kept(db, run, found.seq)?;
        resumes = if same_visit && now <= kept { resumes + 1 } else { 1 };
        kept = now;
        if resumes > i64::from(terms.max_resumes) {
            fail(db, run, resumes)?;
            return Ok(Turn::Failed);
        }
    }
    let waits = terms.is_limited || resumes >= SUSPECT;
    // A run that an earlier process had begun comes before all others.
    let due = if was_begun { 0 } else { terms.since.unwrap_or(found.changed_at) };
    let mut update = db.prepare_cached(
        "UPDATE runs SET resumes = ?2, resumed_seq = ?3, resumed_kept = ?4, queued_at = ?5, epoch = ?6 WHERE run = ?1",
    )?;
    update.execute((run, resumes, found.seq, kept, waits.then_some(due), found.mine))?;
    Ok(if waits { Turn::Waits } else { Turn::Begins })
}

fn find(db: &Connection, run: i64) -> Result<Option<Found>, StoreError> {
    let mut select = db.prepare_cached(
        "SELECT queued_at IS NOT NULL, refused IS NOT NULL OR was IS NOT NULL, epoch,
             (SELECT epoch FROM owner WHERE one = 1), changed_at,
             1 + (SELECT max(seq) FROM visits WHERE visits.run = runs.run), resumes, resumed_seq, resumed_kept
         FROM runs WHERE run = ?1 AND status = ?2",
    )?;
    let found = select.query_row((run, Status::Running.code()), |row| {
        Ok(Found {
            is_queued: row.get(0)?,
            is_refused: row.get(1)?,
            epoch: row.get(2)?,
            mine: row.get(3)?,
            changed_at: row.get(4)?,
            seq: row.get::<_, Option<i64>>(5)?.unwrap_or_default(),
            resumes: row.get(6)?,
            resumed_seq: row.get(7)?,
            resumed_kept: row.get::<_, Option<i64>>(8)?.unwrap_or_default(),
        })
    });
    Ok(found.optional()?)
}

/// Returns `true` if a run waits for its turn.
pub(crate) fn is_queued(db: &Connection, run: i64) -> Result<bool, StoreError> {
    Ok(db.prepare_cached("SELECT 1 FROM runs WHERE run = ?1 AND queued_at IS NOT NULL")?.exists([run])?)
}

/// Returns the number of rows that a visit under way has kept: its items, and the steps and items of its children.
fn count_kept(db: &Connection, run: i64, seq: i64) -> Result<i64, StoreError> {
    let mut items =
        db.prepare_cached("SELECT count(*) FROM items WHERE run = ?1 AND seq = ?2 AND output IS NOT NULL")?;
    let mut kept: i64 = items.query_row((run, seq), |row| row.get(0))?;
    let mut children = db.prepare_cached(
        "SELECT run, status, (SELECT max(seq) FROM visits WHERE visits.run = runs.run) FROM runs
         WHERE parent = ?1 AND parent_seq = ?2 AND parent IS NOT NULL",
    )?;
    let rows = children.query_map((run, seq), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?.unwrap_or_default()))
    })?;
    for (child, status, last) in rows.collect::<rusqlite::Result<Vec<_>>>()? {
        kept += 1 + last;
        if status != Status::Ended.code() {
            kept += count_kept(db, child, last + 1)?;
        }
    }
    Ok(kept)
}

/// Marks a run as failed whose process has died too often.
fn fail(db: &Connection, run: i64, deaths: i64) -> Result<(), StatusError> {
    let mut next = db.prepare_cached("SELECT next FROM visits WHERE run = ?1 ORDER BY seq DESC LIMIT 1")?;
    let next: Option<Option<String>> = next.query_row([run], |row| row.get(0)).optional()?;
    let node = NodePath::from(next.flatten().unwrap_or_default());
    let id = ids::id_of(db, run)?;
    let deaths = u32::try_from(deaths).unwrap_or(u32::MAX);
    let error = RunFailure::of_deaths(&id, node, deaths);
    status::change(db, run, Happened::Failed, &Change { error: Some(error), ..Change::default() })
}

impl RunFailure {
    pub(crate) fn of_deaths(run: &RunId, node: NodePath, deaths: u32) -> Self {
        let error = DriveError::KillsItsProcess { run: run.clone(), node: node.clone(), deaths };
        Self { node, message: error.to_string(), attempts: 0, item: None, terminal: true, deaths: Some(deaths) }
    }
}

/// A flow of which runs may be due.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The name under which the store has the runs.
    pub(crate) stored: String,
    /// The name of the flow.
    pub(crate) flow: String,
    /// The number of runs that are looked at.
    pub(crate) page: usize,
}

/// A run whose turn may be now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    /// The time since which it waits, in milliseconds since 1970.
    pub(crate) due: i64,
    pub(crate) run: i64,
}

/// The runs that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// By flow, in the order in which they are due.
    pub(crate) runs: BTreeMap<String, Vec<Candidate>>,
    /// The suspect with the fewest deaths of each flow: its deaths and its run.
    pub(crate) suspects: BTreeMap<String, (i64, i64)>,
    /// `true` if more runs may wait than were looked at.
    pub(crate) is_full: bool,
}

/// Finds the runs that wait for their turn. It takes one flow at a time, along the indexes, and reads no runs of other
/// flows.
pub(crate) fn due(db: &Connection, flows: &[Wanted]) -> Result<Due, StoreError> {
    let mut versions = db.prepare_cached("SELECT flow FROM flows WHERE name = ?1")?;
    let mut queued = db.prepare_cached(
        "SELECT run, queued_at FROM runs INDEXED BY runs_by_turn
         WHERE flow = ?1 AND queued_at IS NOT NULL AND resumes < 2 AND refused IS NULL ORDER BY queued_at LIMIT ?2",
    )?;
    let mut suspects = db.prepare_cached(
        "SELECT resumes, run FROM runs INDEXED BY runs_by_deaths
         WHERE flow = ?1 AND queued_at IS NOT NULL AND resumes >= 2 AND refused IS NULL ORDER BY resumes, run LIMIT 1",
    )?;
    let mut found = Due::default();
    for Wanted { stored, flow, page } in flows {
        let versions = versions.query_map([stored], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
        for version in versions {
            let rows =
                queued.query_map((version, int(*page)), |row| Ok(Candidate { run: row.get(0)?, due: row.get(1)? }))?;
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            found.is_full |= rows.len() == *page;
            found.runs.entry(flow.clone()).or_default().extend(rows);
            let suspect = suspects.query_row([version], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            if let Some(suspect) = suspect {
                let first = found.suspects.entry(flow.clone()).or_insert(suspect);
                *first = suspect.min(*first);
            }
        }
    }
    found.runs.values_mut().for_each(|runs| runs.sort_unstable());
    Ok(found)
}
