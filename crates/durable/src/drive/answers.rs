//! Answers: an answer is checked against the question that a run asks, kept once, and the run goes on.
//!
//! ```text
//! answer: find ─▶ check ─▶ keep, in one transaction ─▶ the run is driven
//! ```

use std::sync::Arc;

use flowstone_core::{NodePath, RunId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde_json::Value;

use crate::{
    drive::shared::Shared,
    records::{
        ids,
        parked::{self, GoesOn, IsNode},
        pauses::AskedNow,
        questions,
        reader::Reader,
        status::status,
    },
    words::{
        checked::{StorageCheck, fits_schema},
        columns::{self, int, now, time},
        error::{AnswerError, KeepError, Written, WrongStatus},
        info::Question,
        status::{Happened, Status},
        waits::Moment,
    },
};

/// The question that an answer is for.
pub(crate) enum Which {
    /// The question that is open at a node.
    At(NodePath),
    /// This question, and no later one of the same node.
    Question(Box<Question>),
}

impl Which {
    /// Returns the node that asks, for errors.
    pub(crate) fn node(&self) -> &NodePath {
        match self {
            Self::At(node) => node,
            Self::Question(question) => &question.node,
        }
    }
}

/// Answers a question of a run, once, and lets the run go on.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    (run, id): (i64, &RunId),
    which: Which,
    answer: impl Serialize,
) -> Result<(), AnswerError> {
    let answer = to_json(id, which.node(), answer, shared.options.max_state)?;
    let (store, asked, given) = (Arc::clone(shared), id.clone(), answer.clone());
    let now = shared.moment();
    let check = move |reader: &Reader| -> Result<_, AnswerError> {
        let flow = store.flow_of(reader, run)?;
        let is_node = |node: &NodePath, known: &NodePath| flow.is_same(node, known);
        let (mut found, mut question) = find(reader, (&asked, &which), &is_node, now)?;
        let fit = store.flows.check_alone(reader, parked::root_of(&reader.db, found.run)?)?;
        store.flows.check_line(reader, &fit, found.run)?;
        let before = question.version;
        question.migrate(&*flow, &asked)?;
        if question.version != before {
            found.now = Some(question.to_text(&asked, store.options.max_state)?);
        }
        check(&asked, which.node(), &question, &given)?;
        let (version, _) = reader.flow_version_of(run)?;
        flow.fits(&asked, version, &found.node, &given)?;
        Ok(found)
    };
    let found = shared.unless_refused(run, shared.read(check).await).await?;
    let goes_on = shared.writer.call("answer", move |db| keep(db, &found, &answer)).await?;
    shared.go_on(&goes_on);
    Ok(())
}

/// Returns an answer as the JSON that will be read back.
pub(crate) fn to_json(run: &RunId, node: &NodePath, answer: impl Serialize, most: usize) -> Result<Value, KeepError> {
    StorageCheck { run, node, what: Written::Answer, most }.value(&answer)
}

/// A question that an answer was checked against.
pub(crate) struct Found {
    /// The run that asks, which may be a child.
    pub(crate) run: i64,
    pub(crate) step: u64,
    /// The node, by its path from the run that the user started.
    pub(crate) node: NodePath,
    /// The question as it was migrated, if it was.
    pub(crate) now: Option<AskedNow>,
}

/// Finds the question of a run that an answer is for.
pub(crate) fn find(
    reader: &Reader,
    (run, which): (&RunId, &Which),
    is_node: IsNode<'_>,
    now: Moment,
) -> Result<(Found, Question), AnswerError> {
    let node = which.node();
    let asked = match which {
        Which::At(node) => at_node(reader, run, node, is_node)?,
        Which::Question(question) => again(reader, run, question)?,
    };
    let Some((asking, asked)) = asked else {
        let open = reader.open_questions(run.clone())?.into_iter().next();
        return Err(AnswerError::NotAsking { run: run.clone(), node: node.clone(), asks: open.map(|open| open.node) });
    };
    if asked.answer.is_some() {
        return Err(AnswerError::AlreadyAnswered { run: run.clone(), node: node.clone() });
    }
    let is_due = asked.is_open() && parked::is_due(&reader.db, asking, now)?;
    if let Some(at) = asked.expired_at.or(asked.expires_at.filter(|_| is_due)) {
        return Err(AnswerError::Expired { run: run.clone(), node: node.clone(), at });
    }
    if !asked.is_open() {
        return Err(AnswerError::NotAsking { run: run.clone(), node: node.clone(), asks: None });
    }
    let node = NodePath::from(format!("{}{}", parked::prefix(&reader.db, asking)?, asked.node));
    let found = Found { run: asking, step: asked.step, node: node.clone(), now: None };
    Ok((found, Question { node, ..asked }))
}

/// Returns the question that is open at a node, or else the last one there, with the run that asks.
fn at_node(
    reader: &Reader,
    run: &RunId,
    node: &NodePath,
    is_node: IsNode<'_>,
) -> Result<Option<(i64, Question)>, AnswerError> {
    let number = reader.number(run)?;
    // With the id of a child, the path may be relative to the child or to the run that the user started.
    let own = parked::prefix(&reader.db, number)?;
    let local = node.as_str().strip_prefix(own.as_str()).map_or_else(|| node.clone(), NodePath::from);
    let (asking, local) = parked::resolve(&reader.db, number, &local, is_node)?;
    let is_root = asking == number && own.is_empty();
    let is_its = |question: &Question| if is_root { is_node(&local, &question.node) } else { question.node == local };
    let asked = match questions::at(&reader.db, asking, reader.last_step(asking)? + 1)?.filter(is_its) {
        Some(next) => Some(next),
        // All of its questions are read only for the error.
        None => questions::of_run(&reader.db, asking)?.into_iter().rfind(is_its),
    };
    Ok(asked.map(|asked| (asking, asked)))
}

/// Returns the present state of a question, if it belongs to this run or its children. If the id was deleted and
/// started again, the new run has other questions.
fn again(reader: &Reader, run: &RunId, known: &Question) -> Result<Option<(i64, Question)>, AnswerError> {
    let (number, asking) = (reader.number(run)?, known.asking);
    if !parked::is_within(&reader.db, asking, number)? {
        return Ok(None);
    }
    let asked = questions::at(&reader.db, asking, known.step)?.filter(|asked| asked.run == known.run);
    Ok(asked.map(|asked| (asking, asked)))
}

/// Checks an answer against the schema of its question.
pub(crate) fn check(run: &RunId, node: &NodePath, question: &Question, answer: &Value) -> Result<(), AnswerError> {
    let unfit = |what| AnswerError::Unfit { run: run.clone(), node: node.clone(), what };
    fits_schema(&question.schema, answer).map_err(unfit)
}

/// Keeps an answer that was checked, if the run still waits for it, and lets the run go on.
pub(crate) fn keep(db: &Connection, found: &Found, answer: &Value) -> Result<GoesOn, AnswerError> {
    let Found { run, step, node, now } = found;
    let mut select = db.prepare_cached("SELECT answer IS NULL, expired_at FROM pauses WHERE run = ?1 AND seq = ?2")?;
    let asked = select.query_row((run, columns::int(*step)), |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)));
    let asked: Option<(bool, Option<i64>)> = asked.optional()?;
    match (status(db, *run)?, asked) {
        (Status::Paused, Some((true, None))) => {
            let goes_on = parked::go_on(db, *run, Happened::Answered)?;
            keep_answer(db, *run, *step, &answer.to_string())?;
            now.as_ref().map_or(Ok(()), |now| set_question(db, *run, *step, now))?;
            Ok(goes_on)
        }
        // In the meantime the question has expired, was answered, or was asked again.
        (_, Some((true, Some(at)))) => {
            Err(AnswerError::Expired { run: ids::id_of(db, *run)?, node: node.clone(), at: time(at) })
        }
        (status, Some((true, None))) if status.is_final() => {
            Err(WrongStatus { run: ids::id_of(db, *run)?, status, wanted: "answered" }.into())
        }
        _ => Err(AnswerError::AlreadyAnswered { run: ids::id_of(db, *run)?, node: node.clone() }),
    }
}

/// Keeps an answer if the question is open; returns `true` if it was kept.
fn keep_answer(db: &Connection, run: i64, seq: u64, answer: &str) -> Result<bool, AnswerError> {
    let mut update = db.prepare_cached(
        "UPDATE pauses SET answer = ?3, answered_at = ?4, refused = NULL WHERE run = ?1 AND seq = ?2 AND answer IS NULL
             AND expired_at IS NULL",
    )?;
    Ok(update.execute(params![run, int(seq), answer, now()])? > 0)
}

/// Writes down a migrated question.
fn set_question(db: &Connection, run: i64, seq: u64, asked: &AskedNow) -> Result<(), AnswerError> {
    let mut update =
        db.prepare_cached("UPDATE pauses SET question = ?3, schema = ?4, version = ?5 WHERE run = ?1 AND seq = ?2")?;
    update.execute(params![run, int(seq), asked.question, asked.schema, asked.version])?;
    Ok(())
}
