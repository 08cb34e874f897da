//! Reads specs, one a line, and prints their traces, one a line: Flowstone as an implementation of the kit.

use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
};

use flowstone_conformance::{run::Runner, spec::Spec};

fn main() -> ExitCode {
    let Err(error) = answer_all(io::stdin().lock(), io::stdout().lock()) else { return ExitCode::SUCCESS };
    // Nothing is left to tell an error of standard error to.
    let _ = writeln!(io::stderr(), "flowstone-conformance: {error}");
    ExitCode::FAILURE
}

/// Answers every line, each before the next is read.
fn answer_all(specs: impl BufRead, mut traces: impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let runner = Runner::new()?;
    for (number, line) in specs.lines().enumerate() {
        let line_error = |error: &dyn std::error::Error| format!("line {}: {error}", number + 1);
        let line = line.map_err(|error| line_error(&error))?;
        let spec = Spec::parse(&line).map_err(|error| line_error(&error))?;
        serde_json::to_writer(&mut traces, &runner.answer(&spec))?;
        traces.write_all(b"\n")?;
        traces.flush()?;
    }
    Ok(())
}
