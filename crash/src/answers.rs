//! The answers to questions, and the times of answers. Both follow from the text of the question.

use std::time::{Duration, SystemTime};

use flowstone::durable::Question;

use crate::random::mix;

/// The time at which a question that expires is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before its time is over.
    Soon,
    /// About when its time is over: a little before, or after.
    Late,
    Never,
}

/// The most milliseconds by which a late answer comes before or after the question expires.
const ABOUT: u64 = 15;

/// Returns the answer to a question.
pub(crate) fn to(question: &str) -> bool {
    hash(question).is_multiple_of(2)
}

/// Returns the time after which a question expires.
pub(crate) fn stands(question: &str) -> Duration {
    let some = hash(question) >> 8;
    Duration::from_millis(match when(question) {
        When::Soon => 5000,
        When::Late => 30 + some % 40,
        When::Never => 15 + some % 40,
    })
}

/// Returns `true` if it is time to answer a question. A question that has expired takes no answer any more.
pub(crate) fn is_time(question: &Question) -> bool {
    let text = question.question.as_str().unwrap_or_default();
    let Some(expires) = question.expires_at else { return true };
    match when(text) {
        When::Soon => true,
        When::Late => {
            let about = Duration::from_millis((hash(text) >> 16) % (2 * ABOUT));
            SystemTime::now() + Duration::from_millis(ABOUT) >= expires + about
        }
        When::Never => false,
    }
}

/// Returns `true` if a question should have expired some moments ago.
pub(crate) fn is_over(question: &Question) -> bool {
    question.expires_at.is_some_and(|at| at + Duration::from_millis(ABOUT) <= SystemTime::now())
}

/// Puts questions in the order in which they are answered.
pub(crate) fn in_any_order(questions: &mut [Question]) {
    questions.sort_by_cached_key(|question| hash(question.question.as_str().unwrap_or_default()));
}

fn when(question: &str) -> When {
    [When::Soon, When::Late, When::Late, When::Never][usize::try_from(hash(question) >> 4 & 3).unwrap_or_default()]
}

fn hash(question: &str) -> u64 {
    question.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}
