//! The children of a journaled batch flow, in a run that is kept: those that wait are put away, and go on when they can.
//!
//! ```text
//! ready ─▶ running, up to the limit ─▶ ended
//!   ▲          └▶ parked: asks, or sleeps ─┐
//!   └─────── an answer, or its time ───────┘      nothing runs, some are parked: the visit is parked, too
//! ```
//!
//! A child that is parked frees its place, so that all questions are asked, whatever the limit. Why so:
//! `docs/decisions/0026-a-parked-child-frees-its-place.md`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use tokio::task::yield_now;

use crate::{
    context::Context,
    driver::{Execution, Forked, Journal, Standing},
    node::State,
    outcome::{Detour, Outcome, Visit},
    policy::OnError,
    visit::{
        batch::in_order::filled,
        children::{Child, Children},
        running::Running,
    },
    words::{
        codec::Codec,
        error::{Result, RunError},
        item_key::ItemId,
    },
};

/// The children of one visit.
pub(super) struct Kept<'a, S, T> {
    pub(super) children: &'a Children<S, T>,
    pub(super) codec: Codec<T>,
    pub(super) journal: &'a dyn Journal,
    /// The ids of the children.
    pub(super) ids: Vec<ItemId>,
    pub(super) cx: &'a Context,
}

/// Where the children of a visit are.
struct Places<T> {
    ready: VecDeque<(usize, T)>,
    parked: BTreeMap<usize, T>,
    /// Ended or failed before: they are called for when nobody waits any more.
    over: Vec<(usize, T)>,
    /// Those that could go on before they were seen to be parked.
    early: BTreeSet<usize>,
    ended: Vec<Option<Child<T>>>,
    /// The numbers of visits that are counted for the run, of each child that does not run.
    counted: BTreeMap<usize, u64>,
}

/// The result of a call for a child.
struct Made<T> {
    index: usize,
    state: T,
    visits: u64,
    /// `true` if no visit of it was made for this call.
    recalled: bool,
    forked: Result<Forked, RunError>,
}

impl<S: State, T: State> Kept<'_, S, T> {
    /// Runs the children to their ends, or until those that are left wait: [`Visit::Parked`].
    pub(super) async fn run(&self, states: Vec<T>) -> Result<Vec<Child<T>>, Box<Detour>> {
        let mut at = Places::of(states, &self.ids, self.journal, self.children.on_error);
        self.cx.count_visits(at.counted.values().sum());
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.children.limit.max(1)
                && let Some((index, state)) = at.ready.pop_front()
            {
                self.cx.check()?;
                // Placed where it was, it counts its visits once more.
                self.cx.uncount_visits(at.counted.remove(&index).unwrap_or_default());
                running.push(self.child(index, state));
            }
            if running.is_empty() {
                if at.parked.is_empty() && !at.over.is_empty() {
                    at.ready.extend(at.over.drain(..));
                    continue;
                }
                break;
            }
            match select(running.next(), self.journal.woken()).await {
                Either::Left((None, _)) => {}
                Either::Left((Some(Made { index, state, visits, recalled, forked }), _)) => {
                    at.counted.insert(index, visits);
                    let result = match forked {
                        Ok(Forked::Parked) => {
                            at.park(index, state);
                            continue;
                        }
                        Ok(Forked::Ended(action)) => Ok(Outcome::Ended(action)),
                        Err(error) => Err(error),
                    };
                    at.ended[index] = Some(self.children.ended(self.cx, index, (state, recalled), result)?);
                }
                Either::Right((index, _)) => at.wake(index),
            }
            if self.cx.listening() {
                yield_now().await;
            }
        }
        if at.parked.is_empty() {
            return Ok(filled(at.ended));
        }
        // The visit is made again, and counts them again.
        self.cx.uncount_visits(at.counted.values().sum());
        Err(Box::new(Detour::Waits(Visit::Parked)))
    }

    async fn child(&self, index: usize, state: T) -> Made<T> {
        let definition = &self.children.definition;
        let child = self.cx.for_child(&self.cx.for_kept(self.ids[index]), &definition.graph);
        let mut running = Running::new(definition, self.codec, state, child);
        let forked = self.journal.forked(self.ids[index], &mut running).await;
        let (visits, recalled) = (running.visits(), !running.has_visited());
        Made { index, visits, recalled, state: running.into_state(), forked }
    }
}

impl<T> Places<T> {
    fn of(states: Vec<T>, ids: &[ItemId], journal: &dyn Journal, on_error: OnError) -> Self {
        let ended = states.iter().map(|_| None).collect();
        let (ready, parked, over, early) = (VecDeque::new(), BTreeMap::new(), Vec::new(), BTreeSet::new());
        let mut places = Self { ready, parked, over, early, ended, counted: BTreeMap::new() };
        for (index, state) in states.into_iter().enumerate() {
            match journal.standing(ids[index]) {
                Standing::Open => places.ready.push_back((index, state)),
                Standing::Failed { .. } if on_error == OnError::Stop => places.ready.push_back((index, state)),
                Standing::Parked { visits } => {
                    places.counted.insert(index, visits);
                    places.parked.insert(index, state);
                }
                // Tried again with each answer to another, a child that failed would make its attempts as often.
                Standing::Ended { visits } | Standing::Failed { visits } => {
                    places.counted.insert(index, visits);
                    places.over.push((index, state));
                }
            }
        }
        places
    }

    fn park(&mut self, index: usize, state: T) {
        if self.early.remove(&index) {
            self.ready.push_back((index, state));
        } else {
            self.parked.insert(index, state);
        }
    }

    fn wake(&mut self, index: usize) {
        match self.parked.remove(&index) {
            Some(state) => self.ready.push_back((index, state)),
            None => drop(self.early.insert(index)),
        }
    }
}
