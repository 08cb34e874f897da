//! A report with its sources: the model plans searches, they are made at once, and it writes of what was found.
//!
//! ```text
//! ○ ─▶ plan ─▶ search ─┬ something ─▶ write ─▶ ◎
//!                      └ nothing ────────────▶ ◎
//! ```
//!
//! ```text
//! cargo xtask model &
//! cargo run --release -p flowstone-examples-models --example research -- "how green and black tea differ" --docs folder
//! ```
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Parser;
use flowstone::{
    BuildError,
    llm::{Chat, Extract, Model, Options},
    prelude::*,
};
use flowstone_examples_models::{
    llm::{ModelArgs, nobody},
    passages::{self, Passage},
    scripts,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Parser)]
#[command(about = "Writes of what a folder of documents says about a topic")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The folder; its `.md` and `.txt` files are searched
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/tea"))]
    docs: PathBuf,
    /// The subject of the text
    #[arg(default_value = "how green and black tea differ")]
    topic: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Report {
    topic: String,
    queries: Vec<String>,
    found: Vec<Passage>,
    text: String,
}

/// The words to look for.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Plan {
    /// Queries of a few words each.
    #[schemars(length(min = 1, max = 3))]
    queries: Vec<String>,
}

struct Search {
    passages: Arc<Vec<Passage>>,
}

#[derive(Action)]
enum Found {
    Something,
    Nothing,
}

#[node(batch)]
impl Search {
    fn prep(&self, report: &Report) -> Vec<String> {
        report.queries.clone()
    }

    async fn exec(&self, query: &String) -> Result<Vec<Passage>> {
        Ok(passages::search(&self.passages, query, 2).into_iter().cloned().collect())
    }

    fn post(&self, report: &mut Report, _queries: Vec<String>, found: Vec<Vec<Passage>>) -> Found {
        for passage in found.into_iter().flatten() {
            if !report.found.contains(&passage) {
                report.found.push(passage);
            }
        }
        if report.found.is_empty() { Found::Nothing } else { Found::Something }
    }
}

const WRITE: &str = "\
These are the sources:
{% for passage in found %}
[{{ loop.index }}] {{ passage.text }}
{% endfor %}
Write a few sentences about {{ topic }}. Use nothing but the sources, and name those that you use, as in [1].";

fn flow(model: &Model, passages: Vec<Passage>) -> Result<AsyncFlow<Report>, BuildError> {
    let retry = Retry::attempts(3).exponential(Duration::from_millis(500)).jitter();
    let options = |max_tokens| Options { temperature: Some(0.0), max_tokens: Some(max_tokens), ..Options::default() };

    let mut flow = AsyncFlow::builder("research");
    let plan = Extract::prompt(
        model,
        "What would you search for to write about {{ topic }}?",
        |report: &mut Report, plan: Plan| {
            report.queries = plan.queries;
            // A small model thinks of nothing: the topic itself is looked for, too.
            report.queries.push(report.topic.clone());
        },
    );
    let plan = flow.add("plan", plan.options(options(200)).retry(retry.clone()));
    let search = flow.add("search", Search { passages: Arc::new(passages) }.parallel(4));
    let write = Chat::prompt(model, WRITE, |report: &mut Report, text: String| report.text = text);
    let write = flow.add("write", write.options(options(400)).allow_cut().retry(retry));
    flow.start(plan);
    flow.route(plan >> search);
    flow.route(search - Found::Something >> write);
    flow.route(search - Found::Nothing >> END);
    flow.build()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { model, docs, topic } = Args::parse();
    let passages = passages::read(&docs).with_context(|| format!("{} cannot be searched", docs.display()))?;
    let flow = flow(&model.model(scripts::research)?, passages)?;
    let id = format!("research: {topic}");
    let report = model.run(id, flow, Report { topic, ..Report::default() }, nobody).await?.state();

    if report.found.is_empty() {
        bail!("no document says anything of {}", report.queries.join(", "));
    }
    println!();
    for (number, passage) in (1..).zip(&report.found) {
        println!("[{number}] {}: {}", passage.file, passage.text);
    }
    Ok(())
}
