//! The flows of the desk: an invoice with an approval, a year of months, a reminder.

use std::{path::PathBuf, time::Duration};

use flowstone_core::{
    Ask, AsyncBatchNode, AsyncFlow, BuildError, Context, NodeError, NodeExt, Result, Retry, Sleep, step,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An invoice on its way.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Invoice {
    /// The amounts to be paid, in cents.
    pub(crate) lines: Vec<i64>,
    /// A file that has to be there before the lines are looked at.
    pub(crate) scan: Option<PathBuf>,
    pub(crate) checked: Vec<i64>,
    pub(crate) approved: Option<String>,
    pub(crate) total: i64,
}

/// Checks an invoice, asks for its approval, and adds it up.
pub(crate) fn invoice() -> Result<AsyncFlow<Invoice>, BuildError> {
    let mut flow = AsyncFlow::builder("invoice");
    let scan =
        flow.add("scan", step(|invoice: &Invoice| invoice.scan.clone(), wait_for_scan, |_: &mut Invoice, _, ()| ()));
    let check = flow.add("check", Check.retry(Retry::attempts(2)));
    let approve = flow.add("approve", Approve);
    let post = flow.add("post", |invoice: &mut Invoice| invoice.total = invoice.checked.iter().sum());
    flow.start(scan);
    flow.route(scan >> check >> approve >> post);
    flow.build()
}

async fn wait_for_scan(scan: Option<PathBuf>) -> Result<()> {
    while scan.as_ref().is_some_and(|scan| !scan.exists()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Checks every line. A line of 0 cents needs two attempts; a negative one is wrong.
struct Check;

impl AsyncBatchNode<Invoice> for Check {
    type Item = i64;
    type Output = i64;
    type Outcome = i64;
    type Action = ();

    async fn prep(&self, invoice: &Invoice) -> Result<Vec<i64>> {
        Ok(invoice.lines.clone())
    }

    async fn exec(&self, line: &i64, cx: &Context) -> Result<i64> {
        match *line {
            0 if cx.attempt() == 0 => Err("the price list is busy".into()),
            line if line < 0 => Err(NodeError::terminal(format!("a line of {line} cents"))),
            line => Ok(line),
        }
    }

    async fn post(&self, invoice: &mut Invoice, _lines: Vec<i64>, checked: Vec<i64>) -> Result<()> {
        invoice.checked = checked;
        Ok(())
    }
}

/// Asks whether an invoice may be paid.
struct Approve;

impl Ask<Invoice> for Approve {
    type Question = Value;
    type Answer = String;
    type Action = ();

    fn ask(&self, invoice: &Invoice) -> Result<Value> {
        Ok(json!({ "pay": invoice.checked }))
    }

    fn schema(&self) -> Value {
        json!({ "enum": ["yes", "no"] })
    }

    fn post(&self, invoice: &mut Invoice, answer: String) -> Result<()> {
        invoice.approved = Some(answer);
        Ok(())
    }
}

/// The turnover of a year.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Year {
    pub(crate) months: Vec<u32>,
    pub(crate) sum: u32,
}

/// Works on the months of a year, each as a run of its own; one without turnover fails.
pub(crate) fn year() -> Result<AsyncFlow<Year>, BuildError> {
    let mut month = AsyncFlow::builder("month");
    let double = month.add("double", |turnover: &mut u32| -> Result<()> {
        *turnover *= 2;
        if *turnover == 0 { Err(NodeError::terminal("no turnover")) } else { Ok(()) }
    });
    month.start(double);
    let fork = |year: &Year| year.months.clone();
    let join = |year: &mut Year, months: Vec<u32>| year.sum = months.iter().sum();

    let mut flow = AsyncFlow::builder("year");
    let months = flow.add("months", month.build()?.batch(fork, join).journaled());
    flow.start(months);
    flow.build()
}

/// Waits for as many milliseconds as its state says.
pub(crate) fn reminder() -> Result<AsyncFlow<u64>, BuildError> {
    let mut flow = AsyncFlow::builder("reminder");
    let wait = flow.add("wait", Sleep::by(|millis: &u64| Duration::from_millis(*millis)));
    let ring = flow.add("ring", |millis: &mut u64| *millis = 0);
    flow.start(wait);
    flow.route(wait >> ring);
    flow.build()
}
