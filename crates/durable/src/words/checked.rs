//! Checks of what is written beside states: questions, answers, edits are what will be read back.
//!
//! **Invariant:** a text that goes into the store as JSON went through here, or through
//! [`Shared::store`](crate::drive::shared::Shared::store) if it is a state.

use std::sync::Arc;

use flowstone_core::{NodePath, RunId, driver::storable};
use serde::Serialize;
use serde_json::Value;

use crate::words::error::{KeepError, Written};

/// Something that is to be written, and whose it is.
#[derive(Clone, Copy)]
pub(crate) struct Slip<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) node: &'a NodePath,
    pub(crate) what: Written,
    /// The most bytes that it may have.
    pub(crate) most: usize,
}

impl Slip<'_> {
    /// Returns a value as JSON, as it will be read.
    pub(crate) fn value(&self, value: &(impl Serialize + ?Sized)) -> Result<Value, KeepError> {
        let Self { run, node, what, .. } = *self;
        let json = storable(value).map_err(|source| KeepError::Unstorable {
            run: run.clone(),
            node: node.clone(),
            what,
            source: Arc::new(source),
        })?;
        self.text(&json)?;
        Ok(json)
    }

    /// Returns the text of JSON that is read as it is, if it is not too large.
    pub(crate) fn text(&self, json: &Value) -> Result<String, KeepError> {
        let text = json.to_string();
        self.fits(text.len())?;
        Ok(text)
    }

    /// Checks a size.
    pub(crate) fn fits(&self, size: usize) -> Result<(), KeepError> {
        let Self { run, node, what, most } = *self;
        if size <= most {
            return Ok(());
        }
        Err(KeepError::TooLarge { run: run.clone(), node: node.clone(), what, size, most })
    }
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
