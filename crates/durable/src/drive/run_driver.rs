//! Driving one run: visit, commit, visit, commit, until it ends or is parked.
//!
//! ```text
//! loop { visit ─▶ commit ─▶ next? go on │ end? ended │ pause, sleep? parked │ error? failed }
//! ```
//!
//! The driver knows a run as an [`Execution`], without its types, so that runs and their children go through the same
//! loop (`docs/decisions/0009-a-driver-sees-an-execution.md`).
//!
//! **Invariant:** the next visit begins when the last one is on disk; with [`Durability::Behind`], when no more than
//! that number of visits are not on disk.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use flowstone_core::{
    Action, EventKind, NodePath, RunError,
    driver::{Execution, Visit},
};
use rusqlite::Connection;
use serde_json::Value;

use crate::{
    disk::{
        states::{States, Stored},
        writer::Reply,
    },
    drive::{journal::RunJournal, meter::OpenMeter, observer::Observer, storage::Storage, surroundings::Surroundings},
    records::{
        items,
        load::{Asked, Loaded, UnderWay},
        runs,
        status::{self, Change},
        visits::{self, VisitRow},
    },
    words::{
        checked::StorageCheck,
        columns::now,
        error::{DriveError, KeepError, Written},
        status::Happened,
        store_options::Durability,
    },
};

/// The longest action, in bytes: an action is a label, and no place for data.
const MAX_ACTION: usize = 64 << 10;

/// The driver of one run.
pub(crate) struct RunDriver {
    pub(super) storage: Arc<Storage>,
    pub(super) run: i64,
    /// The last step that was committed, or is on its way.
    pub(super) seq: u64,
    pub(super) states: States,
    pub(super) journal: Arc<RunJournal>,
    pub(super) observer: Arc<Observer>,
    pub(super) meter: OpenMeter,
    /// The text before the paths of nodes in events: for a child, the path of its item.
    pub(super) prefix: String,
    /// Commits that are on their way, oldest first.
    pub(super) behind: VecDeque<Reply<(), DriveError>>,
    /// The version of its flow, if the store has another one for the run.
    pub(super) flow: Option<i64>,
    /// `true` if the run was started before this drive.
    pub(super) resumed: bool,
}

/// The way in which a drive without an error halted.
#[derive(Debug)]
pub(crate) enum Halted {
    /// It reached its end.
    Ended(Action),
    /// It was parked until an answer or a time comes.
    Parked,
    /// Its children waited, but one of them can go on by now, so the run is read and driven again.
    Again,
    /// It was cancelled or failed, and the store says so.
    Stopped(RunError),
}

impl RunDriver {
    /// Creates the driver of a run that has just been written down.
    pub(crate) fn starting(storage: &Arc<Storage>, run: i64, states: States, around: Surroundings) -> Self {
        Self::new(storage, (run, 0), states, around, UnderWay::default())
    }

    /// Creates the driver of a stored run. It takes over the chain of its states, and the rows of its visit under way.
    pub(crate) fn resuming(storage: &Arc<Storage>, loaded: Loaded, version: u32, around: Surroundings) -> Self {
        // The run moves to the present version of its flow with its next step. Until then the stored names are those of
        // the old version, and the older program can take the run back.
        let flow = Some(around.flow.row()).filter(|flow| *flow != loaded.flow);
        // A migrated state is stored whole, and not as a change of the one before.
        let states = if loaded.version == version {
            States::resuming(loaded.chain, loaded.changed, version)
        } else {
            States::starting(storage.options.full_every, version)
        };
        let mut driver = Self::new(storage, (loaded.run, loaded.seq), states, around, loaded.under_way);
        (driver.flow, driver.resumed) = (flow, true);
        driver
    }

    fn new(
        storage: &Arc<Storage>,
        (run, seq): (i64, u64),
        states: States,
        around: Surroundings,
        under_way: UnderWay,
    ) -> Self {
        let meter = around.observer.meters.open(&around.prefix, run);
        let journal = RunJournal::new(storage, run, &around, &meter, under_way);
        let Surroundings { observer, prefix, .. } = around;
        let (storage, behind) = (Arc::clone(storage), VecDeque::new());
        Self { storage, run, seq, states, journal, observer, meter, prefix, behind, flow: None, resumed: false }
    }

    /// Drives the run until it comes to a halt. `answered` is the question of the visit under way, with its answer.
    ///
    /// # Errors
    ///
    /// If the store cannot be written: the last commit stands, and the run can be resumed.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the run stands at its last commit.
    pub(crate) async fn drive(
        &mut self,
        execution: &mut dyn Execution,
        mut answered: Option<Asked>,
    ) -> Result<Halted, DriveError> {
        execution.set_journal(Arc::clone(&self.journal) as _);
        self.announce_start(execution);
        loop {
            let begun = Begun { node: execution.node().clone(), at: now(), instant: Instant::now() };
            if self.is_root() {
                self.observer.begin(self.seq + 1, self.journal.root.clone(), begun.node.clone());
            }
            self.journal.begin(self.seq + 1, self.path_of(&begun.node));
            self.observer.note(self.path_of(&begun.node));
            let visited = match answered.take() {
                Some(Asked { answer: Some(Err(why)), question, .. }) => {
                    return self.refuse(execution, question, why).await;
                }
                Some(asked) => answer(execution, asked),
                None => execution.visit().await,
            };
            let (action, next, exit) = match visited {
                Ok(Visit::Next { action, .. }) => (action, Some(execution.node().clone()), None),
                Ok(Visit::End { action, exit }) => (action, None, Some(exit)),
                Ok(Visit::Pause(pause)) => return self.pause(execution, &pause).await,
                Ok(Visit::Sleep { wait }) => return self.sleep(execution, wait).await,
                Ok(Visit::Parked) => return self.park(execution).await,
                Err(error) => return self.stop(execution, error).await,
            };
            let named = [Some(&action), exit.as_ref()];
            let fit = named.into_iter().flatten().try_for_each(|action| self.action_fits(&begun.node, action));
            let state = match fit.and_then(|()| self.storage.store(execution, &mut self.states, self.seq + 1)) {
                Ok(state) => state,
                Err(error) => return self.stop(execution, self.not_kept(&begun.node, error)).await,
            };
            self.commit(state, begun, action, next, exit.clone()).await?;
            if self.is_root() {
                self.storage.turns.cleared(self.run);
            }
            if let Some(exit) = exit {
                self.caught_up().await?;
                self.announce(execution, None, || EventKind::Ended { action: exit.clone() });
                return Ok(Halted::Ended(exit));
            }
        }
    }

    /// Writes down a visit, and the end of the run if this is the last visit.
    async fn commit(
        &mut self,
        state: Stored,
        begun: Begun,
        action: Action,
        next: Option<NodePath>,
        exit: Option<Action>,
    ) -> Result<(), DriveError> {
        let took = begun.instant.elapsed();
        let seen = self.observer.take(&self.path_of(&begun.node));
        if self.is_root() {
            // No child of the visit is under way any more, but one that failed or was dropped may have left notes.
            self.observer.forget();
        }
        self.seq += 1;
        let items = self.journal.items();
        let row = VisitRow {
            run: self.run,
            seq: self.seq,
            node: Some(begun.node),
            action: Some(action),
            next,
            started_at: begun.at,
            took,
            attempts: seen.attempts,
            retries: seen.retries(),
            items,
        };
        let (kept, left, used) = (self.journal.has_kept(), self.journal.has_left(), self.meter.take());
        let (run, seq, flow) = (self.run, self.seq, self.flow.take());
        let behind = !self.behind.is_empty();
        let write = move |db: &Connection| -> Result<(), DriveError> {
            if behind {
                visits::check_step_before(db, &row)?;
            }
            visits::insert_visit(db, &row, &state)?;
            runs::set_flow(db, run, flow)?;
            used.write(db)?;
            if kept {
                items::forget_items(db, run, seq)?;
            }
            if left {
                status::cancel_children(db, run, seq)?;
            }
            if let Some(exit) = exit {
                let change = Change { action: Some(exit.to_string()), ..Change::default() };
                status::change(db, run, Happened::Ended, &change)?;
            }
            Ok(())
        };
        // Followers get the steps of the run itself, not those of its children.
        let observer = self.is_root().then(|| Arc::clone(&self.observer));
        let then = move |_: &()| observer.iter().for_each(|observer| observer.stepped(seq));
        self.behind.push_back(self.storage.writer.put("visit", write, then).await?);
        let most = match self.storage.options.durability {
            Durability::Synced => 0,
            Durability::Behind(visits) => visits,
        };
        self.wait_for(most).await
    }

    /// Returns the path of a node as it stands in events.
    pub(super) fn path_of(&self, node: &NodePath) -> NodePath {
        if self.is_root() { node.clone() } else { format!("{}{node}", self.prefix).into() }
    }

    /// Returns the number of the run in the store.
    pub(crate) fn number(&self) -> i64 {
        self.run
    }

    pub(super) fn is_root(&self) -> bool {
        self.prefix.is_empty()
    }

    /// Checks the length of an action, which may be any text and is stored in a row.
    fn action_fits(&self, node: &NodePath, action: &Action) -> Result<(), KeepError> {
        StorageCheck { run: &self.journal.root, node, what: Written::Action, most: MAX_ACTION }
            .fits(action.as_str().len())
    }

    /// Returns the error of a run whose value cannot be kept.
    pub(super) fn not_kept(&self, node: &NodePath, error: KeepError) -> RunError {
        RunError::journal(self.journal.root.clone(), node.clone(), None, DriveError::Keep(error))
    }

    /// Waits until all commits are on disk.
    pub(super) async fn caught_up(&mut self) -> Result<(), DriveError> {
        self.wait_for(0).await
    }

    /// Waits until at most this many commits are on their way.
    async fn wait_for(&mut self, most: usize) -> Result<(), DriveError> {
        while self.behind.len() > most {
            if let Some(oldest) = self.behind.pop_front() {
                oldest.done().await?;
            }
        }
        Ok(())
    }
}

/// A visit that has begun.
struct Begun {
    node: NodePath,
    at: i64,
    instant: Instant,
}

/// Continues a visit that asked a question.
fn answer(execution: &mut dyn Execution, asked: Asked) -> Result<Visit, RunError> {
    let pause = execution.pause(asked.question, asked.schema);
    if asked.expired {
        return execution.expire(pause);
    }
    execution.answer(pause, asked.answer.and_then(Result::ok).unwrap_or(Value::Null))
}
