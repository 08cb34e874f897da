//! Measuring: wall and CPU time of rounds in turn, and the memory of a process of its own.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use cpu_time::ProcessTime;
use serde_json::{Value, json};

/// The number of rounds of each side; the median counts.
pub const ROUNDS: usize = 5;

/// One case: two programs that do the same work.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// The number of steps, runs or items, unless `--n` says otherwise.
    pub n: usize,
    /// The word for one step, run or item.
    pub unit: &'static str,
    /// Does the work with Flowstone.
    pub ours: fn(usize),
    /// Does it by hand.
    pub limit: fn(usize),
    /// The bytes that are counted for one step, run or item.
    pub bytes: Bytes,
}

/// The thing that is counted in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// Nothing.
    Uncounted,
    /// The peak memory.
    Memory,
    /// The bytes in a file that stays, as the case itself says by [`wrote`].
    File,
}

static WROTE: AtomicU64 = AtomicU64::new(0);

/// Notes the size of the file that a round has written.
pub fn wrote(bytes: u64) {
    WROTE.store(bytes, Ordering::Relaxed);
}

/// One of the two programs of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one with Flowstone.
    Ours,
    /// The one by hand.
    Limit,
}

impl Side {
    /// Its name on the command line and in the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Limit => "limit",
        }
    }
}

/// The cost of a side.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Seconds on the wall clock.
    pub wall: f64,
    /// Seconds of CPU time, of all threads.
    pub cpu: f64,
    /// Peak memory beyond that of a process that does nothing, or the size of the file, for each of the n.
    pub bytes: Option<f64>,
}

/// The costs of both sides of a case.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// The case.
    pub case: Case,
    /// Its size.
    pub n: usize,
    /// The cost with Flowstone.
    pub ours: Cost,
    /// The cost by hand.
    pub limit: Cost,
}

impl Case {
    /// Runs both sides in turn, and takes the medians.
    ///
    /// # Errors
    ///
    /// When the process that measures memory cannot be started.
    pub fn compare(self, n: usize) -> Result<Comparison> {
        self.run(Side::Ours, n / 10 + 1); // warms both sides up
        self.run(Side::Limit, n / 10 + 1);
        let (mut ours, mut limit) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(self.time(Side::Ours, n));
            limit.push(self.time(Side::Limit, n));
        }
        let (mut ours, mut limit) = (median(&ours), median(&limit));
        if self.bytes == Bytes::Memory {
            ours.bytes = Some(self.memory_of(Side::Ours, n)?);
            limit.bytes = Some(self.memory_of(Side::Limit, n)?);
        }
        Ok(Comparison { case: self, n, ours, limit })
    }

    /// Runs one side once.
    pub fn run(self, side: Side, n: usize) {
        match side {
            Side::Ours => (self.ours)(n),
            Side::Limit => (self.limit)(n),
        }
    }

    fn time(self, side: Side, n: usize) -> Cost {
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        self.run(side, n);
        let done = DONE.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (end, cpu_end) = done.unwrap_or_else(|| (Instant::now(), ProcessTime::now()));
        let file = (self.bytes == Bytes::File).then(|| WROTE.load(Ordering::Relaxed) as f64 / n as f64);
        let (wall, cpu) = (end.duration_since(wall), cpu_end.duration_since(cpu));
        Cost { wall: wall.as_secs_f64(), cpu: cpu.as_secs_f64(), bytes: file }
    }

    /// The peak memory of one side in a process of its own, for each of the n.
    fn memory_of(self, side: Side, n: usize) -> Result<f64> {
        let peak = |n: usize| -> Result<f64> {
            let program = std::env::current_exe()?;
            let output = std::process::Command::new(program)
                .args([self.name, "--n", &n.to_string(), "--peak", side.name()])
                .output()
                .context("cannot start the process that measures memory")?;
            ensure!(output.status.success(), "the process that measures memory failed: {output:?}");
            Ok(String::from_utf8(output.stdout)?.trim().parse()?)
        };
        Ok((peak(n)? - peak(1)?) / n as f64)
    }
}

/// The highest resident memory of this process so far, in bytes.
///
/// # Errors
///
/// For systems without `/proc`.
pub fn peak_memory() -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("memory is read from /proc, which is not here")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

static DONE: Mutex<Option<(Instant, ProcessTime)>> = Mutex::new(None);

/// Ends the measured part of a round; the rest is tidying up.
pub fn done() {
    *DONE.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), ProcessTime::now()));
}

fn median(costs: &[Cost]) -> Cost {
    let middle = |of: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let bytes = costs[0].bytes.map(|_| middle(|cost| cost.bytes.unwrap_or_default()));
    Cost { wall: middle(|cost| cost.wall), cpu: middle(|cost| cost.cpu), bytes }
}

impl Cost {
    fn to_json(self) -> Value {
        json!({ "wall_s": self.wall, "cpu_s": self.cpu, "bytes_per_run": self.bytes })
    }
}

impl Comparison {
    /// One line for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "case": self.case.name, "n": self.n, "ours": self.ours.to_json(), "limit": self.limit.to_json() })
    }

    /// One row for people.
    #[must_use]
    pub fn row(&self) -> String {
        let per = |seconds: f64| seconds / self.n as f64 * 1e9;
        let (ours, limit) = (self.ours, self.limit);
        let bytes = match (ours.bytes, limit.bytes) {
            (Some(ours), Some(limit)) => format!("{ours:.0} / {limit:.0}"),
            _ => "-".to_owned(),
        };
        format!(
            "{:<12} {:>9} {:<5} wall {:>9.1} / {:>9.1} ns = {:>5.2}   CPU {:>8.1} / {:>8.1} ns = {:>5.2}   bytes {bytes}",
            self.case.name,
            self.n,
            self.case.unit,
            per(ours.wall),
            per(limit.wall),
            ours.wall / limit.wall,
            per(ours.cpu),
            per(limit.cpu),
            ours.cpu / limit.cpu,
        )
    }
}
