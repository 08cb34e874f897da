//! Each case beside its physical limit: `flowstone-bench [<case>…] [--n N] [--json]`.
//!
//! A figure is a median of five rounds, ours and the limit in turn. Memory is the peak of a process of its own
//! (`--peak ours|limit`, which this program calls on itself).

#![expect(clippy::print_stdout, reason = "a program's output")]

use anyhow::{Context, Result, bail};
use flowstone_bench::{
    cases::CASES,
    measure::{Case, Side, peak_memory},
};

const USAGE: &str = "usage: flowstone-bench [<case>...] [--n N] [--json]";

struct Arguments {
    cases: Vec<Case>,
    n: Option<usize>,
    json: bool,
    peak: Option<Side>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if let Some(side) = arguments.peak {
        let case = arguments.cases[0];
        case.run(side, arguments.n.unwrap_or(case.n));
        println!("{}", peak_memory()?);
        return Ok(());
    }
    if !arguments.json {
        println!("ours / limit, each of the n; medians of five rounds in turn");
    }
    for case in &arguments.cases {
        let comparison = case.compare(arguments.n.unwrap_or(case.n))?;
        if arguments.json {
            println!("{}", comparison.to_json());
        } else {
            println!("{}", comparison.row());
        }
    }
    Ok(())
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self { cases: Vec::new(), n: None, json: false, peak: None };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--json" => parsed.json = true,
                "--n" => {
                    let n = words.next().with_context(|| format!("--n takes a number; {USAGE}"))?;
                    let n: usize =
                        n.replace('_', "").parse().with_context(|| format!("--n takes a number, not `{n}`"))?;
                    parsed.n = Some(n.max(1));
                }
                "--peak" => {
                    parsed.peak = match words.next().as_deref() {
                        Some("ours") => Some(Side::Ours),
                        Some("limit") => Some(Side::Limit),
                        _ => bail!("--peak takes `ours` or `limit`"),
                    }
                }
                name => {
                    let known = || CASES.map(|case| case.name).join(", ");
                    let case = CASES.into_iter().find(|case| case.name == name);
                    parsed
                        .cases
                        .push(case.with_context(|| format!("no case `{name}`; there are {}; {USAGE}", known()))?);
                }
            }
        }
        if parsed.cases.is_empty() {
            parsed.cases = CASES.to_vec();
        }
        Ok(parsed)
    }
}
