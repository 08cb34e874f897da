//! Following a run: every step once and in order, whenever the follower comes and however slow it is.

use std::{sync::Arc, time::Duration};

use flowstone_core::{Action, AsyncFlow, EventKind};
use flowstone_durable::{DriveError, Durability, Run, Runs, Seen, Status, StoreFault, StoreOptions, WriteMoment};
use futures_util::{Stream, StreamExt};
use serde_json::json;

use crate::common::{Count, Folder, Gate, Invoice, Ledger, approving, counting, gated, soon, until, work};

/// Everything that is seen until the stream ends: steps, statuses, and what nodes emitted.
#[derive(Debug, Default, PartialEq)]
struct All {
    steps: Vec<u64>,
    statuses: Vec<Status>,
    emitted: Vec<String>,
    missed: u64,
}

impl All {
    fn add(&mut self, seen: Seen) {
        match seen {
            Seen::Step(step) => self.steps.push(step.step),
            Seen::Status(status) => self.statuses.push(status),
            Seen::Missed(events) => self.missed += events,
            Seen::Event(event) => {
                if let EventKind::Emitted { value } = &event.kind {
                    self.emitted.push(value.to_string());
                }
            }
            _ => {}
        }
    }
}

async fn all(seen: impl Stream<Item = Result<Seen, DriveError>>) -> All {
    let mut all = All::default();
    let mut seen = std::pin::pin!(seen);
    while let Some(seen) = soon("what is seen next", seen.next()).await {
        all.add(seen.unwrap());
    }
    all
}

#[tokio::test]
async fn a_run_that_ended_is_told_from_any_step_on() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let run = runs.start("r", Count::to(600)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap();

    for from in [0, 1, 255, 256, 599, 600, 601, 9999] {
        let told = all(run.follow(from)).await;
        assert_eq!(told.steps, (from..=600).collect::<Vec<_>>());
        assert_eq!(told.statuses, [Status::Ended]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_in_the_middle_has_no_gap_and_no_duplicate() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let run = runs.start("r", Count::to(400)).await.unwrap();

    let mut followers = Vec::new();
    for join in 0..8 {
        until("the middle", async || run.info().await.unwrap().step >= join * 40).await;
        followers.push(tokio::spawn(all(run.follow(join * 10))));
    }

    for (join, follower) in followers.into_iter().enumerate() {
        let told = follower.await.unwrap();
        assert_eq!(told.steps, (join as u64 * 10..=400).collect::<Vec<_>>());
        assert_eq!(told.statuses, [Status::Ended]);
    }
}

/// Emits its number in each visit, and in each of its children.
fn emitting(gate: &Gate) -> AsyncFlow<Count> {
    let emit = |gate: &Gate| {
        let gate = gate.clone();
        work(
            move |cx| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    cx.emit(json!(format!("{}#{}", cx.node(), cx.visit())));
                    Ok(1)
                }
            },
            |count: &mut Count, one| {
                count.n += one as u32;
                Action::from("")
            },
        )
    };
    let mut inner = AsyncFlow::builder("inner");
    let node = inner.add("node", emit(gate));
    inner.start(node);
    let mut flow = AsyncFlow::builder("emit");
    let (one, two) = (flow.add("one", emit(gate)), flow.add("two", emit(gate)));
    let children = inner.build().unwrap().batch(|_: &Count| vec![Count::default(); 2], |_: &mut Count, _| ());
    let children = flow.add("each", children.journaled());
    flow.start(one);
    flow.route(one >> two >> children);
    flow.build().unwrap()
}

#[tokio::test]
async fn what_nodes_emit_is_seen_also_from_children_late_in_a_run() {
    let (folder, gate) = (Folder::new(), Gate::closed());
    let runs = Runs::open(folder.store(), emitting(&gate)).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    let mut seen = Box::pin(run.follow(0));
    let first = soon("the start", seen.next()).await.unwrap().unwrap();
    assert!(matches!(first, Seen::Step(step) if step.step == 0));
    // It has read what the store holds, and listens: what happens before that is history, without events.
    while tokio::time::timeout(Duration::from_millis(300), seen.next()).await.is_ok() {}
    gate.open_for(4);

    let told = all(seen).await;

    assert_eq!(told.steps, [1, 2, 3]);
    let wanted = ["\"one#0\"", "\"two#1\"", "\"each[0]/node#0\"", "\"each[1]/node#0\""];
    assert_eq!(told.emitted, wanted);
}

#[tokio::test]
async fn a_slow_follower_misses_events_and_no_step() {
    let folder = Folder::new();
    let mut flow = AsyncFlow::builder("chatty");
    let node = work(
        |cx| async move {
            (0..2000).for_each(|n| cx.emit(n));
            Ok(1)
        },
        |count: &mut Count, one| {
            count.n += one as u32;
            Action::from(if count.n < count.of { "again" } else { "done" })
        },
    );
    let node = flow.add("node", node);
    flow.start(node);
    flow.route(node - "again" >> node);
    flow.route(node - "done" >> flowstone_core::END);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("r", Count::to(10)).await.unwrap();
    let mut seen = Box::pin(run.follow(0));
    let _first = soon("the start", seen.next()).await;
    // While the follower looks away, the run goes on to its end.
    run.finished().await.unwrap().ended().unwrap();

    let told = all(seen).await;

    assert_eq!(told.steps, (1..=10).collect::<Vec<_>>());
    assert_eq!(told.statuses, [Status::Ended]);
}

#[tokio::test]
async fn who_falls_behind_while_the_run_goes_on_is_told_how_much_was_missed() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let (into, hold) = (ledger.clone(), gate.clone());
    let mut flow = AsyncFlow::builder("chatty");
    let node = work(
        move |cx| {
            let (into, hold) = (into.clone(), hold.clone());
            async move {
                hold.pass().await;
                (0..2000).for_each(|n| cx.emit(n));
                into.add("emitted");
                hold.pass().await;
                Ok(1)
            }
        },
        |_: &mut Count, _| Action::from("done"),
    );
    let node = flow.add("node", node);
    flow.start(node);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("r", Count::to(1)).await.unwrap();
    let mut seen = Box::pin(run.follow(1));
    // The follower listens from the first look on.
    let look = tokio::time::timeout(std::time::Duration::from_millis(200), seen.next()).await;
    gate.open_for(1);
    until("all is emitted", async || ledger.len() == 1).await;

    gate.open_for(1);
    let told = all(seen).await;

    assert!(told.missed > 1000, "{} missed, after {look:?}", told.missed);
    assert_eq!(told.steps, [1]);
    assert_eq!(told.statuses, [Status::Ended]);
}

#[tokio::test]
async fn a_follower_stays_through_pauses() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    let run = runs.start("r", Invoice::default()).await.unwrap();
    run.settled().await.unwrap();
    let mut told = All::default();
    let mut seen = Box::pin(run.follow(0));
    while told.statuses.is_empty() {
        told.add(soon("the pause", seen.next()).await.unwrap().unwrap());
    }
    assert_eq!((&told.steps[..], &told.statuses[..]), (&[0][..], &[Status::Paused][..]));

    run.answer("ask", true).await.unwrap();
    let rest = all(seen).await;

    assert_eq!((rest.steps, rest.statuses), (vec![1, 2], vec![Status::Ended]));
}

#[tokio::test]
async fn a_follower_is_told_that_a_parked_run_was_cancelled() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    let run = runs.start("r", Invoice::default()).await.unwrap();
    run.settled().await.unwrap();
    let mut seen = Box::pin(run.follow(1));
    assert!(matches!(soon("the pause", seen.next()).await, Some(Ok(Seen::Status(Status::Paused)))));

    run.cancel().await.unwrap();

    assert_eq!(all(seen).await.statuses, [Status::Cancelled]);
}

#[tokio::test]
async fn a_follower_is_told_that_the_store_was_closed() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run: Run<Count> = runs.start("r", Count::to(2)).await.unwrap();
    let follower = tokio::spawn({
        let seen = run.follow(2);
        async move { Box::pin(seen).next().await }
    });
    until("the node", async || ledger.len() > 0).await;

    runs.store().close().await;

    match soon("the end", follower).await.unwrap() {
        Some(Err(error)) => assert_eq!(flowstone_durable::Error::from(error).fault(), Some(StoreFault::Closed)),
        // It may have come first.
        Some(Ok(Seen::Event(_))) => {}
        other => panic!("{other:?}"),
    }
}

/// With `Durability::Behind`, a step is told once it is on disk, also while the next visit takes its time.
#[tokio::test]
async fn a_step_is_told_when_it_is_on_disk_even_if_the_next_visit_takes_long() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let slow = Arc::new(std::sync::Mutex::new(()));
    let disk = Arc::clone(&slow);
    let options = StoreOptions::new().durability(Durability::Behind(4)).on_write(move |point| {
        if point.job == "visit" && point.when == WriteMoment::Before {
            drop(disk.lock().unwrap());
        }
    });
    let runs = options.open(folder.store()).await.unwrap().runs(gated(&ledger, &gate)).await.unwrap();
    let held = Arc::clone(&slow);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (holds, held_now) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let guard = held.lock().unwrap();
        holds.send(()).unwrap();
        stopped.recv().unwrap();
        drop(guard);
    });
    held_now.recv().unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    until("the second visit", async || ledger.len() > 0).await;
    let mut told = All::default();
    let mut seen = Box::pin(run.follow(0));
    while let Ok(Some(seen)) = tokio::time::timeout(std::time::Duration::from_millis(200), seen.next()).await {
        told.add(seen.unwrap());
    }
    assert_eq!(told.steps, [0], "step 1 is not on disk");

    stop.send(()).unwrap();
    holder.join().unwrap();

    while told.steps.len() < 2 {
        told.add(soon("step 1 is on disk", seen.next()).await.unwrap().unwrap());
    }
    assert_eq!(told.steps, [0, 1]);
}
