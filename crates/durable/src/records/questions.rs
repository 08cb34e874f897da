//! The questions of a run and of its children, and finding the one that an answer is for.

use flowstone_core::{EventKind, NodePath, RunId};
use rusqlite::{Connection, Row, params};
use serde_json::Value;

use crate::{
    records::{ids::id_of, load::json_or_text, parked, reader::Reader, status::status},
    words::{
        columns::{count, int, time},
        error::{ReadError, damaged},
        info::Question,
        status::Status,
    },
};

impl Reader {
    /// Returns the questions of a run with their answers, oldest first, and then those of its children, in order. Of a
    /// run that is paused, some have no answer; see [`Question::is_open`].
    ///
    /// # Errors
    ///
    /// [`ReadError::UnknownRun`] if there is none of this id.
    pub fn questions(&self, id: impl Into<RunId>) -> Result<Vec<Question>, ReadError> {
        let id = id.into();
        self.at_once(|reader| {
            let run = reader.number(&id)?;
            of_tree(&reader.db, run)
        })
    }

    /// Returns the open questions of a run and of its children, see [`questions`](Self::questions).
    ///
    /// # Errors
    ///
    /// [`ReadError::UnknownRun`] if there is none of this id.
    pub fn open_questions(&self, id: impl Into<RunId>) -> Result<Vec<Question>, ReadError> {
        Ok(self.questions(id)?.into_iter().filter(Question::is_open).collect())
    }
}

/// Returns the questions of a run, oldest first, and then those of its children, with paths from the run that the user
/// started.
pub(crate) fn of_tree(db: &Connection, run: i64) -> Result<Vec<Question>, ReadError> {
    // A child is younger than its parent: a damaged store must not lead in a circle.
    let mut select = db.prepare_cached(
        "WITH RECURSIVE tree (run, prefix) AS (
             VALUES (?1, ?2)
             UNION ALL
             SELECT child.run, prefix || visits.next || '[' || child.item || ']/' FROM tree
             JOIN runs AS child ON child.parent = tree.run AND child.parent IS NOT NULL AND child.run > tree.run
             JOIN visits ON visits.run = tree.run AND visits.seq = child.parent_seq - 1
         )
         SELECT tree.prefix, pauses.*, runs.id, runs.status = 1 AND pauses.seq =
             (SELECT seq + 1 FROM visits WHERE visits.run = pauses.run ORDER BY seq DESC LIMIT 1) AS is_open
         FROM tree CROSS JOIN pauses ON pauses.run = tree.run JOIN runs ON runs.run = pauses.run",
    )?;
    let mut rows = select.query(params![run, parked::prefix(db, run)?])?;
    let mut questions = Vec::new();
    while let Some(row) = rows.next()? {
        questions.push(question(row, &row.get::<_, String>("prefix")?)?);
    }
    questions.sort_by_key(|question| (question.asking, question.step));
    Ok(questions)
}

/// Returns the questions of one run, oldest first, with the paths of its own nodes.
pub(crate) fn of_run(db: &Connection, run: i64) -> Result<Vec<Question>, ReadError> {
    between(db, run, 0, u64::MAX)
}

/// Returns the question of one run whose answer would complete this step, if there is one.
pub(crate) fn at(db: &Connection, run: i64, step: u64) -> Result<Option<Question>, ReadError> {
    Ok(between(db, run, step, step)?.pop())
}

fn between(db: &Connection, run: i64, from: u64, to: u64) -> Result<Vec<Question>, ReadError> {
    let mut select = db.prepare_cached(
        "SELECT pauses.*, runs.id, runs.status = 1 AND pauses.seq =
             (SELECT seq + 1 FROM visits WHERE visits.run = pauses.run ORDER BY seq DESC LIMIT 1) AS is_open
         FROM pauses JOIN runs ON runs.run = pauses.run
         WHERE pauses.run = ?1 AND pauses.seq BETWEEN ?2 AND ?3 ORDER BY pauses.seq",
    )?;
    let mut rows = select.query(params![run, int(from), int(to)])?;
    let mut questions = Vec::new();
    while let Some(row) = rows.next()? {
        questions.push(question(row, "")?);
    }
    Ok(questions)
}

fn question(row: &Row<'_>, prefix: &str) -> Result<Question, ReadError> {
    let run = RunId::from(row.get::<_, String>("id")?);
    let text = |column: &str| row.get::<_, String>(column);
    let json = |column: &str| json_or_text(&run, text(column)?);
    // A store of an older schema has no columns for questions that expire.
    let at = |column: &str| match row.as_ref().column_index(column) {
        Ok(index) => Ok::<_, ReadError>(row.get::<_, Option<i64>>(index)?.map(time)),
        Err(_) => Ok(None),
    };
    let answer: Option<String> = row.get("answer")?;
    let (question, schema) = (json("question")?, json("schema")?);
    let answer: Option<Value> = answer.map(|answer| json_or_text(&run, answer)).transpose()?;
    let (answered_at, expires_at, expired_at) = (at("answered_at")?, at("expires_at")?, at("expired_at")?);
    // Such a store has no column for versions either.
    let version = row.as_ref().column_index("version").map_or(Ok(0), |index| row.get(index))?;
    let is_open = row.get::<_, bool>("is_open")? && answer.is_none() && expired_at.is_none();
    Ok(Question {
        step: count(row, "seq")?,
        node: NodePath::from(format!("{prefix}{}", text("node")?)),
        question,
        schema,
        asked_at: time(row.get("asked_at")?),
        expires_at,
        expired_at,
        answer,
        answered_at,
        refused: row.get("refused")?,
        is_open,
        asking: row.get("run")?,
        version,
        run,
    })
}

/// Returns the reason why a run with waiting children waits: the first open question, or a time.
pub(crate) fn waits_for(db: &Connection, run: i64) -> Result<(Option<NodePath>, EventKind), ReadError> {
    if status(db, run)? == Status::Paused {
        let open = of_tree(db, run)?.into_iter().find(Question::is_open);
        let Question { node, question, .. } = open.ok_or_else(|| no_reason(db, run))?;
        return Ok((Some(node), EventKind::Paused { question }));
    }
    let mut select = db.prepare_cached("SELECT wake_at FROM runs WHERE run = ?1")?;
    let wake_at: Option<i64> = select.query_row([run], |row| row.get(0))?;
    Ok((None, EventKind::Sleeping { until: time(wake_at.ok_or_else(|| no_reason(db, run))?) }))
}

fn no_reason(db: &Connection, run: i64) -> ReadError {
    match id_of(db, run) {
        Ok(id) => damaged(format!("run `{id}` waits for its children, of which none waits")).into(),
        Err(error) => error.into(),
    }
}
