//! However a run ends, whoever listens gets exactly one terminal event, and it is the last (LESSONS row 16).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{future::pending, sync::Arc};

use crate::common::{Alive, Log, Recorder, alone, awaiting, blocking, line, secs};
use flowstone_core::{Action, Ask, AsyncFlow, CancellationToken, END, EventKind, Flow, Result, RunOptions};
use futures_util::poll;
use tokio::sync::Notify;

fn listening() -> (RunOptions, Recorder) {
    let recorder = Recorder::default();
    (RunOptions::new().id("r1").listen(recorder.clone()), recorder)
}

/// The last event, as a line, when it is terminal and no other is.
fn only_terminal(recorder: &Recorder) -> String {
    let events = recorder.events();
    assert_eq!(events.iter().filter(|event| event.is_terminal()).count(), 1, "{:?}", recorder.lines());
    assert!(events.last().unwrap().is_terminal(), "{:?}", recorder.lines());
    line(events.last().unwrap())
}

/// Asks whether to go on.
struct Confirm;

impl Ask<String> for Confirm {
    type Question = &'static str;
    type Answer = bool;
    type Action = ();

    fn ask(&self, _: &String) -> Result<&'static str> {
        Ok("really?")
    }

    fn post(&self, _: &mut String, _: bool) -> Result<()> {
        Ok(())
    }
}

/// A flow that ends as its state says: `ends`, `asks`, `spins`, `fails`, `panics` or something unrouted.
macro_rules! all_ways {
    ($flow:ident) => {{
        let mut flow = $flow::builder("ways");
        let choose = flow.add("choose", |way: &mut String| Action::from(way.clone()));
        let ask = flow.add("ask", Confirm);
        let spin = flow.add("spin", |_: &mut String| ());
        let fail = flow.add("fail", |_: &mut String| Result::<()>::Err("broken".into()));
        let bang = flow.add("bang", |way: &mut String| assert!(way.is_empty(), "bang"));
        flow.start(choose);
        flow.route(choose - "ends" >> END);
        flow.route(choose - "asks" >> ask);
        flow.route(choose - "spins" >> spin >> spin);
        flow.route(choose - "fails" >> fail);
        flow.route(choose - "panics" >> bang);
        flow.build().unwrap()
    }};
}

const WAYS: [(&str, &str); 6] = [
    ("ends", "ended"),
    ("asks", "ask paused"),
    ("spins", "spin failed"),
    ("fails", "fail failed"),
    ("panics", "bang failed"),
    ("odd", "choose failed"),
];

#[tokio::test]
async fn every_way_to_end_has_one_terminal_event_at_its_end() {
    let (sync, awaited) = (all_ways!(Flow), all_ways!(AsyncFlow));

    for (way, expected) in WAYS {
        let (options, recorder) = listening();
        let _ = sync.run_with(&mut way.to_owned(), &options.max_visits(5));
        assert_eq!(only_terminal(&recorder), expected, "sync, {way}");

        let (options, recorder) = listening();
        let _ = awaited.run_async_with(&mut way.to_owned(), &options.max_visits(5)).await;
        assert_eq!(only_terminal(&recorder), expected, "async, {way}");
    }
}

#[test]
fn a_sync_run_that_is_cancelled_has_one_terminal_event() {
    let token = CancellationToken::new();
    token.cancel();
    let (options, recorder) = listening();

    all_ways!(Flow).run_with(&mut "ends".to_owned(), &options.cancel(token)).unwrap_err();

    assert_eq!(only_terminal(&recorder), "choose failed");
}

#[test]
fn an_answer_that_does_not_fit_has_one_terminal_event() {
    let flow = all_ways!(Flow);
    let (options, recorder) = listening();

    let mut state = "asks".to_owned();
    let Ok(flowstone_core::Outcome::Paused(pause)) = flow.run(&mut state) else { panic!() };
    flow.resume_with(&mut state, pause, "maybe", &options).unwrap_err();

    assert_eq!(only_terminal(&recorder), "ask failed");
}

#[test]
fn the_terminal_event_of_a_node_tells_its_visit() {
    for way in ["asks", "fails"] {
        let (options, recorder) = listening();

        let _ = all_ways!(Flow).run_with(&mut way.to_owned(), &options);

        assert_eq!(recorder.events().pop().unwrap().visit, 1, "{way}");
    }
}

#[tokio::test]
async fn a_listener_of_a_dropped_run_hears_nothing_after_its_terminal_event() {
    // The exec and the drop are on two threads: whichever is first, the terminal event is the last one.
    for round in 0..100 {
        let (alive, begun, log) = (Alive::default(), Arc::new(Notify::new()), Log::default());
        let (living, note) = (alive.clone(), Arc::clone(&begun));
        let flow = alone(blocking(move |cx| {
            let life = living.begin();
            note.notify_one();
            while !cx.cancelled() {
                std::thread::yield_now();
            }
            cx.emit("too late?");
            life.finish();
            Ok(1)
        }));
        let heard = log.clone();
        let options = RunOptions::new().listen(move |event: &flowstone_core::Event| heard.push(line(event)));

        let mut state = vec![];
        tokio::select! {
            biased;
            _ = flow.run_async_with(&mut state, &options) => panic!("the run ended"),
            () = begun.notified() => {}
        }
        while alive.now() > 0 {
            tokio::task::yield_now().await;
        }

        assert_eq!(log.lines().last().unwrap(), "failed", "round {round}: {:?}", log.lines());
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_stopped_or_late_ends_with_one_terminal_event() {
    let flow: AsyncFlow<Vec<u32>> = alone(awaiting(|_| pending()));
    let token = CancellationToken::new();
    token.cancel();

    let mut seen = vec![];
    for change in
        [RunOptions::cancel as fn(RunOptions, CancellationToken) -> RunOptions, |options, _| options.deadline(secs(1))]
    {
        let (options, recorder) = listening();
        flow.run_async_with(&mut vec![], &change(options, token.clone())).await.unwrap_err();
        seen.push(recorder.events());
    }
    let (options, recorder) = listening();
    let mut state = vec![];
    {
        let mut run = std::pin::pin!(flow.run_async_with(&mut state, &options));
        assert!(poll!(run.as_mut()).is_pending());
    }
    seen.push(recorder.events());

    let errors = seen.iter().map(|events| {
        assert_eq!(events.iter().filter(|event| event.is_terminal()).count(), 1);
        match &events.last().unwrap().kind {
            EventKind::Failed { error, .. } => error.as_str(),
            other => panic!("{other:?}"),
        }
    });
    let expected = [
        "run `r1`: cancelled at node `node`",
        "run `r1`: not done within 1s; it was at node `node`",
        "the run was dropped before its end",
    ];
    assert!(errors.eq(expected));
}
