//! The one writer of a store: a thread that owns the connection, and commits what many runs ask for at once.
//!
//! ```text
//! run ─ call(job) ─▶ queue ─▶ BEGIN · job · job · job · COMMIT (one fsync) ─▶ each caller gets its result
//! ```
//!
//! While a commit is on its way to the disk the next jobs gather in the queue, so that the group grows with the load.
//!
//! **Invariant:** a job that returns an [`Error`] other than a store's has written nothing; one of the store undoes the
//! whole group. What a caller is told is on disk.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{Error, StoreError, StoreFault},
    lock::Lock,
    prune::cut_log,
    rows::now,
};

/// How many jobs may wait: enough that a group fills while the last one is synced, and a bound for the memory that they
/// hold. Callers wait for room.
const QUEUE: usize = 1024;

/// How many jobs one commit takes at most, so that the first of them does not wait for long.
const GROUP: usize = 512;

/// How long the thread looks for the next job before it falls asleep.
const AWAKE: Duration = Duration::from_micros(40);

/// A moment in the life of a job, for tests that kill the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub struct WritePoint {
    /// What the job does, as `visit`.
    pub job: &'static str,
    /// How far it is.
    pub when: WriteMoment,
}

/// How far a job is, see [`WritePoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum WriteMoment {
    /// Nothing is written.
    Before,
    /// It is written, but not committed.
    Applied,
    /// It is committed, but nobody was told.
    Committed,
}

/// Gets every [`WritePoint`].
pub(crate) type OnWrite = Arc<dyn Fn(WritePoint) + Send + Sync>;

/// The way to the writer thread; cheap to clone. The thread ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
}

/// What the thread gets.
enum Message {
    /// Something to write, together with others.
    Job(Box<dyn Job>),
    /// Something that takes no transaction around it, such as making the file smaller.
    Alone(Box<dyn FnOnce(&Connection) + Send>),
    /// The end.
    Close,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

/// What a caller waits for.
pub(crate) struct Reply<T>(oneshot::Receiver<Result<T, Error>>);

impl<T> Reply<T> {
    /// Waits until the job is on disk.
    pub(crate) async fn done(self) -> Result<T, Error> {
        self.0.await.unwrap_or_else(|_| Err(StoreError::new(StoreFault::Closed).into()))
    }
}

impl Writer {
    /// Starts the thread. It holds the lock until it ends, and takes the store over from whoever drove it before.
    pub(crate) fn start(
        connection: Connection,
        lock: Lock,
        on_write: Option<OnWrite>,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let epoch = take_over(&connection)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = Thread { connection, epoch, jobs, on_write, _lock: lock };
        let handle = std::thread::Builder::new()
            .name("flowstone-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| StoreError::because(StoreFault::Io, error))?;
        Ok((Self { queue }, handle))
    }

    /// Puts a job in the queue, waits for room if there is none, and returns what tells its end. `then` is called when it is
    /// on disk, whoever waits for it, and before anything else is written.
    ///
    /// Jobs of one caller are done in the order in which they are put.
    pub(crate) async fn put<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<Reply<T>, StoreError> {
        let (reply, done) = oneshot::channel();
        let call = Call { name, work: Some(work), result: None, reply, then };
        self.send(Message::Job(Box::new(call))).await?;
        Ok(Reply(done))
    }

    /// Does a job, and returns when it is on disk.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.put(name, work, |_| ()).await?.done().await
    }

    /// Does something that takes no transaction around it.
    pub(crate) async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, done) = oneshot::channel();
        self.send(Message::Alone(Box::new(move |connection| drop(reply.send(work(connection)))))).await?;
        Reply(done).done().await
    }

    /// Ends the thread when it has written what is in the queue.
    pub(crate) async fn close(&self) {
        // If it has ended already, that is what was asked for.
        drop(self.send(Message::Close).await);
    }

    async fn send(&self, message: Message) -> Result<(), StoreError> {
        self.queue.send(message).await.map_err(|_| StoreError::new(StoreFault::Closed))
    }
}

/// Something to write.
trait Job: Send {
    fn name(&self) -> &'static str;

    /// Writes it, in the transaction of its group; an error is one that undoes the group.
    fn apply(&mut self, connection: &Connection) -> Result<(), StoreError>;

    /// Tells the caller: the result of the job, or why its group failed.
    fn tell(self: Box<Self>, group: Result<(), StoreError>);
}

struct Call<T, W, D> {
    name: &'static str,
    work: Option<W>,
    result: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
    /// What is done when it is on disk.
    then: D,
}

impl<T, W, D> Job for Call<T, W, D>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T, Error> + Send,
    D: FnOnce(&T) + Send,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn apply(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let work = self.work.take().expect("invariant: a job is applied once");
        match work(connection) {
            Err(Error::Store(error)) => return Err(error),
            result => self.result = Some(result),
        }
        Ok(())
    }

    fn tell(self: Box<Self>, group: Result<(), StoreError>) {
        let Self { result, reply, then, .. } = *self;
        let never = || Err(StoreError::new(StoreFault::Closed).into());
        let result = group.map_err(Error::from).and_then(|()| result.unwrap_or_else(never));
        if let Ok(result) = &result {
            then(result);
        }
        // Whoever asked may have gone: what was committed stands.
        drop(reply.send(result));
    }
}

struct Thread {
    connection: Connection,
    epoch: i64,
    jobs: mpsc::Receiver<Message>,
    on_write: Option<OnWrite>,
    _lock: Lock,
}

impl Thread {
    fn run(mut self) {
        let (mut messages, mut group) = (Vec::new(), Vec::new());
        while self.receive(&mut messages) {
            for message in messages.drain(..) {
                match message {
                    Message::Job(job) => group.push(job),
                    Message::Alone(work) => {
                        self.commit(&mut group);
                        work(&self.connection);
                    }
                    Message::Close => self.jobs.close(),
                }
            }
            self.commit(&mut group);
        }
        // The file should stand alone when nobody drives it; if this fails, whoever opens it next does it.
        drop(cut_log(&self.connection));
    }

    /// Waits for messages; `false` at the end.
    fn receive(&mut self, messages: &mut Vec<Message>) -> bool {
        // Who was told a moment ago has its next visit ready within microseconds, as a rule: to fall asleep and be woken
        // takes longer than that.
        let asleep = Instant::now() + AWAKE;
        while self.jobs.is_empty() && Instant::now() < asleep {
            std::hint::spin_loop();
        }
        self.jobs.blocking_recv_many(messages, GROUP) > 0
    }

    /// Writes a group in one transaction, or nothing of it, and tells everyone.
    fn commit(&self, group: &mut Vec<Box<dyn Job>>) {
        if group.is_empty() {
            return;
        }
        let written = catch_unwind(AssertUnwindSafe(|| self.write(group)))
            .unwrap_or_else(|_| Err(StoreError::because(StoreFault::Io, "a job panicked")));
        if let Err(error) = &written {
            tracing::error!(target: "flowstone", %error, jobs = group.len(), "a commit failed");
            if !self.connection.is_autocommit() {
                drop(self.connection.execute_batch("ROLLBACK"));
            }
        }
        for job in group.drain(..) {
            job.tell(written.clone());
        }
    }

    fn write(&self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let run = |sql| self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        run("BEGIN IMMEDIATE")?;
        if epoch(&self.connection)? != Some(self.epoch) {
            return Err(StoreError::new(StoreFault::LockLost));
        }
        for job in &mut *group {
            self.point(job.name(), WriteMoment::Before);
            job.apply(&self.connection)?;
            self.point(job.name(), WriteMoment::Applied);
        }
        run("COMMIT")?;
        group.iter().for_each(|job| self.point(job.name(), WriteMoment::Committed));
        Ok(())
    }

    fn point(&self, job: &'static str, when: WriteMoment) {
        if let Some(on_write) = &self.on_write {
            on_write(WritePoint { job, when });
        }
    }
}

/// Writes down that this process drives the store, and returns the number that says so.
fn take_over(connection: &Connection) -> Result<i64, StoreError> {
    let row = (i64::from(std::process::id()), now());
    // By `execute`, which tells whether the commit succeeded, and not by `RETURNING`.
    connection.execute("UPDATE owner SET epoch = epoch + 1, pid = ?1, since = ?2 WHERE one = 1", row)?;
    let gone = || StoreError::because(StoreFault::Corrupt, "the table `owner` has no row");
    epoch(connection)?.ok_or_else(gone)
}

fn epoch(connection: &Connection) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT epoch FROM owner WHERE one = 1")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?)
}
