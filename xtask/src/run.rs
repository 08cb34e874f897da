//! Running other programs: each command is shown before it runs, and its failure names it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The cargo that runs this program, at work in `root`.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// The folder of the workspace that the caller is in.
pub(crate) fn root() -> Result<PathBuf> {
    let here = env::current_dir().context("there is no current folder")?;
    let mut locate = cargo(&here);
    let manifest = output(locate.args(["locate-project", "--workspace", "--message-format", "plain"]))?;
    let folder = Path::new(manifest.trim()).parent().context("the workspace's manifest lies in no folder")?;
    Ok(folder.to_owned())
}

/// Returns cargo's description of the workspace's own packages.
pub(crate) fn metadata(root: &Path) -> Result<Value> {
    let text = output(cargo(root).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("`cargo metadata` printed no JSON")
}

/// Builds a package's only program in release mode, and says where it is.
pub(crate) fn build_release(command: &mut Command) -> Result<PathBuf> {
    command.args(["--release", "--message-format", "json-render-diagnostics"]);
    let messages = shown_output(command)?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back()
        .with_context(|| format!("`{}` built no program", text_of(command)))
}

/// Shows a command and runs it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    show(command);
    let status = command.status().with_context(|| cannot_start(command))?;
    succeeded(command, status)
}

/// Runs a command, and returns what it prints on its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let (text, status) = captured(command)?;
    succeeded(command, status)?;
    Ok(text)
}

/// Shows a command, runs it, and returns what it prints on its standard output.
pub(crate) fn shown_output(command: &mut Command) -> Result<String> {
    show(command);
    output(command)
}

/// Runs a command, and returns what it prints on its standard output, also when it fails.
pub(crate) fn captured(command: &mut Command) -> Result<(String, ExitStatus)> {
    let finished = command.stderr(Stdio::inherit()).output().with_context(|| cannot_start(command))?;
    let text = String::from_utf8(finished.stdout).with_context(|| format!("`{}` printed no text", text_of(command)))?;
    Ok((text, finished.status))
}

fn show(command: &Command) {
    eprintln!("$ {}", text_of(command));
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "`{}` failed: {status}", text_of(command));
    Ok(())
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", text_of(command))
}

/// The command as one would type it; the program without its folder, which says nothing to the reader.
fn text_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("no-such-program-here").arg("--all")).unwrap_err();

        assert_eq!(error.to_string(), "cannot start `no-such-program-here --all`");
    }
}
