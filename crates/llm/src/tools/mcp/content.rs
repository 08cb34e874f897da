//! The answers of a server, as plain data: resources, prompts, and the text of a tool's result.

use base64::{Engine, engine::general_purpose::STANDARD};
use rmcp::model::{self, CallToolResult, ContentBlock, PromptMessage, ResourceContents};
use serde_json::Value;

use crate::message::{Image, Message, Part, Role};

/// A resource of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resource {
    /// The URI by which it is read.
    pub uri: String,
    /// Its name, for programs.
    pub name: String,
    /// Its description, for people.
    pub description: Option<String>,
    /// As `text/markdown`.
    pub media_type: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
}

/// A pattern of resources that a server makes when they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceTemplate {
    /// A URI with names in braces for what varies, by RFC 6570.
    pub uri_template: String,
    /// Their name, for programs.
    pub name: String,
    /// Their description, for people.
    pub description: Option<String>,
    /// As `text/markdown`.
    pub media_type: Option<String>,
}

/// A part of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceContent {
    /// Its own URI.
    pub uri: String,
    /// As `text/markdown`.
    pub media_type: Option<String>,
    /// The content.
    pub body: Body,
}

/// The content of a part of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// Text.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// A prompt that a server makes messages of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prompt {
    /// Its name, by which it is made.
    pub name: String,
    /// Its purpose.
    pub description: Option<String>,
    /// The arguments that vary in it.
    pub arguments: Vec<PromptArgument>,
}

/// An argument of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromptArgument {
    /// Its name.
    pub name: String,
    /// Its purpose.
    pub description: Option<String>,
    /// `true` if the prompt cannot be made without it.
    pub required: bool,
}

impl ResourceContent {
    /// Returns the text, if it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Text(text) => Some(text),
            Body::Bytes(_) => None,
        }
    }

    pub(super) fn from_theirs(content: ResourceContents) -> Result<Self, String> {
        match content {
            ResourceContents::TextResourceContents { uri, mime_type, text, .. } => {
                Ok(Self { uri, media_type: mime_type, body: Body::Text(text) })
            }
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => match STANDARD.decode(blob) {
                Ok(bytes) => Ok(Self { uri, media_type: mime_type, body: Body::Bytes(bytes) }),
                Err(error) => Err(format!("`{uri}` is not in base64: {error}")),
            },
            _ => Err("a resource is neither text nor bytes".to_owned()),
        }
    }
}

impl Resource {
    pub(super) fn from_theirs(resource: model::Resource) -> Self {
        let model::Resource { uri, name, title, description, mime_type: media_type, size, .. } = resource;
        Self { uri, name, description: description.or(title), media_type, size }
    }
}

impl ResourceTemplate {
    pub(super) fn from_theirs(template: model::ResourceTemplate) -> Self {
        let model::ResourceTemplate { uri_template, name, title, description, mime_type: media_type, .. } = template;
        Self { uri_template, name, description: description.or(title), media_type }
    }
}

impl Prompt {
    pub(super) fn from_theirs(prompt: model::Prompt) -> Self {
        let arguments = prompt.arguments.unwrap_or_default().into_iter().map(|argument| PromptArgument {
            name: argument.name,
            description: argument.description.or(argument.title),
            required: argument.required == Some(true),
        });
        Self { name: prompt.name, description: prompt.description.or(prompt.title), arguments: arguments.collect() }
    }
}

/// The result of a call.
#[derive(Debug, Default)]
pub(super) struct ToolOutput {
    /// The blocks, as text.
    blocks: Vec<String>,
    pub(super) structured: Option<Value>,
    pub(super) is_error: bool,
}

impl ToolOutput {
    pub(super) fn from_theirs(result: CallToolResult) -> Self {
        Self {
            blocks: result.content.into_iter().map(text_of_block).collect(),
            structured: result.structured_content.filter(|value| !value.is_null()),
            is_error: result.is_error == Some(true),
        }
    }

    /// Reads a result block by block, where one of them is none: the others are good. A result of no known form is told
    /// as it came, since the tool has acted.
    pub(super) fn from_json(result: &Value) -> Self {
        let block = |block: &Value| match serde_json::from_value::<ContentBlock>(block.clone()) {
            Ok(block) => text_of_block(block),
            Err(_) => unknown_block(block),
        };
        let structured = result.get("structuredContent").filter(|value| !value.is_null()).cloned();
        let is_error = result.get("isError").and_then(Value::as_bool).unwrap_or(false);
        let is_known = result.as_object().is_some_and(|fields| {
            fields.keys().all(|name| ["content", "structuredContent", "isError", "_meta"].contains(&name.as_str()))
        });
        let blocks = match result.get("content") {
            Some(Value::Array(blocks)) => blocks.iter().map(block).collect(),
            // Some send one block, or a text, where a list belongs.
            Some(Value::String(text)) => vec![text.clone()],
            Some(other @ Value::Object(_)) => vec![block(other)],
            Some(Value::Null) | None if is_known => Vec::new(),
            _ => vec![format!("[a result of an unknown form] {}", super::http::cut(result.to_string()))],
        };
        Self { blocks, structured, is_error }
    }

    /// Returns the texts of its blocks.
    pub(super) fn words(&self) -> String {
        self.blocks.join("\n")
    }
}

/// Names a block that is none; its text is shown, if it has some.
fn unknown_block(block: &Value) -> String {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or("no type");
    match block.get("text").and_then(Value::as_str).or_else(|| block.as_str()) {
        Some(text) => text.to_owned(),
        None => format!("[content of an unknown kind, `{}`, left out]", super::http::cut(kind.to_owned())),
    }
}

/// Makes the text of a tool's result: texts one below another, the structured result unless they say the same, and a
/// note in place of everything that is no text.
pub(super) fn text_of(result: ToolOutput) -> String {
    let ToolOutput { blocks: mut parts, structured, .. } = result;
    if let Some(value) = structured.filter(|value| !says(&parts.join("\n"), value)) {
        parts.push(value.to_string());
    }
    if parts.is_empty() { "done; there is no result".to_owned() } else { parts.join("\n") }
}

/// Returns `true` if a text says what a value says: it is the value, or the only field of the object around it, as
/// servers make one of results that are none by themselves.
fn says(text: &str, value: &Value) -> bool {
    match value {
        Value::String(said) if said == text => true,
        Value::Object(fields) if fields.len() == 1 && fields.values().all(|field| says(text, field)) => true,
        value => serde_json::from_str::<Value>(text).is_ok_and(|said| said == *value),
    }
}

/// Makes a message of one of a prompt.
pub(super) fn message(message: PromptMessage) -> Message {
    let role = match message.role {
        model::Role::Assistant => Role::Assistant,
        _ => Role::User,
    };
    let part = match message.content {
        ContentBlock::Image(image) => Part::Image(Image::Data { media_type: image.mime_type, base64: image.data }),
        other => Part::Text(text_of_block(other)),
    };
    Message { role, parts: vec![part] }
}

fn text_of_block(block: ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text,
        ContentBlock::Image(image) => left_out("an image", &image.mime_type, image.data.len()),
        ContentBlock::Audio(audio) => left_out("a sound", &audio.mime_type, audio.data.len()),
        ContentBlock::ResourceLink(link) => {
            let about = link.description.or(link.title).unwrap_or(link.name);
            format!("[the resource {}: {about}]", link.uri)
        }
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[the resource {uri}]\n{text}"),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                let kind = mime_type.unwrap_or_else(|| "no type".to_owned());
                left_out(&format!("the resource {uri}"), &kind, blob.len())
            }
            _ => "[a resource of an unknown kind, left out]".to_owned(),
        },
        _ => "[content of an unknown kind, left out]".to_owned(),
    }
}

/// Names the data that is left out, with its size; three bytes are four letters of base64.
fn left_out(what: &str, media_type: &str, letters: usize) -> String {
    format!("[{what} of {media_type}, {} bytes, left out]", letters / 4 * 3)
}
