//! Anthropic's Messages: blocks, numbered in a stream as they stand in a whole reply.

use serde_json::{Value, json};

use super::{
    Asked, Counted, Fold, Wire,
    dialect::Dialect,
    failure,
    json::{count, field, kept, list, text, unknown},
    turns::{self, Effort, arguments, merge},
};
use crate::{
    error::Failure,
    message::{Extra, Image, Part, Role},
    request::{Request, ToolChoice},
    schema::strict,
};

/// The most tokens that a model may think which is told a word for it.
const LOW: u32 = 1_024;
const MEDIUM: u32 = 8_000;
const HIGH: u32 = 24_000;

pub(super) fn encode(asked: &Asked<'_>, dialect: &Dialect) -> Result<Value, Failure> {
    let Asked { request, model, stream } = *asked;
    let options = &request.options;
    let (systems, messages) = messages(request, dialect);
    let most = options.max_tokens.unwrap_or_else(|| Family::of(model).most_tokens());
    let mut body = json!({ "model": model, "stream": stream, "messages": messages, "max_tokens": most });
    if !systems.is_empty() {
        body["system"] = systems.join("\n\n").into();
    }
    if !request.tools.is_empty() {
        let tool = |tool: &crate::ToolSpec| json!({ "name": tool.name, "description": tool.description, "input_schema": tool.parameters });
        body["tools"] = request.tools.iter().map(tool).collect();
        match &options.tool_choice {
            ToolChoice::Auto => {}
            ToolChoice::None => body["tool_choice"] = json!({ "type": "none" }),
            ToolChoice::Required => body["tool_choice"] = json!({ "type": "any" }),
            ToolChoice::Tool(name) => body["tool_choice"] = json!({ "type": "tool", "name": name }),
        }
    }
    if let Some(effort) = &options.reasoning {
        think(&mut body, Effort::of(effort)?, Family::of(model));
    }
    if let Some(schema) = &request.schema {
        body["output_config"]["format"] = json!({ "type": "json_schema", "schema": strict(&schema.schema) });
    }
    let numbers = [("temperature", options.temperature), ("top_p", options.top_p)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        body[name] = json!(number);
    }
    if !options.stop.is_empty() {
        body["stop_sequences"] = json!(options.stop);
    }
    Ok(body)
}

/// Says how much to think, in the way of the model's family.
fn think(body: &mut Value, effort: Effort, family: Family) {
    if effort == Effort::None {
        if family.adapts() {
            body["thinking"] = json!({ "type": "disabled" });
        }
        return;
    }
    if family.adapts() {
        body["thinking"] = json!({ "type": "adaptive", "display": "summarized" });
        body["output_config"]["effort"] = match effort {
            Effort::None | Effort::Minimal | Effort::Low => "low",
            Effort::Tokens(tokens) if tokens <= LOW * 2 => "low",
            Effort::Medium => "medium",
            Effort::Tokens(tokens) if tokens <= MEDIUM * 2 => "medium",
            Effort::High | Effort::XHigh | Effort::Tokens(_) => "high",
            Effort::Max => "max",
        }
        .into();
        return;
    }
    let tokens = match effort {
        Effort::None => return,
        Effort::Minimal | Effort::Low => LOW,
        Effort::Medium => MEDIUM,
        Effort::High | Effort::XHigh | Effort::Max => HIGH,
        Effort::Tokens(tokens) => tokens,
    };
    body["thinking"] = json!({ "type": "enabled", "budget_tokens": tokens });
}

/// A family of models, and its version: what its members take differs.
#[derive(Debug, Clone, Copy)]
struct Family {
    /// `opus`, `sonnet`, `haiku`, as they stand in the name.
    is_opus: bool,
    is_haiku: bool,
    /// `None` where the name has none.
    version: Option<(u32, u32)>,
}

impl Family {
    fn of(model: &str) -> Self {
        let numbers: Vec<u32> =
            model.split(['-', '.', '@']).filter(|part| part.len() <= 2).filter_map(|part| part.parse().ok()).collect();
        let version = numbers.first().map(|&major| (major, numbers.get(1).copied().unwrap_or(0)));
        Self { is_opus: model.contains("opus"), is_haiku: model.contains("haiku"), version }
    }

    /// Returns `true` if it decides by itself how much to think, and is told a word for it.
    fn adapts(self) -> bool {
        let since = if self.is_haiku { (5, 0) } else { (4, 6) };
        self.version.is_some_and(|version| version >= since)
    }

    /// The most tokens that it makes in one reply: the service wants to be told a bound.
    fn most_tokens(self) -> u32 {
        match self.version {
            Some((3, 5)) => 8_192,
            Some((3, minor)) if minor < 5 => 4_096,
            Some(version) if self.is_opus && version < (4, 5) => 32_000,
            _ => 64_000,
        }
    }
}

fn messages(request: &Request, dialect: &Dialect) -> (Vec<String>, Vec<Value>) {
    let (systems, turns) = turns::turns(&request.messages, dialect);
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::with_capacity(turns.len());
    for turn in &turns {
        let role = if turn.role == Role::Assistant { "assistant" } else { "user" };
        let mut blocks = Vec::with_capacity(turn.parts.len());
        let mut fields = Value::Null;
        for part in &turn.parts {
            if let Part::Extra(Extra { wire, json }) = part {
                if wire == Wire::Anthropic.name() && text(json, "type").is_empty() {
                    fields = json.clone();
                } else if wire == Wire::Anthropic.name() {
                    blocks.push(json.clone());
                }
            } else if let Some(mut block) = block(part, turn.role, dialect) {
                let fields = std::mem::take(&mut fields);
                // They are a text's, which was blank if another block follows.
                if text(&block, "type") == "text" {
                    merge(&mut block, &fields);
                }
                blocks.push(block);
            }
        }
        match messages.last_mut() {
            // Results of tools, and what the user says then, are one message.
            Some((last, before)) if *last == role => before.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    let message = |(role, blocks): (&str, Vec<Value>)| {
        let content = match blocks.as_slice() {
            [only] if text(only, "type") == "text" && only.as_object().is_some_and(|block| block.len() == 2) => {
                only["text"].clone()
            }
            _ => Value::from(blocks),
        };
        json!({ "role": role, "content": content })
    };
    (systems, messages.into_iter().map(message).collect())
}

fn block(part: &Part, role: Role, dialect: &Dialect) -> Option<Value> {
    match part {
        Part::Text(text) => Some(json!({ "type": "text", "text": text })),
        Part::Image(image) => {
            let source = match image {
                Image::Data { media_type, base64 } => {
                    json!({ "type": "base64", "media_type": media_type, "data": base64 })
                }
                Image::Url(url) => json!({ "type": "url", "url": url }),
            };
            Some(json!({ "type": "image", "source": source }))
        }
        Part::ToolCall(call) => {
            let (id, input) = (dialect.call_id(&call.id), arguments(&call.arguments));
            let mut block = json!({ "type": "tool_use", "id": id, "name": call.name, "input": input });
            if let Some(extra) = call.extra.as_ref().filter(|extra| extra.wire == Wire::Anthropic.name()) {
                merge(&mut block, &extra.json);
            }
            Some(block)
        }
        Part::ToolResult(result) => {
            let id = dialect.call_id(&result.id);
            let mut block = json!({ "type": "tool_result", "tool_use_id": id, "content": result.text });
            if result.fault.is_some() {
                block["is_error"] = true.into();
            }
            Some(block)
        }
        // The version before this one kept a block so that only the service reads.
        Part::Reasoning { signature: Some(block), .. } if block.starts_with('{') => {
            serde_json::from_str(block).ok().filter(|block| text(block, "type").ends_with("thinking"))
        }
        Part::Reasoning { text, signature: Some(signature) } if role == Role::Assistant => {
            Some(json!({ "type": "thinking", "thinking": text, "signature": signature }))
        }
        Part::Reasoning { .. } | Part::Extra(_) => None,
    }
}

pub(super) fn decode(frame: &Value, fold: &mut Fold) -> Result<(), Failure> {
    let none = Value::Null;
    for place in [Some(frame), field(frame, "message"), field(frame, "delta")].into_iter().flatten() {
        if let Some(failure) = failure::in_frame(place) {
            return Err(failure);
        }
        if let Some(usage) = field(place, "usage") {
            fold.count(counted(usage));
        }
    }
    let index = count(frame, "index").unwrap_or(0);
    match text(frame, "type") {
        "message" => take_message(frame, fold),
        "message_start" => take_message(field(frame, "message").unwrap_or(&none), fold),
        "content_block_start" => take_block(index, field(frame, "content_block").unwrap_or(&none), fold),
        "content_block_delta" => {
            let is_numbered = field(frame, "index").is_some();
            take_delta(index, is_numbered, field(frame, "delta").unwrap_or(&none), fold)
        }
        "message_delta" => take_end(field(frame, "delta").unwrap_or(&none), fold),
        "message_stop" => {
            fold.over();
            Ok(())
        }
        // A gateway may leave out what a message is.
        "" if field(frame, "content").is_some() => take_message(frame, fold),
        "" => Err(failure::unknown(frame)),
        // New events are to be passed over.
        _ => Ok(()),
    }
}

fn take_message(message: &Value, fold: &mut Fold) -> Result<(), Failure> {
    fold.named(text(message, "id"), text(message, "model"))?;
    fold.text((0, 1), text(message, "content"))?;
    for (index, block) in list(message, "content").iter().enumerate() {
        take_block(index as u64, block, fold)?;
    }
    take_end(message, fold)
}

fn take_end(message: &Value, fold: &mut Fold) -> Result<(), Failure> {
    if let Some(details) = field(message, "stop_details") {
        fold.refused(text(details, "explanation"))?;
    }
    fold.ends(text(message, "stop_reason"))
}

fn take_block(index: u64, block: &Value, fold: &mut Fold) -> Result<(), Failure> {
    let (before, at) = ((index, 0), (index, 1));
    let mut keep = |known: &[&str]| match unknown(block, known) {
        extra if extra.is_empty() => Ok(()),
        extra => fold.extra(before, extra.into()),
    };
    match text(block, "type") {
        "text" => {
            keep(&["type", "text"])?;
            fold.text(at, text(block, "text"))
        }
        "thinking" => {
            fold.thought(at, text(block, "thinking"))?;
            fold.signature(at, text(block, "signature"))
        }
        "tool_use" => {
            let call = fold.begin_call(at, text(block, "id"), text(block, "name"))?;
            let extra = unknown(block, &["type", "id", "name", "input"]);
            fold.extra_of_call(call, extra)?;
            match field(block, "input").filter(|input| **input != json!({})) {
                Some(input) => fold.arguments(call, input),
                None => Ok(()),
            }
        }
        "" => Err(failure::unknown(block)),
        // Thoughts that only the service reads, and what is not known, go back as they came.
        _ => fold.extra(before, kept(block)),
    }
}

fn take_delta(index: u64, is_numbered: bool, delta: &Value, fold: &mut Fold) -> Result<(), Failure> {
    let at = (index, 1);
    match text(delta, "type") {
        "text_delta" => fold.text(at, text(delta, "text")),
        "thinking_delta" => fold.thought(at, text(delta, "thinking")),
        "signature_delta" => fold.signature(at, text(delta, "signature")),
        "input_json_delta" => match fold.call_at(at).or_else(|| fold.last_call().filter(|_| !is_numbered)) {
            Some(call) => fold.arguments(call, field(delta, "partial_json").unwrap_or(&Value::Null)),
            // Without its call it would be lost.
            None => Err(failure::unknown(delta)),
        },
        "citations_delta" => {
            let Some(citation) = field(delta, "citation") else { return Ok(()) };
            fold.extra_grows(citation)?;
            let extra = fold.extra_at((index, 0))?;
            match extra.get_mut("citations").and_then(Value::as_array_mut) {
                Some(citations) => citations.push(citation.clone()),
                None => extra["citations"] = json!([citation]),
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Reads the counts of a call. The service counts input that was at hand, or was put there, beside the rest.
fn counted(usage: &Value) -> Counted {
    let parts =
        ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"].map(|name| count(usage, name));
    let input = parts
        .iter()
        .any(Option::is_some)
        .then(|| parts.iter().flatten().fold(0, |sum: u64, part| sum.saturating_add(*part)));
    let reasoning = field(usage, "output_tokens_details").and_then(|details| count(details, "thinking_tokens"));
    Counted { input, output: count(usage, "output_tokens"), cached: parts[2], reasoning }
}

#[cfg(test)]
mod tests {
    use super::Family;

    #[test]
    fn what_a_model_takes_goes_by_its_name() {
        for (model, adapts, most) in [
            ("claude-3-5-sonnet-20241022", false, 8_192),
            ("claude-3-opus-20240229", false, 4_096),
            ("claude-opus-4-20250514", false, 32_000),
            ("claude-opus-4-1-20250805", false, 32_000),
            ("claude-opus-4-6", true, 64_000),
            ("claude-sonnet-4-5", false, 64_000),
            ("claude-sonnet-5", true, 64_000),
            ("claude-haiku-4-5-20251001", false, 64_000),
            ("claude-x", false, 64_000),
        ] {
            let family = Family::of(model);
            assert_eq!((family.adapts(), family.most_tokens()), (adapts, most), "{model}");
        }
    }
}
