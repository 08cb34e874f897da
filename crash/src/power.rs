//! Power cuts: the runs of a seed on a disk that loses what was not synced, in this process.
//!
//! ```text
//! run once undisturbed ─▶ so many syncs and changes
//! for each sync, and for random changes:   a chain
//!   drive ─ cut ─▶ what the disk has left ─▶ check ─▶ drive again ─ perhaps a cut soon after ─▶ … ─▶ drive to the end
//! ```
//!
//! The ledger and what callers were told are kept in memory, and grow only while the power is on.

use std::{
    fmt,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use flowstone::durable::StoreOptions;
use flowstone_disk::{Counts, Cut, Disk, Image, Losses};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::{
    Options,
    at_work::AtWork,
    check::{self, Checker},
    expected::Expected,
    fault::Fault,
    found::Found,
    ledger::{Ledger, Line},
    nodes::World,
    operator,
    other::Meddler,
    plan::Script,
    poison::Poison,
    random::Random,
    seen::Watch,
    version::Version,
};

/// The number of runs of a seed: they are few, so that the power can be cut at each of their syncs.
const RUNS: usize = 6;

/// The longest time that a life may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most cuts of one chain.
const LONGEST: usize = 3;

/// The number of failed chains after which no other begins, since each keeps its files.
const ENOUGH: usize = 5;

/// Cuts the power as often as the options say, in as many seeds as that takes, and prints the sum.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    println!("{} power cuts from seed {}", options.power, options.from);
    let (begun, run) = (Instant::now(), Mutex::new(Run { next: options.from, ..Run::default() }));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = lock(&run).take(options.power);
                    let Some((trial, number)) = next else { return };
                    let mut outcome = Outcome::default();
                    let result = folder().and_then(|folder| {
                        let done = trial.chain(number, folder.path(), &mut outcome);
                        done.with_context(|| format!("its files are in {}", folder.keep().display()))
                    });
                    lock(&run).add(&outcome, result.map_err(|error| (trial.script.seed, error)));
                }
            });
        }
    });
    let run = run.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{run}\n{:.1} s", begun.elapsed().as_secs_f64());
    Ok(if run.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The chains that are still to come, and the sum of those that are done.
#[derive(Default)]
struct Run {
    /// The next seed, for when all chains of the present one have begun.
    next: u64,
    seeds: u64,
    trial: Option<(Arc<Trial>, usize)>,
    sum: Outcome,
    failed: usize,
}

impl Run {
    /// Takes the next chain, unless there were enough cuts.
    fn take(&mut self, wanted: u64) -> Option<(Arc<Trial>, usize)> {
        loop {
            if self.sum.cuts.iter().sum::<u64>() >= wanted || self.failed >= ENOUGH {
                return None;
            }
            if let Some((trial, number)) = &mut self.trial
                && *number < trial.cuts.len()
            {
                *number += 1;
                return Some((Arc::clone(trial), *number - 1));
            }
            match Trial::of(self.next, false) {
                Ok(trial) => self.trial = Some((Arc::new(trial), 0)),
                Err(error) => self.add(&Outcome::default(), Err((self.next, error))),
            }
            self.next = self.next.wrapping_add(1);
            self.seeds += 1;
        }
    }

    fn add(&mut self, outcome: &Outcome, result: Result<(), (u64, anyhow::Error)>) {
        self.sum.add(outcome);
        if let Err((seed, error)) = result {
            eprintln!("seed {seed}: {error:#}\n  again: cargo xtask crash --power 200 --from {seed}");
            self.failed += 1;
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { chains, cuts: [before, after, changes], again, losses, counts, seen } = &self.sum;
        let Losses { kept, lost, torn, names } = losses;
        let cuts = before + after + changes;
        writeln!(f, "{cuts} power cuts in {} seeds, {chains} chains, {} failed", self.seeds, self.failed)?;
        writeln!(f, "{before} cuts before a sync, {after} after one, {changes} after another change; {again} of them")?;
        writeln!(f, "in a process that had begun with what a cut had left")?;
        writeln!(f, "{lost} parts of writes lost, {kept} kept, though not synced; {torn} writes torn;")?;
        writeln!(f, "{names} names and sizes of files lost")?;
        writeln!(
            f,
            "{} deeds, {} of them done again; {} found committed",
            counts.deeds, counts.repeated, counts.committed
        )?;
        write!(f, "{} states compared; {} promises kept; {seen} rows seen and still there", counts.states, counts.told)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The runs of a seed, and the cuts that are possible in them.
struct Trial {
    script: Arc<Script>,
    expected: Expected,
    lying: bool,
    /// The first cut of each chain, in a random order.
    cuts: Vec<Cut>,
}

/// The sum of some chains.
#[derive(Debug, Default)]
struct Outcome {
    chains: u64,
    /// Cuts before a sync, after one, and after another change.
    cuts: [u64; 3],
    /// Cuts in a life that began with the files that another cut had left.
    again: u64,
    losses: Losses,
    counts: check::Counts,
    /// Rows that a reader or a caller had seen before a cut, and that were there after it.
    seen: u64,
}

/// The end of a life.
enum End {
    Done,
    /// The power was cut; this holds the rows that a reader had seen before.
    Cut(Arc<Disk>, Found),
}

impl Trial {
    /// Drives the runs of a seed once on a disk whose power stays on, and plans a cut at each sync.
    fn of(seed: u64, lying: bool) -> Result<Self> {
        let script = Arc::new(Script::small(seed, RUNS));
        let expected = Expected::of(&script).context("in memory")?;
        let mut trial = Self { script, expected, lying, cuts: Vec::new() };
        let folder = folder()?;
        let lines = Arc::default();
        let mut random = Random::of(seed, "cuts");
        let (end, counts) =
            trial.live((&folder.path().join("whole"), 0), &Image::default(), None, &lines, &mut random)?;
        ensure!(matches!(end, End::Done), "the power was cut, and nobody did it");
        let Counts { syncs, changes } = counts;
        for nth in 0..syncs {
            trial.cuts.push(Cut::Sync { nth, done: random.one_in(2) });
            if random.one_in(2) {
                trial.cuts.push(Cut::Change(random.below(changes)));
            }
        }
        random.shuffle(&mut trial.cuts);
        Ok(trial)
    }

    /// Cuts the power at the cut of this number, perhaps again soon after, and then drives everything to its end.
    fn chain(&self, number: usize, folder: &Path, outcome: &mut Outcome) -> Result<()> {
        let mut at = String::new();
        self.cut_and_go_on(number, folder, &mut at, outcome).with_context(|| at)
    }

    fn cut_and_go_on(&self, number: usize, folder: &Path, at: &mut String, outcome: &mut Outcome) -> Result<()> {
        let mut random = Random::of(self.script.seed.wrapping_add(number as u64), "power");
        let (lines, mut image, mut cut) = (Arc::default(), Image::default(), self.cuts.get(number).copied());
        let mut checker = Checker::new(&self.script, &self.expected);
        for life in 0.. {
            *at = format!("chain {number}, life {life}, {cut:?}");
            let place = folder.join(format!("life{life}"));
            let (end, _) = self.live((&place, life), &image, cut, &lines, &mut random)?;
            let lines = lock(&lines).clone();
            let End::Cut(disk, seen) = end else {
                let store = place.join("runs.db");
                let found = Found::read(&store)?;
                checker.after_life(&found, &lines, false)?;
                checker.states(&store, &found)?;
                checker.ends(&store, &found)?;
                break;
            };
            let losses;
            (image, losses) = disk.survivors(&mut |bound| random.below(bound));
            // The check works on a copy, so that the next driver finds the disk as the cut left it.
            let copy = folder.join(format!("left{life}"));
            image.write(&copy)?;
            let store = copy.join("runs.db");
            let found = Found::read(&store)?;
            outcome.seen += found.has_all_of(&seen)?;
            checker.death();
            checker.after_life(&found, &lines, false)?;
            checker.states(&store, &found)?;
            outcome.cut(cut, life > 0, losses);
            let more = life + 1 < LONGEST && random.one_in(2);
            cut = more.then(|| match random.below(3) {
                0 => Cut::Change(random.below(60)),
                _ => Cut::Sync { nth: random.below(12), done: random.one_in(2) },
            });
        }
        outcome.chains += 1;
        outcome.counts.add(checker.counts);
        Ok(())
    }

    /// Drives the runs in an image to their ends, or until the power is cut.
    fn live(
        &self,
        (folder, life): (&Path, usize),
        image: &Image,
        cut: Option<Cut>,
        lines: &Arc<Mutex<Vec<Line>>>,
        random: &mut Random,
    ) -> Result<(End, Counts)> {
        let off = Arc::new(Notify::new());
        let tell = Arc::clone(&off);
        let disk = Disk::new(folder, image, cut, move || tell.notify_one())?;
        let disk = Arc::new(if self.lying { disk.lying() } else { disk });
        let store = folder.join("runs.db");
        let ledger = Arc::new(Ledger::Powered { disk: Arc::clone(&disk), lines: Arc::clone(lines) });
        let version = self.script.version(life).whole().calm();
        let at_work = AtWork::of(&self.script, version.limits, || ());
        let world = World::real(Arc::clone(&ledger), version, at_work, Poison::default());
        let seen = Watch::start(&store, &disk)?;
        let meddler = Meddler::start(&self.script, &store, ledger, None)?;
        let options = operator::options(&self.script, life);
        let options = options.checkpoint_every([4, 16, 64, 1000][usize::try_from(random.below(4))?]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let driven = runtime.block_on(async {
            tokio::select! {
                driven = self.drive(options, &store, (&world, version), lines) => Some(driven),
                () = off.notified() => None,
                () = tokio::time::sleep(PATIENCE) => Some(Err(Fault::Odd("it did not come to its end".to_owned()))),
            }
        });
        runtime.shutdown_timeout(PATIENCE);
        let (meddled, seen) = (meddler.end(), seen.end()?);
        let counts = disk.counts();
        if disk.is_off() {
            return Ok((End::Cut(disk, seen), counts));
        }
        meddled?;
        match driven {
            Some(Ok(())) => Ok((End::Done, counts)),
            Some(Err(fault)) => bail!("with the power on: {fault:?}"),
            None => bail!("told of a cut that never was"),
        }
    }

    async fn drive(
        &self,
        options: StoreOptions,
        path: &Path,
        world: (&Arc<World>, Version),
        lines: &Arc<Mutex<Vec<Line>>>,
    ) -> Result<(), Fault> {
        let before = lock(lines).clone();
        let store = options.open(path).await?;
        operator::drive(&store, &self.script, world, &before).await?;
        store.close().await;
        Ok(())
    }
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.chains += other.chains;
        for (sum, cuts) in self.cuts.iter_mut().zip(other.cuts) {
            *sum += cuts;
        }
        self.again += other.again;
        self.lose(other.losses);
        self.counts.add(other.counts);
        self.seen += other.seen;
    }

    fn lose(&mut self, losses: Losses) {
        let sum = &mut self.losses;
        (sum.kept, sum.lost) = (sum.kept + losses.kept, sum.lost + losses.lost);
        (sum.torn, sum.names) = (sum.torn + losses.torn, sum.names + losses.names);
    }

    fn cut(&mut self, cut: Option<Cut>, again: bool, losses: Losses) {
        let kind = match cut {
            Some(Cut::Sync { done: false, .. }) => 0,
            Some(Cut::Sync { done: true, .. }) => 1,
            _ => 2,
        };
        self.cuts[kind] += 1;
        self.again += u64::from(again);
        self.lose(losses);
    }
}

fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("flowstone-power-").tempdir()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_lies_about_its_syncs_is_found_out() {
        let trial = Trial::of(1, true).unwrap();
        let folder = folder().unwrap();

        let found = (0..20).find_map(|number| {
            let place = folder.path().join(number.to_string());
            trial.chain(number, &place, &mut Outcome::default()).err()
        });

        assert!(found.is_some(), "of 20 chains of cuts none found that nothing was synced");
    }
}
