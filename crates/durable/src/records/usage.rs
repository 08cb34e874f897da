//! The usage of paid services, as rows.

use std::collections::HashMap;

use flowstone_core::{Usage, Usd};
use rusqlite::{Connection, Row, params};

use crate::{
    disk::schema,
    words::{
        columns::{count, int},
        error::StoreError,
    },
};

/// The first schema with the table.
const SINCE: i64 = 2;

/// Usage to be added to the row of a visit.
#[derive(Debug)]
pub(crate) struct Spent {
    pub(crate) run: i64,
    pub(crate) seq: u64,
    pub(crate) usage: Usage,
}

/// Adds usage to the row of a visit, in the transaction around it.
pub(crate) fn add(db: &Connection, spent: &Spent) -> Result<(), StoreError> {
    // Sums stop at the largest integer: SQLite would turn a larger one into a float, which the column refuses.
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
pub(crate) fn total(db: &Connection, run: i64) -> Result<Usage, StoreError> {
    if !schema::reaches(db, SINCE)? {
        return Ok(Usage::default());
    }
    // This is not `UNION ALL`, so that the query also ends if parents lead in a circle, as in a damaged store.
    let mut select = db.prepare_cached(
        "WITH RECURSIVE tree (run) AS (
             VALUES (?1)
             UNION
             SELECT runs.run FROM tree JOIN runs ON runs.parent = tree.run AND runs.parent IS NOT NULL
         )
         SELECT usage.* FROM tree CROSS JOIN usage USING (run)",
    )?;
    let used = select.query_map([run], usage)?;
    // The sum is made here and not in SQL, where a sum that is too large is an error.
    Ok(used.sum::<rusqlite::Result<_>>()?)
}

/// Returns the usage of these steps of a run, without those that used nothing.
pub(crate) fn of_steps(db: &Connection, run: i64, from: u64, to: u64) -> Result<HashMap<u64, Usage>, StoreError> {
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
