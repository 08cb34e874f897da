//! A store that this process drives: opening, closing, and the requests that need no flow.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use flowstone_core::{CancellationToken, NodePath, RunId};
use serde::Serialize;

use crate::{
    api::{
        handle::Handle,
        prune::{Prune, Pruned},
    },
    disk::writer,
    drive::{
        answers::{self, Which},
        changes, inbox,
        resume::{self, Resumed},
        shared::Shared,
        wakes,
    },
    records::{parked, reader::Reader},
    words::{
        error::{AnswerError, ChangeError, DriveError, OpenError, ReadError},
        info::{Left, Question, RunInfo},
        store_options::StoreOptions,
    },
};

/// A file of runs that this process drives: no other process makes visits of them.
///
/// Cheap to clone. When its last clone, [`Runs`](crate::Runs) and [`Run`](crate::Run) is dropped, its runs are stopped
/// where they are, and can be resumed when the store is opened again; [`close`](Self::close) waits until they have
/// stopped.
///
/// # Example
///
/// ```
/// use flowstone_core::AsyncFlow;
/// use flowstone_durable::Store;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("jobs.db");
/// let mut sum = AsyncFlow::builder("sum");
/// let add = sum.add("add", |n: &mut u32| *n += 1);
/// sum.start(add);
/// let mut shout = AsyncFlow::builder("shout");
/// let upper = shout.add("upper", |text: &mut String| *text = text.to_uppercase());
/// shout.start(upper);
///
/// let store = Store::open(&path).await?;
/// let sums = store.runs(sum.build()?).await?;
/// let shouts = store.runs(shout.build()?).await?;
/// store.resume_all().await?; // what an earlier process left unfinished
///
/// assert_eq!(sums.start("a", 1).await?.finished().await?.ended()?.state, 2);
/// assert_eq!(shouts.start("b", "hi".to_owned()).await?.finished().await?.ended()?.state, "HI");
/// store.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) handle: Arc<Handle>,
}

impl StoreOptions {
    /// Opens a store to drive it; it is made if it is not there, and upgraded if an older version wrote it.
    ///
    /// # Errors
    ///
    /// If another process drives it, it is no store, or it cannot be used.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<Store, OpenError> {
        Store::open_with(path.as_ref(), self).await
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.handle.shared.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store to drive it, with default [options](StoreOptions); it is made if it is not there, and upgraded if
    /// an older version wrote it.
    ///
    /// # Errors
    ///
    /// If another process drives it, it is no store, or it cannot be used.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        StoreOptions::new().open(path).await
    }

    pub(crate) async fn open_with(path: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let closing = CancellationToken::new();
        let driven = writer::open(path, options.clone(), closing.child_token()).await?;
        let ended = driven.ended.clone();
        let shared = Shared::new(driven, options, closing);
        shared.tasks.spawn(inbox::watch(Arc::clone(&shared)));
        shared.tasks.spawn(wakes::watch(Arc::clone(&shared)));
        // Rows may be left of runs whose deleting was cut off.
        shared.tasks.spawn(changes::delete_left(Arc::clone(&shared)));
        Ok(Self { handle: Arc::new(Handle { shared, ended }) })
    }

    /// Lets the runs of all registered flows go on that are neither parked nor at an end. Parked runs are checked, so
    /// that a fault of one is known before somebody answers; runs of other flows are counted.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn resume_all(&self) -> Result<Resumed, DriveError> {
        resume::resume_all(&self.handle.shared, None).await
    }

    /// Returns the facts about a run of any flow.
    ///
    /// # Errors
    ///
    /// If there is no such run.
    pub async fn info(&self, run: impl Into<RunId>) -> Result<RunInfo, ReadError> {
        let id = run.into();
        self.handle.shared.read(move |reader| reader.run(id)).await
    }

    /// Answers the question of a run at a node, once, and lets the run go on.
    ///
    /// # Errors
    ///
    /// If there is no such question, it is answered already, the answer fits neither its schema nor its type, or the
    /// flow of the run is not registered or cannot take it.
    pub async fn answer(
        &self,
        run: impl Into<RunId>,
        node: impl Into<NodePath>,
        answer: impl Serialize,
    ) -> Result<(), AnswerError> {
        let id = run.into();
        let number = self.number(&id).await?;
        answers::answer(&self.handle.shared, (number, &id), Which::At(node.into()), answer).await
    }

    /// Answers this question, so that a late answer cannot go to a later question of the same node.
    ///
    /// # Errors
    ///
    /// Those of [`answer`](Self::answer).
    pub async fn answer_question(&self, question: &Question, answer: impl Serialize) -> Result<(), AnswerError> {
        let asking = question.run.clone();
        let root = move |reader: &Reader| Ok::<_, ReadError>(parked::root_of(&reader.db, reader.number(&asking)?)?);
        let number = self.handle.shared.read(root).await?;
        let which = Which::Question(Box::new(question.clone()));
        answers::answer(&self.handle.shared, (number, &question.run), which, answer).await
    }

    /// Cancels a run of any flow, also of one that is not registered.
    ///
    /// # Errors
    ///
    /// If there is no such run, or it is at an end.
    pub async fn cancel(&self, run: impl Into<RunId>) -> Result<(), ChangeError> {
        changes::cancel(&self.handle.shared, self.number(&run.into()).await?).await
    }

    /// Lets a run go on that failed or was cancelled, from the node where it stopped.
    ///
    /// # Errors
    ///
    /// If there is no such run, it neither failed nor was cancelled, or its flow is not registered or cannot take it.
    pub async fn retry_failed(&self, run: impl Into<RunId>) -> Result<(), ChangeError> {
        changes::retry(&self.handle.shared, self.number(&run.into()).await?).await
    }

    /// Deletes a run that is not under way, with its history. Its flow need not be registered.
    ///
    /// # Errors
    ///
    /// If there is no such run, or it is under way.
    pub async fn delete(&self, run: impl Into<RunId>) -> Result<(), ChangeError> {
        changes::delete(&self.handle.shared, self.number(&run.into()).await?).await
    }

    async fn number(&self, run: &RunId) -> Result<i64, ReadError> {
        let run = run.clone();
        self.handle.shared.read(move |reader| reader.own_number(&run)).await
    }

    /// Deletes runs that are at an end, and makes the file smaller.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub async fn prune(&self, prune: &Prune) -> Result<Pruned, ChangeError> {
        crate::api::prune::prune(&self.handle.shared, prune).await
    }

    /// Opens the store for reading beside this driver: its runs of all flows, children included.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn reader(&self) -> Result<Reader, OpenError> {
        self.handle.shared.reader()
    }

    /// Stops all runs where they are, and closes the file. Other clones get
    /// [`StoreFault::Closed`](crate::StoreFault::Closed).
    ///
    /// Waits for work that cannot be interrupted: a blocking `exec` or [job](flowstone_core::Context::blocking) that is
    /// on the pool, and a spawned item until its next `.await`. Such work is told through
    /// [`Context::cancelled`](flowstone_core::Context::cancelled); [`close_within`](Self::close_within) does not wait
    /// for ever.
    pub async fn close(&self) {
        self.handle.shared.closing.cancel();
        self.handle.shared.tasks.close();
        self.handle.shared.tasks.wait().await;
        self.end(true).await;
    }

    /// Stops all runs where they are, waits at most `within` for work that cannot be interrupted, closes the file, and
    /// returns the work that is left. Work that can be interrupted gets at least a second.
    ///
    /// The store stays locked until the work that is left has ended, so that no other driver, in this process or in
    /// another, does it a second time beside it: opening the store until then fails with [`OpenError::StillRuns`].
    /// Results of this work are discarded.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    /// use flowstone_core::{AsyncFlow, Context, Result};
    /// use flowstone_durable::{OpenError, Runs, Store};
    /// # struct Compute(std::sync::Arc<std::sync::Barrier>);
    ///
    /// impl flowstone_core::Node<u32> for Compute {
    ///     type Prep = ();
    ///     type Exec = ();
    ///     type Action = ();
    ///
    ///     fn prep(&self, _: &u32) -> Result<()> { Ok(()) }
    ///     fn exec(&self, (): &(), _cx: &Context) -> Result<()> {
    ///         // It computes for an hour, and never looks at `_cx.cancelled()`.
    /// #       self.0.wait();
    /// #       self.0.wait();
    ///         Ok(())
    ///     }
    ///     fn post(&self, _: &mut u32, (): (), (): ()) -> Result<()> { Ok(()) }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("computes.db");
    /// # let both = std::sync::Arc::new(std::sync::Barrier::new(2));
    /// # let compute = Compute(both.clone());
    /// let mut flow = AsyncFlow::builder("compute");
    /// let compute = flow.add("compute", compute);
    /// flow.start(compute);
    /// let runs = Runs::open(&path, flow.build()?).await?;
    /// runs.start("long", 0).await?;
    /// # both.wait();
    ///
    /// let left = runs.store().close_within(Duration::from_millis(10)).await;
    /// assert_eq!((left[0].run.as_str(), left[0].node.as_str()), ("long", "compute"));
    /// let refused = Store::open(&path).await;
    /// assert!(matches!(refused, Err(OpenError::StillRuns { left, .. }) if left[0].run.as_str() == "long"));
    /// # both.wait();
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close_within(&self, within: Duration) -> Vec<Left> {
        /// The least time that interruptible work gets to stop, since its task has to get a thread of the runtime
        /// first.
        const STOP: Duration = Duration::from_secs(1);

        let shared = &self.handle.shared;
        shared.closing.cancel();
        shared.tasks.close();
        shared.stops.close();
        let until = tokio::time::Instant::now() + within;
        drop(tokio::time::timeout(within.max(STOP), shared.stops.wait()).await);
        let ended = tokio::time::timeout_at(until, shared.tasks.wait()).await;
        let left = if ended.is_ok() { Vec::new() } else { shared.leave().await };
        self.end(left.is_empty()).await;
        left
    }

    /// Closes the file.
    async fn end(&self, clean: bool) {
        self.handle.shared.readers.close().await;
        self.handle.shared.writer.close(clean).await;
        self.handle.ended.cancelled().await;
    }
}
