//! What a driver does unasked: it goes on with runs that wake, and does what other processes ask for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use flowstone_core::RunId;
use rusqlite::{Connection, Row};

use crate::{
    deleting,
    error::Error,
    load::damaged,
    observer::lock,
    parked::{self, GoesOn},
    reader::Reader,
    rows::{self, Change, id_of},
    runs::Resumed,
    shared::Shared,
    status::Status,
    waits::LOOK,
};

/// How often the inbox is looked at: what is asked for takes effect within 100 ms.
const INBOX: Duration = Duration::from_millis(50);

/// How long to wait before another look at a store that could not be read or written.
const AGAIN: Duration = Duration::from_millis(200);

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

/// Does what the inbox holds; requests to flows that are not registered stay.
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
    let mut done = Vec::new();
    for asked in requests {
        let Request { request, run, what, flow } = &asked;
        let (request, run) = (*request, *run);
        match flow {
            Some(flow) if shared.flow(flow).is_none() => continue,
            // One that is driven is looked at again when it has come to a halt: nobody else waits for that.
            Some(_) if what == "cancel" && shared.cancel(run).is_some() => {
                lock(&shared.inbox).again.push(asked);
                continue;
            }
            Some(_) if what == "cancel" => match cancel(shared, run).await {
                Ok(()) | Err(Error::WrongStatus { .. }) => {}
                Err(error) => return Err(error),
            },
            Some(_) => {
                let root = shared.writer.alone(move |db| parked::root_of(db, run)).await?;
                shared.go_on(GoesOn { run, root });
            }
            // It was deleted; whoever did that may have ended in the middle of it.
            None => {
                shared.tell(run, None);
                shared.delete_left().await?;
            }
        }
        done.push(request);
    }
    if done.is_empty() {
        return Ok(());
    }
    let delete = move |db: &Connection| {
        let mut delete = db.prepare_cached("DELETE FROM inbox WHERE request = ?1")?;
        done.iter().try_for_each(|request| delete.execute([request]).map(drop))?;
        Ok(())
    };
    shared.writer.call("inbox", delete).await
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

/// Cancels a run: one that is driven is stopped where it waits, one that is parked needs only be marked.
pub(crate) async fn cancel(shared: &Arc<Shared>, run: i64) -> Result<(), Error> {
    loop {
        let mut news = shared.wait_for(run);
        if let Some(_reserved) = shared.reserve(run) {
            // Nobody begins to drive it before it is marked.
            return shared.writer.call("cancel", move |db| cancel_stored(db, run)).await;
        }
        // Its own drive writes down that it was cancelled, unless it comes to a halt before it sees that; if it goes on
        // after that, it is another drive.
        while let Some(cancel) = shared.cancel(run) {
            if !cancel.is_written() {
                news.changed().await?;
            }
            if cancel.is_written() {
                return Ok(());
            }
        }
    }
}

fn cancel_stored(db: &Connection, run: i64) -> Result<(), Error> {
    match status(db, run)? {
        Status::Cancelled => Ok(()),
        status if status.is_final() => Err(Error::WrongStatus { run: id_of(db, run)?, status, wanted: "cancelled" }),
        _ => rows::set_status(db, run, Status::Cancelled, &Change::default()),
    }
}

/// Returns the status of a run that was there a moment ago.
pub(crate) fn status(db: &Connection, run: i64) -> Result<Status, Error> {
    let mut select = db.prepare_cached("SELECT status FROM runs WHERE run = ?1")?;
    match rusqlite::OptionalExtension::optional(select.query_row([run], |row| row.get(0)))? {
        Some(code) => Status::of_code(code).ok_or_else(|| damaged(format!("a run with status {code}"))),
        None => Err(Error::UnknownRun { run: id_of(db, run)? }),
    }
}

/// Goes on with the runs whose time has come, and returns how long until there may be more.
async fn wake(shared: &Arc<Shared>) -> Result<Duration, Error> {
    let flows = names(shared, None);
    if flows.is_empty() {
        return Ok(LOOK);
    }
    let (now, ticks) = (shared.now(), shared.writer.ticks());
    let due = shared.read(move |reader| next_wakes(&reader.db, &flows, now, ticks)).await?;
    if due.runs.is_empty() {
        let until = due.next.map_or(LOOK, |wait| Duration::from_millis(u64::try_from(wait).unwrap_or_default()));
        return Ok(until.min(LOOK));
    }
    let woken = shared.writer.call("wake", move |db| set_awake(db, due.runs, now)).await?;
    woken.into_iter().for_each(|goes_on| shared.go_on(goes_on));
    Ok(Duration::ZERO)
}

/// Marks those runs as running that sleep, or whose questions expire; others were cancelled or deleted a moment ago.
fn set_awake(db: &Connection, runs: Vec<i64>, now: i64) -> Result<Vec<GoesOn>, Error> {
    let mut awake = Vec::with_capacity(runs.len());
    for run in runs {
        if !deleting::is_gone(db, run)? {
            awake.extend(parked::wake(db, run, now)?);
        }
    }
    Ok(awake)
}

struct Due {
    runs: Vec<i64>,
    /// In how many milliseconds the next one wakes.
    next: Option<i64>,
}

/// Finds the runs whose time has come, by the clock or by the store's ticks.
fn next_wakes(db: &Connection, flows: &[String], now: i64, ticks: i64) -> Result<Due, Error> {
    let mut versions = db.prepare_cached("SELECT flow FROM flows WHERE name = ?1")?;
    // Of one flow at a time, along the index: sleepers of others are not looked at.
    let mut by_clock = db.prepare_cached(
        "SELECT run, wake_at FROM runs INDEXED BY runs_by_wake
         WHERE flow = ?1 AND wake_at IS NOT NULL ORDER BY wake_at LIMIT ?2",
    )?;
    let mut by_ticks = db.prepare_cached(
        "SELECT run, wake_tick FROM runs INDEXED BY runs_by_tick
         WHERE flow = ?1 AND wake_tick IS NOT NULL ORDER BY wake_tick LIMIT ?2",
    )?;
    // How long each of them waits yet, and the run.
    let mut first: Vec<(i64, i64)> = Vec::new();
    for name in flows {
        let versions = versions.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
        for version in versions {
            for (select, now) in [(&mut by_clock, now), (&mut by_ticks, ticks)] {
                let wait = |row: &Row<'_>| Ok((row.get::<_, i64>(1)?.saturating_sub(now), row.get(0)?));
                let rows = select.query_map((version, rows::int(PAGE)), wait)?;
                first.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
            }
        }
    }
    first.sort_unstable();
    first.truncate(PAGE);
    let due = first.partition_point(|(wait, _)| *wait <= 0);
    let mut seen = BTreeSet::new();
    let runs = first[..due].iter().map(|(_, run)| *run).filter(|run| seen.insert(*run)).collect();
    Ok(Due { next: first.get(due).map(|(wait, _)| *wait), runs })
}

fn names(shared: &Shared, only: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = match only {
        Some(name) => vec![name.to_owned()],
        None => lock(&shared.flows).keys().cloned().collect(),
    };
    names.sort_unstable();
    names
}

/// Goes on with every run of one flow, or of all that are registered, that is neither parked nor at an end.
pub(crate) async fn resume_all(shared: &Arc<Shared>, flow: Option<&str>) -> Result<Resumed, Error> {
    // What was asked for while nobody drove the store comes first: a run that was cancelled must not go on.
    read_inbox(shared).await?;
    let flows = names(shared, flow);
    let store = Arc::clone(shared);
    // Each run is read as it is once it is this store's to drive, not as it was when the first one was read.
    shared.readers.read(move |reader| resume_pages(&store, reader, &flows)).await
}

fn resume_pages(shared: &Arc<Shared>, reader: &Reader, flows: &[String]) -> Result<Resumed, Error> {
    let mut resumed = Resumed::default();
    for name in flows {
        for flow in reader.flow_numbers(Some(name))? {
            resume_version(shared, reader, flow, &mut resumed)?;
        }
    }
    Ok(resumed)
}

/// Goes on with the runs of one version of a flow, a page at a time.
fn resume_version(shared: &Arc<Shared>, reader: &Reader, flow: i64, resumed: &mut Resumed) -> Result<(), Error> {
    let mut select = reader.db.prepare_cached(
        "SELECT run, id FROM runs WHERE flow = ?1 AND status = ?2 AND parent IS NULL AND run > ?3 ORDER BY run LIMIT ?4",
    )?;
    let mut after = 0;
    loop {
        let page = select.query_map((flow, Status::Running.code(), after, rows::int(PAGE)), |row| {
            Ok((row.get::<_, i64>(0)?, RunId::from(row.get::<_, String>(1)?)))
        })?;
        let page = page.collect::<rusqlite::Result<Vec<_>>>()?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.0;
        for (run, id) in page {
            match shared.resume_here(reader, run) {
                Ok(true) => resumed.runs.push(id),
                Ok(false) => {}
                // One run that is damaged must not keep the others.
                Err(error) => resumed.refused.push(error),
            }
        }
    }
}
