//! What the visits of a run use of paid services: gathered while they are under way, and kept.
//!
//! ```text
//! cx.spend ─▶ event `Used` ─▶ Purses ─▶ the Purse of the run, or child, whose node it is
//!                                          └▶ written with the next that is: an item, a wait, the visit, its failure
//! ```
//!
//! A child that is no run of its own, since its batch is not journaled, spends from the purse of the run around it.
//!
//! **Invariant:** what is taken out of a purse is written in one transaction, or put back, or lost with a commit that
//! failed: nothing is counted twice.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use flowstone_core::{NodePath, Usage, Usd};
use rusqlite::{Connection, Row, params};

use crate::{
    disk::schema,
    drive::observer::lock,
    records::rows::{count, int},
    words::error::Error,
};

/// The first schema with the table.
const SINCE: i64 = 2;

/// The purses of a run that is driven, and of its children.
#[derive(Debug, Default)]
pub(crate) struct Purses {
    /// By what stands before the paths of their nodes in events; the run itself has an empty text.
    open: Mutex<HashMap<String, Arc<Purse>>>,
    /// What visits had used that were left under way.
    left: Mutex<Vec<Spent>>,
    /// Whether anything was ever used: of a run that uses nothing, no visit takes a look.
    any: AtomicBool,
}

/// What the visit under way of one run has used and is not written down.
#[derive(Debug)]
pub(crate) struct Purse {
    run: i64,
    /// The step that the visit will be.
    seq: AtomicU64,
    used: Mutex<Usage>,
}

/// What a visit has used, to be added to what is known of it.
#[derive(Debug)]
pub(crate) struct Spent {
    run: i64,
    seq: u64,
    usage: Usage,
}

impl Purses {
    /// Opens the purse of a run, whose nodes have this before their paths.
    pub(crate) fn open(self: &Arc<Self>, prefix: &str, run: i64) -> OpenPurse {
        let purse = Arc::new(Purse { run, seq: AtomicU64::new(0), used: Mutex::default() });
        lock(&self.open).insert(prefix.to_owned(), Arc::clone(&purse));
        OpenPurse { purses: Arc::clone(self), prefix: prefix.to_owned(), purse }
    }

    /// Counts what a node has used.
    pub(crate) fn add(&self, node: &NodePath, usage: Usage) {
        let open = lock(&self.open);
        let mut path = node.as_str();
        loop {
            // `plan[2]/fan[0]/ask` is a node of the child `plan[2]/fan[0]/`, or else of `plan[2]/`, or else of the run.
            let child = path.rfind("]/");
            let prefix = child.map_or("", |at| &path[..at + 2]);
            if let Some(purse) = open.get(prefix) {
                *lock(&purse.used) += usage;
                return self.any.store(true, Ordering::Relaxed);
            }
            match child {
                Some(at) => path = &path[..at],
                // Nobody drives the run any more.
                None => return,
            }
        }
    }

    /// Takes what is in a purse, and what was left by others, to write it down.
    pub(crate) fn take(self: &Arc<Self>, purse: &Purse) -> Taken {
        if !self.any.load(Ordering::Relaxed) {
            return Taken { purses: None, spent: Vec::new() };
        }
        let mut taken = self.take_left();
        taken.spent.extend(purse.empty());
        taken
    }

    /// Takes what visits had used that were left under way.
    pub(crate) fn take_left(self: &Arc<Self>) -> Taken {
        Taken { purses: Some(Arc::clone(self)), spent: std::mem::take(&mut *lock(&self.left)) }
    }
}

impl Purse {
    /// Turns to the visit that will be this step, and returns the step of the one before, or 0.
    pub(crate) fn begin(&self, seq: u64) -> u64 {
        self.seq.swap(seq, Ordering::Relaxed)
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    fn empty(&self) -> Option<Spent> {
        let usage = std::mem::take(&mut *lock(&self.used));
        (usage != Usage::default()).then(|| Spent { run: self.run, seq: self.seq(), usage })
    }
}

/// The purse of a run while it is driven; it closes when dropped, and what is in it is left to whoever writes next.
pub(crate) struct OpenPurse {
    purses: Arc<Purses>,
    prefix: String,
    pub(crate) purse: Arc<Purse>,
}

impl OpenPurse {
    /// Takes what is to be written down.
    pub(crate) fn take(&self) -> Taken {
        self.purses.take(&self.purse)
    }
}

impl Drop for OpenPurse {
    fn drop(&mut self) {
        lock(&self.purses.open).remove(&self.prefix);
        lock(&self.purses.left).extend(self.purse.empty());
    }
}

/// What is on its way to be written down; it is put back if that is given up.
pub(crate) struct Taken {
    purses: Option<Arc<Purses>>,
    spent: Vec<Spent>,
}

impl Taken {
    pub(crate) fn is_empty(&self) -> bool {
        self.spent.is_empty()
    }

    /// Adds it to what the store knows of the visits, in the transaction around it.
    pub(crate) fn write(mut self, db: &Connection) -> Result<(), Error> {
        self.spent.iter().try_for_each(|spent| add(db, spent))?;
        self.spent.clear();
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(purses) = self.purses.take().filter(|_| !self.spent.is_empty()) {
            lock(&purses.left).append(&mut self.spent);
        }
    }
}

fn add(db: &Connection, spent: &Spent) -> Result<(), Error> {
    // Sums stop at the largest number: SQLite would make a float of a larger one, which the column does not take.
    let mut upsert = db.prepare_cached(
        "INSERT INTO usage (run, seq, calls, input_tokens, output_tokens, cost_nanos)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM runs WHERE run = ?1)
         ON CONFLICT (run, seq) DO UPDATE SET
             calls = min(calls + excluded.calls, 9223372036854775807),
             input_tokens = min(input_tokens + excluded.input_tokens, 9223372036854775807),
             output_tokens = min(output_tokens + excluded.output_tokens, 9223372036854775807),
             cost_nanos = min(cost_nanos + excluded.cost_nanos, 9223372036854775807)",
    )?;
    let Usage { calls, input_tokens, output_tokens, cost } = spent.usage;
    let counts = (int(calls), int(input_tokens), int(output_tokens), int(cost.as_nanos()));
    upsert.execute(params![spent.run, int(spent.seq), counts.0, counts.1, counts.2, counts.3])?;
    Ok(())
}

/// Returns what a run has used, its children and theirs included, also in visits that failed or are under way.
pub(crate) fn total(db: &Connection, run: i64) -> Result<Usage, Error> {
    if !schema::reaches(db, SINCE)? {
        return Ok(Usage::default());
    }
    // Not `UNION ALL`: parents that lead in a circle, as a damaged store may have, must come to an end.
    let mut select = db.prepare_cached(
        "WITH RECURSIVE tree (run) AS (
             VALUES (?1)
             UNION
             SELECT runs.run FROM tree JOIN runs ON runs.parent = tree.run AND runs.parent IS NOT NULL
         )
         SELECT usage.* FROM tree CROSS JOIN usage USING (run)",
    )?;
    let used = select.query_map([run], usage)?;
    // Summed up here, where a sum that is too large is no error.
    Ok(used.sum::<rusqlite::Result<_>>()?)
}

/// Returns what the visits of a run used that are these steps, without those that used nothing.
pub(crate) fn of_steps(db: &Connection, run: i64, from: u64, to: u64) -> Result<HashMap<u64, Usage>, Error> {
    if !schema::reaches(db, SINCE)? {
        return Ok(HashMap::new());
    }
    let mut select = db.prepare_cached("SELECT * FROM usage WHERE run = ?1 AND seq BETWEEN ?2 AND ?3")?;
    let used = select.query_map((run, int(from), int(to)), |row| Ok((count(row, "seq")?, usage(row)?)))?;
    Ok(used.collect::<rusqlite::Result<_>>()?)
}

fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    Ok(Usage {
        calls: count(row, "calls")?,
        input_tokens: count(row, "input_tokens")?,
        output_tokens: count(row, "output_tokens")?,
        cost: Usd::nanos(count(row, "cost_nanos")?),
    })
}
