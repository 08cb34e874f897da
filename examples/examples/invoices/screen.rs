//! What a person sees: a bar on a terminal and lines elsewhere, the question, the sum.

use std::path::Path;

use flowstone::{NodePath, RunId, durable::Question};
use indicatif::{ProgressBar, ProgressStyle};

use super::flow::{Batch, Invoice};

/// Shows how far a run is, on standard error.
#[derive(Debug)]
pub(crate) struct Screen {
    bar: ProgressBar,
    /// The node that is shown.
    node: Option<NodePath>,
    /// Where there is no terminal: how many items the last line told of.
    told: u64,
}

impl Default for Screen {
    fn default() -> Self {
        let style = ProgressStyle::with_template("{msg:8} {bar:40} {pos}/{len} {elapsed}");
        let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, node: None, told: 0 }
    }
}

impl Screen {
    pub(crate) fn node(&self) -> Option<&NodePath> {
        self.node.as_ref()
    }

    /// Turns to a node with so many items.
    pub(crate) fn begin(&mut self, node: &NodePath, items: u64) {
        self.bar.set_length(items);
        self.bar.set_message(node.to_string());
        (self.node, self.told) = (Some(node.clone()), 0);
    }

    /// Shows how many items are done.
    pub(crate) fn show(&mut self, done: u64) {
        self.bar.set_position(done);
        let items = self.bar.length().unwrap_or_default();
        if self.bar.is_hidden() && done > self.told + items / 10 {
            self.told = done;
            eprintln!("invoices: {}: {done} of {items}", self.bar.message());
        }
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
