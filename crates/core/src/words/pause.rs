//! A run that waits for an answer ([`Pause`]), and the reply with which it goes on.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::words::{
    codec::storable,
    path::{NodePath, Position, RunId},
};

/// A run that waits for an answer: the question, and where it was asked.
///
/// It is used up by [`resume`](crate::AsyncFlow::resume), so a question is answered once.
#[derive(Debug)]
pub struct Pause(pub(crate) Box<Paused>);

impl Pause {
    /// Returns the path of the node that asks.
    #[must_use]
    pub fn node(&self) -> &NodePath {
        &self.0.node
    }

    /// Returns the position of the node that asks.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// Returns the question.
    #[must_use]
    pub fn question(&self) -> &Value {
        &self.0.question
    }

    /// Returns the JSON schema of the answer; `true` describes anything.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.0.schema
    }

    /// Returns how long the question stands, from when it was asked; `None` for ever.
    #[must_use]
    pub fn expires(&self) -> Option<Duration> {
        self.0.expires
    }
}

/// The parts of a [`Pause`]; boxed, since every run carries the room for its outcome.
#[derive(Debug)]
pub(crate) struct Paused {
    pub(crate) position: Position,
    pub(crate) node: NodePath,
    pub(crate) question: Value,
    pub(crate) schema: Value,
    pub(crate) expires: Option<Duration>,
    pub(crate) run: PausedRun,
}

/// The run that a pause belongs to.
#[derive(Debug)]
pub(crate) struct PausedRun {
    pub(crate) flow: String,
    /// The id that the user gave.
    pub(crate) id: Option<RunId>,
    pub(crate) number: u64,
    pub(crate) visits: u64,
    pub(crate) node: Position,
}

/// The reply with which a paused run goes on.
#[derive(Debug)]
pub(crate) enum Reply {
    /// An answer, or why it is no JSON.
    Answer(Result<Value, serde_json::Error>),
    /// None: the question expired.
    Expired,
}

impl Reply {
    pub(crate) fn answer(answer: impl Serialize) -> Self {
        Self::Answer(storable(&answer).map_err(Into::into))
    }
}
