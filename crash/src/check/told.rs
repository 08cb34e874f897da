//! Checks the facts that callers were told of a run: they hold until something is done to the run.

use anyhow::{Result, ensure};
use flowstone::durable::Status;

use crate::{
    check::Checker,
    found::Found,
    ledger::{Line, Told, root},
};

impl Checker<'_> {
    /// Notes a fact that a caller was told, and drops the facts that are about to change.
    pub(super) fn hear(&mut self, line: &Line) {
        match line {
            Line::Told(what, run) => {
                if *what == Told::Ended {
                    self.ended.insert(run.clone());
                }
                if *what == Told::Failed {
                    self.failed(run);
                }
                // Another thread may write down late what it was told before the deletion began.
                if *what == Told::Gone || !self.leaving.contains(root(run, ':')) {
                    self.told.insert((run.clone(), *what));
                }
            }
            Line::Mark(what, run) => {
                if what == "retry" {
                    // The run may ask its questions again.
                    self.ways.retain(|key, _| root(root(key, '?'), '/') != run);
                }
                let changed = |told: &Told| match &what[..] {
                    "retry" => matches!(told, Told::Cancelled | Told::Failed | Told::Late(_)),
                    "cancel" => matches!(told, Told::Uncancelled | Told::Retried),
                    "delete" | "prune" => *told != Told::Gone,
                    _ => false,
                };
                self.told.retain(|(of, told)| root(of, ':') != run || !changed(told));
            }
            Line::Deed(_) => {}
        }
    }

    /// Checks that all facts hold that callers were told.
    pub(super) fn kept_its_word(&mut self, found: &Found) -> Result<()> {
        for (run, told) in &self.told {
            let stored = found.runs.get(run);
            let status = stored.map(|stored| stored.status);
            let so = match told {
                Told::Started => stored.is_some(),
                Told::Ended => status == Some(Status::Ended as i64),
                Told::Answered(step) => stored.is_some_and(|stored| stored.last >= *step || stored.has_answer(*step)),
                Told::Late(step) => stored.is_some_and(|stored| !stored.taken.contains(step)),
                Told::Failed => stored.is_some_and(|stored| stored.failed_after.is_some()),
                Told::Cancelled => status == Some(Status::Cancelled as i64),
                Told::Uncancelled => status.is_some_and(|status| status != Status::Cancelled as i64),
                Told::Retried => status.is_some_and(|status| status != Status::Failed as i64),
                Told::Gone => stored.is_none(),
            };
            ensure!(so, "somebody was told of run {run}: {told:?}; but it has status {status:?}");
            self.counts.told += 1;
        }
        Ok(())
    }
}
