//! What a driver does unasked: it goes on with runs that wake, and does what other processes ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flowstone_core::RunId;
use rusqlite::{Connection, Row};

use crate::{
    api::runs::{Resumed, Unregistered},
    drive::{control, observer::lock, shared::Shared},
    flows::fitness::Fit,
    records::{
        deleting,
        load::damaged,
        parked::{self, GoesOn},
        reader::Reader,
        rows::{self, id_of},
        turns::{self, Terms, Turn},
    },
    words::{
        error::{Error, StoreFault},
        status::Status,
        waits::{LOOK, Moment},
    },
};

/// How often the inbox is looked at: what is asked for takes effect within 100 ms.
const INBOX: Duration = Duration::from_millis(50);

/// How long to wait before another look at a store that could not be read or written.
const AGAIN: Duration = Duration::from_millis(200);

/// How long to wait before another look where more runs are due than are woken at once.
const SOON: Duration = Duration::from_millis(20);

/// How many runs are read at once when all are resumed, or woken.
const PAGE: usize = 1000;

/// Does what other processes ask for, until the store is closed.
pub(crate) async fn inbox(shared: Arc<Shared>) {
    until_closed(&shared, async {
        loop {
            tokio::time::sleep(INBOX).await;
            if let Err(error) = read_inbox(&shared).await {
                tracing::warn!(target: "flowstone", %error, "the inbox could not be read");
                tokio::time::sleep(AGAIN).await;
            }
        }
    })
    .await;
}

/// Goes on with runs whose time has come, until the store is closed.
pub(crate) async fn wakes(shared: Arc<Shared>) {
    until_closed(&shared, async {
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

async fn until_closed(shared: &Shared, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = shared.halt.cancelled() => {}
    }
}

/// Deletes what deleted runs have left, unless the store is closed before.
pub(crate) async fn delete_left(shared: Arc<Shared>) {
    until_closed(&shared, async {
        if let Err(error) = shared.delete_left().await {
            tracing::warn!(target: "flowstone", %error, "what deleted runs have left could not be deleted");
        }
    })
    .await;
}

/// Something that another process asks for.
#[derive(Clone)]
struct Request {
    request: i64,
    run: i64,
    what: String,
    /// The run's flow, if the run is still there.
    flow: Option<String>,
}

/// A place in the inbox: requests before it that were left there are not read again until there is a reason.
#[derive(Default)]
pub(crate) struct Inbox {
    /// The last request that was looked at.
    seen: i64,
    /// Grows when all are to be looked at again.
    round: u64,
    /// Cancellations of runs that are driven, looked at again until these have come to a halt.
    again: Vec<Request>,
}

impl Inbox {
    /// Lets all requests be looked at again: some of them may wait for a flow that is registered now.
    pub(crate) fn look_again(&mut self) {
        *self = Self { round: self.round + 1, ..Self::default() };
    }
}

/// Does what the inbox holds. That a run goes on waits for its flow; the rest needs none.
pub(crate) async fn read_inbox(shared: &Arc<Shared>) -> Result<(), Error> {
    let again = std::mem::take(&mut lock(&shared.inbox).again);
    let mut page = again.clone();
    if let Err(error) = do_requests(shared, again).await {
        lock(&shared.inbox).again.append(&mut page);
        return Err(error);
    }
    loop {
        let (after, round) = {
            let inbox = lock(&shared.inbox);
            (inbox.seen, inbox.round)
        };
        let page = shared.read(move |reader| requests(&reader.db, after)).await?;
        let Some(last) = page.last().map(|last| last.request) else { return Ok(()) };
        do_requests(shared, page).await?;
        // Unless all are to be looked at again.
        let mut inbox = lock(&shared.inbox);
        if inbox.round == round {
            inbox.seen = inbox.seen.max(last);
        }
    }
}

/// Does what is asked for, and takes it out of the inbox.
async fn do_requests(shared: &Arc<Shared>, requests: Vec<Request>) -> Result<(), Error> {
    let (mut done, mut cancelled) = (Vec::new(), Vec::new());
    for asked in requests {
        let Request { request, run, what, flow } = &asked;
        let (request, run) = (*request, *run);
        let result = match flow {
            // One that is driven is looked at again when it has come to a halt: nobody else waits for that.
            Some(_) if what == "cancel" && shared.cancel(run).is_some() => {
                lock(&shared.inbox).again.push(asked);
                continue;
            }
            Some(_) if what == "cancel" => control::cancel(shared, run).await,
            Some(flow) if shared.flows.get(flow).is_none() => continue,
            Some(_) => {
                if what == "cancelled" {
                    cancelled.push(run);
                }
                let goes_on = shared.writer.alone(move |db| parked::goes_on(db, run)).await?;
                shared.go_on(&goes_on);
                Ok(())
            }
            // It was deleted; whoever did that may have ended in the middle of it.
            None => {
                shared.tell(run, None);
                shared.delete_left().await
            }
        };
        match result {
            Err(Error::Store(error)) if error.fault() != StoreFault::Corrupt => return Err(error.into()),
            // What cannot be done, since it was done or the run is at an end, is not asked for again.
            Ok(()) | Err(_) => done.push(request),
        }
    }
    if done.is_empty() {
        return Ok(());
    }
    let delete = move |db: &Connection| {
        let mut delete = db.prepare_cached("DELETE FROM inbox WHERE request = ?1")?;
        done.iter().try_for_each(|request| delete.execute([request]).map(drop))?;
        Ok(())
    };
    shared.writer.call("inbox", delete).await?;
    // After the request is gone, so that no later process tells of it again.
    for run in cancelled {
        shared.tell_stopped(run).await;
    }
    Ok(())
}

fn requests(db: &Connection, after: i64) -> Result<Vec<Request>, Error> {
    let mut select = db.prepare_cached(
        "SELECT request, inbox.run, what, name FROM inbox LEFT JOIN runs USING (run) LEFT JOIN flows USING (flow)
         WHERE request > ?1 ORDER BY request LIMIT ?2",
    )?;
    let rows = select.query_map((after, rows::int(PAGE)), |row| {
        Ok(Request { request: row.get(0)?, run: row.get(1)?, what: row.get(2)?, flow: row.get(3)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the status of a run that was there a moment ago.
pub(crate) fn status(db: &Connection, run: i64) -> Result<Status, Error> {
    let mut select = db.prepare_cached("SELECT status FROM runs WHERE run = ?1")?;
    match rusqlite::OptionalExtension::optional(select.query_row([run], |row| row.get(0)))? {
        Some(code) => Status::of_code(code).ok_or_else(|| damaged(format!("a run with status {code}"))),
        None => Err(Error::UnknownRun { run: id_of(db, run)? }),
    }
}

/// Goes on with the runs whose time or turn has come, and returns how long until there may be more.
///
/// A sleeper is read back before it is awake. Those that their flow cannot take sleep on, and are not found again until a flow
/// is registered.
async fn wake(shared: &Arc<Shared>) -> Result<Duration, Error> {
    let flows = sleeping(shared);
    if flows.is_empty() {
        return Ok(LOOK);
    }
    let (wanted, now) = (shared.wanted(), shared.moment());
    let look = move |reader: &Reader| Ok((next_wakes(&reader.db, &flows, now)?, turns::due(&reader.db, &wanted)?));
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

/// Returns the names of flows whose runs may wake, and on what terms these go on where not all can at once.
fn sleeping(shared: &Shared) -> Vec<(String, Option<Terms>)> {
    let terms = |name: &String| {
        let flow = shared.flows.get(name).filter(|flow| shared.is_limited(&**flow))?;
        Some(shared.terms(&*flow))
    };
    let names = shared.flows.names(None);
    names.into_iter().map(|name| (terms(&name), name)).map(|(terms, name)| (name, terms)).collect()
}

/// Goes on with runs whose time has come; returns whether some of them wait for their turn.
async fn set_all_awake(shared: &Arc<Shared>, due: Vec<Sleeper>, now: Moment) -> Result<bool, Error> {
    let store = Arc::clone(shared);
    let (fit, notes) = shared.read(move |reader| fitting(&store, reader, due, now)).await?;
    note(shared, notes).await?;
    let woken = shared.writer.call("wake", move |db| set_awake(db, fit, now)).await?;
    let mut waits = false;
    for Awake { goes_on, is_queued } in woken {
        waits |= is_queued;
        if is_queued && !shared.is_active(goes_on.root) {
            // It has no task until its turn comes.
            shared.tell(goes_on.root, None);
        } else {
            shared.go_on(&goes_on);
        }
    }
    Ok(waits)
}

/// Returns those of the runs whose flows can take them, and why the others, and the runs around them, cannot go on.
fn fitting(
    shared: &Shared,
    reader: &Reader,
    mut due: Vec<Sleeper>,
    now: Moment,
) -> Result<(Vec<Sleeper>, Vec<Note>), Error> {
    let (mut fit, mut notes) = (Vec::with_capacity(due.len()), Vec::new());
    // Of many children of one run, that is read once.
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
            // Since it was found, it was answered, cancelled or deleted.
            Ok(_) | Err(Error::UnknownRun { .. }) => continue,
            Err(error) => return Err(error),
        }
        // A run that waits for its children goes on with them.
        let children = parked::due_children(&reader.db, run, now)?;
        if !children.is_empty() {
            due.extend(children.into_iter().rev().map(|run| Sleeper { run, ..sleeper }));
            continue;
        }
        let root = parked::root_of(&reader.db, run)?;
        let known = last.take().filter(|(known, _)| *known == root).map(|(_, fit)| Ok(fit));
        let checked = known.unwrap_or_else(|| shared.check_alone(reader, root)).and_then(|fit| {
            let checked = shared.check_line(reader, &fit, run);
            last = Some((root, fit));
            checked
        });
        match checked {
            Ok(()) => fit.push(sleeper),
            Err(error) => {
                let Some(why) = error.refusal() else { return Err(error) };
                notes.push((run, Some(why.clone())));
                // One that is driven is told when it waits for this child.
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

/// Marks those runs as running that sleep, or whose questions expire; others were cancelled or deleted a moment ago. Where not
/// all can run at once, the run that the user started waits for its turn, unless it ran already.
fn set_awake(db: &Connection, due: Vec<Sleeper>, now: Moment) -> Result<Vec<Awake>, Error> {
    let mut awake = Vec::with_capacity(due.len());
    for Sleeper { wait, run, terms } in due {
        if deleting::is_gone(db, run)? {
            continue;
        }
        let was_parked = match status(db, parked::root_of(db, run)?) {
            Ok(status) => status != Status::Running,
            Err(Error::UnknownRun { .. }) => continue,
            Err(error) => return Err(error),
        };
        let Some(goes_on) = parked::wake(db, run, now)? else { continue };
        if let Some(terms) = terms.filter(|_| was_parked) {
            let terms = Terms { since: Some(rows::now().saturating_add(wait)), ..terms };
            turns::take_up(db, goes_on.root, terms)?;
        }
        let is_queued = turns::is_queued(db, goes_on.root)?;
        awake.push(Awake { goes_on, is_queued });
    }
    Ok(awake)
}

/// A run, and why it cannot go on; nothing if it can.
type Note = (i64, Option<String>);

/// A run that wakes.
#[derive(Clone, Copy)]
struct Sleeper {
    /// In how many milliseconds it wakes: less than 0 if its time has come.
    wait: i64,
    run: i64,
    /// On what terms it goes on, where not all can at once.
    terms: Option<Terms>,
}

struct Due {
    runs: Vec<Sleeper>,
    /// Whether more may be due.
    is_full: bool,
    /// In how many milliseconds the next one wakes.
    next: Option<i64>,
}

/// Finds the runs whose time has come, by the clock or by the store's ticks.
fn next_wakes(db: &Connection, flows: &[(String, Option<Terms>)], now: Moment) -> Result<Due, Error> {
    let mut versions = db.prepare_cached("SELECT flow FROM flows WHERE name = ?1")?;
    // Of one flow at a time, along the index: sleepers of others are not looked at.
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
                    Ok(Sleeper { wait, run: row.get(0)?, terms: *terms })
                };
                let rows = select.query_map((version, rows::int(PAGE)), sleeper)?;
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

/// Goes on with every run of one flow, or of all that are registered, that is neither parked nor at an end; and looks at those
/// that are parked.
pub(crate) async fn resume_all(shared: &Arc<Shared>, flow: Option<&str>) -> Result<Resumed, Error> {
    // What was asked for while nobody drove the store comes first: a run that was cancelled must not go on.
    read_inbox(shared).await?;
    let (store, names) = (Arc::clone(shared), shared.flows.names(flow));
    let is_all = flow.is_none();
    // Each run is read as it is once it is this store's to drive, not as it was when the first one was read.
    let read = move |reader: &Reader| {
        let mut look = Look::default();
        // Those that run do not wait for a look at those that are parked.
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

/// Tries once more what a flow could not take before it was registered as it is now.
pub(crate) async fn try_again(shared: &Arc<Shared>, flow: &str) -> Result<(), Error> {
    let (store, names) = (Arc::clone(shared), shared.flows.names(Some(flow)));
    let read = move |reader: &Reader| {
        let mut look = Look { only_refused: true, ..Look::default() };
        look.at_runs(&store, reader, &names, Status::Paused)?;
        look.at_runs(&store, reader, &names, Status::Sleeping)?;
        Ok(look)
    };
    let look = shared.readers.read(read).await?;
    write_down(shared, look).await.map(drop)
}

/// A look at the runs of a store that are not at an end.
#[derive(Default)]
struct Look {
    only_refused: bool,
    resumed: Resumed,
    /// What is to be written down: why a run cannot go on, or that it can now.
    notes: Vec<Note>,
    /// Runs that wait for an answer which they have.
    answered: Vec<i64>,
}

/// A run as it is found.
struct Found {
    run: i64,
    id: RunId,
    refused: bool,
}

impl Look {
    /// Looks at the runs of some flows in one status, a page at a time.
    fn at_runs(
        &mut self,
        shared: &Arc<Shared>,
        reader: &Reader,
        flows: &[String],
        status: Status,
    ) -> Result<(), Error> {
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

    /// Takes up those of a page of runs that do not just go on: they wait for their turn, or are counted first. Returns the
    /// others, and those that begin now. So none that waits has a task.
    fn take_up(&mut self, shared: &Arc<Shared>, reader: &Reader, page: Vec<Found>) -> Result<Vec<Found>, Error> {
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
            runs.iter().map(|(run, terms)| turns::take_up(db, *run, *terms)).collect::<Result<Vec<_>, Error>>()
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
                shared.check(reader, run)?;
                let answered = if refused { parked::answered(&reader.db, run)? } else { Vec::new() };
                let goes_on = !answered.is_empty();
                self.answered.extend(answered);
                Ok(goes_on)
            }),
        };
        if refused && status != Status::Running && goes_on.is_ok() {
            // A sleeper whose time has come is found again by whoever wakes it.
            self.notes.push((run, None));
        }
        match goes_on {
            Ok(true) => self.resumed.runs.push(id),
            Ok(false) => {}
            // One run that is damaged must not keep the others.
            Err(error) => {
                self.notes.extend(error.refusal().map(|why| (run, Some(why))));
                self.resumed.refused.push(error);
            }
        }
    }
}

/// Reads a page of the runs of one version of a flow in one status.
fn page(reader: &Reader, (flow, status): (i64, Status), after: i64, only_refused: bool) -> Result<Vec<Found>, Error> {
    let sql = if only_refused {
        "SELECT run, id, refused IS NOT NULL FROM runs INDEXED BY runs_by_refused
         WHERE flow = ?1 AND status = ?2 AND run > ?3 AND refused IS NOT NULL AND parent IS NULL ORDER BY run LIMIT ?4"
    } else {
        "SELECT run, id, refused IS NOT NULL FROM runs
         WHERE flow = ?1 AND status = ?2 AND parent IS NULL AND run > ?3 ORDER BY run LIMIT ?4"
    };
    let mut select = reader.db.prepare_cached(sql)?;
    let page = select.query_map((flow, status.code(), after, rows::int(PAGE)), |row| {
        let id = RunId::from(row.get::<_, String>(1)?);
        Ok(Found { run: row.get(0)?, id, refused: row.get(2)? })
    })?;
    Ok(page.collect::<rusqlite::Result<_>>()?)
}

/// Counts the runs that are not at an end and whose flows are not registered.
fn unregistered(shared: &Shared, reader: &Reader) -> Result<Vec<Unregistered>, Error> {
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

/// Writes down what was found, and lets those go on that have an answer.
async fn write_down(shared: &Arc<Shared>, look: Look) -> Result<Resumed, Error> {
    let Look { resumed, notes, answered, .. } = look;
    let fit: Vec<i64> = notes.iter().filter(|(_, why)| why.is_none()).map(|(run, _)| *run).collect();
    note(shared, notes).await?;
    // Who waits for them is not told any more why they could not go on.
    fit.into_iter().for_each(|run| shared.tell(run, None));
    for run in answered {
        // One that was cancelled or deleted since does not go on.
        match shared.writer.call("resume", move |db| parked::go_on(db, run, "resumed")).await {
            Ok(goes_on) => shared.go_on(&goes_on),
            Err(Error::WrongStatus { .. } | Error::UnknownRun { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    shared.wakes.notify_one();
    Ok(resumed)
}

/// Writes down why runs cannot go on, or that they can.
async fn note(shared: &Shared, mut notes: Vec<Note>) -> Result<(), Error> {
    while !notes.is_empty() {
        let rest = notes.split_off(notes.len().min(PAGE));
        let some = std::mem::replace(&mut notes, rest);
        let write = move |db: &Connection| {
            some.iter().try_for_each(|(run, why)| match why {
                Some(why) => rows::refuse(db, *run, why),
                None => rows::accept(db, *run),
            })
        };
        shared.writer.call("refused", write).await?;
    }
    Ok(())
}
