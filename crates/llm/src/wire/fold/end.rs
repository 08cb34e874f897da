//! Why a reply ends: the words of all services for it.

/// Why a reply ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Stop,
    Length,
    Calls,
    Filtered,
    /// A reason that nobody knows.
    Unknown(String),
}

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
            "content_filter"
            | "content_filtered"
            | "safety"
            | "recitation"
            | "blocklist"
            | "prohibited_content"
            | "spii"
            | "language"
            | "refusal"
            | "guardrail_intervened"
            | "sensitive"
            | "image_safety"
            | "model_armor" => Self::Filtered,
            _ => Self::Unknown(reason.to_owned()),
        }
    }
}
