//! OpenAI's chat completions, which most services speak, each a little differently.

use serde_json::{Value, json};

use super::{
    Asked, Counted, Fold, Wire,
    dialect::{Dialect, Schemas, Thoughts},
    json::{count, field, first_text, list, text, unknown},
    turns::{self, Effort, Turn, arguments, image_url, merge, schema_name},
};
use crate::{
    error::Failure,
    message::{Extra, Part, Role, ToolCall},
    request::{Options, Request, ToolChoice},
    schema::strict,
};

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

pub(super) fn encode(asked: &Asked<'_>, dialect: &Dialect) -> Result<Value, Failure> {
    let Asked { request, model, stream } = *asked;
    let mut body = json!({ "model": model, "stream": stream, "messages": messages(request, dialect) });
    if stream {
        body["stream_options"] = json!({ "include_usage": true });
    }
    how(&mut body, &request.options, dialect)?;
    // A choice among no tools is refused by some services.
    if !request.tools.is_empty() {
        body["tools"] = tools(request);
        if let Some(choice) = choice(&request.options.tool_choice) {
            body["tool_choice"] = choice;
        }
    }
    if let Some(format) = format(request, dialect) {
        body["response_format"] = format;
    }
    Ok(body)
}

/// Says how the model is to reply.
fn how(body: &mut Value, options: &Options, dialect: &Dialect) -> Result<(), Failure> {
    let numbers = [("temperature", options.temperature), ("top_p", options.top_p)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        body[name] = json!(number);
    }
    if let Some(most) = options.max_tokens {
        body[dialect.max_tokens] = json!(most);
    }
    if !options.stop.is_empty() {
        body["stop"] = json!(options.stop);
    }
    if let (Some(name), Some(seed)) = (dialect.seed, options.seed) {
        body[name] = json!(seed);
    }
    if let Some(effort) = &options.reasoning {
        let effort = Effort::of(effort)?;
        if dialect.thinking_switch {
            body["thinking"] = json!({ "type": if effort == Effort::None { "disabled" } else { "enabled" } });
        }
        if !(dialect.thinking_switch && effort == Effort::None) {
            body["reasoning_effort"] = effort.word()?.into();
        }
    }
    Ok(())
}

pub(super) fn tools(request: &Request) -> Value {
    let tool = |tool: &crate::ToolSpec| json!({ "type": "function", "function": { "name": tool.name, "description": tool.description, "parameters": tool.parameters } });
    request.tools.iter().map(tool).collect()
}

fn choice(choice: &ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some("none".into()),
        ToolChoice::Required => Some("required".into()),
        ToolChoice::Tool(name) => Some(json!({ "type": "function", "function": { "name": name } })),
    }
}

fn format(request: &Request, dialect: &Dialect) -> Option<Value> {
    let wanted = request.schema.as_ref()?;
    let (is_strict, schema) = match dialect.schemas {
        Schemas::AnyObject => return Some(json!({ "type": "json_object" })),
        Schemas::Strict => (true, strict(&wanted.schema)),
        Schemas::Plain => (false, wanted.schema.clone()),
    };
    let name = schema_name(&wanted.name);
    Some(json!({ "type": "json_schema", "json_schema": { "name": name, "strict": is_strict, "schema": schema } }))
}

fn messages(request: &Request, dialect: &Dialect) -> Vec<Value> {
    let (systems, turns) = turns::turns(&request.messages, dialect);
    let mut messages = Vec::with_capacity(turns.len() + 1);
    if !systems.is_empty() {
        messages.push(json!({ "role": "system", "content": systems.join("\n\n") }));
    }
    for turn in &turns {
        match turn.role {
            Role::System => messages.push(json!({ "role": "system", "content": turn.text() })),
            Role::User => messages.push(json!({ "role": "user", "content": of_user(turn) })),
            Role::Assistant => messages.push(of_assistant(turn, dialect)),
            Role::Tool => messages.extend(turn.parts.iter().filter_map(|part| {
                let Part::ToolResult(result) = part else { return None };
                let id = dialect.call_id(&result.id);
                Some(json!({ "role": "tool", "content": result.text, "tool_call_id": id }))
            })),
        }
    }
    messages
}

fn of_user(turn: &Turn<'_>) -> Value {
    if let Some(text) = turn.only_text() {
        return text.into();
    }
    let part = |part: &&Part| match part {
        Part::Text(text) => Some(json!({ "type": "text", "text": text })),
        Part::Image(image) => Some(json!({ "type": "image_url", "image_url": { "url": image_url(image) } })),
        _ => None,
    };
    turn.parts.iter().filter_map(part).collect()
}

fn of_assistant(turn: &Turn<'_>, dialect: &Dialect) -> Value {
    let said = turn.text();
    let mut message = json!({ "role": "assistant", "content": said });
    let (mut calls, mut thoughts, mut details) = (Vec::new(), Vec::new(), Vec::new());
    for part in &turn.parts {
        match part {
            Part::ToolCall(call) => calls.push(of_call(call, dialect)),
            Part::Reasoning { text, signature: None } => thoughts.push(text.as_str()),
            // The version before this one kept a block so that only its service understands.
            Part::Reasoning { signature: Some(block), .. } if block.starts_with("{\"") => {
                details.extend(serde_json::from_str::<Value>(block).ok().filter(is_detail));
            }
            Part::Extra(Extra { wire, json }) if wire == Wire::OpenAi.name() => merge(&mut message, json),
            _ => {}
        }
    }
    if !details.is_empty() {
        merge(&mut message, &json!({ "reasoning_details": details }));
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
        if said.is_empty() {
            message["content"] = Value::Null;
        }
    }
    if !thoughts.is_empty() {
        let thoughts = thoughts.join("\n");
        match dialect.thoughts {
            Thoughts::Dropped => {}
            Thoughts::Field(name) => message[name] = thoughts.into(),
            Thoughts::Chunk => {
                let mut chunks =
                    vec![json!({ "type": "thinking", "thinking": [{ "type": "text", "text": thoughts }] })];
                if !said.is_empty() {
                    chunks.push(json!({ "type": "text", "text": said }));
                }
                message["content"] = chunks.into();
            }
        }
    }
    message
}

fn is_detail(block: &Value) -> bool {
    text(block, "type").starts_with("reasoning.")
}

fn of_call(call: &ToolCall, dialect: &Dialect) -> Value {
    let function = json!({ "name": call.name, "arguments": arguments(&call.arguments).to_string() });
    let mut json = json!({ "type": "function", "id": dialect.call_id(&call.id), "function": function });
    if let Some(extra) = call.extra.as_ref().filter(|extra| extra.wire == Wire::OpenAi.name()) {
        merge(&mut json, &extra.json);
    }
    json
}

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
