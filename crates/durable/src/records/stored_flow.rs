//! Reading the flows of a store.

use serde_json::Value;

use crate::{
    records::reader::Reader,
    words::error::{ReadError, damaged},
};

/// A version of a flow, as it is in a store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredFlow {
    /// Its name.
    pub name: String,
    /// The hash that tells its versions apart.
    pub fingerprint: String,
    /// The flow as JSON, see [`AsyncFlow::to_json`](flowstone_core::AsyncFlow::to_json).
    pub graph: Value,
    /// The flow as a Mermaid flowchart.
    pub mermaid: String,
    /// The flow in Graphviz's DOT language.
    pub dot: String,
}

impl Reader {
    /// Returns the flows of the store: each version that a run was started or went on with, newest last.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn flows(&self) -> Result<Vec<StoredFlow>, ReadError> {
        self.at_once(|reader| {
            let sql = "SELECT name, fingerprint, graph, mermaid, dot FROM flows ORDER BY flow";
            let mut select = reader.db.prepare_cached(sql)?;
            let mut rows = select.query([])?;
            let mut flows = Vec::new();
            while let Some(row) = rows.next()? {
                let graph: String = row.get(2)?;
                flows.push(StoredFlow {
                    name: row.get(0)?,
                    fingerprint: row.get(1)?,
                    graph: serde_json::from_str(&graph).map_err(|error| damaged(format!("a flow's graph: {error}")))?,
                    mermaid: row.get(3)?,
                    dot: row.get(4)?,
                });
            }
            Ok(flows)
        })
    }
}
