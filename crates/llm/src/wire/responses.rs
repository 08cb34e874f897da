//! OpenAI's Responses: items in and out, with what the model thought in a form that only the service reads.

use serde_json::{Value, json};

use super::{
    Asked, Fold, Wire,
    dialect::Dialect,
    failure,
    fold::Mark,
    json::{count, field, kept, list, text, unknown},
    openai::counted,
    turns::{self, Effort, Turn, arguments, image_url, merge, schema_name},
    unsupported,
};
use crate::{
    error::Failure,
    message::{Extra, Part, Role},
    request::{Request, ToolChoice},
    schema::strict,
};

/// Where the first part of an item stands, behind what only the service understands of it.
const FIRST: u64 = 1;

/// Where thoughts in words stand in their item, behind those in short.
const IN_WORDS: u64 = 1 << 32;

pub(super) fn encode(asked: &Asked<'_>, dialect: &Dialect) -> Result<Value, Failure> {
    let Asked { request, model, stream } = *asked;
    let options = &request.options;
    if !options.stop.is_empty() {
        return Err(unsupported("it takes no texts at which to stop"));
    }
    let mut body = json!({
        "model": model, "stream": stream, "store": false, "input": input(request, dialect),
        // The thoughts of the model come back with the next request, since nothing is kept there.
        "include": ["reasoning.encrypted_content"], "reasoning": { "summary": "auto" },
    });
    if let Some(effort) = &options.reasoning {
        body["reasoning"]["effort"] = Effort::of(effort)?.word()?.into();
    }
    if !request.tools.is_empty() {
        let tool = |tool: &crate::ToolSpec| json!({ "type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": false });
        body["tools"] = request.tools.iter().map(tool).collect();
        match &options.tool_choice {
            ToolChoice::Auto => {}
            ToolChoice::None => body["tool_choice"] = "none".into(),
            ToolChoice::Required => body["tool_choice"] = "required".into(),
            ToolChoice::Tool(name) => body["tool_choice"] = json!({ "type": "function", "name": name }),
        }
    }
    if let Some(schema) = &request.schema {
        let name = schema_name(&schema.name);
        let format = json!({ "type": "json_schema", "name": name, "strict": true, "schema": strict(&schema.schema) });
        body["text"] = json!({ "format": format });
    }
    let numbers = [("temperature", options.temperature), ("top_p", options.top_p)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        body[name] = json!(number);
    }
    if let Some(most) = options.max_tokens {
        body["max_output_tokens"] = json!(most);
    }
    Ok(body)
}

fn input(request: &Request, dialect: &Dialect) -> Vec<Value> {
    let (systems, turns) = turns::turns(&request.messages, dialect);
    let mut items = Vec::with_capacity(turns.len() + 1);
    if !systems.is_empty() {
        items.push(json!({ "role": "system", "content": systems.join("\n\n") }));
    }
    for turn in &turns {
        match turn.role {
            Role::System => items.push(json!({ "role": "system", "content": turn.text() })),
            Role::User => items.push(json!({ "role": "user", "content": of_user(turn) })),
            Role::Assistant => of_assistant(turn, dialect, &mut items),
            Role::Tool => items.extend(turn.parts.iter().filter_map(|part| {
                let Part::ToolResult(result) = part else { return None };
                let id = dialect.call_id(&result.id);
                Some(json!({ "type": "function_call_output", "call_id": id, "output": result.text }))
            })),
        }
    }
    items
}

fn of_user(turn: &Turn<'_>) -> Value {
    if let Some(text) = turn.only_text() {
        return text.into();
    }
    let part = |part: &&Part| match part {
        Part::Text(text) => Some(json!({ "type": "input_text", "text": text })),
        Part::Image(image) => Some(json!({ "type": "input_image", "detail": "auto", "image_url": image_url(image) })),
        _ => None,
    };
    turn.parts.iter().filter_map(part).collect()
}

/// Puts a message of the model into items. What it thought stands before what followed from it, and is refused alone.
fn of_assistant(turn: &Turn<'_>, dialect: &Dialect, items: &mut Vec<Value>) {
    let (mut before, mut fields) = (Vec::new(), Value::Null);
    for part in &turn.parts {
        match part {
            Part::Extra(Extra { wire, json }) if wire == Wire::Responses.name() => match text(json, "type") {
                "" => fields = json.clone(),
                _ => before.push(json.clone()),
            },
            // The version before this one kept thoughts so.
            Part::Reasoning { text, signature: Some(secret) } if text.is_empty() && !secret.starts_with('{') => {
                before.push(json!({ "type": "reasoning", "encrypted_content": secret, "summary": [] }));
            }
            Part::Text(text) => {
                items.append(&mut before);
                let content = json!([{ "type": "output_text", "text": text }]);
                let mut item = json!({ "type": "message", "role": "assistant", "content": content });
                merge(&mut item, &std::mem::take(&mut fields));
                items.push(item);
            }
            Part::ToolCall(call) => {
                items.append(&mut before);
                let (id, arguments) = (dialect.call_id(&call.id), arguments(&call.arguments).to_string());
                let mut item =
                    json!({ "type": "function_call", "call_id": id, "name": call.name, "arguments": arguments });
                if let Some(extra) = call.extra.as_ref().filter(|extra| extra.wire == Wire::Responses.name()) {
                    merge(&mut item, &extra.json);
                }
                items.push(item);
            }
            _ => {}
        }
    }
}

pub(super) fn decode(frame: &Value, fold: &mut Fold) -> Result<(), Failure> {
    let none = Value::Null;
    let kind = text(frame, "type");
    if frame.get("output").is_some_and(Value::is_array) {
        return take_response(frame, fold);
    }
    if let Some(failure) = failure::in_frame(frame) {
        return Err(failure);
    }
    if let Some(usage) = field(frame, "usage") {
        fold.count(counted(usage));
    }
    // A number from outside is not trusted in its size.
    let number = |name| count(frame, name).unwrap_or(0).min(IN_WORDS - FIRST);
    let item = number("output_index");
    let delta = text(frame, "delta");
    match kind {
        "response.created" | "response.in_progress" | "response.queued" => {
            let response = field(frame, "response").unwrap_or(&none);
            if let Some(usage) = field(response, "usage") {
                fold.count(counted(usage));
            }
            fold.named(text(response, "id"), text(response, "model"))
        }
        "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
            let response = field(frame, "response").unwrap_or(&none);
            take_response(response, fold)?;
            if field(response, "status").is_none() {
                fold.ends(kind.trim_start_matches("response."))?;
            }
            fold.over();
            Ok(())
        }
        "response.output_item.added" => match field(frame, "item") {
            Some(call) if text(call, "type") == "function_call" => {
                fold.begin_call((item, FIRST), text(call, "call_id"), text(call, "name")).map(drop)
            }
            _ => Ok(()),
        },
        "response.output_item.done" => take_item(item, field(frame, "item").unwrap_or(&none), Mark::NOTHING, fold),
        "response.output_text.delta" => fold.text((item, FIRST + number("content_index")), delta),
        "response.refusal.delta" => fold.refused(delta),
        "response.reasoning_summary_text.delta" => fold.thought((item, FIRST + number("summary_index")), delta),
        "response.reasoning_text.delta" => fold.thought((item, IN_WORDS + number("content_index")), delta),
        "response.function_call_arguments.delta" => match fold.call_at((item, FIRST)) {
            Some(call) => fold.arguments(call, &delta.into()),
            None => Ok(()),
        },
        // There are more events than are of use, and new ones are to be passed over.
        _ if kind.is_empty() => Err(failure::unknown(frame)),
        _ => Ok(()),
    }
}

/// Takes a response, as far as it has not come in pieces.
fn take_response(response: &Value, fold: &mut Fold) -> Result<(), Failure> {
    fold.named(text(response, "id"), text(response, "model"))?;
    if let Some(usage) = field(response, "usage") {
        fold.count(counted(usage));
    }
    let failed = text(response, "status") == "failed";
    if let Some(error) = failure::in_frame(response) {
        return Err(match error {
            Failure::Unavailable { said, .. } if failed => Failure::Broken { shown: false, said },
            error => error,
        });
    }
    let so_far = fold.mark();
    for (index, item) in list(response, "output").iter().enumerate() {
        take_item(index as u64, item, so_far, fold)?;
    }
    match field(response, "incomplete_details").map(|details| text(details, "reason")) {
        Some(reason) if !reason.is_empty() => fold.ends(reason),
        _ => fold.ends(text(response, "status")),
    }
}

/// Takes an item, as far as it has not come in pieces: at its place, or at another if it came before `so_far`, since
/// some services number items otherwise in the end than in the pieces.
fn take_item(index: u64, item: &Value, so_far: Mark, fold: &mut Fold) -> Result<(), Failure> {
    match text(item, "type") {
        "message" => take_message(index, item, so_far, fold),
        "reasoning" => take_thoughts(index, item, fold),
        "function_call" => {
            let call = match fold.call_of((index, FIRST), text(item, "call_id"), so_far) {
                Some(call) => call,
                None => fold.begin_call((index, FIRST), text(item, "call_id"), text(item, "name"))?,
            };
            let extra = unknown(item, &["type", "id", "call_id", "name", "arguments", "status"]);
            fold.extra_of_call(call, extra)?;
            match field(item, "arguments").filter(|_| !fold.has_arguments(call)) {
                Some(arguments) => fold.arguments(call, arguments),
                None => Ok(()),
            }
        }
        // An unknown item goes back as it came.
        "" => Ok(()),
        _ => once(index, kept(item), fold),
    }
}

fn take_message(index: u64, item: &Value, so_far: Mark, fold: &mut Fold) -> Result<(), Failure> {
    let extra = unknown(item, &["type", "id", "role", "content", "status"]);
    if !extra.is_empty() {
        once(index, extra.into(), fold)?;
    }
    for (part, content) in list(item, "content").iter().enumerate() {
        let at = (index, FIRST + part as u64);
        match text(content, "type") {
            "refusal" => fold.refused_once(text(content, "refusal"))?,
            _ if fold.has_text(at) || fold.has_said(text(content, "text"), so_far) => {}
            _ => fold.text(at, text(content, "text"))?,
        }
    }
    Ok(())
}

fn take_thoughts(index: u64, item: &Value, fold: &mut Fold) -> Result<(), Failure> {
    for (names, behind) in [("summary", FIRST), ("content", IN_WORDS)] {
        for (part, thought) in list(item, names).iter().enumerate() {
            let at = (index, behind + part as u64);
            if !fold.has_thought(at) {
                fold.thought(at, text(thought, "text"))?;
            }
        }
    }
    // Without its secret the service does not know it any more.
    if text(item, "encrypted_content").is_empty() {
        return Ok(());
    }
    let mut kept = item.clone();
    if let Some(fields) = kept.as_object_mut() {
        fields.retain(|name, value| !value.is_null() && name != "status");
        fields.entry("summary").or_insert_with(|| json!([]));
    }
    once(index, kept, fold)
}

/// Adds an extra of an item, unless it is there.
fn once(index: u64, json: Value, fold: &mut Fold) -> Result<(), Failure> {
    if fold.has_extra((index, 0)) { Ok(()) } else { fold.extra((index, 0), json) }
}
