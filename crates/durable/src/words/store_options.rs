//! Options of a store.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use flowstone_core::driver::Panicked;

use crate::words::points::{OnWrite, WritePoint};

/// The most deltas that may follow a full snapshot, unless an application sets another number.
pub(crate) const FULL_EVERY: u32 = 1_000;

/// The number of visits by which a run may be ahead of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The next visit begins when the last is on disk.
    #[default]
    Synced,
    /// At most this many visits of a run are not on disk yet; a run that is further ahead waits.
    ///
    /// After a crash this many visits may run again. Pauses, sleeps, ends and items always wait for the disk.
    Behind(usize),
}

/// Options of a store that is opened to be driven.
///
/// # Example
///
/// ```
/// use flowstone_core::AsyncFlow;
/// use flowstone_durable::{Durability, StoreOptions};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("trips.db");
/// let mut flow = AsyncFlow::builder("count");
/// let add = flow.add("add", |n: &mut u32| *n += 1);
/// flow.start(add);
///
/// let store = StoreOptions::new().durability(Durability::Behind(8)).max_state(1 << 20).open(&path).await?;
/// let runs = store.runs(flow.build()?).await?;
/// assert_eq!(runs.start("r", 1).await?.finished().await?.ended()?.state, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StoreOptions {
    pub(crate) durability: Durability,
    pub(crate) full_every: u32,
    pub(crate) max_state: usize,
    pub(crate) keep_waits: Duration,
    pub(crate) concurrency: Option<usize>,
    pub(crate) clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    pub(crate) vfs: Option<String>,
    pub(crate) checkpoint_every: Option<u32>,
    pub(crate) on_write: Option<OnWrite>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            full_every: FULL_EVERY,
            max_state: 64 << 20,
            keep_waits: Duration::from_secs(2),
            concurrency: None,
            clock: Arc::new(SystemTime::now),
            vfs: None,
            checkpoint_every: None,
            on_write: None,
        }
    }
}

/// A policy of nodes does not compile on options of flows and stores. The words of the message are core's, and tested
/// there by the programs of `flowstone-ui`, which do without SQLite.
///
/// ```compile_fail,E0277
/// let options = flowstone_durable::FlowOptions::default().retry(flowstone_core::Retry::attempts(3));
/// ```
///
/// ```compile_fail,E0277
/// let options = flowstone_durable::StoreOptions::new().parallel(4);
/// ```
#[cfg(doctest)]
struct PoliciesBelongToNodes;

flowstone_core::__no_node!(StoreOptions: timeout, total_timeout, retry, parallel =>
    "retries and timeouts belong to a node, `flow.add(\"fetch\", Fetch.timeout(limit))`; `concurrency` counts runs"
);

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("durability", &self.durability)
            .field("full_every", &self.full_every)
            .field("max_state", &self.max_state)
            .field("keep_waits", &self.keep_waits)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

impl StoreOptions {
    /// Creates the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how far a run may be ahead of the disk. The default is [`Durability::Synced`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the number of changes after which a state is stored whole at the latest; the default is 1,000. It is stored
    /// whole earlier if the changes take several times the bytes of the state.
    ///
    /// A larger number makes the file smaller, and states slower to read back.
    #[must_use]
    pub fn full_every(mut self, visits: u32) -> Self {
        self.full_every = visits;
        self
    }

    /// Sets the most bytes that a state may have as JSON; the default is 64 MiB. The limit also holds for a question,
    /// an answer, and the output of a journaled item.
    #[must_use]
    pub fn max_state(mut self, bytes: usize) -> Self {
        self.max_state = bytes;
        self
    }

    /// Sets the length from which on a wait survives a restart and a `Sleep` node parks its run; the default is two
    /// seconds.
    #[must_use]
    pub fn keep_waits(mut self, from: Duration) -> Self {
        self.keep_waits = from;
        self
    }

    /// Sets the most runs of the store that are driven at once, of all flows together; by default there is no limit.
    /// The others wait as with [`FlowOptions::concurrency`](crate::FlowOptions::concurrency); the flow with the fewest
    /// runs under way is next.
    #[must_use]
    pub fn concurrency(mut self, runs: usize) -> Self {
        self.concurrency = Some(runs);
        self
    }

    /// Replaces the clock that decides when runs wake and which are old enough to prune, for tests. Times that are
    /// written down, such as the start of a run, are always the system's.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(move || match Panicked::catch(&now) {
            Ok(now) => now,
            Err(panicked) => {
                tracing::error!(target: "flowstone", "the clock of a store {panicked}; the system's is taken");
                SystemTime::now()
            }
        });
        self
    }

    /// Opens the file through another of SQLite's file systems, for tests that make it fail.
    #[doc(hidden)]
    #[must_use]
    pub fn vfs(mut self, name: impl Into<String>) -> Self {
        self.vfs = Some(name.into());
        self
    }

    /// Sets the number of pages after which the log is copied into the file, for tests; in SQLite it is 1,000.
    #[doc(hidden)]
    #[must_use]
    pub fn checkpoint_every(mut self, pages: u32) -> Self {
        self.checkpoint_every = Some(pages);
        self
    }

    /// Calls a function at each moment at which a crash makes a difference, for tests that kill the process there.
    #[doc(hidden)]
    #[must_use]
    pub fn on_write(mut self, on_write: impl Fn(WritePoint) + Send + Sync + 'static) -> Self {
        self.on_write = Some(Arc::new(on_write));
        self
    }
}
