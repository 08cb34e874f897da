//! The screen: a bar on a terminal and lines elsewhere, the question, the sum.

use std::path::Path;

use flowstone::{NodePath, RunId, durable::Question};
use flowstone_examples::progress::Progress;

use super::flow::{Batch, Invoice};

/// Shows how far a run is, on standard error.
#[derive(Debug)]
pub(crate) struct Screen {
    progress: Progress,
    /// The node that is shown, and how many items it has.
    node: Option<(NodePath, u64)>,
    /// Without a terminal: the number of items in the last line.
    told: u64,
}

impl Default for Screen {
    fn default() -> Self {
        Self { progress: Progress::new(0, "invoices"), node: None, told: 0 }
    }
}

impl Screen {
    pub(crate) fn node(&self) -> Option<&NodePath> {
        self.node.as_ref().map(|(node, _)| node)
    }

    /// Turns to a node with so many items.
    pub(crate) fn begin(&mut self, node: &NodePath, items: u64) {
        self.progress.begin(items);
        self.progress.say(node.to_string());
        (self.node, self.told) = (Some((node.clone(), items)), 0);
    }

    /// Shows how many items are done.
    pub(crate) fn show(&mut self, done: u64) {
        self.progress.set(done);
        let Some((node, items)) = &self.node else { return };
        if self.progress.is_hidden() && done > self.told + items / 10 {
            self.told = done;
            eprintln!("invoices: {node}: {done} of {items}");
        }
    }

    pub(crate) fn clear(&self) {
        self.progress.clear();
    }

    /// Says what is asked, and how it is answered.
    pub(crate) fn ask(&self, question: &Question, run: &RunId, store: &Path) -> anyhow::Result<()> {
        let invoices: Vec<Invoice> = serde_json::from_value(question.question.clone())?;
        let total = invoices.iter().map(|invoice| invoice.cents).sum();
        let (count, node, store) = (invoices.len(), &question.node, store.display());
        let all_but = invoices.first().map_or(0, |invoice| invoice.number);
        self.progress.aside(|| {
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
