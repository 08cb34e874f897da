//! `run` and `resume`: this process drives the store.
//!
//! **Invariant:** the store is closed before the process ends, however the command ended, so that what runs is stopped
//! between two commits.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use flowstone_core::RunId;
use flowstone_durable::{
    DriveError, Error, Filter, ReadError, Reader, Resumed, RunInfo, Status, Store, StoreFault, Unregistered,
};

use crate::{
    arguments::{ResumeArguments, RunArguments},
    flows::{AnyRuns, Flows},
    input::json,
    progress::Progress,
    runs::{question, table},
    screen::Screen,
    stop::{Result, Signals, Stop, chain},
    view::{DrivenView, RunView},
    words::counted,
};

/// The number of runs that are read at once.
const PAGE: usize = 1000;

/// The most runs that are shown with their questions, and the most questions of each.
const ASKING: usize = 5;

/// The time before another look at runs whose time has come, but which were not woken yet.
const LOOK: Duration = Duration::from_millis(20);

/// The runs that were driven, as they are now.
#[derive(Default)]
struct Driven {
    runs: BTreeMap<RunId, RunInfo>,
    /// Those that could not go on, and why.
    refused: BTreeMap<RunId, String>,
    /// Flows that this program has not.
    unregistered: Vec<Unregistered>,
}

pub(crate) fn run<W: Write>(
    arguments: &RunArguments,
    flows: &Flows,
    program: &str,
    screen: &mut Screen<W>,
) -> Result<()> {
    let state = json(&arguments.state, "the state")?;
    let id = RunId::from(arguments.id.as_str());
    let driven = driving(&arguments.resume, program, async |store, _, progress| {
        let runs = flows.register(store, progress).await?;
        let flow = runs.iter().find(|runs| runs.name() == arguments.flow);
        let flow = flow.ok_or_else(|| Stop::failed(format!("there is no flow `{}`", arguments.flow)))?;
        flow.run(id.clone(), &state).await?;
        let mut driven = Driven::default();
        driven.wait_for(&**flow, id.clone(), arguments.resume.wait).await?;
        Ok(driven)
    })?;
    driven.tell(&arguments.resume, program, screen)
}

pub(crate) fn resume<W: Write>(
    arguments: &ResumeArguments,
    flows: &Flows,
    program: &str,
    screen: &mut Screen<W>,
) -> Result<()> {
    let wait = arguments.wait;
    let driven = driving(arguments, program, async |store, reader, progress| {
        // Nothing is driven before its flow is known, so none can end before it is counted.
        let names = flows.stored_names();
        let mut open = open(reader, &names, wait)?;
        let runs = flows.register(store, progress).await?;
        let mut driven = Driven::default();
        // Those that run and are refused here are refused again below, where their ids are known.
        match store.resume_all().await {
            Ok(resumed) => driven.look_at_parked(reader, &names, resumed)?,
            // One damaged run does not keep the others: each is begun by itself.
            Err(error) if Error::from(error.clone()).fault() == Some(StoreFault::Corrupt) => {
                for (flow, id) in &open {
                    runs[*flow].resume(id.clone()).await?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        open.retain(|(_, id)| !driven.refused.contains_key(id));
        while !open.is_empty() {
            for (flow, id) in open {
                driven.wait_for(&*runs[flow], id, wait).await?;
            }
            tokio::time::sleep(LOOK).await;
            open = self::open(reader, &names, wait)?;
            open.retain(|(_, id)| !driven.refused.contains_key(id));
        }
        Ok(driven)
    })?;
    driven.tell(arguments, program, screen)
}

/// Opens the store, works on its runs until that is done or a signal asks for the end, and closes the store.
fn driving(
    arguments: &ResumeArguments,
    program: &str,
    work: impl AsyncFnOnce(&Store, &Reader, &Arc<Progress>) -> Result<Driven>,
) -> Result<Driven> {
    let progress = Arc::new(Progress::new(arguments)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stop::because("the runtime cannot be started", &error))?;
    let driven = runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| Stop::because("signals cannot be waited for", &error))?;
        let store = Store::open(&arguments.common.store).await?;
        let work = async {
            let reader = Reader::open(&arguments.common.store)?;
            work(&store, &reader, &progress).await
        };
        let driven = tokio::select! {
            driven = work => driven,
            told = progress.tell(arguments, program) => told.map(|()| Driven::default()),
            signal = signals.next() => Err(Stop::Signalled(signal)),
        };
        // A second signal means: do not wait for work that cannot be interrupted.
        tokio::select! {
            () = store.close() => {}
            _ = signals.next() => {}
        }
        driven
    });
    runtime.shutdown_background();
    let ended = progress.end();
    driven.and_then(|driven| ended.map(|()| driven))
}

impl Driven {
    /// Takes over the questions of runs that wait, so that they are told before somebody answers.
    fn look_at_parked(&mut self, reader: &Reader, names: &[(usize, String)], resumed: Resumed) -> Result<()> {
        self.unregistered = resumed.unregistered;
        if resumed.refused.is_empty() {
            return Ok(());
        }
        for (_, flow) in names {
            let filter = Filter::new().flow(flow.clone()).status(Status::Paused).status(Status::Sleeping);
            pages(reader, filter, |run| {
                if let Some(why) = &run.refused {
                    self.refuse(run.id.clone(), why.clone());
                }
            })?;
        }
        Ok(())
    }

    fn refuse(&mut self, id: RunId, why: String) {
        let name = format!("run `{id}`");
        let why = if why.contains(&name) { why } else { format!("{name}: {why}") };
        self.refused.insert(id, why);
    }

    async fn wait_for(&mut self, flow: &dyn AnyRuns, id: RunId, wait: bool) -> Result<()> {
        let waited = if wait { flow.finished(id.clone()).await } else { flow.settled(id.clone()).await };
        match waited {
            Ok(info) => drop(self.runs.insert(id, info)),
            // It was deleted meanwhile: nothing became of it.
            Err(DriveError::Read(ReadError::UnknownRun { .. })) => {}
            // Nobody here can go on without the store.
            Err(DriveError::Read(ReadError::Store(error)))
                if matches!(error.fault(), StoreFault::Closed | StoreFault::LockLost | StoreFault::Moved) =>
            {
                return Err(error.into());
            }
            Err(error) => {
                self.runs.remove(&id);
                self.refuse(id, chain(&error));
            }
        }
        Ok(())
    }

    /// Prints the results of the runs; it is a failure if one of them did not get on.
    fn tell<W: Write>(self, arguments: &ResumeArguments, program: &str, screen: &mut Screen<W>) -> Result<()> {
        let runs: Vec<RunInfo> = self.runs.into_values().collect();
        let refused: Vec<String> = self.refused.into_values().collect();
        if arguments.common.json {
            let unregistered = &self.unregistered;
            screen.json(&DrivenView { runs: RunView::all(&runs), refused: &refused, unregistered })?;
        } else if runs.is_empty() && refused.is_empty() {
            screen.line("no runs to go on with")?;
        } else if !runs.is_empty() {
            screen.table(table(&runs))?;
            questions(&runs, &arguments.common.store, program, screen)?;
        }
        if !arguments.common.json {
            for Unregistered { flow, runs, .. } in &self.unregistered {
                let runs = counted(*runs, "run");
                screen.line(&format!("left as it was: {runs} of flow `{flow}`, which this program does not have"))?;
            }
        }
        let (all, lost) = ((runs.len() + refused.len()) as u64, runs.iter().filter_map(lost));
        let lost: Vec<String> = lost.chain(refused).collect();
        match lost.as_slice() {
            [] => Ok(()),
            [one] => Err(Stop::Failed(one.clone())),
            [first, ..] => Err(Stop::failed(format!(
                "{} of {} did not get on; the first: {first}",
                lost.len(),
                counted(all, "run")
            ))),
        }
    }
}

/// Prints the questions of runs, and the commands that answer them.
fn questions<W: Write>(runs: &[RunInfo], store: &Path, program: &str, screen: &mut Screen<W>) -> Result<()> {
    let paused: Vec<_> = runs.iter().filter(|run| run.status == Status::Paused).collect();
    if paused.is_empty() {
        return Ok(());
    }
    let reader = Reader::open(store)?;
    for run in paused.iter().take(ASKING) {
        for open in reader.open_questions(run.id.clone())?.iter().take(ASKING) {
            screen.gap()?;
            for line in question::lines(open, program, store) {
                screen.line(&line)?;
            }
        }
    }
    match paused.len().saturating_sub(ASKING) {
        0 => Ok(()),
        left => screen
            .line(&format!("{} more paused: {program} runs show ID has their questions", counted(left as u64, "run"))),
    }
}

/// Returns the reason why a run did not get on, if it did not.
fn lost(run: &RunInfo) -> Option<String> {
    let id = &run.id;
    match (run.status, &run.error) {
        // It names the run and the node.
        (Status::Failed, Some(failure)) => Some(failure.message.clone()),
        (Status::Failed, None) => Some(format!("run `{id}` failed")),
        (Status::Cancelled, _) => Some(format!("run `{id}` was cancelled")),
        _ => None,
    }
}

/// The runs that are to be waited for, each with the number of its flow: those that run, sleepers whose time has come,
/// and all that are parked, if the command waits through questions.
fn open(reader: &Reader, flows: &[(usize, String)], wait: bool) -> Result<Vec<(usize, RunId)>> {
    let mut open = Vec::new();
    for (index, flow) in flows {
        let mut filter = Filter::new().flow(flow.clone()).status(Status::Running).status(Status::Sleeping);
        if wait {
            filter = filter.status(Status::Paused);
        }
        let now = SystemTime::now();
        let due = |run: &RunInfo| wait || run.status == Status::Running || run.wake_at.is_some_and(|at| at <= now);
        pages(reader, filter, |run| {
            if due(run) {
                open.push((*index, run.id.clone()));
            }
        })?;
    }
    Ok(open)
}

/// Looks at the runs that a filter takes, a page at a time.
fn pages(reader: &Reader, filter: Filter, mut look: impl FnMut(&RunInfo)) -> Result<()> {
    let mut filter = filter.limit(PAGE);
    loop {
        let page = reader.list(&filter)?;
        page.iter().for_each(&mut look);
        match page.last() {
            Some(last) if page.len() == PAGE => filter = filter.after(last.cursor),
            _ => return Ok(()),
        }
    }
}
