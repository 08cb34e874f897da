//! Meters of usage: they add up the use of paid services by the visits of a run, while these are under way.
//!
//! ```text
//! cx.spend ─▶ event `Used` ─▶ UsageMeters ─▶ the UsageMeter of the run, or child, whose node it is
//!                                            └▶ written with the next that is: an item, a wait, the visit, its failure
//! ```
//!
//! A child of a batch that is not journaled is no run of its own, and is counted on the meter of the run around it.
//!
//! **Invariant:** usage that is taken from a meter is written in one transaction, or put back, or lost with a commit
//! that failed. Nothing is counted twice.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use flowstone_core::{NodePath, Usage};
use rusqlite::Connection;

use crate::{
    records::usage::{self, Spent},
    words::{error::StoreError, guard::lock},
};

/// The meters of a run that is driven, and of its children.
#[derive(Debug, Default)]
pub(crate) struct UsageMeters {
    /// The meters by the text before the paths of their nodes in events; for the run itself it is empty.
    open: Mutex<HashMap<String, Arc<UsageMeter>>>,
    /// The usage of visits that were left under way.
    left: Mutex<Vec<Spent>>,
    /// `true` once something was used, so that the visits of a run that uses nothing need not look.
    any: AtomicBool,
}

/// The usage of one run's visit under way that is not written down yet.
#[derive(Debug)]
pub(crate) struct UsageMeter {
    run: i64,
    /// The step that the visit will be.
    seq: AtomicU64,
    used: Mutex<Usage>,
}

impl UsageMeters {
    /// Opens the meter of a run; `prefix` is the text before the paths of its nodes.
    pub(crate) fn open(self: &Arc<Self>, prefix: &str, run: i64) -> OpenMeter {
        let meter = Arc::new(UsageMeter { run, seq: AtomicU64::new(0), used: Mutex::default() });
        lock(&self.open).insert(prefix.to_owned(), Arc::clone(&meter));
        OpenMeter { meters: Arc::clone(self), prefix: prefix.to_owned(), meter }
    }

    /// Counts the usage of a node.
    pub(crate) fn add(&self, node: &NodePath, usage: Usage) {
        let open = lock(&self.open);
        let mut path = node.as_str();
        loop {
            // `plan[2]/fan[0]/ask` is a node of the child `plan[2]/fan[0]/`, or else of `plan[2]/`, or else of the run.
            let child = path.rfind("]/");
            let prefix = child.map_or("", |at| &path[..at + 2]);
            if let Some(meter) = open.get(prefix) {
                *lock(&meter.used) += usage;
                return self.any.store(true, Ordering::Relaxed);
            }
            match child {
                Some(at) => path = &path[..at],
                // The run is not driven any more.
                None => return,
            }
        }
    }

    /// Takes the usage out of a meter, and the usage that others have left, to write it down.
    pub(crate) fn take(self: &Arc<Self>, meter: &UsageMeter) -> Taken {
        if !self.any.load(Ordering::Relaxed) {
            return Taken { meters: None, spent: Vec::new() };
        }
        let mut taken = self.take_left();
        taken.spent.extend(meter.empty());
        taken
    }

    /// Takes the usage of visits that were left under way.
    pub(crate) fn take_left(self: &Arc<Self>) -> Taken {
        Taken { meters: Some(Arc::clone(self)), spent: std::mem::take(&mut *lock(&self.left)) }
    }
}

impl UsageMeter {
    /// Turns to the visit that will be this step, and returns the step of the one before, or 0.
    pub(crate) fn begin(&self, seq: u64) -> u64 {
        self.seq.swap(seq, Ordering::Relaxed)
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    fn empty(&self) -> Option<Spent> {
        let usage = std::mem::take(&mut *lock(&self.used));
        (usage != Usage::default()).then(|| Spent { run: self.run, seq: self.seq(), usage })
    }
}

/// The meter of a run while it is driven. It closes when dropped, and the next writer gets what is in it.
pub(crate) struct OpenMeter {
    meters: Arc<UsageMeters>,
    prefix: String,
    pub(crate) meter: Arc<UsageMeter>,
}

impl OpenMeter {
    /// Takes the usage that is to be written down.
    pub(crate) fn take(&self) -> Taken {
        self.meters.take(&self.meter)
    }
}

impl Drop for OpenMeter {
    fn drop(&mut self) {
        lock(&self.meters.open).remove(&self.prefix);
        lock(&self.meters.left).extend(self.meter.empty());
    }
}

/// Usage on its way to the store; it is put back if the write is given up.
pub(crate) struct Taken {
    meters: Option<Arc<UsageMeters>>,
    spent: Vec<Spent>,
}

impl Taken {
    pub(crate) fn is_empty(&self) -> bool {
        self.spent.is_empty()
    }

    /// Adds the usage to the rows of the visits, in the transaction around it.
    pub(crate) fn write(mut self, db: &Connection) -> Result<(), StoreError> {
        self.spent.iter().try_for_each(|spent| usage::add(db, spent))?;
        self.spent.clear();
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(meters) = self.meters.take().filter(|_| !self.spent.is_empty()) {
            lock(&meters.left).append(&mut self.spent);
        }
    }
}
