//! The status of a run, and the rule of how it changes: [`Status::after`].
//!
//! ```text
//!            Asked, FellAsleep             Ended
//! Running ────────────────────▶ parked     ──▶ Ended
//!    ▲ ◀──────────────────────────┘        Failed, Cancelled
//!    │   Answered, Expired, Woken, …       ──▶ Failed, Cancelled
//!    └─────────────────────────────────────────── Retried ┘
//! ```

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// It makes visits, or will make them when its store is driven again.
    Running,
    /// It waits for an answer.
    Paused,
    /// It waits for a time.
    Sleeping,
    /// It reached its end.
    Ended,
    /// A node failed; it can be retried.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl Status {
    /// All statuses, in the order of their codes in the store.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Paused, Self::Sleeping, Self::Ended, Self::Failed, Self::Cancelled];

    /// Returns `true` if no answer and no time lets the run make a further visit.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Ended | Self::Failed | Self::Cancelled)
    }

    /// Returns the status that a run has after something happened to it; `None` if that cannot happen in this status.
    ///
    /// Live runs, runs that are resumed, and requests of other processes all go by this.
    pub(crate) fn after(self, happened: Happened) -> Option<Self> {
        use Happened as H;

        match (self, happened) {
            (Self::Running, H::Ended) => Some(Self::Ended),
            (Self::Running, H::Failed) => Some(Self::Failed),
            (Self::Running, H::Asked | H::AnswerRefused) => Some(Self::Paused),
            (Self::Running, H::FellAsleep) => Some(Self::Sleeping),
            (Self::Running | Self::Paused | Self::Sleeping, H::Cancelled) => Some(Self::Cancelled),
            (Self::Paused, H::Answered | H::Expired) | (Self::Sleeping, H::Woken) => Some(Self::Running),
            (Self::Running | Self::Paused | Self::Sleeping, H::ChildWent) => Some(Self::Running),
            (Self::Failed | Self::Cancelled, H::Retried) => Some(Self::Running),
            (Self::Running, H::TakenBack(before)) if before != Self::Ended => Some(before),
            _ => None,
        }
    }

    /// Returns its number in a store. The numbers are written out, so that stores stay valid if the variants are
    /// reordered.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Running => 0,
            Self::Paused => 1,
            Self::Sleeping => 2,
            Self::Ended => 3,
            Self::Failed => 4,
            Self::Cancelled => 5,
        }
    }

    pub(crate) fn of_code(code: i64) -> Option<Self> {
        Some(match code {
            0 => Self::Running,
            1 => Self::Paused,
            2 => Self::Sleeping,
            3 => Self::Ended,
            4 => Self::Failed,
            5 => Self::Cancelled,
            _ => return None,
        })
    }

    /// Returns its name, as `paused`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Sleeping => "sleeping",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An event that decides the next status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// Its last visit led to an exit.
    Ended,
    /// A node failed, its driver panicked, or its process has died too often.
    Failed,
    /// Somebody cancelled it, or the run that it is a child of came to an end.
    Cancelled,
    /// It asks a question, or one of its children does and no child can go on.
    Asked,
    /// It waits for a time, or its children do.
    FellAsleep,
    /// Its question was answered.
    Answered,
    /// Its question expired.
    Expired,
    /// Its answer turned out not to fit, so the question is open again.
    AnswerRefused,
    /// Its sleep is over.
    Woken,
    /// One of its children can go on.
    ChildWent,
    /// Somebody has retried it.
    Retried,
    /// Another process had let it go on, but its flow cannot take it, so it gets its former status back.
    TakenBack(Status),
}

impl Happened {
    /// Returns the word for the event in an error that says that it cannot happen.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Asked => "paused",
            Self::FellAsleep => "put to sleep",
            Self::Answered => "answered",
            Self::Expired => "continued after its question",
            Self::AnswerRefused => "asked again",
            Self::Woken => "woken",
            Self::ChildWent => "continued with its child",
            Self::Retried => "retried",
            Self::TakenBack(_) => "taken back",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.name() == text).ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// A word that is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no status: running, paused, sleeping, ended, failed or cancelled")]
pub struct UnknownStatus(String);

#[cfg(test)]
mod tests {
    use super::*;

    /// Each event with the status that follows it in each status, in the order of [`Status::ALL`].
    #[test]
    fn each_event_leads_from_each_status_to_one_other_or_to_none() {
        use Happened as H;
        use Status::{Cancelled, Ended, Failed, Paused, Running, Sleeping};

        let table: [(H, [Option<Status>; 6]); 17] = [
            (H::Ended, [Some(Ended), None, None, None, None, None]),
            (H::Failed, [Some(Failed), None, None, None, None, None]),
            (H::Cancelled, [Some(Cancelled), Some(Cancelled), Some(Cancelled), None, None, None]),
            (H::Asked, [Some(Paused), None, None, None, None, None]),
            (H::FellAsleep, [Some(Sleeping), None, None, None, None, None]),
            (H::Answered, [None, Some(Running), None, None, None, None]),
            (H::Expired, [None, Some(Running), None, None, None, None]),
            (H::AnswerRefused, [Some(Paused), None, None, None, None, None]),
            (H::Woken, [None, None, Some(Running), None, None, None]),
            (H::ChildWent, [Some(Running), Some(Running), Some(Running), None, None, None]),
            (H::Retried, [None, None, None, None, Some(Running), Some(Running)]),
            (H::TakenBack(Running), [Some(Running), None, None, None, None, None]),
            (H::TakenBack(Paused), [Some(Paused), None, None, None, None, None]),
            (H::TakenBack(Sleeping), [Some(Sleeping), None, None, None, None, None]),
            (H::TakenBack(Ended), [None, None, None, None, None, None]),
            (H::TakenBack(Failed), [Some(Failed), None, None, None, None, None]),
            (H::TakenBack(Cancelled), [Some(Cancelled), None, None, None, None, None]),
        ];

        for (happened, follows) in table {
            for (status, next) in Status::ALL.into_iter().zip(follows) {
                assert_eq!(status.after(happened), next, "{status} after {happened:?}");
            }
        }
    }

    /// Stores hold these numbers: they never change.
    #[test]
    fn the_codes_of_statuses_are_those_of_every_store() {
        let codes = [
            (0, Status::Running, "running"),
            (1, Status::Paused, "paused"),
            (2, Status::Sleeping, "sleeping"),
            (3, Status::Ended, "ended"),
            (4, Status::Failed, "failed"),
            (5, Status::Cancelled, "cancelled"),
        ];

        for (code, status, name) in codes {
            assert_eq!((status.code(), Status::of_code(code), status.name()), (code, Some(status), name));
        }
        assert_eq!((Status::of_code(-1), Status::of_code(6)), (None, None));
        assert_eq!(Status::ALL.map(Status::code), [0, 1, 2, 3, 4, 5]);
    }
}
