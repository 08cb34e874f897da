//! The bounds that stop an agent before it has an answer: [`Bound`].

use std::{fmt, future::Future, time::Duration};

use flowstone_core::{NodeError, Result, Usd};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::AgentState;
use crate::{
    error::{Failure, ModelError},
    model::Model,
};

/// A bound that an agent met before it had an answer; see [`AgentState::stopped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Bound {
    /// So many replies were made, and the last one calls tools.
    Turns {
        /// The most replies to one question.
        limit: u32,
    },
    /// So many tokens were used.
    Tokens {
        /// The most tokens for one question.
        limit: u64,
        /// The tokens that were used: the last call may go beyond.
        used: u64,
    },
    /// So much money was spent.
    Cost {
        /// The most money for one question.
        limit: Usd,
        /// The money that was spent: the last call may go beyond.
        used: Usd,
    },
    /// The time was over.
    Time {
        /// The most time for one question, waits for people not counted.
        limit: Duration,
    },
    /// So many replies called tools that do not exist, or with arguments that do not fit.
    Misuse {
        /// The most of such replies to one question.
        limit: u32,
    },
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turns { limit } => write!(f, "no answer after {limit} turns"),
            Self::Tokens { limit, used } => write!(f, "no answer within {limit} tokens: {used} were used"),
            Self::Cost { limit, used } => write!(f, "no answer for {limit}: it has cost {used}"),
            Self::Time { limit } => write!(f, "no answer within {limit:?}"),
            Self::Misuse { limit } => write!(f, "no answer after {limit} turns with wrong calls of tools"),
        }
    }
}

/// The bounds of an agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) turns: u32,
    pub(super) misuse: u32,
    pub(super) tokens: Option<u64>,
    pub(super) cost: Option<Usd>,
    pub(super) time: Option<Duration>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { turns: 20, misuse: 5, tokens: None, cost: None, time: None }
    }
}

impl Bounds {
    /// The bound that the agent has met, if there is one.
    pub(super) fn met(&self, state: &AgentState) -> Option<Bound> {
        let (usage, took) = (state.usage(), state.took());
        match *self {
            Self { turns: limit, .. } if state.turns() >= limit => Some(Bound::Turns { limit }),
            Self { misuse: limit, .. } if state.misuses() >= limit => Some(Bound::Misuse { limit }),
            Self { tokens: Some(limit), .. } if usage.tokens() >= limit => {
                Some(Bound::Tokens { limit, used: usage.tokens() })
            }
            Self { cost: Some(limit), .. } if usage.cost >= limit => Some(Bound::Cost { limit, used: usage.cost }),
            Self { time: Some(limit), .. } if took >= limit => Some(Bound::Time { limit }),
            _ => None,
        }
    }

    /// The time of a visit that begins now.
    pub(super) fn clock(&self, state: &AgentState) -> VisitTime {
        let begun = Instant::now();
        // A limit beyond the clock's range is none.
        let until = self.time.and_then(|limit| begun.checked_add(limit.saturating_sub(state.took())));
        VisitTime { begun, until }
    }

    /// Fails if a bound cannot hold, with all that cannot.
    pub(super) fn check(&self, model: &Model) -> Result<()> {
        let zeros = [
            (self.turns == 0, "`max_turns(0)`"),
            (self.misuse == 0, "`max_misuse(0)`"),
            (self.tokens == Some(0), "`max_tokens(0)`"),
            (self.cost == Some(Usd::default()), "`max_cost` of nothing"),
            (self.time == Some(Duration::ZERO), "`max_time` of nothing"),
        ];
        let zeros: Vec<_> = zeros.into_iter().filter(|(zero, _)| *zero).map(|(_, what)| what).collect();
        if !zeros.is_empty() {
            let what = zeros.join(", ");
            return Err(NodeError::terminal(format!("{what}: the agent would stop before it begins")));
        }
        match self.cost {
            Some(limit) if model.price().is_none() => {
                Err(ModelError::new(model.id().clone(), Failure::NoPrice { limit }).into_node_error())
            }
            _ => Ok(()),
        }
    }
}

/// When a visit began, and when the agent's time is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct VisitTime {
    begun: Instant,
    until: Option<Instant>,
}

impl VisitTime {
    pub(super) fn took(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Does some work, and drops it when the time is over.
    pub(super) async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.until {
            None => Some(work.await),
            Some(until) => tokio::time::timeout_at(until, work).await.ok(),
        }
    }
}
