//! Messages as services take them.
//!
//! **Invariant:** what was accepted once stays acceptable: blank texts, and messages in which nothing else is, are not
//! sent, whoever made them.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::dialect::Dialect;
use crate::message::{Image, Message, Part, Role};

/// A message to be sent, or several that are joined.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) role: Role,
    pub(super) parts: Vec<&'a Part>,
}

/// The instructions that stand before the conversation, and the conversation.
pub(super) fn turns<'a>(messages: &'a [Message], dialect: &Dialect) -> (Vec<String>, Vec<Turn<'a>>) {
    let mut systems: Vec<String> = Vec::new();
    let mut turns: Vec<Turn<'a>> = Vec::new();
    for message in messages {
        if message.says_nothing() {
            continue;
        }
        let parts: Vec<&Part> = message.parts.iter().filter(|part| !is_blank(part)).collect();
        if message.role == Role::System && dialect.one_system {
            systems.extend(texts(&parts).map(str::to_owned));
            continue;
        }
        match turns.last_mut() {
            Some(last) if last.role == message.role && joins(message.role, dialect) => last.parts.extend(parts),
            _ => turns.push(Turn { role: message.role, parts }),
        }
    }
    (systems, turns)
}

impl<'a> Turn<'a> {
    /// The text, if there is nothing but text; several texts are parted by blank lines.
    pub(super) fn only_text(&self) -> Option<Cow<'a, str>> {
        let only = self.parts.iter().all(|part| matches!(part, Part::Text(_)));
        only.then(|| match self.parts.as_slice() {
            [Part::Text(text)] => Cow::Borrowed(text.as_str()),
            parts => Cow::Owned(texts(parts).collect::<Vec<_>>().join("\n\n")),
        })
    }

    /// All text that is in it.
    pub(super) fn text(&self) -> String {
        texts(&self.parts).collect::<Vec<_>>().join("\n\n")
    }
}

/// Returns `true` if messages of a role that follow each other are joined. The results of tools stand by themselves on
/// the wires that do not join anyway.
fn joins(role: Role, dialect: &Dialect) -> bool {
    dialect.joined && role != Role::System
}

fn texts<'a>(parts: &[&'a Part]) -> impl Iterator<Item = &'a str> {
    parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None })
}

fn is_blank(part: &Part) -> bool {
    matches!(part, Part::Text(text) if text.trim().is_empty())
}

/// The arguments of a call as services take them back: an object, also where the model gave none.
pub(super) fn arguments(given: &Value) -> Value {
    match given {
        Value::Object(_) => given.clone(),
        Value::Null => json!({}),
        other => json!({ "arguments": other }),
    }
}

/// An image as a URL, which may hold its bytes.
pub(super) fn image_url(image: &Image) -> Cow<'_, str> {
    match image {
        Image::Data { media_type, base64 } => format!("data:{media_type};base64,{base64}").into(),
        Image::Url(url) => url.into(),
    }
}

/// Guesses the type of an image behind a URL; services look for themselves, but want to be told.
pub(super) fn media_type(url: &str) -> &'static str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    match path.rsplit('.').next().map(str::to_ascii_lowercase).as_deref() {
        Some("png") => "image/png",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        _ => "image/jpeg",
    }
}

/// Letters, digits, `_` and `-`, and 64 of them at most: the name of a schema as services take it.
pub(super) fn schema_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(64).collect();
    if name.is_empty() { "reply".to_owned() } else { name }
}

/// Adds the fields of an object to another, which keeps its own.
pub(super) fn merge(into: &mut Value, fields: &Value) {
    if let (Some(into), Some(fields)) = (into.as_object_mut(), fields.as_object()) {
        for (name, value) in fields {
            into.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// A measure of thought, as a request names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
    Tokens(u32),
}

impl Effort {
    pub(super) fn of(text: &str) -> Result<Self, crate::Failure> {
        Ok(match text {
            "none" | "zero" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::XHigh,
            "max" => Self::Max,
            number => Self::Tokens(number.parse().map_err(|_| {
                super::unsupported(&format!(
                    "`{text}` is no measure of thought: `low`, `medium`, `high` or a number of tokens"
                ))
            })?),
        })
    }

    /// The word for it, for services that count no tokens.
    pub(super) fn word(self) -> Result<&'static str, crate::Failure> {
        Ok(match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
            Self::Tokens(_) => {
                let said = "it takes `low`, `medium` or `high` for `reasoning`, and no number of tokens";
                return Err(super::unsupported(said));
            }
        })
    }
}
