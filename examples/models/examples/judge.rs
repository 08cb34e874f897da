//! A model writes, a model judges, and it writes again with what the judge said, until that is satisfied.
//!
//! ```text
//! cargo xtask model &
//! cargo run --release -p flowstone-examples-models --example judge -- "a tea shop by the sea"
//! ```
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use clap::Parser;
use flowstone::{
    BuildError,
    llm::{Chat, Extract, Model, Options},
    prelude::*,
};
use flowstone_examples_models::{
    llm::{ModelArgs, nobody},
    scripts,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Parser)]
#[command(about = "Writes a slogan, and betters it until a judge likes it")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The most slogans that it writes
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// The subject of the slogan
    #[arg(default_value = "a tea shop by the sea")]
    topic: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Slogan {
    topic: String,
    draft: String,
    verdict: Verdict,
    round: u32,
    rounds: u32,
}

/// The judge's verdict.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
struct Verdict {
    /// 1 for useless, 10 for perfect.
    #[schemars(range(min = 1, max = 10))]
    points: u8,
    /// The thing that it lacks most. One of a few words: a small model, asked for a sentence, finds no end.
    lacks: Lack,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Lack {
    #[default]
    Nothing,
    Brevity,
    Wit,
    Place,
}

/// The points that are enough.
const ENOUGH: u8 = 7;

#[derive(Action)]
enum Judged {
    Good,
    Poor,
    /// Not good, but it was the last round.
    GivenUp,
}

const WRITE: &str = "\
Write one short slogan for {{ topic }}.
{%- if draft %}
This one was not good enough, it lacks {{ verdict.lacks }}: {{ draft }}
{%- endif %}
Reply with the slogan only.";

const JUDGE: &str = "This is a slogan for {{ topic }}: {{ draft }}\nHow good is it, and what does it lack?";

fn flow(model: &Model) -> Result<AsyncFlow<Slogan>, BuildError> {
    let options = |max_tokens, temperature| Options { max_tokens, temperature, ..Options::default() };
    let retry = Retry::attempts(3).exponential(Duration::from_millis(500)).jitter();

    let mut flow = AsyncFlow::builder("judge");
    let write = Chat::prompt(model, WRITE, |slogan: &mut Slogan, text: String| {
        slogan.draft = text.trim().to_owned();
        slogan.round += 1;
    });
    let write = flow.add("write", write.options(options(Some(60), Some(0.8))).allow_cut().retry(retry.clone()));
    let judge = Extract::prompt(model, JUDGE, |slogan: &mut Slogan, verdict: Verdict| {
        slogan.verdict = verdict;
        if slogan.verdict.points >= ENOUGH {
            Judged::Good
        } else if slogan.round >= slogan.rounds {
            Judged::GivenUp
        } else {
            Judged::Poor
        }
    });
    let judge = flow.add("judge", judge.options(options(Some(200), Some(0.0))).retry(retry));
    flow.start(write);
    flow.route(write >> judge);
    flow.route(judge - Judged::Poor >> write);
    flow.route(judge - Judged::Good >> END);
    flow.route(judge - Judged::GivenUp >> END);
    flow.build()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let flow = flow(&args.model.model(scripts::judge)?)?;
    let slogan = Slogan { topic: args.topic, rounds: args.rounds, ..Slogan::default() };
    let slogan = args.model.run("judge", flow, slogan, nobody).await?.state();

    let Slogan { draft, verdict: Verdict { points, lacks }, round, .. } = slogan;
    println!("{points} of 10 points in round {round}: {draft}");
    if points < ENOUGH {
        println!("the judge says that it lacks {}", format!("{lacks:?}").to_lowercase());
    }
    Ok(())
}
