//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::{
    arguments::Arguments,
    model, peers,
    run::{cargo, root, run},
};

/// Installs what the tests speak with, then runs unit, integration and doc tests of all packages, in one build.
///
/// Without a selection of targets cargo builds the examples as programs, which the examples' tests start, runs
/// what has tests, and ends with the doc tests. `--all-targets` would leave out the doc tests, build each example a
/// second time as a test, and run the criterion benches.
///
/// `--real-model` runs the tests of that kind instead.
pub(crate) fn test(mut arguments: Arguments) -> Result<()> {
    let real_model = arguments.flag("--real-model");
    arguments.end()?;
    if real_model {
        return model::test();
    }
    let root = root()?;
    let peers = peers::install(&root)?;
    run(cargo(&root)
        .args(["test", "--workspace", "--all-features", "--exclude", "flowstone-bench", "--no-fail-fast"])
        .envs(peers))
}
