//! Passages and their vectors in a SQLite file, which finds the nearest ones by looking at all.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, params};

use crate::passages::Passage;

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS passages (
    model TEXT NOT NULL,
    file TEXT NOT NULL,
    text TEXT NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (model, file, text)
)";

/// The index. Clones share the file.
#[derive(Debug, Clone)]
pub struct Index {
    db: Arc<Mutex<Connection>>,
    /// Vectors of different models have nothing in common.
    model: String,
}

impl Index {
    /// Opens or creates the file, for vectors of a model.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or is something else.
    pub fn open(path: &Path, model: &str) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        db.execute_batch(TABLE)?;
        Ok(Self { db: Arc::new(Mutex::new(db)), model: model.to_owned() })
    }

    /// Returns those of the passages that have no vector yet.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn lacks(&self, passages: &[Passage]) -> rusqlite::Result<Vec<Passage>> {
        let db = self.db();
        let mut known = db.prepare("SELECT 1 FROM passages WHERE model = ?1 AND file = ?2 AND text = ?3")?;
        let mut lacking = Vec::new();
        for passage in passages {
            if !known.exists(params![self.model, passage.file, passage.text])? {
                lacking.push(passage.clone());
            }
        }
        Ok(lacking)
    }

    /// Adds passages with their vectors; what is there is replaced.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn add<'a>(&self, entries: impl IntoIterator<Item = (&'a Passage, &'a [f32])>) -> rusqlite::Result<()> {
        let mut db = self.db();
        let transaction = db.transaction()?;
        for (Passage { file, text }, vector) in entries {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            let insert = "INSERT OR REPLACE INTO passages VALUES (?1, ?2, ?3, ?4)";
            transaction.execute(insert, params![self.model, file, text, bytes])?;
        }
        transaction.commit()
    }

    /// Returns the passages whose vectors point most nearly where this one does, best first, at most so many.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn nearest(&self, vector: &[f32], most: usize) -> rusqlite::Result<Vec<Passage>> {
        let db = self.db();
        let mut all = db.prepare("SELECT file, text, vector FROM passages WHERE model = ?1 ORDER BY file, text")?;
        let near = all.query_map([&self.model], |row| {
            let bytes: Vec<u8> = row.get(2)?;
            let (numbers, _) = bytes.as_chunks();
            let near = cosine(vector, &numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<_>>());
            Ok((near, Passage { file: row.get(0)?, text: row.get(1)? }))
        })?;
        let mut near = near.collect::<rusqlite::Result<Vec<_>>>()?;
        near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        Ok(near.into_iter().take(most).map(|(_, passage)| passage).collect())
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cosine of the angle between two vectors: 1 where they point the same way.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt().max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_passages_of_the_same_model_are_found() {
        let passage = |text: &str| Passage { file: "a.md".into(), text: text.into() };
        let (east, north) = (passage("east"), passage("north"));
        let index = Index::open(Path::new(":memory:"), "one").unwrap();
        let other = Index { model: "other".into(), ..index.clone() };

        index.add([(&east, &[1.0, 0.1][..]), (&north, &[0.0, 2.0][..])]).unwrap();

        assert_eq!(index.nearest(&[0.1, 1.0], 1).unwrap(), std::slice::from_ref(&north));
        assert_eq!(index.lacks(&[north.clone(), passage("west")]).unwrap(), [passage("west")]);
        assert_eq!(other.nearest(&[0.1, 1.0], 1).unwrap(), []);
        assert_eq!(other.lacks(std::slice::from_ref(&north)).unwrap(), [north]);
    }
}
