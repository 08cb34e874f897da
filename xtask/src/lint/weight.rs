//! Counts what is compiled where it matters: by everyone who uses the core, and by a newcomer's first command.

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;

use super::tree::Fault;
use crate::run::{cargo, output};

/// A package, and the most packages that it may pull in, of whatever depth. More than these needs a reason.
struct Weight {
    package: &'static str,
    manifest: &'static str,
    /// The kinds of dependencies that are compiled.
    edges: &'static str,
    most: usize,
}

const WEIGHTS: [Weight; 2] = [
    // Elsewhere everyone pays for everything, a database driver included.
    Weight { package: "flowstone-core", manifest: "crates/core/Cargo.toml", edges: "normal", most: 27 },
    // `cargo run --release --example weather`, the first command of the README. Cargo compiles what tests need for it, too.
    Weight { package: "flowstone-examples", manifest: "examples/Cargo.toml", edges: "normal,build,dev", most: 119 },
];

/// Counts as `cargo tree` does: with the features that the package itself asks for.
pub(super) fn check(root: &Path) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for Weight { package, manifest, edges, most } in WEIGHTS {
        let mut tree = cargo(root);
        tree.args(["tree", "--package", package, "--edges", edges, "--prefix", "none", "--no-dedupe"]);
        let pulled_in = packages(&output(tree.args(["--format", "{p}"]))?).saturating_sub(1);
        if pulled_in > most {
            let what = format!("{package} pulls in {pulled_in} packages, more than {most}");
            faults.push(Fault::new(manifest, 1, what));
        }
    }
    Ok(faults)
}

/// Counts the packages of a tree, each once. An empty line and a heading part the kinds of dependencies.
fn packages(tree: &str) -> usize {
    let named = tree.lines().filter(|line| !line.is_empty() && !line.starts_with('['));
    named.collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_counts_once() {
        let tree = "a v1.0.0\nb v1.0.0\n[build-dependencies]\nb v1.0.0\n\n[dev-dependencies]\nb v2.0.0\n";

        assert_eq!(packages(tree), 3);
    }
}
