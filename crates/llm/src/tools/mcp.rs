//! The Model Context Protocol: tools, resources and prompts of a server for a flow, and tools, thus flows, as a server.
//!
//! ```text
//! Mcp::stdio, Mcp::http ── connect ─▶ McpServer ─┬ tools ─▶ Tools ─▶ an agent
//!                                                ├ resources, read
//!                                                └ prompts, prompt ─▶ messages
//! Tools ── serve ─▶ Serve ─┬ stdio
//!                          └ bind, http ─▶ any client
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `connect` | where a server is, and how it is reached: [`Mcp`] |
//! | `link` | a connection that is made anew when the server has ended |
//! | `process`, `correlated`, `http` | the two ways to a server |
//! | `server` | what a server offers: [`McpServer`] |
//! | `tool`, `content` | one of its tools; what it sends, as text and messages |
//! | `serve`, `handler` | the other side: [`serve()`], [`Serve`] |
//! | `error` | what can go wrong with a server: [`McpError`] |
//! | `quiet`, `secret` | what is in no log, and in no message |
//!
//! # Invariants
//!
//! - No type of the protocol's library is public.
//! - A server is not trusted: what it sends is bounded, its schemas are checked, and its texts are data.
//! - No token and no value of an environment is in an error, a log or a `Debug`.

mod connect;
mod content;
mod correlated;
mod error;
mod handler;
mod http;
mod link;
mod process;
mod quiet;
mod secret;
mod serve;
mod server;
mod tool;

pub use connect::Mcp;
pub use content::{Body, Prompt, PromptArgument, Resource, ResourceContent, ResourceTemplate};
pub use error::{McpError, McpFailure, ServeError};
pub use serve::{Bound, Serve, serve};
pub use server::McpServer;
pub use tool::McpTool;
