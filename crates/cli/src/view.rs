//! The documents that `--json` prints. Keys are only added, never renamed: programs read them.
//!
//! Times are RFC 3339 in UTC, durations and sizes are integers with their unit in the key.

use std::time::SystemTime;

use flowstone_core::Usage;
use flowstone_durable::{FailedAttempt, Items, Question, RunFailure, RunInfo, Status, StepInfo, Unregistered};
use serde::Serialize;
use serde_json::Value;

use crate::words::exact;

/// A run.
#[derive(Serialize)]
pub(crate) struct RunView<'a> {
    id: &'a str,
    flow: &'a str,
    fingerprint: &'a str,
    status: Status,
    /// The reason why the program that drives the store cannot go on with it, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
    /// The number of times that the visit under way was begun again after its process had died.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumes: Option<u64>,
    /// Since when it waits for its turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_at: Option<String>,
    step: u64,
    node: Option<&'a str>,
    action: Option<&'a str>,
    error: Option<&'a RunFailure>,
    created_at: String,
    changed_at: String,
    wake_at: Option<String>,
    parent: Option<&'a str>,
    item: Option<u64>,
}

impl<'a> RunView<'a> {
    pub(crate) fn of(run: &'a RunInfo) -> Self {
        Self {
            id: run.id.as_str(),
            flow: &run.flow,
            fingerprint: &run.fingerprint,
            status: run.status,
            refused: run.refused.as_deref(),
            resumes: Some(run.resumes).filter(|resumes| *resumes > 0),
            queued_at: time(run.queued_at),
            step: run.step,
            node: run.node.as_ref().map(|node| node.as_str()),
            action: run.action.as_ref().map(|action| action.as_str()),
            error: run.error.as_ref(),
            created_at: exact(run.created_at),
            changed_at: exact(run.changed_at),
            wake_at: time(run.wake_at),
            parent: run.parent.as_ref().map(|parent| parent.as_str()),
            item: run.item,
        }
    }

    pub(crate) fn all(runs: &'a [RunInfo]) -> Vec<Self> {
        runs.iter().map(Self::of).collect()
    }
}

/// A page of runs.
#[derive(Serialize)]
pub(crate) struct ListView<'a> {
    pub(crate) runs: Vec<RunView<'a>>,
    /// The value of `--after` for the next page, if there is one.
    pub(crate) next: Option<String>,
}

/// A run with all that is known of it but its states.
#[derive(Serialize)]
pub(crate) struct ShowView<'a> {
    pub(crate) run: RunView<'a>,
    /// The calls, tokens and money that it has used, its children included.
    pub(crate) usage: UsageView,
    /// The process that drives the store.
    pub(crate) driver: Option<u32>,
    pub(crate) steps: Vec<StepView<'a>>,
    /// The number of steps before those, and after them.
    pub(crate) earlier_steps: u64,
    pub(crate) later_steps: u64,
    /// The first of the open questions.
    pub(crate) question: Option<QuestionView<'a>>,
    /// All of them, those of children, too.
    pub(crate) questions: Vec<QuestionView<'a>>,
    /// The number of items that the visit under way has recorded.
    pub(crate) items_done: u64,
    pub(crate) children: ChildrenView<'a>,
    /// The batch nodes that start over with all items after a crash.
    pub(crate) restarts_whole: Vec<String>,
}

/// A step.
#[derive(Serialize)]
pub(crate) struct StepView<'a> {
    step: u64,
    /// The number of the visit in events and keys; none of the start.
    visit: Option<u64>,
    node: Option<&'a str>,
    action: Option<&'a str>,
    next: Option<&'a str>,
    started_at: String,
    took_us: u64,
    attempts: u64,
    retries: &'a [FailedAttempt],
    items: Option<Items>,
    usage: UsageView,
    state_bytes: u64,
    stored_bytes: u64,
}

impl<'a> StepView<'a> {
    pub(crate) fn of(step: &'a StepInfo) -> Self {
        Self {
            step: step.step,
            visit: step.step.checked_sub(1),
            node: step.node.as_ref().map(|node| node.as_str()),
            action: step.action.as_ref().map(|action| action.as_str()),
            next: step.next.as_ref().map(|next| next.as_str()),
            started_at: exact(step.started_at),
            took_us: u64::try_from(step.took.as_micros()).unwrap_or(u64::MAX),
            attempts: step.attempts,
            retries: &step.retries,
            items: step.items,
            usage: UsageView::of(&step.usage),
            state_bytes: step.state_size,
            stored_bytes: step.stored_size,
        }
    }
}

/// Calls, tokens and money that were used.
#[derive(Serialize)]
pub(crate) struct UsageView {
    calls: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// In billionths of a US dollar.
    cost_usd_nanos: u64,
}

impl UsageView {
    pub(crate) fn of(usage: &Usage) -> Self {
        let Usage { calls, input_tokens, output_tokens, cost } = *usage;
        Self { calls, input_tokens, output_tokens, cost_usd_nanos: cost.as_nanos() }
    }
}

/// A question that waits. Its answer is not part of it: one that is there was given, and is not taken up yet.
#[derive(Serialize)]
pub(crate) struct QuestionView<'a> {
    step: u64,
    node: &'a str,
    question: &'a Value,
    schema: &'a Value,
    asked_at: String,
    expires_at: Option<String>,
    answered_at: Option<String>,
    refused: Option<&'a str>,
}

impl<'a> QuestionView<'a> {
    pub(crate) fn of(question: &'a Question) -> Self {
        Self {
            step: question.step,
            node: question.node.as_str(),
            question: &question.question,
            schema: &question.schema,
            asked_at: exact(question.asked_at),
            expires_at: time(question.expires_at),
            answered_at: time(question.answered_at),
            refused: question.refused.as_deref(),
        }
    }
}

/// The runs that a run's batch flows made.
#[derive(Serialize)]
pub(crate) struct ChildrenView<'a> {
    pub(crate) total: u64,
    /// The number in each status that occurs.
    pub(crate) by_status: std::collections::BTreeMap<Status, u64>,
    /// Each of them, if `--children` asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runs: Option<Vec<RunView<'a>>>,
}

/// The result of a request.
#[derive(Serialize)]
pub(crate) struct DoneView<'a> {
    pub(crate) run: &'a str,
    /// The request, as `cancel`.
    pub(crate) request: &'static str,
    /// The status of the run now, if it is still there.
    pub(crate) status: Option<Status>,
    /// The process that drives the store, and so takes the request up.
    pub(crate) driver: Option<u32>,
}

/// The runs that this process drove, as they are now.
#[derive(Serialize)]
pub(crate) struct DrivenView<'a> {
    pub(crate) runs: Vec<RunView<'a>>,
    /// The runs that could not go on, with the reasons.
    pub(crate) refused: &'a [String],
    /// Flows that this program does not have, with how many of their runs are not at an end; left out where there are
    /// none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) unregistered: &'a [Unregistered],
}

fn time(at: Option<SystemTime>) -> Option<String> {
    at.map(exact)
}
