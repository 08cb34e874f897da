//! Answers: whether one fits the question that a run asks, and keeping it once.

use flowstone_core::{NodePath, RunId};
use rusqlite::Connection;
use serde::Serialize;
use serde_json::Value;

use crate::{
    error::Error,
    reader::Reader,
    rows,
    status::{Question, Status},
    watch::status,
};

/// Returns an answer as JSON.
pub(crate) fn to_json(run: &RunId, node: &NodePath, answer: impl Serialize) -> Result<Value, Error> {
    let unfit =
        |error: serde_json::Error| Error::Unfit { run: run.clone(), node: node.clone(), what: error.to_string() };
    serde_json::to_value(answer).map_err(unfit)
}

/// Finds the question that an answer is for, and checks the answer against its schema.
pub(crate) fn check(
    reader: &Reader,
    run: &RunId,
    node: &NodePath,
    step: Option<u64>,
    answer: &Value,
) -> Result<(i64, u64), Error> {
    let number = reader.own_number(run)?;
    let questions = reader.questions(run.clone())?;
    let next = reader.last_step(number)? + 1;
    let asks = questions.iter().find(|question| question.step == next);
    let paused = status(&reader.db, number)? == Status::Paused;
    let open = asks.filter(|question| question.answer.is_none() && paused);
    let Some(open) = open.filter(|question| question.node == *node && step.is_none_or(|step| step == question.step))
    else {
        return Err(refusal(run, node, step, open, &questions));
    };
    fits_schema(open, answer).map_err(|what| Error::Unfit { run: run.clone(), node: node.clone(), what })?;
    Ok((number, open.step))
}

/// Why there is nothing to answer.
fn refusal(run: &RunId, node: &NodePath, step: Option<u64>, open: Option<&Question>, questions: &[Question]) -> Error {
    let of_node = |question: &&Question| question.node == *node && step.is_none_or(|step| step == question.step);
    let answered = questions.iter().filter(of_node).any(|question| question.answer.is_some());
    if answered {
        return Error::AlreadyAnswered { run: run.clone(), node: node.clone() };
    }
    Error::NotAsking { run: run.clone(), node: node.clone(), asks: open.map(|open| open.node.clone()) }
}

fn fits_schema(question: &Question, answer: &Value) -> Result<(), String> {
    if question.schema == Value::Bool(true) {
        return Ok(());
    }
    let validator = jsonschema::validator_for(&question.schema)
        .map_err(|error| format!("the schema of node `{}` is no JSON schema: {error}", question.node))?;
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
    let status = status(db, run)?;
    if status.is_final() {
        return Err(Error::WrongStatus { run: rows::id_of(db, run)?, status, wanted: "answered" });
    }
    if rows::keep_answer(db, run, seq, &answer.to_string())? {
        return Ok(());
    }
    Err(Error::AlreadyAnswered { run: rows::id_of(db, run)?, node: node.clone() })
}
