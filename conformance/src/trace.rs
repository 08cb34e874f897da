//! The events of a run: its trace, and the record that they are collected in.

use std::collections::BTreeMap;

use flowstone::Shared;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The answer to a spec: a trace, or that no flow may be built from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// `build()` or the adapter refused the spec.
    Refused {
        /// Always true.
        build_error: bool,
    },
    /// The flow ran.
    Ran(Trace),
}

/// The events of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The events that the nodes told, in the order of their ends.
    pub events: Vec<Event>,
    /// The shared value at the end, also after an error.
    pub shared: Shared,
    /// The root flow's own action; `None` after an error.
    pub last_action: Option<String>,
    /// The failure that ended the run.
    pub error: Option<TraceError>,
}

/// The failure that ended a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceError {
    /// The path of the node, from the root flow on.
    pub path: String,
    /// The message of the error.
    pub message: String,
}

/// The end of one phase, or of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The element that ended.
    pub ev: Ev,
    /// The path of the node, from the root flow on.
    pub path: String,
    /// The number of visits that the path had before.
    pub visit: usize,
    /// The item, of a batch node.
    #[serde(default)]
    pub item: Option<usize>,
    /// The attempt, of `exec`.
    #[serde(default)]
    pub attempt: Option<u32>,
    /// The output of the phase; for `post`, its input.
    #[serde(default)]
    pub value: Value,
    /// The message, if it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// The action that `post` returned.
    #[serde(default)]
    pub action: Option<String>,
}

/// The subject of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are the phases of a visit")]
pub enum Ev {
    Prep,
    Exec,
    Fallback,
    Post,
}

/// The events of a run so far, and how often each path was visited.
#[derive(Debug, Default)]
pub struct Record {
    events: Vec<Event>,
    visits: BTreeMap<String, usize>,
}

impl Record {
    /// Counts a visit, and returns its number.
    pub fn begin_visit(&mut self, path: &str) -> usize {
        let count = self.visits.entry(path.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    /// Returns the number of the last visit of a path, which is the one under way: a path has one visit at a time.
    #[must_use]
    pub fn last_visit(&self, path: &str) -> usize {
        self.visits.get(path).map_or(0, |count| count.saturating_sub(1))
    }

    /// Adds an event.
    pub fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Takes the events.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
