//! Counts the runs at work at once, and checks at each `exec` that the limits of the store and of one flow hold.
//!
//! Children, and items side by side, count with their run. Each process counts anew, since the work of an earlier one
//! ended with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    plan::{Script, origin},
    version::Limits,
};

/// The runs that have an `exec` under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct AtWork(Option<Arc<Counts>>);

#[derive(Debug)]
struct Counts {
    limits: Limits,
    /// The runs of the flow that has a limit of its own, without forks.
    of_flow: BTreeSet<String>,
    /// The number of calls of `exec` that are under way, by run.
    now: Mutex<BTreeMap<String, usize>>,
    /// `true` if a limit was reached.
    reached: AtomicBool,
    /// Called once a limit is reached.
    full: fn(),
}

/// A call of `exec` that is under way.
pub(crate) struct Working<'a>(Option<(&'a Counts, String)>);

impl AtWork {
    /// Creates the counter of a life of a seed, if that has limits. `full` is called once a limit is reached.
    pub(crate) fn of(script: &Script, limits: Limits, full: fn()) -> Self {
        if limits == Limits::default() {
            return Self::default();
        }
        let limited = limits.flow.map(|(flow, _)| flow);
        let of_flow = script.plans.iter().filter(|plan| Some(plan.flow) == limited).map(|plan| plan.id.clone());
        let (of_flow, now, reached) = (of_flow.collect(), Mutex::default(), AtomicBool::new(false));
        Self(Some(Arc::new(Counts { limits, of_flow, now, reached, full })))
    }

    /// Counts a call of `exec` until the returned value is dropped; ends the process if that is one run too many.
    pub(crate) fn begin(&self, run: &str) -> Working<'_> {
        let Some(counts) = &self.0 else { return Working(None) };
        if let Err(why) = counts.begin(run) {
            crate::child::give_up(&why);
        }
        Working(Some((counts, run.to_owned())))
    }
}

impl Counts {
    fn begin(&self, run: &str) -> Result<(), String> {
        let mut now = self.now();
        *now.entry(run.to_owned()).or_default() += 1;
        let is_of_flow = |run: &str| self.of_flow.contains(origin(run));
        if let Some(most) = self.limits.store {
            self.check(now.len(), most, "store", &now)?;
        }
        if let Some((_, most)) = self.limits.flow.filter(|_| is_of_flow(run)) {
            self.check(now.keys().filter(|run| is_of_flow(run)).count(), most, "flow", &now)?;
        }
        Ok(())
    }

    fn check(&self, at_work: usize, most: usize, of: &str, now: &BTreeMap<String, usize>) -> Result<(), String> {
        if at_work == most && !self.reached.swap(true, Ordering::Relaxed) {
            (self.full)();
        }
        let runs = || now.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
        if at_work > most { Err(format!("{at_work} runs of a {of} of {most} are at work: {}", runs())) } else { Ok(()) }
    }

    fn now(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let Some((counts, run)) = &self.0 else { return };
        let mut now = counts.now();
        if let Some(calls) = now.get_mut(run) {
            *calls -= 1;
            if *calls == 0 {
                now.remove(run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_too_many_is_found_and_the_calls_of_one_run_count_once() {
        let limits = Limits { store: Some(3), flow: Some((1, 1)) };
        let of_flow = BTreeSet::from(["run1".to_owned()]);
        let counts = Counts { limits, of_flow, now: Mutex::default(), reached: AtomicBool::new(false), full: || () };

        let begun = ["run0", "run0", "run1", "run1"].map(|run| counts.begin(run).is_ok());
        let reached_before = counts.reached.load(Ordering::Relaxed);
        let fork = counts.begin("run1-fork");
        drop(Working(Some((&counts, "run1-fork".to_owned()))));
        let last = counts.begin("run2");

        assert_eq!((begun, reached_before), ([true; 4], true));
        assert!(fork.unwrap_err().contains("2 runs of a flow of 1"));
        assert!(last.is_ok() && counts.begin("run3").unwrap_err().contains("4 runs of a store of 3"));
    }
}
