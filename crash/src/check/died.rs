//! Deaths of processes: a visit is started again as often as its flow allows, and no more.

use anyhow::{Result, ensure};

use crate::{check::Checker, found::Found, plan::Fate};

impl Checker<'_> {
    /// Notes that a process died, by its own doing or another's.
    pub(crate) fn death(&mut self) {
        self.deaths += 1;
    }

    /// Checks that a visit was started again as often as its flow allows, and that no run failed for deaths that did
    /// not happen.
    pub(super) fn died(&mut self, found: &Found) -> Result<()> {
        for (run, stored) in &found.runs {
            let Some(plan) = self.script.plan(run) else { continue };
            let most = u64::from(self.script.max_resumes(plan.flow));
            let most = most.min(self.deaths);
            ensure!(stored.deaths <= most, "run {run} was resumed after {} deaths, of {most}", stored.deaths);
            let Some(deaths) = stored.failed_after else { continue };
            let most = u64::from(self.script.max_resumes(plan.flow)) + 1;
            ensure!(deaths == most, "run {run} failed after {deaths} deaths, and not after {most}");
            ensure!(deaths <= self.deaths, "run {run} failed after {deaths} deaths, of {} that were", self.deaths);
            self.failed(run);
        }
        Ok(())
    }

    /// Counts a run that failed since its process died too often.
    pub(super) fn failed(&mut self, run: &str) {
        if self.failed.insert(run.to_owned()) {
            let poisoned = self.script.plan(run).is_some_and(|plan| matches!(plan.fate, Fate::Poisoned { .. }));
            let count = if poisoned { &mut self.counts.poisoned } else { &mut self.counts.beside };
            *count += 1;
        }
    }
}
