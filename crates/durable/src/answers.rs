//! Answers: whether one fits the question that a run asks, and keeping it once.

use flowstone_core::{NodePath, RunId};
use rusqlite::Connection;
use serde::Serialize;
use serde_json::Value;

use crate::{
    checked::Slip,
    error::{Error, Written},
    reader::Reader,
    rows,
    status::{Question, Status},
    watch::status,
};

/// Returns an answer as JSON, as it will be read.
pub(crate) fn to_json(run: &RunId, node: &NodePath, answer: impl Serialize, most: usize) -> Result<Value, Error> {
    Slip { run, node, what: Written::Answer, most }.value(&answer)
}

/// Finds the question that an answer is for, and checks the answer against its schema. `names` are those of the node, the
/// one that was used first.
pub(crate) fn check(
    reader: &Reader,
    run: &RunId,
    names: &[NodePath],
    step: Option<u64>,
    answer: &Value,
) -> Result<(i64, u64), Error> {
    let is_of = |question: &Question| names.contains(&question.node) && step.is_none_or(|step| step == question.step);
    let node = names.first().cloned().unwrap_or_else(|| "".into());
    let number = reader.own_number(run)?;
    let asks = reader.question_at(run, number, reader.last_step(number)? + 1)?;
    let paused = status(&reader.db, number)? == Status::Paused;
    let open = asks.filter(|question| question.answer.is_none() && paused);
    match open {
        Some(open) if is_of(&open) => match fits_schema(&open, answer) {
            Ok(()) => Ok((number, open.step)),
            Err(what) => Err(Error::Unfit { run: run.clone(), node, what }),
        },
        // Only for the error all of its questions are read.
        _ if reader.questions(run.clone())?.iter().any(|asked| is_of(asked) && asked.answer.is_some()) => {
            Err(Error::AlreadyAnswered { run: run.clone(), node })
        }
        open => Err(Error::NotAsking { run: run.clone(), node, asks: open.map(|open| open.node) }),
    }
}

/// Says what is wrong with the schema of an answer, if it is none.
pub(crate) fn check_schema(schema: &Value) -> Result<(), String> {
    if *schema == Value::Bool(true) {
        return Ok(());
    }
    jsonschema::validator_for(schema).map(drop).map_err(|error| error.to_string())
}

fn fits_schema(question: &Question, answer: &Value) -> Result<(), String> {
    if question.schema == Value::Bool(true) {
        return Ok(());
    }
    // Only an older version kept a schema that is none: the type of the answer is still checked, by the driver.
    let Ok(validator) = jsonschema::validator_for(&question.schema) else { return Ok(()) };
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
pub(crate) fn keep(db: &Connection, run: i64, seq: u64, node: &NodePath, answer: &Value) -> Result<(), Error> {
    match status(db, run)? {
        Status::Paused if rows::keep_answer(db, run, seq, &answer.to_string())? => Ok(()),
        status if status.is_final() => {
            Err(Error::WrongStatus { run: rows::id_of(db, run)?, status, wanted: "answered" })
        }
        // It was answered, or asks again, since it was looked at.
        _ => Err(Error::AlreadyAnswered { run: rows::id_of(db, run)?, node: node.clone() }),
    }
}
