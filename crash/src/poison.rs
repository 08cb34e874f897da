//! Runs that kill their process: the number of times, and the wait before each.
//!
//! Each death is written down as a mark beforehand, so that the next process knows their number.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    ledger::Line,
    plan::{Fate, Script},
    random::mix,
};

/// The mark that a process writes down before one of its runs kills it.
pub(crate) const DEATH: &str = "death";

/// The bound of a run's wait before it kills its process, in milliseconds. In that time the others make progress.
const WAIT: u64 = 200;

/// The runs that kill this process.
#[derive(Debug, Default)]
pub(crate) struct Poison(BTreeSet<String>);

impl Poison {
    /// Finds these runs in the lines of earlier processes.
    pub(crate) fn of(script: &Script, before: &[Line]) -> Self {
        let mut deaths: BTreeMap<&str, u32> = BTreeMap::new();
        for line in before {
            if let Line::Mark(what, run) = line
                && what == DEATH
            {
                *deaths.entry(run).or_default() += 1;
            }
        }
        let died = |run: &str| deaths.get(run).copied().unwrap_or_default();
        let deadly = script
            .plans
            .iter()
            .filter(|plan| matches!(plan.fate, Fate::Poisoned { times, .. } if died(&plan.id) < times));
        Self(deadly.map(|plan| plan.id.clone()).collect())
    }

    pub(crate) fn is_deadly(&self, run: &str) -> bool {
        self.0.contains(run)
    }

    /// Returns the time to wait before the process is killed, derived from the result of the node.
    pub(crate) fn wait(made: u64) -> Duration {
        Duration::from_millis(mix(made) % WAIT)
    }
}
