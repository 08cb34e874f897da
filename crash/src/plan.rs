//! What a seed determines: its flows and runs, what is done to them from outside, and when the process is killed.

use std::ops::Range;

use flowstone::durable::{Durability, WriteMoment};

use crate::{
    flows::{Stage, blueprints},
    nodes::Job,
    random::{Random, mix},
    version::Version,
};

/// The jobs of the writer thread. One that a process meets and that is not here is reported.
pub(crate) const JOBS: [&str; 25] = [
    "start", "visit", "item", "child", "wait", "pause", "answer", "refuse", "sleep", "wake", "stop", "retry", "cancel",
    "inbox", "fork", "delete", "piece", "prune", "flow", "usage", "begin", "park", "place", "resume", "refused",
];

pub(crate) const MOMENTS: [(WriteMoment, &str); 3] =
    [(WriteMoment::Before, "before"), (WriteMoment::Applied, "applied"), (WriteMoment::Committed, "committed")];

/// How many runs a seed has.
const RUNS: usize = 120;

/// A place in the life of a process at which it stops, to be killed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) job: &'static str,
    pub(crate) when: &'static str,
    /// Which occurrence, counted from 0.
    pub(crate) nth: u64,
}

/// How a process comes to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// It is killed so many milliseconds after its start.
    Time(u64),
    /// It is killed where it stopped.
    Point(Point),
    /// It cannot write files beyond so many KiB and what the ledger has already.
    Limit(u64),
    /// It ends by itself.
    Whole,
}

/// Who does something to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The process that drives the store.
    Driver,
    /// Another process, through `Requests`.
    Other,
}

/// What is done to a run from outside, beside answers and retries of what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Ends,
    /// It is cancelled after so many milliseconds, unless it has ended.
    Cancelled {
        after: u64,
        by: Who,
        retried: bool,
    },
    /// Once it has ended, another begins after this step.
    Forked(u64),
    /// Once it has ended, it is deleted.
    Deleted,
    /// Once all have ended, it is pruned.
    Pruned,
}

/// A run of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) id: String,
    /// The flow's place among the seed's; those to be pruned have the last.
    pub(crate) flow: usize,
    pub(crate) job: Job,
    pub(crate) fate: Fate,
    /// Who answers its questions and retries it.
    pub(crate) by: Who,
}

/// All that a seed determines.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) flows: Vec<Vec<Stage>>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) lives: Vec<Life>,
    pub(crate) durability: Durability,
    /// How many visits of a run may be made and not be on disk.
    pub(crate) behind: u64,
}

impl Script {
    pub(crate) fn of(seed: u64) -> Self {
        Self::with(seed, 0..RUNS, 300)
    }

    /// A few runs of the same kinds, which are over soon.
    pub(crate) fn small(seed: u64, runs: usize) -> Self {
        let first = usize::try_from(Random::of(seed, "first").below(16)).unwrap_or_default();
        Self::with(seed, first..first + runs, 60)
    }

    /// The runs of these numbers, which are cancelled within so many milliseconds, if they are.
    fn with(seed: u64, runs: Range<usize>, soon: u64) -> Self {
        let mut flows = blueprints(seed);
        // The runs of one flow are pruned, all of them.
        flows.push(flows[0].clone());
        let mut random = Random::of(seed, "runs");
        let plans = runs.map(|run| plan(&mut random, run, (flows.len(), soon))).collect();
        let behind = if random.one_in(4) { random.between(1, 4) } else { 0 };
        let durability = match usize::try_from(behind) {
            Ok(behind) if behind > 0 => Durability::Behind(behind),
            _ => Durability::Synced,
        };
        Self { seed, flows, plans, lives: lives(seed), durability, behind }
    }

    /// The program of a life, by its number.
    pub(crate) fn version(&self, life: usize) -> Version {
        let version = Version::of(self.seed, life, self.flows.len());
        if life + 1 < self.lives.len() { version } else { version.whole() }
    }

    pub(crate) fn plan(&self, id: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == id)
    }
}

/// The id of a run's fork.
pub(crate) fn fork_of(id: &str) -> String {
    format!("{id}-fork")
}

fn plan(random: &mut Random, run: usize, (flows, soon): (usize, u64)) -> Plan {
    let id = format!("run{run}");
    let last = flows - 1;
    let by = if random.one_in(2) { Who::Driver } else { Who::Other };
    let flow = if run % 16 == 15 { last } else { run % last };
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

/// Four lives that end too early, and one that does not. Each seed takes the next two points, so that many seeds in a row
/// take all.
fn lives(seed: u64) -> Vec<Life> {
    let mut random = Random::of(seed, "lives");
    let points = JOBS.len() * MOMENTS.len();
    let point = |random: &mut Random, index: u64| {
        let index = usize::try_from(index % points as u64).unwrap_or_default();
        let job = JOBS[index / MOMENTS.len()];
        let nth = match job {
            "visit" | "item" | "start" if random.one_in(2) => random.below(400),
            "delete" | "piece" | "prune" | "fork" | "refuse" | "flow" => random.below(2),
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
