//! The project's jobs, each as `cargo xtask <job>`: what CI calls and what people call is the same.
//!
//! | module | job |
//! |---|---|
//! | [`test`](mod@test) | every test of the workspace, doc tests included |
//! | [`lint`] | format, clippy, docs, layers, and the rules that can be read from text |
//! | [`conformance`] | random flows, compared with the real PocketFlow |
//! | [`bench`](mod@bench) | every case beside its limit, and beside the peers |
//! | [`crash`] | durable runs that are killed at random times and at every write |
//! | [`model`] | a small model on this machine, and the tests that want one |
//! | [`peers`] | the programs from elsewhere that tests speak with |
//! | [`run`], [`stages`], [`arguments`], [`venv`] | what the jobs share |

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::{Arguments, Usage};

mod arguments;
mod bench;
mod conformance;
mod crash;
mod lint;
mod model;
mod peers;
mod run;
mod stages;
mod test;
mod venv;

const HELP: &str = "\
cargo xtask <job>

  test                            every test: unit, integration, examples, compile errors, doc tests; installs the
                                  programs from PyPI and npm that some of them speak with
  test --real-model               the tests that speak with a real model, which is installed and started
  lint                            format, clippy, docs, layers, and the rules that can be read from text
  bench [--peers] [CASE...]       every case beside its limit; with --peers beside other engines too
  model [--port P]                a small model on this machine (8080), for programs, until Ctrl-C
  conformance --kit DIR           flows compared with PocketFlow, by the kit in DIR
              [--count N]         random flows of each profile (1000)
              [--seeds S,S...]    seeds of the random flows (one, from the clock)
  crash [--seeds N]               durable runs, killed at random times and at every write, with N seeds (200)
        [--from SEED]             the first seed (from the clock)
        [--jobs J]                how many seeds at once (2)
        [--power N]               instead, N power cuts of a disk that loses what was not synced: at every sync, and at
                                  random writes; with --jobs 8, 2,000 of them take some minutes";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(job) = words.next() else {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    };
    match dispatch(&job, Arguments::new(words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Usage>() => {
            eprintln!("error: {error}\n\n{HELP}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(job: &str, arguments: Arguments) -> Result<()> {
    match job {
        "test" => test::test(arguments),
        "lint" => lint::lint(arguments),
        "bench" => bench::bench(arguments),
        "model" => model::model(arguments),
        "conformance" => conformance::conformance(arguments),
        "crash" => crash::crash(arguments),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        unknown => Err(Usage::error(format!("no job `{unknown}`"))),
    }
}
