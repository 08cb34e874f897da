//! The state of an agent, as plain data: [`AgentState`].

use std::{collections::BTreeMap, time::Duration};

use flowstone_core::Usage;
use serde::{Deserialize, Serialize};

use super::{approve::Decision, bounds::Bound};
use crate::message::{Conversation, Message, Part, Role, ToolCall, ToolFault, ToolResult};

/// The state of an agent: the conversation, and how far it is with the question of the user.
///
/// It is plain data, and may be a field of a larger state, see
/// [`AsyncFlow::within`](flowstone_core::AsyncFlow::within). Turns, usage and time are those of the last question.
///
/// # Example
///
/// ```
/// use flowstone_llm::AgentState;
///
/// let mut state = AgentState::new("Where is Rome?");
/// assert_eq!((state.answer(), state.turns()), (None, 0));
///
/// state.ask("And Oslo?"); // when it has answered
/// assert_eq!(state.conversation().messages.len(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentState {
    conversation: Conversation,
    /// Decisions of a person on the calls that wait, by their id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) decisions: BTreeMap<String, Decision>,
    pub(super) turns: u32,
    pub(super) misuses: u32,
    pub(super) usage: Usage,
    took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<Bound>,
}

impl AgentState {
    /// Begins a conversation with a question.
    pub fn new(question: impl Into<String>) -> Self {
        let mut state = Self::default();
        state.ask(question);
        state
    }

    /// Asks the next question in the same conversation: bounds count from here.
    pub fn ask(&mut self, question: impl Into<String>) {
        self.ask_message(Message::user(question));
    }

    /// Asks with a message, which may have images.
    pub fn ask_message(&mut self, question: Message) {
        let mut conversation = std::mem::take(&mut self.conversation);
        conversation.answer_open_calls("the user went on to something else");
        conversation.messages.push(question);
        *self = Self { conversation, ..Self::default() };
    }

    /// Returns the answer to the last question, if there is one.
    #[must_use]
    pub fn answer(&self) -> Option<String> {
        let last = self.conversation.messages.last()?;
        (last.role == Role::Assistant && last.tool_calls().next().is_none()).then(|| last.text())
    }

    /// Returns the bound that stopped the agent before it had an answer.
    #[must_use]
    pub fn stopped(&self) -> Option<Bound> {
        self.stopped
    }

    /// Returns all that was said and done.
    #[must_use]
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Returns the calls that the model asked for and that have no result.
    #[must_use]
    pub fn waiting(&self) -> Vec<&ToolCall> {
        self.conversation.open_calls().map_or_else(Vec::new, |(_, calls)| calls)
    }

    /// Returns how many replies the model made.
    #[must_use]
    pub fn turns(&self) -> u32 {
        self.turns
    }

    /// Returns how many replies called tools that do not exist, or with arguments that do not fit.
    #[must_use]
    pub fn misuses(&self) -> u32 {
        self.misuses
    }

    /// Returns what the agent's own calls of its model used, without attempts that failed and without what tools used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Returns how long the agent worked, with waits between attempts, without waits for people and without what a
    /// crash cut off.
    #[must_use]
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.took_ms)
    }

    pub(super) fn add_time(&mut self, took: Duration) {
        self.took_ms = self.took_ms.saturating_add(took.as_millis().try_into().unwrap_or(u64::MAX));
    }

    pub(super) fn conversation_mut(&mut self) -> &mut Conversation {
        &mut self.conversation
    }
}

impl AsRef<Conversation> for AgentState {
    fn as_ref(&self) -> &Conversation {
        &self.conversation
    }
}

impl AsMut<Conversation> for AgentState {
    fn as_mut(&mut self) -> &mut Conversation {
        &mut self.conversation
    }
}

impl AsRef<Self> for AgentState {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsMut<Self> for AgentState {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl Conversation {
    /// The last calls of the model, if some have no result, and where their next result belongs.
    fn open_calls(&self) -> Option<(usize, Vec<&ToolCall>)> {
        let calling = |message: &Message| message.tool_calls().next().is_some();
        let asked = self.messages.iter().rposition(calling)?;
        let results = self.messages[asked + 1..].iter().take_while(|message| message.role == Role::Tool);
        let end = asked + 1 + results.clone().count();
        let has_result = |call: &&ToolCall| {
            let mut parts = results.clone().flat_map(|message| &message.parts);
            !parts.any(|part| matches!(part, Part::ToolResult(result) if result.id == call.id))
        };
        let open: Vec<_> = self.messages[asked].tool_calls().filter(has_result).collect();
        (!open.is_empty()).then_some((end, open))
    }

    /// Gives calls without a result one that says why they were not made: providers refuse a conversation that lacks
    /// them.
    pub(super) fn answer_open_calls(&mut self, why: &str) {
        let Some((end, open)) = self.open_calls() else { return };
        let not_made = |call: &&ToolCall| ToolResult {
            id: call.id.clone(),
            name: call.name.clone(),
            text: format!("this call was not made: {why}"),
            fault: Some(ToolFault::Failed),
        };
        let results: Vec<_> = open.iter().map(not_made).collect();
        match self.messages.get_mut(end - 1) {
            // One message holds the results of a turn.
            Some(before) if before.role == Role::Tool => before.parts.extend(results.into_iter().map(Part::ToolResult)),
            _ => self.messages.insert(end, Message::tool_results(results)),
        }
    }
}
