//! Customers write: what it is about decides who answers, and a person approves before money is paid back.
//!
//! ```text
//! ○ ─▶ triage ─┬ refund ───▶ refunds (an agent; `refund` waits for a person) ─▶ ◎
//!              ├ delivery ─▶ deliveries (an agent that looks orders up) ──────▶ ◎
//!              └ other ────▶ answer ──────────────────────────────────────────▶ ◎
//! ```
//!
//! ```text
//! cargo run --release -p flowstone-examples-models --example support -- "Order 1042 came broken. I want my money back."
//! cargo run --release -p flowstone-examples-models --example support -- --model scripted --store support.db --ticket t-1
//! cargo run --release -p flowstone-cli -- runs answer t-1 --node refunds/approve '{"all":{"decision":"approve"}}' --store support.db
//! ```
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use clap::Parser;
use flowstone::{
    BuildError,
    llm::{AgentState, Approval, ApprovalQuestion, Chat, Classify, Model, Options, Tools, agent},
    prelude::*,
};
use flowstone_examples_models::{
    llm::{ModelArgs, Question, Ran, line},
    scripts,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Parser)]
#[command(about = "Answers a customer; a person approves refunds")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The id of the run in the store
    #[arg(long, default_value = "ticket-1")]
    ticket: String,
    /// The customer's letter
    #[arg(default_value = "Order 1042 came broken. I want my money back.")]
    text: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Ticket {
    text: String,
    agent: AgentState,
    answer: String,
}

/// The subject of a customer's letter.
#[derive(Action)]
enum Topic {
    /// The customer wants money back.
    Refund,
    /// The customer asks where an order is, or when it comes.
    Delivery,
    /// Anything else.
    Other,
}

#[derive(Serialize)]
struct Order {
    item: &'static str,
    cents: u32,
    delivered: bool,
}

/// Looks up an order.
#[tool]
async fn order(
    /// Its number
    number: u32,
) -> Result<Order> {
    match number {
        1042 => Ok(Order { item: "teapot", cents: 1890, delivered: true }),
        1043 => Ok(Order { item: "two cups", cents: 2400, delivered: false }),
        _ => Err(NodeError::new(format!("there is no order {number}"))),
    }
}

/// Pays money back to the customer.
#[tool]
async fn refund(
    /// The number of the order
    number: u32,
    /// The amount, in cents
    cents: u32,
) -> String {
    println!("[paid back: {}.{:02} for order {number}]", cents / 100, cents % 100);
    "paid".to_owned()
}

fn flow(model: &Model) -> Result<AsyncFlow<Ticket>, BuildError> {
    let retry = Retry::attempts(3).exponential(Duration::from_millis(500)).jitter();
    let options = Options { max_tokens: Some(300), ..Options::default() };
    let clerk = |name: &str, tools| {
        let system =
            "You answer customers of a shop, in two sentences. Look orders up before you say anything of them.";
        agent(model, tools).name(name).system(system).options(options.clone()).retry(retry.clone()).max_turns(6)
    };
    let refunds = clerk("refunds", Tools::new().with(order {}).with(refund {})).approve(["refund"]).build()?;
    let deliveries = clerk("deliveries", Tools::new().with(order {})).build()?;

    let mut flow = AsyncFlow::builder("support");
    let triage = Classify::<_, Topic>::prompt(model, "What does this customer write about?\n\n{{ text }}");
    let triage = flow.add("triage", triage.retry(retry.clone()));
    let refunds = flow.add("refunds", refunds.within(|ticket: &mut Ticket| &mut ticket.agent));
    let deliveries = flow.add("deliveries", deliveries.within(|ticket: &mut Ticket| &mut ticket.agent));
    let answer = Chat::prompt(model, "A customer of a shop writes: {{ text }}\nReply in two sentences.", note);
    let answer = flow.add("answer", answer.options(options).allow_cut().retry(retry));
    flow.start(triage);
    flow.route(triage - Topic::Refund >> refunds);
    flow.route(triage - Topic::Delivery >> deliveries);
    flow.route(triage - Topic::Other >> answer);
    flow.build()
}

fn note(ticket: &mut Ticket, answer: String) {
    ticket.answer = answer;
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { model, ticket, text } = Args::parse();
    let state = Ticket { agent: AgentState::new(&text), text, ..Ticket::default() };
    let ran = model.run(ticket, flow(&model.model(scripts::support)?)?, state, approve).await?;
    if let Ran::Ended(Ticket { agent, .. }) = ran
        && let Some(bound) = agent.stopped()
    {
        println!("[handed over to a person: the agent {bound}]");
    }
    Ok(())
}

/// Puts the calls before a person: yes, or why not.
fn approve(asked: &Question<'_>) -> anyhow::Result<Option<Value>> {
    for call in serde_json::from_value::<ApprovalQuestion>(asked.question.clone())?.calls {
        println!("[to be approved: {} {}]", call.tool, call.arguments);
    }
    let Some(said) = line("yes, or why not? ")?.filter(|said| !said.is_empty()) else { return Ok(None) };
    let answer = if said == "yes" { Approval::approve_all() } else { Approval::refuse_all(said) };
    Ok(Some(serde_json::to_value(answer)?))
}
