//! A full pool: every thread for blocking work waits for events that must come without such a thread.
//!
//! In the meantime two runs beside those of the seed are started, listed, answered, cancelled and woken; only then do
//! the threads go on. If any of these steps needed a thread of the pool, nothing would ever go on.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use flowstone::{
    Ask, AsyncFlow, Result,
    durable::{Filter, Status, Store},
};

use crate::{fault::Fault, flows::KEEP_WAITS};

/// The number of threads for blocking work in a process whose pool gets full.
pub(crate) const THREADS: usize = 2;

/// The name of the flow here, and the start of the ids of its runs; no seed uses it.
pub(crate) const NAME: &str = "probe";

struct Question;

impl Ask<u32> for Question {
    type Question = String;
    type Answer = u32;
    type Action = ();

    fn ask(&self, _: &u32) -> Result<String> {
        Ok("how many?".to_owned())
    }

    fn post(&self, count: &mut u32, answer: u32) -> Result<()> {
        *count += answer;
        Ok(())
    }
}

/// Fills the pool, and empties it once all steps are done that must not need it.
pub(crate) async fn with_full_pool(store: &Store) -> Result<(), Fault> {
    let gate = Arc::new(Gate::default());
    // The gate opens at any end of this, also when it is dropped, so that the threads do not keep the process alive.
    let opens = Opens(Arc::clone(&gate));
    let (begun, mut wait) = tokio::sync::mpsc::channel(THREADS);
    for _ in 0..THREADS {
        let (gate, begun) = (Arc::clone(&gate), begun.clone());
        tokio::task::spawn_blocking(move || {
            let _whoever_waits = begun.blocking_send(());
            let open = gate.open.lock().unwrap_or_else(PoisonError::into_inner);
            drop(gate.told.wait_while(open, |open| !*open));
        });
    }
    for _ in 0..THREADS {
        wait.recv().await;
    }
    let done = probe(store).await;
    drop(opens);
    done
}

/// The gate that the threads wait for.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    told: Condvar,
}

/// Opens a gate when it is dropped.
struct Opens(Arc<Gate>);

impl Drop for Opens {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.told.notify_all();
    }
}

async fn probe(store: &Store) -> Result<(), Fault> {
    let built = || {
        let mut flow = AsyncFlow::<u32>::builder(NAME);
        let ask = flow.add("ask", Question);
        let sleep = flow.add("sleep", flowstone::Sleep::new(KEEP_WAITS * 2));
        flow.start(ask);
        flow.route(ask >> sleep);
        flow.build()
    };
    let runs = store.runs(built().map_err(|error| Fault::Odd(error.to_string()))?).await?;
    // Runs of an earlier process may be left; they have other ids.
    let id = |what: &str| format!("{NAME}-{what}-{}", std::process::id());
    let (answered, cancelled) = (runs.start(id("answered"), 1).await?, runs.start(id("cancelled"), 1).await?);
    for run in [&answered, &cancelled] {
        expect(Status::Paused, run.settled().await?)?;
    }
    let listed = runs.list(&Filter::new().status(Status::Paused)).await?;
    if listed.len() < 2 {
        return Err(Fault::Odd(format!("{} runs of two are listed", listed.len())));
    }
    answered.answer("ask", 2).await?;
    cancelled.cancel().await?;
    expect(Status::Cancelled, cancelled.settled().await?)?;
    let state = answered.finished().await?.ended()?.state;
    if state == 3 { Ok(()) } else { Err(Fault::Odd(format!("the answer made {state} of 1"))) }
}

fn expect(wanted: Status, found: Status) -> Result<(), Fault> {
    if found == wanted { Ok(()) } else { Err(Fault::Odd(format!("a run is {found}, not {wanted}"))) }
}
