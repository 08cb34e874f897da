//! Ollama's own chat: a line of JSON for each piece, the last of which says that it is done.

use serde_json::{Value, json};

use super::{
    Asked, Counted, Fold,
    dialect::Dialect,
    failure,
    json::{count, field, first_text, list, text},
    openai::tools,
    turns::{self, Effort, Turn, arguments},
};
use crate::{
    error::Failure,
    message::{Image, Part, Role},
    request::Request,
};

pub(super) fn encode(asked: &Asked<'_>, dialect: &Dialect) -> Result<Value, Failure> {
    let Asked { request, model, stream } = *asked;
    let given = &request.options;
    let mut body = json!({ "model": model, "stream": stream, "messages": messages(request, dialect) });
    if !request.tools.is_empty() {
        body["tools"] = json!(tools(request));
    }
    let mut options = json!({});
    let numbers = [("temperature", given.temperature), ("top_p", given.top_p)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        options[name] = json!(number);
    }
    if let Some(most) = given.max_tokens {
        options["num_predict"] = json!(most);
    }
    if let Some(seed) = given.seed {
        options["seed"] = json!(seed);
    }
    if !given.stop.is_empty() {
        options["stop"] = json!(given.stop);
    }
    if options != json!({}) {
        body["options"] = options;
    }
    if let Some(effort) = &given.reasoning {
        let effort = Effort::of(effort)?;
        let word = effort.word()?;
        // One family is told how much; the others, whether.
        body["think"] = match effort {
            Effort::None => false.into(),
            _ if model.contains("gpt-oss") => word.into(),
            _ => true.into(),
        };
    }
    Ok(body)
}

fn messages(request: &Request, dialect: &Dialect) -> Vec<Value> {
    let (systems, turns) = turns::turns(&request.messages, dialect);
    let mut messages = Vec::with_capacity(turns.len() + 1);
    if !systems.is_empty() {
        messages.push(json!({ "role": "system", "content": systems.join("\n\n") }));
    }
    for turn in &turns {
        match turn.role {
            Role::Tool => messages.extend(turn.parts.iter().filter_map(|part| {
                let Part::ToolResult(result) = part else { return None };
                Some(json!({ "role": "tool", "content": result.text, "tool_name": result.name }))
            })),
            Role::Assistant => messages.push(of_assistant(turn)),
            Role::System => messages.push(json!({ "role": "system", "content": turn.text() })),
            Role::User => messages.push(of_user(turn)),
        }
    }
    messages
}

fn of_user(turn: &Turn<'_>) -> Value {
    let mut message = json!({ "role": "user", "content": turn.text() });
    let image = |part: &&Part| match part {
        Part::Image(Image::Data { base64, .. }) => Some(Value::from(base64.as_str())),
        _ => None,
    };
    let images: Vec<Value> = turn.parts.iter().filter_map(image).collect();
    if !images.is_empty() {
        message["images"] = images.into();
    }
    message
}

fn of_assistant(turn: &Turn<'_>) -> Value {
    let mut message = json!({ "role": "assistant", "content": turn.text() });
    let call = |part: &&Part| match part {
        Part::ToolCall(call) => {
            Some(json!({ "function": { "name": call.name, "arguments": arguments(&call.arguments) } }))
        }
        _ => None,
    };
    let calls: Vec<Value> = turn.parts.iter().filter_map(call).collect();
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

pub(super) fn decode(frame: &Value, fold: &mut Fold) -> Result<(), Failure> {
    if let Some(failure) = failure::in_frame(frame) {
        return Err(failure);
    }
    if field(frame, "message").is_none() && field(frame, "done").is_none() {
        return Err(failure::unknown(frame));
    }
    fold.named("", text(frame, "model"))?;
    fold.count(Counted {
        input: count(frame, "prompt_eval_count"),
        output: count(frame, "eval_count"),
        cached: count(frame, "prompt_eval_cached_count"),
        reasoning: None,
    });
    if let Some(message) = field(frame, "message") {
        fold.thought((0, 0), first_text(message, &["thinking", "reasoning_content", "reasoning"]))?;
        fold.text((1, 0), text(message, "content"))?;
        for piece in list(message, "tool_calls") {
            let function = field(piece, "function").unwrap_or(piece);
            let call = fold.begin_call(fold.next().max((2, 0)), text(piece, "id"), text(function, "name"))?;
            if let Some(arguments) = field(function, "arguments") {
                fold.arguments(call, arguments)?;
            }
        }
    }
    if field(frame, "done") == Some(&Value::Bool(true)) {
        let reason = text(frame, "done_reason");
        fold.ends(if reason.is_empty() { "stop" } else { reason })?;
        fold.over();
    }
    Ok(())
}
