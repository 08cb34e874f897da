//! `cargo xtask bench`: each case beside its limit, and with `--peers` beside other engines.
//!
//! A figure is a median of five rounds. What is shown is the cost of one of the n: a step, a run or an item.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    arguments::{Arguments, Usage},
    run::{build_release, cargo, root, shown_output},
};

mod peers;
mod table;

/// A case of `flowstone-bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    name: &'static str,
    /// The name of one of the n.
    unit: &'static str,
    /// `true` if each of the n waits, so that the wall time of one depends on how many wait at once.
    waits: bool,
}

const CASES: [Case; 9] = [
    Case { name: "chain", unit: "step", waits: false },
    Case { name: "async-chain", unit: "step", waits: false },
    Case { name: "concurrent", unit: "run", waits: true },
    Case { name: "fanout", unit: "item", waits: true },
    Case { name: "fanout-100", unit: "item", waits: true },
    Case { name: "durable-chain", unit: "visit", waits: false },
    Case { name: "durable-many", unit: "visit", waits: false },
    Case { name: "durable-many-chats", unit: "visit", waits: false },
    Case { name: "durable-resume", unit: "run", waits: false },
];

/// The cost of n of a case; bytes are for one of the n.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    wall: f64,
    cpu: f64,
    bytes: Option<f64>,
}

/// One line of `flowstone-bench --json`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Comparison {
    case: Case,
    n: u64,
    ours: Cost,
    limit: Cost,
}

/// The built program.
struct Ours(PathBuf);

pub(crate) fn bench(mut arguments: Arguments) -> Result<()> {
    let with_peers = arguments.flag("--peers");
    let cases = cases(&arguments.rest()?)?;
    let root = root()?;
    let peers = if with_peers { peers::build(&root)? } else { Vec::new() };
    let ours = Ours(build_release(cargo(&root).args(["build", "--package", "flowstone-bench"]))?);

    let mut comparisons = Vec::new();
    let mut duels = Vec::new();
    for case in cases {
        let comparison = ours.compare(case, None)?;
        comparisons.push(comparison);
        duels.extend(peers::compare(&peers, &ours, &comparison)?);
    }
    println!("{}", table::limits(&comparisons));
    if with_peers {
        println!("\n{}", table::peers(&duels));
    }
    Ok(())
}

fn cases(names: &[String]) -> Result<Vec<Case>> {
    if names.is_empty() {
        return Ok(CASES.to_vec());
    }
    let find = |name: &String| {
        let known = || CASES.map(|case| case.name).join(", ");
        let found = CASES.into_iter().find(|case| case.name == *name);
        found.ok_or_else(|| Usage::error(format!("no case `{name}`; there are {}", known())))
    };
    names.iter().map(find).collect()
}

impl Ours {
    /// Measures Flowstone and the limit, in turn, in one process.
    fn compare(&self, case: Case, n: Option<u64>) -> Result<Comparison> {
        let mut command = std::process::Command::new(&self.0);
        command.args([case.name, "--json"]);
        if let Some(n) = n {
            command.args(["--n", &n.to_string()]);
        }
        let line = json_line(&shown_output(&mut command)?)?;
        Comparison::read(case, &line).with_context(|| format!("flowstone-bench printed something unknown: {line}"))
    }
}

impl Comparison {
    fn read(case: Case, line: &Value) -> Option<Self> {
        let (ours, limit) = (Cost::read(line.get("ours")?)?, Cost::read(line.get("limit")?)?);
        Some(Self { case, n: line.get("n")?.as_u64()?, ours, limit })
    }
}

impl Cost {
    fn read(value: &Value) -> Option<Self> {
        let seconds = |key: &str| value.get(key)?.as_f64();
        Some(Self { wall: seconds("wall_s")?, cpu: seconds("cpu_s")?, bytes: seconds("bytes_per_run") })
    }
}

/// The last line, as JSON: a program may say more before it.
fn json_line(text: &str) -> Result<Value> {
    let line = text.trim_end().lines().next_back().unwrap_or_default();
    ensure!(line.starts_with('{'), "a line of JSON was expected, not `{line}`");
    serde_json::from_str(line).with_context(|| format!("`{line}` is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_read_from_its_line() {
        let line = r#"{"case":"chain","n":4,"ours":{"wall_s":2.0,"cpu_s":1.0,"bytes_per_run":null},
                       "limit":{"wall_s":1.0,"cpu_s":0.5,"bytes_per_run":7.0}}"#;

        let comparison = Comparison::read(CASES[0], &serde_json::from_str(line).unwrap()).unwrap();

        assert_eq!(comparison.n, 4);
        assert_eq!(comparison.ours, Cost { wall: 2.0, cpu: 1.0, bytes: None });
        assert_eq!(comparison.limit.bytes, Some(7.0));
    }

    #[test]
    fn an_unknown_case_is_a_usage_error() {
        assert!(cases(&["chains".to_owned()]).unwrap_err().is::<Usage>());
        assert_eq!(cases(&["fanout".to_owned()]).unwrap(), [CASES[3]]);
    }
}
