//! Flows: chains, branches, loops, and one flow run many times (SEMANTICS rows 10, 11, 13, 16, 17, 20; LESSONS 6, 19,
//! 23).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{alone, alone_sync, awaiting, blocking, ended, rest, secs};
use flowstone_core::{
    Action, AsyncFlow, END, Flow, HasDefault, Label, Outcome, RunError, RunOptions, Shared, driver::Visit,
};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

/// A number beside 10.
#[derive(Clone, Copy)]
enum Size {
    Small,
    Large,
}

impl Label for Size {
    const NAMES: &'static [&'static str] = &["small", "large"];

    fn index(&self) -> Option<usize> {
        Some(*self as usize)
    }

    fn action(self) -> Action {
        Self::NAMES[self as usize].into()
    }
}

fn size(n: &mut u64) -> Size {
    if *n < 10 { Size::Small } else { Size::Large }
}

#[test]
fn a_chain_runs_in_order() {
    let mut flow = Flow::builder("chain");
    let nodes = ["a", "b", "c", "d"].map(|name| flow.add(name, move |seen: &mut String| seen.push_str(name)));
    flow.start(nodes[0]);
    flow.route(nodes[0] >> nodes[1] >> nodes[2] >> nodes[3]);

    let mut seen = String::new();
    let action = ended(flow.build().unwrap().run(&mut seen));

    assert_eq!((seen.as_str(), action.as_str()), ("abcd", "default"));
}

#[test]
fn the_order_of_adding_nodes_does_not_matter() {
    let mut flow = Flow::builder("chain");
    let nodes = ["c", "a", "b"].map(|name| flow.add(name, move |seen: &mut String| seen.push_str(name)));
    flow.route(nodes[2] >> nodes[0]);
    flow.route(nodes[1] >> nodes[2]);
    flow.start(nodes[1]);

    let mut seen = String::new();
    ended(flow.build().unwrap().run(&mut seen));

    assert_eq!(seen, "abc");
}

/// Grows a number by loops and branches until it is large.
fn grow() -> Flow<u64> {
    let mut flow = Flow::builder("grow");
    let check = flow.add("check", size);
    let double = flow.add("double", |n: &mut u64| *n = *n * 2 + 1);
    let negate = flow.add("report", |n: &mut u64| *n += 1_000);
    flow.start(check);
    flow.route(check - Size::Small >> double >> check);
    flow.route(check - Size::Large >> negate);
    flow.build().unwrap()
}

#[test]
fn labels_pick_branches_and_edges_make_loops() {
    let flow = grow();

    let ends = [0, 3, 10, 12].map(|start| {
        let mut n = start;
        ended(flow.run(&mut n));
        n
    });

    assert_eq!(ends, [1_015, 1_015, 1_010, 1_012]);
}

#[test]
fn an_edge_to_the_end_ends_the_flow_with_its_action() {
    let mut flow = Flow::builder("ends");
    let check = flow.add("check", size);
    let never = flow.add("never", |n: &mut u64| *n = 0);
    flow.start(check);
    flow.route(check - Size::Small >> never);
    flow.route(check - Size::Large >> END);

    let mut n = 11;
    let action = ended(flow.build().unwrap().run(&mut n));

    assert_eq!((n, action.as_str()), (11, "large"));
}

#[test]
fn a_node_without_edges_is_the_last_whatever_it_returns() {
    let mut typed = Flow::builder("typed");
    let check = typed.add("check", size);
    typed.start(check);
    let string = alone_sync(|n: &mut u64| Action::from(format!("done {n}")));

    let actions = [ended(typed.build().unwrap().run(&mut 1)), ended(string.run(&mut 7))];

    assert_eq!(actions, ["small", "done 7"]);
}

#[test]
fn a_flow_has_a_default_action_where_its_node_names_none() {
    fn has_default<A: HasDefault>() -> &'static [&'static str] {
        A::NAMES
    }

    assert_eq!(has_default::<()>(), ["default"]);
    assert_eq!(has_default::<Action>(), [""; 0]);
}

#[tokio::test]
async fn a_built_flow_runs_many_times_at_once_and_nothing_leaks() {
    let mut flow = AsyncFlow::builder("many");
    let first = flow.add(
        "first",
        awaiting(|cx| async move {
            tokio::task::yield_now().await;
            Ok(cx.run_id().to_string())
        }),
    );
    let second = flow.add("second", blocking(|cx| Ok(cx.run_id().to_string())));
    flow.start(first);
    flow.route(first >> second);
    let flow = flow.build().unwrap();

    let runs = (0..500).map(|number| {
        let flow = &flow;
        async move {
            let mut state = vec![];
            ended(flow.run_async_with(&mut state, &RunOptions::new().id(format!("run {number}"))).await);
            state
        }
    });
    let states = join_all(runs).await;

    for (number, state) in states.into_iter().enumerate() {
        assert_eq!(state, vec![format!("run {number}"); 2]);
    }
}

#[test]
fn a_sync_flow_runs_on_many_threads_at_once() {
    let flow = grow();

    let threads = (0..8).map(|_| {
        let flow = flow.clone();
        std::thread::spawn(move || {
            (0..1_000).all(|start| {
                let mut n = start;
                ended(flow.run(&mut n));
                n >= 1_010
            })
        })
    });

    assert!(threads.collect::<Vec<_>>().into_iter().all(|thread| thread.join().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn two_runs_on_one_thread_overlap_their_waits() {
    let flow = alone(awaiting(|_| rest(secs(2))));

    let before = Instant::now();
    let (mut one, mut two) = (vec![], vec![]);
    let (a, b) = tokio::join!(flow.run_async(&mut one), flow.run_async(&mut two));

    assert!(a.is_ok() && b.is_ok());
    assert_eq!(before.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn a_run_can_be_spawned() {
    let flow = alone(awaiting(|_| async { Ok(5) }));

    let state = tokio::spawn(async move {
        let mut state = vec![];
        flow.run_async(&mut state).await.map(|_| state)
    });

    assert_eq!(state.await.unwrap().unwrap(), [5]);
}

#[test]
fn a_clone_of_a_flow_is_the_same_flow() {
    let flow = grow();
    let clone = flow.clone();

    assert_eq!(size_of_val(&clone), size_of::<usize>());
    assert!(std::ptr::eq(flow.name(), clone.name()), "the clone has a graph of its own");
}

#[test]
fn a_json_object_is_a_ready_state() {
    let mut flow = Flow::builder("dynamic");
    let set = flow.add("set", |state: &mut Shared| {
        state.insert("answer".to_owned(), json!(42));
        Action::from("done")
    });
    flow.start(set);

    let mut state = Shared::new();
    let action = ended(flow.build().unwrap().run(&mut state));

    assert_eq!((action.as_str(), &state["answer"]), ("done", &json!(42)));
}

const MANY: u64 = 1_000_000;

/// A loop of two nodes, of which the second decides.
fn long_loop() -> (Flow<u64>, AsyncFlow<u64>) {
    macro_rules! build {
        ($flow:ident) => {{
            let mut flow = $flow::builder("long");
            let count = flow.add("count", |n: &mut u64| *n += 1);
            let decide = flow.add("decide", |n: &mut u64| if *n < MANY / 2 { Size::Small } else { Size::Large });
            flow.start(count);
            flow.route(count >> decide);
            flow.route(decide - Size::Small >> count);
            flow.route(decide - Size::Large >> END);
            flow.build().unwrap()
        }};
    }
    (build!(Flow), build!(AsyncFlow))
}

#[test]
fn a_loop_of_a_million_visits_takes_no_stack() {
    let work = || {
        let (sync, awaited) = long_loop();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut counts = [0; 2];

        ended(sync.run(&mut counts[0]));
        ended(runtime.block_on(awaited.run_async(&mut counts[1])));
        counts
    };
    let small_stack = std::thread::Builder::new().stack_size(256 * 1024);

    let counts = small_stack.spawn(work).unwrap().join().unwrap();

    assert_eq!(counts, [MANY / 2; 2]);
}

#[tokio::test]
async fn a_driver_can_visit_node_by_node() {
    let (sync, awaited) = long_loop();

    let (mut n, mut cx, mut at) = (MANY / 2 - 2, sync.context(&RunOptions::new()), sync.start());
    let mut seen = vec![];
    let action = loop {
        seen.push(format!("{} {}", sync.path(at), n));
        match sync.visit(at, &mut n, &mut cx).unwrap() {
            Visit::Next { next, .. } => at = next,
            Visit::End { exit, .. } => break exit,
            Visit::Pause(_) | Visit::Sleep { .. } | Visit::Parked => panic!("nothing asks or sleeps"),
        }
    };
    let (mut m, mut cx) = (0, awaited.context(&RunOptions::new()));
    let next = awaited.visit(awaited.start(), &mut m, &mut cx).await.unwrap();

    assert_eq!(seen, ["count 499998", "decide 499999", "count 499999", "decide 500000"]);
    assert_eq!(action, "large");
    assert!(matches!(next, Visit::Next { next, .. } if Some(next) == awaited.position("decide")));
    assert_eq!(m, 1);
}

#[test]
fn positions_and_paths_belong_together() {
    let flow = grow();

    let start = flow.start();

    assert_eq!(*flow.path(start), "check");
    assert_eq!(flow.position("check"), Some(start));
    assert_eq!(flow.position("nowhere"), None);
}

#[tokio::test]
async fn an_async_run_that_never_waits_lets_others_run() {
    let mut flow = AsyncFlow::builder("spin");
    let spin = flow.add("spin", |n: &mut u64| *n += 1);
    flow.start(spin);
    flow.route(spin >> spin);
    let flow = flow.build().unwrap();

    let mut n = 0;
    let timer = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = flow.run_async(&mut n) => panic!("{result:?}"),
        () = timer => {}
    }

    assert!(n > 0);
}

#[test]
fn an_outcome_tells_its_action() {
    let outcome = grow().run(&mut 5).unwrap();

    assert_eq!(outcome.action(), Some(&Action::DEFAULT));
    assert!(matches!(outcome, Outcome::Ended(_)));
}

#[test]
fn an_error_of_a_run_shows_run_and_node() {
    let flow: Flow<Vec<u32>> = alone_sync(blocking(|_| Err("no such file".into())));

    let error: RunError = flow.run_with(&mut vec![], &RunOptions::new().id("r1")).unwrap_err();

    assert_eq!(crate::common::causes(&error), "run `r1`: node `node` failed in exec after 1 attempt: no such file");
}
