//! What a driver does to the runs of a seed: it starts them, answers, cancels, retries, forks, deletes and prunes, as their
//! plans say, until all have come to their ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use flowstone::durable::{Error, FlowOptions, OpenError, Prune, Run, Runs, Status, Store};
use tokio::task::JoinSet;

use crate::{
    flows::{build, name, renames},
    ledger::{self, Line, Told},
    nodes::{Job, World, answer},
    plan::{Fate, Plan, Script, Who, fork_of},
    version::{Names, Version},
};

/// How often to look at a run that somebody else is to do something to.
const LOOK: Duration = Duration::from_millis(20);

/// How long to wait for a run before looking whether another was stopped by a fault.
const LONG: Duration = Duration::from_millis(300);

/// Why it does not come to its end.
pub(crate) enum Fault {
    Open(OpenError),
    Run(Error),
    /// What must not happen.
    Odd(String),
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}

/// Drives everything in a store that was just opened to its end, from wherever earlier drivers left it; `before` is what
/// they wrote down.
pub(crate) async fn drive(
    store: &Store,
    script: &Script,
    (world, version): (&Arc<World>, Version),
    before: &[Line],
) -> Result<(), Fault> {
    let (mut runs, names) = (BTreeMap::new(), Names::new(version));
    for (flow, stages) in script.flows.iter().enumerate().filter(|(flow, _)| version.lacks != Some(*flow)) {
        let built = build(&name(flow), stages, world, &names).map_err(|error| Fault::Odd(error.to_string()))?;
        runs.insert(flow, store.runs_with(built, renames(FlowOptions::new(), stages, &names)).await?);
    }
    let marks = before.iter().filter_map(|line| match line {
        Line::Mark(what, run) => Some((what.clone(), run.clone())),
        Line::Deed(_) | Line::Told(..) => None,
    });
    let (world, marks) = (Arc::clone(world), marks.collect());
    let operator = Arc::new(Operator { runs, world, marks, faulty: AtomicBool::new(false) });
    for (_, run) in operator.marks.iter().filter(|(what, _)| what == "retry") {
        operator.world.mend(run);
    }
    if let Some(refused) = store.resume_all().await?.refused.into_iter().next() {
        return Err(refused.into());
    }
    operator.operate_all(script).await?;
    operator.prune(store, script).await
}

/// Does to the runs what their plans say.
struct Operator {
    /// By the number of the flow, without the one that this version lacks.
    runs: BTreeMap<usize, Runs<Job>>,
    world: Arc<World>,
    /// What earlier processes were about to do.
    marks: BTreeSet<(String, String)>,
    /// Whether some run was stopped by a fault; then nobody waits any more.
    faulty: AtomicBool,
}

impl Operator {
    async fn operate_all(self: &Arc<Self>, script: &Script) -> Result<(), Fault> {
        let mut tasks = JoinSet::new();
        for plan in script.plans.iter().filter(|plan| self.runs.contains_key(&plan.flow)) {
            let (operator, plan) = (Arc::clone(self), plan.clone());
            tasks.spawn(async move {
                let result = operator.operate(&plan).await;
                if result.is_err() {
                    operator.faulty.store(true, Ordering::Relaxed);
                }
                result
            });
        }
        let mut first = Ok(());
        while let Some(result) = tasks.join_next().await {
            let result = result.unwrap_or_else(|error| Err(Fault::Odd(error.to_string())));
            first = first.and(result);
        }
        first
    }

    async fn prune(&self, store: &Store, script: &Script) -> Result<(), Fault> {
        let pruned = || script.plans.iter().filter(|plan| plan.fate == Fate::Pruned);
        pruned().for_each(|plan| self.mark("prune", &plan.id));
        store.prune(&Prune::new().flow(name(script.flows.len() - 1)).keep(0)).await?;
        pruned().for_each(|plan| self.told(Told::Gone, &plan.id));
        Ok(())
    }

    fn marked(&self, what: &str, run: &str) -> bool {
        self.marks.contains(&(what.to_owned(), run.to_owned()))
    }

    fn mark(&self, what: &str, run: &str) {
        self.write(Line::Mark(what.to_owned(), run.to_owned()));
    }

    fn told(&self, what: Told, run: &str) {
        self.write(Line::Told(what, run.to_owned()));
    }

    fn write(&self, line: Line) {
        if let Err(error) = self.world.ledger.write(line) {
            crate::child::give_up(&format!("{}: {error}", ledger::FULL));
        }
    }

    async fn operate(&self, plan: &Plan) -> Result<(), Fault> {
        let runs = &self.runs[&plan.flow];
        if self.marked("prune", &plan.id) {
            return Ok(());
        }
        if self.marked("delete", &plan.id) {
            return self.delete(plan).await;
        }
        let run = runs.start(plan.id.clone(), plan.job.clone()).await?;
        self.told(Told::Started, &plan.id);
        if !self.conduct(plan, &run).await? {
            return Ok(());
        }
        match plan.fate {
            Fate::Deleted => {
                self.mark("delete", &plan.id);
                self.delete(plan).await
            }
            Fate::Forked(step) => self.fork(plan, step).await,
            _ => Ok(()),
        }
    }

    async fn delete(&self, plan: &Plan) -> Result<(), Fault> {
        match self.runs[&plan.flow].delete(plan.id.clone()).await {
            Ok(()) | Err(Error::UnknownRun { .. }) => self.told(Told::Gone, &plan.id),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn fork(&self, plan: &Plan, step: u64) -> Result<(), Fault> {
        let (runs, id) = (&self.runs[&plan.flow], fork_of(&plan.id));
        let who = id.clone();
        // A fork counts its visits anew, so it counts its questions anew.
        let edit = move |state: &mut serde_json::Value| {
            state["who"] = who.into();
            state["asked"] = 0.into();
        };
        let run = match runs.fork(plan.id.clone(), step, id.clone(), edit).await {
            Ok(run) => run,
            Err(Error::Taken { .. }) => runs.get(id).await?,
            Err(Error::AtEnd { .. } | Error::UnknownStep { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.told(Told::Started, run.id().as_str());
        let plan = Plan { fate: Fate::Ends, ..plan.clone() };
        self.conduct(&plan, &run).await.map(drop)
    }

    /// Brings a run to where its plan wants it; returns whether it has ended.
    async fn conduct(&self, plan: &Plan, run: &Run<Job>) -> Result<bool, Fault> {
        let mut cancel_at = match plan.fate {
            Fate::Cancelled { after, by: Who::Driver, .. } if !self.marked("cancel", &plan.id) => {
                Some(Instant::now() + Duration::from_millis(after))
            }
            _ => None,
        };
        loop {
            if self.faulty.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if cancel_at.is_some_and(|at| at <= Instant::now()) {
                cancel_at = None;
                self.mark("cancel", &plan.id);
                self.did(Told::Cancelled, &plan.id, run.cancel().await)?;
            }
            let wait = cancel_at.map_or(LONG, |at| at.saturating_duration_since(Instant::now()).min(LONG));
            match tokio::time::timeout(wait, run.settled()).await {
                Ok(status) => match status? {
                    Status::Ended => {
                        self.told(Told::Ended, run.id().as_str());
                        return Ok(true);
                    }
                    Status::Cancelled if matches!(plan.fate, Fate::Cancelled { retried: false, .. }) => {
                        return Ok(false);
                    }
                    status => self.help(plan, run, status).await?,
                },
                Err(_) => continue,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Does what a run needs to go on.
    async fn help(&self, plan: &Plan, run: &Run<Job>, status: Status) -> Result<(), Fault> {
        let id = run.id().as_str();
        match (status, plan.fate) {
            (Status::Failed, _) => {
                self.world.mend(id);
                if plan.by == Who::Driver {
                    self.mark("retry", id);
                    self.did(Told::Retried, id, run.retry_failed().await)?;
                }
            }
            (Status::Cancelled, Fate::Cancelled { by: Who::Driver, .. }) => {
                self.mark("retry", id);
                self.did(Told::Uncancelled, id, run.retry_failed().await)?;
            }
            (Status::Cancelled, Fate::Cancelled { .. }) => {}
            (Status::Cancelled, _) => {
                return Err(Fault::Odd(format!("run {id} was cancelled, and nobody asked for it")));
            }
            (Status::Paused, _) if plan.by == Who::Driver => {
                let questions = run.questions().await?;
                let Some(open) = questions.last().filter(|question| question.answer.is_none()) else { return Ok(()) };
                let text = open.question.as_str().unwrap_or_default();
                self.did(Told::Answered(open.step), id, run.answer_question(open, answer(text)).await)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes down that something was done; passes over errors that say that somebody else was faster.
    fn did(&self, what: Told, run: &str, result: Result<(), Error>) -> Result<(), Fault> {
        match result {
            Ok(()) => self.told(what, run),
            Err(Error::WrongStatus { .. } | Error::AlreadyAnswered { .. } | Error::NotAsking { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl Fault {
    pub(crate) fn line(&self) -> String {
        let (kind, text) = match self {
            Self::Open(OpenError::Store { source, .. }) => (format!("{:?}", source.fault()), format!("{self:#?}")),
            Self::Open(error) => ("open".to_owned(), format!("{error:?}")),
            Self::Run(Error::Store(error)) => (format!("{:?}", error.fault()), format!("{error:?}")),
            Self::Run(error) => ("run".to_owned(), format!("{error:?}")),
            Self::Odd(text) => ("odd".to_owned(), text.clone()),
        };
        format!("fault {} {}", kind.to_lowercase(), text.replace('\n', " "))
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Run(error) => error.fmt(f),
            Self::Odd(text) => text.fmt(f),
        }
    }
}
