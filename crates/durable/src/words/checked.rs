//! What is written beside states (questions, answers, edits), checked against what is read back.
//!
//! **Invariant:** a text that goes into the store as JSON went through here, or through
//! [`Shared::store`](crate::drive::shared::Shared::store) if it is a state.

use std::sync::Arc;

use flowstone_core::{NodePath, RunId, storable};
use serde::Serialize;
use serde_json::Value;

use crate::words::error::{Error, Written};

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
    pub(crate) fn value(&self, value: &(impl Serialize + ?Sized)) -> Result<Value, Error> {
        let Self { run, node, what, .. } = *self;
        let json = storable(value).map_err(|source| Error::Unstorable {
            run: run.clone(),
            node: node.clone(),
            what,
            source: Arc::new(source),
        })?;
        self.text(&json)?;
        Ok(json)
    }

    /// Returns the text of JSON that is read as it is, if it is not too large.
    pub(crate) fn text(&self, json: &Value) -> Result<String, Error> {
        let text = json.to_string();
        self.fits(text.len())?;
        Ok(text)
    }

    /// Checks a size.
    pub(crate) fn fits(&self, size: usize) -> Result<(), Error> {
        let Self { run, node, what, most } = *self;
        if size <= most {
            return Ok(());
        }
        Err(Error::TooLarge { run: run.clone(), node: node.clone(), what, size, most })
    }
}
