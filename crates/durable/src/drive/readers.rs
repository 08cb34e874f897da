//! Threads that read a store beside its writer, each with its own connection.
//!
//! ```text
//! read(job) ─▶ queue ─▶ thread, at most four ─▶ the caller gets the result
//! ```
//!
//! They are not from the runtime's blocking pool, since blocking nodes may occupy all of that: listing, answering and
//! cancelling runs must not wait for nodes.
//!
//! **Invariant:** no thread is started for a job that nobody waits for any more.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tokio_util::task::TaskTracker;

use crate::{
    disk::{access::Access, files::Files, schema},
    records::reader::Reader,
    words::{
        error::{JobError, OpenError, StoreError, StoreFault},
        guard::lock,
    },
};

/// The most threads that read at once: more would wait for the processor, and each costs a look at the schema.
const READERS: usize = 4;

/// The most jobs that may wait, which bounds the memory that they hold. Callers wait for room.
const QUEUE: usize = 256;

/// The threads that read a store. They are started when they are needed.
pub(crate) struct Readers {
    store: Arc<Opening>,
    /// The queue; `None` once the store is closed.
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    load: Arc<Mutex<Load>>,
    threads: TaskTracker,
}

/// The means by which a thread opens the store.
pub(crate) struct Opening {
    pub(crate) path: PathBuf,
    pub(crate) vfs: Option<String>,
    /// The files that the writer has open.
    pub(crate) files: Files,
    /// The runtime on which a job may start tasks.
    pub(crate) runtime: Handle,
}

impl Opening {
    /// Opens the store, and fails if its files are not those that the writer has open.
    fn open(&self) -> Result<Reader, OpenError> {
        let moved = |source| OpenError::Store { path: self.path.clone(), source };
        // If the files are gone, the error says so, and not what SQLite makes of it.
        self.files.check_data().map_err(moved)?;
        let opened = schema::open(&self.path, self.vfs.as_deref(), Access::Read)?;
        opened.files.check_same(&self.files).map_err(moved)?;
        Ok(Reader::over(&self.path, opened))
    }
}

/// Returns the store's error inside an error of opening it.
fn because(error: OpenError) -> StoreError {
    match error {
        OpenError::Store { source, .. } => source,
        error => StoreError::because(StoreFault::Io, error),
    }
}

#[derive(Default)]
struct Load {
    threads: usize,
    /// The jobs that wait or are under way.
    jobs: usize,
}

/// A job: it gets a reader, or the error of opening one, and returns `true` if the reader can be used again.
type Job = Box<dyn FnOnce(Result<&Reader, StoreError>) -> bool + Send>;

/// The end of a job: its result, or its panic.
type Outcome<T, E> = Result<Result<T, E>, Box<dyn Any + Send>>;

impl Readers {
    pub(crate) fn new(store: Opening) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        Self {
            store: Arc::new(store),
            queue: Mutex::new(Some(queue)),
            jobs: Arc::new(Mutex::new(jobs)),
            load: Arc::default(),
            threads: TaskTracker::new(),
        }
    }

    /// Opens a connection for a thread of the caller.
    pub(crate) fn open(&self) -> Result<Reader, OpenError> {
        self.store.open()
    }

    /// Reads on one of the threads.
    ///
    /// # Cancel safety
    ///
    /// When dropped, a job that has not begun is never done.
    pub(crate) async fn read<T: Send + 'static, E: JobError>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let closed = || E::from(StoreError::new(StoreFault::Closed));
        let queue = lock(&self.queue).clone().ok_or_else(closed)?;
        let (reply, told) = oneshot::channel::<Outcome<T, E>>();
        let job: Job = Box::new(move |reader| {
            if reply.is_closed() {
                return true;
            }
            let outcome = match reader {
                Ok(reader) => catch_unwind(AssertUnwindSafe(|| read(reader))),
                Err(error) => Ok(Err(error.into())),
            };
            let is_good = match &outcome {
                Ok(Err(error)) => error.of_store().is_none_or(|error| error.fault() != StoreFault::Moved),
                // The job may have left a transaction open.
                Err(_) => false,
                Ok(_) => true,
            };
            // The caller may have stopped waiting.
            drop(reply.send(outcome));
            is_good
        });
        let room = queue.reserve_owned().await.map_err(|_| closed())?;
        self.need_thread()?;
        room.send(job);
        match told.await {
            Ok(Ok(result)) => result,
            // The caller's code panicked, so the caller gets the panic.
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(closed()),
        }
    }

    /// Counts a job, and starts a thread for it if all threads are busy.
    fn need_thread(&self) -> Result<(), StoreError> {
        let mut load = lock(&self.load);
        load.jobs += 1;
        if load.jobs <= load.threads || load.threads == READERS {
            return Ok(());
        }
        let (store, jobs, counted) = (Arc::clone(&self.store), Arc::clone(&self.jobs), Arc::clone(&self.load));
        let alive = self.threads.token();
        let thread = std::thread::Builder::new().name("flowstone-reader".to_owned()).spawn(move || {
            work(&store, &jobs, &counted);
            drop(alive);
        });
        match thread {
            Ok(_) => load.threads += 1,
            Err(error) if load.threads == 0 => {
                load.jobs -= 1;
                return Err(StoreError::because(StoreFault::Io, error));
            }
            // If no thread can be started, the job waits for one of the others.
            Err(_) => {}
        }
        Ok(())
    }

    /// Ends the threads after the jobs that wait, and returns when they have closed the file.
    pub(crate) async fn close(&self) {
        lock(&self.queue).take();
        self.threads.close();
        self.threads.wait().await;
    }
}

/// Does jobs until the queue is closed.
fn work(store: &Opening, jobs: &Mutex<mpsc::Receiver<Job>>, load: &Mutex<Load>) {
    let _runtime = store.runtime.enter();
    let mut reader: Option<Reader> = None;
    loop {
        // One thread waits for the queue, and the others wait for that thread.
        let job = lock(jobs).blocking_recv();
        let Some(job) = job else { return };
        let opened = match reader.take() {
            Some(reader) => Ok(reader),
            None => store.open().map_err(because),
        };
        let is_good = job(opened.as_ref().map_err(Clone::clone));
        reader = opened.ok().filter(|_| is_good);
        lock(load).jobs -= 1;
    }
}
