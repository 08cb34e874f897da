//! The one writer of a store: a thread that owns the connection, and commits what many runs ask for at once.
//!
//! ```text
//! run ─ call(job) ─▶ queue ─▶ BEGIN · job · job · job · COMMIT (one fsync) ─▶ each caller gets its result
//! ```
//!
//! While a commit is on its way to the disk the next jobs gather in the queue, so that the group grows with the load.
//!
//! **Invariant:** a job that returns an error has written nothing, and is refused alone; where the file itself fails,
//! the whole group is undone. What a caller is told is on disk.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use flowstone_core::{BoxError, CancellationToken};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{
    disk::{
        access::Access,
        files::{Files, real},
        job::{Job, TypedJob},
        lock::Lock,
        owner::{epoch, take_over},
        pair::{self, Log},
        schema::{self, Opened},
        space::cut_log,
    },
    words::{
        error::{JobError, OpenError, StoreError, StoreFault},
        points::{OnWrite, WriteMoment, WritePoint},
        store_options::StoreOptions,
        waits::Ticks,
    },
};

/// The number of jobs that may wait in the queue; further callers wait for room. It is enough to fill a group while the
/// last one is synced, and it bounds the memory that jobs hold.
const QUEUE: usize = 1024;

/// The most jobs that one commit takes, so that the first of them does not wait for long.
const GROUP: usize = 512;

/// The time for which the thread looks for the next job before it falls asleep.
const AWAKE: Duration = Duration::from_micros(40);

/// The time between two checks of all files of the store; the main file and the log are checked in each commit.
const LOOK: Duration = Duration::from_millis(100);

/// The way to the writer thread; cheap to clone. The thread ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
    ticks: Arc<Ticks>,
}

/// A message to the thread.
enum Message {
    /// A job to write in a group with others.
    Job(Box<dyn Job>),
    /// Work that must run outside a transaction, such as making the file smaller.
    Alone(Box<dyn FnOnce(&Connection) + Send>),
    /// The end of the thread; `true` if no work of the runs is left.
    Close { clean: bool },
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

/// The reply that a caller waits for.
pub(crate) struct Reply<T, E>(oneshot::Receiver<Result<T, E>>);

impl<T, E: JobError> Reply<T, E> {
    /// Waits until the job is on disk.
    pub(crate) async fn done(self) -> Result<T, E> {
        self.0.await.unwrap_or_else(|_| Err(StoreError::new(StoreFault::Closed).into()))
    }
}

/// A store that was opened to be driven.
pub(crate) struct Driven {
    pub(crate) writer: Writer,
    /// The path of its main file.
    pub(crate) path: PathBuf,
    pub(crate) files: Files,
    /// Cancelled when the thread has ended, and has given up the file and its lock.
    pub(crate) ended: CancellationToken,
    /// Cancelled when the store is closed, and when another process is found to drive it: no run may go on.
    pub(crate) halt: CancellationToken,
    pub(crate) lock: Weak<Lock>,
    pub(crate) epoch: i64,
    /// `true` if the process that drove the store before has died.
    pub(crate) died: bool,
}

/// The receivers of what the writer finds out.
struct Hooks {
    on_write: Option<OnWrite>,
    /// Cancelled when another process is found to drive the store.
    halt: CancellationToken,
}

/// Opens a store on a thread of its own and takes it over from the driver before. The thread then writes the jobs of
/// the queue, and holds the lock until it ends.
pub(crate) async fn open(path: &Path, options: StoreOptions, halt: CancellationToken) -> Result<Driven, OpenError> {
    let (queue, jobs) = mpsc::channel(QUEUE);
    let (tell, told) = oneshot::channel();
    let (at, ended) = (path.to_owned(), CancellationToken::new());
    let (end, halts) = (ended.clone(), halt.clone());
    let failed = |source: BoxError| OpenError::File { path: path.to_owned(), source: source.into() };
    std::thread::Builder::new()
        .name("flowstone-writer".to_owned())
        .spawn(move || {
            // Invariant: dropped after the thread's own values.
            let _end = end.drop_guard();
            match Thread::open(&at, &options, halts, jobs) {
                Ok(thread) => {
                    let (files, lock) = (thread.store.files.clone(), Arc::downgrade(&thread.lock));
                    let (ticks, epoch, died) = (Arc::clone(&thread.ticks), thread.epoch, thread.died);
                    if tell.send(Ok((real(&at), files, lock, ticks, epoch, died))).is_ok() {
                        thread.run();
                    }
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        })
        .map_err(|error| failed(error.into()))?;
    let (path, files, lock, ticks, epoch, died) =
        told.await.unwrap_or_else(|_| Err(failed("opening it panicked".into())))?;
    Ok(Driven { writer: Writer { queue, ticks }, path, files, ended, halt, lock, epoch, died })
}

impl Writer {
    /// Returns for how many milliseconds the store has been driven.
    pub(crate) fn ticks(&self) -> i64 {
        self.ticks.now()
    }

    /// Puts a job in the queue, waiting for room if there is none, and returns a receiver of its result. `then` is
    /// called when the job is on disk, before anything else is written, also if nobody waits for the result.
    ///
    /// Jobs of one caller are done in the order in which they are put.
    pub(crate) async fn put<T: Send + 'static, E: JobError>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<Reply<T, E>, StoreError> {
        let (reply, done) = oneshot::channel();
        let call = TypedJob { name, work: Some(work), result: None, reply, then };
        self.send(Message::Job(Box::new(call))).await?;
        Ok(Reply(done))
    }

    /// Does a job, and returns when it is on disk.
    pub(crate) async fn call<T: Send + 'static, E: JobError>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.put(name, work, |_| ()).await?.done().await
    }

    /// Does a job from a thread of the store's own, and returns when it is on disk.
    pub(crate) fn call_blocking<T: Send + 'static, E: JobError>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let closed = || StoreError::new(StoreFault::Closed);
        let (reply, done) = oneshot::channel();
        let call = TypedJob { name, work: Some(work), result: None, reply, then: |_: &T| () };
        self.queue.blocking_send(Message::Job(Box::new(call))).map_err(|_| closed())?;
        done.blocking_recv().unwrap_or_else(|_| Err(closed().into()))
    }

    /// Does work that must run outside a transaction.
    pub(crate) async fn alone<T: Send + 'static, E: JobError>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (reply, done) = oneshot::channel();
        self.send(Message::Alone(Box::new(move |connection| drop(reply.send(work(connection)))))).await?;
        Reply(done).done().await
    }

    /// Ends the thread when it has written what is in the queue. `clean` says that no work of the runs is left.
    pub(crate) async fn close(&self, clean: bool) {
        // An error means that it has ended already, as wanted.
        drop(self.send(Message::Close { clean }).await);
    }

    async fn send(&self, message: Message) -> Result<(), StoreError> {
        self.queue.send(message).await.map_err(|_| StoreError::new(StoreFault::Closed))
    }
}

struct Thread {
    store: Opened,
    epoch: i64,
    ticks: Arc<Ticks>,
    /// `true` if the process that drove the store before has died.
    died: bool,
    /// `true` if no work of the runs will be left when this ends.
    leaves_clean: bool,
    log: Log,
    /// The time of the last check of all files.
    looked: Instant,
    jobs: mpsc::Receiver<Message>,
    hooks: Hooks,
    lock: Arc<Lock>,
}

impl Thread {
    /// Opens a store, and takes it over from the driver before.
    fn open(
        path: &Path,
        options: &StoreOptions,
        halt: CancellationToken,
        jobs: mpsc::Receiver<Message>,
    ) -> Result<Self, OpenError> {
        let lock = Lock::take(path)?;
        let mut store = match schema::open(path, options.vfs.as_deref(), Access::Drive) {
            Ok(store) => store,
            Err(error) => {
                lock.discard();
                return Err(error);
            }
        };
        let failed = |source| OpenError::Store { path: path.to_owned(), source };
        if let Some(pages) = options.checkpoint_every {
            let set = store.db.pragma_update(None, "wal_autocheckpoint", pages);
            set.map_err(|error| failed(error.into()))?;
        }
        let (epoch, died) = take_over(&store.db).map_err(failed)?;
        let ticks = store.db.query_row("SELECT ticks FROM owner WHERE one = 1", [], |row| row.get(0));
        let ticks = Arc::new(Ticks::after(ticks.map_err(|error| failed(error.into()))?));
        // The first commit may have made the log.
        store.files = Files::of(&real(path), true);
        let (log, looked) = (Log::marked(&real(path)), Instant::now());
        let hooks = Hooks { on_write: options.on_write.clone(), halt };
        Ok(Self { store, epoch, died, leaves_clean: true, ticks, log, looked, jobs, hooks, lock })
    }

    fn run(mut self) {
        let (mut messages, mut group) = (Vec::new(), Vec::new());
        while self.receive(&mut messages) {
            for message in messages.drain(..) {
                match message {
                    Message::Job(job) => group.push(job),
                    Message::Alone(work) => {
                        self.commit(&mut group);
                        work(&self.store.db);
                    }
                    Message::Close { clean } => {
                        self.leaves_clean = clean;
                        self.jobs.close();
                    }
                }
            }
            self.commit(&mut group);
        }
        // If this fails, the visits that were under way count as those of a process that died.
        drop(self.note_end());
        // The file should stand alone when nobody drives it; if this fails, the next process to open it does it.
        drop(cut_log(&self.store.db));
    }

    /// Writes down for how long the store was driven, and if this process ends in good order.
    fn note_end(&self) -> Result<(), StoreError> {
        self.store.files.check()?;
        self.store.db.execute(
            "UPDATE owner SET clean = ?3, ticks = max(ticks, ?1) WHERE one = 1 AND epoch = ?2",
            (self.ticks.now(), self.epoch, self.leaves_clean),
        )?;
        Ok(())
    }

    /// Waits for messages; `false` at the end.
    fn receive(&mut self, messages: &mut Vec<Message>) -> bool {
        // A run that has just got its result usually has its next visit ready within microseconds, which is less than
        // it takes to fall asleep and be woken.
        let asleep = Instant::now() + AWAKE;
        while self.jobs.is_empty() && Instant::now() < asleep {
            std::hint::spin_loop();
        }
        self.jobs.blocking_recv_many(messages, GROUP) > 0
    }

    /// Writes a group in one transaction, or nothing of it, and tells everyone.
    fn commit(&mut self, group: &mut Vec<Box<dyn Job>>) {
        if group.is_empty() {
            return;
        }
        let written = catch_unwind(AssertUnwindSafe(|| self.write(group)))
            .unwrap_or_else(|_| Err(StoreError::because(StoreFault::Internal, "a job panicked")));
        if let Err(error) = &written {
            tracing::error!(target: "flowstone", %error, jobs = group.len(), "a commit failed");
            if error.fault() == StoreFault::LockLost {
                self.hooks.halt.cancel();
            }
            if !self.store.db.is_autocommit() {
                drop(self.store.db.execute_batch("ROLLBACK"));
            }
        }
        for job in group.drain(..) {
            job.tell(written.clone());
        }
    }

    fn write(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        self.run_cached("BEGIN IMMEDIATE")?;
        if epoch(&self.store.db)? != Some(self.epoch) {
            return Err(StoreError::new(StoreFault::LockLost));
        }
        let looks = self.looked.elapsed() >= LOOK;
        let marks = looks && self.log.is_new();
        if marks {
            pair::mark(&self.store.db)?;
        }
        for job in &mut *group {
            self.point(job.name(), WriteMoment::Before);
            job.apply(&self.store.db)?;
            self.point(job.name(), WriteMoment::Applied);
        }
        // The files are checked as late as possible, so that nothing is written where nobody finds it.
        if looks {
            self.store.files.check()?
        } else {
            self.store.files.check_data()?
        }
        self.run_cached("COMMIT")?;
        if looks {
            self.looked = Instant::now();
        }
        if marks {
            self.log.set_marked();
        }
        group.iter().for_each(|job| self.point(job.name(), WriteMoment::Committed));
        Ok(())
    }

    fn run_cached(&self, sql: &str) -> rusqlite::Result<()> {
        self.store.db.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn point(&self, job: &'static str, when: WriteMoment) {
        if let Some(on_write) = &self.hooks.on_write {
            on_write(WritePoint { job, when });
        }
    }
}
