//! Flows as nodes of flows (SEMANTICS row 18).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{alone, awaiting, blocking, ended};
use flowstone_core::{
    Action, AsyncFlow, END, Flow, IntoNode, Label, NodeExt, Phase, Result, RunError, RunOptions, State, SyncKind,
    Unrouted,
};

type Trail = Vec<String>;

/// A node that writes its name down and returns an action.
fn mark(name: &'static str, action: &'static str) -> impl Fn(&mut Trail) -> Action + Send + Sync + 'static {
    move |trail| {
        trail.push(name.to_owned());
        action.into()
    }
}

/// A flow `name` around one node `node`.
fn around<S: State, M, N>(name: &str, node: N) -> Flow<S>
where
    N: IntoNode<S, SyncKind, M>,
{
    let mut flow = Flow::builder(name);
    let node = flow.add("node", node);
    flow.start(node);
    flow.build().unwrap()
}

/// A flow of two nodes, of which the second returns `exit`.
fn two(name: &'static str, exit: &'static str) -> Flow<Trail> {
    let mut flow = Flow::builder(name);
    let one = flow.add("one", mark("one", ""));
    let two = flow.add("two", mark("two", exit));
    flow.start(one);
    flow.route(one >> two);
    flow.build().unwrap()
}

#[test]
fn the_exit_of_an_inner_flow_is_its_action_in_the_outer_one() {
    for (exit, expected) in [("paid", "shipped"), ("refused", "sorry"), ("", "both")] {
        let mut outer = Flow::builder("outer");
        let pay = outer.add("pay", two("pay", exit));
        let [ship, sorry, other] = ["shipped", "sorry", "both"].map(|name| outer.add(name, mark(name, "")));
        outer.start(pay);
        outer.route(pay - "paid" >> ship);
        outer.route(pay - "refused" >> sorry);
        outer.route(pay >> other);
        let flow = outer.build().unwrap();

        let mut trail = vec![];
        ended(flow.run(&mut trail));

        assert_eq!(trail, ["one", "two", expected]);
    }
}

#[test]
fn the_exit_of_an_inner_flow_without_outer_edges_is_the_last_action() {
    let flow = around("outer", around("middle", two("inner", "done")));

    let action = ended(flow.run(&mut vec![]));

    assert_eq!(action, "done");
}

#[test]
fn flows_nest_as_deep_as_you_like() {
    let mut flow = two("level 0", "done");
    for depth in 1..40 {
        flow = around(&format!("level {depth}"), flow);
    }

    let mut trail = vec![];
    let action = ended(flow.run(&mut trail));

    assert_eq!((trail, action.as_str()), (vec!["one".to_owned(), "two".to_owned()], "done"));
    let path = format!("{}two", "node/".repeat(39));
    assert_eq!(*flow.path(flow.position(&path).unwrap()), path.as_str());
}

#[test]
fn the_end_inside_an_inner_flow_ends_that_flow_only() {
    let mut inner = Flow::builder("inner");
    let check = inner.add("check", mark("check", "stop"));
    let never = inner.add("never", mark("never", ""));
    inner.start(check);
    inner.route(check - "stop" >> END);
    inner.route(check - "go" >> never);
    let mut outer = Flow::builder("outer");
    let nested = outer.add("nested", inner.build().unwrap());
    let after = outer.add("after", mark("after", "all done"));
    outer.start(nested);
    outer.route(nested - "stop" >> after);
    outer.route(nested >> END);

    let mut trail = vec![];
    let action = ended(outer.build().unwrap().run(&mut trail));

    assert_eq!((trail, action.as_str()), (vec!["check".to_owned(), "after".to_owned()], "all done"));
}

/// The result of a payment.
enum Paid {
    Yes,
    No,
}

impl Label for Paid {
    const NAMES: &'static [&'static str] = &["yes", "no"];

    fn index(&self) -> Option<usize> {
        Some(match self {
            Self::Yes => 0,
            Self::No => 1,
        })
    }

    fn action(self) -> Action {
        Self::NAMES[self.index().unwrap()].into()
    }
}

#[test]
fn map_exit_gives_the_exits_names_of_their_own() {
    for (exit, expected) in [("paid", "thanks"), ("refused", "sorry"), ("anything", "sorry")] {
        let mut outer = Flow::builder("outer");
        let inner = two("inner", exit).map_exit(|exit| if *exit == "paid" { Paid::Yes } else { Paid::No });
        let pay = outer.add("pay", inner);
        let [thanks, sorry] = ["thanks", "sorry"].map(|name| outer.add(name, mark(name, "")));
        outer.start(pay);
        outer.route(pay - Paid::Yes >> thanks);
        outer.route(pay - Paid::No >> sorry);

        let mut trail = vec![];
        ended(outer.build().unwrap().run(&mut trail));

        assert_eq!(trail, ["one", "two", expected]);
    }
}

#[test]
fn map_exit_can_be_applied_twice() {
    let flow = two("inner", "a")
        .map_exit(|exit| Action::from(format!("{exit}b")))
        .map_exit(|exit| Action::from(format!("{exit}c")));

    assert_eq!(ended(flow.run(&mut vec![])), "abc");
    assert_eq!(ended(around("outer", flow).run(&mut vec![])), "abc");
}

#[test]
fn map_exit_leaves_the_flow_that_it_was_made_of() {
    let flow = two("inner", "a");
    let mapped = flow.clone().map_exit(|_| Paid::No);

    assert_eq!([ended(flow.run(&mut vec![])), ended(mapped.run(&mut vec![]))], ["a", "no"]);
}

#[test]
fn one_flow_can_be_several_nodes_of_another() {
    let inner = two("inner", "");
    let mut outer = Flow::builder("outer");
    let (a, b) = (outer.add("a", inner.clone()), outer.add("b", inner));
    outer.start(a);
    outer.route(a >> b);
    let flow = outer.build().unwrap();

    let mut trail = vec![];
    ended(flow.run(&mut trail));

    assert_eq!(trail, ["one", "two", "one", "two"]);
    assert!(flow.position("a/two").is_some() && flow.position("b/two").is_some());
}

#[test]
fn an_inner_flow_can_be_part_of_a_loop() {
    let mut inner = Flow::builder("inner");
    let add = inner.add("add", |n: &mut u32| {
        *n += 1;
        Action::from(if *n < 5 { "again" } else { "enough" })
    });
    inner.start(add);
    let mut outer = Flow::builder("outer");
    let nested = outer.add("nested", inner.build().unwrap());
    outer.start(nested);
    outer.route(nested - "again" >> nested);
    outer.route(nested - "enough" >> END);

    let mut n = 0;
    let action = ended(outer.build().unwrap().run(&mut n));

    assert_eq!((n, action.as_str()), (5, "enough"));
}

/// A state with two parts.
#[derive(Default)]
struct Trip {
    order: Vec<u32>,
    done: bool,
}

impl AsRef<Vec<u32>> for Trip {
    fn as_ref(&self) -> &Vec<u32> {
        &self.order
    }
}

impl AsMut<Vec<u32>> for Trip {
    fn as_mut(&mut self) -> &mut Vec<u32> {
        &mut self.order
    }
}

#[test]
fn a_flow_over_a_part_of_the_state_is_a_node() {
    let pay = around("pay", blocking(|cx| Ok(cx.visit() as u32 + 7)));
    let mut outer = Flow::builder("outer");
    let first = outer.add("first", |trip: &mut Trip| trip.order.push(1));
    let pay = outer.add("pay", pay.on::<Vec<u32>>());
    let last = outer.add("last", |trip: &mut Trip| trip.done = trip.order.len() == 2);
    outer.start(first);
    outer.route(first >> pay >> last);

    let mut trip = Trip::default();
    ended(outer.build().unwrap().run(&mut trip));

    assert_eq!((trip.order, trip.done), (vec![1, 8], true));
}

#[tokio::test]
async fn an_async_flow_over_a_part_holds_every_kind_of_node() {
    let mut inner = AsyncFlow::builder("inner");
    let awaited = inner.add("awaited", awaiting(|_| async { Ok(1) }));
    let pooled = inner.add("pooled", blocking(|_| Ok(2)));
    let inline = inner.add("inline", blocking(|_| Ok(3)).inline());
    let closure = inner.add("closure", |order: &mut Vec<u32>| order.push(4));
    let deeper = inner.add("deeper", around("sync", blocking(|_| Ok(5))));
    inner.start(awaited);
    inner.route(awaited >> pooled >> inline >> closure >> deeper);
    let flow = alone(inner.build().unwrap().on::<Vec<u32>>());

    let mut trip = Trip::default();
    ended(flow.run_async(&mut trip).await);

    assert_eq!(trip.order, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_sync_flow_is_a_node_of_an_async_one() {
    let mut outer = AsyncFlow::builder("outer");
    let inner = outer.add("inner", around("middle", two("inner", "x")));
    let last = outer.add("last", mark("last", "end"));
    outer.start(inner);
    outer.route(inner - "x" >> last);
    outer.route(inner >> END);

    let mut trail = vec![];
    let action = ended(outer.build().unwrap().run_async(&mut trail).await);

    assert_eq!((trail, action.as_str()), (["one", "two", "last"].map(str::to_owned).to_vec(), "end"));
}

#[test]
fn an_error_names_the_path_of_its_node() {
    let broken = around("inner", |_: &mut Trail| -> Result<()> { Err("broken".into()) });
    let flow = around("outer", around("middle", broken));

    let error = flow.run_with(&mut vec![], &RunOptions::new().id("r1")).unwrap_err();

    assert!(matches!(error, RunError::Node { phase: Phase::Post, .. }));
    assert_eq!(*error.node(), "node/node/node");
}

#[test]
fn an_unrouted_exit_names_the_inner_flow_its_action_and_its_edges() {
    let mut outer = Flow::builder("outer");
    let pay = outer.add("pay", two("inner", "odd"));
    let [ship, sorry] = ["ship", "sorry"].map(|name| outer.add(name, mark(name, "")));
    outer.start(pay);
    outer.route(pay - "paid" >> ship);
    outer.route(pay - "refused" >> sorry);
    let flow = around("whole", outer.build().unwrap());

    let mut trail = vec![];
    let error = flow.run(&mut trail).unwrap_err();

    let RunError::Unrouted { node, action, edges, .. } = error else { panic!("{error}") };
    assert_eq!((node.as_str(), action.as_str()), ("node/pay", "odd"));
    assert_eq!(edges, [Action::from("paid"), Action::from("refused")]);
    assert_eq!(trail, ["one", "two"]);
}

/// `outer(middle(inner(node)))`, where node, inner and middle have an edge `x`, which is not returned.
fn levels(rules: [Unrouted; 3]) -> Flow<Trail> {
    let mut flow = around("inner", mark("node", "odd"));
    for (name, rule) in ["a", "b", "c"].into_iter().zip(rules) {
        let mut level = Flow::builder(name);
        let nested = level.add("nested", flow);
        let other = level.add("other", mark("other", ""));
        level.start(nested);
        level.route(nested - "x" >> other);
        level.unrouted(rule);
        flow = level.build().unwrap();
    }
    flow
}

#[test]
fn each_level_has_its_own_rule_for_unrouted_actions() {
    use Unrouted::{End, Error};

    let ends = [
        ([End, End, End], Ok("odd")),
        ([Error, End, End], Err("nested/nested/nested")),
        ([End, Error, End], Err("nested/nested")),
        ([End, End, Error], Err("nested")),
    ];

    for (rules, expected) in ends {
        match (levels(rules).run(&mut vec![]), expected) {
            (Ok(outcome), Ok(action)) => assert_eq!(*outcome.action().unwrap(), action),
            (Err(RunError::Unrouted { node, action, .. }), Err(path)) => {
                assert_eq!((node.as_str(), action.as_str()), (path, "odd"), "{rules:?}");
            }
            (result, _) => panic!("{rules:?}: {result:?}"),
        }
    }
}

#[test]
fn an_edge_to_the_end_whose_exit_no_outer_edge_fits_is_an_error_of_the_run() {
    let mut inner = Flow::builder("inner");
    let first = inner.add("first", |exit: &mut Action| exit.clone());
    let open = inner.add("open", |_: &mut Action| Action::from("any"));
    inner.start(first);
    inner.route(first - "end" >> END);
    inner.route(first - "open" >> open);
    let mut outer = Flow::builder("outer");
    let inner = outer.add("inner", inner.build().unwrap());
    let after = outer.add("after", |_: &mut Action| ());
    outer.start(inner);
    outer.route(inner - "any" >> after);

    let flow = outer.build().unwrap();

    assert_eq!(ended(flow.run(&mut "open".into())), "default");
    let error = flow.run(&mut "end".into()).unwrap_err();
    assert!(
        matches!(&error, RunError::Unrouted { node, action, .. } if *node == "inner" && *action == "end"),
        "{error}"
    );
}
