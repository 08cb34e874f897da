//! Relative links in Markdown lead to a file or a folder of the project.

use crate::lint::tree::{Fault, File};

pub(super) fn check(file: &File, files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut in_code = false;
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in targets(line).into_iter().filter(|target| is_relative(target)) {
            let path = resolved(&file.path, target);
            if !path.is_some_and(|path| exists(&path, files)) {
                faults.push(file.fault(number, format!("the link to `{target}` leads nowhere")));
            }
        }
    }
    faults
}

/// The targets of `[text](target)` and `[name]: target` in a line, outside of code.
fn targets(line: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    // Every second piece stands between backticks, and may look like a link.
    for prose in line.split('`').step_by(2) {
        for (at, _) in prose.match_indices("](") {
            let rest = &prose[at + 2..];
            found.extend(rest.find([')', ' ']).map(|end| &rest[..end]));
        }
    }
    if let Some((_, target)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
        found.extend(target.split_whitespace().next());
    }
    found
}

fn is_relative(target: &str) -> bool {
    !(target.contains("://") || target.starts_with('#') || target.starts_with("mailto:"))
}

/// The path from the root of the project; none if it leads out of it.
fn resolved(from: &str, target: &str) -> Option<String> {
    let target = target.split(['#', '?']).next()?;
    let mut names: Vec<&str> = from.split('/').collect();
    names.pop();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

fn exists(path: &str, files: &[File]) -> bool {
    path.is_empty()
        || files
            .iter()
            .any(|file| file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<File> {
        paths.iter().map(|path| File { path: (*path).to_owned(), ..File::default() }).collect()
    }

    fn faults(text: &str) -> Vec<String> {
        let files = files(&["README.md", "docs/guide/nodes.md", "crates/core/src/lib.rs", "LICENSE"]);
        let page = File { path: "docs/guide/flows.md".to_owned(), text: text.to_owned() };
        check(&page, &files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_to_files_folders_and_elsewhere_are_right() {
        let text = "[a](nodes.md) [b](../../README.md#top), [c](../../crates/core \"core\")\n\
                    [d](https://example.com/x) [e](#here) ![f](../../LICENSE)\n[g]: ./nodes.md\n";

        assert_eq!(faults(text), [""; 0]);
    }

    #[test]
    fn links_to_nothing_are_faults() {
        assert_eq!(
            faults("fine\n[a](none.md) and [b](../../../out.md)\n[c]: lost.md\n"),
            [
                "docs/guide/flows.md:2: the link to `none.md` leads nowhere",
                "docs/guide/flows.md:2: the link to `../../../out.md` leads nowhere",
                "docs/guide/flows.md:3: the link to `lost.md` leads nowhere",
            ]
        );
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(faults("```\nlist[0](none)\n```\nor `list[1](none)` here\n"), [""; 0]);
    }
}
