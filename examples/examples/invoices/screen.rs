//! What a person sees: a bar on a terminal and lines elsewhere, the question, the sum.

use std::path::Path;

use flowstone::{RunId, durable::Question};
use indicatif::{ProgressBar, ProgressStyle};

use super::flow::{Batch, Invoice};

/// Shows how far a run is, on standard error.
#[derive(Debug)]
pub(crate) struct Screen {
    bar: ProgressBar,
    /// The node that is shown.
    node: String,
    /// How many items the last line told of, where there is no terminal.
    told: u64,
}

impl Screen {
    pub(crate) fn new(run: &RunId, done: u64) -> Self {
        if done > 0 {
            eprintln!("invoices: going on with {run}; {done} items of its step are done, and not done again");
        }
        let style = ProgressStyle::with_template("{msg:8} {bar:40} {pos}/{len} {elapsed}");
        let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, node: String::new(), told: 0 }
    }

    /// Shows that a node has done so many of its items. How many it has is asked for once.
    pub(crate) async fn show(
        &mut self,
        node: &str,
        done: u64,
        all: impl AsyncFnOnce() -> anyhow::Result<u64>,
    ) -> anyhow::Result<()> {
        if self.node != node {
            self.bar.set_length(all().await?);
            self.bar.set_message(node.to_owned());
            (self.node, self.told) = (node.to_owned(), 0);
        }
        self.bar.set_position(done);
        let all = self.bar.length().unwrap_or_default();
        if self.bar.is_hidden() && done >= self.told + (all / 10).max(1) {
            self.told = done;
            eprintln!("invoices: {node}: {done} of {all}");
        }
        Ok(())
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Says what is asked, and how it is answered.
    pub(crate) fn ask(&self, question: &Question, run: &RunId, store: &Path) -> anyhow::Result<()> {
        let invoices: Vec<Invoice> = serde_json::from_value(question.question.clone())?;
        let total = invoices.iter().map(|invoice| invoice.cents).sum();
        let (count, node, store) = (invoices.len(), &question.node, store.display());
        let all_but = invoices.first().map_or(0, |invoice| invoice.number);
        self.bar.suspend(|| {
            for Invoice { number, vendor, date, cents } in &invoices {
                eprintln!("  {number:>6}  {date}  {vendor:<24} {:>12}", euros(*cents));
            }
            eprintln!("invoices: {count} invoices are over the limit, {} together. To approve them:", euros(total));
            eprintln!("  cargo run --release -p flowstone-cli -- runs answer {run} --node {node} all --store {store}");
            eprintln!("(or, instead of all: none, or '{{\"all_but\":[{all_but}]}}')");
        });
        Ok(())
    }
}

/// Says what became of the batch, on standard output.
pub(crate) fn sum_up(batch: &Batch, ledger: &Path) {
    let total = batch.approved().map(|invoice| invoice.cents).sum();
    let Batch { count, posted, rejected, .. } = batch;
    println!("{count} invoices: {posted} posted, {} together; {} rejected", euros(total), rejected.len());
    println!("ledger: {}", ledger.display());
}

fn euros(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
