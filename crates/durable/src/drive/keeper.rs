//! Driving one run: visit, commit, visit, commit, until it ends or is put away.
//!
//! ```text
//! loop { visit ─▶ commit ─▶ next? go on │ end? ended │ pause, sleep? parked │ error? failed }
//! ```
//!
//! It knows a run as an [`Execution`], without its types, so that the runs of users and their children go through one
//! loop (`docs/decisions/0009-a-driver-sees-an-execution.md`).
//!
//! **Invariant:** the next visit begins when the last is on disk, or with [`Durability::Behind`] at most so many are not.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use flowstone_core::{Action, BoxError, EventKind, Execution, NodePath, Pause, RunError, RunId, Visit};
use rusqlite::Connection;
use serde_json::Value;

use crate::{
    disk::{
        states::{States, Stored},
        writer::Reply,
    },
    drive::{
        answers,
        journal::RunJournal,
        observer::Observer,
        shared::{Shared, unstorable},
    },
    flows::registered::AnyFlow,
    records::{
        load::{Asked, Loaded, UnderWay},
        parked,
        rows::{self, Change, NewPause, VisitRow, now},
        usage::OpenPurse,
    },
    words::{
        checked::Slip,
        error::{Error, StoreError, Written},
        options::Durability,
        status::{Failure, Status},
        waits::millis,
    },
};

mod announce;

/// The longest action, in bytes: a label, and no place for data.
const MAX_ACTION: usize = 64 << 10;

/// What keeps a run while it is driven.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    run: i64,
    /// The last step that was committed, or is on its way.
    seq: u64,
    states: States,
    journal: Arc<RunJournal>,
    observer: Arc<Observer>,
    purse: OpenPurse,
    /// What stands before the node's path in events: for a child the path of its item.
    prefix: String,
    /// Commits that are on their way, oldest first.
    behind: VecDeque<Reply<()>>,
    /// The version of its flow, if that is not the one that the store knows.
    flow: Option<i64>,
    /// Whether the run goes on, and does not begin.
    resumed: bool,
}

/// How the driving of a run came to a halt, beside an error.
#[derive(Debug)]
pub(crate) enum Halted {
    /// It reached its end.
    Ended(Action),
    /// It was put away until an answer comes, or a time.
    Parked,
    /// Its children waited, but one can go on since: it is to be read and driven again.
    Again,
    /// It was cancelled, or failed; that is written down.
    Stopped(RunError),
}

impl Keeper {
    /// Makes what keeps a run that has just been written down.
    pub(crate) fn starting(shared: &Arc<Shared>, run: i64, states: States, watched: Watched) -> Self {
        Self::new(shared, (run, 0), states, watched, UnderWay::default())
    }

    /// Makes what keeps a stored run. It takes over its states, and what its visit under way had done.
    pub(crate) fn resuming(shared: &Arc<Shared>, loaded: Loaded, version: u32, watched: Watched) -> Self {
        // The run moves to the flow as it is now with its next step: until then the names that are stored are those of the
        // version before, and the older program can take it back.
        let flow = Some(watched.flow.row()).filter(|flow| *flow != loaded.flow);
        // A state that was migrated is no change of the one before, but a whole one.
        let states = if loaded.version == version {
            States::resuming(loaded.chain, loaded.changed, version)
        } else {
            States::starting(shared.options.full_every, version)
        };
        let mut keeper = Self::new(shared, (loaded.run, loaded.seq), states, watched, loaded.under_way);
        (keeper.flow, keeper.resumed) = (flow, true);
        keeper
    }

    fn new(
        shared: &Arc<Shared>,
        (run, seq): (i64, u64),
        states: States,
        watched: Watched,
        under_way: UnderWay,
    ) -> Self {
        let purse = watched.observer.purses.open(&watched.prefix, run);
        let journal = RunJournal::new(shared, run, &watched, &purse, under_way);
        let Watched { observer, prefix, .. } = watched;
        let (shared, behind) = (Arc::clone(shared), VecDeque::new());
        Self { shared, run, seq, states, journal, observer, purse, prefix, behind, flow: None, resumed: false }
    }

    /// Drives the run until it comes to a halt. `answered` is the question of the visit under way, with its answer.
    ///
    /// # Errors
    ///
    /// When something cannot be written: the last commit stands, and the run can be resumed.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the run stands where its last commit put it.
    pub(crate) async fn drive(
        &mut self,
        execution: &mut dyn Execution,
        mut answered: Option<Asked>,
    ) -> Result<Halted, Error> {
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
            let state = match fit.and_then(|()| self.shared.store(execution, &mut self.states, self.seq + 1)) {
                Ok(state) => state,
                Err(error) => return self.stop(execution, self.not_kept(&begun.node, error)).await,
            };
            self.commit(state, begun, action, next, exit.clone()).await?;
            if self.is_root() {
                self.shared.turns.cleared(self.run);
            }
            if let Some(exit) = exit {
                self.caught_up().await?;
                self.announce(execution, None, || EventKind::Ended { action: exit.clone() });
                return Ok(Halted::Ended(exit));
            }
        }
    }

    /// Writes a visit down, and its end of the run if it is one.
    async fn commit(
        &mut self,
        state: Stored,
        begun: Begun,
        action: Action,
        next: Option<NodePath>,
        exit: Option<Action>,
    ) -> Result<(), Error> {
        let took = begun.instant.elapsed();
        let seen = self.observer.take(&self.path_of(&begun.node));
        if self.is_root() {
            // No child of the visit is under way any more; one that failed or was dropped has left something.
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
        let (kept, left, used) = (self.journal.has_kept(), self.journal.has_left(), self.purse.take());
        let (run, seq, flow) = (self.run, self.seq, self.flow.take());
        let behind = !self.behind.is_empty();
        let write = move |db: &Connection| {
            if behind {
                rows::check_step_before(db, &row)?;
            }
            rows::insert_visit(db, &row, &state)?;
            rows::set_flow(db, run, flow)?;
            used.write(db)?;
            if kept {
                rows::forget_items(db, run, seq)?;
            }
            if left {
                rows::cancel_children(db, run, seq)?;
            }
            if let Some(exit) = exit {
                let change = Change { action: Some(exit.to_string()), ..Change::default() };
                rows::set_status(db, run, Status::Ended, &change)?;
            }
            Ok(())
        };
        // The steps of children are not those of the run that is followed.
        let observer = self.is_root().then(|| Arc::clone(&self.observer));
        let then = move |_: &()| observer.iter().for_each(|observer| observer.stepped(seq));
        self.behind.push_back(self.shared.writer.put("visit", write, then).await?);
        let most = match self.shared.options.durability {
            Durability::Synced => 0,
            Durability::Behind(visits) => visits,
        };
        self.wait_for(most).await
    }

    /// The path of a node as events name it.
    fn path_of(&self, node: &NodePath) -> NodePath {
        if self.is_root() { node.clone() } else { format!("{}{node}", self.prefix).into() }
    }

    /// The number of the run in the store.
    pub(crate) fn number(&self) -> i64 {
        self.run
    }

    fn is_root(&self) -> bool {
        self.prefix.is_empty()
    }

    /// Checks an action, which may be any text, and stands in a row.
    fn action_fits(&self, node: &NodePath, action: &Action) -> Result<(), Error> {
        Slip { run: &self.journal.root, node, what: Written::Action, most: MAX_ACTION }.fits(action.as_str().len())
    }

    /// The error of a run of which something cannot be kept.
    fn not_kept(&self, node: &NodePath, error: Error) -> RunError {
        RunError::journal(self.journal.root.clone(), node.clone(), None, error)
    }

    /// Waits until all that was written is on disk.
    async fn caught_up(&mut self) -> Result<(), Error> {
        self.wait_for(0).await
    }

    /// Waits until no more than so many commits are on their way.
    async fn wait_for(&mut self, most: usize) -> Result<(), Error> {
        while self.behind.len() > most {
            if let Some(oldest) = self.behind.pop_front() {
                oldest.done().await?;
            }
        }
        Ok(())
    }

    async fn pause(&mut self, execution: &dyn Execution, pause: &Pause) -> Result<Halted, Error> {
        let asked = match self.question(execution, pause) {
            Ok(asked) => asked,
            Err(error) => return self.stop(execution, self.not_kept(pause.node(), error)).await,
        };
        self.caught_up().await?;
        let (expires, ticks) = (asked.expires.is_some(), self.shared.writer.ticks());
        let write = move |db: &Connection| {
            rows::pause(db, &asked)?;
            if expires { rows::set_ticks(db, ticks) } else { Ok(()) }
        };
        self.write("pause", write).await?;
        if expires {
            self.shared.wakes.notify_one();
        }
        self.announce_question(execution, pause.question());
        Ok(Halted::Parked)
    }

    /// What to write of a question. What is put away is read back by whoever goes on with it, so the state is checked, too.
    fn question(&self, execution: &dyn Execution, pause: &Pause) -> Result<NewPause, Error> {
        check_state(execution)?;
        let (run, node, most) = (&self.journal.root, pause.node(), self.shared.options.max_state);
        let text = |what, json: &Value| Slip { run, node, what, most }.text(json);
        answers::check_schema(pause.schema()).map_err(|what| {
            let (run, node) = (run.clone(), node.clone());
            Error::BadSchema { run, node, what }
        })?;
        Ok(NewPause {
            run: self.run,
            seq: self.seq + 1,
            node: execution.node().clone(),
            question: text(Written::Question, pause.question())?,
            schema: text(Written::Schema, pause.schema())?,
            version: self.journal.flow.version(),
            expires: pause.expires().map(|wait| self.shared.moment().after(wait)),
        })
    }

    async fn sleep(&mut self, execution: &dyn Execution, wait: Duration) -> Result<Halted, Error> {
        if let Err(error) = check_state(execution) {
            return self.stop(execution, self.not_kept(execution.node(), error)).await;
        }
        self.caught_up().await?;
        let length = millis(wait);
        let until = self.journal.wakes_at().unwrap_or_else(|| self.shared.now().saturating_add(length));
        let ticks = self.shared.writer.ticks();
        let (run, wake_tick) = (self.run, Some(ticks.saturating_add(length)));
        let change = Change { wake_at: Some(until), wake_tick, ..Change::default() };
        self.write("sleep", move |db| {
            rows::set_status(db, run, Status::Sleeping, &change)?;
            rows::set_ticks(db, ticks)
        })
        .await?;
        self.shared.wakes.notify_one();
        self.announce(execution, Some(execution.node()), || EventKind::Sleeping { until: rows::time(until) });
        Ok(Halted::Parked)
    }

    /// Puts the run away while its children wait.
    async fn park(&mut self, execution: &dyn Execution) -> Result<Halted, Error> {
        if let Err(error) = check_state(execution) {
            return self.stop(execution, self.not_kept(execution.node(), error)).await;
        }
        self.caught_up().await?;
        self.journal.place_children().await?;
        let (run, seq, left, purse) = (self.run, self.seq + 1, self.journal.left_children(), self.purse.take());
        let is_heard = self.is_heard();
        let park = move |db: &Connection| {
            let parked = parked::park(db, run, seq, &left)?;
            purse.write(db)?;
            let waits = if parked && is_heard { Some(announce::waits_for(db, run)?) } else { None };
            Ok((parked, waits))
        };
        let (parked, waits) = self.shared.writer.call("park", park).await?;
        if let Some((node, kind)) = waits {
            self.announce(execution, node.as_ref(), || kind);
        }
        Ok(if parked { Halted::Parked } else { Halted::Again })
    }

    /// Writes down why the run goes no further; passes on what is the store's fault, which is none of the run's.
    async fn stop(&mut self, execution: &dyn Execution, error: RunError) -> Result<Halted, Error> {
        self.caught_up().await?;
        let run = self.run;
        let error = match error {
            RunError::Journal { source, .. } if !is_of_run(&source) => return Err(of_journal(source)),
            error => error,
        };
        if let RunError::Answer { pause, source, .. } = &error {
            return self.refuse(execution, pause.question().clone(), source.to_string()).await;
        }
        let (status, change) = match &error {
            RunError::Cancelled { .. } => (Status::Cancelled, Change::default()),
            error => (Status::Failed, Change { error: Some(Failure::of(error)), ..Change::default() }),
        };
        self.write("stop", move |db| rows::set_status(db, run, status, &change)).await?;
        self.announce(execution, Some(error.node()), || EventKind::failed(&error));
        Ok(Halted::Stopped(error))
    }

    /// Gives an answer back that does not fit: the question is open again.
    async fn refuse(&mut self, execution: &dyn Execution, question: Value, why: String) -> Result<Halted, Error> {
        self.caught_up().await?;
        let (run, seq) = (self.run, self.seq + 1);
        self.write("refuse", move |db| rows::refuse_answer(db, run, seq, &why)).await?;
        self.announce_question(execution, &question);
        Ok(Halted::Parked)
    }

    /// Writes down that a visit did not end, with what it has used: that is spent all the same.
    async fn write(
        &self,
        name: &'static str,
        work: impl FnOnce(&Connection) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let used = self.purse.take();
        let work = move |db: &Connection| {
            work(db)?;
            used.write(db)
        };
        self.shared.writer.call(name, work).await
    }
}

/// A visit that has begun.
struct Begun {
    node: NodePath,
    at: i64,
    instant: Instant,
}

/// Who watches a run, and where in the run that the user started it stands.
pub(crate) struct Watched {
    /// The run that the user started, and its flow.
    pub(crate) root: RunId,
    pub(crate) flow: Arc<dyn AnyFlow>,
    pub(crate) observer: Arc<Observer>,
    /// What stands before the paths of its nodes in events.
    pub(crate) prefix: String,
    /// Whether it may be put away by itself, which a child may not.
    pub(crate) parks: bool,
    /// The version of its flow.
    pub(crate) version: u32,
}

impl Watched {
    /// The run that the user started.
    pub(crate) fn root(root: RunId, flow: Arc<dyn AnyFlow>, observer: Arc<Observer>) -> Self {
        let version = flow.version();
        Self { root, flow, observer, prefix: String::new(), parks: true, version }
    }
}

/// Checks that a run can be read back that is to be put away.
fn check_state(execution: &dyn Execution) -> Result<(), Error> {
    execution.save_surely().map(drop).map_err(|source| unstorable(execution, source))
}

/// Goes on with a visit that asked.
fn answer(execution: &mut dyn Execution, asked: Asked) -> Result<Visit, RunError> {
    let pause = execution.pause(asked.question, asked.schema);
    if asked.expired {
        return execution.expire(pause);
    }
    execution.answer(pause, asked.answer.and_then(Result::ok).unwrap_or(Value::Null))
}

/// Whether the run is at fault, by its state or by what its `exec` runs, and not the store.
fn is_of_run(source: &BoxError) -> bool {
    matches!(
        source.downcast_ref(),
        Some(
            Error::StateTooLarge { .. }
                | Error::Unstorable { .. }
                | Error::TooLarge { .. }
                | Error::BadSchema { .. }
                | Error::SecondChild { .. }
        )
    )
}

/// The store's error inside the error of a visit whose journal failed.
fn of_journal(source: BoxError) -> Error {
    match source.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => StoreError::because(crate::StoreFault::Io, other).into(),
    }
}

impl Failure {
    pub(crate) fn of(error: &RunError) -> Self {
        let (attempts, item, terminal) = match error {
            RunError::Node { attempts, item, terminal, .. } => (*attempts, *item, *terminal),
            _ => (0, None, false),
        };
        Self { node: error.node().clone(), message: error.report(), attempts, item, terminal, deaths: None }
    }
}
