//! An agent with the tools of an MCP server, which is a program of any kind.
//!
//! ```text
//! cargo run --release -p flowstone-examples-models --example mcp -- \
//!     --model openai:gpt-5-mini "What is in this folder?" -- npx -y @modelcontextprotocol/server-filesystem .
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use anyhow::bail;
use clap::Parser;
use flowstone::{
    BuildError,
    llm::{AgentExit, AgentState, Approval, Model, Options, Tools, agent, mcp::Mcp},
    prelude::*,
};
use flowstone_examples_models::{
    llm::{ModelArgs, Question, line},
    scripts,
};
use serde_json::Value;

#[derive(Parser)]
#[command(about = "Asks an agent that has the tools of an MCP server")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A tool that a person approves each call of; `*` is all of them
    #[arg(long, value_name = "TOOL")]
    approve: Vec<String>,
    /// The question
    question: String,
    /// The program that is the server, and its arguments
    #[arg(last = true, required = true)]
    server: Vec<String>,
}

fn flow(model: &Model, tools: Tools, approve: Vec<String>) -> Result<AsyncFlow<AgentState, AgentExit>, BuildError> {
    let agent = agent(model, tools)
        .system("You answer with the help of your tools.")
        .options(Options { max_tokens: Some(500), ..Options::default() })
        .retry(Retry::attempts(3).exponential(Duration::from_millis(500)).jitter())
        .max_turns(10);
    match approve.first().map(String::as_str) {
        None => agent.build(),
        Some("*") => agent.approve_all().build(),
        Some(_) => agent.approve(approve).build(),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { model, approve, question, server } = Args::parse();
    let Some((program, arguments)) = server.split_first() else { bail!("no server is named") };
    let server = Mcp::stdio(program, arguments).connect().await?;
    let tools = Tools::new().with_all(server.tools().await?);
    eprintln!("{} has the tools {}", server.name(), tools.names().collect::<Vec<_>>().join(", "));

    let flow = flow(&model.model(scripts::mcp)?, tools, approve)?;
    let id = format!("mcp: {question}");
    let ran = model.run(id, flow, AgentState::new(question), person).await;
    // The server is given the time to end well.
    server.close().await;
    if let Some(bound) = ran?.state().stopped() {
        bail!("{bound}");
    }
    Ok(())
}

/// Puts the calls before a person: yes, or why not.
fn person(asked: &Question<'_>) -> anyhow::Result<Option<Value>> {
    println!("to be approved: {:#}", asked.question["calls"]);
    let Some(said) = line("yes, or why not? ")?.filter(|said| !said.is_empty()) else { return Ok(None) };
    let answer = if said == "yes" { Approval::approve_all() } else { Approval::refuse_all(said) };
    Ok(Some(serde_json::to_value(answer)?))
}
