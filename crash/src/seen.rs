//! A reader beside the driver: the rows that it has seen are committed, and must be there after a power cut.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Result, anyhow};
use flowstone_disk::Disk;

use crate::found::Found;

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(3);

/// A thread that reads the store until this is dropped.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Found>,
}

impl Watch {
    pub(crate) fn start(store: &Path, disk: &Arc<Disk>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, store, disk) = (Arc::clone(&stop), store.to_owned(), Arc::clone(disk));
        let look = move || {
            let mut seen = Found::default();
            while !stopped.load(Ordering::Relaxed) && !disk.is_off() {
                look(&store, &disk, &mut seen);
                std::thread::sleep(LOOK);
            }
            seen
        };
        Ok(Self { stop, thread: std::thread::Builder::new().name("watch".to_owned()).spawn(look)? })
    }

    /// Ends the thread, and returns the last rows that it saw while the power was on.
    pub(crate) fn end(self) -> Result<Found> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a reader panicked"))
    }
}

/// Reads the store once. If the store is not there yet, or is locked for a moment, nothing is seen.
fn look(store: &Path, disk: &Disk, seen: &mut Found) {
    if let Ok(found) = Found::beside_driver(store) {
        disk.while_on(|| *seen = found);
    }
}
