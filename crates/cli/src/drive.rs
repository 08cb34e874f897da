//! `run` and `resume`: this process drives the store.
//!
//! **Invariant:** the store is closed before the process ends, however the command ended, so that what runs is stopped
//! between two commits.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, SystemTime},
};

use flowstone_core::RunId;
use flowstone_durable::{Error, Filter, RunInfo, Status, Store, StoreFault};

use crate::{
    arguments::{ResumeArguments, RunArguments},
    flows::{AnyRuns, Flows},
    input::json,
    runs::table,
    screen::Screen,
    stop::{Result, Stop, chain},
    view::{DrivenView, RunView},
    words::counted,
};

/// How many runs are read at once.
const PAGE: usize = 1000;

/// How long to wait before another look at runs whose time has come, but which were not woken yet.
const LOOK: Duration = Duration::from_millis(20);

/// What became of the runs that were driven.
#[derive(Default)]
struct Driven {
    runs: BTreeMap<RunId, RunInfo>,
    /// Those that could not go on, and why.
    refused: BTreeMap<RunId, String>,
}

pub(crate) fn run<W: Write>(arguments: &RunArguments, flows: &Flows, screen: &mut Screen<W>) -> Result<()> {
    let state = json(&arguments.state, "the state")?;
    let id = RunId::from(arguments.id.as_str());
    let driven = driving(&arguments.resume, flows, async |_, flows| {
        let flow = flows.iter().find(|flow| flow.name() == arguments.flow);
        let flow = flow.ok_or_else(|| Stop::failed(format!("there is no flow `{}`", arguments.flow)))?;
        flow.run(id.clone(), &state).await?;
        let mut driven = Driven::default();
        driven.wait_for(&**flow, id.clone(), arguments.resume.wait).await?;
        Ok(driven)
    })?;
    driven.tell(&arguments.resume, screen)
}

pub(crate) fn resume<W: Write>(arguments: &ResumeArguments, flows: &Flows, screen: &mut Screen<W>) -> Result<()> {
    let driven = driving(arguments, flows, async |store, flows| {
        // Those that are refused here are refused again below, where their ids are known.
        store.resume_all().await?;
        let mut driven = Driven::default();
        while driven.round(flows, arguments.wait).await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(driven)
    })?;
    driven.tell(arguments, screen)
}

/// Opens the store, works with the flows' runs until that is done or Ctrl-C is pressed, and closes the store.
fn driving(
    arguments: &ResumeArguments,
    flows: &Flows,
    work: impl AsyncFnOnce(&Store, &[Box<dyn AnyRuns>]) -> Result<Driven>,
) -> Result<Driven> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stop::because("the runtime cannot be started", &error))?;
    let driven = runtime.block_on(async {
        let store = Store::open(&arguments.common.store).await?;
        let work = async {
            let flows = flows.register(&store).await?;
            work(&store, &flows).await
        };
        let driven = tokio::select! {
            driven = work => driven,
            pressed = tokio::signal::ctrl_c() => Err(match pressed {
                Ok(()) => Stop::Interrupted,
                Err(error) => Stop::because("Ctrl-C cannot be waited for", &error),
            }),
        };
        // Whoever presses it again does not want to wait for what cannot be interrupted.
        tokio::select! {
            () = store.close() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        driven
    });
    runtime.shutdown_background();
    driven
}

impl Driven {
    /// Waits for every run that is open now, and returns whether there was one.
    async fn round(&mut self, flows: &[Box<dyn AnyRuns>], wait: bool) -> Result<bool> {
        let mut found = false;
        for flow in flows {
            for id in open(&**flow, wait).await? {
                if !self.refused.contains_key(&id) {
                    found = true;
                    self.wait_for(&**flow, id, wait).await?;
                }
            }
        }
        Ok(found)
    }

    async fn wait_for(&mut self, flow: &dyn AnyRuns, id: RunId, wait: bool) -> Result<()> {
        let waited = if wait { flow.finished(id.clone()).await } else { flow.settled(id.clone()).await };
        match waited {
            Ok(info) => drop(self.runs.insert(id, info)),
            // It was deleted meanwhile: nothing became of it.
            Err(Error::UnknownRun { .. }) => {}
            // Nobody here can go on without the store.
            Err(Error::Store(error)) if matches!(error.fault(), StoreFault::Closed | StoreFault::LockLost) => {
                return Err(Error::Store(error).into());
            }
            Err(error) => {
                self.runs.remove(&id);
                self.refused.insert(id, chain(&error));
            }
        }
        Ok(())
    }

    /// Prints what became of the runs; it is a failure if one of them did not get on.
    fn tell<W: Write>(self, arguments: &ResumeArguments, screen: &mut Screen<W>) -> Result<()> {
        let runs: Vec<RunInfo> = self.runs.into_values().collect();
        let refused: Vec<String> = self.refused.into_values().collect();
        if arguments.common.json {
            screen.json(&DrivenView { runs: RunView::all(&runs), refused: &refused })?;
        } else if runs.is_empty() && refused.is_empty() {
            screen.line("no runs to go on with")?;
        } else if !runs.is_empty() {
            screen.table(table(&runs))?;
        }
        let (all, lost) = ((runs.len() + refused.len()) as u64, runs.iter().filter_map(lost));
        let lost: Vec<String> = lost.chain(refused).collect();
        match lost.as_slice() {
            [] => Ok(()),
            [one] => Err(Stop::Failed(one.clone())),
            [first, ..] => {
                Err(Stop::failed(format!("{} of {} did not get on; the first: {first}", lost.len(), counted(all, "run"))))
            }
        }
    }
}

/// Why a run did not get on, if it did not.
fn lost(run: &RunInfo) -> Option<String> {
    let id = &run.id;
    match (run.status, &run.error) {
        (Status::Failed, Some(failure)) => {
            Some(format!("run `{id}` failed at node `{}`: {}", failure.node, failure.message))
        }
        (Status::Failed, None) => Some(format!("run `{id}` failed")),
        (Status::Cancelled, _) => Some(format!("run `{id}` was cancelled")),
        _ => None,
    }
}

/// The runs of a flow that are to be waited for: those that run, sleepers whose time has come, and, for who waits through
/// them, all that are parked.
async fn open(flow: &dyn AnyRuns, wait: bool) -> Result<Vec<RunId>> {
    let mut filter = Filter::new().status(Status::Running).status(Status::Sleeping).limit(PAGE);
    if wait {
        filter = filter.status(Status::Paused);
    }
    let mut open = Vec::new();
    loop {
        let page = flow.list(&filter).await?;
        let now = SystemTime::now();
        let due = |run: &RunInfo| wait || run.status == Status::Running || run.wake_at.is_some_and(|at| at <= now);
        open.extend(page.iter().filter(|run| due(run)).map(|run| run.id.clone()));
        match page.last() {
            Some(last) if page.len() == PAGE => filter = filter.after(last.cursor),
            _ => return Ok(open),
        }
    }
}
