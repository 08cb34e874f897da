//! OpenAI's chat completions, which most services speak, each a little differently.

use serde_json::{Value, json};

use super::{
    Counted, Fold,
    json::{count, field, first_text, list, text, unknown},
};
use crate::error::Failure;

mod encode;

pub(super) use encode::{encode, tools};

/// Where the parts of a message stand: its extra, its thoughts, its text; its calls come behind them.
const MESSAGE: (u64, u64) = (0, 0);
const THOUGHTS: (u64, u64) = (0, 1);
const TEXT: (u64, u64) = (1, 0);

/// Fields of a message that go back beside its text and its calls: their names say that they are a service's
/// own state.
const STATE: [&str; 8] = [
    "reasoning_details",
    "signature",
    "thought",
    "thinking_blocks",
    "extra",
    "encrypted",
    "cache",
    "provider_specific",
];

/// Those of them that hold thoughts, each of which may come in pieces.
const THOUGHTS_IN_PIECES: [&str; 2] = ["reasoning_details", "thinking_blocks"];

pub(super) fn decode(frame: &Value, fold: &mut Fold) -> Result<(), Failure> {
    if let Some(failure) = super::failure::in_frame(frame) {
        return Err(failure);
    }
    const KNOWN: [&str; 7] = ["choices", "usage", "id", "object", "model", "created", "x_groq"];
    if !KNOWN.iter().any(|name| field(frame, name).is_some()) {
        return Err(super::failure::unknown(frame));
    }
    // Words in place of a reply are an error, whatever stands beside them.
    if field(frame, "choices").is_none()
        && let Some(failure) = super::failure::in_words(frame)
    {
        return Err(failure);
    }
    fold.named(text(frame, "id"), text(frame, "model"))?;
    // One reply was asked for; what else there is belongs to another.
    let choices = list(frame, "choices");
    let first = choices.iter().find(|choice| count(choice, "index").unwrap_or(0) == 0);
    let choice = first.or_else(|| choices.first().filter(|_| choices.len() == 1));
    let messages = ["message", "delta"].map(|name| field(choice?, name));
    for place in [Some(frame), field(frame, "x_groq"), choice, messages[0], messages[1]].into_iter().flatten() {
        if let Some(usage) = field(place, "usage") {
            fold.count(counted(usage));
        }
    }
    let Some(choice) = choice else { return Ok(()) };
    let places = [Some(choice), messages[0], messages[1]].into_iter().flatten();
    if let Some(failure) = places.clone().find_map(super::failure::in_frame) {
        return Err(failure);
    }
    messages.into_iter().flatten().try_for_each(|message| take(message, fold))?;
    // Of a server of the older completions.
    fold.text(TEXT, text(choice, "text"))?;
    fold.ends_since(first_text(choice, &["finish_message", "stop_message"]))?;
    fold.ends(text(choice, "finish_reason"))
}

fn take(message: &Value, fold: &mut Fold) -> Result<(), Failure> {
    let thoughts = ["reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks"];
    let thoughts = thoughts.iter().filter_map(|name| field(message, name)).map(words);
    let thoughts = thoughts.into_iter().find(|words| !words.is_empty()).unwrap_or_default();
    fold.thought(THOUGHTS, &thoughts)?;
    take_state(message, fold)?;
    match field(message, "content") {
        Some(Value::Array(chunks)) => chunks.iter().try_for_each(|chunk| take_chunk(chunk, fold))?,
        Some(chunk) => take_chunk(chunk, fold)?,
        None => {}
    }
    fold.refused(text(message, "refusal"))?;
    match field(message, "tool_calls") {
        Some(Value::Array(pieces)) => pieces.iter().try_for_each(|piece| take_call(piece, fold))?,
        Some(piece @ Value::Object(_)) => take_call(piece, fold)?,
        _ => {}
    }
    match field(message, "function_call") {
        // The form of a call before there could be several.
        Some(call) => take_call(&json!({ "index": 0, "function": call }), fold),
        None => Ok(()),
    }
}

/// The words of thoughts: a text, an object that has it in one of its fields, or a list of these.
fn words(thoughts: &Value) -> String {
    match thoughts {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(words).collect(),
        Value::Object(_) => {
            let fields = ["text", "thinking", "summary", "content", "reasoning"];
            let words = fields.iter().filter_map(|name| field(thoughts, name)).map(words);
            words.into_iter().find(|words| !words.is_empty()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// A chunk of a content that is a list.
fn take_chunk(chunk: &Value, fold: &mut Fold) -> Result<(), Failure> {
    match text(chunk, "type") {
        "thinking" | "reasoning" => fold.thought(THOUGHTS, &words(chunk)),
        "refusal" => fold.refused(text(chunk, "refusal")),
        _ => fold.text(TEXT, chunk.as_str().unwrap_or_else(|| text(chunk, "text"))),
    }
}

/// Takes the fields that a service wants back with the message.
fn take_state(message: &Value, fold: &mut Fold) -> Result<(), Failure> {
    // `thinking` and `reasoning_content` are thoughts in words.
    let known = ["content", "tool_calls", "refusal", "role", "thinking", "thought"];
    let mut state = unknown(message, &known);
    state.retain(|name, _| STATE.iter().any(|word| name.contains(word)));
    if state.is_empty() {
        return Ok(());
    }
    fold.extra_grows(&Value::from(state.clone()))?;
    let kept = fold.extra_at(MESSAGE)?;
    for (name, value) in state {
        add_state(kept, name, value);
    }
    Ok(())
}

/// Adds a field that may come in pieces: texts and lists grow, all else is as it came last.
fn add_state(kept: &mut Value, name: String, value: Value) {
    match (kept.get_mut(&name), value) {
        (so_far, Value::Array(pieces)) if THOUGHTS_IN_PIECES.contains(&name.as_str()) => {
            let mut entries = match so_far.map(Value::take) {
                Some(Value::Array(entries)) => entries,
                _ => Vec::new(),
            };
            add_details(&mut entries, &pieces);
            kept[name] = entries.into();
        }
        (Some(Value::String(so_far)), Value::String(more)) => so_far.push_str(&more),
        (Some(Value::Array(so_far)), Value::Array(more)) => so_far.extend(more),
        (_, value) => kept[name] = value,
    }
}

/// Adds pieces of thoughts to what came before: a piece belongs to the entry of its number and kind, or, without a
/// number, to the last entry if that is of its kind and has no signature yet.
fn add_details(so_far: &mut Vec<Value>, pieces: &[Value]) {
    let before = so_far.len();
    for piece in pieces.iter().filter(|piece| !super::json::too_deep(piece)) {
        let alike = |entry: &Value| {
            text(entry, "type") == text(piece, "type") && field(entry, "index") == field(piece, "index")
        };
        let same = match field(piece, "index") {
            Some(_) => so_far[..before].iter().rposition(alike),
            None => before.checked_sub(1).filter(|&last| {
                last + 1 == so_far.len() && alike(&so_far[last]) && text(&so_far[last], "signature").is_empty()
            }),
        };
        match same {
            Some(at) => add_detail(&mut so_far[at], piece),
            None => so_far.push(piece.clone()),
        }
    }
}

fn add_detail(entry: &mut Value, piece: &Value) {
    let fields = piece.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(_, value)| !value.is_null() && value.as_str() != Some("")) {
        match (entry.get_mut(name), value) {
            (Some(Value::String(so_far)), Value::String(more))
                if matches!(name.as_str(), "text" | "thinking" | "summary" | "data") =>
            {
                so_far.push_str(more);
            }
            _ => entry[name] = value.clone(),
        }
    }
}

fn take_call(piece: &Value, fold: &mut Fold) -> Result<(), Failure> {
    let none = Value::Null;
    let function = field(piece, "function").unwrap_or(&none);
    // Some put the fields of the function beside the call.
    let name = first_text(function, &["name"]);
    let name = if name.is_empty() { text(piece, "name") } else { name };
    let given = field(function, "arguments").or_else(|| field(piece, "arguments"));
    let says = given.is_some_and(|given| given.as_str() != Some(""));
    let call = fold.piece_of_call(count(piece, "index"), text(piece, "id"), name, says)?;
    if let Some(given) = given {
        fold.arguments(call, given)?;
    }
    let mut extra = unknown(piece, &["index", "id", "type", "function", "name", "arguments"]);
    for (name, value) in unknown(function, &["name", "arguments"]) {
        extra.insert("function".to_owned(), with(extra.get("function"), name, value));
    }
    if extra.is_empty() { Ok(()) } else { fold.extra_of_call(call, extra) }
}

fn with(object: Option<&Value>, name: String, value: Value) -> Value {
    let mut object = object.and_then(Value::as_object).cloned().unwrap_or_default();
    object.insert(name, value);
    Value::Object(object)
}

/// Reads the counts of a call, as most services write them.
pub(super) fn counted(usage: &Value) -> Counted {
    let none = Value::Null;
    let of_input = field(usage, "prompt_tokens_details").or_else(|| field(usage, "input_tokens_details"));
    let of_output = field(usage, "completion_tokens_details").or_else(|| field(usage, "output_tokens_details"));
    let either = |names: [&str; 2]| names.iter().find_map(|name| count(usage, name));
    let input = either(["prompt_tokens", "input_tokens"]);
    let mut output = either(["completion_tokens", "output_tokens"]);
    let reasoning = count(of_output.unwrap_or(&none), "reasoning_tokens").or_else(|| count(usage, "reasoning_tokens"));
    // Some count thoughts beside the rest: their sum says so.
    if let (Some(input), Some(made), Some(thoughts), Some(total)) =
        (input, output, reasoning, count(usage, "total_tokens"))
        && thoughts > 0
        && input.saturating_add(made).saturating_add(thoughts) == total
    {
        output = Some(made.saturating_add(thoughts));
    }
    let cached = count(of_input.unwrap_or(&none), "cached_tokens")
        .or_else(|| either(["prompt_cache_hit_tokens", "cached_tokens"]));
    Counted { input, output, cached, reasoning }
}
