//! Facts about a run that users read: its status, its steps, its questions.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use flowstone_core::{Action, NodePath, RunId, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::words::status::Status;

/// A run as it is in the store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunInfo {
    /// Its id.
    pub id: RunId,
    /// The name of its flow.
    pub flow: String,
    /// The fingerprint of its flow when it began, or made its last step.
    pub fingerprint: String,
    /// Its status.
    pub status: Status,
    /// The number of its last step, which is the number of visits that it has completed.
    pub step: u64,
    /// The node that it visits next; `None` once it has ended.
    pub node: Option<NodePath>,
    /// Its last action, once it has ended.
    pub action: Option<Action>,
    /// The failure of a run that failed.
    pub error: Option<RunFailure>,
    /// The reason why the program that drives the store cannot continue it; as a rule its flow has changed too much.
    /// The run itself has not changed, and a program whose flow takes it continues it.
    pub refused: Option<String>,
    /// The time at which it was started.
    pub created_at: SystemTime,
    /// The time at which its status last changed.
    pub changed_at: SystemTime,
    /// The time at which it wakes, if it sleeps, or its question expires, if it is paused.
    pub wake_at: Option<SystemTime>,
    /// The number of times that the visit under way was started again after its process had died. After two of them the
    /// run is driven alone, see [`FlowOptions::max_resumes`](crate::FlowOptions::max_resumes).
    pub resumes: u64,
    /// The time since which it waits for its turn, see [`FlowOptions::concurrency`](crate::FlowOptions::concurrency).
    pub queued_at: Option<SystemTime>,
    /// For a child of a journaled batch flow: the run that it belongs to.
    pub parent: Option<RunId>,
    /// For a child: its item.
    pub item: Option<u64>,
    /// For a fork: the run that it is a fork of, if that is still there, and the step.
    pub origin: Option<(RunId, u64)>,
    /// Its place in the list of runs, see [`Filter::after`](crate::Filter::after).
    #[serde(skip)]
    pub cursor: Cursor,
}

/// A place in the list of runs, see [`Filter::after`](crate::Filter::after).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub(crate) i64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The failure of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunFailure {
    /// The node.
    pub node: NodePath,
    /// The error with its causes, in one line.
    pub message: String,
    /// The number of calls of `exec`; 0 where that does not apply.
    pub attempts: u32,
    /// The item, in a batch.
    pub item: Option<usize>,
    /// `true` if the error said that no further attempt can help.
    pub terminal: bool,
    /// The number of times that the process died in this visit, if that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deaths: Option<u32>,
}

/// A run of a closed store that still has work under way, since that cannot be interrupted: a blocking `exec`, a job of
/// [`Context::blocking`](flowstone_core::Context::blocking), or a spawned item between two `.await`s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Left {
    /// The run.
    pub run: RunId,
    /// The node that it visited.
    pub node: NodePath,
}

/// A step of a run: a visit that was committed, or its start, which is step 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepInfo {
    /// Its number; the visit of step `n` is visit `n - 1` of [`Context::visit`](flowstone_core::Context::visit).
    pub step: u64,
    /// The node that was visited; none for the start.
    pub node: Option<NodePath>,
    /// The action that it returned.
    pub action: Option<Action>,
    /// The node to visit next; none at the end.
    pub next: Option<NodePath>,
    /// The time at which the visit began.
    pub started_at: SystemTime,
    /// The duration of the visit.
    pub took: Duration,
    /// The number of calls of `exec`, all items together.
    pub attempts: u64,
    /// The errors of attempts that were followed by another: the first hundred.
    pub retries: Vec<FailedAttempt>,
    /// The number of items of a journaled batch, and the number of those that an earlier process had done.
    pub items: Option<Items>,
    /// The usage of paid services by all attempts together, without that of its children.
    pub usage: Usage,
    /// The size of the state as JSON, in bytes.
    pub state_size: u64,
    /// The bytes that the state takes in the store.
    pub stored_size: u64,
}

/// An attempt that failed and was followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The item, in a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
    /// The number of the attempt, from 0.
    pub attempt: u32,
    /// The error.
    pub error: String,
    /// The wait before the next one.
    #[serde(rename = "wait_ms", with = "millis")]
    pub wait: Duration,
}

mod millis {
    //! A duration as whole milliseconds.

    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(wait: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// The items of a journaled batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Items {
    /// The number that were recorded.
    pub recorded: u64,
    /// The number of those that were recalled from an earlier process instead of run again.
    pub recalled: u64,
}

/// A question that a run asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Question {
    /// The run that asks: the run itself, or one of its children.
    pub run: RunId,
    /// The step of the asking run that the answer completes.
    pub step: u64,
    /// The node that asks; for a node in a child, its path from the run that the user started, as `review[3]/approve`.
    pub node: NodePath,
    /// The question itself.
    pub question: Value,
    /// The JSON schema of the answer; `true` describes anything.
    pub schema: Value,
    /// The time at which it was asked.
    pub asked_at: SystemTime,
    /// The time at which it expires, see [`Ask::expires`](flowstone_core::Ask::expires).
    pub expires_at: Option<SystemTime>,
    /// The time at which it has expired.
    pub expired_at: Option<SystemTime>,
    /// The answer, once there is one.
    pub answer: Option<Value>,
    /// The time at which it was answered.
    pub answered_at: Option<SystemTime>,
    /// The reason why the last answer from another process was refused.
    pub refused: Option<String>,
    /// `true` if it waits for an answer.
    pub(crate) is_open: bool,
    /// The number of the run that asks, which no other run of its store ever has.
    #[serde(skip)]
    pub(crate) asking: i64,
    /// The version of the flow that asked.
    pub(crate) version: u32,
}

impl Question {
    /// Returns `true` if it waits for an answer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }
}
