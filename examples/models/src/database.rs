//! A SQLite database that is only read, for statements that nobody has checked.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags, types::ValueRef};

/// The most rows that are read of an answer.
const ROWS: usize = 50;

/// The database.
#[derive(Debug)]
pub struct Database(Mutex<Connection>);

impl Database {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// If it is not there, or is no database.
    pub fn open(path: &Path) -> Result<Self> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        Self::new(db?).with_context(|| format!("{} is no database", path.display()))
    }

    /// Makes one in memory, of these statements.
    ///
    /// # Errors
    ///
    /// If one of them is wrong.
    pub fn of(statements: &str) -> Result<Self> {
        let db = Connection::open_in_memory()?;
        db.execute_batch(statements)?;
        Self::new(db)
    }

    fn new(db: Connection) -> Result<Self> {
        db.pragma_update(None, "query_only", true)?;
        let db = Self(Mutex::new(db));
        db.schema()?;
        Ok(db)
    }

    /// Returns the statements that made its tables.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn schema(&self) -> Result<String> {
        let rows = self.select("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
        Ok(rows.into_iter().skip(1).flatten().collect::<Vec<_>>().join(";\n"))
    }

    /// Runs a statement, and returns the names of its columns and its first rows.
    ///
    /// # Errors
    ///
    /// If SQLite refuses the statement.
    pub fn select(&self, sql: &str) -> rusqlite::Result<Vec<Vec<String>>> {
        let db = self.db();
        let mut statement = db.prepare(sql)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let columns = names.len();
        let mut rows = vec![names];
        let mut found = statement.query([])?;
        while rows.len() <= ROWS {
            let Some(row) = found.next()? else { break };
            rows.push((0..columns).map(|column| Ok(text(row.get_ref(column)?))).collect::<rusqlite::Result<_>>()?);
        }
        Ok(rows)
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:.2}"),
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_whatever_the_statement() {
        let db = Database::of("CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (1)").unwrap();

        assert!(db.select("DELETE FROM t").unwrap_err().to_string().contains("readonly"));

        assert_eq!(db.select("SELECT x FROM t").unwrap(), [["x"], ["1"]]);
    }
}
