//! Turns in this process: the places of driven runs, and the choice of the waiting run that gets the next place.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{records::turns::Candidate, words::guard::lock};

/// The places of the driven runs.
#[derive(Default)]
pub(crate) struct Turns {
    /// The number of runs that have a place, by flow.
    placed: Mutex<BTreeMap<String, usize>>,
    /// The suspect that has its turn; 0 if none has.
    suspect: AtomicI64,
    /// Notified when a place becomes free.
    pub(crate) free: Arc<Notify>,
}

impl Turns {
    /// Gives a run a place.
    pub(crate) fn place(self: &Arc<Self>, run: i64, flow: &str, is_suspect: bool) -> Place {
        *lock(&self.placed).entry(flow.to_owned()).or_default() += 1;
        if is_suspect {
            self.suspect.store(run, Ordering::Relaxed);
        }
        Place { turns: Arc::clone(self), run, flow: flow.to_owned() }
    }

    /// Returns the number of runs that have a place, by flow.
    pub(crate) fn placed(&self) -> BTreeMap<String, usize> {
        lock(&self.placed).clone()
    }

    /// Returns `true` if a suspect may have its turn.
    pub(crate) fn takes_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed) == 0
    }

    /// Ends the turn of a suspect, if this run had it: its visit is committed, or it is no longer driven.
    pub(crate) fn cleared(&self, run: i64) {
        if self.suspect.load(Ordering::Relaxed) == run {
            self.suspect.store(0, Ordering::Relaxed);
            self.free.notify_one();
        }
    }
}

/// The place of a driven run, which becomes free when this is dropped.
pub(crate) struct Place {
    turns: Arc<Turns>,
    run: i64,
    flow: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turns.cleared(self.run);
        let mut placed = lock(&self.turns.placed);
        if let Some(count) = placed.get_mut(&self.flow) {
            *count -= 1;
            if *count == 0 {
                placed.remove(&self.flow);
            }
        }
        drop(placed);
        self.turns.free.notify_one();
    }
}

/// Chooses the runs whose turn it is, in order: from the flow with the fewest places, and within a flow by the time at
/// which they are due.
pub(crate) fn choose(
    mut runs: BTreeMap<String, Vec<Candidate>>,
    mut placed: BTreeMap<String, usize>,
    limit: impl Fn(&str) -> Option<usize>,
    of_store: Option<usize>,
) -> Vec<(String, Candidate)> {
    let mut chosen = Vec::new();
    let mut all: usize = placed.values().sum();
    runs.values_mut().for_each(|runs| runs.reverse()); // so that the first is the last, and is popped
    while of_store.is_none_or(|limit| all < limit) {
        let mut first: Option<((usize, Candidate), &String)> = None;
        for (flow, runs) in &runs {
            let taken = placed.get(flow).copied().unwrap_or_default();
            let Some(run) = runs.last().filter(|_| limit(flow).is_none_or(|limit| taken < limit)) else { continue };
            let taken = if of_store.is_some() { taken } else { 0 };
            let this = (taken, *run);
            if first.as_ref().is_none_or(|(known, _)| this < *known) {
                first = Some((this, flow));
            }
        }
        let Some(((_, run), flow)) = first else { break };
        let flow = flow.clone();
        runs.get_mut(&flow).map(Vec::pop);
        *placed.entry(flow.clone()).or_default() += 1;
        all += 1;
        chosen.push((flow, run));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(flow: &str, due: impl IntoIterator<Item = i64>) -> (String, Vec<Candidate>) {
        let runs = due.into_iter().map(|due| Candidate { due, run: due });
        (flow.to_owned(), runs.collect())
    }

    fn names(chosen: &[(String, Candidate)]) -> Vec<String> {
        chosen.iter().map(|(flow, run)| format!("{flow}{}", run.due)).collect()
    }

    #[test]
    fn of_a_flow_those_that_are_due_first_come_first_up_to_its_limit() {
        let runs = BTreeMap::from([waiting("a", [1, 3, 5]), waiting("b", [2, 4])]);
        let placed = BTreeMap::from([("a".to_owned(), 3)]);

        let chosen = choose(runs, placed, |flow| (flow == "a").then_some(5), None);

        assert_eq!(names(&chosen), ["a1", "b2", "a3", "b4"]);
    }

    #[test]
    fn no_flow_keeps_the_places_of_the_store_from_another() {
        let runs = BTreeMap::from([waiting("a", 1..1000), waiting("b", [2000, 2001, 2002])]);

        let chosen = choose(runs, BTreeMap::from([("a".to_owned(), 1)]), |_| None, Some(6));

        assert_eq!(names(&chosen), ["b2000", "a1", "b2001", "a2", "b2002"]);
    }

    #[test]
    fn with_a_limit_of_none_nothing_has_its_turn() {
        let runs = || BTreeMap::from([waiting("a", [1])]);

        assert_eq!(choose(runs(), BTreeMap::new(), |_| Some(0), None), []);
        assert_eq!(choose(runs(), BTreeMap::new(), |_| None, Some(0)), []);
    }
}
