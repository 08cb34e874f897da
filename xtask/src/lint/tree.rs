//! The project's own text files, read once, and the faults found in them.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Folders that hold what is made, not what is written.
const MADE: [&str; 4] = ["target", ".git", "__pycache__", ".node-peers"];

/// One file; its path is relative to the root, with `/` between the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

/// A fault and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    path: String,
    line: usize,
    what: String,
}

impl File {
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(super) fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// The lines, counted from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    pub(super) fn fault(&self, line: usize, what: impl Into<String>) -> Fault {
        Fault::new(&self.path, line, what)
    }
}

impl Fault {
    pub(super) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Reads all text files below `root`, in the order of their paths; what is no UTF-8 is no text.
pub(super) fn read(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    walk(root, root, &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    let failed = |path: &Path| format!("cannot read {}", path.display());
    for entry in fs::read_dir(folder).with_context(|| failed(folder))? {
        let entry = entry.with_context(|| failed(folder))?;
        let kind = entry.file_type().with_context(|| failed(&entry.path()))?;
        if kind.is_dir() && !is_made(&entry.file_name().to_string_lossy()) {
            walk(root, &entry.path(), files)?;
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).with_context(|| failed(&entry.path()))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File { path: relative(root, &entry.path()), text });
            }
        }
    }
    Ok(())
}

fn is_made(folder: &str) -> bool {
    MADE.contains(&folder) || folder.starts_with(".venv")
}

fn relative(root: &Path, path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root).unwrap_or(path).into();
    path.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join("/")
}
