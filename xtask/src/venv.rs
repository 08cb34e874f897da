//! Virtual environments for what is compared with Python programs: `.venv-<name>` in the workspace's folder.
//!
//! **Invariant:** a folder that says what it holds was made whole; every other one is made again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::run::{output, run};

/// The file in which an environment says what it holds; written last, so that a half-made one is made again.
const INSTALLED: &str = "installed.txt";

/// Makes an environment with these requirements, unless it is there, and returns its interpreter.
pub(crate) fn python(root: &Path, name: &str, requirements: &str) -> Result<PathBuf> {
    let folder = root.join(format!(".venv-{name}"));
    let interpreter = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if holds(&folder, requirements) && interpreter.exists() {
        return Ok(interpreter);
    }

    output(Command::new("python3").arg("--version")).context("python3 (3.11 or later) is needed and does not run")?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("python3 cannot make virtual environments (on Debian: install `python3-venv`)")?;
    let packages = requirements.split_whitespace();
    run(Command::new(&interpreter)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(packages))
    .context("the package registry gave no packages: is there a network?")?;
    finish(&folder, requirements)?;
    Ok(interpreter)
}

/// Returns `true` for a folder that was made whole, with these requirements.
pub(crate) fn holds(folder: &Path, requirements: &str) -> bool {
    fs::read_to_string(folder.join(INSTALLED)).is_ok_and(|held| held == requirements)
}

/// Says in a folder what it holds.
pub(crate) fn finish(folder: &Path, requirements: &str) -> Result<()> {
    let installed = folder.join(INSTALLED);
    fs::write(&installed, requirements).with_context(|| format!("cannot write {}", installed.display()))
}
