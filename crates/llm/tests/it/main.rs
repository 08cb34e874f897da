//! Models, nodes, tools and agents, as facts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent;
mod agent_approval;
mod agent_bounds;
mod agent_cut_off;
mod agent_durable;
mod agent_nonsense;
mod agent_summary;
mod agent_team;
mod cassette;
mod chat;
mod classify;
mod client;
mod corpus;
mod embed;
mod extract;
mod extract_each;
mod extract_recursive;
mod extract_types;
mod history;
mod limits;
mod llmock;
#[cfg(feature = "mcp")]
mod mcp;
#[cfg(feature = "mcp")]
mod mcp_changes;
#[cfg(feature = "mcp")]
mod mcp_http;
#[cfg(feature = "mcp")]
mod mcp_peers;
#[cfg(feature = "mcp")]
mod mcp_results;
#[cfg(feature = "mcp")]
mod mcp_serve;
mod old_store;
#[cfg(feature = "otel")]
mod otel;
mod peers;
mod prices;
mod prompts;
mod scripted;
mod secrets;
mod spans;
mod tools;
