//! The weather of any number of cities, fetched at once: HTTP, retries, time limits, a flow per city, a pause.
//!
//! ```text
//! cargo run --release --example weather -- London Paris Tokyo
//! cargo run --release --example weather              # asks for the cities
//! cargo run --release --features live --example weather -- --live Oslo
//! cargo run --release --features durable --example weather -- --store weather.db --delay-ms 2000 London Paris Tokyo
//! ```
//!
//! By default the program brings its own small weather service, of whose answers one in twenty is an error 500: the
//! retries absorb it (`--verbose` shows how). A city that nobody knows is asked for again, on a terminal; elsewhere it
//! is a line on standard error, and the others go on. The exit code is 0 if every city has its weather, 1 if one has
//! not, 2 if there was nothing to ask for.
//!
//! `--live` asks the real Open-Meteo. With `--store` the run is kept in a file: killed in the middle and started again
//! with the same command, it goes on, and says which cities it does not ask again. Both take longer to compile, so each
//! has a feature.
//!
//! `flow` has the flows: one over a city, and the one around it. `terminal` has everything that a person sees. `store`
//! runs the same flow in a file.
#![expect(clippy::print_stderr, reason = "a program for the command line")]

pub(crate) mod flow;
#[cfg(feature = "durable")]
mod store;
mod terminal;

use std::{
    io::{self, IsTerminal, stdin},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::Parser;
use flowstone::prelude::*;
use flowstone_examples::{
    features::lacks,
    open_meteo::OpenMeteo,
    progress::Progress,
    service::{Manners, Service},
    wait::millis,
};
use serde_json::Value;

use self::{
    flow::{Patience, Trip, city_flow, trip_flow},
    terminal::{Person, complain, draw_table, print, put, show},
};

/// Shows the weather of cities.
///
/// By default from the program's own service, which makes it up. Ends with 0 if every city has its weather, with 1 if
/// any has not, with 2 for a command line that it does not understand.
#[derive(Parser)]
struct Args {
    /// The cities; without any, the program asks
    #[arg(value_parser = name)]
    cities: Vec<String>,
    /// Ask the real Open-Meteo, over the network
    #[arg(long, conflicts_with = "service")]
    live: bool,
    /// Ask a service that speaks like Open-Meteo, at this base URL
    #[arg(long, value_name = "URL")]
    service: Option<String>,
    /// Keep the run in this file: if it is cut off, the same command goes on with it. Once it has ended, the same
    /// command begins a new one
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Tell of every attempt that failed
    #[arg(short, long)]
    verbose: bool,
    /// Ask for cities also when standard input is not a terminal
    #[arg(long)]
    ask: bool,
    /// The number of times that a request is tried
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// The time that one attempt has, in milliseconds
    #[arg(long, value_name = "MS", default_value = "5000", value_parser = millis)]
    timeout_ms: Duration,
    /// The time that a request has with all its attempts and waits, in milliseconds
    #[arg(long, value_name = "MS", default_value = "30000", value_parser = millis)]
    patience_ms: Duration,
    /// The time that the program's own service takes for an answer, in milliseconds
    #[arg(long, value_name = "MS", default_value = "150", value_parser = millis)]
    delay_ms: Duration,
    /// Of a hundred answers of the program's own service, how many are errors
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=100))]
    failures: u64,
}

impl Args {
    /// Says how to build the program with what these options need, if this build is without it.
    fn lacks(&self) -> Option<String> {
        let options = [
            (self.live && !cfg!(feature = "live"), "--live", "live"),
            (self.store.is_some() && !cfg!(feature = "durable"), "--store", "durable"),
        ];
        options.into_iter().find(|(lacks, ..)| *lacks).map(|(_, option, feature)| lacks("weather", option, feature))
    }
}

/// Takes the name of a city, which is not empty.
fn name(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    if name.is_empty() { Err("a city has a name") } else { Ok(name.to_owned()) }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(message) = args.lacks() {
        eprintln!("{message}");
        return Ok(ExitCode::from(2));
    }
    let person = if args.ask || stdin().is_terminal() { Person::Here } else { Person::Away };
    if args.cities.is_empty() && person == Person::Away {
        eprintln!("weather: no city given: name one or more, as in `weather London Paris`");
        return Ok(ExitCode::from(2));
    }
    let own = own_service(&args).await.context("the program's own weather service does not start")?;
    let service = match own.as_ref().map(Service::url).or(args.service.as_deref()) {
        Some(url) => OpenMeteo::at(url)?,
        None => OpenMeteo::live().context("the HTTP client does not start")?,
    };
    let patience = Patience { attempts: args.attempts, attempt: args.timeout_ms, total: args.patience_ms };
    let flow = trip_flow(city_flow(service, patience)?)?;
    let mut trip = Trip::default();
    trip.add(args.cities.iter().cloned());

    let bar = Arc::new(Progress::new(trip.cities.len() as u64, "cities"));
    let shown = Arc::clone(&bar);
    let show = move |event: &Event| show(event, &shown, args.verbose);
    let ask = |question: &_| put(question, person, &bar);
    match &args.store {
        #[cfg(feature = "durable")]
        Some(file) => trip = store::run(file, flow, trip, show, ask).await?,
        _ => run(&flow, &mut trip, show, ask).await?,
    }
    bar.clear();

    let text = if args.json { serde_json::to_string_pretty(&trip)? } else { draw_table(&trip) };
    print(&text)?;
    if own.is_some() && !args.json {
        eprintln!("weather: from the program's own service, and made up; --live asks Open-Meteo");
    }
    Ok(complain(&trip, args.live))
}

/// Starts the program's own service, unless another one is to be asked. It stops when it is dropped.
async fn own_service(args: &Args) -> io::Result<Option<Service>> {
    if args.live || args.service.is_some() {
        return Ok(None);
    }
    Service::start(Manners { delay: args.delay_ms, failures: args.failures }).await.map(Some)
}

/// Runs the flow in memory, to its end or to a question that nobody answers.
async fn run(
    flow: &AsyncFlow<Trip>,
    trip: &mut Trip,
    show: impl Fn(&Event) + Send + Sync + 'static,
    ask: impl Fn(&Value) -> anyhow::Result<Option<Vec<String>>>,
) -> anyhow::Result<()> {
    let options = RunOptions::new().listen(show);
    let mut outcome = flow.run_async_with(trip, &options).await?;
    while let Outcome::Paused(pause) = outcome {
        let Some(answer) = ask(pause.question())? else { break };
        outcome = flow.resume_with(trip, pause, answer, &options).await?;
    }
    Ok(())
}
