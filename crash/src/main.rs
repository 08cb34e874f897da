//! Kills durable runs at random times and at every write, and looks at what is left.
//!
//! ```text
//! parent ── starts itself ──▶ child: drives the runs of a seed    ──▶ ledger: a line for each `exec`
//!        ── SIGKILL ────────▶                                     ──▶ store
//!        ── reads store and ledger: what is committed was done once ──▶ starts it again, up to its end
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `random`, `plan`, `version` | what a seed determines: runs, lives, kills; what each life changes of the program |
//! | `flows`, `nodes`, `ledger` | random flows; what their nodes do, and where they write that down |
//! | `child`, `operator`, `fault` | the process that is killed; what it does to the runs from outside; what stops it |
//! | `process`, `other`, `seed` | starting and killing it; what is asked from beside it; one seed |
//! | `expected`, `found`, `check` | what should be, what is in a store, and the comparison |
//! | `damage` | torn logs and broken files |
//! | `clock`, `probe` | a clock that is set; a pool that is full |
//! | `answers`, `poison`, `at_work` | when somebody answers; runs that kill their process; how many work at once |
//! | `power`, `seen` | power cuts, in this process: `crash/disk` has the disk; what a reader has seen before them |
//! | `report` | the figures |

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod answers;
mod at_work;
mod check;
mod child;
mod clock;
mod damage;
mod expected;
mod fault;
mod flows;
mod found;
mod ledger;
mod nodes;
mod operator;
mod other;
mod plan;
mod poison;
mod power;
mod probe;
mod process;
mod random;
mod report;
mod seed;
mod seen;
mod version;

use std::{
    panic::catch_unwind,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::report::Report;

const HELP: &str = "\
flowstone-crash [--seeds N] [--from SEED] [--jobs J]    kills processes, with N seeds
flowstone-crash --power N [--from SEED] [--jobs J]      cuts the power of a disk N times";

/// The number of failed seeds after which no other begins, since each keeps its files.
const ENOUGH: usize = 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--child") {
        return match child_start(&words[1..]) {
            Ok(start) => child::main(start),
            Err(error) => failed(&error),
        };
    }
    let run = |options: Options| if options.power > 0 { power::run(&options) } else { run(&options) };
    match Options::parse(&words).and_then(run) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(2)
}

/// The options that the parent is started with.
struct Options {
    seeds: u64,
    from: u64,
    jobs: u64,
    /// The number of times to cut the power, instead of killing processes; 0 for not at all.
    power: u64,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut options = Self { seeds: 20, from: since.as_secs() % 1_000_000_000, jobs: 2, power: 0 };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let place = match word.as_str() {
                "--seeds" => &mut options.seeds,
                "--from" => &mut options.from,
                "--jobs" => &mut options.jobs,
                "--power" => &mut options.power,
                _ => bail!("no option `{word}`\n{HELP}"),
            };
            *place = words
                .next()
                .and_then(|value| value.parse().ok())
                .with_context(|| format!("`{word}` takes a number"))?;
        }
        Ok(options)
    }
}

fn child_start(words: &[String]) -> Result<child::Start> {
    let [store, ledger, seed, life, stop @ ..] = words else {
        bail!("a child takes a store, a ledger, a seed and a number of its life")
    };
    let stop = match stop {
        [] => None,
        [job, when, nth] => Some(child::point(job, when, nth.parse()?).context("no such write point")?),
        _ => bail!("a write point is a job, a moment and a number"),
    };
    Ok(child::Start { store: store.into(), ledger: ledger.into(), seed: seed.parse()?, life: life.parse()?, stop })
}

/// Runs the seeds, some at a time, and prints the sum.
fn run(options: &Options) -> Result<ExitCode> {
    let (next, report, begun) = (AtomicU64::new(0), Mutex::new(Report::default()), Instant::now());
    println!("{} seeds from {}", options.seeds, options.from);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| work(options, &next, &report));
        }
    });
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{report}");
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    let gaps = report.gaps();
    gaps.iter().for_each(|gap| eprintln!("{gap}"));
    Ok(if report.failed.is_empty() && gaps.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn work(options: &Options, next: &AtomicU64, report: &Mutex<Report>) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let failed = report.lock().unwrap_or_else(PoisonError::into_inner).failed.len();
        if number >= options.seeds || failed >= ENOUGH {
            return;
        }
        let seed = options.from.wrapping_add(number);
        let result =
            catch_unwind(|| seed::run(seed)).unwrap_or_else(|_| Err(anyhow!("a panic in the parent, see above")));
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(outcome) => report.add(outcome),
            Err(error) => {
                eprintln!("seed {seed}: {error:#}\n  again: cargo xtask crash --seeds 1 --from {seed}");
                report.failed.push(seed);
            }
        }
        let done = report.seeds + report.failed.len() as u64;
        if done.is_multiple_of(100) {
            println!("{done} seeds, {} failed", report.failed.len());
        }
    }
}
