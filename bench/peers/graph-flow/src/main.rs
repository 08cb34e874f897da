//! The cases with graph-flow: `peer-graph-flow <case> [--n N]` prints one line of JSON.
//!
//! Everything runs through `Graph::execute_session` with chained tasks, its fastest form: no storage in between.
//!
//! Two cases are missing: `chain`, since a task is always async, and `fanout-100`, since `FanOutTask` has no limit.

use std::{error::Error, process::ExitCode, time::Instant};

use serde_json::json;

mod cases;
mod measure;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// One case: what does the work, how often, and whether the n are alive at once.
struct Case {
    name: &'static str,
    run: fn(usize) -> Fallible<()>,
    n: usize,
    memory: bool,
}

const CASES: [Case; 3] = [
    Case { name: "async-chain", run: cases::async_chain, n: 1_000_000, memory: false },
    Case { name: "concurrent", run: cases::concurrent, n: 200_000, memory: true },
    Case { name: "fanout", run: cases::fanout, n: 200_000, memory: true },
];

/// As in the peers' `measure.py`: enough to have started every part once.
const WARM_UP: usize = 20;

fn main() -> ExitCode {
    match line() {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn line() -> Fallible<String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, n) = match arguments.as_slice() {
        [name] => (name, None),
        [name, flag, n] if flag == "--n" => (name, Some(n.parse::<usize>()?)),
        _ => return Err("usage: peer-graph-flow <case> [--n N]".into()),
    };
    let case = CASES.iter().find(|case| case.name == name).ok_or_else(|| format!("no case `{name}`"))?;
    let n = n.unwrap_or(case.n);

    (case.run)(WARM_UP)?;
    let (peak, cpu, wall) = (measure::peak_bytes()?, measure::cpu_seconds()?, Instant::now());
    (case.run)(n)?;
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), measure::cpu_seconds()? - cpu);
    let growth = (measure::peak_bytes()? - peak) / n as f64;
    let bytes = case.memory.then_some(growth);

    let line =
        json!({ "case": name, "n": n, "peer": "graph-flow", "wall_s": wall, "cpu_s": cpu, "bytes_per_run": bytes });
    Ok(line.to_string())
}
