//! From a request to the body that is sent.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::{
    Asked, Wire, bytes,
    dialect::{Dialect, Schemas, Thoughts},
    json::text,
    turns::{self, Effort, Turn, arguments, image_url, merge, schema_name},
};
use crate::{
    error::Failure,
    message::{Extra, Part, Role, ToolCall},
    request::{Options, Request, ToolChoice, ToolSpec},
    schema::strict,
};

/// The body of a request. Texts and tools are written as they are in the request, without a copy of them.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    stream: bool,
    messages: Vec<Sent<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    /// All other fields.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A message as it is sent.
#[derive(Serialize)]
#[serde(untagged)]
enum Sent<'a> {
    Text { role: &'static str, content: Cow<'a, str> },
    Json(Value),
}

/// A tool as it is offered.
#[derive(Serialize)]
pub(in crate::wire) struct Tool<'a> {
    r#type: &'static str,
    function: &'a ToolSpec,
}

pub(in crate::wire) fn encode(asked: &Asked<'_>, dialect: &Dialect) -> Result<Vec<u8>, Failure> {
    let Asked { request, model, stream } = *asked;
    let mut rest = Map::new();
    if stream {
        rest.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    how(&mut rest, &request.options, dialect)?;
    // A choice among no tools is refused by some services.
    if !request.tools.is_empty()
        && let Some(choice) = choice(&request.options.tool_choice)
    {
        rest.insert("tool_choice".to_owned(), choice);
    }
    if let Some(format) = format(request, dialect) {
        rest.insert("response_format".to_owned(), format);
    }
    bytes(&Body { model, stream, messages: messages(request, dialect), tools: tools(request), rest })
}

/// Says how the model is to reply.
fn how(body: &mut Map<String, Value>, options: &Options, dialect: &Dialect) -> Result<(), Failure> {
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    let numbers = [("temperature", options.temperature), ("top_p", options.top_p)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        set(name, json!(number));
    }
    if let Some(most) = options.max_tokens {
        set(dialect.max_tokens, json!(most));
    }
    if !options.stop.is_empty() {
        set("stop", json!(options.stop));
    }
    if let (Some(name), Some(seed)) = (dialect.seed, options.seed) {
        set(name, json!(seed));
    }
    if let Some(effort) = &options.reasoning {
        let effort = Effort::of(effort)?;
        if dialect.thinking_switch {
            set("thinking", json!({ "type": if effort == Effort::None { "disabled" } else { "enabled" } }));
        }
        if !(dialect.thinking_switch && effort == Effort::None) {
            set("reasoning_effort", effort.word()?.into());
        }
    }
    Ok(())
}

pub(in crate::wire) fn tools(request: &Request) -> Vec<Tool<'_>> {
    request.tools.iter().map(|function| Tool { r#type: "function", function }).collect()
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

fn messages<'a>(request: &'a Request, dialect: &Dialect) -> Vec<Sent<'a>> {
    let (systems, turns) = turns::turns(&request.messages, dialect);
    let mut messages = Vec::with_capacity(turns.len() + 1);
    if !systems.is_empty() {
        messages.push(Sent::Text { role: "system", content: systems.join("\n\n").into() });
    }
    for turn in &turns {
        match turn.role {
            Role::System => messages.push(Sent::Text { role: "system", content: turn.text().into() }),
            Role::User => messages.push(of_user(turn)),
            Role::Assistant => messages.push(Sent::Json(of_assistant(turn, dialect))),
            Role::Tool => messages.extend(turn.parts.iter().filter_map(|part| {
                let Part::ToolResult(result) = part else { return None };
                let id = dialect.call_id(&result.id);
                Some(Sent::Json(json!({ "role": "tool", "content": result.text, "tool_call_id": id })))
            })),
        }
    }
    messages
}

fn of_user<'a>(turn: &Turn<'a>) -> Sent<'a> {
    if let Some(content) = turn.only_text() {
        return Sent::Text { role: "user", content };
    }
    let part = |part: &&Part| match part {
        Part::Text(text) => Some(json!({ "type": "text", "text": text })),
        Part::Image(image) => Some(json!({ "type": "image_url", "image_url": { "url": image_url(image) } })),
        _ => None,
    };
    let content: Value = turn.parts.iter().filter_map(part).collect();
    Sent::Json(json!({ "role": "user", "content": content }))
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
