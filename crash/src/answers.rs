//! Who answers what, and when: by the text of a question, which both the node that asks and those who answer know.

use std::time::{Duration, SystemTime};

use flowstone::durable::Question;

use crate::random::mix;

/// When somebody answers a question that expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before its time is over.
    Soon,
    /// About when its time is over: a little before, or after.
    Late,
    Never,
}

/// How long before or after its time at most somebody answers late.
const ABOUT: u64 = 15;

/// What anybody who is asked answers.
pub(crate) fn to(question: &str) -> bool {
    hash(question).is_multiple_of(2)
}

/// How long a question stands that expires.
pub(crate) fn stands(question: &str) -> Duration {
    let some = hash(question) >> 8;
    Duration::from_millis(match when(question) {
        When::Soon => 5000,
        When::Late => 30 + some % 40,
        When::Never => 15 + some % 40,
    })
}

/// Whether the time has come to answer a question. One that has expired in the meantime takes no answer any more.
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

/// Whether the time of a question is over since some moments.
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
