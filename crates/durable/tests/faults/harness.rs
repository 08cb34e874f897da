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
use flowstone_disk::Faults;
use flowstone_durable::{Ended, Error, OpenError, ReadError, Reader, Runs, Store, StoreFault, StoreOptions};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const TURNS: u64 = 25;
const EVERY: u64 = 5;
const BATCHES: u64 = TURNS / EVERY;
const ITEMS: u64 = 6;
const LIMIT: usize = 3;
const RUN: &str = "run";

/// The state: how often `count` was visited, what each batch made of its items, and bytes that take room.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    turns: u64,
    sums: Vec<u64>,
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
    /// Texts that take room in the state, in turns.
    ballast: Arc<[String; 2]>,
}

impl Harness {
    pub(crate) fn new(faults: Faults) -> Self {
        faults.heal();
        let options = StoreOptions::new().vfs(faults.name());
        Self { folder: TempDir::new().unwrap(), faults, options, deeds: Arc::default(), ballast: Arc::default() }
    }

    pub(crate) fn options(mut self, options: impl FnOnce(StoreOptions) -> StoreOptions) -> Self {
        self.options = options(self.options);
        self
    }

    /// Lets so many bytes of the state change at each turn.
    pub(crate) fn ballast(mut self, bytes: usize) -> Self {
        self.ballast = Arc::new([noise(1, bytes), noise(2, bytes)]);
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
        let store = self.open().await?;
        match store.runs(self.flow()).await {
            Ok(runs) => Ok(runs),
            Err(error) => {
                store.close().await;
                Err(error.into())
            }
        }
    }

    fn flow(&self) -> AsyncFlow<Sums> {
        let (deeds, ballast) = (Arc::clone(&self.deeds), Arc::clone(&self.ballast));
        let mut flow = AsyncFlow::builder("sums");
        let count = flow.add("count", move |state: &mut Sums| {
            state.turns += 1;
            state.ballast.clone_from(&ballast[(state.turns % 2) as usize]);
            deeds.lock().unwrap().push(Deed::Turn(state.turns));
            Action::from(if state.turns.is_multiple_of(EVERY) { "batch" } else { "again" })
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

    /// Lets the run go on after a fault, or starts it if its start was not committed, and returns its last state.
    ///
    /// Checks that it does all that was not committed, and nothing that was.
    pub(crate) async fn go_on(&self, runs: &Runs<Sums>, what: &str) -> Sums {
        let before = self.deeds();
        let (remaining, run) = match runs.get(RUN).await {
            Err(ReadError::UnknownRun { .. }) => {
                (Remaining::after(&Sums::default(), 0), runs.start(RUN, Sums::default()).await.unwrap())
            }
            run => {
                let run = run.unwrap();
                let recorded = Reader::open(self.path()).unwrap().items_done(RUN).unwrap();
                (Remaining::after(&run.state().await.unwrap(), recorded), run)
            }
        };
        run.resume();
        let finished = run.finished().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        remaining.check(&self.deeds()[before.len()..], what);
        finished.ended().unwrap().state
    }

    /// The state in which every run must end.
    pub(crate) fn expected(&self) -> Sums {
        let sums = (0..BATCHES).map(|batch| (0..ITEMS).map(|item| output(batch, item)).sum()).collect();
        Sums { turns: TURNS, sums, ballast: self.ballast[(TURNS % 2) as usize].clone() }
    }

    /// Checks the file itself.
    pub(crate) fn check_file(&self) {
        let db = rusqlite::Connection::open(self.path()).unwrap();
        let verdict: String = db.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
}

/// Starts the run, and waits for its end.
pub(crate) async fn whole(runs: &Runs<Sums>) -> Result<Ended<Sums>, Error> {
    Ok(runs.start(RUN, Sums::default()).await?.finished().await?.ended()?)
}

/// The rest of a run: nothing of what is committed, all else, each once.
struct Remaining {
    /// Whatever is not of the batch under way.
    deeds: BTreeSet<Deed>,
    /// The batch that is under way, or comes next, and how many of its items are not recorded.
    batch: u64,
    items: u64,
}

impl Remaining {
    fn after(state: &Sums, recorded: u64) -> Self {
        let batch = state.sums.len() as u64;
        assert!(recorded == 0 || state.turns == (batch + 1) * EVERY, "recorded items are those of the visit under way");
        let items = (batch + 1..BATCHES).flat_map(|batch| (0..ITEMS).map(move |item| Deed::Item { batch, item }));
        let deeds = (state.turns + 1..=TURNS).map(Deed::Turn).chain(items).collect();
        Self { deeds, batch, items: if batch < BATCHES { ITEMS - recorded } else { 0 } }
    }

    fn check(&self, done: &[Deed], what: &str) {
        let once: BTreeSet<_> = done.iter().copied().collect();
        assert_eq!(once.len(), done.len(), "{what}: each once, of {done:?}");
        let (under_way, rest): (BTreeSet<_>, BTreeSet<_>) =
            once.into_iter().partition(|deed| matches!(deed, Deed::Item { batch, .. } if *batch == self.batch));
        assert_eq!(under_way.len() as u64, self.items, "{what}: the items that were not recorded, of {under_way:?}");
        assert_eq!(rest, self.deeds, "{what}");
    }
}

/// An error before a flow is registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Run(#[from] Error),
}

/// The store's error in an error of a run; anything else is a failure of the test.
#[track_caller]
pub(crate) fn of_store(error: impl Into<Error>) -> StoreFault {
    let error = error.into();
    error.fault().unwrap_or_else(|| panic!("not an error of the store: {error:?}"))
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

/// Text in which nothing comes twice, so that it takes its room in the file.
fn noise(seed: u64, length: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = seed;
    let mut text = String::with_capacity(length + 10);
    while text.len() < length {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let letter = |at: u64| char::from(LETTERS[(mixed >> (at * 6)) as usize & 63]);
        text.extend((0..10).map(letter));
    }
    text.truncate(length);
    text
}
