//! `cargo xtask crash`: kills durable runs at random times and at every write, or cuts the power of their disk, and
//! looks at what is left.
//!
//! The program is `flowstone-crash`, built in release mode; `docs/reliability.md` says what it checks. The tests run a
//! few seeds of it, too.

use std::process::Command;

use anyhow::Result;

use crate::{
    arguments::Arguments,
    run::{build_release, cargo, root, run},
};

/// The number of seeds, unless `--seeds` says otherwise: about two minutes.
const SEEDS: u64 = 200;

/// Builds the program and runs it with the seeds that are asked for.
pub(crate) fn crash(mut arguments: Arguments) -> Result<()> {
    let seeds = arguments.value("--seeds")?.unwrap_or(SEEDS);
    let (from, jobs): (Option<u64>, Option<u64>) = (arguments.value("--from")?, arguments.value("--jobs")?);
    let power: Option<u64> = arguments.value("--power")?;
    arguments.end()?;

    let program = build_release(cargo(&root()?).args(["build", "--package", "flowstone-crash"]))?;
    let mut command = Command::new(program);
    command.arg("--seeds").arg(seeds.to_string());
    for (name, value) in [("--from", from), ("--jobs", jobs), ("--power", power)] {
        if let Some(value) = value {
            command.arg(name).arg(value.to_string());
        }
    }
    run(&mut command)
}
