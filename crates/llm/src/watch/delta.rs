//! Text as it comes: the words of a model while it replies.

use flowstone_core::{Context, Event, EventKind};
use serde_json::{Value, json};

use crate::watch::span;

/// The keys of emitted values, which tell them from the values of a user's own nodes.
const TEXT: &str = "model_text";
const REASONING: &str = "model_reasoning";

/// A piece of a reply, sent while it comes.
///
/// # Example
///
/// ```
/// use flowstone_llm::Delta;
/// use serde_json::json;
///
/// assert_eq!(Delta::of(&json!({ "model_text": "Hel" })), Some(Delta::Text("Hel")));
/// assert_eq!(Delta::of(&json!({ "progress": 7 })), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delta<'a> {
    /// Text of the reply.
    Text(&'a str),
    /// Thoughts, if they are shown.
    Reasoning(&'a str),
}

impl<'a> Delta<'a> {
    /// Reads an emitted value; `None` if it is something else.
    #[must_use]
    pub fn of(value: &'a Value) -> Option<Self> {
        let text = |key| value.get(key).and_then(Value::as_str);
        text(TEXT).map(Self::Text).or_else(|| text(REASONING).map(Self::Reasoning))
    }

    /// Reads an event; `None` if it is about something else.
    #[must_use]
    pub fn of_event(event: &'a Event) -> Option<Self> {
        if let EventKind::Emitted { value } = &event.kind { Self::of(value) } else { None }
    }

    /// Sends the piece to the listeners of the run.
    pub fn emit(self, cx: &Context) {
        span::chunk();
        if cx.heard() {
            cx.emit(match self {
                Self::Text(text) => json!({ TEXT: text }),
                Self::Reasoning(text) => json!({ REASONING: text }),
            });
        }
    }
}
