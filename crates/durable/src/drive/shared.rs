//! The storage and the list of driven runs, which all tasks of one driven store share.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Deref,
    sync::{Arc, Mutex, Weak},
};

use flowstone_core::{CancellationToken, RunError};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::{
    disk::{lock::Lock, writer::Driven},
    drive::{
        active::{Active, Cancel},
        news::{Waiter, Waiting},
        observer::Observer,
        readers::{Opening, Readers},
        storage::Storage,
        turns::{Place, Turns},
        work::Working,
    },
    flows::registry::Flows,
    records::{
        inbox::Inbox,
        parked::{self, GoesOn},
        status,
    },
    words::{
        error::{DriveError, Refuses, StatusError},
        guard::lock,
        info::Left,
        store_options::StoreOptions,
    },
};

/// A store that this process drives.
pub(crate) struct Shared {
    pub(crate) storage: Arc<Storage>,
    /// The runs that are driven, by number.
    active: Mutex<HashMap<i64, Active>>,
    /// The news of runs, for those who wait.
    waiting: Arc<Waiting>,
    /// The place in the inbox up to which requests of other processes were looked at.
    pub(crate) inbox: Mutex<Inbox>,
    /// The number of this driver.
    pub(super) epoch: i64,
    /// `true` if the process that drove the store before has died.
    pub(super) died: bool,
    /// Cancelled when the store is closed, and when another process drives it: no run may go on.
    pub(crate) halt: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Counts the drives that have not stopped yet. Work of a stopped drive may still run.
    pub(crate) stops: TaskTracker,
    /// The lock of the store, which the writer's thread and all work hold.
    lock: Weak<Lock>,
    /// The runtime of the tasks.
    pub(super) runtime: Handle,
}

/// The storage's methods can be called on the whole.
impl Deref for Shared {
    type Target = Storage;

    fn deref(&self) -> &Storage {
        &self.storage
    }
}

impl Shared {
    pub(crate) fn new(driven: Driven, options: StoreOptions, closing: CancellationToken) -> Arc<Self> {
        let Driven { writer, path, files, lock, halt, epoch, died, .. } = driven;
        let runtime = Handle::current();
        let turns = Arc::new(Turns::default());
        let opening = Opening { path: path.clone(), vfs: options.vfs.clone(), files, runtime: runtime.clone() };
        let storage = Storage {
            path,
            options,
            writer,
            readers: Readers::new(opening),
            flows: Flows::default(),
            wakes: Arc::clone(&turns.free),
            turns,
            closing: closing.clone(),
        };
        Arc::new(Self {
            storage: Arc::new(storage),
            active: Mutex::default(),
            waiting: Arc::new(Waiting::new(closing)),
            inbox: Mutex::default(),
            epoch,
            died,
            halt,
            tasks: TaskTracker::new(),
            stops: TaskTracker::new(),
            lock,
            runtime,
        })
    }

    /// Returns a receiver of the news of a run.
    pub(crate) fn wait_for(&self, run: i64) -> Waiter {
        self.waiting.wait_for(run)
    }

    /// Tells all who wait for a run that something changed, with the fault that stopped its drive if there was one.
    pub(crate) fn tell(&self, run: i64, fault: Option<DriveError>) {
        self.waiting.tell(run, fault);
    }

    /// Drives a run that can go on. For a child, the run that the user started is driven, or told if it is driven
    /// already.
    pub(crate) fn go_on(self: &Arc<Self>, goes_on: &GoesOn) {
        if !goes_on.children.is_empty()
            && let Some(observer) = self.observer(goes_on.root)
        {
            observer.wake(&goes_on.children);
        }
        self.resume(goes_on.root);
    }

    /// Drives a stored run. If it is driven already, it is driven again after that drive halts.
    pub(crate) fn resume(self: &Arc<Self>, run: i64) {
        match lock(&self.active).entry(run) {
            Entry::Occupied(mut active) => {
                active.get_mut().again = true;
                return;
            }
            Entry::Vacant(place) => {
                place.insert(Active::new(self.new_observer()));
            }
        }
        self.spawn(run, None);
    }

    /// Puts a run on the list of driven runs; returns `false` if it is there already.
    pub(super) fn enter(&self, run: i64, active: impl FnOnce() -> Active) -> bool {
        match lock(&self.active).entry(run) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(active());
                true
            }
        }
    }

    /// Takes a run off the list of driven runs.
    pub(super) fn take_off(&self, run: i64) -> Option<Active> {
        lock(&self.active).remove(&run)
    }

    /// Returns the cancellation and the observer of a driven run, and `true` if the run has a place.
    pub(super) fn drive_of(&self, run: i64) -> Option<(CancellationToken, Arc<Observer>, bool)> {
        let active = lock(&self.active);
        let this = active.get(&run)?;
        Some((this.cancel.token.clone(), Arc::clone(&this.observer), this.place.is_some()))
    }

    /// Drives a run whose turn has come, unless it is driven already.
    pub(super) fn take(self: &Arc<Self>, run: i64, place: Place) {
        if self.enter(run, || Active { place: Some(place), ..Active::new(self.new_observer()) }) {
            self.spawn(run, None);
        }
    }

    /// Returns the work of a closed store that is still under way, and keeps the usage so far.
    pub(crate) async fn leave(&self) -> Vec<Left> {
        let mut active: Vec<(i64, Arc<Observer>)> =
            lock(&self.active).iter().map(|(run, active)| (*run, Arc::clone(&active.observer))).collect();
        active.sort_unstable_by_key(|(run, _)| *run);
        let mut left = Vec::new();
        for (run, observer) in active {
            left.extend(lock(&observer.working).left());
            self.keep_left(run, &observer).await;
        }
        left
    }

    /// Writes down the usage of visits that were left under way, if the store can be written.
    pub(super) async fn keep_left(&self, run: i64, observer: &Observer) {
        let left = observer.meters.take_left();
        if left.is_empty() {
            return;
        }
        if let Err(error) = self.writer.call("usage", move |db| left.write(db)).await {
            tracing::warn!(target: "flowstone", run, %error, "what a visit used could not be written down");
        }
    }

    /// Takes a run off the list of driven runs, unless it was asked to go on.
    pub(super) fn halted(&self, run: i64, ok: bool) -> bool {
        let mut active = lock(&self.active);
        if ok
            && let Some(this) = active.get_mut(&run)
            && std::mem::take(&mut this.again)
        {
            this.cancel = Cancel::default();
            *lock(&this.observer.working) = Working::new(self.lock.upgrade());
            return true;
        }
        active.remove(&run);
        false
    }

    pub(super) fn stopped(&self, run: i64, error: &RunError) {
        if !matches!(error, RunError::Cancelled { .. }) {
            tracing::debug!(target: "flowstone", %error, "a run stopped");
        } else if let Some(this) = lock(&self.active).get(&run) {
            this.cancel.set_written();
        }
    }

    /// Writes down the reason why a run cannot go on, if an error says that its flow refuses it. Other errors are not
    /// written down.
    pub(crate) async fn note_refusal(&self, run: i64, error: &impl Refuses) -> Result<(), StatusError> {
        let Some(why) = error.refusal() else { return Ok(()) };
        self.writer.call("refused", move |db| status::refuse(db, parked::root_of(db, run)?, &why)).await
    }

    /// Notes a refusal, and returns the result unchanged.
    pub(super) async fn unless_refused<T, E>(&self, run: i64, result: Result<T, E>) -> Result<T, E>
    where
        E: Refuses + From<StatusError>,
    {
        if let Err(error) = &result {
            self.note_refusal(run, error).await?;
        }
        result
    }

    /// Runs a future until it is over, or the store is closed.
    pub(crate) async fn until_closed(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            () = self.halt.cancelled() => {}
        }
    }

    /// Returns an observer for a run that is to be driven.
    pub(crate) fn new_observer(&self) -> Arc<Observer> {
        Arc::new(Observer::new(Working::new(self.lock.upgrade())))
    }

    /// Keeps a run from being driven until the returned value is dropped; `None` if it is driven already.
    pub(crate) fn reserve(self: &Arc<Self>, run: i64) -> Option<Reserved> {
        let is_free = self.enter(run, || Active::new(Arc::default()));
        is_free.then(|| Reserved { shared: Arc::clone(self), run })
    }

    /// Stops a run, if it is driven.
    pub(crate) fn cancel(&self, run: i64) -> Option<Cancel> {
        let cancel = lock(&self.active).get(&run).map(|active| active.cancel.clone());
        cancel.inspect(|cancel| cancel.token.cancel())
    }

    pub(crate) fn is_active(&self, run: i64) -> bool {
        lock(&self.active).contains_key(&run)
    }

    /// Returns the observer of a driven run.
    pub(crate) fn observer(&self, run: i64) -> Option<Arc<Observer>> {
        lock(&self.active).get(&run).map(|active| Arc::clone(&active.observer))
    }
}

/// Keeps a run from being driven while it is changed. When dropped, the run is driven if that was asked for in the
/// meantime.
pub(crate) struct Reserved {
    shared: Arc<Shared>,
    run: i64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let active = self.shared.take_off(self.run);
        if active.is_some_and(|active| active.again) {
            self.shared.resume(self.run);
        } else {
            self.shared.tell(self.run, None);
        }
    }
}
