//! Flows as rows: one for each version.

use rusqlite::{Connection, OptionalExtension};

use crate::words::error::StoreError;

/// Writes down a version of a flow, and returns its number. All versions of the flow get the present names of its
/// nodes.
pub(crate) fn flow(db: &Connection, flow: &FlowRow) -> Result<i64, StoreError> {
    let row = version(db, flow)?;
    let mut update = db.prepare_cached("UPDATE flows SET renamed = ?2 WHERE name = ?1 AND renamed IS NOT ?2")?;
    for name in [&flow.name].into_iter().chain(&flow.before) {
        update.execute((name, &flow.renamed))?;
    }
    Ok(row)
}

fn version(db: &Connection, flow: &FlowRow) -> Result<i64, StoreError> {
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
    /// The former names of its nodes, as JSON.
    pub(crate) renamed: Option<String>,
    pub(crate) fingerprint: String,
    pub(crate) graph: String,
    pub(crate) mermaid: String,
    pub(crate) dot: String,
}
