//! The state of a run: parameters and batch indices of its own, and a handle to what the whole run shares.
//!
//! Flowstone forks a state per child and hands all of them out at once, while PocketFlow's children see what earlier
//! ones wrote. So the shared value is behind a handle that every child's state has, as is the record of events, which
//! `exec` reaches through what `prep` gives it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowstone::Shared;
use serde_json::Value;

use crate::{
    spec::{Items, Spec},
    trace::{Event, Record},
};

/// The state of a run, or of a child of a batch flow.
#[derive(Debug, Clone)]
pub struct State {
    params: Arc<Shared>,
    index: Arc<[usize]>,
    world: Arc<World>,
}

impl State {
    /// Creates the state of a new run.
    #[must_use]
    pub fn of_run(spec: &Spec) -> Self {
        let world = World { shared: Mutex::new(spec.shared.clone()), record: Mutex::default() };
        Self { params: Arc::new(spec.params.clone()), index: Arc::default(), world: Arc::new(world) }
    }

    /// Returns the states of the children of a batch flow: the parameters of the flow, overridden by each item's.
    #[must_use]
    pub fn children(&self, items: &Items) -> Vec<Self> {
        let rows = self.rows(items);
        let child = |(number, row): (usize, Shared)| {
            let mut params = (*self.params).clone();
            params.extend(row);
            let index = self.index.iter().copied().chain([number]).collect();
            Self { params: Arc::new(params), index, world: Arc::clone(&self.world) }
        };
        rows.into_iter().enumerate().map(child).collect()
    }

    fn rows(&self, items: &Items) -> Vec<Shared> {
        let (key, by) = match items {
            Items::List(rows) => return rows.clone(),
            Items::Table { key, by } => (key, by),
        };
        let shared = self.world.shared();
        let table = match by {
            None => shared.get(key),
            Some(param) => {
                let entry = self.params.get(param).and_then(Value::as_str);
                entry.and_then(|entry| shared.get(key)?.get(entry))
            }
        };
        let rows = table.and_then(Value::as_array).into_iter().flatten();
        rows.filter_map(|row| row.as_object().cloned()).collect()
    }

    /// Returns the parameters.
    #[must_use]
    pub fn params(&self) -> &Shared {
        &self.params
    }

    /// Returns the item indices of the batch flows around, outermost first.
    #[must_use]
    pub fn index(&self) -> &Arc<[usize]> {
        &self.index
    }

    /// Returns what the whole run shares.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }
}

/// The part that all states of a run share.
#[derive(Debug)]
pub struct World {
    // Neither lock is held over an await: phases lock, work, and let go.
    shared: Mutex<Shared>,
    record: Mutex<Record>,
}

impl World {
    /// Locks the shared value.
    pub fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the record.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the events and the shared value out, at the end of the run.
    #[must_use]
    pub fn take(&self) -> (Vec<Event>, Shared) {
        (self.record().take_events(), std::mem::take(&mut *self.shared()))
    }
}
