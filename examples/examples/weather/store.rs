//! The same flow in a store: a run that was cut off goes on where it was, and nothing that is known is asked again.

use std::{
    path::Path,
    pin::pin,
    time::{SystemTime, UNIX_EPOCH},
};

use flowstone::{
    RunId,
    durable::{Filter, Reader, Seen, Status},
    prelude::*,
};
use futures_util::StreamExt;
use serde_json::Value;

use super::flow::{City, Trip};

/// Runs the flow in the store at `file`, to its end or to a question that nobody answers, and returns the state.
pub(crate) async fn run(
    file: &Path,
    flow: AsyncFlow<Trip>,
    trip: Trip,
    show: impl Fn(&Event),
    ask: impl Fn(&Value) -> anyhow::Result<Option<Vec<String>>>,
) -> anyhow::Result<Trip> {
    let runs = Store::open(file).await?.runs(flow).await?;
    let id = match unfinished(&runs, &trip).await? {
        Some(id) => {
            tell_of_known(file, &id)?;
            id
        }
        None => new_id(),
    };
    // A run that is there goes on; its own state counts then.
    let run = runs.start(id, trip).await?;

    let mut seen = pin!(run.follow(0));
    while let Some(seen) = seen.next().await {
        match seen? {
            Seen::Event(event) => show(&event),
            Seen::Status(Status::Paused) => {
                let Some(question) = run.questions().await?.pop() else { continue };
                let Some(answer) = ask(&question.question)? else {
                    let (id, node, file) = (run.id(), question.node, file.display());
                    eprintln!(
                        "weather: {id} waits for an answer: flowstone runs answer {id} --node {node} '[…]' --store {file}"
                    );
                    break;
                };
                run.answer_question(&question, answer).await?;
            }
            Seen::Status(status) if status.is_final() => drop(run.finished().await?.ended()?),
            _ => {}
        }
    }
    let trip = run.state().await?;
    runs.store().close().await;
    Ok(trip)
}

/// Finds the run that this command began earlier and that did not end: the one that started with the same state.
async fn unfinished(runs: &Runs<Trip>, start: &Trip) -> anyhow::Result<Option<RunId>> {
    let start = serde_json::to_value(start)?;
    let filter = Filter::new().status(Status::Running).status(Status::Paused);
    for run in runs.list(&filter).await? {
        if runs.get(run.id.clone()).await?.state_at(0).await? == start {
            return Ok(Some(run.id));
        }
    }
    Ok(None)
}

fn new_id() -> RunId {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("weather-{}", now.as_millis()).into()
}

/// Says which cities a run knows already. Each city has a run of its own, whose end and state are in the store.
fn tell_of_known(file: &Path, id: &RunId) -> anyhow::Result<()> {
    let reader = Reader::open(file)?;
    let mut known = Vec::new();
    for city in reader.children(id.clone())?.into_iter().filter(|city| city.status == Status::Ended) {
        let city: City = serde_json::from_value(reader.state(city.id, None)?)?;
        known.push(city.asked);
    }
    if known.is_empty() {
        eprintln!("weather: going on with {id}, which knows no city yet");
    } else {
        eprintln!("weather: going on with {id}; not asked again: {}", known.join(", "));
    }
    Ok(())
}
