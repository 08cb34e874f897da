//! Rows of a store: what is written in one transaction.
//!
//! **Invariant:** each function checks before it writes, so that one which refuses has written nothing.

use std::time::{Duration, SystemTime};

use flowstone_core::{Action, ItemId, ItemKey, KeyBase, NodePath, RunId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    disk::{snapshot::Kind, states::Stored},
    flows::asking::AskedNow,
    records::{deleting, load::damaged},
    words::{
        error::Error,
        status::{Failure, Items, Status},
    },
};

pub(crate) use items::{
    Did, NewItem, VisitUnderWay, end_sleep, forget_items, forget_waits, keep_item, keep_visit, set_retried,
};

mod items;

/// The longest id of a run, in bytes.
pub(crate) const MAX_ID: usize = 1024;

/// What stands in the column `item` for the node itself.
pub(crate) const NODE: i64 = -1;

/// Returns the time in milliseconds since 1970.
pub(crate) fn now() -> i64 {
    millis(SystemTime::now())
}

pub(crate) fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// A count as SQLite keeps it.
pub(crate) fn int(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

pub(crate) fn count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or_default())
}

/// A run that is to begin.
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    pub(crate) flow: i64,
    pub(crate) flow_name: String,
    /// The names under which runs of the same flow may be, beside its own.
    pub(crate) flow_before: Vec<String>,
    /// What the keys of its visits begin with; none of a child, whose keys begin with its id.
    pub(crate) key: Option<KeyBase>,
    pub(crate) start: NodePath,
    pub(crate) state: Stored,
    pub(crate) parent: Option<Parent>,
    /// The run that it is a fork of, and the step.
    pub(crate) origin: Option<(i64, u64)>,
    /// Whether it waits for its turn.
    pub(crate) waits: bool,
}

/// The visit and the item that a child's run belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) run: i64,
    pub(crate) seq: u64,
    pub(crate) item: ItemId,
}

/// What came of starting a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    pub(crate) run: i64,
    /// Whether this call began it.
    pub(crate) new: bool,
}

/// Begins a run, unless there is one of the same flow with its id.
pub(crate) fn start(db: &Connection, new: &NewRun) -> Result<Started, Error> {
    let mut known = db.prepare_cached("SELECT run, name, parent FROM runs JOIN flows USING (flow) WHERE id = ?1")?;
    let known = known
        .query_row([new.id.as_str()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<i64>>(2)?))
        })
        .optional()?;
    let known = match known {
        // What is left of a deleted run must not keep the id.
        Some((run, _, Some(_))) if deleting::is_gone(db, run)? => {
            deleting::mark(db, run)?;
            None
        }
        known => known,
    };
    match known {
        Some((_, found, _)) if found != new.flow_name && !new.flow_before.contains(&found) => {
            return Err(Error::OtherFlow { run: new.id.clone(), found, wanted: new.flow_name.clone() });
        }
        Some((run, _, None)) if new.parent.is_none() => return Ok(Started { run, new: false }),
        // The id of a child is made of its parent's: nothing else may have it.
        Some(_) => return Err(Error::Taken { run: new.id.clone() }),
        None => {}
    }
    let at = now();
    let run = insert_run(db, new, Status::Running, at)?;
    let first = VisitRow {
        run,
        seq: 0,
        node: None,
        action: None,
        next: Some(new.start.clone()),
        started_at: at,
        took: Duration::ZERO,
        attempts: 0,
        retries: None,
        items: None,
    };
    match insert_visit(db, &first, &new.state) {
        // The number is new. As an error of the store it undoes the run, too.
        Err(Error::Conflict { .. }) => Err(damaged(format!("there are steps of run #{run}, which is not there"))),
        inserted => inserted.map(|()| Started { run, new: true }),
    }
}

fn insert_run(db: &Connection, new: &NewRun, status: Status, at: i64) -> Result<i64, Error> {
    // Nobody lets a fork run before it is taken up.
    let mut insert = db.prepare_cached(
        "INSERT INTO runs (id, flow, status, created_at, changed_at, parent, parent_seq, item, origin, origin_seq,
                           key, item_key, queued_at, epoch)
         VALUES (?1, ?2, ?3, max(?4, coalesce((SELECT created_at FROM runs ORDER BY run DESC LIMIT 1), 0)), ?4,
                 ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,
                 iif(?9 IS NULL, (SELECT epoch FROM owner WHERE one = 1), NULL))",
    )?;
    let (parent, origin) = (new.parent, new.origin);
    insert.execute(params![
        new.id.as_str(),
        new.flow,
        status.code(),
        at,
        parent.map(|parent| parent.run),
        parent.map(|parent| int(parent.seq)),
        parent.map(|parent| int(parent.item.index)),
        origin.map(|(run, _)| run),
        origin.map(|(_, seq)| int(seq)),
        new.key.as_ref().map(KeyBase::as_str),
        parent.as_ref().and_then(|parent| parent.item.key.as_ref()).map(ItemKey::as_bytes),
        new.waits.then_some(at),
    ])?;
    Ok(db.last_insert_rowid())
}

/// A committed visit, or the start of a run.
pub(crate) struct VisitRow {
    pub(crate) run: i64,
    pub(crate) seq: u64,
    pub(crate) node: Option<NodePath>,
    pub(crate) action: Option<Action>,
    pub(crate) next: Option<NodePath>,
    pub(crate) started_at: i64,
    pub(crate) took: Duration,
    pub(crate) attempts: u64,
    /// As JSON.
    pub(crate) retries: Option<String>,
    pub(crate) items: Option<Items>,
}

/// Writes a visit.
///
/// Of two writers of one run only one can write a step.
pub(crate) fn insert_visit(db: &Connection, visit: &VisitRow, state: &Stored) -> Result<(), Error> {
    let mut insert = db.prepare_cached(
        "INSERT INTO visits (run, seq, node, action, next, started_at, took_us, attempts, retries, recorded, recalled,
                             version, size, kind, base, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ON CONFLICT DO NOTHING",
    )?;
    let inserted = insert.execute(params![
        visit.run,
        int(visit.seq),
        visit.node.as_ref().map(NodePath::as_str),
        visit.action.as_ref().map(Action::as_str),
        visit.next.as_ref().map(NodePath::as_str),
        visit.started_at,
        int(visit.took.as_micros()),
        int(visit.attempts),
        visit.retries,
        visit.items.map(|items| int(items.recorded)),
        visit.items.map(|items| int(items.recalled)),
        (state.snapshot.kind == Kind::Full).then_some(state.version),
        int(state.size),
        state.snapshot.kind.code(),
        state.base.map(int),
        Some(&state.snapshot.body).filter(|body| !body.is_empty()),
    ])?;
    if inserted == 0 { Err(conflict(db, visit)?) } else { Ok(()) }
}

/// Fails if the step before a visit is not there, because its commit failed after this one was on its way.
pub(crate) fn check_step_before(db: &Connection, visit: &VisitRow) -> Result<(), Error> {
    let mut look = db.prepare_cached("SELECT 1 FROM visits WHERE run = ?1 AND seq = ?2 - 1")?;
    if look.exists((visit.run, int(visit.seq)))? { Ok(()) } else { Err(conflict(db, visit)?) }
}

fn conflict(db: &Connection, visit: &VisitRow) -> Result<Error, Error> {
    Ok(Error::Conflict { run: id_of(db, visit.run)?, step: visit.seq })
}

/// Returns the child of an item that this process has begun in a visit, if there is one.
pub(crate) fn child(db: &Connection, run: i64, seq: u64, item: ItemId) -> Result<Option<i64>, Error> {
    let mut select = db.prepare_cached(
        "SELECT run FROM runs
         WHERE parent = ?1 AND parent_seq = ?2 AND item = ?3 AND item_key IS ?4 AND parent IS NOT NULL",
    )?;
    let row = (run, int(seq), int(item.index), item.key.as_ref().map(ItemKey::as_bytes));
    Ok(select.query_row(row, |row| row.get(0)).optional()?)
}

/// Writes down the place that the item of a child has now.
pub(crate) fn place_child(db: &Connection, child: i64, item: usize) -> Result<(), Error> {
    db.prepare_cached("UPDATE runs SET item = ?2 WHERE run = ?1")?.execute((child, int(item)))?;
    Ok(())
}

/// Cancels what is below a visit that no longer needs it: its children that are not at an end, and their children.
pub(crate) fn cancel_children(db: &Connection, run: i64, seq: u64) -> Result<(), Error> {
    let mut children = db.prepare_cached(
        "SELECT run FROM runs WHERE parent = ?1 AND parent_seq = ?2 AND status IN (0, 1, 2) AND parent IS NOT NULL",
    )?;
    let rows = children.query_map((run, int(seq)), |row| row.get(0))?;
    for child in rows.collect::<rusqlite::Result<Vec<i64>>>()? {
        set_status(db, child, Status::Cancelled, &Change::default())?;
    }
    Ok(())
}

/// Cancels what is below the visit that a run has under way.
fn cancel_under_way(db: &Connection, run: i64) -> Result<(), Error> {
    let mut last = db.prepare_cached("SELECT max(seq) FROM visits WHERE run = ?1")?;
    let last: Option<i64> = last.query_row([run], |row| row.get(0))?;
    last.map_or(Ok(()), |last| cancel_children(db, run, u64::try_from(last + 1).unwrap_or_default()))
}

/// A change of a run's status.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) wake_at: Option<i64>,
    /// At which of the store's ticks it wakes at the latest, or its question expires.
    pub(crate) wake_tick: Option<i64>,
    pub(crate) action: Option<String>,
    pub(crate) error: Option<Failure>,
}

/// Changes the status of a run. With a run that fails or is cancelled, its children are cancelled that are not at an end.
pub(crate) fn set_status(db: &Connection, run: i64, status: Status, change: &Change) -> Result<(), Error> {
    let mut update = db.prepare_cached(
        "UPDATE runs SET status = ?2, changed_at = ?3, wake_at = ?4, action = ?5, error = ?6, wake_tick = ?7,
             refused = NULL, was = NULL, queued_at = NULL, epoch = (SELECT epoch FROM owner WHERE one = 1)
         WHERE run = ?1",
    )?;
    let error = change.error.as_ref().and_then(|error| serde_json::to_string(error).ok());
    update.execute(params![run, status.code(), now(), change.wake_at, change.action, error, change.wake_tick])?;
    if matches!(status, Status::Failed | Status::Cancelled) { cancel_under_way(db, run) } else { Ok(()) }
}

/// Returns for how long the store has been driven, as far as that was noted.
pub(crate) fn ticks(db: &Connection) -> Result<i64, Error> {
    Ok(db.prepare_cached("SELECT ticks FROM owner WHERE one = 1")?.query_row([], |row| row.get(0))?)
}

/// Notes for how long the store has been driven.
pub(crate) fn set_ticks(db: &Connection, ticks: i64) -> Result<(), Error> {
    db.prepare_cached("UPDATE owner SET ticks = max(ticks, ?1) WHERE one = 1")?.execute([ticks])?;
    Ok(())
}

/// Marks a run that is to go on as failed, since its driving panicked; returns the error.
pub(crate) fn mark_panicked(db: &Connection, run: i64, message: String) -> Result<Error, Error> {
    let error = Error::Panicked { run: id_of(db, run)?, message };
    let mut next = db.prepare_cached("SELECT next FROM visits WHERE run = ?1 ORDER BY seq DESC LIMIT 1")?;
    let next: Option<Option<String>> = next.query_row([run], |row| row.get(0)).optional()?;
    let node = next.flatten().unwrap_or_default().into();
    let failure = Failure { node, message: error.to_string(), attempts: 0, item: None, terminal: false, deaths: None };
    let failure = serde_json::to_string(&failure).ok();
    let mut update = db.prepare_cached(
        "UPDATE runs SET status = ?2, changed_at = ?3, error = ?4, queued_at = NULL WHERE run = ?1 AND status = ?5",
    )?;
    if update.execute(params![run, Status::Failed.code(), now(), failure, Status::Running.code()])? > 0 {
        cancel_under_way(db, run)?;
    }
    Ok(error)
}

/// Returns, as JSON, what is kept of a run that another process lets go on, whose flow is not at hand.
pub(crate) fn was(db: &Connection, run: i64) -> Result<Option<String>, Error> {
    let mut select = db.prepare_cached(
        "SELECT json_object('status', status, 'changed_at', changed_at, 'wake_at', wake_at, 'wake_tick', wake_tick,
             'error', error) FROM runs WHERE run = ?1",
    )?;
    Ok(select.query_row([run], |row| row.get(0)).optional()?)
}

/// Keeps what runs were before they were let go on. No driver has let those run that were parked: none can die of it yet.
pub(crate) fn set_was(db: &Connection, before: &[(i64, String)]) -> Result<(), Error> {
    let mut update =
        db.prepare_cached("UPDATE runs SET was = ?2, epoch = iif(?2 ->> 'status' = 0, epoch, NULL) WHERE run = ?1")?;
    before.iter().try_for_each(|(run, was)| update.execute((run, was)).map(drop))?;
    Ok(())
}

/// Notes why a run cannot go on. With its children, it is what it was before another process let it go on.
pub(crate) fn refuse(db: &Connection, run: i64, why: &str) -> Result<(), Error> {
    for run in tree(db, run)? {
        let mut back = db.prepare_cached(
            "UPDATE runs SET status = was ->> 'status', changed_at = was ->> 'changed_at', wake_at = was ->> 'wake_at',
                 wake_tick = was ->> 'wake_tick', error = was ->> 'error', was = NULL
             WHERE run = ?1 AND was IS NOT NULL",
        )?;
        back.execute([run])?;
    }
    let mut update = db.prepare_cached("UPDATE runs SET refused = ?2 WHERE run = ?1 AND refused IS NOT ?2")?;
    update.execute((run, why))?;
    Ok(())
}

/// Notes that nothing keeps a run, or one of its children, from going on.
pub(crate) fn accept(db: &Connection, run: i64) -> Result<(), Error> {
    for run in tree(db, run)? {
        let mut update = db.prepare_cached(
            "UPDATE runs SET refused = NULL, was = NULL WHERE run = ?1 AND (refused IS NOT NULL OR was IS NOT NULL)",
        )?;
        update.execute([run])?;
    }
    Ok(())
}

/// Returns a run with all its children and theirs.
pub(crate) fn tree(db: &Connection, run: i64) -> Result<Vec<i64>, Error> {
    // Not `UNION ALL`: parents that lead in a circle, as a damaged store may have, must come to an end.
    let mut select = db.prepare_cached(
        "WITH RECURSIVE tree (run) AS (
             VALUES (?1)
             UNION
             SELECT runs.run FROM tree JOIN runs ON runs.parent = tree.run AND runs.parent IS NOT NULL
         )
         SELECT run FROM tree",
    )?;
    Ok(select.query_map([run], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Notes that a run has gone on under another version of its flow, if it has.
pub(crate) fn set_flow(db: &Connection, run: i64, flow: Option<i64>) -> Result<(), Error> {
    if let Some(flow) = flow {
        db.prepare_cached("UPDATE runs SET flow = ?2 WHERE run = ?1")?.execute((run, flow))?;
    }
    Ok(())
}

/// A question to write down.
pub(crate) struct NewPause {
    pub(crate) run: i64,
    pub(crate) seq: u64,
    pub(crate) node: NodePath,
    pub(crate) question: String,
    pub(crate) schema: String,
    /// The version of the flow that asks.
    pub(crate) version: u32,
    /// When it expires, if it does.
    pub(crate) expires: Option<Expiry>,
}

/// When a question expires: at a time of day, or when the store has counted so many ticks.
pub(crate) struct Expiry {
    pub(crate) at: i64,
    pub(crate) tick: i64,
}

/// Parks a run with its question.
pub(crate) fn pause(db: &Connection, pause: &NewPause) -> Result<(), Error> {
    let mut insert = db.prepare_cached(
        "INSERT INTO pauses (run, seq, node, question, schema, asked_at, expires_at, expires_tick, version)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (run, seq) DO UPDATE SET node = ?3, question = ?4, schema = ?5, asked_at = ?6, expires_at = ?7,
             expires_tick = ?8, version = ?9, expired_at = NULL, answer = NULL, answered_at = NULL, refused = NULL",
    )?;
    let NewPause { run, seq, node, question, schema, version, expires } = pause;
    let (wake_at, wake_tick) = expires.as_ref().map(|Expiry { at, tick }| (*at, *tick)).unzip();
    insert.execute(params![run, int(*seq), node.as_str(), question, schema, now(), wake_at, wake_tick, version])?;
    set_status(db, *run, Status::Paused, &Change { wake_at, wake_tick, ..Change::default() })
}

/// Keeps an answer, if the question is open; returns whether it was kept.
pub(crate) fn keep_answer(db: &Connection, run: i64, seq: u64, answer: &str) -> Result<bool, Error> {
    let mut update = db.prepare_cached(
        "UPDATE pauses SET answer = ?3, answered_at = ?4, refused = NULL WHERE run = ?1 AND seq = ?2 AND answer IS NULL
             AND expired_at IS NULL",
    )?;
    Ok(update.execute(params![run, int(seq), answer, now()])? > 0)
}

/// Writes a question down as it was migrated.
pub(crate) fn set_question(db: &Connection, run: i64, seq: u64, now: &AskedNow) -> Result<(), Error> {
    let mut update =
        db.prepare_cached("UPDATE pauses SET question = ?3, schema = ?4, version = ?5 WHERE run = ?1 AND seq = ?2")?;
    update.execute(params![run, int(seq), now.question, now.schema, now.version])?;
    Ok(())
}

/// Gives an answer back that does not fit after all: the question waits again.
pub(crate) fn refuse_answer(db: &Connection, run: i64, seq: u64, why: &str) -> Result<(), Error> {
    let mut update = db.prepare_cached(
        "UPDATE pauses SET answer = NULL, answered_at = NULL, refused = ?3 WHERE run = ?1 AND seq = ?2",
    )?;
    update.execute(params![run, int(seq), why])?;
    let mut expires = db.prepare_cached("SELECT expires_at, expires_tick FROM pauses WHERE run = ?1 AND seq = ?2")?;
    let expires = expires.query_row((run, int(seq)), |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (wake_at, wake_tick) = expires.unwrap_or_default();
    set_status(db, run, Status::Paused, &Change { wake_at, wake_tick, ..Change::default() })
}

/// Forgets that a question expired, at a node that failed for it: it is asked once more.
pub(crate) fn forget_expired(db: &Connection, run: i64) -> Result<(), Error> {
    let mut delete = db.prepare_cached(
        "DELETE FROM pauses WHERE run = ?1 AND seq = (SELECT max(seq) + 1 FROM visits WHERE run = ?1)
             AND expired_at IS NOT NULL",
    )?;
    delete.execute([run])?;
    Ok(())
}

/// Writes down a version of a flow, and returns its number; and for all versions of it how its nodes are called now.
pub(crate) fn flow(db: &Connection, flow: &FlowRow) -> Result<i64, Error> {
    let row = version(db, flow)?;
    let mut update = db.prepare_cached("UPDATE flows SET renamed = ?2 WHERE name = ?1 AND renamed IS NOT ?2")?;
    for name in [&flow.name].into_iter().chain(&flow.before) {
        update.execute((name, &flow.renamed))?;
    }
    Ok(row)
}

fn version(db: &Connection, flow: &FlowRow) -> Result<i64, Error> {
    let known = |db: &Connection| {
        db.query_row(
            "SELECT flow FROM flows WHERE name = ?1 AND fingerprint = ?2",
            (&flow.name, &flow.fingerprint),
            |row| row.get(0),
        )
        .optional()
    };
    if let Some(known) = known(db)? {
        return Ok(known);
    }
    let row = (&flow.name, &flow.fingerprint, &flow.graph, &flow.mermaid, &flow.dot);
    db.execute("INSERT INTO flows (name, fingerprint, graph, mermaid, dot) VALUES (?1, ?2, ?3, ?4, ?5)", row)?;
    Ok(db.last_insert_rowid())
}

/// A version of a flow.
pub(crate) struct FlowRow {
    pub(crate) name: String,
    /// The names that it had before.
    pub(crate) before: Vec<String>,
    /// How its nodes were called before, as JSON.
    pub(crate) renamed: Option<String>,
    pub(crate) fingerprint: String,
    pub(crate) graph: String,
    pub(crate) mermaid: String,
    pub(crate) dot: String,
}

/// The id of a run, for an error.
pub(crate) fn id_of(db: &Connection, run: i64) -> Result<RunId, Error> {
    let id = db.query_row("SELECT id FROM runs WHERE run = ?1", [run], |row| row.get::<_, String>(0)).optional()?;
    Ok(id.map_or_else(|| format!("#{run}").into(), RunId::from))
}
