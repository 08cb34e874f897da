//! What came, in our words.

use genai::{
    chat::{ChatResponse, ContentPart, StopReason, Usage},
    embed::EmbedResponse,
};
use serde_json::{Value, json};

use super::{
    failure::{Faults, of_body},
    speaks_openai,
};
use crate::{
    error::Failure,
    message::{Message, Part, Role, ToolCall},
    model::Embeddings,
    request::{Finish, Reply, Tokens},
};

/// Makes the reply of a response that came in whole.
pub(super) fn of(response: ChatResponse, faults: &Faults<'_>) -> Result<Reply, Failure> {
    let raw = response.captured_raw_body;
    let parts = parts(response.content.into_parts(), response.reasoning_content);
    let mut reply = finished(parts, response.stop_reason, &response.usage, faults).map_err(|failure| {
        // An error under the status 200, or the reason why nothing was said.
        raw.as_ref().and_then(|body| of_body(body, faults)).unwrap_or(failure)
    })?;
    let text = |key| raw.as_ref().and_then(|body| body.get(key)).and_then(Value::as_str).map(str::to_owned);
    reply.id = response.response_id.or_else(|| text("id")).or_else(|| text("responseId"));
    reply.model = Some(response.provider_model_iden.model_name.to_string());
    Ok(without_key(reply, faults))
}

/// Takes the key out of what names a reply, which gets into spans, whether or not they show what is said.
pub(super) fn without_key(mut reply: Reply, faults: &Faults<'_>) -> Reply {
    for name in [&mut reply.id, &mut reply.model].into_iter().flatten() {
        *name = faults.said(name);
    }
    reply
}

/// Makes a reply of its parts, if it says anything.
pub(super) fn finished(
    parts: Vec<Part>,
    stop: Option<StopReason>,
    usage: &Usage,
    faults: &Faults<'_>,
) -> Result<Reply, Failure> {
    let says = |part: &Part| matches!(part, Part::Text(_) | Part::ToolCall(_));
    let calls = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    let finish = match stop {
        Some(StopReason::ContentFilter(_)) => return Err(Failure::Filtered),
        Some(StopReason::MaxTokens(_)) => Finish::Length,
        Some(StopReason::Other(_)) | None if calls => Finish::ToolCalls,
        Some(StopReason::Other(reason)) => Finish::Other(faults.said(&reason)),
        // Some say `stop` when they wait for tools.
        Some(StopReason::Completed(_) | StopReason::StopSequence(_) | StopReason::ToolCall(_)) | None => {
            if calls {
                Finish::ToolCalls
            } else {
                Finish::Stop
            }
        }
    };
    if !parts.iter().any(says) && finish != Finish::Length {
        let reason = if let Finish::Other(reason) = &finish { format!(" (`{reason}`)") } else { String::new() };
        return Err(Failure::Malformed { said: format!("neither text nor a call of a tool{reason}") });
    }
    let mut reply = Reply::new(Message { role: Role::Assistant, parts }, finish);
    reply.tokens = tokens(usage);
    Ok(reply)
}

/// Puts the parts of a message in our words, thoughts before what they led to.
pub(super) fn parts(content: Vec<ContentPart>, reasoning: Option<String>) -> Vec<Part> {
    let mut parts = Vec::with_capacity(content.len() + 1);
    let told = content.iter().any(|part| matches!(part, ContentPart::ReasoningContent(_)));
    if let Some(text) = reasoning.filter(|text| !told && !text.is_empty()) {
        parts.push(Part::Reasoning { text, signature: None });
    }
    let mut content = content.into_iter().peekable();
    while let Some(part) = content.next() {
        match part {
            ContentPart::Text(text) if text.is_empty() => {}
            ContentPart::Text(text) => parts.push(Part::Text(text)),
            ContentPart::ToolCall(call) => parts.push(Part::ToolCall(tool_call(call))),
            ContentPart::ThoughtSignature(signature) => {
                let text = content.next_if(|next| matches!(next, ContentPart::ReasoningContent(_)));
                let text = text.and_then(ContentPart::into_reasoning_content).unwrap_or_default();
                parts.push(Part::Reasoning { text, signature: Some(signature) });
            }
            ContentPart::ReasoningContent(text) => parts.push(Part::Reasoning { text, signature: None }),
            // A block that only the provider can read, and wants back as it is: `request` knows it by its brace.
            ContentPart::Custom(custom) => {
                parts.push(Part::Reasoning { text: String::new(), signature: Some(custom.data.to_string()) });
            }
            // Images that a model makes have no place in a conversation.
            ContentPart::Binary(_) | ContentPart::ToolResponse(_) => {}
        }
    }
    parts
}

fn tool_call(call: genai::chat::ToolCall) -> ToolCall {
    let arguments = match call.fn_arguments {
        // A call of a tool without parameters comes with nothing at all from some.
        Value::Null => json!({}),
        Value::String(text) if text.trim().is_empty() => json!({}),
        arguments => arguments,
    };
    ToolCall {
        id: call.call_id,
        name: call.fn_name,
        arguments,
        signatures: call.thought_signatures.unwrap_or_default(),
    }
}

/// Makes the reply that genai gives up for the sake of one call whose arguments are no JSON: the model is told of that,
/// so the text stays as it is.
pub(super) fn recovered(error: &genai::Error, faults: &Faults<'_>) -> Option<Reply> {
    let genai::Error::ChatResponseGeneration { response_body, .. } = error else { return None };
    if !speaks_openai(faults.kind) {
        return None;
    }
    let choice = response_body.pointer("/choices/0")?;
    let text = choice.pointer("/message/content").and_then(Value::as_str).unwrap_or_default().to_owned();
    let calls = choice.pointer("/message/tool_calls").and_then(Value::as_array)?;
    let mut content = vec![ContentPart::Text(text)];
    for call in calls {
        let function = call.get("function")?;
        let fn_arguments = match function.get("arguments") {
            Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            Some(arguments) => arguments.clone(),
            None => Value::Null,
        };
        content.push(ContentPart::ToolCall(genai::chat::ToolCall {
            call_id: call.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
            fn_name: function.get("name")?.as_str()?.to_owned(),
            fn_arguments,
            thought_signatures: None,
        }));
    }
    let stop = choice.get("finish_reason").and_then(Value::as_str).map(|reason| StopReason::from(reason.to_owned()));
    let usage = response_body.get("usage").and_then(|usage| serde_json::from_value(usage.clone()).ok());
    let mut reply = finished(parts(content, None), stop, &usage.unwrap_or_default(), faults).ok()?;
    reply.id = response_body.get("id").and_then(Value::as_str).map(str::to_owned);
    Some(without_key(reply, faults))
}

pub(super) fn tokens(usage: &Usage) -> Option<Tokens> {
    let count = |tokens: Option<i32>| tokens.and_then(|tokens| u64::try_from(tokens).ok());
    let (input, output) = (count(usage.prompt_tokens), count(usage.completion_tokens));
    if input.is_none() && output.is_none() {
        return None;
    }
    Some(Tokens {
        input: input.unwrap_or(0),
        output: output.unwrap_or(0),
        cached_input: count(usage.prompt_tokens_details.as_ref().and_then(|of| of.cached_tokens)).unwrap_or(0),
        reasoning: count(usage.completion_tokens_details.as_ref().and_then(|of| of.reasoning_tokens)).unwrap_or(0),
    })
}

/// Makes the vectors of so many texts, in the order of the texts.
pub(super) fn vectors(response: EmbedResponse, texts: usize) -> Result<Embeddings, Failure> {
    let tokens = tokens(&response.usage);
    let mut embeddings = response.embeddings;
    embeddings.sort_by_key(|one| one.index);
    let whole = embeddings.len() == texts && embeddings.iter().all(|one| !one.vector.is_empty());
    if !whole {
        return Err(Failure::Malformed { said: format!("{} vectors for {texts} texts", embeddings.len()) });
    }
    Ok(Embeddings::new(embeddings.into_iter().map(|one| one.vector).collect(), tokens))
}
