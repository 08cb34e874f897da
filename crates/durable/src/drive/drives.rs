//! Drives: a run is read back and driven until it halts, as long as there is a reason to drive it again.
//!
//! **Invariant:** a run stays on the list of driven runs until all work that its drive started has ended.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use flowstone_core::{
    BoxFuture, CancellationToken, Usage,
    driver::{Execution, Panicked},
};
use futures_util::FutureExt;
use rusqlite::Connection;
use tracing::Instrument;

use crate::{
    disk::states::States,
    drive::{
        active::{Active, Cancel},
        observer::Observer,
        run_driver::{Halted, RunDriver},
        shared::Shared,
        surroundings::Surroundings,
    },
    flows::any_flow::AnyFlow,
    records::{
        load::{Asked, load},
        reader::Reader,
        status,
        turns::{self, Terms, Turn},
        usage,
    },
    words::{
        error::{DriveError, StoreError, StoreFault},
        guard::{drop_quietly, lock},
        status::Status,
    },
};

/// A run that has just been written down.
pub(crate) struct New {
    pub(crate) execution: Box<dyn Execution>,
    pub(crate) cancel: CancellationToken,
    pub(crate) observer: Arc<Observer>,
}

/// The beginning of a drive.
pub(super) struct Begin {
    execution: Box<dyn Execution>,
    driver: RunDriver,
    answered: Option<Asked>,
    /// The terms on which it goes on, if the store has to be told first.
    terms: Option<Terms>,
}

impl Shared {
    /// Drives a run that has just been written down. It is called on the writer's thread before anything else is
    /// written, so that nobody finds the run in the store before it is on the list of driven runs.
    pub(crate) fn begin(self: &Arc<Self>, run: i64, flow: Arc<dyn AnyFlow>, states: States, new: New) {
        let New { execution, cancel, observer } = new;
        let cancel = Cancel::by(cancel);
        if !self.enter(run, || Active { cancel, ..Active::new(Arc::clone(&observer)) }) {
            return;
        }
        let driver =
            RunDriver::starting(&self.storage, run, states, Surroundings::root(execution.id(), flow, observer));
        self.spawn(run, Some(Begin { execution, driver, answered: None, terms: None }));
    }

    /// Reads a run and drives it; returns `true` if it went on.
    pub(crate) fn resume_here(self: &Arc<Self>, reader: &Reader, run: i64) -> Result<bool, DriveError> {
        if !self.enter(run, || Active::new(self.new_observer())) {
            return Ok(false);
        }
        match reader.at_once(|reader| self.load(reader, run)) {
            Ok(Some(begin)) => {
                self.spawn(run, Some(begin));
                Ok(true)
            }
            stays => {
                self.take_off(run);
                stays.map(|_| false)
            }
        }
    }

    pub(super) fn spawn(self: &Arc<Self>, run: i64, begin: Option<Begin>) {
        self.tell(run, None);
        let shared = Arc::clone(self);
        self.tasks.spawn_on(shared.drive(run, begin), &self.runtime);
    }

    /// Drives a run until it halts, and again as long as it was asked to go on in the meantime.
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
                // Waiters see on their own that the store was closed.
                self.tell(run, driven.err().filter(|_| !self.closing.is_cancelled()));
                if !again {
                    return;
                }
            }
        })
    }

    /// Marks a run as failed, because its driver panicked.
    async fn panicked(&self, run: i64, payload: Box<dyn Any + Send>) -> DriveError {
        let message = Panicked::new(payload).message;
        let mark = move |db: &Connection| status::mark_panicked(db, run, message);
        let error = self.writer.call("panic", mark).await.unwrap_or_else(DriveError::from);
        self.tell_stopped(run).await;
        error
    }

    /// Drives a run until it has halted and all work that it started has ended.
    ///
    /// **Invariant:** until then the run stays on the list of driven runs, so that at most one `exec` of a visit runs
    /// at a time.
    async fn drive_to_end(
        self: &Arc<Self>,
        run: i64,
        begin: Option<Begin>,
        observer: &Arc<Observer>,
    ) -> Result<(), DriveError> {
        let under_way = self.stops.token();
        let leaving = Leaving(observer);
        // A run whose drive is over must leave the list, whatever happens.
        let once = AssertUnwindSafe(self.drive_once(run, begin)).catch_unwind();
        let driven = tokio::select! {
            driven = once => driven,
            () = self.halt.cancelled() => Ok(Err(self.halt_fault().into())),
        };
        // Here the visit is dropped, and the work that is left of it was told to stop.
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

    /// Returns the reason why no run of the store goes on any more.
    fn halt_fault(&self) -> StoreError {
        StoreError::new(if self.closing.is_cancelled() { StoreFault::Closed } else { StoreFault::LockLost })
    }

    async fn drive_once(self: &Arc<Self>, run: i64, begin: Option<Begin>) -> Result<(), DriveError> {
        let begin = match begin {
            Some(begin) => Some(begin),
            None => {
                let shared = Arc::clone(self);
                self.read(move |reader| shared.load(reader, run)).await?
            }
        };
        let Some(Begin { mut execution, mut driver, answered, terms }) = begin else { return Ok(()) };
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
        match driver.drive(&mut *execution, answered).instrument(span.clone()).await? {
            Halted::Ended(_) | Halted::Parked => {}
            // A child was answered while the others halted.
            Halted::Again => self.resume(run),
            Halted::Stopped(error) => {
                error.record_in(&span);
                self.stopped(run, &error);
            }
        }
        drop_quietly(execution);
        Ok(())
    }

    /// Loads a run so that it can be continued; `None` if it should not go on.
    fn load(self: &Arc<Self>, reader: &Reader, run: i64) -> Result<Option<Begin>, DriveError> {
        let Some(mut loaded) = load(&reader.db, run, self.options.full_every)? else { return Ok(None) };
        if loaded.status != Status::Running {
            return Ok(None);
        }
        let Some(flow) = self.flows.get(&loaded.flow_name) else {
            return Err(DriveError::UnknownFlow { flow: loaded.flow_name });
        };
        let Some((cancel, observer, is_placed)) = self.drive_of(run) else { return Ok(None) };
        observer.forget();
        let used = if flow.has_budget() { usage::total(&reader.db, run)? } else { Usage::default() };
        let execution = flow.restore(&loaded, used, &observer.hooks(cancel))?;
        flow.migrate_items(&mut loaded)?;
        let mut answered = loaded.asked.take().filter(Asked::is_over);
        if let (Some(asked), Some(node)) = (&mut answered, &loaded.next) {
            asked.migrate(&*flow, &loaded.id, node)?;
        }
        self.flows.check_open(reader, &*flow, &loaded)?;
        let terms = Terms { is_placed, ..self.terms(&*flow) };
        let terms = Some(terms).filter(|terms| self.is_taken_up(&loaded.standing, *terms));
        let around = Surroundings::root(loaded.id.clone(), Arc::clone(&flow), observer);
        let driver = RunDriver::resuming(&self.storage, loaded, flow.version(), around);
        Ok(Some(Begin { execution, driver, answered, terms }))
    }
}

/// Releases the work of a drive when the drive is over, or when its task is dropped with the runtime, and notes the
/// work that is left.
struct Leaving<'a>(&'a Observer);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut working = lock(&self.0.working);
        drop(working.let_go());
        working.left();
    }
}
