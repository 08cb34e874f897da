//! A flow per item: fork, children with states of their own, join (SEMANTICS rows 21, 25, 27, 30, 31).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{Alive, Count, Log, alone, alone_sync, awaiting, blocking, ended, rest, secs};
use flowstone_core::{Action, AsyncFlow, Child, Flow, NodeExt, Phase, Result, Retry, RunError, RunOptions};
use tokio::time::{Instant, sleep};

/// A flow over a number, which it doubles and then adds one to.
fn grow() -> Flow<u32> {
    let mut flow = Flow::builder("grow");
    let double = flow.add("double", |n: &mut u32| *n *= 2);
    let add = flow.add("add", |n: &mut u32| *n += 1);
    flow.start(double);
    flow.route(double >> add);
    flow.build().unwrap()
}

fn join(numbers: &mut Vec<u32>, ended: Vec<u32>) {
    *numbers = ended;
}

#[test]
fn children_run_on_forked_states_and_are_joined_in_input_order() {
    let flow = alone_sync(grow().batch(Vec::clone, join));

    let mut numbers = vec![1, 5, 3];
    let action = ended(flow.run(&mut numbers));

    assert_eq!((numbers, action.as_str()), (vec![3, 11, 7], "default"));
}

#[test]
fn join_is_called_when_there_are_no_children() {
    let flow = alone_sync(grow().batch(
        |_: &Vec<u32>| vec![],
        |numbers: &mut Vec<u32>, ended| {
            assert!(ended.is_empty());
            numbers.push(9);
        },
    ));

    let mut numbers = vec![];
    ended(flow.run(&mut numbers));

    assert_eq!(numbers, [9]);
}

#[test]
fn the_action_of_join_picks_the_edge() {
    let mut flow = Flow::builder("outer");
    let each = flow.add(
        "each",
        grow().batch(Vec::clone, |numbers: &mut Vec<u32>, ended: Vec<u32>| {
            *numbers = ended;
            Action::from(if numbers.iter().sum::<u32>() > 10 { "large" } else { "small" })
        }),
    );
    let [large, small] =
        [100, 200].map(|mark| flow.add(mark.to_string(), move |numbers: &mut Vec<u32>| numbers.push(mark)));
    flow.start(each);
    flow.route(each - "large" >> large);
    flow.route(each - "small" >> small);
    let flow = flow.build().unwrap();

    let mut states = [vec![1], vec![9]];
    states.iter_mut().for_each(|state| drop(ended(flow.run(state))));

    assert_eq!(states, [vec![3, 200], vec![19, 100]]);
}

#[test]
fn sequential_children_run_one_after_another() {
    let log = Log::default();
    let (first, second) = (log.clone(), log.clone());
    let mut child = Flow::builder("child");
    let a = child.add("a", move |n: &mut u32| first.push(format!("a{n}")));
    let b = child.add("b", move |n: &mut u32| second.push(format!("b{n}")));
    child.start(a);
    child.route(a >> b);
    let flow = alone_sync(child.build().unwrap().batch(Vec::clone, join));

    ended(flow.run(&mut vec![1, 2, 3]));

    assert_eq!(log.lines(), ["a1", "b1", "a2", "b2", "a3", "b3"]);
}

/// A child that waits a second, or as long as its state says.
fn waits() -> AsyncFlow<Vec<u64>> {
    let mut flow = AsyncFlow::builder("waits");
    let wait = flow.add(
        "wait",
        flowstone_core::step(
            |state: &Vec<u64>| state[0],
            |seconds: u64| rest(secs(seconds)),
            |state: &mut Vec<u64>, _, ()| state.push(0),
        ),
    );
    flow.start(wait);
    flow.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn parallel_children_overlap_their_waits_and_keep_their_order() {
    for (limit, expected) in [(1, 15), (2, 8), (5, 5), (usize::MAX, 5)] {
        let each = waits().batch(
            |_: &Vec<Vec<u64>>| (1..=5).rev().map(|seconds| vec![seconds]).collect(),
            |all: &mut Vec<Vec<u64>>, ended| *all = ended,
        );
        let flow = alone(each.parallel(limit));

        let before = Instant::now();
        let mut all = vec![];
        ended(flow.run_async(&mut all).await);

        assert_eq!(all, [[5, 0], [4, 0], [3, 0], [2, 0], [1, 0]], "limit {limit}");
        assert_eq!(before.elapsed().as_secs(), expected, "limit {limit}");
    }
}

/// A child that fails for odd numbers, after it has written to its state.
fn picky() -> Flow<u32> {
    let mut flow = Flow::builder("picky");
    let write = flow.add("write", |n: &mut u32| *n += 100);
    let check = flow.add("check", |n: &mut u32| -> Result<Action> {
        if *n % 2 == 1 { Err(format!("{n} is odd").into()) } else { Ok("even".into()) }
    });
    flow.start(write);
    flow.route(write >> check);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_child_that_fails_ends_the_run_with_its_own_error_and_path() {
    let sync = alone_sync(picky().batch(Vec::clone, join));
    let flows = [alone(picky().batch(Vec::clone, join)), alone(picky().batch(Vec::clone, join).parallel(3))];

    let mut states = vec![vec![2, 4, 5, 6]; 3];
    let mut results = vec![sync.run(&mut states[0])];
    for (flow, state) in flows.iter().zip(&mut states[1..]) {
        results.push(flow.run_async(state).await);
    }

    for result in results {
        let RunError::Node { node, phase: Phase::Post, source, .. } = result.unwrap_err() else { panic!() };
        assert_eq!((node.as_str(), source.to_string().as_str()), ("node[2]/check", "105 is odd"));
    }
    assert_eq!(states, vec![vec![2, 4, 5, 6]; 3], "join was called");
}

/// The result of a child, and its state.
type Report = (u32, Result<String, String>);

#[tokio::test]
async fn failed_children_are_collected_with_their_state_and_error() {
    let reports = |ended: Vec<Child<u32>>| -> Vec<Report> {
        let result =
            |child: Child<u32>| child.result.map(|action| action.to_string()).map_err(|error| error.node().to_string());
        ended.into_iter().map(|child| (child.state, result(child))).collect()
    };
    let fork = |_: &Vec<Report>| vec![1, 2, 3];
    let join = move |all: &mut Vec<Report>, ended| *all = reports(ended);
    let sync = alone_sync(picky().batch_collect(fork, join));
    let parallel = alone(picky().batch_collect(fork, join).parallel(2));

    let mut states = [vec![], vec![]];
    ended(sync.run(&mut states[0]));
    ended(parallel.run_async(&mut states[1]).await);

    let failed = |item: u32| Err(format!("node[{item}]/check"));
    let expected = vec![(101, failed(0)), (102, Ok("even".to_owned())), (103, failed(2))];
    assert_eq!(states, [expected.clone(), expected]);
}

#[tokio::test(start_paused = true)]
async fn the_siblings_of_a_failed_child_are_cancelled() {
    let (alive, effects) = (Alive::default(), Count::default());
    let (begun, effect) = (alive.clone(), effects.clone());
    let child = awaiting(move |cx| {
        let (life, effect) = (begun.begin(), effect.clone());
        async move {
            let two = cx.node() == "node[2]/node";
            sleep(secs(if two { 1 } else { 5 })).await;
            if two {
                return Err("two broke".into());
            }
            effect.up();
            life.finish();
            Ok(0)
        }
    });
    let child: AsyncFlow<Vec<u32>> = crate::common::named("child", child);
    let flow = alone(child.batch(|_: &u32| vec![vec![]; 9], |_: &mut u32, _| ()).parallel(4));

    let before = Instant::now();
    let error = flow.run_async(&mut 0).await.unwrap_err();

    assert_eq!(error.node().as_str(), "node[2]/node");
    assert_eq!((before.elapsed().as_secs(), alive.now()), (1, 0));
    sleep(secs(60)).await;
    assert_eq!((alive.begun(), effects.get()), (4, 0));
}

#[test]
fn children_share_nothing() {
    let mut child = Flow::builder("child");
    let push = child.add("push", |state: &mut Vec<u32>| state.push(state.len() as u32));
    child.start(push);
    let flow = alone_sync(child.build().unwrap().batch(
        |_: &usize| vec![vec![]; 4],
        |all: &mut usize, ended: Vec<Vec<u32>>| {
            assert!(ended.iter().all(|state| *state == [0]));
            *all = ended.len();
        },
    ));

    let mut all = 0;
    ended(flow.run(&mut all));

    assert_eq!(all, 4);
}

/// Classes with students, each of which is graded by a flow in a flow.
fn school(grade: fn(u32) -> Result<u32>) -> Flow<Vec<Vec<u32>>> {
    let mut student = Flow::builder("student");
    let grade = student.add("grade", move |mark: &mut u32| -> Result<()> {
        *mark = grade(*mark)?;
        Ok(())
    });
    student.start(grade);
    let mut class = Flow::builder("class");
    let students = class.add("students", student.build().unwrap().batch(Vec::clone, join));
    class.start(students);
    let mut school = Flow::builder("school");
    let join = |all: &mut Vec<Vec<u32>>, ended| *all = ended;
    let classes = school.add("classes", class.build().unwrap().batch(Vec::clone, join));
    school.start(classes);
    school.build().unwrap()
}

#[test]
fn batch_flows_nest() {
    let flow = school(|mark| Ok(mark * 10));

    let mut state = vec![vec![1, 2], vec![], vec![3]];
    ended(flow.run(&mut state));

    assert_eq!(state, [vec![10, 20], vec![], vec![30]]);
}

#[test]
fn the_path_of_an_error_numbers_the_children() {
    let flow = school(|mark| if mark == 7 { Err("absent".into()) } else { Ok(mark) });

    let error = flow.run_with(&mut vec![vec![1], vec![7, 8]], &RunOptions::new().id("r1")).unwrap_err();

    assert_eq!(error.to_string(), "run `r1`: node `classes[1]/students[0]/grade` failed in post");
}

#[test]
fn an_unrouted_exit_inside_a_child_can_be_collected() {
    let mut inner = Flow::builder("inner");
    let node = inner.add("node", |n: &mut u32| Action::from(format!("at {n}")));
    inner.start(node);
    inner.route(node - "at 1" >> flowstone_core::END);
    let join = |all: &mut Vec<u32>, ended: Vec<Child<u32>>| {
        *all = ended.iter().filter(|child| child.result.is_ok()).map(|child| child.state).collect();
        assert!(matches!(&ended[1].result, Err(RunError::Unrouted { node, .. }) if *node == "node[1]/node"));
    };
    let flow = alone_sync(inner.build().unwrap().batch_collect(Vec::clone, join));

    let mut all = vec![1, 2];
    ended(flow.run(&mut all));

    assert_eq!(all, [1]);
}

fn unreachable_join() {
    panic!("join was called");
}

#[test]
fn a_run_that_is_to_stop_is_not_collected() {
    let flow = alone_sync(grow().batch_collect(Vec::clone, |_: &mut Vec<u32>, _| unreachable_join()));

    let error = flow.run_with(&mut vec![1, 2, 3], &RunOptions::new().max_visits(4)).unwrap_err();

    assert!(matches!(error, RunError::TooManyVisits { .. }), "{error}");
    assert_eq!(error.node().as_str(), "node[1]/add");
}

#[test]
fn children_retry_for_themselves() {
    let child = alone_sync(
        blocking(|cx| if cx.attempt() < 2 { Err("not yet".into()) } else { Ok(cx.attempt()) })
            .retry(Retry::attempts(3)),
    );
    let mut flow = Flow::builder("outer");
    let each = flow
        .add("each", child.batch(|_: &Vec<Vec<u32>>| vec![vec![]; 3], |all: &mut Vec<Vec<u32>>, ended| *all = ended));
    flow.start(each);

    let mut all = vec![];
    ended(flow.build().unwrap().run(&mut all));

    assert_eq!(all, [[2], [2], [2]]);
}
