//! The sum of many seeds, as a table.

use std::{collections::BTreeMap, fmt};

use crate::{
    check::Counts,
    plan::{JOBS, MOMENTS},
    seed::Outcome,
};

/// The number of seeds from which on processes must have been killed at every write point that occurs.
const MANY: u64 = 200;

/// The sum of the outcomes of seeds.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seeds: u64,
    pub(crate) failed: Vec<u64>,
    sum: Outcome,
}

impl Report {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        let Outcome { runs, visits, kills, aborts, full, points, limited, locked, damaged, stuck, counts } = outcome;
        let sum = &mut self.sum;
        sum.runs += runs;
        sum.visits += visits;
        sum.kills += kills;
        sum.aborts += aborts;
        sum.full += full;
        sum.limited += limited;
        sum.locked += locked;
        sum.stuck += stuck;
        for (point, (kills, seen)) in points {
            let known = sum.points.entry(point).or_default();
            (known.0, known.1) = (known.0 + kills, known.1 || seen);
        }
        for (name, (copies, told)) in damaged {
            let known = sum.damaged.entry(name).or_default();
            (known.0, known.1) = (known.0 + copies, known.1 + told);
        }
        sum.counts.add(counts);
        self.seeds += 1;
    }

    /// Returns the write points that occur but at which no process was killed, and those that are unknown.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let known = |(job, when): &(String, String)| {
            JOBS.contains(&job.as_str()) && MOMENTS.iter().any(|(_, name)| name == when)
        };
        let unknown = self.sum.points.keys().filter(|point| !known(point));
        let unknown = unknown.map(|(job, when)| format!("`{job}` {when} is a write point that the plan does not know"));
        let missed = self.sum.points.iter().filter(|(_, (kills, seen))| self.seeds >= MANY && *seen && *kills == 0);
        unknown.chain(missed.map(|((job, when), _)| format!("no process was killed at `{job}` {when}"))).collect()
    }

    fn kills_at(&self, job: &str, when: &str) -> String {
        match self.sum.points.get(&(job.to_owned(), when.to_owned())) {
            Some((kills, _)) => kills.to_string(),
            None => "-".to_owned(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { runs, visits, kills, aborts, full, limited, locked, damaged, stuck, counts, .. } = &self.sum;
        let Counts { deeds, committed, repeated, states, told, answered, expired, poisoned, beside } = counts;
        writeln!(f, "{} seeds, {} failed", self.seeds + self.failed.len() as u64, self.failed.len())?;
        writeln!(f, "{runs} runs, {visits} visits, {deeds} lines of ledgers, {states} states compared")?;
        writeln!(f, "{kills} kills; {committed} deeds committed; {repeated} under way at a kill and done again")?;
        writeln!(f, "{told} times that what somebody was told was found so")?;
        writeln!(
            f,
            "{aborts} lives ended by a run that kills its process; {poisoned} such runs failed, {beside} others"
        )?;
        writeln!(f, "{answered} questions that may expire answered, {expired} expired")?;
        writeln!(f, "{full} lives in which so many runs were at work at once as may be")?;
        writeln!(f, "{limited} lives ended by a limit of file sizes; {locked} stores found locked")?;
        damage(f, damaged, *stuck)?;
        writeln!(f, "\nkills at      before  applied  committed")?;
        for job in JOBS {
            let [before, applied, committed] = MOMENTS.map(|(_, when)| self.kills_at(job, when));
            writeln!(f, "  {job:10} {before:>7} {applied:>8} {committed:>10}")?;
        }
        Ok(())
    }
}

fn damage(f: &mut fmt::Formatter<'_>, damaged: &BTreeMap<&str, (u64, u64)>, stuck: u64) -> fmt::Result {
    for (name, (copies, told)) in damaged {
        writeln!(f, "{copies} copies with damage: {name}; {told} of them told of it")?;
    }
    writeln!(f, "{stuck} damaged copies over which some run did not come to its end")
}
