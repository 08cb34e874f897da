//! Jobs: what callers put in the writer's queue.

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::words::error::{Error, StoreError, StoreFault};

/// Something to write.
pub(crate) trait Job: Send {
    fn name(&self) -> &'static str;

    /// Writes it, in the transaction of its group; an error is one that undoes the group.
    fn apply(&mut self, connection: &Connection) -> Result<(), StoreError>;

    /// Tells the caller: the result of the job, or why its group failed.
    fn tell(self: Box<Self>, group: Result<(), StoreError>);
}

pub(crate) struct TypedJob<T, W, D> {
    pub(crate) name: &'static str,
    pub(crate) work: Option<W>,
    pub(crate) result: Option<Result<T, Error>>,
    pub(crate) reply: oneshot::Sender<Result<T, Error>>,
    /// What is done when it is on disk.
    pub(crate) then: D,
}

impl<T, W, D> Job for TypedJob<T, W, D>
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
        let before = connection.total_changes();
        match work(connection) {
            Err(Error::Store(error)) => return Err(error),
            // It would be committed with the others. A savepoint for each job would cost all of them.
            Err(refused) if connection.total_changes() != before => {
                let what = format!("the job `{}` wrote something before it refused: {refused}", self.name);
                return Err(StoreError::because(StoreFault::Internal, what));
            }
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
