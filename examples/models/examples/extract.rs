//! Invoices as people write them become rows of a table: several at once, and none is asked for twice.
//!
//! ```text
//! cargo xtask model &
//! cargo run --release -p flowstone-examples-models --example extract
//! cargo run --release -p flowstone-examples-models --example extract -- --store extract.db my_invoices.txt
//! ```
//!
//! Killed in the middle and started again with the same `--store` and file, it goes on with the invoices that are left.
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use flowstone::{
    BuildError,
    llm::{Extract, Model, Options},
    prelude::*,
};
use flowstone_examples_models::{
    llm::{ModelArgs, nobody},
    scripts,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The line between two invoices of a file.
const BETWEEN: &str = "\n---\n";

#[derive(Parser)]
#[command(about = "Reads invoices into a table")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The number of invoices that are read at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    parallel: u32,
    /// A text file of invoices, with a line `---` between any two
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/invoices.txt"))]
    file: PathBuf,
}

/// The contents of an invoice.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Invoice {
    /// The sender.
    vendor: String,
    /// The number that the vendor gave it.
    number: u64,
    /// The day on which it was written, as YYYY-MM-DD.
    date: String,
    /// The amount to be paid, in euros.
    total: f64,
}

#[derive(Default, Serialize, Deserialize)]
struct Batch {
    texts: Vec<String>,
    rows: Vec<Invoice>,
}

fn flow(model: &Model, parallel: usize) -> Result<AsyncFlow<Batch>, BuildError> {
    let texts = |batch: &Batch| batch.texts.clone();
    let read = Extract::each(model, "Read this invoice:\n\n{{ item }}", texts, |batch: &mut Batch, rows| {
        batch.rows = rows;
    });
    let read = read
        .system("You turn invoices into JSON.")
        .options(Options { temperature: Some(0.0), max_tokens: Some(300), ..Options::default() })
        .retry(Retry::attempts(4).exponential(Duration::from_millis(500)).jitter())
        .parallel(parallel)
        .journaled();

    let mut flow = AsyncFlow::builder("extract");
    let read = flow.add("read", read);
    flow.start(read);
    flow.build()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let text = fs::read_to_string(&args.file).with_context(|| format!("{} is no text file", args.file.display()))?;
    let texts: Vec<String> = text.split(BETWEEN).map(|text| text.trim().to_owned()).collect();
    ensure!(texts.iter().all(|text| !text.is_empty()), "{} has an empty invoice", args.file.display());

    let flow = flow(&args.model.model(scripts::extract)?, args.parallel as usize)?;
    // The same invoices are the same run, so that the store says which of them are done.
    let mut hash = DefaultHasher::new();
    texts.hash(&mut hash);
    let id = format!("invoices-{:016x}", hash.finish());
    let batch = args.model.run(id, flow, Batch { texts, rows: Vec::new() }, nobody).await?.state();

    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED.with_rounded_corners()).set_header(["vendor", "number", "date", "total"]);
    for Invoice { vendor, number, date, total } in &batch.rows {
        table.add_row([vendor, &number.to_string(), date, &format!("{total:.2}")]);
    }
    println!("{table}");
    Ok(())
}
