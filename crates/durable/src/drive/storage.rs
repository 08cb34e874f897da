//! A store as a drive uses it: its writer, its readers, its clock, its flows, its options.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use flowstone_core::{
    CancellationToken,
    driver::{Execution, Unstorable},
};
use tokio::sync::Notify;

use crate::{
    disk::{
        snapshot::MAX_STATE,
        states::{States, Stored},
        writer::Writer,
    },
    drive::{readers::Readers, turns::Turns},
    flows::{any_flow::AnyFlow, registry::Flows},
    records::{deleting, reader::Reader},
    words::{
        columns::millis,
        error::{DriveError, JobError, KeepError, OpenError, StoreError, Written},
        store_options::StoreOptions,
        waits::Moment,
    },
};

/// The wait before another look at a store that could not be read or written.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// A store that this process drives, without the runs that are driven.
pub(crate) struct Storage {
    pub(crate) path: PathBuf,
    pub(crate) options: StoreOptions,
    pub(crate) writer: Writer,
    pub(crate) readers: Readers,
    pub(crate) flows: Flows,
    /// Told when a run begins to sleep or to wait, a place is free, or a flow is registered.
    pub(crate) wakes: Arc<Notify>,
    /// The places of the runs that are driven.
    pub(crate) turns: Arc<Turns>,
    /// Cancelled when the store is closed.
    pub(crate) closing: CancellationToken,
}

impl Storage {
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
    pub(crate) async fn read<T: Send + 'static, E: JobError>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.readers.read(move |reader| reader.at_once(read)).await
    }

    /// Deletes what deleted runs have left, a piece at a time, so that others commit between two of them.
    pub(crate) async fn delete_left(&self) -> Result<(), StoreError> {
        while self.writer.call("piece", deleting::piece).await? {}
        Ok(())
    }

    /// Opens another connection for reading.
    pub(crate) fn reader(&self) -> Result<Reader, OpenError> {
        self.readers.open()
    }

    /// Returns what to store of a run's state after a step, if it can be read back and is not too large.
    pub(crate) fn store(&self, execution: &dyn Execution, states: &mut States, step: u64) -> Result<Stored, KeepError> {
        let json = execution.save().map_err(|source| unstorable(execution, source))?;
        self.store_json(execution, states, step, json)
    }

    /// As [`store`](Self::store), for the state with which a run begins: it is read back first.
    pub(crate) fn store_surely(
        &self,
        execution: &dyn Execution,
        states: &mut States,
        step: u64,
    ) -> Result<Stored, KeepError> {
        let json = execution.save_surely().map_err(|source| unstorable(execution, source))?;
        self.store_json(execution, states, step, json)
    }

    fn store_json(
        &self,
        execution: &dyn Execution,
        states: &mut States,
        step: u64,
        json: Vec<u8>,
    ) -> Result<Stored, KeepError> {
        let (size, most) = (json.len(), self.options.max_state);
        let too_large = |most| KeepError::StateTooLarge { run: execution.id(), size, most };
        if size > most {
            return Err(too_large(most));
        }
        states.next(step, json).map_err(|_| too_large(MAX_STATE))
    }

    /// Returns the flow with which a run goes on.
    pub(crate) fn flow_of(&self, reader: &Reader, run: i64) -> Result<Arc<dyn AnyFlow>, DriveError> {
        let flow = reader.flow_of(run)?;
        self.flows.get(&flow).ok_or(DriveError::UnknownFlow { flow })
    }
}

/// The error of a state that cannot be kept.
pub(crate) fn unstorable(execution: &dyn Execution, source: Unstorable) -> KeepError {
    let (run, node, source) = (execution.id(), execution.node().clone(), Arc::new(source));
    KeepError::Unstorable { run, node, what: Written::State, source }
}
