//! Wakes: the driver lets runs go on whose time or turn has come.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rusqlite::{Connection, Row};

use crate::{
    drive::{
        resume::{Note, note},
        shared::Shared,
        storage::AGAIN,
    },
    flows::fitness::Fit,
    records::{
        deleting,
        parked::{self, GoesOn},
        reader::Reader,
        status::status,
        turns::{self, Terms},
    },
    words::{
        columns,
        error::{DriveError, ReadError, Refuses},
        status::Status,
        waits::{LOOK, Moment},
    },
};

/// The wait before the next look, if more runs are due than are woken at once.
const SOON: Duration = Duration::from_millis(20);

/// The number of runs that are read at once.
const PAGE: usize = 1000;

/// Lets runs go on whose time has come, until the store is closed.
pub(crate) async fn watch(shared: Arc<Shared>) {
    shared
        .until_closed(async {
            loop {
                let wait = match wake(&shared).await {
                    Ok(wait) => wait,
                    Err(error) => {
                        tracing::warn!(target: "flowstone", %error, "sleeping runs could not be woken");
                        AGAIN
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shared.wakes.notified() => {}
                }
            }
        })
        .await;
}

/// Lets the runs go on whose time or turn has come, and returns the time until there may be more.
///
/// A sleeping run is read back before its status changes. If its flow cannot take it, it sleeps on, and is not found
/// again until a flow is registered.
async fn wake(shared: &Arc<Shared>) -> Result<Duration, DriveError> {
    let flows = sleeping(shared);
    if flows.is_empty() {
        return Ok(LOOK);
    }
    let (wanted, now) = (shared.wanted(), shared.moment());
    let look = move |reader: &Reader| {
        Ok::<_, DriveError>((next_wakes(&reader.db, &flows, now)?, turns::due(&reader.db, &wanted)?))
    };
    let (due, waiting) = shared.read(look).await?;
    let mut more = shared.give_places(waiting) || due.is_full;
    if !due.runs.is_empty() {
        more |= set_all_awake(shared, due.runs, now).await?;
    }
    if more {
        return Ok(SOON); // there may be more behind them
    }
    let until = due.next.map_or(LOOK, |wait| Duration::from_millis(u64::try_from(wait).unwrap_or_default()));
    Ok(until.min(LOOK))
}

/// Returns the names of flows whose runs may wake, and the terms on which these go on if not all can at once.
fn sleeping(shared: &Shared) -> Vec<(String, Option<Terms>)> {
    let terms = |name: &String| {
        let flow = shared.flows.get(name).filter(|flow| shared.is_limited(&**flow))?;
        Some(shared.terms(&*flow))
    };
    let names = shared.flows.names(None);
    names.into_iter().map(|name| (terms(&name), name)).map(|(terms, name)| (name, terms)).collect()
}

/// Lets runs go on whose time has come; returns `true` if some of them wait for their turn.
async fn set_all_awake(shared: &Arc<Shared>, due: Vec<Sleeper>, now: Moment) -> Result<bool, DriveError> {
    let store = Arc::clone(shared);
    let (fit, notes) = shared.read(move |reader| fitting(&store, reader, due, now)).await?;
    note(shared, notes).await?;
    let roots: BTreeSet<i64> = fit.iter().map(|sleeper| sleeper.root).collect();
    let woken = match shared.writer.call("wake", move |db| set_awake(db, fit, now)).await {
        Ok(woken) => woken,
        Err(error) => {
            // This is tried again; in the meantime the waiters are told why nothing goes on.
            let parked = roots.into_iter().filter(|root| !shared.is_active(*root));
            parked.for_each(|root| shared.tell(root, Some(error.clone())));
            return Err(error);
        }
    };
    let mut waits = false;
    for Awake { goes_on, is_queued } in woken {
        waits |= is_queued;
        if is_queued && !shared.is_active(goes_on.root) {
            // The run has no task until its turn comes.
            shared.tell(goes_on.root, None);
        } else {
            shared.go_on(&goes_on);
        }
    }
    Ok(waits)
}

/// Returns the runs whose flows can take them, and the reasons why the others, and the runs around those, cannot go on.
fn fitting(
    shared: &Shared,
    reader: &Reader,
    mut due: Vec<Sleeper>,
    now: Moment,
) -> Result<(Vec<Sleeper>, Vec<Note>), DriveError> {
    let (mut fit, mut notes) = (Vec::with_capacity(due.len()), Vec::new());
    // A run with many such children is read only once.
    let mut last: Option<(i64, Fit)> = None;
    let mut seen = BTreeSet::new();
    due.reverse(); // so that the first is taken first
    while let Some(sleeper) = due.pop() {
        let run = sleeper.run;
        if !seen.insert(run) {
            continue;
        }
        match status(&reader.db, run) {
            Ok(Status::Paused | Status::Sleeping) => {}
            // The run was answered, cancelled or deleted after it was found.
            Ok(_) | Err(ReadError::UnknownRun { .. }) => continue,
            Err(error) => return Err(error.into()),
        }
        // A run that waits for its children goes on with them.
        let children = parked::due_children(&reader.db, run, now)?;
        if !children.is_empty() {
            due.extend(children.into_iter().rev().map(|run| Sleeper { run, ..sleeper }));
            continue;
        }
        let root = parked::root_of(&reader.db, run)?;
        let known = last.take().filter(|(known, _)| *known == root).map(|(_, fit)| Ok(fit));
        let checked = known.unwrap_or_else(|| shared.flows.check_alone(reader, root)).and_then(|fit| {
            let checked = shared.flows.check_line(reader, &fit, run);
            last = Some((root, fit));
            checked
        });
        match checked {
            Ok(()) => fit.push(Sleeper { root, ..sleeper }),
            Err(error) => {
                let Some(why) = error.refusal() else { return Err(error) };
                notes.push((run, Some(why.clone())));
                // A driven run is told, in case it waits for this child.
                if !shared.is_active(root) {
                    notes.push((root, Some(why)));
                    shared.tell(root, Some(error));
                }
            }
        }
    }
    Ok((fit, notes))
}

/// A run that was woken.
struct Awake {
    goes_on: GoesOn,
    /// `true` if the run that the user started waits for its turn.
    is_queued: bool,
}

/// Marks sleeping runs, and runs whose questions expire, as running; other runs were cancelled or deleted a moment ago.
/// If not all can run at once, the run that the user started waits for its turn, unless it was running already.
fn set_awake(db: &Connection, due: Vec<Sleeper>, now: Moment) -> Result<Vec<Awake>, DriveError> {
    let mut awake = Vec::with_capacity(due.len());
    for Sleeper { wait, run, terms, .. } in due {
        if deleting::is_gone(db, run)? {
            continue;
        }
        let was_parked = match status(db, parked::root_of(db, run)?) {
            Ok(status) => status != Status::Running,
            Err(ReadError::UnknownRun { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(goes_on) = parked::wake(db, run, now)? else { continue };
        if let Some(terms) = terms.filter(|_| was_parked) {
            let terms = Terms { since: Some(columns::now().saturating_add(wait)), ..terms };
            turns::take_up(db, goes_on.root, terms)?;
        }
        let is_queued = turns::is_queued(db, goes_on.root)?;
        awake.push(Awake { goes_on, is_queued });
    }
    Ok(awake)
}

/// A run that wakes.
#[derive(Clone, Copy)]
struct Sleeper {
    /// The milliseconds until it wakes; less than 0 if its time has come.
    wait: i64,
    run: i64,
    /// The run that the user started, once that is known.
    root: i64,
    /// The terms on which it goes on, if not all can at once.
    terms: Option<Terms>,
}

struct Due {
    runs: Vec<Sleeper>,
    /// `true` if more may be due.
    is_full: bool,
    /// The milliseconds until the next run wakes.
    next: Option<i64>,
}

/// Finds the runs whose time has come, by the clock or by the store's ticks.
fn next_wakes(db: &Connection, flows: &[(String, Option<Terms>)], now: Moment) -> Result<Due, DriveError> {
    let mut versions = db.prepare_cached("SELECT flow FROM flows WHERE name = ?1")?;
    // This takes one flow at a time, along the index, so that sleeping runs of other flows are not read.
    let mut by_clock = db.prepare_cached(
        "SELECT run, wake_at FROM runs INDEXED BY runs_by_wake
         WHERE flow = ?1 AND wake_at IS NOT NULL AND refused IS NULL ORDER BY wake_at LIMIT ?2",
    )?;
    let mut by_ticks = db.prepare_cached(
        "SELECT run, wake_tick FROM runs INDEXED BY runs_by_tick
         WHERE flow = ?1 AND wake_tick IS NOT NULL AND refused IS NULL ORDER BY wake_tick LIMIT ?2",
    )?;
    let mut first: Vec<Sleeper> = Vec::new();
    for (name, terms) in flows {
        let versions = versions.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
        for version in versions {
            for (select, now) in [(&mut by_clock, now.clock), (&mut by_ticks, now.ticks)] {
                let sleeper = |row: &Row<'_>| {
                    let wait = row.get::<_, i64>(1)?.saturating_sub(now);
                    let run = row.get(0)?;
                    Ok(Sleeper { wait, run, root: run, terms: *terms })
                };
                let rows = select.query_map((version, columns::int(PAGE)), sleeper)?;
                first.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
            }
        }
    }
    first.sort_unstable_by_key(|sleeper| (sleeper.wait, sleeper.run));
    first.truncate(PAGE);
    let due = first.partition_point(|sleeper| sleeper.wait <= 0);
    let mut seen = BTreeSet::new();
    let next = first.get(due).map(|sleeper| sleeper.wait);
    first.truncate(due);
    first.retain(|sleeper| seen.insert(sleeper.run));
    Ok(Due { next, runs: first, is_full: due == PAGE })
}
