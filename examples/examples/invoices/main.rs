//! A batch of invoices, from texts to the ledger, that can be killed at any time: nothing is paid for twice.
//!
//! ```text
//! cargo run --release --features durable --example invoices -- --store invoices.db    # kill it; again
//! cargo run --release --features durable --example invoices -- --store invoices.db --approve  # asks nothing
//! ```
//!
//! 2,000 invoices are read by a slow and flaky service, which is a process of its own. A person approves those over a
//! limit, with `flowstone runs answer` from another terminal. The rest is posted to a ledger. Beside the store are the
//! ledger, `invoices.db.ledger.csv`, and what the service was asked for, `invoices.db.requests.txt`.
//!
//! | file | what it holds |
//! |---|---|
//! | `flow` | the flow, its state and its nodes |
//! | `extraction`, `service` | the client of the service and its process; the service itself |
//! | `ledger` | where each invoice is posted once |
//! | `texts` | invoices, made up from a seed |
//! | `screen` | what a person sees |
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

pub(crate) mod extraction;
pub(crate) mod flow;
pub(crate) mod ledger;
mod screen;
pub(crate) mod service;
mod texts;

use std::{
    path::{Path, PathBuf},
    pin::pin,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use flowstone::{
    durable::{Ended, ReadError, Reader, Status},
    prelude::*,
};
use flowstone_examples::wait::millis;

use self::{
    extraction::{Extraction, Service},
    flow::{Approval, Batch, flow},
    ledger::Ledger,
    screen::Screen,
    service::{ServiceArgs, serve},
};

#[derive(Parser)]
#[command(
    about = "Extracts, approves and posts a batch of invoices, and goes on where it was killed",
    args_conflicts_with_subcommands = true
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The store; if a run of this batch is in it, that one goes on
    #[arg(long, value_name = "FILE", default_value = "invoices.db")]
    store: PathBuf,
    /// The number of invoices
    #[arg(long, value_name = "N", default_value_t = 2000)]
    count: u32,
    /// Above which amount a person is asked
    #[arg(long, value_name = "EUROS", default_value_t = 5000)]
    limit: u32,
    /// The seed of the texts and of the service's failures
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// The time that the service takes for an answer, in milliseconds
    #[arg(long, value_name = "MS", default_value = "20", value_parser = millis)]
    latency: Duration,
    /// Approve every amount
    #[arg(long)]
    approve: bool,
}

#[derive(Subcommand)]
enum Command {
    Service(ServiceArgs),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Command::Service(service)) = &args.command {
        return serve(service).await;
    }
    let store = Store::open(&args.store).await?;
    let ledger = Ledger::open(&beside(&args.store, ".ledger.csv")).context("the ledger cannot be opened")?;
    let service = Service::start(&beside(&args.store, ".requests.txt"), args.seed, args.latency)
        .context("the extraction service does not start")?;
    eprintln!("invoices: extractions are served at {}", service.url);
    let runs = store.runs(flow(Extraction::at(&service.url), ledger)?).await?;

    let Args { seed, count, limit, .. } = args;
    let id = format!("{count}-invoices-of-seed-{seed}-limit-{limit}");
    match Reader::open(&args.store)?.items_done(id.as_str()) {
        Ok(0) | Err(ReadError::UnknownRun { .. }) => {}
        done => eprintln!("invoices: going on; {} items of the step under way are not done again", done?),
    }
    let run = runs.start(id, Batch::new(seed, count, u64::from(limit) * 100)).await?;
    if run.info().await?.status == Status::Failed {
        run.retry_failed().await?;
    }
    let ended = drive(&run, &args).await;

    store.close().await;
    screen::sum_up(&ended?.state, &beside(&args.store, ".ledger.csv"));
    Ok(())
}

/// The path of a file that belongs to the store.
fn beside(store: &Path, suffix: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Waits for the end of the run; shows meanwhile how far it is, and puts its question to somebody.
async fn drive(run: &Run<Batch>, args: &Args) -> anyhow::Result<Ended<Batch>> {
    let store = Reader::open(&args.store)?;
    let (mut screen, mut asked) = (Screen::default(), None);
    let mut finished = pin!(run.finished());
    loop {
        tokio::select! {
            ended = &mut finished => {
                screen.clear();
                return Ok(ended?.ended()?);
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        let info = store.run(run.id().clone())?;
        match (info.status, info.node) {
            (Status::Running, Some(node)) => {
                if screen.node() != Some(&node) {
                    screen.begin(&node, run.state().await?.items_of(&node));
                }
                screen.show(store.items_done(run.id().clone())?);
            }
            (Status::Paused, _) if asked != Some(info.step) => {
                asked = Some(info.step);
                let Some(question) = run.questions().await?.pop() else { continue };
                if args.approve {
                    run.answer_question(&question, Approval::All).await?;
                } else {
                    screen.ask(&question, run.id(), &args.store)?;
                }
            }
            _ => {}
        }
    }
}
