//! A run that writes down, beside the store, what it did: thirty visits, of which five are journaled batches.
//!
//! ```text
//! count ─again─▶ count ─batch─▶ batch ─▶ count …     25 × count; after each fifth a batch of six items
//! ```

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use flowstone_core::{Action, AsyncBatchNode, AsyncFlow, Context, END, NodeExt, Result};
use flowstone_durable::{Error, Finished, OpenError, Reader, Run, Runs, Store, StoreError, StoreOptions};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::vfs::Faults;

pub(crate) const TURNS: u64 = 25;
const EVERY: u64 = 5;
const ITEMS: u64 = 6;
const LIMIT: usize = 3;
const RUN: &str = "run";

/// The state: how often `count` was visited, what each batch made of its items, and bytes that take room.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) turns: u64,
    pub(crate) sums: Vec<u64>,
    ballast: String,
}

impl Sums {
    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }
}

/// Something that a node did: a visit of `count`, by its turn, or an item of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    Turn(u64),
    Item { batch: u64, item: u64 },
}

/// A folder with a store on a disk that can fail, and what its runs did.
pub(crate) struct Harness {
    folder: TempDir,
    pub(crate) faults: Faults,
    options: StoreOptions,
    deeds: Arc<Mutex<Vec<Deed>>>,
    /// How much of the state changes at each turn, in bytes.
    ballast: usize,
}

impl Harness {
    pub(crate) fn new(faults: Faults) -> Self {
        faults.heal();
        let options = StoreOptions::new().vfs(faults.name());
        Self { folder: TempDir::new().unwrap(), faults, options, deeds: Arc::default(), ballast: 0 }
    }

    pub(crate) fn options(mut self, options: impl FnOnce(StoreOptions) -> StoreOptions) -> Self {
        self.options = options(self.options);
        self
    }

    pub(crate) fn ballast(mut self, bytes: usize) -> Self {
        self.ballast = bytes;
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("runs.db")
    }

    pub(crate) async fn open(&self) -> Result<Store, OpenError> {
        self.options.clone().open(self.path()).await
    }

    /// Opens the store, and registers the flow.
    pub(crate) async fn runs(&self) -> Result<Runs<Sums>, Fault> {
        Ok(self.open().await?.runs(self.flow()).await?)
    }

    fn flow(&self) -> AsyncFlow<Sums> {
        let (deeds, ballast) = (Arc::clone(&self.deeds), self.ballast);
        let mut flow = AsyncFlow::builder("sums");
        let count = flow.add("count", move |state: &mut Sums| {
            state.turns += 1;
            state.ballast = noise(state.turns, ballast);
            deeds.lock().unwrap().push(Deed::Turn(state.turns));
            Action::from(if state.turns % EVERY == 0 { "batch" } else { "again" })
        });
        let batch = flow.add("batch", Batch { deeds: Arc::clone(&self.deeds) }.parallel(LIMIT).journaled());
        flow.start(count);
        flow.route(count - "again" >> count);
        flow.route(count - "batch" >> batch);
        flow.route(batch - "again" >> count);
        flow.route(batch - "done" >> END);
        flow.build().unwrap()
    }

    /// Everything that was done so far, in order.
    pub(crate) fn deeds(&self) -> Vec<Deed> {
        self.deeds.lock().unwrap().clone()
    }

    /// What of the run is on disk, and what therefore remains to be done.
    pub(crate) async fn remaining(&self, run: &Run<Sums>) -> BTreeSet<Deed> {
        let Sums { turns, sums, .. } = run.state().await.unwrap();
        let batches = sums.len() as u64;
        let recorded = Reader::open(self.path()).unwrap().items_done(RUN).unwrap();
        let items = (batches..TURNS / EVERY).flat_map(|batch| (0..ITEMS).map(move |item| Deed::Item { batch, item }));
        let done = |deed: &Deed| matches!(deed, Deed::Item { batch, item } if *batch == batches && *item < recorded);
        assert!(recorded == 0 || turns == (batches + 1) * EVERY, "items are those of the visit under way");
        (turns + 1..=TURNS).map(Deed::Turn).chain(items.filter(|deed| !done(deed))).collect()
    }

    /// Checks the file itself.
    pub(crate) fn check_file(&self) {
        let db = rusqlite::Connection::open(self.path()).unwrap();
        let verdict: String = db.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
}

/// Starts the run, and waits for its end.
pub(crate) async fn whole(runs: &Runs<Sums>) -> Result<Finished<Sums>, Error> {
    runs.start(RUN, Sums::default()).await?.finished().await
}

/// The run, which is started if its start was not committed.
pub(crate) async fn found(runs: &Runs<Sums>) -> Run<Sums> {
    match runs.get(RUN).await {
        Err(Error::UnknownRun { .. }) => runs.start(RUN, Sums::default()).await.unwrap(),
        run => run.unwrap(),
    }
}

/// The state in which every run must end.
pub(crate) fn expected(ballast: usize) -> Sums {
    let sums = (0..TURNS / EVERY).map(|batch| (0..ITEMS).map(|item| output(batch, item)).sum()).collect();
    Sums { turns: TURNS, sums, ballast: noise(TURNS, ballast) }
}

/// What may go wrong until a flow is registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Run(#[from] Error),
}

/// The store's error in an error of a run; anything else is a failure of the test.
#[track_caller]
pub(crate) fn of_store(error: Error) -> StoreError {
    match error {
        Error::Store(error) => error,
        error => panic!("not an error of the store: {error:?}"),
    }
}

struct Batch {
    deeds: Arc<Mutex<Vec<Deed>>>,
}

impl AsyncBatchNode<Sums> for Batch {
    type Item = (u64, u64);
    type Output = u64;
    type Outcome = u64;
    type Action = Action;

    async fn prep(&self, state: &Sums) -> Result<Vec<(u64, u64)>> {
        let batch = state.sums.len() as u64;
        Ok((0..ITEMS).map(|item| (batch, item)).collect())
    }

    async fn exec(&self, (batch, item): &(u64, u64), _: &Context) -> Result<u64> {
        self.deeds.lock().unwrap().push(Deed::Item { batch: *batch, item: *item });
        Ok(output(*batch, *item))
    }

    async fn post(&self, state: &mut Sums, _: Vec<(u64, u64)>, outputs: Vec<u64>) -> Result<Action> {
        state.sums.push(outputs.iter().sum());
        Ok(Action::from(if state.turns == TURNS { "done" } else { "again" }))
    }
}

fn output(batch: u64, item: u64) -> u64 {
    (batch + 1) * 100 + item * item
}

/// Digits in which nothing comes twice, so that they take their room in the file.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed;
    let mut digits = String::with_capacity(length + 20);
    while digits.len() < length {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        digits.push_str(&(mixed ^ (mixed >> 29)).to_string());
    }
    digits.truncate(length);
    digits
}
