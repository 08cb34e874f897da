//! The other process: answers, cancels and retries from beside the one that drives the store.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use flowstone::durable::{Error, Filter, OpenError, Requests, RunInfo, Status, StoreFault};
use serde_json::Value;

use crate::{
    ledger::{Ledger, Line, Told},
    nodes::answer,
    plan::{Fate, Script, Who},
};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(15);

/// A thread that is the other process as long as this lives.
pub(crate) struct Meddler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Meddler {
    pub(crate) fn start(script: &Arc<Script>, store: &Path, ledger: Arc<Ledger>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut meddling = Meddling {
            script: Arc::clone(script),
            store: store.to_owned(),
            ledger,
            begun: Instant::now(),
            cancelled: BTreeSet::new(),
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

    /// Ends it, and says whether something was not as it should be.
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
}

impl Meddling {
    fn look(&mut self) -> Result<()> {
        let mut requests = match Requests::open(&self.store) {
            Ok(requests) => requests,
            // The driver has not made it yet, or holds it for a moment.
            Err(OpenError::File { .. } | OpenError::NotAStore { .. }) => return Ok(()),
            Err(OpenError::Store { source, .. }) if source.fault() == StoreFault::Busy => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let filter = Filter::new().status(Status::Paused).status(Status::Failed).status(Status::Cancelled).limit(1000);
        for info in requests.reader().list(&filter)? {
            passed(self.help(&mut requests, &info))?;
        }
        self.cancel(&mut requests)
    }

    fn help(&self, requests: &mut Requests, info: &RunInfo) -> Result<(), Error> {
        let id = info.id.as_str();
        let Some(plan) = self.script.plan(id.strip_suffix("-fork").unwrap_or(id)) else { return Ok(()) };
        match (info.status, plan.fate) {
            (Status::Paused, _) if plan.by == Who::Other => {
                let questions = requests.reader().questions(id)?;
                let Some(open) = questions.last().filter(|question| question.answer.is_none()) else { return Ok(()) };
                let text = open.question.as_str().unwrap_or_default();
                // Its schema allows anything; the driver, which knows its type, refuses this and asks again.
                let unfit = open.refused.is_none() && answer(&format!("unfit {text}"));
                let answer: Value = if unfit { "perhaps".into() } else { answer(text).into() };
                requests.answer(id, open.node.clone(), Some(open.step), answer)?;
                // One that does not fit is taken here, and given back by the driver.
                if !unfit {
                    drop(self.ledger.write(Line::Told(Told::Answered(open.step), id.to_owned())));
                }
                Ok(())
            }
            (Status::Failed, _) if plan.by == Who::Other => self.retry(requests, id),
            (Status::Cancelled, Fate::Cancelled { by: Who::Other, retried: true, .. }) => self.retry(requests, id),
            _ => Ok(()),
        }
    }

    fn retry(&self, requests: &mut Requests, id: &str) -> Result<(), Error> {
        // Before the request: what the run does again is of the life that begins here.
        drop(self.ledger.write(Line::Mark("retry".to_owned(), id.to_owned())));
        requests.retry_failed(id)
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

/// Passes over errors that say that somebody else was faster, or holds the store for a moment.
fn passed(result: Result<(), Error>) -> Result<()> {
    match result {
        Err(
            Error::WrongStatus { .. }
            | Error::AlreadyAnswered { .. }
            | Error::NotAsking { .. }
            | Error::UnknownRun { .. },
        ) => Ok(()),
        Err(Error::Store(error)) if error.fault() == StoreFault::Busy => Ok(()),
        result => Ok(result?),
    }
}
