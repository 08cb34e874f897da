//! The usage of paid services by a run, and its limits: [`Usage`], [`Budget`].
//!
//! ```text
//! cx.afford()?        may one more call be made?
//! … the call …
//! cx.spend(usage)     what it took: counted for the budget, told to listeners, kept in the history
//! ```
//!
//! The engine calls no service itself. A node that calls one says so through its [`Context`].

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::words::error::Result;

/// The usage of models or other paid services by one or more calls.
///
/// # Example
///
/// ```
/// use flowstone_core::{Usage, Usd};
///
/// let first = Usage { calls: 1, input_tokens: 900, output_tokens: 100, cost: Usd::dollars(0.002) };
/// let both = first + Usage { calls: 1, ..Usage::default() };
/// assert_eq!((both.calls, both.tokens(), both.cost.to_string()), (2, 1000, "$0.002".to_owned()));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// The number of calls, those that failed included.
    pub calls: u64,
    /// Tokens that were sent.
    pub input_tokens: u64,
    /// Tokens that were made.
    pub output_tokens: u64,
    /// The cost.
    pub cost: Usd,
}

impl Usage {
    /// Returns the tokens that were sent and made.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost = Usd(self.cost.0.saturating_add(other.cost.0));
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// An amount of money in US dollars, in whole billionths, so that sums are exact.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usd(u64);

impl Usd {
    /// Makes an amount of billionths of a dollar.
    #[must_use]
    pub const fn nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Makes an amount of dollars, rounded to a billionth. A negative number, and one that is no number, gives nothing.
    #[must_use]
    pub fn dollars(dollars: f64) -> Self {
        Self((dollars * 1e9).round() as u64)
    }

    /// Returns the amount in billionths of a dollar.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the amount in dollars.
    #[must_use]
    pub fn as_dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl fmt::Display for Usd {
    /// Writes all digits of the amount, and at least cents: `$0.002`, `$1.50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let digits = format!("{nanos:09}");
        let shown = digits.trim_end_matches('0').len().max(2);
        write!(f, "${dollars}.{}", digits.get(..shown).unwrap_or(&digits))
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The limits on the usage of a run, children included; see [`RunOptions::budget`](crate::RunOptions::budget).
///
/// It is checked before each call. Calls that are under way at once may go beyond tokens and cost, each by its own
/// usage; the number of calls is never exceeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// The most calls.
    pub calls: Option<u64>,
    /// The most tokens, sent and made.
    pub tokens: Option<u64>,
    /// The most money.
    pub cost: Option<Usd>,
}

impl Budget {
    /// Creates a budget without limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the number of calls.
    #[must_use]
    pub fn calls(mut self, limit: u64) -> Self {
        self.calls = Some(limit);
        self
    }

    /// Limits the tokens, sent and made together.
    #[must_use]
    pub fn tokens(mut self, limit: u64) -> Self {
        self.tokens = Some(limit);
        self
    }

    /// Limits the money.
    #[must_use]
    pub fn cost(mut self, limit: Usd) -> Self {
        self.cost = Some(limit);
        self
    }

    /// Looks for a limit that is reached.
    pub(crate) fn check(&self, started: u64, used: &Usage) -> Result<(), OverBudget> {
        match *self {
            // A node that asks once and calls three times has made three calls.
            Self { calls: Some(limit), .. } if started.max(used.calls) >= limit => Err(OverBudget::Calls { limit }),
            Self { tokens: Some(limit), .. } if used.tokens() >= limit => {
                Err(OverBudget::Tokens { limit, used: used.tokens() })
            }
            Self { cost: Some(limit), .. } if used.cost >= limit => Err(OverBudget::Cost { limit, used: used.cost }),
            _ => Ok(()),
        }
    }
}

/// The budget of a run is used up. The error of the phase that wanted to go on has it as its source. It is terminal:
/// the state is kept, and the run can be tried again with a larger budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum OverBudget {
    #[error("the run's budget of {limit} calls is used up")]
    Calls { limit: u64 },
    #[error("the run's budget of {limit} tokens is used up: {used} were used")]
    Tokens { limit: u64, used: u64 },
    #[error("the run's budget of {limit} is used up: it has cost {used}")]
    Cost { limit: Usd, used: Usd },
}

/// The usage of a run and its children so far.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) budget: Option<Budget>,
    spent: Mutex<Spent>,
}

#[derive(Debug, Default)]
pub(crate) struct Spent {
    /// Calls that were begun: those under way are counted, so that parallel ones cannot exceed the budget.
    pub(crate) started: u64,
    pub(crate) used: Usage,
}

impl Meter {
    pub(crate) fn new(budget: Option<Budget>, used: Usage) -> Self {
        Self { budget, spent: Mutex::new(Spent { started: used.calls, used }) }
    }

    pub(crate) fn spent(&self) -> std::sync::MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_with_all_its_digits_and_at_least_cents() {
        let amounts = [0, 1, 2_000_000, 1_500_000_000, 12_000_000_000].map(|nanos| Usd::nanos(nanos).to_string());

        assert_eq!(amounts, ["$0.00", "$0.000000001", "$0.002", "$1.50", "$12.00"]);
    }

    #[test]
    fn money_that_is_no_amount_is_nothing() {
        assert_eq!([f64::NAN, -1.0].map(Usd::dollars), [Usd::default(); 2]);
    }
}
