//! The pages that have to be there: what they must hold, how long they may be, and where their links lead.

use super::tree::{Fault, File};

mod links;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const ARCHITECTURE_LINES: usize = 200;
const CHANGELOG: &str = "CHANGELOG.md";
const README: &str = "README.md";

/// The commands that do everything on a fresh machine.
const TWO_COMMANDS: [&str; 2] = ["cargo run --release --example weather -- London Paris Tokyo", "cargo xtask test"];

const DECISIONS: &str = "docs/decisions/";
const DECISION_LINES: usize = 60;

pub(super) fn check(files: &[File], packages: &[&str]) -> Vec<Fault> {
    let mut faults = page(files, ARCHITECTURE, |file| architecture(file, packages));
    faults.extend(page(files, README, readme));
    faults.extend(page(files, CHANGELOG, |file| changelog(file).into_iter().collect()));
    faults.extend(decisions(files));
    faults.extend(files.iter().filter(|file| file.is_markdown()).flat_map(|file| links::check(file, files)));
    faults
}

fn page(files: &[File], path: &str, check: impl FnOnce(&File) -> Vec<Fault>) -> Vec<Fault> {
    match files.iter().find(|file| file.path == path) {
        Some(file) => check(file),
        None => vec![Fault::new(path, 1, "is missing")],
    }
}

fn architecture(file: &File, packages: &[&str]) -> Vec<Fault> {
    let unnamed = packages.iter().filter(|package| !names(&file.text, package));
    let mut faults: Vec<Fault> =
        unnamed.map(|package| file.fault(1, format!("does not name the package `{package}`"))).collect();
    faults.extend(too_long(file, ARCHITECTURE_LINES));
    faults
}

fn readme(file: &File) -> Vec<Fault> {
    let missing = TWO_COMMANDS.into_iter().filter(|command| !file.text.contains(command));
    missing.map(|command| file.fault(1, format!("does not show `{command}`"))).collect()
}

fn changelog(file: &File) -> Option<Fault> {
    let is_version = |name: &str| name.starts_with("Unreleased") || name.starts_with(|c: char| c.is_ascii_digit());
    let mut headings = file.text.lines().filter_map(|line| line.strip_prefix("## "));
    let found = headings.any(|heading| is_version(heading.trim_start_matches('[')));
    (!found).then(|| file.fault(1, "has no heading `## [Unreleased]` or `## [version]`"))
}

/// A decision is short, and linked from the code or the page that it explains.
fn decisions(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.is_markdown() && file.path.starts_with(DECISIONS)) {
        faults.extend(too_long(file, DECISION_LINES));
        let name = file.path[DECISIONS.len()..].trim_end_matches(".md");
        let elsewhere = |other: &&File| other.path != file.path && (other.is_rust() || other.is_markdown());
        if name != "README" && !files.iter().filter(elsewhere).any(|other| other.text.contains(name)) {
            faults.push(file.fault(1, "no Rust or Markdown file names this decision"));
        }
    }
    faults
}

fn too_long(file: &File, most: usize) -> Option<Fault> {
    let lines = file.text.lines().count();
    (lines > most).then(|| file.fault(lines, format!("{lines} lines are too many, at most {most}")))
}

/// Returns `true` if the text holds the name as a word of its own: `flowstone-core` does not name `flowstone`.
fn names(text: &str, name: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_')).any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    fn whole() -> Vec<File> {
        vec![
            file(README, &TWO_COMMANDS.join("\n")),
            file(ARCHITECTURE, "`flowstone` is the crate; see docs/decisions/0001-json."),
            file(CHANGELOG, "# Changelog\n\n## [Unreleased]\n"),
            file("docs/decisions/0001-json.md", "# JSON\n"),
        ]
    }

    #[test]
    fn whole_pages_have_no_faults() {
        assert_eq!(check(&whole(), &["flowstone"]), []);
    }

    #[test]
    fn missing_pages_are_faults() {
        let faults: Vec<String> = check(&[], &[]).iter().map(ToString::to_string).collect();

        assert_eq!(faults, ["ARCHITECTURE.md:1: is missing", "README.md:1: is missing", "CHANGELOG.md:1: is missing"]);
    }

    #[test]
    fn a_package_is_named_by_its_whole_name() {
        let mut files = whole();
        files[1].text = "`flowstone-core`, docs/decisions/0001-json.md".to_owned();

        assert_eq!(check(&files, &["flowstone-core"]), []);
        assert_eq!(check(&files, &["flowstone"]).len(), 1);
    }

    #[test]
    fn a_decision_is_short_and_linked() {
        let mut files = whole();
        files.push(file("docs/decisions/0002-zstd.md", &"line\n".repeat(61)));

        let faults: Vec<String> = check(&files, &[]).iter().map(ToString::to_string).collect();

        assert_eq!(
            faults,
            [
                "docs/decisions/0002-zstd.md:61: 61 lines are too many, at most 60",
                "docs/decisions/0002-zstd.md:1: no Rust or Markdown file names this decision",
            ]
        );
    }

    #[test]
    fn a_changelog_has_versions() {
        assert!(changelog(&file(CHANGELOG, "## 0.1.0\n")).is_none());
        assert!(changelog(&file(CHANGELOG, "## [0.1.0] - 2026-01-01\n")).is_none());
        assert!(changelog(&file(CHANGELOG, "## Notes\n")).is_some());
    }
}
