//! One visit of a batch flow: a child's run per forked state, joined in input order.
//!
//! Parallel children cannot race: each owns its state.
//!
//! In a run that is kept, the children of a journaled batch flow that wait are put away, and go on when they can:
//!
//! ```text
//! ready ─▶ running, up to the limit ─▶ ended
//!   ▲          └▶ parked: asks, or sleeps ─┐
//!   └─────── an answer, or its time ───────┘      nothing runs, some are parked: the visit is parked, too
//! ```
//!
//! A child that is parked frees its place, so that all questions are asked, whatever the limit. The reason:
//! `docs/decisions/0026-a-parked-child-frees-its-place.md`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use serde_json::Value;
use tokio::task::yield_now;

use crate::{
    context::Context,
    execution::{BoxFuture, Execution, Forked, Journal, RestoreError, Standing},
    node::State,
    outcome::{Detour, Outcome, Visit, Visited},
    policy::OnError,
    visit::{
        Definition,
        batch::{
            in_order::{Each, filled, in_order},
            keeping::ids,
        },
        body::{AsyncBody, SyncBody},
        running::{Running, decoded},
    },
    words::{
        action::Action,
        codec::Codec,
        error::{Phase, Result, RunError},
        event::EventKind,
        guard::drop_caught,
        item_key::{Identity, ItemId},
        path::NodePath,
    },
};

/// A child of a batch flow that has ended: its state, and its last action or the error that stopped it.
///
/// [`batch_collect`](crate::AsyncFlow::batch_collect) gives it to `join`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Child<T> {
    /// The child's state; after an error, with what was written before.
    pub state: T,
    /// The child's last action.
    pub result: Result<Action, RunError>,
}

pub(crate) type Fork<S, T> = Arc<dyn Fn(&S) -> Vec<T> + Send + Sync>;
pub(crate) type Join<S, T> = Arc<dyn Fn(&mut S, Vec<Child<T>>, &Context) -> Result<Visited> + Send + Sync>;

/// A flow that runs once per state that `fork` gives.
pub(crate) struct Children<S, T> {
    pub(crate) definition: Arc<Definition<T>>,
    pub(crate) fork: Fork<S, T>,
    pub(crate) join: Join<S, T>,
    pub(crate) parallel: Option<usize>,
    pub(crate) on_error: OnError,
    /// The way in which the journal of a run keeps the children, if the batch is journaled.
    pub(crate) keeping: Option<(Codec<T>, Identity<T>)>,
}

impl<S, T> Clone for Children<S, T> {
    fn clone(&self) -> Self {
        let (fork, join) = (Arc::clone(&self.fork), Arc::clone(&self.join));
        let (parallel, on_error, keeping) = (self.parallel, self.on_error, self.keeping.clone());
        Self { definition: Arc::clone(&self.definition), fork, join, parallel, on_error, keeping }
    }
}

impl<S, T> Children<S, T> {
    /// Returns how many children may run at once.
    fn at_once(&self) -> usize {
        self.parallel.unwrap_or(1)
    }
}

impl<S: State, T: State> SyncBody<S> for Children<S, T> {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Visited {
        let mut ended = Vec::new();
        let states = (self.fork)(shared);
        cx.begin_items(states.len())?;
        for (index, mut state) in states.into_iter().enumerate() {
            let mut child = cx.for_child(&cx.for_item(index), &self.definition.graph);
            let result = self.definition.follow(self.definition.start(), &mut state, &mut child);
            ended.push(self.ended(cx, index, (state, false), result)?);
        }
        self.join(shared, ended, cx)
    }

    fn share(&self) -> Box<dyn SyncBody<S>> {
        Box::new(self.clone())
    }

    fn fits_inside(&self, path: &NodePath, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        Some(self.definition.fits_at(path, answer))
    }
}

impl<S: State, T: State> AsyncBody<S> for Children<S, T> {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Visited> {
        Box::pin(async move {
            let states = (self.fork)(shared);
            cx.begin_items(states.len())?;
            let ended = match (&self.keeping, cx.journal()) {
                // Boxed, so that children in memory carry no room for it.
                (Some((codec, identity)), Some(journal)) => {
                    let ids = ids(identity, &states, &**journal, cx)?;
                    let kept = Kept { children: self, codec: *codec, journal: &**journal, ids, cx };
                    Box::pin(async move { kept.run(states).await }).await?
                }
                _ => in_order(&Runs { children: self, cx }, states.into_iter().enumerate(), self.at_once()).await?,
            };
            self.join(shared, ended, cx)
        })
    }

    fn share(&self) -> Box<dyn AsyncBody<S>> {
        Box::new(self.clone())
    }

    fn fits_inside(&self, path: &NodePath, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        Some(self.definition.fits_at(path, answer))
    }

    fn takes_inside(&self, path: &NodePath, state: &[u8]) -> Option<Result<(), RestoreError>> {
        let (codec, _) = self.keeping.as_ref()?;
        let here = || decoded(&self.definition, *codec, path, state).map(drop_caught);
        if self.definition.graph.position(path.as_str()).is_some() {
            return Some(here());
        }
        Some(self.definition.takes_inside(path, state).unwrap_or_else(here))
    }
}

struct Runs<'a, S, T> {
    children: &'a Children<S, T>,
    cx: &'a Context,
}

impl<S: State, T: State> Each for Runs<'_, S, T> {
    type Input = (usize, T);
    type Output = Child<T>;

    fn context(&self) -> &Context {
        self.cx
    }

    async fn run(&self, (index, mut state): (usize, T)) -> Result<Child<T>, Box<Detour>> {
        let definition = &self.children.definition;
        let mut child = self.cx.for_child(&self.cx.for_item(index), &definition.graph);
        let result = definition.follow_async(definition.start(), &mut state, &mut child).await;
        self.children.ended(self.cx, index, (state, false), result)
    }
}

impl<S: State, T: State> Children<S, T> {
    fn join(&self, shared: &mut S, ended: Vec<Child<T>>, cx: &mut Context) -> Visited {
        cx.phase = Phase::Post;
        (self.join)(shared, ended, cx).unwrap_or_else(|error| Err(cx.failed(error)))
    }

    /// Makes the value that `join` gets for a child, from its state and whether all of it was recalled. An error ends
    /// the batch.
    fn ended(
        &self,
        cx: &Context,
        index: usize,
        (state, recalled): (T, bool),
        result: Result<Outcome, RunError>,
    ) -> Result<Child<T>, Box<Detour>> {
        if cx.listening() {
            let error = result.as_ref().err().map(RunError::report);
            cx.for_item(index).event(|| EventKind::ItemEnded { error, recalled });
        }
        let result = match result {
            Ok(Outcome::Ended(action)) => Ok(action),
            Ok(Outcome::Paused(pause)) => {
                // Nothing keeps this run, or its journal would have put the child away.
                let (run, node) = (cx.run_id(), pause.node().clone());
                return Err(Box::new(Detour::Stopped(RunError::NeedsStore { run, node })));
            }
            // Only a child's own failure can be collected. An error that stops the run stops it.
            Err(error @ (RunError::Node { .. } | RunError::Unrouted { .. })) if self.on_error == OnError::Collect => {
                Err(error)
            }
            Err(error) => return Err(Box::new(Detour::Stopped(error))),
        };
        Ok(Child { state, result })
    }
}

/// The children of one visit.
struct Kept<'a, S, T> {
    children: &'a Children<S, T>,
    codec: Codec<T>,
    journal: &'a dyn Journal,
    /// The ids of the children.
    ids: Vec<ItemId>,
    cx: &'a Context,
}

/// The places of the children of a visit.
struct Places<T> {
    ready: VecDeque<(usize, T)>,
    parked: BTreeMap<usize, T>,
    /// They ended or failed before, and are called for when nobody waits any more.
    over: Vec<(usize, T)>,
    /// They could go on before they were seen to be parked.
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
    async fn run(&self, states: Vec<T>) -> Result<Vec<Child<T>>, Box<Detour>> {
        let mut at = Places::of(states, &self.ids, self.journal, self.children.on_error);
        self.cx.count_visits(at.counted.values().sum());
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.children.at_once().max(1)
                && let Some((index, state)) = at.ready.pop_front()
            {
                self.cx.check()?;
                // The child is placed where it was, and counts its visits once more.
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
                // A child that failed would otherwise be tried again with each answer to another child.
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
