//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::{
    arguments::Arguments,
    model, peers,
    run::{cargo, root, run},
    stages::Stages,
};

/// All packages with all features, so that each crate is compiled once for all of them.
const ALL: [&str; 5] = ["test", "--workspace", "--all-features", "--exclude", "flowstone-bench"];

/// Installs what the tests speak with, then compiles and runs unit, integration and doc tests of all packages.
///
/// Without a selection of targets cargo builds the examples as programs, too, which the examples' tests start.
/// `--all-targets` would build each example a second time as a test, and run the criterion benches.
///
/// `--real-model` runs the tests of that kind instead.
pub(crate) fn test(mut arguments: Arguments) -> Result<()> {
    let real_model = arguments.flag("--real-model");
    arguments.end()?;
    if real_model {
        return model::test();
    }
    let root = root()?;
    let mut stages = Stages::default();
    let peers = stages.go("install", "programs from PyPI and npm that tests speak with", || peers::install(&root));
    let tests = |kinds: &[&str]| {
        let mut command = cargo(&root);
        command.args(ALL).args(kinds).envs(peers.iter().flatten().map(|(name, path)| (name, path)));
        run(&mut command)
    };
    let compiled = stages.go("compile", "all packages, their tests and the examples", || tests(&["--no-run"]));
    if compiled.is_some() {
        stages.go("tests", "unit and integration tests, examples among them", || tests(&["--no-fail-fast", "--tests"]));
        // With `--doc`, cargo runs those of a package that says `doctest = false`, too.
        let docs = ["--no-fail-fast", "--exclude", "flowstone-macros", "--doc"];
        stages.go("doc tests", "code in the docs, the README and the guide", || tests(&docs));
    }
    stages.end()
}
