//! Requests to a model, and its replies: [`Request`], [`Reply`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::message::{Message, Part, Role, ToolCall};

/// A request to a model.
///
/// # Example
///
/// ```
/// use flowstone_llm::{Message, Options, Request};
///
/// let request = Request::new([Message::system("Be brief."), Message::user("Hello!")])
///     .options(Options { max_tokens: Some(100), ..Options::default() });
/// assert_eq!(request.messages.len(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Request {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The tools that it may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSpec>,
    /// The schema of the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<ReplySchema>,
    /// Options of the reply.
    #[serde(default)]
    pub options: Options,
    /// `true` if the text is wanted as it comes, through [`Context::emit`](flowstone_core::Context::emit).
    #[serde(default)]
    pub stream: bool,
}

impl Request {
    /// Creates a request of these messages.
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        Self { messages: messages.into_iter().collect(), ..Self::default() }
    }

    /// Offers tools.
    #[must_use]
    pub fn tools(mut self, tools: Vec<ToolSpec>) -> Self {
        self.tools = tools;
        self
    }

    /// Asks for JSON that fits a schema.
    #[must_use]
    pub fn schema(mut self, name: impl Into<String>, schema: Value) -> Self {
        self.schema = Some(ReplySchema { name: name.into(), schema });
        self
    }

    /// Sets how the model is to reply.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Asks for the text as it comes.
    #[must_use]
    pub fn streamed(mut self) -> Self {
        self.stream = true;
        self
    }
}

/// A tool, as a model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name: letters, digits, `_` and `-`, 64 at most.
    pub name: String,
    /// Its purpose, and when to call it.
    pub description: String,
    /// The JSON schema of its arguments, which are an object.
    pub parameters: Value,
}

/// The schema of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplySchema {
    /// Its name for the model.
    pub name: String,
    /// The JSON schema.
    pub schema: Value,
}

/// Options of a reply. A field that is `None` is up to the provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The temperature: how far to stray from the likeliest word; 0 is not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// From how much of the likelihood to draw words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The most tokens to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Texts at which to stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// A seed that makes replies repeatable, with providers that know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The measure of thought before the reply: `low`, `medium`, `high`, or a number of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// A choice: tools may, must or must not be called.
    #[serde(skip_serializing_if = "ToolChoice::is_auto")]
    pub tool_choice: ToolChoice,
    /// The longest that the service may be silent. The default is that of the client.
    #[serde(skip)]
    pub timeout: Option<Duration>,
}

/// A choice of tools: may, must or must not the model call some?
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolChoice {
    /// As it thinks best.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// At least one.
    Required,
    /// This one.
    Tool(String),
}

impl ToolChoice {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// The reply of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reply {
    /// The message, as it goes into the conversation.
    pub message: Message,
    /// The reason for its end.
    pub finish: Finish,
    /// The tokens that it took, if the provider says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// The model, as the provider names the one that replied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The id that the provider gives the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Reply {
    /// Creates a reply of a text.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self::new(Message::assistant(text), Finish::Stop)
    }

    /// Creates a reply that calls tools.
    #[must_use]
    pub fn of_calls(calls: impl IntoIterator<Item = ToolCall>) -> Self {
        let parts = calls.into_iter().map(Part::ToolCall).collect();
        Self::new(Message { role: Role::Assistant, parts }, Finish::ToolCalls)
    }

    /// Creates a reply.
    #[must_use]
    pub fn new(message: Message, finish: Finish) -> Self {
        Self { message, finish, tokens: None, model: None, id: None }
    }

    /// Returns its text.
    #[must_use]
    pub fn text(&self) -> String {
        self.message.text()
    }

    /// Says what it took.
    #[must_use]
    pub fn with_tokens(mut self, input: u64, output: u64) -> Self {
        self.tokens = Some(Tokens { input, output, ..Tokens::default() });
        self
    }
}

/// A reason for which a reply ends where it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finish {
    /// The model was done.
    Stop,
    /// It reached the most tokens that it may make, or can.
    Length,
    /// It waits for tools.
    ToolCalls,
    /// The provider does not let it say more.
    Filtered,
    /// Something else, as the provider says it.
    Other(String),
}

/// The tokens of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Those that were sent.
    pub input: u64,
    /// Those that were made, thoughts included.
    pub output: u64,
    /// Those of the input that the provider had at hand.
    pub cached_input: u64,
    /// Those of the output that are thoughts.
    pub reasoning: u64,
}
