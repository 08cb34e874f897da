//! Messages as the conventions write them: JSON, and only if the program's environment asks for it.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::{
    message::{Image, Message, Part, Role},
    request::{Finish, Reply, Request},
};

/// The variable that asks for content, read once.
const VARIABLE: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";

static WANTED: LazyLock<bool> =
    LazyLock::new(|| std::env::var(VARIABLE).is_ok_and(|value| value.eq_ignore_ascii_case("true")));

/// Returns `true` if spans may hold messages.
pub(super) fn wanted() -> bool {
    *WANTED
}

/// The conversation without its instructions.
pub(super) fn input(request: &Request) -> String {
    let said = request.messages.iter().filter(|message| message.role != Role::System);
    said.map(|message| json!({ "role": message.role, "parts": parts(message) })).collect::<Value>().to_string()
}

/// The instructions, which the conventions keep apart; `None` without any.
pub(super) fn instructions(request: &Request) -> Option<String> {
    let told = request.messages.iter().filter(|message| message.role == Role::System);
    let all: Vec<Value> = told.flat_map(parts).collect();
    (!all.is_empty()).then(|| Value::from(all).to_string())
}

pub(super) fn output(reply: &Reply) -> String {
    let message = &reply.message;
    json!([{ "role": message.role, "parts": parts(message), "finish_reason": finish(&reply.finish) }]).to_string()
}

/// The conventions' word for why a reply ends.
pub(super) fn finish(finish: &Finish) -> &str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_call",
        Finish::Filtered => "content_filter",
        Finish::Other(said) => said,
    }
}

fn parts(message: &Message) -> Vec<Value> {
    message.parts.iter().filter_map(part).collect()
}

fn part(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) => json!({ "type": "text", "content": text }),
        Part::Image(Image::Data { media_type, base64 }) => {
            json!({ "type": "blob", "modality": "image", "mime_type": media_type, "content": base64 })
        }
        Part::Image(Image::Url(url)) => json!({ "type": "uri", "modality": "image", "uri": url }),
        Part::ToolCall(call) => {
            json!({ "type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments })
        }
        Part::ToolResult(result) => json!({ "type": "tool_call_response", "id": result.id, "response": result.text }),
        Part::Reasoning { text, .. } => json!({ "type": "reasoning", "content": text }),
        Part::Extra(_) => return None,
    })
}
