//! A job in stages: each says what it does before it begins, and at the end there is a line with the time of each.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The stages that a job has gone through.
#[derive(Debug, Default)]
pub(crate) struct Stages(Vec<Stage>);

#[derive(Debug)]
struct Stage {
    name: &'static str,
    took: Duration,
    /// The error that it ended with.
    failed: Option<String>,
}

impl Stages {
    /// Goes through a stage. One that fails does not keep the next ones.
    pub(crate) fn go<T>(&mut self, name: &'static str, what: &str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        eprintln!("== {name}: {what}");
        let begun = Instant::now();
        let done = work();
        let (done, failed) = match done {
            Ok(done) => (Some(done), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        self.0.push(Stage { name, took: begun.elapsed(), failed });
        done
    }

    /// Prints the times, and fails if a stage has.
    pub(crate) fn end(self) -> Result<()> {
        let failed: Vec<String> =
            self.0.iter().filter_map(|stage| Some(format!("{}: {}", stage.name, stage.failed.as_ref()?))).collect();
        for stage in &self.0 {
            eprintln!("{}", stage.line());
        }
        match &*failed {
            [] => Ok(()),
            failed => bail!("{}", failed.join("; ")),
        }
    }
}

impl Stage {
    fn line(&self) -> String {
        let seconds = self.took.as_secs();
        let took = format!("{} min {:02} s", seconds / 60, seconds % 60);
        let failed = if self.failed.is_some() { ", failed" } else { "" };
        format!("{:<10} {took:>12}{failed}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_gone_through_and_the_failed_ones_are_named() {
        let mut stages = Stages::default();

        let first = stages.go("compile", "all", || -> Result<u32> { bail!("no compiler") });
        let second = stages.go("tests", "the rest", || Ok(2));
        let error = stages.end().unwrap_err();

        assert_eq!((first, second, error.to_string()), (None, Some(2), "compile: no compiler".to_owned()));
    }

    #[test]
    fn a_line_has_minutes_and_seconds() {
        let stage = Stage { name: "tests", took: Duration::from_secs(125), failed: None };

        assert_eq!(stage.line(), "tests        2 min 05 s");
    }
}
