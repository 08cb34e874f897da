//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::{
    arguments::Arguments,
    run::{cargo, root, run},
};

/// Runs unit, integration and doc tests of all packages, in one build.
///
/// Without a selection of targets cargo builds the examples as programs, which the examples' tests start, runs
/// what has tests, and ends with the doc tests. `--all-targets` would leave out the doc tests, build each example a
/// second time as a test, and run the criterion benches.
pub(crate) fn test(arguments: Arguments) -> Result<()> {
    arguments.end()?;
    run(cargo(&root()?).args([
        "test",
        "--workspace",
        "--all-features",
        "--exclude",
        "flowstone-bench",
        "--no-fail-fast",
    ]))
}
