//! `cargo xtask lint`: every check runs, every fault is printed as `path:line: what`, and then the job fails.
//!
//! | module | check |
//! |---|---|
//! | [`tree`] | reads the project's own files, each once |
//! | [`rust`] | what STYLE says of Rust files |
//! | [`prose`] | the pages that have to be there, their links, their length |
//! | [`places`] | no file knows the machine that it was written on |
//! | [`layers`] | which package may depend on which |
//! | [`modules`] | which folder of a crate may import from which |
//! | [`weight`] | how much the core, and a newcomer's first command, pull in |

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    arguments::Arguments,
    lint::tree::Fault,
    run::{cargo, metadata, root, run},
};

mod layers;
mod modules;
mod places;
mod prose;
mod rust;
mod tree;
mod weight;

/// Cargo's own checks.
const PROGRAMS: [&[&str]; 4] = [
    &["fmt", "--all", "--check"],
    &["clippy", "--workspace", "--all-targets", "--all-features", "--keep-going", "--", "-D", "warnings"],
    // What a newcomer compiles first, with no feature and nothing else: as the README has it, without `-p`.
    &["check", "--example", "weather"],
    &["doc", "--workspace", "--no-deps", "--all-features", "--keep-going"],
];

pub(crate) fn lint(arguments: Arguments) -> Result<()> {
    arguments.end()?;
    let root = root()?;
    let mut failed: Vec<String> = Vec::new();

    let faults = faults(&root)?;
    for fault in &faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        failed.push(format!("{} fault(s) in the text", faults.len()));
    }
    for program in PROGRAMS {
        // Only rustdoc reads the variable, so that all share what they build.
        if let Err(error) = run(cargo(&root).args(program).env("RUSTDOCFLAGS", "-D warnings")) {
            failed.push(error.to_string());
        }
    }
    ensure!(failed.is_empty(), "lint failed: {}", failed.join("; "));
    println!("lint found no fault");
    Ok(())
}

/// What the project's own text says wrongly; remarks are printed only.
fn faults(root: &Path) -> Result<Vec<Fault>> {
    let files = tree::read(root)?;
    let packages = layers::packages(&metadata(root)?)?;
    for remark in files.iter().filter_map(rust::remark) {
        println!("{remark} (a remark, no fault)");
    }

    let mut faults = layers::check(&packages, &files);
    faults.extend(weight::check(root)?);
    faults.extend(modules::check(&files));
    faults.extend(files.iter().flat_map(rust::check));
    faults.extend(files.iter().flat_map(places::check));
    let names: Vec<&str> = packages.iter().map(|package| &*package.name).collect();
    faults.extend(prose::check(&files, &names));
    Ok(faults)
}
