//! Counters that nodes of tests write while they run, on whatever thread.

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::secs;

/// Lines that nodes write, in the order in which things happened.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn push(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A number that many threads count up.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn up(&self) -> usize {
        self.0.fetch_add(1, SeqCst)
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// Counts what is alive: begun, and neither finished nor dropped.
#[derive(Clone, Default)]
pub(crate) struct Alive {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    begun: Count,
    finished: Count,
}

impl Alive {
    pub(crate) fn begin(&self) -> Life {
        self.begun.up();
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        Life(self.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.now.load(SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.get()
    }

    pub(crate) fn finished(&self) -> usize {
        self.finished.get()
    }
}

/// One that is alive until it is dropped.
pub(crate) struct Life(Alive);

impl Life {
    /// Ends it as one that was not cut short.
    pub(crate) fn finish(self) {
        self.0.finished.up();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

/// A place where threads wait for each other; as a barrier, but one that tells when the others never come.
#[derive(Clone)]
pub(crate) struct Meeting(Arc<(Mutex<usize>, Condvar, usize)>);

impl Meeting {
    pub(crate) fn of(count: usize) -> Self {
        Self(Arc::new((Mutex::new(0), Condvar::new(), count)))
    }

    /// Waits for the others; `false` if they do not come in a time after which something hangs.
    pub(crate) fn met(&self) -> bool {
        let (here, changed, count) = &*self.0;
        let mut arrived = here.lock().unwrap();
        *arrived += 1;
        changed.notify_all();
        let (_guard, wait) = changed.wait_timeout_while(arrived, secs(20), |arrived| *arrived < *count).unwrap();
        !wait.timed_out()
    }
}
