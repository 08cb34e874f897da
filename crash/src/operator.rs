//! The operator of the runs of a seed: it starts, answers, cancels, retries, forks, deletes and prunes them as planned,
//! until all are at their ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use flowstone::durable::{
    AnswerError, ChangeError, DriveError, Error, Finished, FlowOptions, Prune, Question, ReadError, Run, RunFailure,
    Runs, StartError, Status, Store, StoreOptions, WrongStatus,
};
use tokio::task::JoinSet;

use crate::{
    answers,
    clock::Clock,
    fault::{Fault, came_late},
    flows::{KEEP_WAITS, build, name, renames},
    ledger::{self, Line, Told, in_memory},
    nodes::{Job, World},
    plan::{Fate, Plan, Script, Who, fork_of},
    version::{Names, Version},
};

mod missing;

/// The time between two looks at a run that waits for somebody else.
const LOOK: Duration = Duration::from_millis(20);

/// The longest time between two such looks.
const SELDOM: Duration = Duration::from_millis(80);

/// The longest wait for a run before the operator checks if a fault has stopped another one.
const LONG: Duration = Duration::from_millis(300);

/// Returns the options with which a life of a seed opens its store.
pub(crate) fn options(script: &Script, life: usize) -> StoreOptions {
    let (clock, version) = (Clock::of(script.seed, life), script.version(life));
    let options = StoreOptions::new().keep_waits(KEEP_WAITS).durability(script.durability).clock(move || clock.now());
    match version.limits.store {
        Some(most) => options.concurrency(most),
        None => options,
    }
}

/// Drives all runs in a store that was just opened to their ends. `before` holds the lines of earlier drivers.
pub(crate) async fn drive(
    store: &Store,
    script: &Script,
    (world, version): (&Arc<World>, Version),
    before: &[Line],
) -> Result<(), Fault> {
    let marks = before.iter().filter_map(|line| match line {
        Line::Mark(what, run) => Some((what.clone(), run.clone())),
        Line::Deed(_) | Line::Told(..) => None,
    });
    let marks: BTreeSet<_> = marks.collect();
    // This comes before any run goes on, as some do as soon as their flows are registered.
    marks.iter().filter(|(what, _)| what == "retry").for_each(|(_, run)| world.mend(run));
    let (mut runs, names) = (BTreeMap::new(), Names::new(version));
    for (flow, stages) in script.flows.iter().enumerate().filter(|(flow, _)| version.lacks != Some(*flow)) {
        let name = name(flow);
        let built =
            build(&version.flow(&name), stages, world, &names).map_err(|error| Fault::Odd(error.to_string()))?;
        let options = renames(flow_options(script, flow, version), stages, &names);
        let options = version.flow_before(&name).into_iter().fold(options, FlowOptions::renamed_from);
        runs.insert(flow, store.runs_with(built, options).await?);
    }
    let world = Arc::clone(world);
    let is_right = !Clock::is_set(script.seed);
    let operator = Arc::new(Operator { runs, world, marks, is_right, faulty: AtomicBool::new(false) });
    let refused = store.resume_all().await?.refused.into_iter();
    if let Some(refused) = refused.into_iter().find(|error| !matches!(error, DriveError::KillsItsProcess { .. })) {
        return Err(refused.into());
    }
    let missing = script.plans.iter().filter(|plan| version.lacks == Some(plan.flow));
    tokio::try_join!(operator.operate_all(script), operator.of_missing_flow(store, missing))?;
    operator.prune(script).await
}

/// Returns the options of a flow, without its names.
fn flow_options(script: &Script, flow: usize, version: Version) -> FlowOptions {
    let options = FlowOptions::new();
    // One flow has another limit than the default.
    let options = if flow + 2 == script.flows.len() { options.max_resumes(script.max_resumes(flow)) } else { options };
    match version.limits.flow {
        Some((limited, most)) if limited == flow => options.concurrency(most),
        _ => options,
    }
}

/// The operator of all runs.
struct Operator {
    /// The runs by the number of their flow, without the flow that this version lacks.
    runs: BTreeMap<usize, Runs<Job>>,
    world: Arc<World>,
    /// The marks of actions that earlier processes were about to take.
    marks: BTreeSet<(String, String)>,
    /// `true` if the store's clock is that of the system, and stays so.
    is_right: bool,
    /// `true` if some run was stopped by a fault; then nobody waits any more.
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

    async fn prune(&self, script: &Script) -> Result<(), Fault> {
        let pruned = || script.plans.iter().filter(|plan| plan.fate == Fate::Pruned);
        pruned().for_each(|plan| self.mark("prune", &plan.id));
        self.runs[&(script.flows.len() - 1)].prune(&Prune::new().keep(0)).await?;
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
        let runs = &self.runs[&plan.flow];
        loop {
            match runs.delete(plan.id.clone()).await {
                Ok(()) | Err(ChangeError::Read(ReadError::UnknownRun { .. })) => break self.told(Told::Gone, &plan.id),
                // An earlier process, which lacked its flow, was about to cancel it first.
                Err(ChangeError::WrongStatus(WrongStatus { status: Status::Running, .. })) => {}
                Err(error) => return Err(error.into()),
            }
            match runs.cancel(plan.id.clone()).await {
                Ok(()) | Err(ChangeError::WrongStatus(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn fork(&self, plan: &Plan, step: u64) -> Result<(), Fault> {
        let (runs, id) = (&self.runs[&plan.flow], fork_of(&plan.id));
        let who = id.clone();
        // A fork counts its visits anew, so it counts its questions anew.
        let edit = move |state: &mut serde_json::Value| {
            state["who"] = who.into();
            state["answers"] = serde_json::Value::Array(Vec::new());
        };
        let run = match runs.fork(plan.id.clone(), step, id.clone(), edit).await {
            Ok(run) => run,
            Err(ChangeError::Start(StartError::Taken { .. })) => runs.get(id).await?,
            Err(ChangeError::AtEnd { .. } | ChangeError::Read(ReadError::UnknownStep { .. })) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.told(Told::Started, run.id().as_str());
        let plan = Plan { fate: Fate::Ends, ..plan.clone() };
        self.conduct(&plan, &run).await.map(drop)
    }

    /// Brings a run to the point that is planned for it; returns `true` if it has ended.
    async fn conduct(&self, plan: &Plan, run: &Run<Job>) -> Result<bool, Fault> {
        let mut cancel_at = match plan.fate {
            Fate::Cancelled { after, by: Who::Driver, .. } if !self.marked("cancel", &plan.id) => {
                Some(Instant::now() + Duration::from_millis(after))
            }
            _ => None,
        };
        let (mut look, mut before) = (LOOK, Status::Running);
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
            let status = tokio::time::timeout(wait, run.settled()).await.unwrap_or(Ok(Status::Running))?;
            match status {
                Status::Ended => {
                    self.told(Told::Ended, run.id().as_str());
                    self.answer_late(run).await?;
                    return Ok(true);
                }
                Status::Failed if self.has_died_for_good(plan, run).await? => return Ok(false),
                Status::Cancelled if matches!(plan.fate, Fate::Cancelled { retried: false, .. }) => return Ok(false),
                // A process that lacked its flow cancelled it, and died before it deleted it.
                Status::Cancelled if plan.fate == Fate::Deleted => return Ok(true),
                // Children ask while their siblings work.
                Status::Running if plan.by == Who::Driver => self.answer(run).await?,
                Status::Running => {}
                status => self.help(plan, run, status).await?,
            }
            // A run that sleeps, or waits for another process, is looked at ever less often.
            let is_ours = status == Status::Paused && plan.by == Who::Driver;
            look = if status != before || is_ours { LOOK } else { (look * 2).min(SELDOM) };
            before = status;
            if status != Status::Running {
                tokio::time::sleep(look).await;
            }
        }
    }

    /// Takes the action that a run needs to go on.
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
            (Status::Paused, _) if plan.by == Who::Driver => self.answer(run).await?,
            _ => {}
        }
        Ok(())
    }

    /// Answers the open questions of a run and of its children whose time for an answer has come.
    async fn answer(&self, run: &Run<Job>) -> Result<(), Fault> {
        let mut questions = run.questions().await?;
        questions.retain(|question| question.is_open() && answers::is_time(question));
        answers::in_any_order(&mut questions);
        for open in questions {
            let answer = answers::to(open.question.as_str().unwrap_or_default());
            let result = run.answer_question(&open, answer).await;
            self.answered(&open, result)?;
        }
        Ok(())
    }

    /// Writes down the result of an answer.
    fn answered(&self, question: &Question, result: Result<(), AnswerError>) -> Result<(), Fault> {
        let of = in_memory(question.run.as_str());
        match result {
            Err(AnswerError::Expired { .. }) if question.expires_at.is_none() => {
                Err(Fault::Odd(format!("question {} of {of} never expires, and has", question.step)))
            }
            // By a clock that is set back, the question may not have expired.
            Err(AnswerError::Expired { .. }) if self.is_right => {
                self.did(Told::Late(question.step), &of, Ok::<_, Error>(()))
            }
            Err(AnswerError::Expired { .. }) => Ok(()),
            result => self.did(Told::Answered(question.step), &of, result),
        }
    }

    /// Answers expired questions, which must be refused.
    async fn answer_late(&self, run: &Run<Job>) -> Result<(), Fault> {
        let questions = run.questions().await?;
        for question in questions.iter().filter(|question| question.expired_at.is_some()) {
            let answer = answers::to(question.question.as_str().unwrap_or_default());
            match run.answer_question(question, answer).await {
                result @ Err(AnswerError::Expired { .. }) => self.answered(question, result)?,
                // The visit that the child belonged to is over.
                Err(AnswerError::NotAsking { .. }) if question.run != *run.id() => {}
                other => return Err(Fault::Odd(format!("{question:?} has expired, and an answer to it is {other:?}"))),
            }
        }
        Ok(())
    }

    /// Returns `true` if a run has failed because its process died too often, and is planned to stay so.
    async fn has_died_for_good(&self, plan: &Plan, run: &Run<Job>) -> Result<bool, Fault> {
        let Fate::Poisoned { retried, .. } = plan.fate else { return Ok(false) };
        match run.finished().await {
            Ok(Finished::Failed(RunFailure { deaths: Some(_), .. })) if retried && plan.by == Who::Other => Ok(false),
            Ok(Finished::Failed(RunFailure { deaths: Some(_), .. })) => {
                self.told(Told::Failed, &plan.id);
                Ok(!retried)
            }
            // Somebody beside may have retried it in the meantime.
            other if plan.by == Who::Other => {
                Ok(matches!(other, Ok(Finished::Failed(RunFailure { deaths: Some(_), .. }))))
            }
            other => Err(Fault::Odd(format!("run {} kills its process, and has come to {other:?}", plan.id))),
        }
    }

    /// Writes down that an action was done; ignores errors that say that somebody else was faster.
    fn did(&self, what: Told, run: &str, result: Result<(), impl Into<Error>>) -> Result<(), Fault> {
        match result.map_err(Into::into) {
            Ok(()) => self.told(what, run),
            Err(error) if came_late(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
