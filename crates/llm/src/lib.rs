//! Models, prompts, tools and agents as nodes of Flowstone: the feature `llm` of the crate `flowstone`.
//!
//! | module | what it holds |
//! |---|---|
//! | `message`, `request`, `error` | a conversation, what a model is asked and replies, why there is no reply: plain data |
//! | `model` | the trait that clients implement, the handle that nodes hold; limits, prices, guesses at tokens |
//! | `wire` | what services speak, and how their replies are read |
//! | `client`, `name` | the built-in client, and how a model is named |
//! | `prompt`, `schema` | templates over the state, and types as JSON schemas, both checked when a flow is built |
//! | `chat`, `extract`, `classify`, `embed` | the nodes that ask a model |
//! | `tools` | what a model may call: functions, closures, flows, MCP servers; and tools as an MCP server |
//! | `agent` | a model that calls tools until it has an answer; how much it is told of what was said |
//! | `watch` | text as it comes; spans, and OpenTelemetry |
//! | `testing` | models for tests: a script; what a model once replied |
//!
//! # Invariants
//!
//! - What is in a state is plain data: clients, keys and tools are fields of nodes.
//! - A call is made once for each attempt of a visit or an item; whether there is another is up to the node's policy,
//!   and the type of the error says whether it may help.
//! - No type of a client library is public.
//! - No key is in an error, an event, a span or a store.

mod agent;
mod chat;
mod classify;
mod client;
mod embed;
mod error;
mod extract;
mod message;
mod model;
mod name;
mod prompt;
mod request;
mod schema;
mod testing;
mod tools;
mod watch;
mod wire;

pub use agent::history::History;
pub use agent::{
    AgentBuilder, AgentExit, AgentState, Approval, ApprovalQuestion, AskedCall, Bound, Decision, NothingAsked, agent,
};
pub use chat::{Chat, NothingToAnswer, Prompted, Turn};
pub use classify::{Classify, Routed};
pub use client::{Connect, SetupError};
pub use embed::Embed;
pub use error::{Failure, ModelError, ModelId};
pub use extract::{Each, Extract, ExtractError, One};
pub use message::{Conversation, Extra, Image, Message, Part, Role, ToolCall, ToolFault, ToolResult};
pub use model::limits::Limits;
pub use model::prices::{Price, Prices, PricesError};
pub use model::{ChatModel, Embeddings, Model};
pub use prompt::{Prompt, PromptError, PromptFault};
pub use request::{Finish, Options, Reply, ReplySchema, Request, Tokens, ToolChoice, ToolSpec};
pub use schema::HasSchema;
/// Describes a type to a model. Derive it, with `#[schemars(crate = "flowstone::llm::schemars")]` where the crate
/// `schemars` is not among the dependencies.
pub use schemars::{self, JsonSchema};
pub use testing::cassette::{CassetteError, Recorded};
pub use testing::scripted::ScriptedModel;
#[doc(hidden)]
pub use tools::macros as __macros;
#[cfg(feature = "mcp")]
pub use tools::mcp;
pub use tools::{
    ArgumentFault, BadTool, BadTools, FunctionTool, Misuse, Tool, Tools, flow_tool, function, function_with_context,
};
pub use watch::delta::Delta;
#[cfg(feature = "otel")]
pub use watch::otel;
pub use wire::{
    Wire,
    dialect::{CallIds, Dialect, Schemas, Thoughts},
};
