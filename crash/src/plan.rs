//! The plan of a seed: its flows and runs, what is done to them from outside, and when the process is killed.

use std::{cmp::Ordering, ops::Range};

use flowstone::durable::{Durability, WriteMoment};

use crate::{
    flows::{Stage, blueprints, poisonous},
    ledger::root,
    nodes::Job,
    random::{Random, mix},
    version::Version,
};

/// The jobs of the writer thread. If a process meets a job that is missing here, it is reported.
pub(crate) const JOBS: [&str; 26] = [
    "start", "visit", "item", "child", "wait", "pause", "answer", "refuse", "sleep", "wake", "stop", "retry", "cancel",
    "inbox", "fork", "delete", "piece", "prune", "flow", "usage", "begin", "park", "place", "resume", "refused",
    "panic",
];

pub(crate) const MOMENTS: [(WriteMoment, &str); 3] =
    [(WriteMoment::Before, "before"), (WriteMoment::Applied, "applied"), (WriteMoment::Committed, "committed")];

/// The number of runs of a seed.
const RUNS: usize = 120;

/// A place in the life of a process at which it stops, to be killed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) job: &'static str,
    pub(crate) when: &'static str,
    /// The occurrence, counted from 0.
    pub(crate) nth: u64,
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// It is killed this many milliseconds after its start.
    Time(u64),
    /// It is killed where it stopped.
    Point(Point),
    /// It cannot write files that are larger than this many KiB, plus the present size of the ledger.
    Limit(u64),
    /// It ends by itself.
    Whole,
}

/// The process that acts on a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The process that drives the store.
    Driver,
    /// Another process, through `Requests`.
    Other,
}

/// The fate of a run: the actions on it from outside, beside answers and retries of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Ends,
    /// It is cancelled after this many milliseconds, unless it has ended.
    Cancelled {
        after: u64,
        by: Who,
        retried: bool,
    },
    /// Once it has ended, it is forked after this step.
    Forked(u64),
    /// Once it has ended, it is deleted.
    Deleted,
    /// Once all runs have ended, it is pruned.
    Pruned,
    /// It kills its process this many times, unless it has failed before. If it has failed, it stays so, or is mended
    /// and retried.
    Poisoned {
        times: u32,
        retried: bool,
    },
}

/// A run of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) id: String,
    /// The flow's number in the seed. Runs that kill their process have the last flow but one, and runs to be pruned
    /// the last.
    pub(crate) flow: usize,
    pub(crate) job: Job,
    pub(crate) fate: Fate,
    /// The process that answers its questions and retries it.
    pub(crate) by: Who,
}

/// The whole plan of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) flows: Vec<Vec<Stage>>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) lives: Vec<Life>,
    pub(crate) durability: Durability,
    /// The most visits of a run that may be committed but not on disk.
    pub(crate) behind: u64,
    /// The most times that a visit may be started again, in the flow whose runs kill their process.
    pub(crate) max_resumes: u32,
}

/// The default of the same number, for all other flows.
const MAX_RESUMES: u32 = 5;

impl Script {
    pub(crate) fn of(seed: u64) -> Self {
        let mut script = Self::with(seed, 0..RUNS, 300);
        script.poison();
        script
    }

    /// Returns a plan with a few runs of the same kinds, which are over soon.
    pub(crate) fn small(seed: u64, runs: usize) -> Self {
        let first = usize::try_from(Random::of(seed, "first").below(16)).unwrap_or_default();
        Self::with(seed, first..first + runs, 60)
    }

    /// Plans the runs of these numbers. A run that is cancelled is cancelled within `soon` milliseconds.
    fn with(seed: u64, runs: Range<usize>, soon: u64) -> Self {
        let mut flows = blueprints(seed);
        let mut random = Random::of(seed, "runs");
        let plans = runs.map(|run| plan(&mut random, run, (flows.len(), soon))).collect();
        let mut poison = Random::of(seed, "poison");
        let max_resumes = [1, 1, 2, MAX_RESUMES][usize::try_from(poison.below(4)).unwrap_or_default()];
        flows.push(poisonous(&mut poison));
        // All runs of one flow are pruned.
        flows.push(flows[0].clone());
        let behind = if random.one_in(4) { random.between(1, 4) } else { 0 };
        let durability = match usize::try_from(behind) {
            Ok(behind) if behind > 0 => Durability::Behind(behind),
            _ => Durability::Synced,
        };
        Self { seed, flows, plans, lives: lives(seed), durability, behind, max_resumes }
    }

    /// Adds runs that kill their process, in half of the seeds: some as often as the flow allows, some for ever.
    fn poison(&mut self) {
        let mut random = Random::of(self.seed, "poisoned runs");
        let flow = self.flows.len() - 2;
        for run in 0..random.below(4).saturating_sub(1) {
            let for_ever = random.one_in(2);
            let times = if for_ever {
                u32::MAX
            } else {
                u32::try_from(random.between(1, u64::from(self.max_resumes))).unwrap_or(1)
            };
            let fate = Fate::Poisoned { times, retried: !for_ever || random.one_in(2) };
            let by = if random.one_in(2) { Who::Driver } else { Who::Other };
            let id = format!("poison{run}");
            let job = Job::new(id.clone(), mix(random.next()), 0);
            self.plans.push(Plan { id, flow, job, fate, by });
        }
    }

    /// Returns the number of times that a visit of a flow may be started again after its process has died.
    pub(crate) fn max_resumes(&self, flow: usize) -> u32 {
        if flow + 2 == self.flows.len() { self.max_resumes } else { MAX_RESUMES }
    }

    /// Returns the number of times that all runs together may kill their process.
    pub(crate) fn most_deaths(&self) -> u64 {
        let counted = self.plans.iter().map(|plan| match plan.fate {
            // The count starts again when the run is retried.
            Fate::Poisoned { retried, .. } => 1 + u64::from(retried),
            _ => 0,
        });
        // It also starts again when a visit has kept another item.
        counted.sum::<u64>() * (u64::from(self.max_resumes) + 1) * 3
    }

    /// Returns the program of a life, by its number. After the last life it stays the same, and no run kills it.
    pub(crate) fn version(&self, life: usize) -> Version {
        let last = self.lives.len() - 1;
        let version = Version::of(self.seed, life.min(last), self.flows.len() - 2);
        match life.cmp(&last) {
            Ordering::Less => version,
            Ordering::Equal => version.whole(),
            Ordering::Greater => version.whole().calm(),
        }
    }

    /// Returns the plan of a run, also by the id of its fork or of a child.
    pub(crate) fn plan(&self, id: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == origin(id))
    }
}

/// Returns the id of a planned run, given its own id or that of a fork or a child of it.
pub(crate) fn origin(id: &str) -> &str {
    let root = root(id, ':');
    root.strip_suffix("-fork").unwrap_or(root)
}

/// Returns the id of a run's fork.
pub(crate) fn fork_of(id: &str) -> String {
    format!("{id}-fork")
}

fn plan(random: &mut Random, run: usize, (flows, soon): (usize, u64)) -> Plan {
    let id = format!("run{run}");
    let by = if random.one_in(2) { Who::Driver } else { Who::Other };
    // The last flow is the only one whose runs are pruned.
    let flow = if run % 16 == 15 { flows + 1 } else { run % flows };
    let fate = match run % 16 {
        15 => Fate::Pruned,
        3 | 9 => Fate::Cancelled { after: random.below(soon), by, retried: random.one_in(2) },
        5 => Fate::Forked(random.below(3)),
        7 => Fate::Deleted,
        _ => Fate::Ends,
    };
    let ballast = if random.one_in(5) { 6000 } else { 120 };
    let job = Job::new(id.clone(), mix(random.next()), usize::try_from(random.below(ballast)).unwrap_or_default());
    Plan { id, flow, job, fate, by }
}

/// Returns the ends of five lives: four end too early, and the last does not. Each seed takes the next two write
/// points, so that many seeds in a row take all.
fn lives(seed: u64) -> Vec<Life> {
    let mut random = Random::of(seed, "lives");
    let points = JOBS.len() * MOMENTS.len();
    let point = |random: &mut Random, index: u64| {
        let index = usize::try_from(index % points as u64).unwrap_or_default();
        let job = JOBS[index / MOMENTS.len()];
        let nth = match job {
            "visit" | "item" | "start" if random.one_in(2) => random.below(400),
            "delete" | "piece" | "prune" | "fork" | "refuse" | "flow" => random.below(2),
            // Few lives come to such a point at all.
            "resume" => 0,
            _ if random.one_in(2) => random.below(30),
            _ => 0,
        };
        Life::Point(Point { job, when: MOMENTS[index % MOMENTS.len()].1, nth })
    };
    let mut lives = vec![Life::Time(random.below(400)), Life::Time(random.below(900))];
    if random.one_in(4) {
        lives.push(Life::Limit(random.between(900, 3000)));
    }
    for place in 0..3 {
        lives.push(point(&mut random, seed.wrapping_mul(3).wrapping_add(place)));
    }
    random.shuffle(&mut lives);
    lives.push(Life::Whole);
    lives
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    /// Returns the names of the store's jobs, as they stand in its calls of the writer.
    fn names(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self::names(&path, names);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for call in [".call", ".put", ".write", ".keep"] {
                // Types may stand between the name of the method and its arguments.
                let is_types = |text: &str| {
                    let types = text.strip_prefix("_blocking").unwrap_or(text);
                    types.is_empty() || types.starts_with("::<") && types.ends_with('>')
                };
                let calls = text.split(call).skip(1).filter_map(|rest| rest.split_once('('));
                let arguments = calls.filter(|(types, _)| is_types(types)).map(|(_, arguments)| arguments.trim_start());
                let arguments = arguments.filter_map(|arguments| arguments.strip_prefix('"'));
                names.extend(arguments.filter_map(|rest| Some(rest.split_once("\",")?.0.to_owned())));
            }
        }
    }

    #[test]
    fn every_job_of_the_writer_is_a_point_to_be_killed_at() {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/durable/src");
        let mut found = BTreeSet::new();

        names(&source, &mut found);

        assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), JOBS.into_iter().collect());
    }
}
