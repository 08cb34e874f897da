//! Requests for the runs of a store, from beside the process that drives it, or when none does.

use std::{path::Path, time::SystemTime};

use flowstone_core::{NodePath, RunId};
use rusqlite::{Connection, TransactionBehavior};
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::prune::{Prune, Pruned},
    disk::{
        access::Access,
        schema::{self, Opened},
        space,
    },
    drive::{
        answers::{self, Which},
        changes::{self, Limits, begin_new},
    },
    records::{
        deleting,
        inbox::ask_driver,
        owner, parked,
        reader::Reader,
        retry,
        status::{self, Change, status},
    },
    words::{
        columns,
        error::{AnswerError, ChangeError, JobError, OpenError, StoreError, WrongStatus},
        info::Question,
        status::{Happened, Status},
        store_options::StoreOptions,
        waits::Moment,
    },
};

/// A store that is opened for requests to its runs, also while another process drives it.
///
/// A request is checked and written down at once. The process that drives the store looks for it every 50
/// milliseconds; if none does, the next one finds it.
///
/// # Example
///
/// ```
/// use flowstone_core::{Ask, AsyncFlow, Result};
/// use flowstone_durable::{Requests, Runs};
///
/// struct Approve;
///
/// impl Ask<bool> for Approve {
///     type Question = String;
///     type Answer = bool;
///     type Action = ();
///
///     fn ask(&self, _: &bool) -> Result<String> { Ok("post it?".to_owned()) }
///     fn post(&self, approved: &mut bool, answer: bool) -> Result<()> { *approved = answer; Ok(()) }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("invoices.db");
/// let mut flow = AsyncFlow::builder("post");
/// let approve = flow.add("approve", Approve);
/// flow.start(approve);
/// let march = Runs::open(&path, flow.build()?).await?.start("march", false).await?;
/// march.settled().await?;
///
/// let mut store = Requests::open(&path)?; // in any process
/// store.answer("march", "approve", true)?;
/// assert!(march.finished().await?.ended()?.state);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Requests {
    reader: Reader,
    writer: Opened,
}

impl Requests {
    /// Opens a store that is there.
    ///
    /// # Errors
    ///
    /// If there is no such file, it is no store, or it cannot be written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let writer = schema::open(path, None, Access::Write)?;
        Ok(Self { reader: Reader::open(path)?, writer })
    }

    /// Returns the store for reading.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Answers the open question of a run at a node, once.
    ///
    /// The node may also be given by a former name. A node in a child is given by its path, as in
    /// [`Question::node`](crate::Question::node). The answer is checked against the schema that is stored with the
    /// question; the process that drives the run checks it against its type, too, and asks again if it does not fit
    /// ([`Question::refused`](crate::Question::refused)). If the run's flow cannot take the run any more, the answer is
    /// kept for a program that can ([`RunInfo::refused`](crate::RunInfo::refused)).
    ///
    /// # Errors
    ///
    /// If there is no such question, it is answered already, or the answer does not fit its schema.
    pub fn answer(
        &mut self,
        run: impl Into<RunId>,
        node: impl Into<NodePath>,
        answer: impl Serialize,
    ) -> Result<(), AnswerError> {
        self.give(&run.into(), &Which::At(node.into()), answer)
    }

    /// Answers this question, see [`answer`](Self::answer), so that a late answer cannot go to a later question of the
    /// same node.
    ///
    /// # Errors
    ///
    /// Those of [`answer`](Self::answer).
    pub fn answer_question(&mut self, question: &Question, answer: impl Serialize) -> Result<(), AnswerError> {
        self.give(&question.run, &Which::Question(Box::new(question.clone())), answer)
    }

    fn give(&mut self, run: &RunId, which: &Which, answer: impl Serialize) -> Result<(), AnswerError> {
        let answer = answers::to_json(run, which.node(), answer, StoreOptions::default().max_state)?;
        let check = |reader: &Reader| -> Result<_, AnswerError> {
            let renamed = reader.renamed(run)?;
            let is_node = |node: &NodePath, known: &NodePath| renamed.is_same(node, known);
            let now = Moment { clock: columns::now(), ticks: owner::ticks(&reader.db)? };
            let (found, question) = answers::find(reader, (run, which), &is_node, now)?;
            answers::check(run, which.node(), &question, &answer)?;
            Ok(found)
        };
        let found = self.reader.at_once(check)?;
        self.write(|db| -> Result<(), AnswerError> {
            let before = parked::remember(db, found.run)?;
            answers::keep(db, &found, &answer)?;
            status::set_was(db, &before)?;
            Ok(ask_driver(db, found.run, "resume")?)
        })
    }

    /// Cancels a run: at once if it is parked, and otherwise as soon as a process drives it.
    ///
    /// # Errors
    ///
    /// If there is no such run, or it is at an end.
    pub fn cancel(&mut self, run: impl Into<RunId>) -> Result<(), ChangeError> {
        let run = run.into();
        let number = self.reader.at_once(|reader| reader.own_number(&run))?;
        self.write(|db| -> Result<(), ChangeError> {
            match status(db, number)? {
                Status::Running => Ok(ask_driver(db, number, "cancel")?),
                status if status.is_final() => Err(WrongStatus { run, status, wanted: "cancelled" }.into()),
                _ => {
                    status::change(db, number, Happened::Cancelled, &Change::default())?;
                    // The driver tells the waiters and the listeners of the run.
                    Ok(ask_driver(db, number, "cancelled")?)
                }
            }
        })
    }

    /// Lets a run that failed or was cancelled go on, from the node where it stopped. If the process that drives the
    /// store finds that the flow cannot take the run, the run gets its former status back, and
    /// [`RunInfo::refused`](crate::RunInfo::refused) says why.
    ///
    /// # Errors
    ///
    /// If there is no such run, or it neither failed nor was cancelled.
    pub fn retry_failed(&mut self, run: impl Into<RunId>) -> Result<(), ChangeError> {
        let run = run.into();
        let number = self.reader.at_once(|reader| reader.own_number(&run))?;
        self.write(|db| -> Result<(), ChangeError> {
            retry::retry_beside(db, number)?;
            Ok(ask_driver(db, number, "resume")?)
        })
    }

    /// Starts another run at the point where a run was after a step, with its state as changed by `edit`. The state is
    /// edited as it is stored, since the types of the flow are not known here.
    ///
    /// # Errors
    ///
    /// If there is no such run or step, the run is at its end there, or the new id is taken.
    pub fn fork(
        &mut self,
        run: impl Into<RunId>,
        step: u64,
        new: impl Into<RunId>,
        edit: impl FnOnce(&mut Value),
    ) -> Result<(), ChangeError> {
        let limits = Limits::of(&StoreOptions::default());
        let (run, new) = (run.into(), new.into());
        let fork = self.reader.at_once(|reader| changes::fork(reader, (&run, step), new, edit, None, limits))?;
        self.write(|db| -> Result<(), ChangeError> {
            let number = begin_new(db, &fork)?;
            Ok(ask_driver(db, number, "resume")?)
        })
    }

    /// Deletes a run that is not under way, with its history.
    ///
    /// # Errors
    ///
    /// If there is no such run, or it is under way.
    pub fn delete(&mut self, run: impl Into<RunId>) -> Result<(), ChangeError> {
        let run = run.into();
        let number = self.reader.at_once(|reader| reader.own_number(&run))?;
        self.write(|db| -> Result<(), ChangeError> {
            changes::mark_deleted(db, number)?;
            Ok(ask_driver(db, number, "deleted")?)
        })?;
        Ok(self.delete_left()?)
    }

    /// Deletes runs that are at an end, and makes the file smaller.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub fn prune(&mut self, prune: &Prune) -> Result<Pruned, ChangeError> {
        let mut bounds = self.reader.at_once(|reader| prune.bounds(reader, SystemTime::now()))?;
        let before = space::size(&self.writer.db)?;
        let mut pruned = Pruned::default();
        loop {
            let runs = self.reader.at_once(|reader| prune.page(reader, &mut bounds))?;
            if runs.is_empty() {
                break;
            }
            if prune.is_dry() {
                pruned.runs += runs.len() as u64;
                continue;
            }
            pruned.runs += self.write(|db| prune.delete(db, &runs))?;
            self.delete_left()?;
        }
        if prune.is_dry() {
            return Ok(pruned);
        }
        while space::give_some_back(&self.writer.db)? {}
        space::cut_log(&self.writer.db)?;
        pruned.bytes = before.saturating_sub(space::size(&self.writer.db)?);
        Ok(pruned)
    }

    /// Deletes the remaining rows of deleted runs, each piece in its own transaction, so that the driver does not wait
    /// for long.
    fn delete_left(&mut self) -> Result<(), StoreError> {
        while self.write(deleting::piece)? {}
        Ok(())
    }

    fn write<T, E: JobError>(&mut self, write: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let Opened { db, files, .. } = &mut self.writer;
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::from)?;
        let result = write(&transaction)?;
        // The files are checked as late as possible, so that nothing is written where nobody finds it.
        files.check()?;
        transaction.commit().map_err(StoreError::from)?;
        Ok(result)
    }
}
