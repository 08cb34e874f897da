//! Jobs: the work that callers put in the writer's queue.

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::words::error::{JobError, StoreError, StoreFault};

/// Something to write.
pub(crate) trait Job: Send {
    fn name(&self) -> &'static str;

    /// Writes the rows, in the transaction of its group.
    ///
    /// # Errors
    ///
    /// If the file fails; the group is then undone.
    fn apply(&mut self, connection: &Connection) -> Result<(), StoreError>;

    /// Tells the caller the result of the job, or why its group failed.
    fn tell(self: Box<Self>, group: Result<(), StoreError>);
}

/// A job with its types.
pub(crate) struct TypedJob<T, E, W, D> {
    pub(crate) name: &'static str,
    pub(crate) work: Option<W>,
    pub(crate) result: Option<Result<T, E>>,
    pub(crate) reply: oneshot::Sender<Result<T, E>>,
    /// Is called when the job is on disk.
    pub(crate) then: D,
}

impl<T, E, W, D> Job for TypedJob<T, E, W, D>
where
    T: Send,
    E: JobError,
    W: FnOnce(&Connection) -> Result<T, E> + Send,
    D: FnOnce(&T) + Send,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn apply(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let work = self.work.take().expect("invariant: a job is applied once");
        // A job that is refused writes nothing, and the other jobs of the group stand.
        run_cached(connection, "SAVEPOINT job")?;
        let result = catch(|| work(connection));
        if let Err(error) = &result {
            if let Some(error) = error.of_store().filter(|error| undoes_group(error.fault())) {
                return Err(error.clone());
            }
            run_cached(connection, "ROLLBACK TO job")?;
        }
        run_cached(connection, "RELEASE job")?;
        self.result = Some(result);
        Ok(())
    }

    fn tell(self: Box<Self>, group: Result<(), StoreError>) {
        let Self { result, reply, then, .. } = *self;
        let never = || Err(StoreError::new(StoreFault::Closed).into());
        let result = group.map_err(E::from).and_then(|()| result.unwrap_or_else(never));
        if let Ok(result) = &result {
            then(result);
        }
        // The caller may have stopped waiting; the commit stands.
        drop(reply.send(result));
    }
}

/// Returns `true` if a fault is one of the whole file, and not of the rows that one job read.
fn undoes_group(fault: StoreFault) -> bool {
    !matches!(fault, StoreFault::Corrupt | StoreFault::Internal)
}

/// Does the work of a job; a job that panics is refused.
fn catch<T, E: JobError>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::because(StoreFault::Internal, "a job panicked").into()))
}

fn run_cached(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
