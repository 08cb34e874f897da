//! The flow over a batch of invoices.
//!
//! ```text
//! extract (32 at once, journaled) ─ none over ─▶ post (8 at once, journaled) ─▶ end
//!        └──── some over the limit ─▶ approve ──────▲
//! ```

use std::{collections::BTreeSet, sync::Arc};

use flowstone::{BuildError, NodePath, prelude::*};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{extraction::Extraction, ledger::Ledger, texts};

/// The number of extractions that are under way at once: as many may have to be made again after a kill.
pub(crate) const AT_ONCE: usize = 32;

/// The state of a run: a batch of invoices.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) seed: u64,
    pub(crate) count: u32,
    /// Above so many cents a person is asked.
    pub(crate) limit: u64,
    /// The extracted invoices, in the order of the texts.
    pub(crate) invoices: Vec<Invoice>,
    /// The numbers of those that were not approved.
    pub(crate) rejected: BTreeSet<u32>,
    pub(crate) posted: usize,
}

/// An invoice, extracted from a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Invoice {
    pub(crate) number: u32,
    pub(crate) vendor: String,
    pub(crate) date: String,
    pub(crate) cents: u64,
}

impl Batch {
    pub(crate) fn new(seed: u64, count: u32, limit: u64) -> Self {
        Self { seed, count, limit, invoices: Vec::new(), rejected: BTreeSet::new(), posted: 0 }
    }

    fn over_limit(&self) -> impl Iterator<Item = &Invoice> {
        self.invoices.iter().filter(|invoice| invoice.cents > self.limit)
    }

    /// Returns the number of items of a node.
    pub(crate) fn items_of(&self, node: &NodePath) -> u64 {
        if node.as_str() == "extract" { u64::from(self.count) } else { self.approved().count() as u64 }
    }

    pub(crate) fn approved(&self) -> impl Iterator<Item = &Invoice> {
        self.invoices.iter().filter(|invoice| !self.rejected.contains(&invoice.number))
    }
}

struct Extract {
    service: Extraction,
}

#[derive(Action)]
enum Amounts {
    NoneOver,
    SomeOver,
}

#[node(batch)]
impl Extract {
    fn prep(&self, batch: &Batch) -> Vec<String> {
        (1..=batch.count).map(|number| texts::invoice(batch.seed, number)).collect()
    }

    async fn exec(&self, text: &str) -> Result<Invoice> {
        self.service.extract(text).await
    }

    fn post(&self, batch: &mut Batch, _texts: Vec<String>, invoices: Vec<Invoice>) -> Amounts {
        batch.invoices = invoices;
        if batch.over_limit().next().is_some() { Amounts::SomeOver } else { Amounts::NoneOver }
    }
}

/// Asks a person whether the invoices over the limit are to be paid.
struct Approve;

/// A person's answer: `"all"`, `"none"`, or `{"all_but":[17]}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Approval {
    All,
    None,
    AllBut(BTreeSet<u32>),
}

#[derive(Action)]
enum Understood {
    Yes,
    No,
}

impl Ask<Batch> for Approve {
    type Question = Vec<Invoice>;
    type Answer = Approval;
    type Action = Understood;

    fn ask(&self, batch: &Batch) -> Result<Vec<Invoice>> {
        Ok(batch.over_limit().cloned().collect())
    }

    fn schema(&self) -> Value {
        let all_but = json!({ "type": "array", "items": { "type": "integer", "minimum": 1 } });
        let all_but = json!({ "type": "object", "properties": { "all_but": all_but }, "required": ["all_but"],
            "additionalProperties": false });
        json!({ "anyOf": [{ "enum": ["all", "none"] }, all_but] })
    }

    fn post(&self, batch: &mut Batch, answer: Approval) -> Result<Understood> {
        let asked: BTreeSet<u32> = batch.over_limit().map(|invoice| invoice.number).collect();
        batch.rejected = match answer {
            Approval::All => BTreeSet::new(),
            Approval::None => asked,
            Approval::AllBut(numbers) if numbers.is_subset(&asked) => numbers,
            // A wrong number may stand for one that is to be rejected.
            Approval::AllBut(_) => return Ok(Understood::No),
        };
        Ok(Understood::Yes)
    }
}

/// Posts what was approved, each invoice once: after a kill, the key tells the ledger what it has already.
struct Post {
    ledger: Arc<Ledger>,
}

#[node(batch)]
impl Post {
    fn prep(&self, batch: &Batch) -> Vec<Invoice> {
        batch.approved().cloned().collect()
    }

    fn exec(&self, invoice: &Invoice, cx: &Context) -> Result<()> {
        Ok(self.ledger.post(&cx.idempotency_key(), invoice)?)
    }

    fn post(&self, batch: &mut Batch, invoices: Vec<Invoice>, _posted: Vec<()>) {
        batch.posted = invoices.len();
    }
}

pub(crate) fn flow(service: Extraction, ledger: Ledger) -> Result<AsyncFlow<Batch>, BuildError> {
    let retry = Retry::attempts(8).exponential(Duration::from_millis(50)).jitter();
    let extract = Extract { service }.parallel(AT_ONCE).retry(retry).timeout(Duration::from_secs(2)).journaled();
    let post = Post { ledger: Arc::new(ledger) }.parallel(8).journaled();

    let mut flow = AsyncFlow::builder("invoices");
    let extract = flow.add("extract", extract);
    let approve = flow.add("approve", Approve);
    let post = flow.add("post", post);
    flow.start(extract);
    flow.route(extract - Amounts::NoneOver >> post);
    flow.route(extract - Amounts::SomeOver >> approve);
    flow.route(approve - Understood::Yes >> post);
    flow.route(approve - Understood::No >> approve);
    flow.build()
}
