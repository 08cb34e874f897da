//! Questions about documents: their paragraphs become vectors in a SQLite file, once; the nearest ones are what the
//! model answers from.
//!
//! ```text
//! ○ ─▶ chunk ─▶ embed ─▶ index ─▶ ask ─▶ find ─▶ answer ─▶ ◎
//! ```
//!
//! ```text
//! cargo xtask model &
//! cargo run --release -p flowstone-examples-models --example rag -- "How hot should the water for green tea be?"
//! ```
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use flowstone::{
    BuildError,
    llm::{Chat, Embed, Model, Options},
    prelude::*,
};
use flowstone_examples_models::{
    index::Index,
    llm::{ModelArgs, nobody},
    passages::{self, Passage},
    scripts,
};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
#[command(about = "Answers a question from a folder of documents")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The folder; its `.md` and `.txt` files are read
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/tea"))]
    docs: PathBuf,
    /// The file of the vectors; paragraphs that are in it are not embedded again
    #[arg(long, value_name = "FILE", default_value = "rag.index.db")]
    index: PathBuf,
    /// The question
    #[arg(default_value = "How hot should the water for green tea be?")]
    question: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Inquiry {
    question: String,
    /// The passages that are not in the index yet.
    fresh: Vec<Passage>,
    vectors: Vec<Vec<f32>>,
    indexed: usize,
    asked: Vec<f32>,
    found: Vec<Passage>,
    answer: String,
}

const ANSWER: &str = "\
{% for passage in found %}
{{ passage.text }}
{% endfor %}
Answer from this text, in one sentence: {{ question }}";

/// The number of paragraphs that the model is given.
const NEAREST: usize = 3;

fn flow(model: &Model, index: &Index, docs: PathBuf) -> Result<AsyncFlow<Inquiry>, BuildError> {
    let retry = Retry::attempts(3).exponential(Duration::from_millis(500)).jitter();
    let [known, added, searched] = std::array::from_fn(|_| index.clone());

    let mut flow = AsyncFlow::builder("rag");
    let chunk = step(
        |_: &Inquiry| (),
        move |(): &()| Ok(known.lacks(&passages::read(&docs)?)?),
        |inquiry: &mut Inquiry, (), fresh: Vec<Passage>| inquiry.fresh = fresh,
    );
    let chunk = flow.add("chunk", chunk);
    let texts = |inquiry: &Inquiry| inquiry.fresh.iter().map(|passage| passage.text.clone()).collect();
    let embed = Embed::texts(model, texts, |inquiry: &mut Inquiry, vectors| inquiry.vectors = vectors);
    let embed = flow.add("embed", embed.chunk(8).retry(retry.clone()).parallel(2).journaled());
    let index = flow.add("index", move |inquiry: &mut Inquiry| -> Result<()> {
        added.add(inquiry.fresh.iter().zip(inquiry.vectors.iter().map(Vec::as_slice)))?;
        (inquiry.indexed, inquiry.vectors) = (std::mem::take(&mut inquiry.fresh).len(), Vec::new());
        Ok(())
    });
    let question = |inquiry: &Inquiry| vec![inquiry.question.clone()];
    let ask = Embed::texts(model, question, |inquiry: &mut Inquiry, mut vectors: Vec<Vec<f32>>| {
        inquiry.asked = vectors.pop().unwrap_or_default();
    });
    let ask = flow.add("ask", ask.retry(retry.clone()));
    let find = flow.add("find", move |inquiry: &mut Inquiry| -> Result<()> {
        inquiry.found = searched.nearest(&inquiry.asked, NEAREST)?;
        Ok(())
    });
    let answer = Chat::prompt(model, ANSWER, |inquiry: &mut Inquiry, text: String| inquiry.answer = text);
    let options = Options { temperature: Some(0.0), max_tokens: Some(200), ..Options::default() };
    let answer = flow.add("answer", answer.options(options).allow_cut().retry(retry));
    flow.start(chunk);
    flow.route(chunk >> embed >> index >> ask >> find >> answer);
    flow.build()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { model, docs, index, question } = Args::parse();
    let client = model.model(scripts::rag)?;
    let path = index.display().to_string();
    let index = Index::open(&index, &client.id().to_string()).with_context(|| format!("{path} cannot be opened"))?;
    let id = format!("rag: {question}");
    let inquiry = Inquiry { question, ..Inquiry::default() };
    let inquiry = model.run(id, flow(&client, &index, docs)?, inquiry, nobody).await?.state();

    println!("\n{} paragraphs were new. The answer is from:", inquiry.indexed);
    for Passage { file, text } in &inquiry.found {
        println!("{file}: {text}");
    }
    Ok(())
}
