//! `cargo xtask lint`: every check runs, every fault is printed as `path:line: what`, and then the job fails.
//!
//! | module | check |
//! |---|---|
//! | [`tree`] | reads the project's own files, each once |
//! | [`rust`] | what STYLE says of Rust files |
//! | [`prose`] | the pages that have to be there, their links, their length |
//! | [`places`] | no file knows the machine that it was written on |
//! | [`layers`] | which package may depend on which |
//! | [`openings`] | no comment opens with What, Whether, Who, How or Why |
//! | [`modules`] | which folder of a crate may import from which |
//! | [`weight`] | how much the core, and a newcomer's first command, pull in |

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    arguments::Arguments,
    lint::tree::Fault,
    run::{cargo, metadata, root, run},
    stages::Stages,
};

mod layers;
mod modules;
mod openings;
mod places;
mod prose;
mod rust;
mod tree;
mod weight;

/// Cargo's own checks.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("formatting", &["fmt", "--all", "--check"]),
    (
        "warnings, of all packages and all their targets",
        &["clippy", "--workspace", "--all-targets", "--all-features", "--keep-going", "--", "-D", "warnings"],
    ),
    // A newcomer's first command, with no feature and nothing else: as the README has it, without `-p`.
    ("the first command of the README", &["check", "--example", "weather"]),
    ("the pages that rustdoc makes", &["doc", "--workspace", "--no-deps", "--all-features", "--keep-going"]),
];

pub(crate) fn lint(arguments: Arguments) -> Result<()> {
    arguments.end()?;
    let root = root()?;
    let mut stages = Stages::default();

    stages.go("text", "the rules that can be read from text", || {
        let faults = faults(&root)?;
        for fault in &faults {
            println!("{fault}");
        }
        ensure!(faults.is_empty(), "{} fault(s)", faults.len());
        Ok(())
    });
    for (what, program) in PROGRAMS {
        // Only rustdoc reads the variable, so that all share what they build.
        let command = || run(cargo(&root).args(program).env("RUSTDOCFLAGS", "-D warnings"));
        stages.go(program[0], what, command);
    }
    stages.end()?;
    println!("lint found no fault");
    Ok(())
}

/// Finds the faults in the project's own text; remarks are printed only.
fn faults(root: &Path) -> Result<Vec<Fault>> {
    let files = tree::read(root)?;
    let packages = layers::packages(&metadata(root)?)?;
    for remark in files.iter().filter_map(rust::remark) {
        println!("{remark} (a remark, no fault)");
    }

    let mut faults = layers::check(&packages, &files);
    faults.extend(weight::check(root)?);
    faults.extend(modules::check(&files));
    faults.extend(weight::check_twice(root)?);
    faults.extend(files.iter().flat_map(rust::check));
    faults.extend(files.iter().flat_map(places::check));
    faults.extend(files.iter().flat_map(openings::check));
    let names: Vec<&str> = packages.iter().map(|package| &*package.name).collect();
    faults.extend(prose::check(&files, &names));
    Ok(faults)
}
