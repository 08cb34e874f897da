//! A supervisor over an agent: a flow inside a flow, and an edge back for answers that are rejected.
//!
//! ```text
//! cargo run --example supervisor
//! cargo run --example supervisor -- --mermaid     # the picture of the flow
//! ```
#![expect(clippy::print_stdout, reason = "what it prints is what it shows")]

use clap::Parser;
use flowstone::{BuildError, prelude::*};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
struct Args {
    /// Print the flow as a Mermaid flowchart, and run nothing
    #[arg(long)]
    mermaid: bool,
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Desk {
    question: String,
    source: String,
    answer: String,
    /// The number of answers that were rejected.
    rejected: usize,
}

/// Looks into another source after each rejection.
fn research(desk: &mut Desk) {
    const SOURCES: [&str; 3] = ["a horoscope", "an advertisement", "an encyclopaedia"];
    desk.source = SOURCES[desk.rejected.min(SOURCES.len() - 1)].to_owned();
    println!("research: looked into {}", desk.source);
}

struct Write;

#[node]
impl Write {
    fn prep(&self, desk: &Desk) -> String {
        desk.source.clone()
    }

    fn exec(&self, source: &str) -> &'static str {
        match source {
            "a horoscope" => "The stars say so.",
            "an advertisement" => "Buy now!",
            _ => "Water boils at 100 °C at sea level, and at less on a mountain.",
        }
    }

    fn post(&self, desk: &mut Desk, _source: String, answer: &'static str) {
        println!("write: {answer}");
        desk.answer = answer.to_owned();
    }
}

#[derive(Action)]
enum Verdict {
    Approve,
    Reject,
}

struct Supervise;

#[node]
impl Supervise {
    fn prep(&self, desk: &Desk) -> (String, String) {
        (desk.question.clone(), desk.answer.clone())
    }

    /// An answer is about its question if they have a long word in common.
    fn exec(&self, prep: &(String, String)) -> bool {
        let (question, answer) = prep;
        question.split_whitespace().any(|word| word.len() > 4 && answer.to_lowercase().contains(word))
    }

    fn post(&self, desk: &mut Desk, _prep: (String, String), good: bool) -> Verdict {
        if good {
            println!("supervise: approved");
            return Verdict::Approve;
        }
        println!("supervise: rejected “{}”", desk.answer);
        desk.rejected += 1;
        desk.answer.clear();
        Verdict::Reject
    }
}

fn agent() -> Result<Flow<Desk>, BuildError> {
    let mut flow = Flow::builder("agent");
    let research = flow.add("research", research);
    let write = flow.add("write", Write);
    flow.start(research);
    flow.route(research >> write);
    flow.build()
}

pub(crate) fn flow() -> Result<Flow<Desk>, BuildError> {
    let mut flow = Flow::builder("supervised");
    let agent = flow.add("agent", agent()?);
    let supervise = flow.add("supervise", Supervise);
    flow.start(agent);
    flow.route(agent >> supervise);
    flow.route(supervise - Verdict::Reject >> agent);
    flow.route(supervise - Verdict::Approve >> END);
    flow.build()
}

/// The state to start with.
pub(crate) fn desk() -> Desk {
    Desk { question: "At what temperature does water boil?".to_lowercase(), ..Desk::default() }
}

fn main() -> anyhow::Result<()> {
    let flow = flow()?;
    if Args::parse().mermaid {
        print!("{}", flow.to_mermaid());
        return Ok(());
    }

    let mut desk = desk();
    flow.run(&mut desk)?;
    println!("answer after {} rejections: {}", desk.rejected, desk.answer);
    Ok(())
}
