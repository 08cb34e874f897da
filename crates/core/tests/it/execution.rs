//! A run that is driven visit by visit, without its types: it ends as a run in memory does, also from the middle on.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use serde_json::{Value, json};

use crate::common::{Count, Kept, Log, alone, async_items, awaiting, blocking, ended, items, ms, named, secs};
use flowstone_core::{
    Action, Ask, AsyncFlow, BoxFuture, CancellationToken, Context, END, Flow, NodeExt, Outcome, Result, RunError,
    RunOptions, Sleep,
    driver::{Execution, RestoreError, Visit},
    step,
};
use tokio::time::Instant;

/// Asks for a number, and pushes it; 0 leads back to the start.
struct Number;

impl Ask<Vec<u32>> for Number {
    type Question = usize;
    type Answer = u32;
    type Action = Action;

    fn ask(&self, shared: &Vec<u32>) -> Result<usize> {
        Ok(shared.len())
    }

    fn schema(&self) -> Value {
        json!({ "type": "integer" })
    }

    fn post(&self, shared: &mut Vec<u32>, answer: u32) -> Result<Action> {
        if answer == 13 {
            Err("unlucky")?;
        }
        shared.push(answer);
        Ok(Action::from(if answer == 0 { "again" } else { "on" }))
    }
}

/// One node of every kind, in a row, which begins anew when the answer is 0.
fn every_kind() -> AsyncFlow<Vec<u32>> {
    let mut inner = Flow::builder("inner");
    let push = inner.add("push", |all: &mut Vec<u32>| all.push(1));
    let parse = inner.add("parse", step(Vec::len, |n: &usize| Ok(*n as u32), |all: &mut Vec<u32>, _, n| all.push(n)));
    inner.start(push);
    inner.route(push >> parse);
    let mut child = Flow::<u32>::builder("child");
    let add = child.add("add", |n: &mut u32| *n += 1);
    let double = child.add("double", |n: &mut u32| *n *= 2);
    child.start(add);
    child.route(add >> double);
    let child = child.build().unwrap();

    let mut flow = AsyncFlow::builder("all");
    let nested = flow.add("nested", inner.build().unwrap());
    let pooled = flow.add("pooled", blocking(|_| Ok(3)));
    let awaited = flow.add("awaited", awaiting(|_| async { Ok(4) }));
    let each = flow.add("each", child.clone().batch(Vec::clone, |all: &mut Vec<u32>, ended| *all = ended).journaled());
    let plain = flow.add("plain", child.batch(Vec::clone, |all: &mut Vec<u32>, ended| *all = ended).parallel(2));
    let nap = flow.add("nap", Sleep::new(ms(1)));
    let ask = flow.add("ask", Number);
    let list = flow.add("list", async_items(3, |item, _| async move { Ok(item as u32) }).parallel(2).journaled());
    flow.start(nested);
    flow.route(nested >> pooled >> awaited >> each >> plain >> nap >> ask);
    flow.route(ask - "again" >> nested);
    flow.route(ask - "on" >> list);
    flow.route(list >> END);
    flow.build().unwrap()
}

#[tokio::test]
async fn an_execution_ends_as_a_run_in_memory_does() {
    let flow = every_kind();
    let mut in_memory = vec![];
    let mut outcome = flow.run_async(&mut in_memory).await.unwrap();
    let mut pauses = 0;
    let action = loop {
        match outcome {
            Outcome::Paused(pause) => outcome = flow.resume(&mut in_memory, pause, pauses).await.unwrap(),
            Outcome::Ended(action) => break action,
        }
        pauses += 1;
    };

    let kept = Kept::default();
    let mut answers = 0;
    let mut run = flow.execution(vec![], &RunOptions::new().id("r1"));
    let exit = loop {
        match kept.drive(&mut run).await.unwrap() {
            Visit::Pause(pause) => {
                let visit = run.answer(pause, json!(answers)).unwrap();
                kept.commit(&run, &visit);
                answers += 1;
            }
            Visit::End { exit, .. } => break exit,
            visit => panic!("{visit:?}"),
        }
        // Every stop is a crash: another process goes on.
        run = flow.execution(vec![], &RunOptions::new().id("r1"));
    };

    assert_eq!((run.into_state(), exit, answers), (in_memory, action, pauses));
}

/// A flow of three nodes that note their keys.
fn three(keys: &Log) -> AsyncFlow<Vec<u32>> {
    let noting = |keys: Log| {
        blocking(move |cx: &Context| {
            keys.push(cx.idempotency_key());
            Ok(0)
        })
    };
    let mut flow = AsyncFlow::builder("three");
    let a = flow.add("a", noting(keys.clone()));
    let ask = flow.add("ask", Number);
    let b = flow.add("b", noting(keys.clone()));
    flow.start(a);
    flow.route(a >> b);
    flow.route(b >> ask);
    flow.route(ask - "again" >> a);
    flow.route(ask - "on" >> END);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_restored_run_makes_the_same_visit_again() {
    let keys = Log::default();
    let flow = three(&keys);
    let options = RunOptions::new().id("r1");

    let mut before = flow.execution(vec![], &options);
    before.visit().await.unwrap();
    let (node, visits, state) = (before.node().clone(), before.visits(), before.save().unwrap());
    before.visit().await.unwrap(); // lost
    let mut after = flow.execution(vec![9], &options);
    after.restore(&node, visits, &state).unwrap();

    assert_eq!((after.id(), after.node().as_str(), after.visits()), ("r1".into(), "b", 1));
    assert_eq!(*after.state(), [0]);
    after.visit().await.unwrap();
    assert_eq!(keys.lines(), ["r1:0:a", "r1:1:b", "r1:1:b"]);
}

#[tokio::test]
async fn a_pause_is_answered_in_another_process() {
    let keys = Log::default();
    let flow = three(&keys);
    let options = RunOptions::new().id("r1");
    let kept = Kept::default();

    let mut before = flow.execution(vec![], &options);
    let Visit::Pause(asked) = kept.drive(&mut before).await.unwrap() else { panic!("it asks") };
    let (question, schema) = (asked.question().clone(), asked.schema().clone());
    let state = before.save().unwrap();
    drop((before, asked));
    let mut after = flow.execution(vec![], &options);
    after.restore(&"ask".into(), 2, &state).unwrap();
    let pause = after.pause(question, schema);

    assert_eq!(
        (pause.node().as_str(), pause.question(), pause.schema()),
        ("ask", &json!(2), &json!({ "type": "integer" }))
    );
    let visit = after.answer(pause, json!(0)).unwrap();
    assert!(matches!(&visit, Visit::Next { action, .. } if *action == "again"), "{visit:?}");
    assert_eq!((after.node().as_str(), after.visits()), ("a", 3));
    after.visit().await.unwrap();
    assert_eq!(keys.lines(), ["r1:0:a", "r1:1:b", "r1:3:a"]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_gives_the_pause_back() {
    let flow = three(&Log::default());
    let mut run = flow.execution(vec![], &RunOptions::new().id("r1"));
    run.restore(&"ask".into(), 2, b"[0, 0]").unwrap();
    let pause = run.pause(json!(2), json!(true));

    let error = run.answer(pause, json!("seven")).unwrap_err();

    let RunError::Answer { pause, .. } = error else { panic!("{error:?}") };
    assert_eq!((run.node().as_str(), run.state().len()), ("ask", 2));
    assert!(matches!(run.answer(pause, json!(7)).unwrap(), Visit::End { .. }));
    assert_eq!(run.into_state(), [0, 0, 7]);
}

#[tokio::test]
async fn an_answer_whose_post_fails_names_its_node_and_visit() {
    let flow = three(&Log::default());
    let seen = Log::default();
    let note = seen.clone();
    let listen = move |event: &flowstone_core::Event| note.push(format!("{} {:?}", event.visit, event.node));
    let mut run = flow.execution(vec![], &RunOptions::new().id("r1").listen(listen));
    run.restore(&"ask".into(), 2, b"[0, 0]").unwrap();
    let pause = run.pause(json!(2), json!(true));

    let error = run.answer(pause, json!(13)).unwrap_err();

    assert_eq!(error.report(), "run `r1`: node `ask` failed in post: unlucky");
    assert_eq!(seen.lines(), [r#"2 Some("ask")"#]);
}

#[tokio::test]
async fn a_run_cannot_be_restored_to_a_node_that_is_gone() {
    let mut run = three(&Log::default()).execution(vec![4], &RunOptions::new());

    let error = run.restore(&"c".into(), 7, b"[]").unwrap_err();

    assert_eq!(error.to_string(), r#"flow `three` has no node `c`; it has ["a", "ask", "b"]"#);
    assert!(matches!(error, RestoreError::NoSuchNode { .. }));
    assert_eq!((run.node().as_str(), run.visits(), run.state().as_slice()), ("a", 0, [4].as_slice()));
}

#[tokio::test]
async fn a_state_that_does_not_decode_is_an_error_with_its_place() {
    let mut run = three(&Log::default()).execution(vec![4], &RunOptions::new());

    let error = run.restore(&"b".into(), 7, b"[1, -2]").unwrap_err();

    assert_eq!(error.to_string(), "the state of flow `three` does not decode at `[1]`");
    assert_eq!((run.node().as_str(), run.visits(), run.state().as_slice()), ("a", 0, [4].as_slice()));
}

#[tokio::test]
async fn a_visit_that_failed_is_made_again_under_its_number() {
    let keys = Log::default();
    let (note, count) = (keys.clone(), Count::default());
    let flow = alone(awaiting(move |cx: Context| {
        note.push(cx.idempotency_key());
        let fails = count.up() == 0;
        async move { if fails { Err("down".into()) } else { Ok(1_u32) } }
    }));
    let mut run = flow.execution(vec![], &RunOptions::new().id("r1").max_visits(2));

    assert!(run.visit().await.is_err());
    assert!(matches!(run.visit().await.unwrap(), Visit::End { .. }));

    assert_eq!(keys.lines(), ["r1:0:node", "r1:0:node"]);
}

#[tokio::test]
async fn a_limit_of_visits_holds_over_a_restart() {
    let mut flow = AsyncFlow::builder("loop");
    let again = flow.add("again", |n: &mut u32| {
        *n += 1;
        Action::from("again")
    });
    flow.start(again);
    flow.route(again - "again" >> again);
    let mut run = flow.build().unwrap().execution(0, &RunOptions::new().max_visits(4));
    run.restore(&"again".into(), 3, b"3").unwrap();

    run.visit().await.unwrap();
    let error = run.visit().await.unwrap_err();

    assert!(matches!(error, RunError::TooManyVisits { limit: 4, .. }), "{error:?}");
    assert_eq!((run.visits(), run.into_state()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_token_stops_a_visit_that_waits() {
    let flow: AsyncFlow<Vec<u32>> = alone(Sleep::new(secs(1000)));
    let token = CancellationToken::new();
    let mut run = flow.execution(vec![], &RunOptions::new().cancel(token.clone()));
    let cancel = async {
        tokio::time::sleep(secs(3)).await;
        token.cancel();
    };

    let (visit, ()) = tokio::join!(run.visit(), cancel);

    assert!(matches!(&visit, Err(RunError::Cancelled { node, .. }) if *node == "node"), "{visit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_that_of_all_visits_together() {
    let mut flow = AsyncFlow::builder("naps");
    let [a, b] = ["a", "b"].map(|name| flow.add(name, Sleep::<u32>::new(secs(6))));
    flow.start(a);
    flow.route(a >> b);
    let mut run = flow.build().unwrap().execution(0, &RunOptions::new().deadline(secs(10)));
    let began = Instant::now();

    assert!(run.visit().await.is_ok());
    let error = run.visit().await.unwrap_err();

    assert!(matches!(&error, RunError::DeadlineExceeded { node, .. } if *node == "b"), "{error:?}");
    assert_eq!(began.elapsed(), secs(10));
}

#[tokio::test]
async fn nothing_runs_when_a_visit_has_ended() {
    let ran = Log::default();
    let (begun, note) = (Count::default(), ran.clone());
    let flow: AsyncFlow<Vec<u32>> = alone(
        items(2, move |item, cx| {
            if item == 0 {
                while begun.get() == 0 {
                    std::thread::yield_now();
                }
                return Err("down".into());
            }
            begun.up();
            while !cx.cancelled() {
                std::thread::yield_now();
            }
            note.push("stopped");
            Ok(0)
        })
        .parallel(2),
    );

    let mut run = flow.execution(vec![], &RunOptions::new());
    assert!(run.visit().await.is_err());

    assert_eq!(ran.lines(), ["stopped"]);
}

#[test]
fn an_answer_can_be_checked_without_being_given() {
    let flow = three(&Log::default());
    let at = |name: &str| flow.position(name).unwrap();

    assert!(flow.fits(at("ask"), &json!(7)).is_ok());
    let unfit = flow.fits(at("ask"), &json!("seven")).unwrap_err();
    let silent = flow.fits(at("a"), &json!(7)).unwrap_err();

    assert_eq!(unfit.to_string(), r#"invalid type: string "seven", expected u32"#);
    assert_eq!(silent.to_string(), "this node asks nothing");
}

#[tokio::test]
async fn a_sync_flow_is_an_async_one_too() {
    let mut flow = Flow::builder("sync");
    let pooled = flow.add("pooled", blocking(|_| Ok(1)));
    let inline = flow.add("inline", blocking(|_| Ok(2)).inline());
    let number = flow.add("number", Number);
    flow.start(pooled);
    flow.route(pooled >> inline >> number);
    let sync = flow.build().unwrap().map_exit(|exit| Action::from(format!("{exit}!")));
    let awaited = AsyncFlow::from(sync.clone());

    let Outcome::Paused(pause) = awaited.run_async(&mut vec![]).await.unwrap() else { panic!("it asks") };
    let action = ended(awaited.resume(&mut vec![], pause, 4).await);

    assert_eq!(action, "on!");
    let pools = |json: &Value| {
        json["nodes"].as_array().unwrap().iter().map(|node| node["blocking_pool"] == true).collect::<Vec<_>>()
    };
    assert_eq!(pools(&sync.to_json()), [false, false, false]);
    assert_eq!(pools(&awaited.to_json()), [true, false, false]);
}

#[tokio::test]
async fn an_execution_is_an_object_and_goes_to_other_threads() {
    fn sent<'a>(run: &'a mut (dyn Execution + 'a)) -> BoxFuture<'a, Result<Visit, RunError>> {
        run.visit()
    }
    let mut run: Box<dyn Execution> =
        Box::new(named("one", blocking(|_| Ok(1_u32))).execution(vec![], &RunOptions::new()));

    let state = tokio::spawn(async move {
        sent(&mut *run).await.unwrap();
        run.save().unwrap()
    });

    assert_eq!(state.await.unwrap(), b"[1]");
}
