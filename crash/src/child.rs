//! The process that is killed: it drives the runs of a seed, from wherever an earlier one left them, to their ends.
//!
//! It tells the process that started it, by lines on its standard output: `open`, `seen JOB WHEN`, `at JOB WHEN` (and stops
//! there), `fault KIND TEXT`, `panic TEXT`, `done`.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use flowstone::durable::{Error, OpenError, Prune, Run, Runs, Status, Store, StoreOptions, WriteMoment, WritePoint};
use tokio::task::JoinSet;

use crate::{
    flows::{KEEP_WAITS, build, name},
    ledger::{self, Ledger, Line},
    nodes::{Job, World, answer},
    plan::{Fate, JOBS, MOMENTS, Plan, Point, Script, Who, fork_of},
};

/// How often to look at a run that somebody else is to do something to.
const LOOK: Duration = Duration::from_millis(20);

/// How long to wait for a run before looking whether another was stopped by a fault.
const LONG: Duration = Duration::from_millis(300);

/// What the process is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) store: PathBuf,
    pub(crate) ledger: PathBuf,
    pub(crate) seed: u64,
    pub(crate) stop: Option<Point>,
}

/// Why it does not come to its end.
enum Fault {
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

/// Drives everything to its end, unless it is stopped or killed.
pub(crate) fn main(start: Start) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        say(&format!("panic {}", panic.to_string().replace('\n', " ")));
        std::process::exit(101);
    }));
    end_with_parent();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => give_up(&error.to_string()),
    };
    match runtime.block_on(live(start)) {
        Ok(()) => {
            say("done");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            say(&fault.line());
            ExitCode::from(3)
        }
    }
}

/// Ends the process for something that has nothing to do with the store.
pub(crate) fn give_up(why: &str) -> ! {
    say(&format!("fault odd {why}"));
    std::process::exit(4)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listened may have gone; then this process ends, too.
    drop(out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()));
}

/// Ends this process when the one that started it ends, however that came: nobody would kill it.
fn end_with_parent() {
    std::thread::spawn(|| {
        drop(std::io::stdin().read(&mut [0]));
        std::process::exit(5);
    });
}

async fn live(start: Start) -> Result<(), Fault> {
    let script = Script::of(start.seed);
    let marks = ledger::read(&start.ledger).map_err(|error| Fault::Odd(error.to_string()))?;
    let ledger = Ledger::open(&start.ledger).map_err(|error| Fault::Odd(error.to_string()))?;
    let world = Arc::new(World { ledger, mended: Mutex::default(), ideal: false });
    let options = StoreOptions::new().keep_waits(KEEP_WAITS).durability(script.durability);
    let store = options.on_write(watch(start.stop)).open(&start.store).await?;
    say("open");

    let mut runs = Vec::new();
    for (flow, stages) in script.flows.iter().enumerate() {
        let flow = build(&name(flow), stages, &world).map_err(|error| Fault::Odd(error.to_string()))?;
        runs.push(store.runs(flow).await?);
    }
    let marks = marks.into_iter().filter_map(|line| match line {
        Line::Mark(what, run) => Some((what, run)),
        Line::Deed(_) => None,
    });
    let operator = Arc::new(Operator { runs, world, marks: marks.collect(), faulty: AtomicBool::new(false) });
    for (_, run) in operator.marks.iter().filter(|(what, _)| what == "retry") {
        operator.world.mend(run);
    }
    if let Some(refused) = store.resume_all().await?.refused.into_iter().next() {
        return Err(refused.into());
    }
    operate_all(&operator, &script).await?;
    prune(&operator, &store, &script).await?;
    store.close().await;
    Ok(())
}

/// What is called at each write point: tells the first of each kind, and stops at the one to be killed at.
fn watch(stop: Option<Point>) -> impl Fn(WritePoint) + Send + Sync + 'static {
    let (seen, left) = (Mutex::new(BTreeSet::new()), AtomicU64::new(stop.as_ref().map_or(0, |stop| stop.nth)));
    move |WritePoint { job, when }| {
        let when = moment(when);
        if seen.lock().unwrap_or_else(PoisonError::into_inner).insert((job, when)) {
            say(&format!("seen {job} {when}"));
        }
        let Some(stop) = &stop else { return };
        if (stop.job, stop.when) != (job, when) || left.fetch_sub(1, Ordering::Relaxed) != 0 {
            return;
        }
        say(&format!("at {job} {when}"));
        loop {
            std::thread::park();
        }
    }
}

fn moment(when: WriteMoment) -> &'static str {
    MOMENTS.iter().find(|(moment, _)| *moment == when).map_or("unknown", |(_, name)| name)
}

/// Finds the constant of a job's and a moment's name.
pub(crate) fn point(job: &str, when: &str, nth: u64) -> Option<Point> {
    let job = JOBS.into_iter().find(|known| *known == job)?;
    let (_, when) = MOMENTS.into_iter().find(|(_, known)| *known == when)?;
    Some(Point { job, when, nth })
}

/// Who does to the runs what their plans say.
struct Operator {
    runs: Vec<Runs<Job>>,
    world: Arc<World>,
    /// What earlier processes were about to do.
    marks: BTreeSet<(String, String)>,
    /// Whether some run was stopped by a fault; then nobody waits any more.
    faulty: AtomicBool,
}

async fn operate_all(operator: &Arc<Operator>, script: &Script) -> Result<(), Fault> {
    let mut tasks = JoinSet::new();
    for plan in script.plans.clone() {
        let operator = Arc::clone(operator);
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

async fn prune(operator: &Operator, store: &Store, script: &Script) -> Result<(), Fault> {
    for plan in script.plans.iter().filter(|plan| plan.fate == Fate::Pruned) {
        operator.mark("prune", &plan.id);
    }
    store.prune(&Prune::new().flow(name(script.flows.len() - 1)).keep(0)).await?;
    Ok(())
}

impl Operator {
    fn marked(&self, what: &str, run: &str) -> bool {
        self.marks.contains(&(what.to_owned(), run.to_owned()))
    }

    fn mark(&self, what: &str, run: &str) {
        if let Err(error) = self.world.ledger.mark(what, run) {
            give_up(&format!("{}: {error}", ledger::FULL));
        }
    }

    async fn operate(&self, plan: &Plan) -> Result<(), Fault> {
        let runs = &self.runs[plan.flow];
        if self.marked("prune", &plan.id) {
            return Ok(());
        }
        if self.marked("delete", &plan.id) {
            return gone(runs.delete(plan.id.clone()).await);
        }
        let run = runs.start(plan.id.clone(), plan.job.clone()).await?;
        if !self.conduct(plan, &run).await? {
            return Ok(());
        }
        match plan.fate {
            Fate::Deleted => {
                self.mark("delete", &plan.id);
                gone(runs.delete(plan.id.clone()).await)
            }
            Fate::Forked(step) => self.fork(plan, step).await,
            _ => Ok(()),
        }
    }

    async fn fork(&self, plan: &Plan, step: u64) -> Result<(), Fault> {
        let (runs, id) = (&self.runs[plan.flow], fork_of(&plan.id));
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
                allowed(run.cancel().await)?;
            }
            let wait = cancel_at.map_or(LONG, |at| at.saturating_duration_since(Instant::now()).min(LONG));
            match tokio::time::timeout(wait, run.settled()).await {
                Ok(status) => match status? {
                    Status::Ended => return Ok(true),
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
                    allowed(run.retry_failed().await)?;
                }
            }
            (Status::Cancelled, Fate::Cancelled { by: Who::Driver, .. }) => {
                self.mark("retry", id);
                allowed(run.retry_failed().await)?;
            }
            (Status::Cancelled, Fate::Cancelled { .. }) => {}
            (Status::Cancelled, _) => {
                return Err(Fault::Odd(format!("run {id} was cancelled, and nobody asked for it")));
            }
            (Status::Paused, _) if plan.by == Who::Driver => {
                let questions = run.questions().await?;
                let Some(open) = questions.last().filter(|question| question.answer.is_none()) else { return Ok(()) };
                let text = open.question.as_str().unwrap_or_default();
                allowed(run.answer_question(open, answer(text)).await)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Passes over errors that say that somebody else was faster.
fn allowed(result: Result<(), Error>) -> Result<(), Fault> {
    match result {
        Err(Error::WrongStatus { .. } | Error::AlreadyAnswered { .. } | Error::NotAsking { .. }) => Ok(()),
        result => Ok(result?),
    }
}

fn gone(deleted: Result<(), Error>) -> Result<(), Fault> {
    match deleted {
        Err(Error::UnknownRun { .. }) => Ok(()),
        result => Ok(result?),
    }
}

impl Fault {
    fn line(&self) -> String {
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
