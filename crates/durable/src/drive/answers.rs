//! Answers: whether one fits the question that a run asks, and keeping it once.

use flowstone_core::{NodePath, RunId};
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use serde_json::Value;

use crate::{
    drive::watch::status,
    flows::asking::AskedNow,
    records::{
        parked::{self, GoesOn},
        questions,
        reader::Reader,
        rows::{self, time},
    },
    words::{
        checked::Slip,
        error::{Error, Written},
        status::{Question, Status},
        waits::Moment,
    },
};

/// Returns an answer as JSON, as it will be read.
pub(crate) fn to_json(run: &RunId, node: &NodePath, answer: impl Serialize, most: usize) -> Result<Value, Error> {
    Slip { run, node, what: Written::Answer, most }.value(&answer)
}

/// A question that an answer was checked against.
pub(crate) struct Found {
    /// The run that asks: a child, perhaps.
    pub(crate) run: i64,
    pub(crate) step: u64,
    /// The node, by its path from the run that the user started.
    pub(crate) node: NodePath,
    /// The question as it was migrated, if it was.
    pub(crate) now: Option<AskedNow>,
}

/// Knows a node of the run that the user started by all its names: the one that was asked for, and the one that is stored.
pub(crate) type IsNode<'a> = &'a dyn Fn(&NodePath, &NodePath) -> bool;

/// Finds the question that an answer is for.
pub(crate) fn find(
    reader: &Reader,
    (run, node, step): (&RunId, &NodePath, Option<u64>),
    is_node: IsNode<'_>,
    now: Moment,
) -> Result<(Found, Question), Error> {
    let number = reader.number(run)?;
    // The id of a child may come with the path from there, or with that from the run that the user started.
    let own = parked::prefix(&reader.db, number)?;
    let local = node.as_str().strip_prefix(own.as_str()).map_or_else(|| node.clone(), NodePath::from);
    let (asking, local) = parked::resolve(&reader.db, number, &local, is_node)?;
    let is_root = asking == number && own.is_empty();
    let is_of = |question: &Question| {
        let named = if is_root { is_node(&local, &question.node) } else { question.node == local };
        named && step.is_none_or(|step| step == question.step)
    };
    let next = questions::at(&reader.db, asking, reader.last_step(asking)? + 1)?.filter(is_of);
    let asked = match next {
        Some(next) => Some(next),
        // Only for the error all of its questions are read.
        None => questions::of_run(&reader.db, asking)?.into_iter().rfind(is_of),
    };
    let Some(asked) = asked else {
        let open = reader.open_questions(run.clone())?.into_iter().next();
        return Err(Error::NotAsking { run: run.clone(), node: node.clone(), asks: open.map(|open| open.node) });
    };
    if asked.answer.is_some() {
        return Err(Error::AlreadyAnswered { run: run.clone(), node: node.clone() });
    }
    let is_due = asked.is_open() && parked::is_due(&reader.db, asking, now)?;
    if let Some(at) = asked.expired_at.or(asked.expires_at.filter(|_| is_due)) {
        return Err(Error::Expired { run: run.clone(), node: node.clone(), at });
    }
    if !asked.is_open() {
        return Err(Error::NotAsking { run: run.clone(), node: node.clone(), asks: None });
    }
    let node = NodePath::from(format!("{}{}", parked::prefix(&reader.db, asking)?, asked.node));
    let found = Found { run: asking, step: asked.step, node: node.clone(), now: None };
    Ok((found, Question { node, ..asked }))
}

/// Checks an answer against the schema of its question.
pub(crate) fn check(run: &RunId, node: &NodePath, question: &Question, answer: &Value) -> Result<(), Error> {
    let unfit = |what| Error::Unfit { run: run.clone(), node: node.clone(), what };
    fits_schema(&question.schema, answer).map_err(unfit)
}

/// Says what is wrong with the schema of an answer, if it is none.
pub(crate) fn check_schema(schema: &Value) -> Result<(), String> {
    if *schema == Value::Bool(true) {
        return Ok(());
    }
    jsonschema::validator_for(schema).map(drop).map_err(|error| error.to_string())
}

/// Says what in an answer does not fit a schema.
pub(crate) fn fits_schema(schema: &Value, answer: &Value) -> Result<(), String> {
    if *schema == Value::Bool(true) {
        return Ok(());
    }
    // Only an older version kept a schema that is none: the type of the answer is still checked, by the driver.
    let Ok(validator) = jsonschema::validator_for(schema) else { return Ok(()) };
    let faults: Vec<String> = validator
        .iter_errors(answer)
        .map(|error| match error.instance_path().to_string() {
            path if path.is_empty() => error.to_string(),
            path => format!("at {path}: {error}"),
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// Keeps an answer that was checked, if the run still waits for it, and lets the run go on.
pub(crate) fn keep(db: &Connection, found: &Found, answer: &Value) -> Result<GoesOn, Error> {
    let Found { run, step, node, now } = found;
    let mut select = db.prepare_cached("SELECT answer IS NULL, expired_at FROM pauses WHERE run = ?1 AND seq = ?2")?;
    let asked = select.query_row((run, rows::int(*step)), |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)));
    let asked: Option<(bool, Option<i64>)> = asked.optional()?;
    match (status(db, *run)?, asked) {
        (Status::Paused, Some((true, None))) => {
            let goes_on = parked::go_on(db, *run, "answered")?;
            rows::keep_answer(db, *run, *step, &answer.to_string())?;
            now.as_ref().map_or(Ok(()), |now| rows::set_question(db, *run, *step, now))?;
            Ok(goes_on)
        }
        // Since it was looked at, it expired, was answered, or asks again.
        (_, Some((true, Some(at)))) => {
            Err(Error::Expired { run: rows::id_of(db, *run)?, node: node.clone(), at: time(at) })
        }
        (status, Some((true, None))) if status.is_final() => {
            Err(Error::WrongStatus { run: rows::id_of(db, *run)?, status, wanted: "answered" })
        }
        _ => Err(Error::AlreadyAnswered { run: rows::id_of(db, *run)?, node: node.clone() }),
    }
}
