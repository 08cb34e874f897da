//! `cargo xtask conformance`: the kit's hand-written and random flows, run by Flowstone and by PocketFlow.
//!
//! The kit is only read, and run from its own folder. The last line printed is the sum, `N passed, M failed`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};

use crate::{
    arguments::{Arguments, Usage},
    run::{build_release, captured, cargo, root},
    venv,
};

/// The library that is right by definition, in the version that the kit describes.
const REFERENCE: &str = "pocketflow==0.0.3";

const PROFILES: [&str; 5] = ["sync", "async", "batch", "nested", "all"];

/// Random flows of each profile, unless `--count` says otherwise: some seconds a profile.
const COUNT: usize = 1000;

/// The number of flows that agreed and the number of those that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
}

struct Kit {
    folder: PathBuf,
    python: PathBuf,
    program: PathBuf,
}

/// Compares the examples of the kit, and random flows of each profile for each seed.
pub(crate) fn conformance(mut arguments: Arguments) -> Result<()> {
    let folder: PathBuf =
        arguments.value("--kit")?.ok_or_else(|| Usage::error("`--kit DIR` says where the kit is".to_owned()))?;
    let count = arguments.value("--count")?.unwrap_or(COUNT);
    let seeds = match arguments.values::<u64>("--seeds")? {
        Some(seeds) => seeds,
        None => vec![arguments.value("--seed")?.unwrap_or_else(seed_from_the_clock)],
    };
    arguments.end()?;

    let kit = Kit::open(&folder)?;
    let mut sum = kit.compare("examples", &["--examples", "examples"])?;
    for seed in seeds {
        for profile in PROFILES {
            let (seed, count) = (seed.to_string(), count.to_string());
            let random = ["--seed", &seed, "--count", &count, "--profile", profile];
            sum = sum + kit.compare(&format!("{profile} --seed {seed}"), &random)?;
        }
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    ensure!(sum.passed > 0, "nothing was compared");
    ensure!(sum.failed == 0, "Flowstone and PocketFlow differ; `--seed S` repeats a run");
    Ok(())
}

impl Kit {
    fn open(folder: &Path) -> Result<Self> {
        let here = env::current_dir().context("there is no current folder")?;
        let folder = here.join(folder);
        ensure!(folder.join("compare.py").is_file(), "there is no conformance kit in {}", folder.display());
        let root = root()?;
        let python = venv::python(&root, "conformance", REFERENCE)?;
        let program = build_release(cargo(&root).args(["build", "--package", "flowstone-conformance"]))?;
        Ok(Self { folder, python, program })
    }

    /// Compares once, and shows what the kit says.
    fn compare(&self, title: &str, arguments: &[&str]) -> Result<Tally> {
        let (mut text, mut tally) = self.run(arguments)?;
        if tally.is_none() {
            // The kit fails at making some differing specs smaller; without that it counts them all the same.
            (text, tally) = self.run(&[arguments, &["--show", "0"]].concat())?;
        }
        print!("{text}");
        let tally = tally.with_context(|| format!("the kit ended without a result for `{title}`"))?;
        println!("{title}: {} passed, {} failed", tally.passed, tally.failed);
        Ok(tally)
    }

    /// Returns the kit's output without its closing line, and the tally in that line; `None` if it ended before.
    fn run(&self, arguments: &[&str]) -> Result<(String, Option<Tally>)> {
        let mut command = Command::new(&self.python);
        command.current_dir(&self.folder).env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["compare.py", "--cmd", &quoted(&self.program)?]).args(arguments);
        let (text, _) = captured(&mut command)?;
        let closing = text.trim_end().rsplit('\n').next().unwrap_or_default();
        let tally = Tally::read(closing);
        let shown = if tally.is_some() { text.trim_end().strip_suffix(closing).unwrap_or_default() } else { &text };
        Ok((shown.to_owned(), tally))
    }
}

impl Tally {
    fn read(line: &str) -> Option<Self> {
        let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
        Some(Self { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

/// The path as one word of a shell's command line, as the kit reads it.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', r#"'"'"'"#)))
}

/// A seed for which nobody has run the kit yet, short enough to be typed.
fn seed_from_the_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_micros()) * 1000 + since.as_secs() % 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_read_from_the_closing_line_only() {
        assert_eq!(Tally::read("12 passed, 3 failed"), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(Tally::read("12 passed"), None);
        assert_eq!(Tally::read("Traceback (most recent call last):"), None);
    }

    #[test]
    fn a_path_with_blanks_and_quotes_stays_one_word() {
        assert_eq!(quoted(Path::new("it's here")).unwrap(), r#"'it'"'"'s here'"#);
    }
}
