//! Everything that says what came of it: of a visit, as its driver sees it and inside, and of a run.

use std::{convert::Infallible, time::Duration};

use crate::words::{
    action::Action,
    error::{BoxError, NodeError, Phase, RunError},
    guard::Panicked,
    path::Position,
    pause::Pause,
};

/// What came of one visit.
#[derive(Debug)]
pub enum Visit {
    /// The run goes on.
    Next {
        /// What the node returned.
        action: Action,
        /// The node to visit next.
        next: Position,
    },
    /// The run is at its end.
    End {
        /// What the node returned.
        action: Action,
        /// The run's last action: that of the node, as the flows around it mapped it.
        exit: Action,
    },
    /// The run waits for an answer.
    Pause(Pause),
    /// The node sleeps, and the [journal](crate::Journal::parks) of the run wants it put away. When the time is over, the
    /// same node is visited again, in a visit with the same number. A run without a journal sleeps where it is.
    Sleep {
        /// How long.
        wait: Duration,
    },
    /// Children of the node are [put away](crate::Forked::Parked), and no other can go on. When one can, the same node is
    /// visited again, in a visit with the same number. Only of a run with a journal.
    Parked,
}

impl Visit {
    pub(crate) fn of((action, routed): Watched) -> Result<Self, RunError> {
        let action = action.unwrap_or_default();
        match routed.map_err(|halt| *halt) {
            Ok(next) => Ok(Self::Next { action, next }),
            Err(Halt::Ended(exit)) => Ok(Self::End { action, exit }),
            Err(Halt::Paused(pause)) => Ok(Self::Pause(pause)),
            Err(Halt::Asleep(wait)) => Ok(Self::Sleep { wait }),
            Err(Halt::Parked) => Ok(Self::Parked),
            Err(Halt::Failed(error)) => Err(error),
        }
    }
}

/// How a run came out.
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

impl Outcome {
    pub(crate) fn of_halted(halted: Result<Infallible, Box<Halt>>) -> Result<Self, RunError> {
        let Err(halt) = halted;
        Self::of(*halt)
    }

    pub(crate) fn of(halt: Halt) -> Result<Self, RunError> {
        match halt {
            Halt::Ended(exit) => Ok(Self::Ended(exit)),
            Halt::Paused(pause) => Ok(Self::Paused(pause)),
            Halt::Asleep(_) | Halt::Parked => {
                unreachable!("invariant: only a journal puts a run away, and a run in memory has none")
            }
            Halt::Failed(error) => Err(error),
        }
    }
}

/// Why a run does not go on. Boxed, so that what a visit returns fits two registers.
#[derive(Debug)]
pub(crate) enum Halt {
    Ended(Action),
    Paused(Pause),
    /// Only where there is a journal: a driver in memory never gets it.
    Asleep(Duration),
    /// The same.
    Parked,
    Failed(RunError),
}

impl Halt {
    /// The error of a visit that cannot begin.
    #[expect(clippy::boxed_local, reason = "it is boxed where it comes from")]
    pub(crate) fn into_error(halt: Box<Self>) -> RunError {
        match *halt {
            Self::Failed(error) => error,
            Self::Ended(_) | Self::Paused(_) | Self::Asleep(_) | Self::Parked => {
                unreachable!("invariant: a visit that cannot begin is an error")
            }
        }
    }
}

/// What a visit returned by name, if it returned, and where that leads.
pub(crate) type Watched = (Option<Action>, Result<Position, Box<Halt>>);

/// What came of a node's visit: the index of its label (of an open set: of its edge), or something rarer.
///
/// Two words, and so returned in registers: it travels on the hot path.
pub(crate) type Visited = Result<usize, Box<Detour>>;

/// Anything but the label of an edge, before run and path are filled in.
#[derive(Debug)]
pub(crate) enum Detour {
    /// This node's own code failed.
    Failed { phase: Phase, attempts: u32, item: Option<usize>, error: NodeError },
    /// This node's own code panicked; the context knows in which phase.
    Panicked(NodeError),
    /// A child's run failed; its error already says where.
    Child(RunError),
    /// Nothing failed: the run is to stop.
    Stopped(Stop),
    /// A label of an open set for which the node has no edge.
    NoEdge(Action),
    /// The node asks.
    Paused(Pause),
    /// The driver puts the run away while the node sleeps.
    Asleep(Duration),
    /// Children of the node are put away, and no other can go on.
    Parked,
    /// The journal failed.
    Journal { item: Option<usize>, source: BoxError },
}

impl From<Panicked> for Box<Detour> {
    #[cold]
    fn from(panicked: Panicked) -> Self {
        Self::new(Detour::Panicked(NodeError::new(panicked)))
    }
}

/// Why a run is to stop where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    Cancelled,
    Deadline(Duration),
    /// What watches or times it panicked; its scope knows what.
    Fault,
}

/// What came of an answer: the visit, or why the answer does not fit. One that does not fit leaves the state untouched.
pub(crate) type Answered = Result<Visited, serde_json::Error>;
