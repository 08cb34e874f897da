//! Migration of questions that an older version of a flow has asked to its newest version.
//!
//! **Invariant:** an answer has the version of its question. So an open question is stored as it was asked, and
//! migrated each time that it is read. The migrated question is written down together with its answer.

use flowstone_core::{NodePath, RunId};
use serde_json::Value;

use crate::{
    flows::any_flow::AnyFlow,
    records::{load::Asked, pauses::AskedNow},
    words::{
        checked::{self, StorageCheck},
        error::{KeepError, ReadError, Written},
        info::Question,
        migrate::Asking,
    },
};

/// The reason for refusing an answer that `migrate_questions` left out.
const LEFT_OUT: &str = "it was given to an older version of the flow, and `migrate_questions` left it out";

impl Asked {
    /// Brings the question to the newest version, with its answer. If the answer does not fit any more, the driver
    /// refuses it, and the question is open again.
    pub(crate) fn migrate(&mut self, flow: &dyn AnyFlow, run: &RunId, node: &NodePath) -> Result<(), ReadError> {
        let answer = self.answer.as_ref().and_then(|answer| answer.as_ref().ok()).cloned();
        let had_answer = answer.is_some();
        let before = Asking { question: self.question.clone(), schema: self.schema.clone(), answer };
        let Some(now) = flow.migrate_question(run, node, self.version, before)? else { return Ok(()) };
        if had_answer {
            let fitting = |answer: Value| checked::fits_schema(&now.schema, &answer).map(|()| answer);
            self.answer = Some(now.answer.ok_or_else(|| LEFT_OUT.to_owned()).and_then(fitting));
        }
        (self.question, self.schema) = (now.question, now.schema);
        Ok(())
    }
}

impl Question {
    /// Brings the question to the newest version, if it is open and was asked by an older one.
    pub(crate) fn migrate(&mut self, flow: &dyn AnyFlow, run: &RunId) -> Result<(), ReadError> {
        if !self.is_open {
            return Ok(());
        }
        let before = Asking { question: self.question.clone(), schema: self.schema.clone(), answer: None };
        if let Some(now) = flow.migrate_question(run, &self.node, self.version, before)? {
            (self.question, self.schema, self.version) = (now.question, now.schema, flow.version());
        }
        Ok(())
    }

    /// Returns the question as it is written. `most` is the limit for each of its parts, in bytes.
    pub(crate) fn to_text(&self, run: &RunId, most: usize) -> Result<AskedNow, KeepError> {
        let text = |what, json| StorageCheck { run, node: &self.node, what, most }.text(json);
        let (question, schema) = (text(Written::Question, &self.question)?, text(Written::Schema, &self.schema)?);
        Ok(AskedNow { question, schema, version: self.version })
    }
}
