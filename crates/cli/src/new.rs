//! `new`: writes a small project that has a flow, a store and a test.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use std::io::Write;

use crate::{
    arguments::NewArguments,
    screen::Screen,
    stop::{Result, Stop},
    words::for_shell,
};

/// The files of a project, with `{name}` and `{flowstone}` where it differs from the next one.
///
/// The manifest has another name here, since cargo leaves out of a package any folder with a manifest of its own.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("../template/manifest.toml")),
    ("src/main.rs", include_str!("../template/src/main.rs")),
    ("src/tests.rs", include_str!("../template/src/tests.rs")),
    ("README.md", include_str!("../template/README.md")),
    (".gitignore", include_str!("../template/gitignore")),
];

/// Words that cannot name a crate: those of the language, and a crate's own parts.
const KEYWORDS: [&str; 54] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield", "_", "union", "raw",
];

/// Names that cargo takes for folders and crates of its own, or that the project depends on.
const TAKEN: [&str; 12] = [
    "build",
    "deps",
    "examples",
    "incremental",
    "test",
    "core",
    "std",
    "alloc",
    "flowstone",
    "serde",
    "serde_json",
    "tokio",
];

pub(crate) fn new<W: Write>(arguments: &NewArguments, screen: &mut Screen<W>) -> Result<()> {
    let NewArguments { name, path } = arguments;
    if let Some(wrong) = wrong_with(name) {
        return Err(Stop::failed(format!("`{name}` cannot be the name of a package: {wrong}")));
    }
    let source = match path {
        Some(checkout) => format!("path = {}", toml_string(&crate_in(checkout)?)),
        None => format!("version = {}", toml_string(env!("CARGO_PKG_VERSION"))),
    };
    let folder = Path::new(name);
    if !is_free(folder).map_err(|error| cannot_write(folder, &error))? {
        return Err(Stop::failed(format!("the folder `{name}` is there already, and not empty")));
    }
    write(folder, name, &source)?;

    screen.line(&format!(
        "wrote the project `{name}`: a flow that reads, asks and sends, with its store and its tests"
    ))?;
    screen.line("next:")?;
    for command in
        [&*format!("cd {}", for_shell(name)), "cargo test", "cargo run -- run digest --id monday --store digest.db"]
    {
        screen.line(&format!("  {command}"))?;
    }
    screen.line("README.md in it has the other commands")
}

/// Returns the reason why cargo, or the compiler, would refuse a name.
fn wrong_with(name: &str) -> Option<&'static str> {
    let crate_name = name.replace('-', "_");
    if name.is_empty() {
        return Some("it is empty");
    }
    if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_') {
        return Some("it may have letters, digits, `-` and `_`");
    }
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        return Some("it begins with a letter");
    }
    if KEYWORDS.contains(&&*crate_name) {
        return Some("it is a keyword of Rust");
    }
    TAKEN.contains(&&*crate_name).then_some("cargo or the project has another use for it")
}

/// Returns the folder of the crate `flowstone` in a checkout, as an absolute path.
fn crate_in(checkout: &Path) -> Result<String> {
    let folder = checkout.join("crates/flowstone");
    let absolute = folder.canonicalize().ok().filter(|folder| folder.join("Cargo.toml").is_file());
    let absolute = absolute.and_then(|folder| folder.into_os_string().into_string().ok());
    absolute.ok_or_else(|| {
        Stop::failed(format!("`{}` is no checkout of flowstone: it has no `crates/flowstone`", checkout.display()))
    })
}

/// Returns `true` if there is nothing at a path, or an empty folder.
fn is_free(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error),
    }
}

fn write(folder: &Path, name: &str, source: &str) -> Result<()> {
    for (file, text) in FILES {
        let path = folder.join(file);
        let mut text = text.replace("{name}", name).replace("{flowstone}", source);
        if file == "Cargo.toml" && is_inside_another(folder) {
            text.push_str("\n# It lies in the folder of another project, and is no part of that.\n[workspace]\n");
        }
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        made.map_err(|error| cannot_write(&path, &error))?;
    }
    Ok(())
}

/// Returns `true` if a folder around this one has a manifest, which cargo would take for the project's workspace.
fn is_inside_another(folder: &Path) -> bool {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| PathBuf::from(folder));
    absolute.ancestors().skip(1).any(|around| around.join("Cargo.toml").is_file())
}

/// Writes a text as TOML, whose strings take JSON's escapes.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn cannot_write(path: &Path, error: &io::Error) -> Stop {
    Stop::because(&format!("`{}` cannot be written", path.display()), error)
}
