//! A conversation as plain data: messages, their parts, calls of tools and their results.
//!
//! **Invariant:** nothing here belongs to one provider, and all of it can be stored: no client, no key, no handle.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Messages in their order, as a model is given them; usually a field of a flow's state.
///
/// # Example
///
/// ```
/// use flowstone_llm::Conversation;
///
/// let mut chat = Conversation::default();
/// chat.user("How warm is it?");
/// chat.assistant("22 degrees.");
/// assert_eq!(chat.last_text().as_deref(), Some("22 degrees."));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
}

impl Conversation {
    /// Appends a message of the user.
    pub fn user(&mut self, text: impl Into<String>) {
        self.messages.push(Message::user(text));
    }

    /// Appends a message of the model.
    pub fn assistant(&mut self, text: impl Into<String>) {
        self.messages.push(Message::assistant(text));
    }

    /// Returns the text of the last message, if there is one.
    #[must_use]
    pub fn last_text(&self) -> Option<String> {
        self.messages.last().map(Message::text)
    }
}

impl AsRef<Self> for Conversation {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsMut<Self> for Conversation {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The speaker.
    pub role: Role,
    /// Its parts, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// Creates a message of one text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }

    /// Creates an instruction to the model.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    /// Creates a message of the user.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// Creates a message of the model.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// Creates the message that tells the model the results of its calls.
    #[must_use]
    pub fn tool_results(results: impl IntoIterator<Item = ToolResult>) -> Self {
        Self { role: Role::Tool, parts: results.into_iter().map(Part::ToolResult).collect() }
    }

    /// Adds an image.
    #[must_use]
    pub fn with_image(mut self, image: Image) -> Self {
        self.parts.push(Part::Image(image));
        self
    }

    /// Returns its texts, one after another.
    #[must_use]
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(&**text) } else { None });
        texts.collect()
    }

    /// Returns whether there is nothing in it that a service takes: no text but blanks, no image, no call, no result.
    pub(crate) fn says_nothing(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Text(text) => text.trim().is_empty(),
            Part::Reasoning { .. } | Part::Extra(_) => true,
            Part::Image(_) | Part::ToolCall(_) | Part::ToolResult(_) => false,
        })
    }

    /// Returns the tools that it calls.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None })
    }
}

/// The speaker of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Whoever wrote the program.
    System,
    /// Whoever uses it.
    User,
    /// The model.
    Assistant,
    /// The tools, to the model.
    Tool,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Text.
    Text(String),
    /// An image, in a message of the user.
    Image(Image),
    /// A tool that the model wants called.
    ToolCall(ToolCall),
    /// The result of such a call.
    ToolResult(ToolResult),
    /// A thought of the model, as far as its provider shows it, which wants it back with the next request.
    Reasoning {
        /// The thoughts, if they are shown.
        text: String,
        /// A signature by which the provider knows that they are the model's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// State that only the service understands, and that it wants back with the part behind it.
    Extra(Extra),
}

/// State that only the services of one wire understand: opaque JSON, which is sent back to them as it came, and to no
/// others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// The [name of the wire](crate::Wire::name).
    pub wire: String,
    /// The JSON as it came.
    pub json: Value,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Image {
    /// Its bytes.
    Data {
        /// As `image/png`.
        media_type: String,
        /// The bytes, in base64.
        base64: String,
    },
    /// Where the provider finds it; not every provider looks.
    Url(String),
}

impl Image {
    /// Makes an image of the bytes of a file.
    #[must_use]
    pub fn from_bytes(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::Data { media_type: media_type.into(), base64: STANDARD.encode(bytes) }
    }
}

/// A call of a tool, as a model asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id that the model gives the call; the result names it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments: an object, if the model does as it is told.
    pub arguments: Value,
    /// Signatures that the provider wants back with the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
    /// State that only the service understands, and that it wants back with the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

impl ToolCall {
    /// Creates a call.
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: Value) -> Self {
        Self { id: id.into(), name: name.into(), arguments, signatures: Vec::new(), extra: None }
    }
}

/// The result of a call of a tool, as the model is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The [id](ToolCall::id) of the call.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The result, or the error in words.
    pub text: String,
    /// The fault, if something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<ToolFault>,
}

/// The kinds of fault of a call of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolFault {
    /// There is no such tool, or the arguments do not fit its schema: the model's mistake.
    Misuse,
    /// The tool returned an error, panicked, or took too long.
    Failed,
    /// A person refused the call.
    Refused,
}

/// Gives the calls of a new message ids that no other call of the conversation has: results and decisions go by them,
/// and some services name each turn's calls alike, or not at all.
pub(crate) fn distinct_ids(message: &mut Message, before: &[Message]) {
    if message.tool_calls().next().is_none() {
        return;
    }
    let mut known: BTreeSet<String> = before.iter().flat_map(Message::tool_calls).map(|call| call.id.clone()).collect();
    let turn = before.iter().filter(|message| message.role == Role::Assistant).count();
    let calls = message.parts.iter_mut();
    let calls = calls.filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None });
    for (number, call) in calls.enumerate() {
        let mut id = std::mem::take(&mut call.id);
        if id.is_empty() || known.contains(&id) {
            id = format!("call_{turn}_{number}");
        }
        // The model may use such ids itself.
        while known.contains(&id) {
            id.push('_');
        }
        known.insert(id.clone());
        call.id = id;
    }
}
