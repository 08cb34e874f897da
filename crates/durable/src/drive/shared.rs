//! What everything in a process that drives one store shares: the writer, readers, the runs that are driven.

use std::{
    any::Any,
    collections::{HashMap, hash_map::Entry},
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use flowstone_core::{BoxFuture, CancellationToken, Execution, Panicked, RunError, Unstorable, Usage};
use futures_util::FutureExt;
use rusqlite::Connection;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::{
    disk::{
        lock::Lock,
        snapshot::MAX_STATE,
        states::{States, Stored},
        writer::{Driven, Writer},
    },
    drive::{
        keeper::{Halted, Keeper, Watched},
        observer::{Observer, lock},
        readers::{Opening, Readers},
        watch::Inbox,
    },
    flows::registered::{AnyFlow, Flows},
    records::{
        deleting,
        load::{Asked, load},
        parked::{self, GoesOn},
        reader::Reader,
        rows::{self, millis},
        turns::{self, Place, Terms, Turn, Turns},
        usage,
    },
    words::{
        error::{Error, OpenError, StoreError, StoreFault, Written},
        options::StoreOptions,
        status::{Left, Status},
        waits::Moment,
    },
};

mod heard;
mod news;
mod turn;
mod work;

use news::News;
pub(crate) use news::Waiter;
pub(crate) use work::Working;

/// Drops the state of a run, whatever its own `Drop` does: nothing of what is written down depends on it.
pub(crate) fn drop_quietly<T>(state: T) {
    if let Err(panicked) = Panicked::catch(|| drop(state)) {
        tracing::error!(target: "flowstone", "the state of a run {panicked} when it was dropped");
    }
}

/// A store that this process drives.
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) options: StoreOptions,
    pub(crate) writer: Writer,
    pub(crate) readers: Readers,
    pub(crate) flows: Flows,
    /// The runs that are driven, by number.
    active: Mutex<HashMap<i64, Active>>,
    /// Who waits for news of a run, by its number.
    waiting: Mutex<HashMap<i64, watch::Sender<News>>>,
    /// How far the requests of other processes were looked at.
    pub(crate) inbox: Mutex<Inbox>,
    /// Told when a run begins to sleep or to wait, a place is free, or a flow is registered.
    pub(crate) wakes: Arc<Notify>,
    /// Whose turn it is.
    pub(crate) turns: Arc<Turns>,
    /// The number of this driver.
    epoch: i64,
    /// Whether the one before has died.
    died: bool,
    /// Cancelled when the store is closed.
    pub(crate) closing: CancellationToken,
    /// Cancelled also when another process drives the store: nothing is to go on.
    pub(crate) halt: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Counts the drives that have not stopped yet; of one that has, something may still run.
    pub(crate) stops: TaskTracker,
    /// Held by the writer's thread, and by all that runs.
    lock: Weak<Lock>,
    /// Where the tasks run.
    runtime: Handle,
}

/// The error of a state that cannot be kept.
pub(crate) fn unstorable(execution: &dyn Execution, source: Unstorable) -> Error {
    let (run, node, source) = (execution.id(), execution.node().clone(), Arc::new(source));
    Error::Unstorable { run, node, what: Written::State, source }
}

/// A run that is driven.
struct Active {
    cancel: Cancel,
    observer: Arc<Observer>,
    /// Whether the run was to go on while its last drive came to a halt.
    again: bool,
    /// Its place among those that are driven, if its turn has come.
    place: Option<Place>,
}

impl Active {
    fn new(observer: Arc<Observer>) -> Self {
        Self { cancel: Cancel::default(), observer, again: false, place: None }
    }
}

/// What cancels one drive of a run, and tells whether that was written down.
#[derive(Clone, Default)]
pub(crate) struct Cancel {
    pub(crate) token: CancellationToken,
    written: Arc<AtomicBool>,
}

impl Cancel {
    /// Returns whether the run was cancelled by this; it may have been retried since.
    pub(crate) fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }
}

/// A run that has just been written down.
pub(crate) struct New {
    pub(crate) execution: Box<dyn Execution>,
    pub(crate) cancel: CancellationToken,
    pub(crate) observer: Arc<Observer>,
}

/// What a drive begins with.
struct Begin {
    execution: Box<dyn Execution>,
    keeper: Keeper,
    answered: Option<Asked>,
    /// On what terms it goes on, if the store has to be told first.
    terms: Option<Terms>,
}

impl Shared {
    pub(crate) fn new(driven: Driven, options: StoreOptions, closing: CancellationToken) -> Arc<Self> {
        let Driven { writer, path, files, lock, halt, epoch, died, .. } = driven;
        let runtime = Handle::current();
        let turns = Arc::new(Turns::default());
        let opening = Opening { path: path.clone(), vfs: options.vfs.clone(), files, runtime: runtime.clone() };
        Arc::new(Self {
            path,
            options,
            writer,
            readers: Readers::new(opening),
            flows: Flows::default(),
            active: Mutex::default(),
            waiting: Mutex::default(),
            inbox: Mutex::default(),
            wakes: Arc::clone(&turns.free),
            turns,
            epoch,
            died,
            closing,
            halt,
            tasks: TaskTracker::new(),
            stops: TaskTracker::new(),
            lock,
            runtime,
        })
    }

    /// Returns the time by the store's clock, in milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        millis(self.now_exact())
    }

    /// Returns the moment by the store's clock and by its ticks.
    pub(crate) fn moment(&self) -> Moment {
        Moment { clock: self.now(), ticks: self.writer.ticks() }
    }

    pub(crate) fn now_exact(&self) -> SystemTime {
        (self.options.clock)()
    }

    /// Reads something as it is at one moment.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.readers.read(move |reader| reader.at_once(read)).await
    }

    /// Deletes what deleted runs have left, a piece at a time, so that others commit between two of them.
    pub(crate) async fn delete_left(&self) -> Result<(), Error> {
        while self.writer.call("piece", deleting::piece).await? {}
        Ok(())
    }

    /// Opens another connection for reading.
    pub(crate) fn reader(&self) -> Result<Reader, OpenError> {
        self.readers.open()
    }

    /// Returns what to store of a run's state after a step, if it can be read back and is not too large.
    pub(crate) fn store(&self, execution: &dyn Execution, states: &mut States, step: u64) -> Result<Stored, Error> {
        let json = execution.save().map_err(|source| unstorable(execution, source))?;
        self.store_json(execution, states, step, json)
    }

    /// As [`store`](Self::store), for the state with which a run begins: it is read back first.
    pub(crate) fn store_surely(
        &self,
        execution: &dyn Execution,
        states: &mut States,
        step: u64,
    ) -> Result<Stored, Error> {
        let json = execution.save_surely().map_err(|source| unstorable(execution, source))?;
        self.store_json(execution, states, step, json)
    }

    fn store_json(
        &self,
        execution: &dyn Execution,
        states: &mut States,
        step: u64,
        json: Vec<u8>,
    ) -> Result<Stored, Error> {
        let (size, most) = (json.len(), self.options.max_state);
        let too_large = |most| Error::StateTooLarge { run: execution.id(), size, most };
        if size > most {
            return Err(too_large(most));
        }
        states.next(step, json).map_err(|_| too_large(MAX_STATE))
    }

    /// Returns the flow with which a run goes on.
    pub(crate) fn flow_of(&self, reader: &Reader, run: i64) -> Result<Arc<dyn AnyFlow>, Error> {
        let flow = reader.flow_of(run)?;
        self.flows.get(&flow).ok_or(Error::UnknownFlow { flow })
    }

    /// Drives a run that has just been written down. It is called on the writer's thread before anything else is written,
    /// so that nobody can find the run and not find it driven.
    pub(crate) fn begin(self: &Arc<Self>, run: i64, flow: Arc<dyn AnyFlow>, states: States, new: New) {
        let New { execution, cancel, observer } = new;
        match lock(&self.active).entry(run) {
            Entry::Occupied(_) => return,
            Entry::Vacant(place) => {
                let cancel = Cancel { token: cancel, ..Cancel::default() };
                place.insert(Active { cancel, ..Active::new(Arc::clone(&observer)) });
            }
        }
        let keeper = Keeper::starting(self, run, states, Watched::root(execution.id(), flow, observer));
        self.spawn(run, Some(Begin { execution, keeper, answered: None, terms: None }));
    }

    /// Goes on with a run that can: if it is a child, the run that the user started is driven, or told if it is already.
    pub(crate) fn go_on(self: &Arc<Self>, goes_on: &GoesOn) {
        if !goes_on.children.is_empty()
            && let Some(observer) = self.observer(goes_on.root)
        {
            observer.wake(&goes_on.children);
        }
        self.resume(goes_on.root);
    }

    /// Drives a stored run that is to go on; if it is driven already, it goes on when that comes to a halt.
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

    /// Drives a run whose turn has come, unless it is driven already.
    fn take(self: &Arc<Self>, run: i64, place: Place) {
        match lock(&self.active).entry(run) {
            Entry::Occupied(_) => return,
            Entry::Vacant(vacant) => {
                vacant.insert(Active { place: Some(place), ..Active::new(self.new_observer()) });
            }
        }
        self.spawn(run, None);
    }

    /// Reads a run that is to go on, and drives it; returns whether it went on.
    pub(crate) fn resume_here(self: &Arc<Self>, reader: &Reader, run: i64) -> Result<bool, Error> {
        match lock(&self.active).entry(run) {
            Entry::Occupied(_) => return Ok(false),
            Entry::Vacant(place) => {
                place.insert(Active::new(self.new_observer()));
            }
        }
        match reader.at_once(|reader| self.load(reader, run)) {
            Ok(Some(begin)) => {
                self.spawn(run, Some(begin));
                Ok(true)
            }
            stays => {
                lock(&self.active).remove(&run);
                stays.map(|_| false)
            }
        }
    }

    fn spawn(self: &Arc<Self>, run: i64, begin: Option<Begin>) {
        self.tell(run, None);
        let shared = Arc::clone(self);
        self.tasks.spawn_on(shared.drive(run, begin), &self.runtime);
    }

    /// Drives a run until it comes to a halt, and again while it is to go on.
    fn drive(self: Arc<Self>, run: i64, mut begin: Option<Begin>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                let Some(observer) = self.observer(run) else { return };
                let driven = self.drive_to_end(run, begin.take(), &observer).await;
                let halts = self.halt.is_cancelled();
                if let Err(error) = &driven
                    && !halts
                {
                    tracing::warn!(target: "flowstone", run, %error, "the driving of a run stopped");
                }
                self.keep_left(run, &observer).await;
                if let Err(error) = &driven
                    && let Err(error) = self.note_refusal(run, error).await
                {
                    tracing::warn!(target: "flowstone", run, %error, "why a run cannot go on could not be written down");
                }
                let again = self.halted(run, driven.is_ok());
                // Who waits sees by itself that the store was closed.
                self.tell(run, driven.err().filter(|_| !self.closing.is_cancelled()));
                if !again {
                    return;
                }
            }
        })
    }

    /// Marks a run as failed whose driving panicked.
    async fn panicked(&self, run: i64, payload: Box<dyn Any + Send>) -> Error {
        let message = Panicked::new(payload).message;
        let mark = move |db: &Connection| rows::mark_panicked(db, run, message);
        let error = self.writer.call("panic", mark).await.unwrap_or_else(|error| error);
        self.tell_stopped(run).await;
        error
    }

    /// Drives a run until it comes to a halt, and nothing that it started still runs.
    ///
    /// **Invariant:** as long as something does, the run stays on the list of those that are driven: at most one `exec` of a
    /// visit runs at a time.
    async fn drive_to_end(
        self: &Arc<Self>,
        run: i64,
        begin: Option<Begin>,
        observer: &Arc<Observer>,
    ) -> Result<(), Error> {
        let under_way = self.stops.token();
        let leaving = Leaving(observer);
        // A run that nobody drives must not look as if it were driven, whatever happens.
        let once = AssertUnwindSafe(self.drive_once(run, begin)).catch_unwind();
        let driven = tokio::select! {
            driven = once => driven,
            () = self.halt.cancelled() => Ok(Err(self.halt_fault().into())),
        };
        // Here the visit is dropped, and what is left of it was told to stop.
        let ended = lock(&observer.working).let_go();
        if let Some(mut ended) = ended {
            tokio::select! {
                biased;
                _ = &mut ended => {}
                () = self.halt.cancelled() => {
                    drop(leaving);
                    drop(under_way);
                    drop(ended.await);
                }
            }
        }
        match driven {
            Ok(driven) => driven,
            Err(payload) => Err(self.panicked(run, payload).await),
        }
    }

    /// Says why nothing goes on any more.
    fn halt_fault(&self) -> StoreError {
        StoreError::new(if self.closing.is_cancelled() { StoreFault::Closed } else { StoreFault::LockLost })
    }

    /// Returns what still runs of a store that is closed, and keeps what it had used until now.
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

    /// Writes down what visits had used that were left under way, if the store can be written.
    async fn keep_left(&self, run: i64, observer: &Observer) {
        let left = observer.purses.take_left();
        if left.is_empty() {
            return;
        }
        if let Err(error) = self.writer.call("usage", move |db| left.write(db)).await {
            tracing::warn!(target: "flowstone", run, %error, "what a visit used could not be written down");
        }
    }

    /// Takes a run off the list of those that are driven, unless it is to go on.
    fn halted(&self, run: i64, ok: bool) -> bool {
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

    async fn drive_once(self: &Arc<Self>, run: i64, begin: Option<Begin>) -> Result<(), Error> {
        let begin = match begin {
            Some(begin) => Some(begin),
            None => {
                let shared = Arc::clone(self);
                self.read(move |reader| shared.load(reader, run)).await?
            }
        };
        let Some(Begin { mut execution, mut keeper, answered, terms }) = begin else { return Ok(()) };
        let span = execution.span();
        if let Some(terms) = terms {
            match self.writer.call("begin", move |db| turns::take_up(db, run, terms)).await? {
                Turn::Begins => {}
                Turn::Failed => {
                    self.tell_stopped(run).await;
                    return Ok(());
                }
                Turn::Waits | Turn::Gone => {
                    self.wakes.notify_one();
                    return Ok(());
                }
            }
        }
        match keeper.drive(&mut *execution, answered).instrument(span.clone()).await? {
            Halted::Ended(_) | Halted::Parked => {}
            // A child was answered while the others came to a halt.
            Halted::Again => self.resume(run),
            Halted::Stopped(error) => {
                error.record_in(&span);
                self.stopped(run, &error);
            }
        }
        drop_quietly(execution);
        Ok(())
    }

    fn stopped(&self, run: i64, error: &RunError) {
        if !matches!(error, RunError::Cancelled { .. }) {
            tracing::debug!(target: "flowstone", %error, "a run stopped");
        } else if let Some(this) = lock(&self.active).get(&run) {
            this.cancel.written.store(true, Ordering::Release);
        }
    }

    /// Reads what a run needs to go on; `None` if it is not to.
    fn load(self: &Arc<Self>, reader: &Reader, run: i64) -> Result<Option<Begin>, Error> {
        let Some(mut loaded) = load(&reader.db, run, self.options.full_every)? else { return Ok(None) };
        if loaded.status != Status::Running {
            return Ok(None);
        }
        let Some(flow) = self.flows.get(&loaded.flow_name) else {
            return Err(Error::UnknownFlow { flow: loaded.flow_name });
        };
        let (cancel, observer, is_placed) = {
            let active = lock(&self.active);
            let Some(this) = active.get(&run) else { return Ok(None) };
            (this.cancel.token.clone(), Arc::clone(&this.observer), this.place.is_some())
        };
        observer.forget();
        let used = if flow.has_budget() { usage::total(&reader.db, run)? } else { Usage::default() };
        let execution = flow.restore(&loaded, used, cancel, &observer)?;
        flow.migrate_items(&mut loaded)?;
        let mut answered = loaded.asked.take().filter(Asked::is_over);
        if let (Some(asked), Some(node)) = (&mut answered, &loaded.next) {
            asked.migrate(&*flow, &loaded.id, node)?;
        }
        self.check_open(reader, &*flow, &loaded)?;
        let terms = Terms { is_placed, ..self.terms(&*flow) };
        let terms = Some(terms).filter(|terms| self.is_taken_up(&loaded.standing, *terms));
        let watched = Watched::root(loaded.id.clone(), Arc::clone(&flow), observer);
        let keeper = Keeper::resuming(self, loaded, flow.version(), watched);
        Ok(Some(Begin { execution, keeper, answered, terms }))
    }

    /// Writes down why a run cannot go on, if the error says that it cannot, and not that something else went wrong.
    pub(crate) async fn note_refusal(&self, run: i64, error: &Error) -> Result<(), Error> {
        let Some(why) = error.refusal() else { return Ok(()) };
        self.writer.call("refused", move |db| rows::refuse(db, parked::root_of(db, run)?, &why)).await
    }

    /// Makes who watches a run that is to be driven.
    pub(crate) fn new_observer(&self) -> Arc<Observer> {
        Arc::new(Observer::new(Working::new(self.lock.upgrade())))
    }

    /// Keeps a run that is not driven from being driven, until what is returned is dropped; `None` if it is driven.
    pub(crate) fn reserve(self: &Arc<Self>, run: i64) -> Option<Reserved> {
        match lock(&self.active).entry(run) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(Active::new(Arc::default()));
                Some(Reserved { shared: Arc::clone(self), run })
            }
        }
    }

    /// Stops a run that is driven, if it is.
    pub(crate) fn cancel(&self, run: i64) -> Option<Cancel> {
        let cancel = lock(&self.active).get(&run).map(|active| active.cancel.clone());
        cancel.inspect(|cancel| cancel.token.cancel())
    }

    pub(crate) fn is_active(&self, run: i64) -> bool {
        lock(&self.active).contains_key(&run)
    }

    /// Returns who watches a run that is driven.
    pub(crate) fn observer(&self, run: i64) -> Option<Arc<Observer>> {
        lock(&self.active).get(&run).map(|active| Arc::clone(&active.observer))
    }
}

/// Lets go of a drive's work when the drive is over, or its task is dropped with the runtime: what is left is noted.
struct Leaving<'a>(&'a Observer);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut working = lock(&self.0.working);
        drop(working.let_go());
        working.left();
    }
}

/// The place of a run that is changed while nobody drives it; when dropped, it is driven if that was asked for meanwhile.
pub(crate) struct Reserved {
    shared: Arc<Shared>,
    run: i64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let active = lock(&self.shared.active).remove(&self.run);
        if active.is_some_and(|active| active.again) {
            self.shared.resume(self.run);
        } else {
            self.shared.tell(self.run, None);
        }
    }
}
