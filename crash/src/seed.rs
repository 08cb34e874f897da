//! One seed: lives that are cut short, each followed by a check of the store, and a last one to the end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use flowstone::durable::{AnswerError, ChangeError, Error, OpenError, ReadError, Store};
use tempfile::TempDir;

use crate::{
    check::{Checker, Counts},
    damage::{Damage, Snapshot, ends_of_damaged, is_prefix, read_damaged},
    expected::Expected,
    found::Found,
    ledger::{self, Ledger, Line, root},
    other::Meddler,
    plan::{Life, Script},
    process::{End, News, Process},
    random::Random,
    version::Version,
};

/// The longest time in which a process has to end: some seeds have a minute of waits one after another.
const PATIENCE: Duration = Duration::from_secs(300);

/// The longest time of a process over a damaged file: some of its runs may not be found when they should wake.
const LITTLE_PATIENCE: Duration = Duration::from_secs(3);

/// The longest life of a process that is alone: some of its runs wait for another process.
const ALONE: Duration = Duration::from_millis(1500);

/// The outcome of a seed.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) runs: u64,
    pub(crate) visits: u64,
    pub(crate) kills: u64,
    /// Lives that were ended by one of the runs.
    pub(crate) aborts: u64,
    /// Lives in which a limit of the number of runs at work was reached.
    pub(crate) full: u64,
    /// Kills and occurrences of each write point.
    pub(crate) points: BTreeMap<(String, String), (u64, bool)>,
    /// Lives that were ended by a limit of the size of files.
    pub(crate) limited: u64,
    /// Attempts to drive a store that another process drives.
    pub(crate) locked: u64,
    /// The number of copies with each kind of damage, and of those that reported it.
    pub(crate) damaged: BTreeMap<&'static str, (u64, u64)>,
    pub(crate) stuck: u64,
    pub(crate) counts: Counts,
}

struct Place {
    store: PathBuf,
    ledger: PathBuf,
}

impl Place {
    fn new(folder: &Path) -> Self {
        Self { store: folder.join("runs.db"), ledger: folder.join("ledger") }
    }
}

/// The trial of one seed.
struct Trial {
    script: Arc<Script>,
    expected: Expected,
    folder: TempDir,
    random: Random,
    runtime: tokio::runtime::Runtime,
    outcome: Outcome,
}

/// Runs a seed. If something is wrong, its folder is kept.
pub(crate) fn run(seed: u64) -> Result<Outcome> {
    let script = Arc::new(Script::of(seed));
    let expected = Expected::of(&script).context("in memory")?;
    let folder = tempfile::Builder::new().prefix("flowstone-crash-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let random = Random::of(seed, "damage");
    let mut trial = Trial { script, expected, folder, random, runtime, outcome: Outcome::default() };
    match trial.run() {
        Ok(()) => Ok(trial.outcome),
        Err(error) => {
            let folder = trial.folder.keep();
            Err(error.context(format!("its files are in {}", folder.display())))
        }
    }
}

impl Trial {
    fn run(&mut self) -> Result<()> {
        let (script, expected) = (Arc::clone(&self.script), std::mem::take(&mut self.expected));
        let place = Place::new(self.folder.path());
        let mut checker = Checker::new(&script, &expected);
        // The life after which copies are damaged; no other process acts on it.
        let mut harmed = Some(usize::try_from(self.random.below(3))?);
        let (mut before, mut read) = (Found::default(), 0);
        let mut at = 0;
        while let Some(life) = script.lives.get(at) {
            let (number, version) = (at, script.version(at));
            let step = || format!("life {number}, {life:?}, {version:?}");
            let harms = harmed.take_if(|harmed| *harmed == number).is_some();
            let end =
                self.live(&place, (number, life), (PATIENCE, !harms || *life == Life::Whole)).with_context(step)?;
            let snapshot = match harms {
                true => Some(Snapshot::take(&place.store, &self.folder.path().join("snapshot"))?),
                false => None,
            };
            self.told(&end, life).with_context(step)?;
            if !matches!(end, End::Done) {
                checker.death();
            }
            let found = Found::read(&place.store).with_context(step)?;
            ledger::cut_part(&place.ledger)?;
            let lines = ledger::read(&place.ledger).with_context(step)?;
            checker
                .after_life(&found, &lines, matches!(life, Life::Limit(_)))
                .and_then(|()| checker.states(&place.store, &found))
                .with_context(step)?;
            if let Some(snapshot) = snapshot {
                self.harm(&snapshot, &found, &checker, &expected)?;
            }
            // It was not killed as planned.
            if matches!(end, End::Aborted) {
                ensure!(
                    self.outcome.aborts <= script.most_deaths(),
                    "its runs killed it {} times",
                    self.outcome.aborts
                );
            } else {
                at += 1;
            }
            stays(&script, version, (&before, &found), &lines[read..]).with_context(step)?;
            (before, read) = (found, lines.len());
            if matches!(end, End::Done) && version.lacks.is_none() {
                let found = before;
                checker.ends(&place.store, &found).with_context(step)?;
                self.outcome.runs = found.runs.len() as u64;
                self.outcome.visits = found.visits.len() as u64;
                self.count(checker.counts);
                return Ok(());
            }
        }
        bail!("it never came to its end")
    }

    /// Returns the last life, which no damaged copy has had.
    fn last(&self) -> (usize, &'static Life) {
        (self.script.lives.len(), &Life::Whole)
    }

    /// Lets a process live, alone or beside another. A request that is made when nobody drives the store empties the
    /// log, which is to be damaged.
    fn live(
        &mut self,
        place: &Place,
        (number, life): (usize, &Life),
        (patience, meddling): (Duration, bool),
    ) -> Result<End> {
        // A process that is alone has runs that wait for ever for the other process.
        let (patience, late) = if meddling { (patience, End::Stuck) } else { (ALONE, End::Killed) };
        let mut process = Process::start(&place.store, &place.ledger, (self.script.seed, number), life)?;
        let meddler = match meddling {
            true => {
                let (ledger, lacks) = (Ledger::open(&place.ledger)?, self.script.version(number).lacks);
                Some(Meddler::start(&self.script, &place.store, Arc::new(ledger), lacks)?)
            }
            false => None,
        };
        let second = self.random.one_in(3);
        let (mut locked, mut full, points, runtime) = (0, 0, &mut self.outcome.points, &self.runtime);
        let end = process.live(life, (patience, late), |news, pid| match news {
            News::Open if second => {
                let free = !is_locked(runtime, &place.store, pid)?;
                locked += u64::from(!free);
                Ok(free)
            }
            News::Open => Ok(false),
            News::Seen { job, when } => {
                points.entry((job, when)).or_default().1 = true;
                Ok(false)
            }
            News::Full => {
                full += 1;
                Ok(false)
            }
        })?;
        if let (End::KilledAt, Life::Point(point)) = (&end, life) {
            self.outcome.points.entry((point.job.to_owned(), point.when.to_owned())).or_default().0 += 1;
        }
        self.outcome.locked += locked;
        self.outcome.full += full;
        meddler.map_or(Ok(()), Meddler::end)?;
        Ok(end)
    }

    /// Checks that the end of a process is an allowed one.
    fn told(&mut self, end: &End, life: &Life) -> Result<()> {
        match end {
            End::Killed | End::KilledAt => self.outcome.kills += 1,
            End::Aborted => self.outcome.aborts += 1,
            End::Done => {}
            End::Fault { kind, .. } if matches!(life, Life::Limit(_)) && (kind == "io" || kind == "full") => {
                self.outcome.limited += 1;
            }
            // The limit is one for all files; this one is not the store's.
            End::Fault { text, .. } if matches!(life, Life::Limit(_)) && text.starts_with(ledger::FULL) => {}
            End::Fault { kind, text } => bail!("it ended by itself: {kind}: {text}"),
            End::Stuck => bail!("it did not come to its end in {} s", PATIENCE.as_secs()),
        }
        Ok(())
    }

    /// Damages two copies of the files that a kill left: the log of one, the main file of the other.
    fn harm(&mut self, snapshot: &Snapshot, whole: &Found, checker: &Checker<'_>, expected: &Expected) -> Result<()> {
        let kinds = [self.random.below(2), 2 + self.random.below(2)];
        for damage in kinds.into_iter().filter_map(|kind| Damage::ALL.get(usize::try_from(kind).ok()?)) {
            let folder = self.folder.path().join(damage.name().replace(' ', "-"));
            let Some(_) = snapshot.damaged(*damage, &folder, &mut self.random)? else { continue };
            let place = Place::new(&folder);
            let told = match damage.is_harmless() {
                true => self.torn(&place, whole, checker).map(|()| false),
                false => self.broken(&place, expected),
            };
            let told = told.with_context(|| format!("a copy with damage: {}", damage.name()))?;
            let count = self.outcome.damaged.entry(damage.name()).or_default();
            (count.0, count.1) = (count.0 + 1, count.1 + u64::from(told));
        }
        Ok(())
    }

    /// Checks a torn log: the store has the first commits, and its runs come to their ends.
    fn torn(&mut self, place: &Place, whole: &Found, checker: &Checker<'_>) -> Result<()> {
        let found = Found::read(&place.store)?;
        is_prefix(whole, &found)?;
        let mut checker = checker.over(&found);
        checker.states(&place.store, &found)?;
        let end = self.live(place, self.last(), (PATIENCE, true))?;
        ensure!(matches!(end, End::Done), "runs went on over it, and came to {end:?}");
        let found = Found::read(&place.store)?;
        checker.after_life(&found, &ledger::read(&place.ledger)?, false)?;
        checker.states(&place.store, &found)?;
        checker.ends(&place.store, &found)?;
        self.count(checker.counts);
        Ok(())
    }

    /// Checks a broken file: each result is right or a typed error. Returns `true` if there was an error.
    fn broken(&mut self, place: &Place, expected: &Expected) -> Result<bool> {
        let told = read_damaged(&place.store, expected)?;
        // Damaged runs are written down at write points that no other life comes to.
        let points = self.outcome.points.clone();
        let end = self.live(place, self.last(), (LITTLE_PATIENCE, true));
        self.outcome.points = points;
        match end {
            Ok(End::Done) => {}
            Ok(End::Stuck) => self.outcome.stuck += 1,
            Ok(End::Fault { kind, text }) => {
                ensure!(kind != "panic" && kind != "odd", "{kind}: {text}");
                return Ok(true);
            }
            Ok(end) => bail!("runs went on over it, and came to {end:?}"),
            // A request to a damaged store is refused with a typed error.
            Err(error) if is_of_store(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
        ends_of_damaged(&place.store, expected)?;
        Ok(told)
    }

    fn count(&mut self, counts: Counts) {
        self.outcome.counts.add(counts);
    }
}

/// Checks that nobody drove the runs of a flow that the program lacked.
fn stays(script: &Script, version: Version, (before, after): (&Found, &Found), new: &[Line]) -> Result<()> {
    let Some(lacking) = version.lacks else { return Ok(()) };
    let of_it = |run: &str| script.plan(run).is_some_and(|plan| plan.flow == lacking);
    let deleted = |run: &str| {
        new.iter().any(|line| matches!(line, Line::Mark(what, of) if what == "delete" && of == root(run, ':')))
    };
    for line in new {
        let done = matches!(line, Line::Deed(deed) if of_it(&deed.run));
        ensure!(!done, "its flow was not registered, and it was driven: {line:?}");
    }
    for (id, run) in before.runs.iter().filter(|(id, _)| of_it(id)) {
        if deleted(id) {
            continue;
        }
        let stored = after.runs.get(id).with_context(|| format!("run {id} is gone, whose flow was not registered"))?;
        ensure!(stored.last == run.last, "run {id} went on, whose flow was not registered");
    }
    Ok(())
}

/// Tries to drive a store that a process drives. The error must name that process; returns `true` if the store was
/// driven.
fn is_locked(runtime: &tokio::runtime::Runtime, store: &Path, driver: u32) -> Result<bool> {
    match runtime.block_on(Store::open(store)) {
        Err(OpenError::Locked { pid, .. }) => {
            ensure!(pid == Some(driver), "the store says that process {pid:?} drives it, but {driver} does");
            Ok(true)
        }
        Ok(store) => {
            runtime.block_on(store.close());
            Ok(false)
        }
        // A damaged store is reported as damaged instead.
        Err(OpenError::Store { .. } | OpenError::NotAStore { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns `true` if an error is a typed one of a store.
fn is_of_store(error: &anyhow::Error) -> bool {
    error.is::<Error>()
        || error.is::<OpenError>()
        || error.is::<ReadError>()
        || error.is::<AnswerError>()
        || error.is::<ChangeError>()
}
