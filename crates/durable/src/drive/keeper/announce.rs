//! What listeners are told of a run as a whole: that it begins or goes on, and how it came to a halt.
//!
//! **Invariant:** what they are told is on disk; after each beginning they are told of at most one halt.

use flowstone_core::{EventKind, Execution, NodePath};
use rusqlite::Connection;
use serde_json::Value;

use super::Keeper;
use crate::{
    drive::watch::status,
    records::{
        load::damaged,
        questions,
        rows::{id_of, time},
    },
    words::{
        error::Error,
        status::{Question, Status},
    },
};

impl Keeper {
    /// Whether somebody listens to the run as a whole: to that of the user, and not to a child.
    pub(super) fn is_heard(&self) -> bool {
        self.is_root() && !self.journal.flow.listeners().is_empty()
    }

    /// Tells listeners of the run as a whole, if there are any.
    pub(super) fn announce(
        &self,
        execution: &dyn Execution,
        node: Option<&NodePath>,
        kind: impl FnOnce() -> EventKind,
    ) {
        if self.is_heard() {
            execution.announce(node.cloned(), kind());
        }
    }

    /// Tells them that the run begins or goes on, unless they know.
    pub(super) fn announce_start(&self, execution: &dyn Execution) {
        if self.is_heard() && self.observer.announces() {
            let flow = execution.flow().to_owned();
            execution.announce(None, EventKind::RunStarted { flow, resumed: self.resumed });
        }
    }

    /// Tells them of a question: the run waits for the answer, or a child does while the run goes on.
    pub(super) fn announce_question(&self, execution: &dyn Execution, question: &Value) {
        if self.journal.flow.listeners().is_empty() {
            return;
        }
        let (node, question) = (Some(self.path_of(execution.node())), question.clone());
        let is_root = self.is_root();
        execution.announce(node, if is_root { EventKind::Paused { question } } else { EventKind::Asked { question } });
    }
}

/// What a run waits for whose children wait: the first open question, or a time.
pub(super) fn waits_for(db: &Connection, run: i64) -> Result<(Option<NodePath>, EventKind), Error> {
    if status(db, run)? == Status::Paused {
        let open = questions::of_tree(db, run)?.into_iter().find(Question::is_open);
        let Question { node, question, .. } = open.ok_or_else(|| no_reason(db, run))?;
        return Ok((Some(node), EventKind::Paused { question }));
    }
    let mut select = db.prepare_cached("SELECT wake_at FROM runs WHERE run = ?1")?;
    let wake_at: Option<i64> = select.query_row([run], |row| row.get(0))?;
    Ok((None, EventKind::Sleeping { until: time(wake_at.ok_or_else(|| no_reason(db, run))?) }))
}

fn no_reason(db: &Connection, run: i64) -> Error {
    match id_of(db, run) {
        Ok(id) => damaged(format!("run `{id}` waits for its children, of which none waits")),
        Err(error) => error,
    }
}
