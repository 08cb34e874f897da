//! Folders are layers inside a crate as well: a module imports from its own layer and from those below, and never in a
//! circle.
//!
//! Every file is a module. A path counts wherever it stands: in a `use`, inline, and also `super::…` and `child::…`.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Fault, File};

/// The layers of each crate whose folders are layers, from the lowest: the folders and files beside its `lib.rs`.
const CRATES: [(&str, &[&str]); 2] = [
    (
        "crates/core/src/",
        &[
            "__macros",
            "words",
            "outcome",
            "execution",
            "policy",
            "graph",
            "context",
            "node",
            "visit",
            "define",
            "drive",
        ],
    ),
    ("crates/durable/src/", &["words", "disk", "records", "flows", "drive", "api"]),
];

/// Checks the modules of each crate that has layers.
pub(super) fn check(files: &[File]) -> Vec<Fault> {
    CRATES.iter().flat_map(|(folder, layers)| Crate::read(folder, layers, files).check()).collect()
}

/// The modules of one crate, by their paths: `visit::batch`. The root is not among them.
struct Crate<'a> {
    layers: &'a [&'a str],
    modules: BTreeMap<String, &'a File>,
    imports: Vec<Import<'a>>,
}

/// A path in one module that leads to another.
#[derive(Debug)]
struct Import<'a> {
    file: &'a File,
    line: usize,
    from: String,
    /// The module that the path leads to; empty for the root of the crate.
    to: String,
    /// The path as it is written, from the root.
    path: String,
}

impl<'a> Crate<'a> {
    fn read(folder: &str, layers: &'a [&'a str], files: &'a [File]) -> Self {
        let named = files.iter().filter_map(|file| Some((module(file.path.strip_prefix(folder)?)?, file)));
        let modules: BTreeMap<String, &File> = named.collect();
        let mut crate_ = Self { layers, modules, imports: Vec::new() };
        let imports = crate_.modules.iter().flat_map(|(module, file)| crate_.imports_of(module, file)).collect();
        crate_.imports = imports;
        crate_
    }

    fn imports_of(&self, module: &str, file: &'a File) -> Vec<Import<'a>> {
        let text = code(&file.text);
        let own: Vec<&str> = module.split("::").collect();
        let mut imports = Vec::new();
        for (at, first) in words(&text) {
            // A path begins where no other goes on.
            if text[..at].ends_with("::") || !text[at + first.len()..].starts_with("::") {
                continue;
            }
            let ups = text[at..].split("::").take_while(|part| *part == "super").count();
            let (base, begin): (&[&str], usize) = match first {
                "crate" => (&[], at + "crate::".len()),
                "super" => (&own[..own.len().saturating_sub(ups)], at + ups * "super::".len()),
                child if self.modules.contains_key(&format!("{module}::{child}")) => (&own, at),
                _ => continue,
            };
            for (offset, leaf) in leaves(&text[begin..]) {
                let path: Vec<&str> = base.iter().copied().chain(leaf.iter().copied()).collect();
                let line = text[..begin + offset].matches('\n').count() + 1;
                let to = self.module_of(&path);
                if to != module {
                    imports.push(Import { file, line, from: module.to_owned(), to, path: path.join("::") });
                }
            }
        }
        imports
    }

    /// Returns the module that a path leads to: the longest beginning of it that is one.
    fn module_of(&self, path: &[&str]) -> String {
        let beginnings = (1..=path.len()).rev().map(|length| path[..length].join("::"));
        beginnings.into_iter().find(|module| self.modules.contains_key(module)).unwrap_or_default()
    }

    fn check(&self) -> Vec<Fault> {
        let mut faults = self.unknown();
        faults.extend(self.imports.iter().filter_map(|import| self.upward(import)));
        faults.extend(self.circles());
        faults
    }

    /// Reports modules that the table does not name.
    fn unknown(&self) -> Vec<Fault> {
        let unknown = self.modules.iter().filter(|(module, _)| self.rank(module).is_none());
        let fault = |(module, file): (&String, &&File)| {
            let what =
                format!("the layers do not name `{}`: give it a place in xtask/src/lint/modules.rs", top(module));
            file.fault(1, what)
        };
        unknown.map(fault).collect()
    }

    fn rank(&self, module: &str) -> Option<usize> {
        self.layers.iter().position(|layer| *layer == top(module))
    }

    fn upward(&self, import: &Import<'_>) -> Option<Fault> {
        let own = self.rank(&import.from)?;
        let below = || match &self.layers[..own] {
            [] => "nothing of the crate".to_owned(),
            layers => format!("`{}`", layers.join("`, `")),
        };
        let (layer, path) = (top(&import.from), &import.path);
        let what = if import.to.is_empty() {
            format!("`{layer}` imports `crate::{path}` from the root, which is above all layers: name its module")
        } else if self.rank(&import.to)? > own {
            let (above, below) = (top(&import.to), below());
            format!(
                "`{layer}` imports `crate::{path}`, but `{above}` is above it; besides itself, `{layer}` may import {below}"
            )
        } else {
            return None;
        };
        Some(import.file.fault(import.line, what))
    }

    /// Reports each circle once, at one of its imports.
    fn circles(&self) -> Vec<Fault> {
        let mut seen = BTreeSet::new();
        let mut faults = Vec::new();
        for import in self.imports.iter().filter(|import| !import.to.is_empty()) {
            if seen.contains(&import.from) {
                continue;
            }
            if let Some(way) = self.way(&import.to, &import.from) {
                let circle = format!("`{}` → `{}`", import.from, way.join("` → `"));
                faults.push(import.file.fault(import.line, format!("a circle of modules: {circle}")));
                seen.extend(way);
            }
        }
        faults
    }

    /// Returns the modules on a way of imports from one to another, both included.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = vec![from];
        while let Some(module) = open.pop() {
            if module == to {
                let back = std::iter::successors(Some(module), |module| before.get(module).copied());
                let mut way: Vec<String> = back.map(ToOwned::to_owned).collect();
                way.reverse();
                return Some(way);
            }
            for import in self.imports.iter().filter(|import| import.from == module && !import.to.is_empty()) {
                if import.to != from && !before.contains_key(&*import.to) {
                    before.insert(&import.to, module);
                    open.push(&import.to);
                }
            }
        }
        None
    }
}

/// Returns the path of the module that a file holds, from its path below `src/`; `None` for tests and for the root.
fn module(path: &str) -> Option<String> {
    let path = path.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let is_test = path == "tests" || path.ends_with("/tests");
    (!is_test && path != "lib" && path != "main").then(|| path.replace('/', "::"))
}

/// Returns the layer that a module belongs to.
fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Returns a text without comments, the contents of strings, and the tests at its end; every line keeps its number.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if c == '"' {
            string(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.extend(rest[..length].chars().filter(|c| *c == '\n'));
        rest = &rest[length..];
    }
    code
}

/// Returns the length of the string with which a text begins.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the words of a text, and where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let words = text.split(move |c: char| !is_part(c)).filter(|word| !word.is_empty());
    words.map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// Returns the paths of the tree with which a text begins, `a::{b::C, d}`, and where each ends.
fn leaves(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut leaves = Vec::new();
    tree(text, 0, &mut Vec::new(), &mut leaves);
    leaves
}

/// Reads one tree from a place in a text, and returns the place after it.
fn tree<'t>(text: &'t str, mut at: usize, path: &mut Vec<&'t str>, leaves: &mut Vec<(usize, Vec<&'t str>)>) -> usize {
    let depth = path.len();
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if text[at..].starts_with('{') {
            at += 1;
            while !text[at..].trim_start().is_empty() && !text[at..].trim_start().starts_with('}') {
                at = tree(text, at, path, leaves);
                let rest = text[at..].find([',', '}']).unwrap_or(text.len() - at);
                at += rest + usize::from(text[at + rest..].starts_with(','));
            }
            at += text[at..].find('}').map_or(0, |end| end + 1);
            break;
        }
        let word = words(&text[at..]).next().filter(|(offset, _)| *offset == 0).map_or("", |(_, word)| word);
        at += word.len();
        if !word.is_empty() && word != "self" {
            path.push(word);
        }
        if word.is_empty() || !text[at..].starts_with("::") {
            leaves.push((at, path.clone()));
            break;
        }
        at += "::".len();
    }
    path.truncate(depth);
    at
}

#[cfg(test)]
mod tests;
