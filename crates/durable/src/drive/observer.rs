//! The observer of a driven run: it collects attempts and their errors for the history, and passes events to followers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use flowstone_core::{CancellationToken, Event, EventKind, Listener, NodePath, RunId};
use tokio::sync::{Notify, broadcast};

use crate::{
    drive::{meter::UsageMeters, work::Working},
    flows::any_flow::Hooks,
    words::{guard::lock, info::FailedAttempt},
};

/// The most failed attempts of a visit that are written down, so that its row stays small.
const RETRIES: usize = 100;

/// The number of events by which a follower may be behind before it loses some. It never loses steps, see
/// [`Run::follow`](crate::Run::follow).
const FOLLOW: usize = 256;

/// Listens to one run and its children.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    /// The visits under way that will be written down, by path. Visits of children that are no runs are not noted,
    /// since there may be very many.
    visits: Mutex<HashMap<NodePath, VisitNotes>>,
    pub(crate) meters: Arc<UsageMeters>,
    followers: Mutex<Option<broadcast::Sender<Live>>>,
    /// The step that the run's visit under way will be.
    step: AtomicU64,
    /// The work that the drive has under way.
    pub(crate) working: Mutex<Working>,
    /// The parked children that can go on, by number.
    awake: Mutex<BTreeSet<i64>>,
    /// Notified of each such child.
    woken: Notify,
    /// `true` if listeners were told that the run goes on, but not yet that it has halted.
    announced: AtomicBool,
}

/// A message to a follower while a run is driven.
#[derive(Debug, Clone)]
pub(crate) enum Live {
    /// A step is committed.
    Step(u64),
    /// Something happened in the visit that will be this step.
    Event(u64, Arc<Event>),
}

/// Notes about a visit.
#[derive(Debug, Default)]
pub(crate) struct VisitNotes {
    pub(crate) attempts: u64,
    retries: Vec<FailedAttempt>,
}

impl VisitNotes {
    /// The failed attempts as JSON, if there were any.
    pub(crate) fn retries(&self) -> Option<String> {
        if self.retries.is_empty() { None } else { serde_json::to_string(&self.retries).ok() }
    }
}

impl Observer {
    /// Creates the observer of a drive that has this work.
    pub(crate) fn new(working: Working) -> Self {
        Self { working: Mutex::new(working), ..Self::default() }
    }

    /// Returns the hooks that the observer adds to its run.
    pub(crate) fn hooks(self: &Arc<Self>, cancel: CancellationToken) -> Hooks {
        Hooks { cancel, listener: Some(Arc::clone(self) as _), hold: lock(&self.working).held() }
    }

    /// Starts the notes about a visit that will be written down.
    pub(crate) fn note(&self, node: NodePath) {
        lock(&self.visits).insert(node, VisitNotes::default());
    }

    /// Takes the notes about a visit.
    pub(crate) fn take(&self, node: &NodePath) -> VisitNotes {
        lock(&self.visits).remove(node).unwrap_or_default()
    }

    /// Deletes the notes about a visit that was given up and will start again.
    pub(crate) fn forget(&self) {
        lock(&self.visits).clear();
    }

    /// Turns to the visit of a node that will be this step.
    pub(crate) fn begin(&self, step: u64, run: RunId, node: NodePath) {
        self.step.store(step, Ordering::Relaxed);
        lock(&self.working).visit(run, node);
    }

    /// Tells those who wait for children that some can go on: a parked child, and those around it.
    pub(crate) fn wake(&self, children: &[i64]) {
        lock(&self.awake).extend(children);
        self.woken.notify_waiters();
    }

    /// Waits until one of these children can go on, and returns what `mine` gives for it.
    pub(crate) async fn woken<T>(&self, mine: impl Fn(i64) -> Option<T>) -> T {
        loop {
            // The order matters: no wake can be missed between the look and the wait.
            let told = self.woken.notified();
            let found = lock(&self.awake).iter().find_map(|child| Some((*child, mine(*child)?)));
            if let Some((child, known)) = found {
                lock(&self.awake).remove(&child);
                return known;
            }
            told.await;
        }
    }

    /// Returns `true` if listeners have not been told yet that the run goes on.
    pub(crate) fn announces(&self) -> bool {
        !self.announced.swap(true, Ordering::Relaxed)
    }

    /// Tells followers of a step of the run itself.
    pub(crate) fn stepped(&self, seq: u64) {
        if let Some(followers) = &*lock(&self.followers) {
            drop(followers.send(Live::Step(seq)));
        }
    }

    /// Returns a receiver of the events from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Live> {
        let mut followers = lock(&self.followers);
        followers.get_or_insert_with(|| broadcast::channel(FOLLOW).0).subscribe()
    }
}

impl Listener for Observer {
    fn event(&self, event: &Event) {
        match (&event.kind, &event.node) {
            (EventKind::AttemptStarted, Some(node)) => {
                if let Some(seen) = lock(&self.visits).get_mut(node) {
                    seen.attempts += 1;
                }
            }
            (EventKind::Retry { reason, wait }, Some(node)) => {
                let mut visits = lock(&self.visits);
                if let Some(seen) = visits.get_mut(node).filter(|seen| seen.retries.len() < RETRIES) {
                    let (item, attempt, error) = (event.item, event.attempt, reason.clone());
                    seen.retries.push(FailedAttempt { item, attempt, error, wait: *wait });
                }
            }
            (EventKind::Used { usage }, Some(node)) => self.meters.add(node, *usage),
            // A follower reads the status of the run from the store.
            (EventKind::RunStarted { .. } | EventKind::Asked { .. }, _) => return,
            _ if event.is_terminal() => return self.announced.store(false, Ordering::Relaxed),
            _ => {}
        }
        if let Some(followers) = &*lock(&self.followers) {
            drop(followers.send(Live::Event(self.step.load(Ordering::Relaxed), Arc::new(event.clone()))));
        }
    }

    /// Emitted values are for followers only: the history does not keep them.
    fn hears(&self) -> bool {
        lock(&self.followers).as_ref().is_some_and(|followers| followers.receiver_count() > 0)
    }
}

#[cfg(test)]
mod tests {
    use flowstone_core::{AsyncFlow, RunOptions};

    use super::*;

    #[tokio::test]
    async fn the_visits_of_children_that_are_not_kept_leave_nothing() {
        let observer = Arc::new(Observer::default());
        let mut child = AsyncFlow::builder("child");
        let only = child.add("only", flowstone_core::step(|n: &u32| *n, |n: &u32| Ok(*n), |_: &mut u32, _, _| ()));
        child.start(only);
        let child = child.build().unwrap();
        let mut flow = AsyncFlow::builder("fan");
        let fan = flow.add("fan", child.batch(|_: &u32| (0..1000).collect(), |_: &mut u32, _| ()).parallel(10));
        flow.start(fan);
        let flow = flow.build().unwrap();

        observer.note("fan".into());
        flow.run_async_with(&mut 0, &RunOptions::new().listen_shared(Arc::clone(&observer) as _)).await.unwrap();

        assert_eq!(lock(&observer.visits).len(), 1);
    }
}
