//! A CSV file in chunks: a batch node whose items are parts of a file too large to be taken at once.
//!
//! ```text
//! cargo run --example batch_csv
//! cargo run --example batch_csv -- --chunk 4 my_sales.csv
//! ```
#![expect(clippy::print_stdout, reason = "what it prints is what it shows")]

use std::{collections::BTreeMap, fs, num::NonZeroUsize, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use flowstone::{BuildError, prelude::*};
use serde::{Deserialize, Serialize};

pub(crate) const SALES: &str = include_str!("../data/sales.csv");

#[derive(Parser)]
struct Args {
    /// A file with the columns date, product, quantity, price; without one, the example's own
    file: Option<PathBuf>,
    /// The number of rows in a chunk
    #[arg(long, value_name = "ROWS", default_value = "10")]
    chunk: NonZeroUsize,
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Report {
    csv: String,
    chunks: usize,
    rows: usize,
    /// Quantity and cents by product.
    totals: Totals,
}

type Totals = BTreeMap<String, (u64, u64)>;

/// Some rows of the file, each with its line number.
struct Chunk(Vec<(usize, String)>);

struct Sum {
    rows: NonZeroUsize,
}

#[node(batch)]
impl Sum {
    fn prep(&self, report: &Report) -> Vec<Chunk> {
        let rows: Vec<_> = (1..).zip(report.csv.lines().map(str::to_owned)).skip(1).collect();
        rows.chunks(self.rows.get()).map(|rows| Chunk(rows.to_vec())).collect()
    }

    fn exec(&self, chunk: &Chunk) -> Result<Totals> {
        let mut totals = Totals::new();
        for (line, row) in &chunk.0 {
            let (product, quantity, cents) = sale(row).ok_or_else(|| format!("line {line} is no sale: `{row}`"))?;
            let total = totals.entry(product.to_owned()).or_default();
            *total = (total.0 + quantity, total.1 + quantity * cents);
        }
        Ok(totals)
    }

    fn post(&self, report: &mut Report, chunks: Vec<Chunk>, sums: Vec<Totals>) {
        report.chunks = chunks.len();
        report.rows = chunks.iter().map(|chunk| chunk.0.len()).sum();
        for (product, (quantity, cents)) in sums.into_iter().flatten() {
            let total = report.totals.entry(product).or_default();
            *total = (total.0 + quantity, total.1 + cents);
        }
    }
}

/// Reads `2026-01-05,tea,3,4.50` as a product, a quantity and cents.
fn sale(row: &str) -> Option<(&str, u64, u64)> {
    let [_date, product, quantity, price] = row.split(',').collect::<Vec<_>>().try_into().ok()?;
    let (whole, cents) = price.trim().split_once('.')?;
    let cents = if cents.len() == 2 { cents.parse::<u64>().ok()? } else { return None };
    Some((product, quantity.trim().parse().ok()?, whole.parse::<u64>().ok()? * 100 + cents))
}

fn print(report: &mut Report) {
    println!("{} rows in {} chunks", report.rows, report.chunks);
    for (product, (quantity, cents)) in &report.totals {
        println!("{product:<10} {quantity:>5} pieces {:>8}.{:02}", cents / 100, cents % 100);
    }
    let (quantity, cents) = report.totals.values().fold((0, 0), |sum, total| (sum.0 + total.0, sum.1 + total.1));
    println!("{:<10} {quantity:>5} pieces {:>8}.{:02}", "total", cents / 100, cents % 100);
}

pub(crate) fn flow(chunk: NonZeroUsize) -> Result<Flow<Report>, BuildError> {
    let mut flow = Flow::builder("sales");
    let sum = flow.add("sum", Sum { rows: chunk });
    let print = flow.add("print", print);
    flow.start(sum);
    flow.route(sum >> print);
    flow.build()
}

/// The state to start with.
pub(crate) fn report_of(csv: String) -> Report {
    Report { csv, ..Report::default() }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let csv = match &args.file {
        Some(file) => fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?,
        None => SALES.to_owned(),
    };

    flow(args.chunk)?.run(&mut report_of(csv))?;
    Ok(())
}
