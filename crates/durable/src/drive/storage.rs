//! The parts of a store that a drive uses: its writer, its readers, its clock, its flows, its options.

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

/// The wait before the next attempt at a store that could not be read or written.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// A store that this process drives, without the runs that are driven.
pub(crate) struct Storage {
    pub(crate) path: PathBuf,
    pub(crate) options: StoreOptions,
    pub(crate) writer: Writer,
    pub(crate) readers: Readers,
    pub(crate) flows: Flows,
    /// Notified when a run begins to sleep or to wait, a place becomes free, or a flow is registered.
    pub(crate) wakes: Arc<Notify>,
    /// The places of the driven runs.
    pub(crate) turns: Arc<Turns>,
    /// Cancelled when the store is closed.
    pub(crate) closing: CancellationToken,
}

impl Storage {
    /// Returns the time by the store's clock, in milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        millis(self.now_exact())
    }

    /// Returns the present moment by the store's clock and by its ticks.
    pub(crate) fn moment(&self) -> Moment {
        Moment { clock: self.now(), ticks: self.writer.ticks() }
    }

    pub(crate) fn now_exact(&self) -> SystemTime {
        (self.options.clock)()
    }

    /// Reads the store as it is at one moment.
    pub(crate) async fn read<T: Send + 'static, E: JobError>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.readers.read(move |reader| reader.at_once(read)).await
    }

    /// Deletes the remaining rows of deleted runs, a piece at a time, so that others can commit between two pieces.
    pub(crate) async fn delete_left(&self) -> Result<(), StoreError> {
        while self.writer.call("piece", deleting::piece).await? {}
        Ok(())
    }

    /// Opens another connection for reading.
    pub(crate) fn reader(&self) -> Result<Reader, OpenError> {
        self.readers.open()
    }

    /// Returns the stored form of a run's state after a step, if the state can be read back and is not too large.
    pub(crate) fn store(&self, execution: &dyn Execution, states: &mut States, step: u64) -> Result<Stored, KeepError> {
        let json = execution.save().map_err(|source| unstorable(execution, source))?;
        self.store_json(execution, states, step, json)
    }

    /// Does the same as [`store`](Self::store) for the first state of a run, which is also decoded as a test.
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

    /// Returns the flow of a run, by the name that is stored.
    pub(crate) fn flow_of(&self, reader: &Reader, run: i64) -> Result<Arc<dyn AnyFlow>, DriveError> {
        let flow = reader.flow_of(run)?;
        self.flows.get(&flow).ok_or(DriveError::UnknownFlow { flow })
    }
}

/// Returns the error of a state that cannot be kept.
pub(crate) fn unstorable(execution: &dyn Execution, source: Unstorable) -> KeepError {
    let (run, node, source) = (execution.id(), execution.node().clone(), Arc::new(source));
    KeepError::Unstorable { run, node, what: Written::State, source }
}
