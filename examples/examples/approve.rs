//! A person in the flow: it drafts, asks, and sends, or drafts again. While it waits, nothing of it runs.
//!
//! ```text
//! cargo run --example approve
//! cargo run --example approve -- --answer no --answer yes
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use std::io::{IsTerminal, stdin};

use anyhow::bail;
use clap::{Parser, ValueEnum};
use flowstone::{BuildError, prelude::*};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
struct Args {
    /// The answers, in turn, the last one also to all further questions; without any, the program asks
    #[arg(long, value_enum)]
    answer: Vec<Answer>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Yes,
    No,
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Letter {
    drafts: usize,
    text: String,
    sent: bool,
}

#[derive(Action)]
enum Drafted {
    Ready,
    OutOfIdeas,
}

fn draft(letter: &mut Letter) -> Drafted {
    const IDEAS: [&str; 3] = ["Pay at once!", "You may have missed our invoice.", "Dear Ann, shall we talk about May?"];

    let Some(text) = IDEAS.get(letter.drafts) else { return Drafted::OutOfIdeas };
    letter.drafts += 1;
    letter.text = (*text).to_owned();
    println!("draft {}: {text}", letter.drafts);
    Drafted::Ready
}

struct Approve;

#[derive(Action)]
enum Verdict {
    Approved,
    Rejected,
}

impl Ask<Letter> for Approve {
    type Question = String;
    type Answer = Answer;
    type Action = Verdict;

    fn ask(&self, letter: &Letter) -> Result<String> {
        Ok(format!("Send “{}”?", letter.text))
    }

    fn post(&self, _letter: &mut Letter, answer: Answer) -> Result<Verdict> {
        Ok(match answer {
            Answer::Yes => Verdict::Approved,
            Answer::No => Verdict::Rejected,
        })
    }
}

pub(crate) fn flow() -> Result<Flow<Letter>, BuildError> {
    let mut flow = Flow::builder("letter");
    let draft = flow.add("draft", draft);
    let approve = flow.add("approve", Approve);
    let send = flow.add("send", |letter: &mut Letter| letter.sent = true);
    flow.start(draft);
    flow.route(draft - Drafted::Ready >> approve);
    flow.route(draft - Drafted::OutOfIdeas >> END);
    flow.route(approve - Verdict::Approved >> send);
    flow.route(approve - Verdict::Rejected >> draft);
    flow.build()
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let flow = flow()?;
    let mut letter = Letter::default();
    let mut given = args.answer.iter().copied();
    let mut outcome = flow.run(&mut letter)?;
    while let Outcome::Paused(pause) = outcome {
        let question = pause.question().as_str().unwrap_or_default().to_owned();
        let answer = match given.next().or(args.answer.last().copied()) {
            Some(answer) => answer,
            None => ask(&question)?,
        };
        println!("{}: {question} {answer:?}", pause.node());
        outcome = flow.resume(&mut letter, pause, answer)?;
    }
    println!("{}", if letter.sent { "sent" } else { "nothing sent" });
    Ok(())
}

/// Asks the person at the terminal until there is a yes or a no.
fn ask(question: &str) -> anyhow::Result<Answer> {
    if !stdin().is_terminal() {
        bail!("standard input is not a terminal, and there is no --answer: nobody to ask: {question}");
    }
    loop {
        eprint!("{question} (yes or no) ");
        let mut line = String::new();
        if stdin().read_line(&mut line)? == 0 {
            bail!("no answer to: {question}");
        }
        match line.trim() {
            "yes" | "y" => return Ok(Answer::Yes),
            "no" | "n" => return Ok(Answer::No),
            _ => {}
        }
    }
}
