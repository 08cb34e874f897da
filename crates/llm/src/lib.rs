//! Models, prompts, tools and agents as nodes of Flowstone: the feature `llm` of the crate `flowstone`.
//!
//! | module | what it holds |
//! |---|---|
//! | `message`, `request` | a conversation, what a model is asked and what it replies, as plain data |
//! | `model`, `error` | the trait that clients implement, the handle that nodes hold, why there is no reply |
//! | `limits`, `prices`, `estimate` | how often a model is called, what it costs, guesses at tokens |
//! | `prompt`, `schema` | templates over the state, and types as JSON schemas, both checked when a flow is built |
//! | `chat`, `extract`, `classify`, `embed` | the nodes that ask a model |
//! | `client`, `name` | the built-in client, and how a model is named |
//! | `wire` | what services speak, and how their replies are read |
//! | `delta`, `span` | text as it comes; what can be seen from outside |
//! | `otel` | spans and metrics for OpenTelemetry |
//! | `tool` | what a model may call: functions, closures, flows |
//! | `agent`, `history` | a model that calls tools until it has an answer; how much it is told of what was said |
//! | `mcp` | tools, resources and prompts of MCP servers, and flows as tools of one |
//! | `scripted`, `cassette` | models for tests: a script; what a model once replied |
//!
//! # Invariants
//!
//! - What is in a state is plain data: clients, keys and tools are fields of nodes.
//! - A call is made once for each attempt of a visit or an item; whether there is another is up to the node's policy,
//!   and the type of the error says whether it may help.
//! - No type of a client library is public.
//! - No key is in an error, an event, a span or a store.

mod agent;
mod cassette;
mod chat;
mod classify;
mod client;
mod delta;
mod embed;
mod error;
mod estimate;
mod extract;
mod history;
mod limits;
#[cfg(feature = "mcp")]
pub mod mcp;
mod message;
mod model;
mod name;
#[cfg(feature = "otel")]
pub mod otel;
mod prices;
mod prompt;
mod request;
mod schema;
mod scripted;
mod span;
mod tool;
mod wire;

pub use agent::{
    AgentBuilder, AgentExit, AgentState, AgentTool, Approval, ApprovalQuestion, AskedCall, Bound, Decision,
    NothingAsked, agent,
};
pub use cassette::{CassetteError, Recorded};
pub use chat::{Chat, NothingToAnswer, Prompted, Turn};
pub use classify::Classify;
pub use client::{Connect, SetupError};
pub use delta::Delta;
pub use embed::Embed;
pub use error::{Failure, ModelError, ModelId};
pub use extract::{Each, Extract, ExtractError, One};
pub use history::History;
pub use limits::Limits;
pub use message::{Conversation, Extra, Image, Message, Part, Role, ToolCall, ToolFault, ToolResult};
pub use model::{ChatModel, Embeddings, Model};
pub use prices::{Price, Prices, PricesError};
pub use prompt::{Prompt, PromptError, PromptFault};
pub use request::{Finish, Options, Reply, ReplySchema, Request, Tokens, ToolChoice, ToolSpec};
/// What describes a type to a model: derive it, with `#[schemars(crate = "flowstone::llm::schemars")]` where the crate
/// `schemars` is not among the dependencies.
pub use schemars::{self, JsonSchema};
pub use scripted::ScriptedModel;
#[doc(hidden)]
pub use tool::macros as __macros;
pub use tool::{
    ArgumentFault, BadTool, BadTools, FunctionTool, Misuse, Tool, Tools, flow_tool, function, function_with_context,
};
pub use wire::{
    Wire,
    dialect::{CallIds, Dialect, Schemas, Thoughts},
};
