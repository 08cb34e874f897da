//! The outcomes of a visit, for its driver and inside the engine, and of a run.

use std::time::Duration;

use crate::words::{
    action::Action,
    error::{NodeError, Phase, RunError},
    guard::Panicked,
    path::Position,
    pause::Pause,
};

/// The result of one visit.
#[derive(Debug)]
pub enum Visit {
    /// The run goes on.
    Next {
        /// The action that the node returned.
        action: Action,
        /// The node to visit next.
        next: Position,
    },
    /// The run is at its end.
    End {
        /// The action that the node returned.
        action: Action,
        /// The run's last action: that of the node, after the `map_exit` of each flow around it.
        exit: Action,
    },
    /// The run waits for an answer.
    Pause(Pause),
    /// The node sleeps, and the [journal](crate::driver::Journal::parks) of the run wants it put away. When the time is
    /// over, the same node is visited again, in a visit with the same number. A run without a journal sleeps where it
    /// is.
    Sleep {
        /// The time that it sleeps.
        wait: Duration,
    },
    /// Children of the node are [put away](crate::driver::Forked::Parked), and no other can go on. When one can, the
    /// same node is visited again, in a visit with the same number. This happens only in a run with a journal.
    Parked,
}

impl Visit {
    /// Returns the next node of a run without a journal, or the outcome of that run.
    #[inline]
    pub(crate) fn or_outcome(self) -> Result<Position, Outcome> {
        match self {
            Self::Next { next, .. } => Ok(next),
            Self::End { exit, .. } => Err(Outcome::Ended(exit)),
            Self::Pause(pause) => Err(Outcome::Paused(pause)),
            Self::Sleep { .. } | Self::Parked => {
                unreachable!("invariant: only a journal puts a run away, and a run in memory has none")
            }
        }
    }
}

/// The result of a run that did not fail.
#[derive(Debug)]
pub enum Outcome {
    /// It reached its end, with this last action.
    Ended(Action),
    /// It waits for an answer, see [`resume`](crate::AsyncFlow::resume).
    Paused(Pause),
}

impl Outcome {
    /// Returns the last action of a run that has ended.
    #[must_use]
    pub fn action(&self) -> Option<&Action> {
        match self {
            Self::Ended(action) => Some(action),
            Self::Paused(_) => None,
        }
    }
}

/// The label that a node returned, as its index (of an open set: that of its edge), or something rarer.
///
/// Two words, and so returned in registers.
pub(crate) type Visited = Result<usize, Box<Detour>>;

/// Everything but the label of an edge, as a node's code knows it: without the run and the node.
#[derive(Debug)]
pub(crate) enum Detour {
    /// This node's own code failed.
    Failed { phase: Phase, attempts: u32, item: Option<usize>, error: NodeError },
    /// This node's own code panicked; the context knows in which phase.
    Panicked(NodeError),
    /// The run stops, with an error that is complete: of a child, of the journal, or of a run that is cancelled or out
    /// of time.
    Stopped(RunError),
    /// The run waits: a pause, a sleep, children that are put away.
    Waits(Visit),
    /// A label of an open set for which the node has no edge.
    NoEdge(Action),
    /// An answer that does not fit its question. The state is as it was.
    Unfit(serde_json::Error),
}

impl From<Panicked> for Box<Detour> {
    #[cold]
    fn from(panicked: Panicked) -> Self {
        Self::new(Detour::Panicked(NodeError::new(panicked)))
    }
}
