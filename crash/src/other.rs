//! The other process: it answers, cancels and retries runs from beside the process that drives the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use flowstone::durable::{
    AnswerError, ChangeError, Error, Filter, OpenError, Question, ReadError, Requests, RunInfo, Status, StoreFault,
    WrongStatus,
};
use serde_json::Value;

use crate::{
    answers,
    clock::Clock,
    fault::came_late,
    ledger::{Ledger, Line, Told, in_memory},
    plan::{Fate, Script, Who},
};

/// The time after which it deletes runs of a flow that the driver lacks.
const SOON: Duration = Duration::from_millis(100);

/// The number of looks after which it opens the store again.
const ONE_OPEN: u64 = 8;

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(15);

/// A thread that plays the other process until this is dropped.
pub(crate) struct Meddler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Meddler {
    /// Starts the thread, beside a driver that lacks this flow.
    pub(crate) fn start(script: &Arc<Script>, store: &Path, ledger: Arc<Ledger>, lacks: Option<usize>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut meddling = Meddling {
            script: Arc::clone(script),
            store: store.to_owned(),
            ledger,
            begun: Instant::now(),
            cancelled: BTreeSet::new(),
            open: None,
            looks: 0,
            late: Vec::new(),
            lacks,
            deleting: BTreeMap::new(),
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("meddle".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                meddling.look()?;
                std::thread::sleep(LOOK);
            }
            Ok(())
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the thread, and fails if something was wrong.
    pub(crate) fn end(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(anyhow!("a request panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        drop(self.join());
    }
}

struct Meddling {
    script: Arc<Script>,
    store: PathBuf,
    ledger: Arc<Ledger>,
    begun: Instant,
    cancelled: BTreeSet<String>,
    /// The store, while it is open.
    open: Option<Requests>,
    /// The number of looks at the store so far.
    looks: u64,
    /// The questions that are answered late, after they have expired, so that the answer is refused.
    late: Vec<Question>,
    /// The flow that the driver lacks.
    lacks: Option<usize>,
    /// The runs of that flow that are to be deleted, and `true` for those that were.
    deleting: BTreeMap<String, bool>,
}

impl Meddling {
    /// Takes all actions once that are due.
    fn look(&mut self) -> Result<()> {
        let mut requests = match self.open.take() {
            Some(requests) => requests,
            None => match Requests::open(&self.store) {
                Ok(requests) => requests,
                // The driver has not made it yet, or holds it for a moment.
                Err(OpenError::File { .. } | OpenError::NotAStore { .. }) => return Ok(()),
                Err(OpenError::Store { source, .. }) if source.fault() == StoreFault::Busy => return Ok(()),
                Err(error) => return Err(error.into()),
            },
        };
        self.look_at(&mut requests)?;
        self.looks += 1;
        self.open = Some(requests).filter(|_| !self.looks.is_multiple_of(ONE_OPEN));
        Ok(())
    }

    fn look_at(&mut self, requests: &mut Requests) -> Result<()> {
        let filter = Filter::new().status(Status::Paused).status(Status::Failed).status(Status::Cancelled).limit(1000);
        for info in requests.reader().list(&filter)? {
            passed(self.help(requests, &info))?;
        }
        self.answer_late(requests)?;
        self.cancel(requests)?;
        self.delete(requests)
    }

    fn help(&mut self, requests: &mut Requests, info: &RunInfo) -> Result<(), Error> {
        let (id, script) = (info.id.as_str(), Arc::clone(&self.script));
        let Some(plan) = script.plan(id).filter(|_| !self.deleting.contains_key(id)) else { return Ok(()) };
        match (info.status, plan.fate) {
            (Status::Paused, _) if plan.by == Who::Other => {
                let mut questions = requests.reader().open_questions(id)?;
                answers::in_any_order(&mut questions);
                for open in questions {
                    if answers::is_time(&open) {
                        self.answer(requests, &open)?;
                    } else if !self.late.iter().any(|known| (&known.run, known.step) == (&open.run, open.step)) {
                        self.late.push(open);
                    }
                }
                Ok(())
            }
            (Status::Failed, Fate::Poisoned { retried: false, .. }) => Ok(()),
            (Status::Failed, _) if plan.by == Who::Other => self.retry(requests, id),
            (Status::Cancelled, Fate::Cancelled { by: Who::Other, retried: true, .. }) => self.retry(requests, id),
            _ => Ok(()),
        }
    }

    fn answer(&self, requests: &mut Requests, open: &Question) -> Result<(), Error> {
        let text = open.question.as_str().unwrap_or_default();
        // Its schema allows anything; the driver, which knows its type, refuses this and asks again.
        let unfit = open.refused.is_none() && answers::to(&format!("unfit {text}"));
        let answer: Value = if unfit { "perhaps".into() } else { answers::to(text).into() };
        let told = match requests.answer_question(open, answer) {
            // An answer that does not fit is accepted here, and refused by the driver.
            Ok(()) if unfit => return Ok(()),
            Ok(()) => Told::Answered(open.step),
            Err(AnswerError::Expired { .. }) if open.expires_at.is_some() => {
                // By the clock of the driver the question may not have expired.
                if Clock::is_set(self.script.seed) {
                    return Ok(());
                }
                Told::Late(open.step)
            }
            Err(error) => return Err(error.into()),
        };
        drop(self.ledger.write(Line::Told(told, in_memory(open.run.as_str()))));
        Ok(())
    }

    /// Answers questions that others may have answered, or that have expired, each once.
    fn answer_late(&mut self, requests: &mut Requests) -> Result<()> {
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(answers::is_over);
        self.late = late;
        for question in due {
            passed(self.answer(requests, &question))?;
        }
        Ok(())
    }

    fn retry(&self, requests: &mut Requests, id: &str) -> Result<(), Error> {
        // This comes before the request, since the deeds that the run repeats belong to the life that begins here.
        drop(self.ledger.write(Line::Mark("retry".to_owned(), id.to_owned())));
        Ok(requests.retry_failed(id)?)
    }

    fn cancel(&mut self, requests: &mut Requests) -> Result<()> {
        for plan in &self.script.plans {
            let Fate::Cancelled { after, by: Who::Other, .. } = plan.fate else { continue };
            if self.begun.elapsed() < Duration::from_millis(after) || !self.cancelled.insert(plan.id.clone()) {
                continue;
            }
            passed(requests.cancel(plan.id.as_str()))?;
        }
        Ok(())
    }
}

impl Meddling {
    /// Deletes runs of the flow that the driver lacks, after cancelling those for which that is needed.
    fn delete(&mut self, requests: &mut Requests) -> Result<()> {
        if self.begun.elapsed() < SOON {
            return Ok(());
        }
        for plan in self.script.plans.iter().filter(|plan| Some(plan.flow) == self.lacks && plan.by == Who::Other) {
            if plan.fate != Fate::Deleted || self.deleting.get(&plan.id).is_some_and(|deleted| *deleted) {
                continue;
            }
            if !self.deleting.contains_key(&plan.id) {
                // The mark comes first, since a deleted run is never started again.
                drop(self.ledger.write(Line::Mark("delete".to_owned(), plan.id.clone())));
            }
            let deleted = match requests.delete(plan.id.as_str()) {
                Ok(()) | Err(ChangeError::Read(ReadError::UnknownRun { .. })) => true,
                Err(ChangeError::WrongStatus(WrongStatus { status: Status::Running, .. })) => {
                    passed(requests.cancel(plan.id.as_str()))?;
                    false
                }
                result => {
                    passed(result)?;
                    false
                }
            };
            self.deleting.insert(plan.id.clone(), deleted);
            if deleted {
                drop(self.ledger.write(Line::Told(Told::Gone, plan.id.clone())));
            }
        }
        Ok(())
    }
}

/// Ignores errors that say that somebody else was faster, or holds the store for a moment.
fn passed(result: Result<(), impl Into<Error>>) -> Result<()> {
    match result.map_err(Into::into) {
        Err(error) if came_late(&error) || error.fault() == Some(StoreFault::Busy) => Ok(()),
        Err(
            Error::Read(ReadError::UnknownRun { .. })
            | Error::Change(ChangeError::Read(ReadError::UnknownRun { .. }))
            | Error::Answer(AnswerError::Read(ReadError::UnknownRun { .. })),
        ) => Ok(()),
        result => Ok(result?),
    }
}
