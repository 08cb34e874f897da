//! Bounds on how much of a conversation a model is given: [`History`].
//!
//! ```text
//! system │ … oldest … │ … newest … │      a unit is a message, or calls with their results
//!  kept    dropped, or   kept, within
//!          summarised    the limit
//! ```
//!
//! **Invariant:** a call is never parted from its results; instructions, the last message of the user and the newest
//! unit are always kept; what is kept stays in order.

use std::ops::Range;

use crate::message::{Message, Role};

/// A bound on how much of a conversation a model is given; tokens are
/// [estimated](crate::Conversation::estimated_tokens).
///
/// # Example
///
/// ```
/// use flowstone_llm::{Conversation, History};
///
/// let mut chat = Conversation::default();
/// for number in 0..100 {
///     chat.user(format!("Question number {number}: what is that number?"));
///     chat.assistant(format!("It is {number}."));
/// }
/// chat.user("And the next?");
///
/// let shown = History::drop_above(200).view(&chat.messages);
/// assert!(shown.len() < 40);
/// assert_eq!(shown.last(), chat.messages.last());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History(Kind);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    All,
    Drop(u64),
    Summarise(u64),
}

impl History {
    /// Gives the model all of it.
    #[must_use]
    pub fn all() -> Self {
        Self(Kind::All)
    }

    /// Leaves out the oldest part of a conversation of more tokens than this. The conversation in the state stays
    /// whole.
    #[must_use]
    pub fn drop_above(tokens: u64) -> Self {
        Self(Kind::Drop(tokens))
    }

    /// Has an agent's model sum up the oldest part of a conversation of more tokens than this, down to about half of
    /// them; the summary takes its place in the state.
    #[must_use]
    pub fn summarise_above(tokens: u64) -> Self {
        Self(Kind::Summarise(tokens))
    }

    /// Returns the messages of a conversation that the model is given.
    ///
    /// They may be more than the limit, if those that are always kept are.
    #[must_use]
    pub fn view(&self, messages: &[Message]) -> Vec<Message> {
        match self.0 {
            Kind::Drop(limit) if tokens(messages) > limit => {
                let kept = kept(messages, limit);
                messages.iter().zip(kept).filter(|(_, kept)| *kept).map(|(message, _)| message.clone()).collect()
            }
            Kind::All | Kind::Drop(_) | Kind::Summarise(_) => messages.to_vec(),
        }
    }

    /// The limit above which a summary is made.
    pub(crate) fn summarises_above(&self) -> Option<u64> {
        if let Kind::Summarise(limit) = self.0 { Some(limit) } else { None }
    }

    /// Says why the limit cannot hold.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self.0 {
            Kind::Drop(0) | Kind::Summarise(0) => Some("the history has a limit of 0 tokens: nothing would fit"),
            Kind::All | Kind::Drop(_) | Kind::Summarise(_) => None,
        }
    }
}

/// Which messages stay, if no more than about `limit` tokens are to: those that always do, and as many of the newest
/// units as fit beside them.
pub(crate) fn kept(messages: &[Message], limit: u64) -> Vec<bool> {
    let last_user = messages.iter().rposition(|message| message.role == Role::User);
    let mut kept: Vec<_> = messages.iter().map(|message| message.role == Role::System).collect();
    if let Some(last_user) = last_user {
        kept[last_user] = true;
    }
    let mut room = limit.saturating_sub(kept_tokens(messages, &kept));
    let mut first = messages.len();
    for (age, unit) in units(messages).into_iter().rev().enumerate() {
        let takes: u64 = unit.clone().filter(|at| !kept[*at]).map(|at| messages[at].estimated_tokens()).sum();
        if takes > room && age > 0 {
            break;
        }
        room = room.saturating_sub(takes);
        first = unit.start;
    }
    // Providers want a conversation to begin with the user: what comes before the first of the user's messages goes,
    // too.
    let begins = (first..messages.len()).find(|at| messages[*at].role == Role::User);
    let first = begins.filter(|_| last_user.is_some_and(|last_user| first <= last_user)).unwrap_or(first);
    kept[first..].fill(true);
    kept
}

/// The messages that belong together, in order: calls and their results, or one message.
fn units(messages: &[Message]) -> Vec<Range<usize>> {
    let mut units = Vec::new();
    let mut start = 0;
    while start < messages.len() {
        let mut end = start + 1;
        if messages[start].tool_calls().next().is_some() {
            end += messages[end..].iter().take_while(|message| message.role == Role::Tool).count();
        }
        units.push(start..end);
        start = end;
    }
    units
}

/// Guesses the tokens of messages.
pub(crate) fn tokens(messages: &[Message]) -> u64 {
    messages.iter().map(Message::estimated_tokens).sum()
}

fn kept_tokens(messages: &[Message], kept: &[bool]) -> u64 {
    messages.iter().zip(kept).filter(|(_, kept)| **kept).map(|(message, _)| message.estimated_tokens()).sum()
}
