//! Flows over a part of the state that a closure picks: two parts of one type, exits, pauses, both kinds of flow.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{awaiting, blocking, ended};
use flowstone_core::{Action, Ask, AsyncFlow, END, Flow, Outcome, Pause, Result, RunError};

#[derive(Debug, Default, PartialEq)]
struct Team {
    writer: Vec<u32>,
    editor: Vec<u32>,
    done: bool,
}

/// Asks for a number; one that is odd is an exit of its own.
struct Number;

impl Ask<Vec<u32>> for Number {
    type Question = usize;
    type Answer = u32;
    type Action = Action;

    fn ask(&self, part: &Vec<u32>) -> Result<usize> {
        Ok(part.len())
    }

    fn post(&self, part: &mut Vec<u32>, answer: u32) -> Result<Action> {
        part.push(answer);
        Ok(Action::from(if answer % 2 == 1 { "odd" } else { "even" }))
    }
}

fn asking() -> Flow<Vec<u32>> {
    let mut flow = Flow::builder("asking");
    let begin = flow.add("begin", |part: &mut Vec<u32>| part.push(1));
    let ask = flow.add("ask", Number);
    flow.start(begin);
    flow.route(begin >> ask);
    flow.build().unwrap()
}

fn paused(outcome: Result<Outcome, RunError>) -> Pause {
    match outcome.unwrap() {
        Outcome::Paused(pause) => pause,
        Outcome::Ended(action) => panic!("it ended with {action}"),
    }
}

#[test]
fn two_flows_over_the_same_type_have_parts_of_their_own() {
    let mut work = Flow::builder("work");
    let add = work.add("add", blocking(|cx| Ok(cx.visit() as u32)));
    work.start(add);
    let work = work.build().unwrap();
    let mut flow = Flow::builder("team");
    let writer = flow.add("writer", work.clone().within(|team: &mut Team| &mut team.writer));
    let editor = flow.add("editor", work.within(|team: &mut Team| &mut team.editor));
    let last = flow.add("last", |team: &mut Team| team.done = true);
    flow.start(writer);
    flow.route(writer >> editor >> last);
    let flow = flow.build().unwrap();

    let mut team = Team::default();
    ended(flow.run(&mut team));

    assert_eq!(team, Team { writer: vec![0], editor: vec![1], done: true });
    assert!(flow.position("writer/add").is_some() && flow.position("editor/add").is_some());
}

#[tokio::test]
async fn an_async_flow_takes_parts_of_both_kinds_of_flow() {
    let mut awaits = AsyncFlow::builder("awaits");
    let (one, two) = (awaits.add("one", awaiting(|_| async { Ok(1) })), awaits.add("two", blocking(|_| Ok(2))));
    awaits.start(one);
    awaits.route(one >> two);
    let mut sync = Flow::builder("sync");
    let three = sync.add("three", blocking(|_| Ok(3)));
    sync.start(three);
    let mut flow = AsyncFlow::builder("team");
    let writer = flow.add("writer", awaits.build().unwrap().within(|team: &mut Team| &mut team.writer));
    let editor = flow.add("editor", sync.build().unwrap().within(|team: &mut Team| &mut team.editor));
    flow.start(writer);
    flow.route(writer >> editor);

    let mut team = Team::default();
    ended(flow.build().unwrap().run_async(&mut team).await);

    assert_eq!(team, Team { writer: vec![1, 2], editor: vec![3], done: false });
}

#[test]
fn a_part_that_asks_pauses_the_run_and_its_exits_are_actions() {
    let mut flow = Flow::builder("team");
    let writer = flow.add("writer", asking().within(|team: &mut Team| &mut team.writer));
    let editor = flow.add("editor", asking().within(|team: &mut Team| &mut team.editor));
    flow.start(writer);
    flow.route(writer - "odd" >> writer);
    flow.route(writer - "even" >> editor);
    flow.route(editor - "odd" >> writer);
    flow.route(editor - "even" >> END);
    let flow = flow.build().unwrap();

    let mut team = Team::default();
    let pause = paused(flow.run(&mut team));
    assert_eq!((pause.node().as_str(), pause.question()), ("writer/ask", &1.into()));
    assert!(flow.fits(pause.position(), &"x".into()).is_err() && flow.fits(pause.position(), &3.into()).is_ok());
    let RunError::Answer { pause, .. } = flow.resume(&mut team, pause, "x").unwrap_err() else { panic!() };
    let pause = paused(flow.resume(&mut team, pause, 3));
    let pause = paused(flow.resume(&mut team, pause, 4));
    assert_eq!((pause.node().as_str(), pause.question()), ("editor/ask", &1.into()));
    let action = ended(flow.resume(&mut team, pause, 6));

    assert_eq!(action, "even");
    assert_eq!(team, Team { writer: vec![1, 3, 1, 4], editor: vec![1, 6], done: false });
}

#[tokio::test]
async fn a_part_of_a_part_may_ask_in_an_async_flow() {
    struct Firm {
        team: Team,
    }
    let mut middle = AsyncFlow::builder("middle");
    let writer = middle.add("writer", asking().within(|team: &mut Team| &mut team.writer));
    middle.start(writer);
    let middle = middle.build().unwrap().map_exit(|exit| Action::from(format!("{exit}!")));
    let mut flow = AsyncFlow::builder("firm");
    let team = flow.add("team", middle.within(|firm: &mut Firm| &mut firm.team));
    flow.start(team);
    let flow = flow.build().unwrap();

    let mut firm = Firm { team: Team::default() };
    let pause = paused(flow.run_async(&mut firm).await);
    assert_eq!(pause.node().as_str(), "team/writer/ask");
    let action = ended(flow.resume(&mut firm, pause, 8).await);

    assert_eq!((action.as_str(), firm.team.writer), ("even!", vec![1, 8]));
}

#[test]
fn a_flow_knows_its_first_question_also_in_a_part() {
    let mut flow = Flow::builder("team");
    let begin = flow.add("begin", |_: &mut Team| ());
    let writer = flow.add("writer", asking().within(|team: &mut Team| &mut team.writer));
    flow.start(begin);
    flow.route(begin >> writer);
    let mut silent = Flow::<Team>::builder("silent");
    let only = silent.add("only", |_: &mut Team| ());
    silent.start(only);

    assert_eq!(flow.build().unwrap().asks().unwrap().as_str(), "writer/ask");
    assert_eq!(silent.build().unwrap().asks(), None);
}
