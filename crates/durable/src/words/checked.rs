//! Checks of the JSON that is written beside states, such as questions, answers and edits: it must be readable again.
//!
//! **Invariant:** every JSON text in the store was checked here; a state was checked by
//! [`Shared::store`](crate::drive::shared::Shared::store).

use std::sync::Arc;

use flowstone_core::{NodePath, RunId, driver::storable};
use serde::Serialize;
use serde_json::Value;

use crate::words::error::{KeepError, Written};

/// The check that a value of a node passes before it is stored: it can be read back, and is not too large.
#[derive(Clone, Copy)]
pub(crate) struct StorageCheck<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) node: &'a NodePath,
    pub(crate) what: Written,
    /// The most bytes that the value may have as JSON.
    pub(crate) most: usize,
}

impl StorageCheck<'_> {
    /// Returns a value as the JSON that will be read back.
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

    /// Returns the text of JSON that can be read back, if the text is not too large.
    pub(crate) fn text(&self, json: &Value) -> Result<String, KeepError> {
        let text = json.to_string();
        self.fits(text.len())?;
        Ok(text)
    }

    /// Fails if a size is over the limit.
    pub(crate) fn fits(&self, size: usize) -> Result<(), KeepError> {
        let Self { run, node, what, most } = *self;
        if size <= most {
            return Ok(());
        }
        Err(KeepError::TooLarge { run: run.clone(), node: node.clone(), what, size, most })
    }
}

/// Fails if a value is no JSON schema, and says why.
pub(crate) fn check_schema(schema: &Value) -> Result<(), String> {
    if *schema == Value::Bool(true) {
        return Ok(());
    }
    jsonschema::validator_for(schema).map(drop).map_err(|error| error.to_string())
}

/// Fails if an answer does not fit a schema, and says which parts.
pub(crate) fn fits_schema(schema: &Value, answer: &Value) -> Result<(), String> {
    if *schema == Value::Bool(true) {
        return Ok(());
    }
    // Only older versions kept values that are no schema. The driver still checks the answer by its type.
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
