//! What is asked, in the words of genai.

use genai::{
    adapter::AdapterKind,
    chat::{
        ChatMessage, ChatOptions, ChatRequest, ChatResponseFormat, ChatRole, ContentPart, CustomPart, JsonSpec,
        MessageContent, ReasoningEffort, Tool, ToolCall, ToolChoice as GenaiChoice, ToolResponse,
    },
};
use serde_json::{Value, json};

use super::speaks_openai;
use crate::{
    error::Failure,
    message::{Image, Message, Part, Role},
    request::{Options, Request, ToolChoice, ToolSpec},
};

/// The messages and the tools of a request.
pub(super) fn chat(request: &Request, kind: AdapterKind) -> Result<ChatRequest, Failure> {
    if request.messages.is_empty() {
        return Err(unsupported("a request without messages"));
    }
    let asked = ChatRequest::from_messages(request.messages.iter().map(|one| message(one, kind)).collect());
    Ok(if request.tools.is_empty() { asked } else { asked.with_tools(request.tools.iter().map(tool)) })
}

/// How to reply.
pub(super) fn options(request: &Request, kind: AdapterKind, model: &str) -> Result<ChatOptions, Failure> {
    let Options { temperature, top_p, max_tokens, stop, seed, reasoning, tool_choice, timeout: _ } = &request.options;
    let reasoning_effort = reasoning.as_deref().map(|text| effort(text, kind)).transpose()?;
    let response_format = request
        .schema
        .as_ref()
        .map(|schema| ChatResponseFormat::JsonSpec(JsonSpec::new(schema_name(&schema.name), schema.schema.clone())));
    Ok(ChatOptions {
        temperature: *temperature,
        top_p: *top_p,
        max_tokens: *max_tokens,
        stop_sequences: stop.clone(),
        seed: *seed,
        extra_body: if reasoning_effort.is_none() { literal_name(model, kind) } else { None },
        reasoning_effort,
        response_format,
        // A choice among no tools is refused by some providers.
        tool_choice: if request.tools.is_empty() { None } else { choice(tool_choice) },
        // Off unless they are asked for; they are what a reply is made of.
        capture_usage: Some(true),
        capture_content: Some(true),
        capture_reasoning_content: Some(true),
        capture_tool_calls: Some(true),
        // What genai makes nothing of is looked at: calls with broken arguments, errors under the status 200.
        capture_raw_body: Some(true),
        ..ChatOptions::default()
    })
}

fn message(message: &Message, kind: AdapterKind) -> ChatMessage {
    let role = match message.role {
        Role::System => ChatRole::System,
        Role::User => ChatRole::User,
        Role::Assistant => ChatRole::Assistant,
        Role::Tool => ChatRole::Tool,
    };
    let mut parts = Vec::with_capacity(message.parts.len());
    for one in &message.parts {
        part(one, kind, &mut parts);
    }
    ChatMessage::new(role, MessageContent::from_parts(parts))
}

fn part(part: &Part, kind: AdapterKind, parts: &mut Vec<ContentPart>) {
    match part {
        Part::Text(text) => parts.push(ContentPart::from_text(text)),
        Part::Image(Image::Data { media_type, base64 }) => {
            parts.push(ContentPart::from_binary_base64(media_type, base64.as_str(), None));
        }
        Part::Image(Image::Url(url)) => parts.push(ContentPart::from_binary_url(media_type(url), url, None)),
        Part::ToolCall(call) => parts.push(ContentPart::ToolCall(ToolCall {
            call_id: call.id.clone(),
            fn_name: call.name.clone(),
            fn_arguments: arguments(&call.arguments),
            thought_signatures: (!call.signatures.is_empty()).then(|| call.signatures.clone()),
        })),
        Part::ToolResult(result) => {
            let response = ToolResponse::new(&result.id, &result.text).with_fn_name(&result.name);
            parts.push(ContentPart::ToolResponse(response));
        }
        Part::Reasoning { text, signature } => reasoning(text, signature.as_deref(), kind, parts),
    }
}

/// The arguments of a call as providers take them back: an object, also where the model gave none.
fn arguments(given: &Value) -> Value {
    match given {
        Value::Object(_) => given.clone(),
        Value::Null => json!({}),
        other => json!({ "arguments": other }),
    }
}

/// Gives thoughts back to the provider as it wants them: with what proves them, or if it is one that asks for them.
fn reasoning(text: &str, signature: Option<&str>, kind: AdapterKind, parts: &mut Vec<ContentPart>) {
    use AdapterKind::{Anthropic, Gemini, Groq, OpenAI, OpenAIResp, Xai};
    match signature {
        // A block that only the provider can read, as `reply` keeps it.
        Some(block) if block.starts_with('{') => {
            if let Ok(data) = serde_json::from_str(block) {
                parts.push(ContentPart::Custom(CustomPart { model_iden: None, data }));
            }
        }
        Some(signature) => {
            parts.push(ContentPart::ThoughtSignature(signature.to_owned()));
            // Anthropic's client pairs them one by one, also if a thought is empty.
            if !text.is_empty() || kind == Anthropic {
                parts.push(ContentPart::ReasoningContent(text.to_owned()));
            }
        }
        None if matches!(kind, OpenAI | OpenAIResp | Groq | Xai | Anthropic | Gemini) => {}
        None => parts.push(ContentPart::ReasoningContent(text.to_owned())),
    }
}

/// Guesses what kind of image is behind a URL; providers look for themselves, but want to be told.
fn media_type(url: &str) -> &'static str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    match path.rsplit('.').next().map(str::to_ascii_lowercase).as_deref() {
        Some("png") => "image/png",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        _ => "image/jpeg",
    }
}

fn tool(spec: &ToolSpec) -> Tool {
    Tool::new(spec.name.as_str()).with_description(&spec.description).with_schema(spec.parameters.clone())
}

fn choice(choice: &ToolChoice) -> Option<GenaiChoice> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(GenaiChoice::None),
        ToolChoice::Required => Some(GenaiChoice::Required),
        ToolChoice::Tool(name) => Some(GenaiChoice::tool(name)),
    }
}

fn effort(text: &str, kind: AdapterKind) -> Result<ReasoningEffort, Failure> {
    let effort: ReasoningEffort = text.parse().map_err(|_| {
        unsupported(&format!("`{text}` is no measure of thought: `low`, `medium`, `high` or a number of tokens"))
    })?;
    let counts = matches!(kind, AdapterKind::Anthropic | AdapterKind::Gemini | AdapterKind::GeminiIx);
    if matches!(effort, ReasoningEffort::Budget(_)) && !counts {
        return Err(unsupported("it takes `low`, `medium` or `high` for `reasoning`, and no number of tokens"));
    }
    Ok(effort)
}

/// genai reads `NAME-high` as `NAME` with much thought, and takes `X::NAME` apart; names are meant as they are.
fn literal_name(model: &str, kind: AdapterKind) -> Option<Value> {
    let effort = ReasoningEffort::from_model_name(model).0.is_some();
    match () {
        () if !speaks_openai(kind) => None,
        () if effort => Some(json!({ "model": model, "reasoning_effort": null })),
        () => model.contains("::").then(|| json!({ "model": model })),
    }
}

/// OpenAI takes letters, digits, `_` and `-`, and 64 of them at most.
fn schema_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(64).collect();
    if name.is_empty() { "reply".to_owned() } else { name }
}

fn unsupported(said: &str) -> Failure {
    Failure::Unsupported { said: said.to_owned() }
}
