//! The promises: a committed deed was done once and is never done again; a deed that was under way at a kill is done at
//! most once more.
//!
//! **Invariant of a checker:** `committed` only grows. Each deed in it was found in the store after some kill, and no
//! line of the ledger after that kill may repeat it.

mod counts;
mod died;
mod items;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use flowstone::durable::{Filter, Reader, Status};

pub(crate) use self::counts::Counts;
use crate::{
    check::items::{is_optional, limit},
    expected::{Course, Expected},
    found::{Found, Standing},
    ledger::{Deed, Line, Told, in_memory, life, root},
    nodes::NOBODY,
    plan::{Fate, Script, fork_of},
    probe,
};

/// The attempt of a question that expired.
const EXPIRED: u32 = 1;

/// The identity of a deed: its key and its attempt.
type Identity = (String, u32);

/// Follows one store and its ledger from process to process.
pub(crate) struct Checker<'a> {
    script: &'a Script,
    expected: &'a Expected,
    read: usize,
    done: HashSet<Identity>,
    committed: HashSet<Identity>,
    /// Runs that are about to be deleted from the store.
    leaving: BTreeSet<String>,
    /// Runs whose end was told to a caller.
    ended: BTreeSet<String>,
    /// The facts that callers were told of runs and that nothing has changed since.
    told: BTreeSet<(String, Told)>,
    /// The letters of each key.
    keys: HashMap<String, String>,
    /// The end of each question that can expire, by key: it was answered, or it expired.
    ways: HashMap<String, u32>,
    /// The number of processes that died so far.
    deaths: u64,
    /// The runs that failed because of such deaths.
    failed: BTreeSet<String>,
    /// `true` if no run kills its process.
    calm: bool,
    /// `true` if committed visits may become due again, perhaps under other names of their nodes.
    due_again: bool,
    pub(crate) counts: Counts,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(script: &'a Script, expected: &'a Expected) -> Self {
        let (done, committed) = (HashSet::new(), HashSet::new());
        let (leaving, told, keys) = (BTreeSet::new(), BTreeSet::new(), HashMap::new());
        Self {
            script,
            expected,
            read: 0,
            done,
            committed,
            leaving,
            ended: BTreeSet::new(),
            told,
            keys,
            ways: HashMap::new(),
            deaths: 0,
            failed: BTreeSet::new(),
            calm: false,
            due_again: script.behind > 0,
            counts: Counts::default(),
        }
    }

    /// Returns a checker of a copy of the store with its own ledger, in which all committed deeds have been done.
    pub(crate) fn over(&self, found: &Found) -> Self {
        // A run whose start is missing in the copy begins another life.
        let known = |key: &str| key.split([':', '?']).next().is_some_and(|run| found.runs.contains_key(run));
        let keys = self.keys.iter().filter(|(key, _)| known(key)).map(|(key, whole)| (key.clone(), whole.clone()));
        let (deaths, calm, due_again) = (self.deaths, true, true);
        let new = Self::new(self.script, self.expected);
        let mut checker = Self { keys: keys.collect(), deaths, calm, due_again, ..new };
        for identity in self.expected.courses.values().flat_map(|course| course.deeds.keys()) {
            if self.standing(found, &identity.0, identity.1) == Standing::Committed && self.done.contains(identity) {
                checker.done.insert(identity.clone());
                checker.committed.insert(identity.clone());
            }
        }
        checker
    }

    /// Checks the lines that a process has added to the ledger, and the store that it has left. `again` says that it
    /// was asked to go on after failed commits.
    pub(crate) fn after_life(&mut self, found: &Found, lines: &[Line], again: bool) -> Result<()> {
        // In one life of a run no deed is done twice. A retry begins another life, and so does a request after a failed
        // commit.
        let mut once: BTreeMap<&str, BTreeSet<(&str, u32)>> = BTreeMap::new();
        let new = lines.get(self.read..).context("the ledger has become shorter")?;
        for line in new {
            self.hear(line);
            match line {
                Line::Mark(what, run) if what == "retry" => drop(once.remove(run.as_str())),
                Line::Mark(what, run) if what == "delete" || what == "prune" => drop(self.leaving.insert(run.clone())),
                Line::Mark(..) | Line::Told(..) => {}
                Line::Deed(deed) => {
                    self.deed(deed)?;
                    let first = once.entry(&deed.run).or_default().insert((&deed.key, deed.attempt));
                    ensure!(first || again, "done twice by one process: {deed:?}");
                }
            }
        }
        self.in_flight(found, &once)?;
        self.kept_its_word(found)?;
        self.died(found)?;
        self.read = lines.len();
        self.commit(found)
    }

    /// Checks a new line.
    fn deed(&mut self, deed: &Deed) -> Result<()> {
        let identity = (deed.key.clone(), deed.attempt);
        let course = self.expected.courses.get(&deed.run).with_context(|| format!("of an unknown run: {deed:?}"))?;
        let known = course.deeds.get(&identity).with_context(|| format!("never done without kills: {deed:?}"))?;
        ensure!(known.is(deed), "done as {deed:?}, without kills as {known:?}");
        let before = self.keys.insert(deed.key.clone(), deed.whole.clone());
        let same = |key: &str| key == deed.whole || (self.due_again && life(key) == life(&deed.whole));
        if let Some(before) = before.filter(|key| !same(key)) {
            bail!("it had the key {before} before: {deed:?}");
        }
        ensure!(!self.committed.contains(&identity), "committed, and done again: {deed:?}");
        if known.other_way().is_some() {
            let way = *self.ways.entry(deed.key.clone()).or_insert(deed.attempt);
            ensure!(way == deed.attempt, "it came to both an answer and its time: {deed:?}");
        }
        self.counts.deeds += 1;
        if !self.done.insert(identity) {
            self.counts.repeated += 1;
        }
        Ok(())
    }

    /// Returns the progress of a deed in a store, by the key that it had when it was done.
    fn standing(&self, found: &Found, key: &str, attempt: u32) -> Standing {
        if let Some((who, number)) = key.split_once('?')
            && who.contains('/')
        {
            // A child is recognized by another deed of it.
            let deed = self.expected.courses.get(root(who, '/')).and_then(|course| course.children.get(who));
            let child = deed.and_then(|deed| self.keys.get(deed)).map(|whole| in_memory(whole));
            let id = child.as_deref().and_then(|key| Some(key.rsplit_once(':')?.0.rsplit_once(':')?.0));
            return id.map_or(Standing::InFlight, |id| found.standing(&format!("{id}?{number}"), attempt));
        }
        found.standing(&self.keys.get(key).map_or_else(|| key.to_owned(), |whole| in_memory(whole)), attempt)
    }

    /// Checks that only one visit of a run was under way, and no more items of a journaled batch than its limit allows.
    fn in_flight(&self, found: &Found, once: &BTreeMap<&str, BTreeSet<(&str, u32)>>) -> Result<()> {
        for deeds in once.values() {
            let mut items: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for (key, attempt) in deeds {
                if self.standing(found, key, *attempt) == Standing::InFlight
                    && let Some((batch, item)) = key.rsplit_once('[')
                {
                    items.entry(batch).or_default().insert(item);
                }
            }
            for (batch, items) in items {
                let most = limit(batch);
                ensure!(items.len() <= most, "{} items of {batch} were under way, of {most}", items.len());
            }
        }
        Ok(())
    }

    /// Notes the committed deeds, and checks that they were done.
    fn commit(&mut self, found: &Found) -> Result<()> {
        for (run, course) in &self.expected.courses {
            let gone = !found.runs.contains_key(run) && self.leaving.contains(run);
            for identity in course.deeds.keys() {
                let standing = self.standing(found, &identity.0, identity.1);
                let done = self.done.contains(identity);
                match standing {
                    Standing::Committed => {}
                    // A committed deed stays committed, also if its run was deleted in the middle.
                    _ if gone && (done || self.ended.contains(run)) => {}
                    _ if gone => continue,
                    Standing::Ahead(visits) if done => {
                        let most = self.script.behind;
                        ensure!(visits <= most, "{identity:?} was done {visits} visits ahead of the store, of {most}");
                        continue;
                    }
                    Standing::Unknown if done => bail!("{identity:?} was done, and its run is not in the store"),
                    _ => {
                        ensure!(!self.committed.contains(identity), "{identity:?} was committed, and is not any more");
                        continue;
                    }
                }
                // This item is not in every version.
                if !done && (is_optional(&identity.0) || self.came_another_way(identity)) {
                    continue;
                }
                ensure!(done, "committed, and nobody did it: {identity:?}");
                if self.committed.insert(identity.clone()) {
                    self.counts.committed += 1;
                }
            }
        }
        Ok(())
    }

    /// Returns `true` if the other end of a question was done: it was answered where this says that it expired, or the
    /// other way round.
    fn came_another_way(&self, (key, attempt): &Identity) -> bool {
        key.contains('?') && *attempt < 2 && self.done.contains(&(key.clone(), 1 - attempt))
    }

    /// Compares the last state of each run with the state after the same step of a run without kills.
    pub(crate) fn states(&mut self, store: &Path, found: &Found) -> Result<()> {
        if found.runs.is_empty() {
            return Ok(());
        }
        let reader = Reader::open(store)?;
        for (run, course) in &self.expected.courses {
            let Some(stored) = found.runs.get(run) else { continue };
            self.counts.states += 1;
            ensure!(
                course.nodes.get(..stored.nodes.len()) == Some(&stored.nodes[..]),
                "run {run} visited {:?}, without kills {:?}",
                stored.nodes,
                course.nodes
            );
            let state = reader.state(run.as_str(), None)?;
            ensure!(
                course.has_state(stored.last, &state),
                "run {run} has another state after step {} than without kills: {state}",
                stored.last
            );
            for (number, answer) in state["answers"].as_array().into_iter().flatten().enumerate() {
                let way = self.ways.get(&format!("{run}?{number}"));
                let same = way.is_none_or(|way| (*way == EXPIRED) == (answer == NOBODY));
                ensure!(same, "run {run} has {answer} for question {number}, which came to {way:?}");
            }
        }
        Ok(())
    }

    /// Checks that all runs are at their ends.
    pub(crate) fn ends(&mut self, store: &Path, found: &Found) -> Result<()> {
        let reader = Reader::open(store)?;
        for plan in &self.script.plans {
            let course = self.course(&plan.id)?;
            match (plan.fate, reader.run(plan.id.as_str())) {
                (Fate::Deleted | Fate::Pruned, Err(flowstone::durable::ReadError::UnknownRun { .. })) => continue,
                (Fate::Deleted | Fate::Pruned, Ok(info)) => bail!("run {} is still there: {}", info.id, info.status),
                (Fate::Cancelled { retried: false, .. }, Ok(info)) if info.status == Status::Cancelled => continue,
                (Fate::Poisoned { retried: false, .. }, Ok(info)) if info.status == Status::Failed => {
                    let why = info.error.as_ref().map_or("", |error| &error.message);
                    let deaths = found.runs.get(&plan.id).and_then(|run| run.failed_after);
                    ensure!(deaths.is_some(), "run {} failed, and not for its deaths: {why}", plan.id);
                    continue;
                }
                (Fate::Poisoned { times: u32::MAX, retried: false }, Ok(info)) if !self.calm => {
                    bail!("run {} kills its process for ever, and is {}", info.id, info.status);
                }
                (_, info) => ended(&info?, course)?,
            }
            if matches!(plan.fate, Fate::Forked(_))
                && let Some(course) = self.expected.courses.get(&fork_of(&plan.id))
            {
                ended(&reader.run(fork_of(&plan.id))?, course)?;
            }
        }
        let running = reader.list(&Filter::new().status(Status::Running).status(Status::Sleeping))?;
        let running: Vec<_> =
            running.iter().map(|run| &run.id).filter(|id| !id.as_str().starts_with(probe::NAME)).collect();
        ensure!(running.is_empty(), "runs still go on: {running:?}");
        let expired = self.ways.values().filter(|way| **way == EXPIRED).count();
        self.counts.expired += expired as u64;
        self.counts.answered += (self.ways.len() - expired) as u64;
        ensure!(found.deleting.is_empty(), "deleted runs have rows yet: {:?}", found.deleting);
        ensure!(found.items == 0 || self.has_stopped(found), "items of visits that are committed are still there");
        self.history(&reader, found)
    }

    /// Checks every state in the history of every seventh run.
    fn history(&mut self, reader: &Reader, found: &Found) -> Result<()> {
        for (run, course) in self.expected.courses.iter().step_by(7) {
            let Some(stored) = found.runs.get(run) else { continue };
            for step in 0..=stored.last {
                self.counts.states += 1;
                let same = course.has_state(step, &reader.state(run.as_str(), Some(step))?);
                ensure!(same, "run {run} has another state after step {step} than without kills");
            }
        }
        Ok(())
    }

    /// Returns `true` if a run was cancelled or failed, so that its visit under way stays unfinished.
    fn has_stopped(&self, found: &Found) -> bool {
        let stopped = [Status::Cancelled as i64, Status::Failed as i64];
        let has = |id: &str| found.runs.get(id).is_some_and(|run| stopped.contains(&run.status));
        self.script.plans.iter().any(|plan| has(&plan.id))
    }

    fn course(&self, run: &str) -> Result<&'a Course> {
        self.expected.courses.get(run).with_context(|| format!("run {run} was not run in memory"))
    }
}

fn ended(info: &flowstone::durable::RunInfo, course: &Course) -> Result<()> {
    let id = &info.id;
    ensure!(info.status == Status::Ended, "run {id} is {}", info.status);
    ensure!(
        info.step == course.last(),
        "run {id} ended after {} steps, without kills after {}",
        info.step,
        course.last()
    );
    ensure!(info.action.as_ref().is_some_and(|action| *action == "on"), "run {id} ended with {:?}", info.action);
    Ok(())
}
