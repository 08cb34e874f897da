//! Counts what is compiled where it matters: by everyone who uses the core, by a newcomer's first command, and twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

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
    // `cargo run --release --example weather`, the first command of the README. Cargo compiles what tests need for it,
    // too.
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

/// Crates that are small, and may be compiled with more features for programs than for build scripts.
const MAY_BE_TWICE: [&str; 1] = ["libc"];

/// Finds crates that the tests would compile twice, with different features: for this machine, and for the macros and
/// build scripts that run on it. What a macro's package needs for its tests is compiled so.
pub(super) fn check_twice(root: &Path) -> Result<Vec<Fault>> {
    let mut tree = cargo(root);
    tree.args(["tree", "--workspace", "--exclude", "flowstone-bench", "--all-features", "--edges", "normal,build,dev"]);
    let twice = twice(&output(tree.args(["--prefix", "none", "--no-dedupe", "--format", "{p} {f}"]))?);
    let faults = twice.into_iter().filter(|name| !MAY_BE_TWICE.contains(&&**name));
    let what = |name| format!("the tests compile `{name}` twice, with different features");
    Ok(faults.map(|name| Fault::new("Cargo.toml", 1, what(name))).collect())
}

/// The names of packages of which one version stands in a tree with different features.
fn twice(tree: &str) -> BTreeSet<String> {
    let mut features: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for line in tree.lines() {
        // A name, a version, what else is to say of the package in brackets, its features without a blank.
        let mut words = line.split(' ').filter(|word| !word.starts_with('(') && *word != "(*)");
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            features.entry((name, version)).or_default().insert(words.collect());
        }
    }
    features.into_iter().filter(|(_, features)| features.len() > 1).map(|((name, _), _)| name.to_owned()).collect()
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
    fn a_package_with_other_features_is_compiled_twice() {
        let tree = "a v1.0.0 std\nb v1.0.0 (proc-macro) \nb v1.0.0 (proc-macro)\na v1.0.0 rc,std\na v2.0.0 \n";

        assert_eq!(twice(tree).into_iter().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn each_package_counts_once() {
        let tree = "a v1.0.0\nb v1.0.0\n[build-dependencies]\nb v1.0.0\n\n[dev-dependencies]\nb v2.0.0\n";

        assert_eq!(packages(tree), 3);
    }
}
