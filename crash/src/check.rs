//! The promises: what is committed was done once, and is never done again; what was under way at a kill, at most once more.
//!
//! **Invariant of a checker:** `committed` only grows. What is in it was found in the store after some kill, and no line
//! of the ledger after that kill may repeat it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use flowstone::durable::{Filter, Reader, Status};

use crate::{
    expected::{Course, Expected},
    found::{Found, Standing},
    ledger::{Deed, Line, Told, in_memory, life},
    nodes::always,
    plan::{Fate, Script, fork_of},
    probe,
};

/// What a deed is known by: its key and its attempt.
type Identity = (String, u32);

/// Follows one store and its ledger from process to process.
pub(crate) struct Checker<'a> {
    script: &'a Script,
    expected: &'a Expected,
    read: usize,
    done: HashSet<Identity>,
    committed: HashSet<Identity>,
    /// Runs that somebody is about to take out of the store.
    leaving: BTreeSet<String>,
    /// What somebody was told, and nothing has changed since.
    told: BTreeSet<(String, Told)>,
    /// The letters of each key.
    keys: HashMap<String, String>,
    /// Whether visits that were made may become due again, maybe under other names of their nodes.
    due_again: bool,
    pub(crate) counts: Counts,
}

/// What was checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Lines of ledgers.
    pub(crate) deeds: u64,
    /// Deeds found committed.
    pub(crate) committed: u64,
    /// Deeds that were under way at a kill, and were done again.
    pub(crate) repeated: u64,
    /// States that were compared.
    pub(crate) states: u64,
    /// Times that what somebody was told was found to be so.
    pub(crate) told: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        let Self { deeds, committed, repeated, states, told } = other;
        self.deeds += deeds;
        self.committed += committed;
        self.repeated += repeated;
        self.states += states;
        self.told += told;
    }
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
            told,
            keys,
            due_again: script.behind > 0,
            counts: Counts::default(),
        }
    }

    /// Follows a copy of the store, with a ledger of its own: all that is committed in it has been done.
    pub(crate) fn over(&self, found: &Found) -> Self {
        // A run whose start it lacks begins another life.
        let known = |key: &str| key.split([':', '?']).next().is_some_and(|run| found.runs.contains_key(run));
        let keys = self.keys.iter().filter(|(key, _)| known(key)).map(|(key, whole)| (key.clone(), whole.clone()));
        let mut checker = Self { keys: keys.collect(), due_again: true, ..Self::new(self.script, self.expected) };
        for identity in self.expected.courses.values().flat_map(|course| course.deeds.keys()) {
            if self.standing(found, &identity.0, identity.1) == Standing::Committed && self.done.contains(identity) {
                checker.done.insert(identity.clone());
                checker.committed.insert(identity.clone());
            }
        }
        checker
    }

    /// Checks what a process has done, from where the last one ended, and what it has left in the store; `again` if it was
    /// asked to go on after failed commits.
    pub(crate) fn after_life(&mut self, found: &Found, lines: &[Line], again: bool) -> Result<()> {
        // In one life of a run nothing is done twice; a retry begins another, and so does a request after a failed commit.
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
        self.read = lines.len();
        self.commit(found)
    }

    /// Takes down what somebody was told, and forgets what is about to be changed.
    fn hear(&mut self, line: &Line) {
        match line {
            Line::Told(what, run) => drop(self.told.insert((run.clone(), *what))),
            Line::Mark(what, run) => {
                let changed = |told: &Told| match &what[..] {
                    "retry" => *told == Told::Cancelled,
                    "cancel" => matches!(told, Told::Uncancelled | Told::Retried),
                    "delete" | "prune" => *told != Told::Gone,
                    _ => false,
                };
                self.told.retain(|(of, told)| of != run || !changed(told));
            }
            Line::Deed(_) => {}
        }
    }

    /// Checks that everything is so that somebody was told.
    fn kept_its_word(&mut self, found: &Found) -> Result<()> {
        for (run, told) in &self.told {
            let stored = found.runs.get(run);
            let status = stored.map(|stored| stored.status);
            let so = match told {
                Told::Started => stored.is_some(),
                Told::Ended => status == Some(Status::Ended as i64),
                Told::Answered(step) => stored.is_some_and(|stored| stored.last >= *step || stored.has_answer(*step)),
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

    /// A line that is new.
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
        self.counts.deeds += 1;
        if !self.done.insert(identity) {
            self.counts.repeated += 1;
        }
        Ok(())
    }

    /// Says how far something is in a store, by the key that it had when it was done.
    fn standing(&self, found: &Found, key: &str, attempt: u32) -> Standing {
        found.standing(&self.keys.get(key).map_or_else(|| key.to_owned(), |whole| in_memory(whole)), attempt)
    }

    /// Checks that no more was under way than may be: one visit of a run, and of a journaled batch so many items as its
    /// limit says.
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

    /// Takes down what is committed, and checks that it was done.
    fn commit(&mut self, found: &Found) -> Result<()> {
        for (run, course) in &self.expected.courses {
            let gone = !found.runs.contains_key(run) && self.leaving.contains(run);
            for identity in course.deeds.keys() {
                let standing = self.standing(found, &identity.0, identity.1);
                let done = self.done.contains(identity);
                match standing {
                    Standing::Committed => {}
                    _ if gone => {}
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
                // An item that one version has, and another has not.
                if !done && is_optional(&identity.0) {
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

    /// Compares the last state of each run with the one that it has at this step without kills.
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
            ensure!(
                course.state(stored.last) == Some(&reader.state(run.as_str(), None)?),
                "run {run} has another state after step {} than without kills",
                stored.last
            );
        }
        Ok(())
    }

    /// Checks that everything came to its end.
    pub(crate) fn ends(&mut self, store: &Path, found: &Found) -> Result<()> {
        let reader = Reader::open(store)?;
        for plan in &self.script.plans {
            let course = self.course(&plan.id)?;
            match (plan.fate, reader.run(plan.id.as_str())) {
                (Fate::Deleted | Fate::Pruned, Err(flowstone::durable::Error::UnknownRun { .. })) => continue,
                (Fate::Deleted | Fate::Pruned, Ok(info)) => bail!("run {} is still there: {}", info.id, info.status),
                (Fate::Cancelled { retried: false, .. }, Ok(info)) if info.status == Status::Cancelled => continue,
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
        ensure!(found.deleting.is_empty(), "deleted runs have rows yet: {:?}", found.deleting);
        ensure!(found.items == 0 || self.has_cancelled(found), "items of visits that are committed are still there");
        self.history(&reader, found)
    }

    /// Every state of every seventh run: what history shows is what was.
    fn history(&mut self, reader: &Reader, found: &Found) -> Result<()> {
        for (run, course) in self.expected.courses.iter().step_by(7) {
            let Some(stored) = found.runs.get(run) else { continue };
            for step in 0..=stored.last {
                self.counts.states += 1;
                let same = course.state(step) == Some(&reader.state(run.as_str(), Some(step))?);
                ensure!(same, "run {run} has another state after step {step} than without kills");
            }
        }
        Ok(())
    }

    fn has_cancelled(&self, found: &Found) -> bool {
        let cancelled = |id: &str| found.runs.get(id).is_some_and(|run| run.status == Status::Cancelled as i64);
        self.script.plans.iter().any(|plan| cancelled(&plan.id))
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

/// How many items of a batch may be under way, by its key: all of one that is not journaled, or whose run is the child of
/// a batch flow that is not.
fn limit(batch: &str) -> usize {
    let names = || batch.split(':').map(|path| path.rsplit('/').next().unwrap_or(path));
    if names().any(|name| name.starts_with("flows")) {
        return usize::MAX;
    }
    let kept = names().next_back().and_then(|name| name.strip_prefix("kept")?.rsplit_once("by"));
    kept.and_then(|(_, limit)| limit.split_once("of")?.0.parse().ok()).unwrap_or(usize::MAX)
}

/// Whether an item, by its key, is one that not every version of its batch has.
fn is_optional(key: &str) -> bool {
    let item = key.rsplit_once('[').and_then(|(batch, item)| {
        let items: usize = batch.rsplit_once("of")?.1.parse().ok()?;
        Some((item.trim_end_matches(']').parse::<usize>().ok()?, items))
    });
    item.is_some_and(|(item, items)| item >= always(items))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_not_every_version_has_is_told_by_its_key() {
        assert!(is_optional("run3:4:nested1/kept2by5of7[5]"));
        assert!(!is_optional("run3:4:nested1/kept2by5of7[4]"));
        assert!(!is_optional("run3:4:keptflows1[2]"));
    }

    #[test]
    fn the_limit_of_a_batch_is_read_from_its_key() {
        assert_eq!(limit("run3:4:nested1/kept2by5of7"), 5);
        assert_eq!(limit("run3:4:keptflows1[2]:0:kept2by1of3"), 1);
        assert_eq!(limit("run3:4:batch2by5of7"), usize::MAX);
        assert_eq!(limit("run3:4:nested1/flows1[2]:0:kept2by1of7"), usize::MAX);
        assert_eq!(limit("run3:4:keptflows1"), usize::MAX);
    }
}
