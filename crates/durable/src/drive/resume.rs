//! Resuming: after a start, every run that is not at an end is checked, and goes on if it can.

use std::{collections::BTreeMap, sync::Arc};

use flowstone_core::RunId;
use rusqlite::Connection;
use serde::Serialize;

use crate::{
    drive::{inbox::read_inbox, shared::Shared},
    records::{
        parked,
        reader::Reader,
        status,
        turns::{self, Turn},
    },
    words::{
        columns::int,
        error::{DriveError, ReadError, Refuses, StatusError},
        status::{Happened, Status},
    },
};

/// The number of runs that are read at once.
const PAGE: usize = 1000;

/// A run, and the reason why it cannot go on; `None` if it can.
pub(super) type Note = (i64, Option<String>);

/// The outcome of resuming runs.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Resumed {
    /// The runs that go on.
    pub runs: Vec<RunId>,
    /// The errors of runs that cannot go on, also of parked ones: their flow or their state has changed too much. These
    /// runs stay as they are.
    pub refused: Vec<DriveError>,
    /// The number of runs that wait for their turn in the store, either because not all can be driven at once, or
    /// because their process died twice in the same visit.
    pub waiting: u64,
    /// The flows that are not registered and have runs that are not at an end. These runs stay as they are, too.
    pub unregistered: Vec<Unregistered>,
}

/// A flow that has runs in the store but is not registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unregistered {
    /// Its name.
    pub flow: String,
    /// The number of its runs that are not at an end.
    pub runs: u64,
}

/// Lets every run of one flow, or of all registered flows, go on that is neither parked nor at an end, and checks the
/// parked ones.
pub(crate) async fn resume_all(shared: &Arc<Shared>, flow: Option<&str>) -> Result<Resumed, DriveError> {
    // Requests that were made while nobody drove the store are done first: a cancelled run must not go on.
    read_inbox(shared).await?;
    let (store, names) = (Arc::clone(shared), shared.flows.names(flow));
    let is_all = flow.is_none();
    // Each run is read in a snapshot of its own: one snapshot for all would show the last runs as they were at the
    // beginning.
    let read = move |reader: &Reader| -> Result<_, DriveError> {
        let mut look = Look::default();
        // Running runs come first, so that they need not wait for the check of the parked ones.
        for status in [Status::Running, Status::Paused, Status::Sleeping] {
            look.at_runs(&store, reader, &names, status)?;
        }
        if is_all {
            look.resumed.unregistered = unregistered(&store, reader)?;
        }
        Ok(look)
    };
    let look = shared.readers.read(read).await?;
    write_down(shared, look).await
}

/// Tries the runs again that the flow could not take before its present registration.
pub(crate) async fn try_again(shared: &Arc<Shared>, flow: &str) -> Result<(), DriveError> {
    let (store, names) = (Arc::clone(shared), shared.flows.names(Some(flow)));
    let read = move |reader: &Reader| -> Result<_, DriveError> {
        let mut look = Look { only_refused: true, ..Look::default() };
        look.at_runs(&store, reader, &names, Status::Paused)?;
        look.at_runs(&store, reader, &names, Status::Sleeping)?;
        look.at_queued(&store, reader, &names)?;
        Ok(look)
    };
    let look = shared.readers.read(read).await?;
    write_down(shared, look).await.map(drop)
}

/// A check of the runs of a store that are not at an end.
#[derive(Default)]
struct Look {
    only_refused: bool,
    resumed: Resumed,
    /// Notes to write down: the reason why a run cannot go on, or that it can now.
    notes: Vec<Note>,
    /// Paused runs that have their answer already.
    answered: Vec<i64>,
}

/// A run as the check found it.
struct Found {
    run: i64,
    id: RunId,
    refused: bool,
}

impl Look {
    /// Checks the runs of some flows in one status, a page at a time.
    fn at_runs(
        &mut self,
        shared: &Arc<Shared>,
        reader: &Reader,
        flows: &[String],
        status: Status,
    ) -> Result<(), DriveError> {
        for flow in reader.flow_numbers(flows)? {
            let mut after = 0;
            loop {
                let page = page(reader, (flow, status), after, self.only_refused)?;
                let Some(last) = page.last() else { break };
                after = last.run;
                let page = if status == Status::Running { self.take_up(shared, reader, page)? } else { page };
                for found in page {
                    self.at_run(shared, reader, found, status);
                }
            }
        }
        Ok(())
    }

    /// Checks the runs that could not go on when their turn came. If their flow takes them now, they wait for a turn
    /// again.
    fn at_queued(&mut self, shared: &Shared, reader: &Reader, flows: &[String]) -> Result<(), DriveError> {
        for flow in reader.flow_numbers(flows)? {
            let mut after = 0;
            loop {
                let page = page(reader, (flow, Status::Running), after, true)?;
                let Some(last) = page.last() else { break };
                after = last.run;
                for Found { run, .. } in page {
                    if !turns::is_queued(&reader.db, run)? {
                        continue;
                    }
                    match reader.at_once(|reader| shared.flows.check(reader, run)) {
                        Ok(()) => self.notes.push((run, None)),
                        Err(error) => self.notes.extend(error.refusal().map(|why| (run, Some(why)))),
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes up those of a page of runs that have to wait for their turn, or whose deaths are counted first. Returns
    /// the other runs, and those that begin now, so that no waiting run gets a task.
    fn take_up(&mut self, shared: &Arc<Shared>, reader: &Reader, page: Vec<Found>) -> Result<Vec<Found>, DriveError> {
        let (mut rest, mut asks) = (Vec::new(), Vec::new());
        for found in page {
            if shared.is_active(found.run) {
                continue;
            }
            match reader.at_once(|reader| shared.is_asked(reader, found.run)) {
                Ok(Some(terms)) => asks.push((found, terms)),
                Ok(None) => rest.push(found),
                Err(error) => {
                    self.notes.extend(error.refusal().map(|why| (found.run, Some(why))));
                    self.resumed.refused.push(error);
                }
            }
        }
        if asks.is_empty() {
            return Ok(rest);
        }
        let runs: Vec<_> = asks.iter().map(|(found, terms)| (found.run, *terms)).collect();
        let take_up = move |db: &Connection| {
            runs.iter().map(|(run, terms)| turns::take_up(db, *run, *terms)).collect::<Result<Vec<_>, StatusError>>()
        };
        let turns = shared.writer.call_blocking("begin", take_up)?;
        for ((found, _), turn) in asks.into_iter().zip(turns) {
            match turn {
                Turn::Begins => rest.push(found),
                Turn::Waits => self.resumed.waiting += 1,
                Turn::Failed => {
                    shared.tell_stopped_soon(found.run);
                    self.resumed.refused.push(shared.why_failed(reader, found.run)?);
                }
                Turn::Gone => {}
            }
        }
        shared.wakes.notify_one();
        Ok(rest)
    }

    fn at_run(&mut self, shared: &Arc<Shared>, reader: &Reader, found: Found, status: Status) {
        let Found { run, id, refused } = found;
        let goes_on = match status {
            Status::Running => shared.resume_here(reader, run),
            _ => reader.at_once(|reader| {
                shared.flows.check(reader, run)?;
                let answered = if refused { parked::answered(&reader.db, run)? } else { Vec::new() };
                let goes_on = !answered.is_empty();
                self.answered.extend(answered);
                Ok(goes_on)
            }),
        };
        if refused && status != Status::Running && goes_on.is_ok() {
            // A sleeping run that is due is found again when runs are woken.
            self.notes.push((run, None));
        }
        match goes_on {
            Ok(true) => self.resumed.runs.push(id),
            Ok(false) => {}
            // One damaged run must not hold up the others.
            Err(error) => {
                self.notes.extend(error.refusal().map(|why| (run, Some(why))));
                self.resumed.refused.push(error);
            }
        }
    }
}

/// Reads a page of the runs of one version of a flow in one status.
fn page(
    reader: &Reader,
    (flow, status): (i64, Status),
    after: i64,
    only_refused: bool,
) -> Result<Vec<Found>, DriveError> {
    let sql = if only_refused {
        "SELECT run, id, refused IS NOT NULL FROM runs INDEXED BY runs_by_refused
         WHERE flow = ?1 AND status = ?2 AND run > ?3 AND refused IS NOT NULL AND parent IS NULL ORDER BY run LIMIT ?4"
    } else {
        "SELECT run, id, refused IS NOT NULL FROM runs
         WHERE flow = ?1 AND status = ?2 AND parent IS NULL AND run > ?3 ORDER BY run LIMIT ?4"
    };
    let mut select = reader.db.prepare_cached(sql)?;
    let page = select.query_map((flow, status.code(), after, int(PAGE)), |row| {
        let id = RunId::from(row.get::<_, String>(1)?);
        Ok(Found { run: row.get(0)?, id, refused: row.get(2)? })
    })?;
    Ok(page.collect::<rusqlite::Result<_>>()?)
}

/// Counts the runs that are not at an end and have no registered flow.
fn unregistered(shared: &Shared, reader: &Reader) -> Result<Vec<Unregistered>, DriveError> {
    let mut named = reader.db.prepare_cached("SELECT name FROM flows WHERE flow = ?1")?;
    let mut count =
        reader.db.prepare_cached("SELECT count(*) FROM runs WHERE flow = ?1 AND status = ?2 AND parent IS NULL")?;
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for flow in reader.flow_numbers(&[])? {
        let name: String = named.query_row([flow], |row| row.get(0))?;
        if shared.flows.get(&name).is_some() {
            continue;
        }
        for status in [Status::Running, Status::Paused, Status::Sleeping] {
            let runs: i64 = count.query_row((flow, status.code()), |row| row.get(0))?;
            if runs > 0 {
                *found.entry(name.clone()).or_default() += runs.unsigned_abs();
            }
        }
    }
    Ok(found.into_iter().map(|(flow, runs)| Unregistered { flow, runs }).collect())
}

/// Writes the notes down, and lets the runs go on that have an answer.
async fn write_down(shared: &Arc<Shared>, look: Look) -> Result<Resumed, DriveError> {
    let Look { resumed, notes, answered, .. } = look;
    let fit: Vec<i64> = notes.iter().filter(|(_, why)| why.is_none()).map(|(run, _)| *run).collect();
    note(shared, notes).await?;
    // Waiters for these runs no longer get the old reason.
    fit.into_iter().for_each(|run| shared.tell(run, None));
    for run in answered {
        // A run that was cancelled or deleted in the meantime does not go on.
        match shared.writer.call("resume", move |db| parked::go_on(db, run, Happened::Answered)).await {
            Ok(goes_on) => shared.go_on(&goes_on),
            Err(StatusError::Wrong(_) | StatusError::Read(ReadError::UnknownRun { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    shared.wakes.notify_one();
    Ok(resumed)
}

/// Writes down the reasons why runs cannot go on, or that they can.
pub(super) async fn note(shared: &Shared, mut notes: Vec<Note>) -> Result<(), StatusError> {
    while !notes.is_empty() {
        let rest = notes.split_off(notes.len().min(PAGE));
        let some = std::mem::replace(&mut notes, rest);
        let write = move |db: &Connection| -> Result<(), StatusError> {
            some.iter().try_for_each(|(run, why)| match why {
                Some(why) => status::refuse(db, *run, why),
                None => Ok(status::accept(db, *run)?),
            })
        };
        shared.writer.call("refused", write).await?;
    }
    Ok(())
}
