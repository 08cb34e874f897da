//! The end of a reply: the words of all services for its reason, and the reply that is made then.

use serde_json::Map;

use super::{Fold, Slot, What};
use crate::{
    error::Failure,
    message::{Extra, Message, Part, Role},
    request::{Finish, Reply},
    wire::Wire,
};

/// The reason for the end of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Stop,
    Length,
    Calls,
    Filtered,
    /// A reason that nobody knows.
    Unknown(String),
}

/// Services have many reasons of this kind, and invent more: for texts, for images, with prefixes.
const FILTERS: [&str; 6] = ["content_filter", "safety", "prohibited", "recitation", "blocklist", "refusal"];

impl End {
    /// The reasons of all services: they differ in letters, and mean the same.
    pub(super) fn of(reason: &str) -> Self {
        match reason.to_ascii_lowercase().as_str() {
            "stop" | "end" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "stop_token" | "complete"
            | "completed" | "done" | "finish" | "finished" | "finish_reason_stop" => Self::Stop,
            "length"
            | "max_tokens"
            | "max_output_tokens"
            | "model_length"
            | "max_length"
            | "token_limit"
            | "model_context_window_exceeded"
            | "context_window_exceeded" => Self::Length,
            "tool_calls" | "tool_call" | "tool_use" | "function_call" | "function_calls" => Self::Calls,
            "language" | "spii" | "sensitive" | "model_armor" | "guardrail_intervened" | "error_toxic" => {
                Self::Filtered
            }
            reason if FILTERS.iter().any(|word| reason.contains(word)) => Self::Filtered,
            _ => Self::Unknown(reason.to_owned()),
        }
    }
}

impl Fold {
    /// Makes the reply. One that says nothing is an end if it follows `results` of tools, which the model may have
    /// nothing to add to.
    pub(crate) fn finish(mut self, results: bool) -> Result<Reply, Failure> {
        self.close()?;
        let said = std::mem::take(&mut self.refusal);
        match self.end.take() {
            Some(End::Unknown(reason)) => {
                let since = if self.ending.is_empty() { String::new() } else { format!(": {}", self.ending) };
                Err(Failure::Broken { shown: false, said: format!("it ended with `{reason}`{since}") })
            }
            Some(End::Filtered) => {
                let words = [said, std::mem::take(&mut self.ending)].into_iter().find(|words| !words.is_empty());
                Err(Failure::Filtered { said: words.unwrap_or_else(|| self.words()) })
            }
            _ if !said.trim().is_empty() => Err(Failure::Filtered { said }),
            // Nothing at all is no end.
            end => self.reply(end == Some(End::Length), results && end.is_some()),
        }
    }

    fn reply(self, is_cut: bool, results: bool) -> Result<Reply, Failure> {
        let Self { wire, mut slots, counted, id, model, .. } = self;
        slots.sort_by_key(|slot| slot.at);
        let parts: Vec<Part> = slots.into_iter().filter_map(|slot| slot.what.part(wire)).collect();
        let calls = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
        let says = calls || parts.iter().any(|part| matches!(part, Part::Text(_)));
        // Some say `stop` when they wait for tools.
        let finish = match () {
            () if is_cut => Finish::Length,
            () if calls => Finish::ToolCalls,
            () => Finish::Stop,
        };
        if !says && finish != Finish::Length && !results {
            return Err(Failure::Malformed { said: "neither text nor a call of a tool".to_owned() });
        }
        let mut reply = Reply::new(Message { role: Role::Assistant, parts }, finish);
        (reply.tokens, reply.id, reply.model) = (counted.tokens(), id, model);
        Ok(reply)
    }

    /// Returns the text that was said so far.
    fn words(&self) -> String {
        let text = |slot: &Slot| if let What::Text(text) = &slot.what { Some(text.clone()) } else { None };
        self.slots.iter().filter_map(text).collect()
    }
}

impl What {
    fn part(self, wire: Wire) -> Option<Part> {
        match self {
            Self::Text(text) => (!text.is_empty()).then_some(Part::Text(text)),
            Self::Thought { text, signature } => {
                let signature = (!signature.is_empty()).then_some(signature);
                (!text.is_empty() || signature.is_some()).then_some(Part::Reasoning { text, signature })
            }
            Self::Extra(json) => {
                let empty = json.as_object().is_some_and(Map::is_empty);
                (!empty).then(|| Part::Extra(Extra { wire: wire.name().to_owned(), json }))
            }
            Self::Call(call) => Some(call.part(wire)),
        }
    }
}
