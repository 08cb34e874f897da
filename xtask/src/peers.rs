//! Programs from elsewhere that the tests speak with: a Python environment in `.venv-peers`, npm packages in
//! `.node-peers`.
//!
//! Tests find them by `FLOWSTONE_PEERS_PYTHON`, an interpreter, and `FLOWSTONE_PEERS_NODE`, a folder with
//! `node_modules`. What is not set is not tested, but in CI, where all of it must be.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    run::{output, run},
    venv,
};

/// A model's service, an MCP server, the MCP project's own client, a collector of traces.
const PYTHON: &str = "llmock==0.2.2 mcp==2.3.0 mcp-server-time==2026.10.19 rotel==0.0.1a15";
/// Two MCP servers of the MCP project.
const NODE: [&str; 2] =
    ["@modelcontextprotocol/server-everything@2026.8.31", "@modelcontextprotocol/server-filesystem@2026.8.31"];

/// Installs what is not there yet, and returns the variables that the tests find it by.
///
/// A package that cannot be installed is said in a line, and the tests go on without it; where `CI` is set, it is an
/// error.
pub(crate) fn install(root: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let peers = [
        ("FLOWSTONE_PEERS_PYTHON", PYTHON.to_owned(), venv::python(root, "peers", PYTHON)),
        ("FLOWSTONE_PEERS_NODE", NODE.join(" "), node(root)),
    ];
    let mut variables = Vec::new();
    for (variable, packages, installed) in peers {
        match installed {
            Ok(path) => variables.push((variable, path)),
            Err(error) if in_ci() => return Err(error.context(format!("CI tests against {packages}"))),
            Err(error) => eprintln!("not tested: {packages}: {error:#}"),
        }
    }
    Ok(variables)
}

/// Makes the folder of npm packages, unless it is there, and returns it.
fn node(root: &Path) -> Result<PathBuf> {
    let folder = root.join(".node-peers");
    let packages = NODE.join(" ");
    if venv::holds(&folder, &packages) {
        return Ok(folder);
    }

    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    output(Command::new("node").arg("--version")).context("node (20 or later) is needed and does not run")?;
    output(Command::new(npm).arg("--version")).context("npm is needed and does not run")?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // The folder is named, or npm would look for a package in the folders above it.
    run(Command::new(npm)
        .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix"])
        .arg(&folder)
        .args(NODE))
    .context("the package registry gave no packages: is there a network?")?;
    venv::finish(&folder, &packages)?;
    Ok(folder)
}

fn in_ci() -> bool {
    env::var_os("CI").is_some()
}
