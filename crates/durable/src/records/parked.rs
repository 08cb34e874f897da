//! Parked runs, and the runs around them: a parent whose children all wait is parked with them.
//!
//! ```text
//! child asks ─▶ paused ┐
//! child sleeps         ┴─▶ no other can go on ─▶ the parent is paused, or asleep if none asks
//! an answer, or a time ─▶ the child runs, and so do all around it ─▶ the root is driven: the visit is made again
//! ```
//!
//! **Invariant:** while a child can go on, no run around it is parked. Both are changed in one transaction.

use flowstone_core::NodePath;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    records::{
        ids, items,
        status::{self, Change, status},
    },
    words::{
        columns::int,
        error::{StatusError, StoreError, WrongStatus, damaged},
        status::{Happened, Status},
        waits::Moment,
    },
};

/// A run that can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GoesOn {
    /// The run, and those around it below the root, from the inside out: the visit of each waits for the one before.
    pub(crate) children: Vec<i64>,
    /// The run that the user started, which is the one to drive; the same run if it is no child.
    pub(crate) root: i64,
}

impl GoesOn {
    fn of(run: i64, around: &[(i64, Status)]) -> Self {
        let mut children: Vec<i64> = std::iter::once(run).chain(around.iter().map(|(run, _)| *run)).collect();
        let root = children.pop().unwrap_or(run);
        Self { children, root }
    }
}

/// Returns the runs around a run with their statuses, the nearest first.
pub(crate) fn around(db: &Connection, run: i64) -> Result<Vec<(i64, Status)>, StoreError> {
    let mut select = db.prepare_cached(
        "SELECT parents.run, parents.status FROM runs JOIN runs AS parents ON parents.run = runs.parent
         WHERE runs.run = ?1 AND parents.run < runs.run",
    )?;
    let (mut found, mut at) = (Vec::new(), run);
    // A parent is older than its child: a damaged store must not lead in a circle.
    while let Some((parent, code)) =
        select.query_row([at], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).optional()?
    {
        found.push((parent, Status::of_code(code).ok_or_else(|| damaged(format!("a run with status {code}")))?));
        at = parent;
    }
    Ok(found)
}

/// Returns the run that the user started, of which a run is a child, or itself.
pub(crate) fn root_of(db: &Connection, run: i64) -> Result<i64, StoreError> {
    Ok(around(db, run)?.last().map_or(run, |(root, _)| *root))
}

/// Returns a run that can go on, with the runs around it.
pub(crate) fn goes_on(db: &Connection, run: i64) -> Result<GoesOn, StoreError> {
    Ok(GoesOn::of(run, &around(db, run)?))
}

/// Returns a run and the runs around it as they are, before a process without their flow lets the run go on.
pub(crate) fn remember(db: &Connection, run: i64) -> Result<Vec<(i64, String)>, StoreError> {
    let line = std::iter::once(run).chain(around(db, run)?.into_iter().map(|(run, _)| run));
    line.filter_map(|run| status::was(db, run).map(|was| was.map(|was| (run, was))).transpose()).collect()
}

/// Returns the runs, of a run and its children, that are paused although they have an answer: no program could take it
/// yet.
pub(crate) fn answered(db: &Connection, run: i64) -> Result<Vec<i64>, StoreError> {
    let mut look = db.prepare_cached(
        "SELECT 1 FROM runs JOIN pauses USING (run) WHERE run = ?1 AND status = ?2 AND answer IS NOT NULL
             AND seq = (SELECT max(seq) + 1 FROM visits WHERE visits.run = runs.run)",
    )?;
    let mut found = Vec::new();
    for run in ids::tree(db, run)? {
        if look.exists((run, Status::Paused.code()))? {
            found.push(run);
        }
    }
    Ok(found)
}

/// Lets a parked run go on, and the runs around it.
///
/// # Errors
///
/// If a run around it is at an end, since nobody would drive it.
pub(crate) fn go_on(db: &Connection, run: i64, happened: Happened) -> Result<GoesOn, StatusError> {
    let around = around(db, run)?;
    if let Some((over, status)) = around.iter().find(|(_, status)| status.is_final()) {
        return Err(WrongStatus { run: ids::id_of(db, *over)?, status: *status, wanted: happened.word() }.into());
    }
    status::change(db, run, happened, &Change::default())?;
    for (parent, status) in &around {
        if *status != Status::Running {
            status::change(db, *parent, Happened::ChildWent, &Change::default())?;
        }
    }
    Ok(GoesOn::of(run, &around))
}

/// Parks a run whose visit under way waits for its children. `left` are the children that the visit no longer needs.
///
/// Returns `true` if it is parked, and `false` if one of its children can go on.
pub(crate) fn park(db: &Connection, run: i64, seq: u64, left: &[i64]) -> Result<bool, StatusError> {
    left.iter().try_for_each(|child| cancel_open(db, *child))?;
    let mut select = db.prepare_cached(
        "SELECT status, wake_at, refused FROM runs WHERE parent = ?1 AND parent_seq = ?2 AND parent IS NOT NULL",
    )?;
    let mut rows = select.query((run, int(seq)))?;
    let (mut asks, mut wake_at, mut refused) = (false, None, None);
    while let Some(row) = rows.next()? {
        let (code, at) = (row.get(0)?, row.get::<_, Option<i64>>(1)?);
        refused = refused.or(row.get::<_, Option<String>>(2)?);
        match Status::of_code(code) {
            Some(Status::Running) => return Ok(false),
            Some(Status::Paused) => asks = true,
            Some(Status::Sleeping) => wake_at = [wake_at, at].into_iter().flatten().min(),
            _ => {}
        }
    }
    let (happened, wake_at) = if asks { (Happened::Asked, None) } else { (Happened::FellAsleep, wake_at) };
    status::change(db, run, happened, &Change { wake_at, ..Change::default() })?;
    // Otherwise a child that came due in the meantime could not go on.
    refused.map_or(Ok(()), |why| status::refuse(db, run, &why))?;
    Ok(true)
}

/// Returns the children of a parked run whose time has come.
pub(crate) fn due_children(db: &Connection, run: i64, now: Moment) -> Result<Vec<i64>, StoreError> {
    let mut select = db.prepare_cached(
        "SELECT run FROM runs WHERE parent = ?1 AND parent_seq = (SELECT max(seq) + 1 FROM visits WHERE run = ?1)
             AND parent IS NOT NULL AND run > ?1 AND status IN (1, 2) AND (wake_at <= ?2 OR wake_tick <= ?3)",
    )?;
    Ok(select.query_map((run, now.clock, now.ticks), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Cancels a run and its children, if it is not at an end.
fn cancel_open(db: &Connection, run: i64) -> Result<(), StatusError> {
    match status(db, run)? {
        status if status.is_final() => Ok(()),
        _ => status::change(db, run, Happened::Cancelled, &Change::default()),
    }
}

/// Returns `true` if a run is due to wake, or its question to expire, by either of the two clocks.
pub(crate) fn is_due(db: &Connection, run: i64, now: Moment) -> Result<bool, StoreError> {
    let mut select = db.prepare_cached("SELECT 1 FROM runs WHERE run = ?1 AND (wake_at <= ?2 OR wake_tick <= ?3)")?;
    Ok(select.exists((run, now.clock, now.ticks))?)
}

/// Lets a run go on whose sleep is over, or whose question has expired. Returns `None` if the run no longer waits, or
/// waits for something else by now.
pub(crate) fn wake(db: &Connection, run: i64, now: Moment) -> Result<Option<GoesOn>, StatusError> {
    if !is_due(db, run, now)? {
        return Ok(None);
    }
    let mut select = db.prepare_cached("SELECT status FROM runs WHERE run = ?1")?;
    let code: Option<i64> = select.query_row([run], |row| row.get(0)).optional()?;
    let happened = match code.and_then(Status::of_code) {
        Some(Status::Sleeping) => {
            items::end_sleep(db, run)?;
            Happened::Woken
        }
        Some(Status::Paused) if expire(db, run, now.clock)? => Happened::Expired,
        _ => return Ok(None),
    };
    match go_on(db, run, happened) {
        Ok(goes_on) => Ok(Some(goes_on)),
        // Its parent came to an end a moment ago.
        Err(StatusError::Wrong(_)) => cancel_open(db, run).map(|()| None),
        Err(error) => Err(error),
    }
}

/// Notes that the open question of a run has expired; returns `true` if there is such a question.
fn expire(db: &Connection, run: i64, now: i64) -> Result<bool, StoreError> {
    let mut update = db.prepare_cached(
        "UPDATE pauses SET expired_at = ?2
         WHERE run = ?1 AND seq = (SELECT max(seq) + 1 FROM visits WHERE run = ?1)
             AND answer IS NULL AND expired_at IS NULL AND expires_at IS NOT NULL",
    )?;
    Ok(update.execute((run, now))? > 0)
}

/// A function that says if two names are of one node of the run that the user started: the name that was asked for, and
/// the one that is stored.
pub(crate) type IsNode<'a> = &'a dyn Fn(&NodePath, &NodePath) -> bool;

/// Follows a path of a node through the children of a run, and returns the child that the node belongs to, with the
/// rest of the path.
///
/// `is_node` knows all names of the run's own nodes. If an item that no longer exists had the same place, its child is
/// left out if that is at an end.
pub(crate) fn resolve(
    db: &Connection,
    run: i64,
    node: &NodePath,
    is_node: IsNode<'_>,
) -> Result<(i64, NodePath), StoreError> {
    let mut next = db.prepare_cached("SELECT seq, next FROM visits WHERE run = ?1 ORDER BY seq DESC LIMIT 1")?;
    let mut child = db.prepare_cached(
        "SELECT run FROM runs WHERE parent = ?1 AND parent_seq = ?2 + 1 AND item = ?3 AND parent IS NOT NULL AND run > ?1
         ORDER BY status > 2, run DESC LIMIT 1",
    )?;
    let (mut run, mut node, mut is_root) = (run, node.clone(), true);
    'inwards: loop {
        let at =
            next.query_row([run], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?))).optional()?;
        let Some((seq, Some(next))) = at else { return Ok((run, node)) };
        let next = NodePath::from(next);
        for (outer, item, inner) in node.clone().into_child() {
            let is_next = outer == next || (is_root && is_node(&outer, &next));
            if is_next && let Some(found) = child.query_row((run, seq, int(item)), |row| row.get(0)).optional()? {
                (run, node, is_root) = (found, inner, false);
                continue 'inwards;
            }
        }
        return Ok((run, node));
    }
}

/// Returns `true` if a run is the other one, or a child of it, or a child of such a child.
pub(crate) fn is_within(db: &Connection, run: i64, around: i64) -> Result<bool, StoreError> {
    let mut select = db.prepare_cached("SELECT parent FROM runs WHERE run = ?1 AND parent < run")?;
    let mut at = Some(run);
    while let Some(run) = at.filter(|run| *run > around) {
        at = select.query_row([run], |row| row.get(0)).optional()?;
    }
    Ok(at == Some(around))
}

/// Returns the text before the paths of a run's nodes: `review[3]/` for a child, and nothing for the run that the user
/// started.
pub(crate) fn prefix(db: &Connection, run: i64) -> Result<String, StoreError> {
    let mut select = db.prepare_cached(
        "SELECT runs.parent, visits.next, runs.item FROM runs
         JOIN visits ON visits.run = runs.parent AND visits.seq = runs.parent_seq - 1
         WHERE runs.run = ?1 AND runs.parent < runs.run",
    )?;
    let (mut prefix, mut at) = (String::new(), run);
    while let Some((parent, node, item)) = select
        .query_row(params![at], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, i64>(2)?)))
        .optional()?
    {
        prefix = format!("{}[{item}]/{prefix}", node.unwrap_or_default());
        at = parent;
    }
    Ok(prefix)
}
