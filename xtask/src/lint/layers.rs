//! Lower layers know nothing of higher ones.

use anyhow::{Context, Result};
use serde_json::Value;

use super::tree::{Fault, File};

/// The packages of the workspace that each package may depend on. A new package gets its row here.
const LAYERS: [(&str, &[&str]); 14] = [
    ("flowstone-core", &[]),
    ("flowstone-macros", &[]),
    ("flowstone-durable", &["flowstone-core"]),
    ("flowstone-llm", &["flowstone-core"]),
    ("flowstone-cli", &["flowstone-core", "flowstone-durable"]),
    ("flowstone", &["flowstone-core", "flowstone-macros", "flowstone-durable", "flowstone-cli", "flowstone-llm"]),
    ("flowstone-ui", &["flowstone"]),
    ("flowstone-disk", &[]),
    ("flowstone-crash", &["flowstone", "flowstone-disk"]),
    ("flowstone-conformance", &["flowstone"]),
    ("flowstone-bench", &["flowstone"]),
    ("flowstone-examples", &["flowstone"]),
    ("flowstone-examples-models", &["flowstone"]),
    ("xtask", &[]),
];

/// A package of the workspace.
#[derive(Clone, Debug, Default)]
pub(super) struct Package {
    pub(super) name: String,
    /// Its manifest, relative to the root.
    manifest: String,
    dependencies: Vec<Dependency>,
}

/// A dependency on another package of the workspace.
#[derive(Clone, Debug)]
struct Dependency {
    name: String,
    for_tests: bool,
}

/// Reads the output of `cargo metadata`.
pub(super) fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let read = || -> Option<Vec<Package>> {
        let root = metadata.get("workspace_root")?.as_str()?;
        metadata.get("packages")?.as_array()?.iter().map(|package| Package::read(package, root)).collect()
    };
    read().context("`cargo metadata` printed something unknown")
}

/// Checks each package against its row.
pub(super) fn check(packages: &[Package], files: &[File]) -> Vec<Fault> {
    packages.iter().flat_map(|package| package.check(files)).collect()
}

impl Package {
    fn read(package: &Value, root: &str) -> Option<Self> {
        let manifest = package.get("manifest_path")?.as_str()?.strip_prefix(root)?;
        let dependencies = package.get("dependencies")?.as_array()?.iter();
        let own = dependencies.filter(|dependency| dependency.get("path").is_some_and(Value::is_string));
        Some(Self {
            name: package.get("name")?.as_str()?.to_owned(),
            manifest: manifest.replace('\\', "/").trim_start_matches('/').to_owned(),
            dependencies: own.map(Dependency::read).collect::<Option<_>>()?,
        })
    }

    fn check(&self, files: &[File]) -> Vec<Fault> {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == self.name) else {
            let what = format!("the layers do not name `{}`: add its row in xtask/src/lint/layers.rs", self.name);
            return vec![Fault::new(&self.manifest, 1, what)];
        };
        let wrong = self.dependencies.iter().filter(|dependency| {
            if dependency.for_tests { !is_library(&dependency.name) } else { !allowed.contains(&&*dependency.name) }
        });
        wrong
            .map(|dependency| {
                let what = format!("`{}` may not depend on `{}`", self.name, dependency.name);
                Fault::new(&self.manifest, self.line_of(dependency, files), what)
            })
            .collect()
    }

    fn line_of(&self, dependency: &Dependency, files: &[File]) -> usize {
        let manifest = files.iter().find(|file| file.path == self.manifest);
        let is_it =
            |line: &str| line.strip_prefix(&dependency.name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
        manifest.and_then(|file| file.lines().find(|(_, line)| is_it(line))).map_or(1, |(number, _)| number)
    }
}

impl Dependency {
    fn read(dependency: &Value) -> Option<Self> {
        let name = dependency.get("name")?.as_str()?.to_owned();
        Some(Self { name, for_tests: dependency.get("kind")?.as_str() == Some("dev") })
    }
}

/// Returns `true` if other packages may depend on it at all: programs are at the top.
fn is_library(name: &str) -> bool {
    LAYERS.iter().any(|(_, allowed)| allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(name: &str, dependency: &str, kind: &Value) -> Vec<String> {
        let metadata = json!({
            "workspace_root": "/somewhere",
            "packages": [{
                "name": name,
                "manifest_path": "/somewhere/crates/x/Cargo.toml",
                "dependencies": [
                    { "name": "serde", "kind": null },
                    { "name": dependency, "kind": kind, "path": "/somewhere/crates/y" },
                ],
            }],
        });
        let manifest = File {
            path: "crates/x/Cargo.toml".to_owned(),
            text: format!("[dependencies]\nserde = \"1\"\n{dependency}.workspace = true\n"),
        };
        check(&packages(&metadata).unwrap(), &[manifest]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_lower_layer_may_not_know_a_higher_one() {
        assert_eq!(
            faults("flowstone-core", "flowstone-macros", &Value::Null),
            ["crates/x/Cargo.toml:3: `flowstone-core` may not depend on `flowstone-macros`"]
        );
    }

    #[test]
    fn a_row_allows_what_it_names() {
        assert_eq!(faults("flowstone", "flowstone-core", &Value::Null), [""; 0]);
    }

    #[test]
    fn tests_may_use_any_library_but_no_program() {
        assert_eq!(faults("flowstone-macros", "flowstone", &json!("dev")), [""; 0]);
        assert_eq!(faults("flowstone-macros", "flowstone-examples", &json!("dev")).len(), 1);
    }

    #[test]
    fn a_new_package_needs_its_row() {
        assert_eq!(faults("flowstone-new", "flowstone", &Value::Null).len(), 1);
    }
}
