//! Reading a store beside the process that drives it: runs, steps, states, questions, graphs.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use flowstone_core::{Action, NodePath, RunId, Usage};
use rusqlite::{Connection, OptionalExtension, Row, types::FromSql};

use crate::{
    disk::{
        access::Access,
        files::{Files, Held},
        lock,
        schema::{self, Opened},
    },
    records::{deleting, ids::gone, usage},
    words::{
        columns::{count, int, time},
        error::{OpenError, ReadError, StoreError, damaged},
        ids::{MAX_ID, bad_length},
        info::{Cursor, RunInfo},
        renamed::Renamed,
        status::Status,
    },
};

/// A store opened for reading, also while a process drives it.
///
/// Its methods block for as long as SQLite reads: microseconds, as a rule.
///
/// # Example
///
/// ```
/// use flowstone_core::{AsyncFlow, Result};
/// use flowstone_durable::{Filter, Reader, Runs, Status};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("numbers.db");
/// let mut flow = AsyncFlow::builder("parse");
/// let parse = flow.add("parse", |text: &mut String| -> Result<()> { text.parse::<u8>()?; Ok(()) });
/// flow.start(parse);
/// let runs = Runs::open(&path, flow.build()?).await?;
/// runs.start("r", "seven".to_owned()).await?.settled().await?;
///
/// let store = Reader::open(&path)?; // in any process
/// let failed = store.list(&Filter::new().status(Status::Failed))?;
/// assert_eq!((failed[0].id.as_str(), failed[0].node.as_ref().unwrap().as_str()), ("r", "parse"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    pub(crate) db: Connection,
    files: Files,
    _held: Held,
}

impl Reader {
    /// Opens a store that is there.
    ///
    /// # Errors
    ///
    /// If there is no such file, it is no store, or it was written by a newer version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        Ok(Self::over(path, schema::open(path, None, Access::Read)?))
    }

    pub(crate) fn over(path: &Path, opened: Opened) -> Self {
        let Opened { db, files, held } = opened;
        Self { path: path.to_owned(), db, files, _held: held }
    }

    /// Lets `read` see the store as it is at one moment, and takes the file's lock once for all of it.
    ///
    /// A snapshot inside another is a part of the outer one.
    pub(crate) fn at_once<T, E: From<StoreError>>(&self, read: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        if !self.db.is_autocommit() {
            return read(self);
        }
        self.files.check_data()?;
        self.run_cached("BEGIN").map_err(StoreError::from)?;
        let moment = Moment(self);
        let result = read(self);
        drop(moment);
        result
    }

    fn run_cached(&self, sql: &str) -> rusqlite::Result<()> {
        self.db.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Returns the process that drives the store now, if one does.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn driver(&self) -> Result<Option<u32>, ReadError> {
        if !lock::is_driven(&self.path) {
            return Ok(None);
        }
        self.at_once(|reader| {
            let mut select = reader.db.prepare_cached("SELECT pid FROM owner WHERE one = 1")?;
            let pid = select.query_row([], |row| row.get::<_, i64>(0)).optional()?;
            let pid = pid.ok_or_else(|| damaged("the table `owner` has no row"))?;
            Ok(u32::try_from(pid).ok())
        })
    }

    /// Returns how many runs are in each status, without children of batch flows. Counting takes a look at each run.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn count(&self) -> Result<Vec<(Status, u64)>, ReadError> {
        self.at_once(|reader| {
            let mut select = reader.db.prepare_cached(
                "SELECT count(*) AS runs FROM runs WHERE flow = ?1 AND status = ?2 AND parent IS NULL",
            )?;
            let flows = reader.flow_numbers(&[])?;
            let mut counted = Vec::new();
            for status in Status::ALL {
                let runs = flows.iter().map(|flow| select.query_row((flow, status.code()), |row| count(row, "runs")));
                let runs = runs.sum::<rusqlite::Result<u64>>()?;
                counted.extend((runs > 0).then_some((status, runs)));
            }
            Ok(counted)
        })
    }

    /// Returns a run.
    ///
    /// # Errors
    ///
    /// [`ReadError::UnknownRun`] if there is none of this id.
    pub fn run(&self, id: impl Into<RunId>) -> Result<RunInfo, ReadError> {
        let id = id.into();
        self.at_once(|reader| {
            let run = reader.number(&id)?;
            reader.info(run)?.ok_or_else(|| ReadError::UnknownRun { run: id.clone() })
        })
    }

    /// Returns the children of a run, in order: the runs that journaled batch flows made for their items, and those
    /// that its `exec`s ran (`AsyncFlow::run_in`).
    ///
    /// # Errors
    ///
    /// [`ReadError::UnknownRun`] if there is none of this id.
    pub fn children(&self, id: impl Into<RunId>) -> Result<Vec<RunInfo>, ReadError> {
        self.at_once(|reader| {
            let run = reader.number(&id.into())?;
            let mut select = reader.db.prepare_cached(
                "SELECT run FROM runs WHERE parent = ?1 AND parent IS NOT NULL ORDER BY parent_seq, item",
            )?;
            let rows = select.query_map([run], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
            rows.into_iter().filter_map(|run| reader.info(run).transpose()).collect()
        })
    }

    /// Returns what a run has used of paid services so far, its children included: also in visits that failed, or were
    /// cut off between two commits. What a crash cut off is not known. A fork begins at nothing.
    ///
    /// # Errors
    ///
    /// [`ReadError::UnknownRun`] if there is none of this id.
    pub fn usage(&self, id: impl Into<RunId>) -> Result<Usage, ReadError> {
        self.at_once(|reader| Ok(usage::total(&reader.db, reader.number(&id.into())?)?))
    }

    /// Returns how many items the visit under way has recorded so far, see
    /// [`journaled`](flowstone_core::NodeExt::journaled).
    ///
    /// # Errors
    ///
    /// [`ReadError::UnknownRun`] if there is none of this id.
    pub fn items_done(&self, id: impl Into<RunId>) -> Result<u64, ReadError> {
        self.at_once(|reader| reader.items_of(reader.number(&id.into())?))
    }

    fn items_of(&self, run: i64) -> Result<u64, ReadError> {
        let next = int(self.last_step(run)? + 1);
        let sql = "SELECT (SELECT count(*) FROM items WHERE run = ?1 AND seq = ?2 AND output IS NOT NULL)
            + (SELECT count(*) FROM runs WHERE parent = ?1 AND parent_seq = ?2 AND status = ?3 AND parent IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM items WHERE items.run = ?1 AND seq = ?2 AND items.item = runs.item
                    AND output IS NOT NULL))";
        let done: i64 = self.db.query_row(sql, (run, next, Status::Ended.code()), |row| row.get(0))?;
        Ok(u64::try_from(done).unwrap_or_default())
    }

    pub(crate) fn number(&self, id: &RunId) -> Result<i64, ReadError> {
        let mut select = self.db.prepare_cached("SELECT run FROM runs WHERE id = ?1")?;
        match select.query_row([id.as_str()], |row| row.get(0)).optional()? {
            Some(run) if !deleting::is_gone(&self.db, run)? => Ok(run),
            // An id that is too long may have megabytes, so the error gives its length and not its text.
            _ => Err(match bad_length(id) {
                Some(length) => ReadError::BadId { length, most: MAX_ID },
                None => ReadError::UnknownRun { run: id.clone() },
            }),
        }
    }

    /// Returns the number of a run that is no child: requests are for such runs only.
    pub(crate) fn own_number(&self, id: &RunId) -> Result<i64, ReadError> {
        let run = self.number(id)?;
        let mut select = self.db.prepare_cached(
            "SELECT parents.id FROM runs JOIN runs AS parents ON parents.run = runs.parent WHERE runs.run = ?1",
        )?;
        match select.query_row([run], |row| row.get::<_, String>(0)).optional()? {
            Some(parent) => Err(ReadError::IsChild { run: id.clone(), parent: parent.into() }),
            None => Ok(run),
        }
    }

    /// Returns the former names of the nodes of a run's flow, as programs have declared them.
    pub(crate) fn renamed(&self, id: &RunId) -> Result<Renamed, ReadError> {
        let run = self.number(id)?;
        let mut select = self.db.prepare_cached("SELECT renamed FROM runs JOIN flows USING (flow) WHERE run = ?1")?;
        match select.query_row([run], |row| row.get::<_, Option<String>>(0)).optional()?.flatten() {
            Some(json) => Renamed::from_json(&json).map_err(|error| damaged(format!("names of nodes: {error}")).into()),
            None => Ok(Renamed::default()),
        }
    }

    /// Returns the name of a run's flow.
    pub(crate) fn flow_of(&self, run: i64) -> Result<String, ReadError> {
        self.flow_version_of(run).map(|(_, name)| name)
    }

    /// Returns the number of the version of a run's flow, and the name of the flow.
    pub(crate) fn flow_version_of(&self, run: i64) -> Result<(i64, String), ReadError> {
        let mut select =
            self.db.prepare_cached("SELECT flow, name FROM runs JOIN flows USING (flow) WHERE run = ?1")?;
        let found = select.query_row([run], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        found.ok_or_else(|| gone(&self.db, run, "flow"))
    }

    pub(crate) fn last_step(&self, run: i64) -> Result<u64, ReadError> {
        let mut select = self.db.prepare_cached("SELECT seq FROM visits WHERE run = ?1 ORDER BY seq DESC LIMIT 1")?;
        let last = select.query_row([run], |row| count(row, "seq")).optional()?;
        last.ok_or_else(|| gone(&self.db, run, "step"))
    }

    pub(crate) fn info(&self, run: i64) -> Result<Option<RunInfo>, ReadError> {
        let mut select = self.db.prepare_cached(
            "SELECT runs.*, name, fingerprint, seq, next, parents.id AS parent_id, origins.id AS origin_id
             FROM runs JOIN flows USING (flow)
             JOIN visits ON visits.run = runs.run AND seq = (SELECT max(seq) FROM visits WHERE run = runs.run)
             LEFT JOIN runs AS parents ON parents.run = runs.parent
             LEFT JOIN runs AS origins ON origins.run = runs.origin WHERE runs.run = ?1",
        )?;
        let mut rows = select.query([run])?;
        rows.next()?.map(info).transpose()
    }
}

/// The transaction of a reader; it ends when dropped, also by a panic.
struct Moment<'a>(&'a Reader);

impl Drop for Moment<'_> {
    fn drop(&mut self) {
        // The transaction has written nothing. If its end fails, the next call fails.
        drop(self.0.run_cached("COMMIT"));
    }
}

fn info(row: &Row<'_>) -> Result<RunInfo, ReadError> {
    let error: Option<String> = row.get("error")?;
    let error = error.map(|error| serde_json::from_str(&error)).transpose();
    Ok(RunInfo {
        id: row.get::<_, String>("id")?.into(),
        flow: row.get("name")?,
        fingerprint: row.get("fingerprint")?,
        status: status(row.get("status")?)?,
        step: count(row, "seq")?,
        node: row.get::<_, Option<String>>("next")?.map(NodePath::from),
        action: row.get::<_, Option<String>>("action")?.map(Action::from),
        error: error.map_err(|error| damaged(format!("the error of a run: {error}")))?,
        refused: since_3(row, "refused")?,
        resumes: match since_3::<Option<i64>>(row, "resumed_seq")?.flatten() {
            Some(seq) if seq == row.get::<_, i64>("seq")? + 1 => count(row, "resumes")?,
            _ => 0,
        },
        queued_at: queued_at(row)?,
        created_at: time(row.get("created_at")?),
        changed_at: time(row.get("changed_at")?),
        wake_at: row.get::<_, Option<i64>>("wake_at")?.map(time),
        parent: row.get::<_, Option<String>>("parent_id")?.map(RunId::from),
        item: row.get::<_, Option<i64>>("item")?.and_then(|item| u64::try_from(item).ok()),
        origin: match row.get::<_, Option<String>>("origin_id")? {
            Some(id) => Some((id.into(), count(row, "origin_seq")?)),
            None => None,
        },
        cursor: Cursor(row.get("run")?),
    })
}

/// Returns the time since which a run waits for its turn; if it had begun before, the time at which its status changed.
fn queued_at(row: &Row<'_>) -> Result<Option<SystemTime>, ReadError> {
    let changed_at: i64 = row.get("changed_at")?;
    Ok(since_3::<Option<i64>>(row, "queued_at")?.flatten().map(|at| time(at.max(changed_at))))
}

/// Reads a column that was added by schema 3: a reader may open a store that is not upgraded yet.
fn since_3<T: FromSql>(row: &Row<'_>, column: &str) -> Result<Option<T>, ReadError> {
    if row.as_ref().column_index(column).is_err() {
        return Ok(None);
    }
    Ok(row.get(column)?)
}

fn status(code: i64) -> Result<Status, ReadError> {
    Status::of_code(code).ok_or_else(|| damaged(format!("a run with status {code}")).into())
}
