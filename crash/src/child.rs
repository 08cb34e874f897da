//! The process that is killed: it drives the runs of a seed to their ends, from the point where an earlier process left
//! them.
//!
//! It tells the process that started it, by lines on its standard output: `open`, `seen JOB WHEN`, `at JOB WHEN` (and
//! stops there), `fault KIND TEXT`, `panic TEXT`, `abort RUN`, `full`, `done`.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use flowstone::durable::{WriteMoment, WritePoint};

use crate::{
    at_work::AtWork,
    fault::Fault,
    ledger::{self, Ledger, Line},
    nodes::World,
    operator,
    plan::{JOBS, MOMENTS, Point, Script},
    poison::{DEATH, Poison},
    probe,
};

/// The arguments that the process is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) store: PathBuf,
    pub(crate) ledger: PathBuf,
    pub(crate) seed: u64,
    pub(crate) life: usize,
    pub(crate) stop: Option<Point>,
}

/// Drives everything to its end, unless it is stopped or killed.
pub(crate) fn main(start: Start) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        say(&format!("panic {}", panic.to_string().replace('\n', " ")));
        std::process::exit(101);
    }));
    end_with_parent();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if Script::of(start.seed).version(start.life).full_pool {
        runtime.max_blocking_threads(probe::THREADS);
    }
    let runtime = match runtime.worker_threads(2).enable_all().build() {
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

/// Ends the process for a reason that has nothing to do with the store.
pub(crate) fn give_up(why: &str) -> ! {
    say(&format!("fault odd {why}"));
    std::process::exit(4)
}

/// Kills the process as one of its own runs does.
pub(crate) fn abort(world: &World, run: &str) -> ! {
    world.write(Line::Mark(DEATH.to_owned(), run.to_owned()));
    say(&format!("abort {run}"));
    std::process::abort()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The listening process may have ended; then this one ends, too.
    drop(out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()));
}

/// Ends this process when the one that started it ends for any reason, since nobody would kill it then.
fn end_with_parent() {
    std::thread::spawn(|| {
        drop(std::io::stdin().read(&mut [0]));
        std::process::exit(5);
    });
}

async fn live(start: Start) -> Result<(), Fault> {
    let script = Script::of(start.seed);
    let before = ledger::read(&start.ledger).map_err(|error| Fault::Odd(error.to_string()))?;
    let ledger = Ledger::open(&start.ledger).map_err(|error| Fault::Odd(error.to_string()))?;
    let version = script.version(start.life);
    let poison = if version.calm { Poison::default() } else { Poison::of(&script, &before) };
    let at_work = AtWork::of(&script, version.limits, || say("full"));
    let world = World::real(Arc::new(ledger), version, at_work, poison);
    let store = operator::options(&script, start.life).on_write(watch(start.stop)).open(&start.store).await?;
    say("open");
    let driven = operator::drive(&store, &script, (&world, version), &before);
    if version.full_pool {
        tokio::try_join!(driven, probe::with_full_pool(&store))?;
    } else {
        driven.await?;
    }
    store.close().await;
    Ok(())
}

/// Returns a function to call at each write point. It reports the first of each kind, and stops at the one at which the
/// process is to be killed.
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

/// Returns the constant with this name, of a job or of a moment.
pub(crate) fn point(job: &str, when: &str, nth: u64) -> Option<Point> {
    let job = JOBS.into_iter().find(|known| *known == job)?;
    let (_, when) = MOMENTS.into_iter().find(|(_, known)| *known == when)?;
    Some(Point { job, when, nth })
}
