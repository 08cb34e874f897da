//! Faults that `build()` refuses, all at once and by name (SEMANTICS rows 4, 12, 14, 15; LESSONS row 4).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{async_items, awaiting, blocking, items, secs};
use flowstone_core::{
    Action, Ask, AsyncFlow, BuildError, Builder, END, Fault, Flow, Label, NodeExt, Result, Retry, SyncKind, Unrouted,
    step,
};

type Sync = Builder<Vec<u32>, SyncKind>;

/// The faults of a sync flow `broken`.
fn faults(define: impl FnOnce(&mut Sync)) -> Vec<Fault> {
    let mut flow = Flow::builder("broken");
    define(&mut flow);
    flow.build().map(|_| ()).expect_err("the flow has faults").faults().to_vec()
}

/// The faults of an async flow that starts with this one node.
macro_rules! faults_of_async {
    ($node:expr) => {{
        let mut flow = AsyncFlow::<Vec<u32>>::builder("broken");
        let node = flow.add("node", $node);
        flow.start(node);
        flow.build().map(|_| ()).expect_err("the flow has faults").faults().to_vec()
    }};
}

fn nothing(_: &mut Vec<u32>) {}

/// The fault that a check found.
enum Verdict {
    Approve,
    Reject,
    Later,
}

impl Label for Verdict {
    const NAMES: &'static [&'static str] = &["approve", "reject", "later"];

    fn index(&self) -> Option<usize> {
        Some(match self {
            Self::Approve => 0,
            Self::Reject => 1,
            Self::Later => 2,
        })
    }

    fn action(self) -> Action {
        Self::NAMES[self.index().unwrap()].into()
    }
}

fn judge(state: &mut Vec<u32>) -> Verdict {
    match state.pop() {
        None => Verdict::Later,
        Some(0) => Verdict::Reject,
        Some(_) => Verdict::Approve,
    }
}

fn node(name: &str) -> String {
    name.to_owned()
}

#[test]
fn a_flow_needs_a_start() {
    let faults = faults(|flow| {
        flow.add("a", nothing);
    });

    assert_eq!(faults, [Fault::NoStart]);
}

#[test]
fn an_empty_flow_has_no_start() {
    assert_eq!(faults(|_| ()), [Fault::NoStart]);
}

#[test]
fn a_flow_has_one_start() {
    let faults = faults(|flow| {
        let (a, b) = (flow.add("a", nothing), flow.add("b", nothing));
        flow.route(a >> b);
        flow.start(a);
        flow.start(b);
    });

    assert_eq!(faults, [Fault::TwoStarts { first: node("a"), second: node("b") }]);
}

#[test]
fn a_name_is_not_empty_and_has_no_slash() {
    for name in ["", "/", "a/b", "/a", "a/"] {
        let faults = faults(|flow| {
            let it = flow.add(name, nothing);
            flow.start(it);
        });

        assert_eq!(faults, [Fault::BadName { name: node(name) }]);
    }
}

#[test]
fn any_other_name_will_do() {
    for name in
        ["🦀", " ", "a b", "line\nbreak", "\0", "[0]", "\\", "\"", "ünïcödé", "%2F", "..", &"long".repeat(10_000)]
    {
        let mut flow = Flow::<Vec<u32>>::builder(name);
        let it = flow.add(name, blocking(|_| Err(flowstone_core::NodeError::new("broken"))));
        flow.start(it);

        let flow = flow.build().unwrap();
        let error = flow.run(&mut vec![]).unwrap_err();

        assert_eq!((error.node().as_str(), flow.name()), (name, name));
        assert!(flow.position(name).is_some());
    }
}

#[test]
fn names_differ_within_a_flow() {
    let faults = faults(|flow| {
        let (one, two) = (flow.add("same", nothing), flow.add("same", nothing));
        flow.start(one);
        flow.route(one >> two);
    });

    assert_eq!(faults, [Fault::DuplicateName { name: node("same") }]);
}

#[test]
fn an_action_has_one_edge() {
    let faults = faults(|flow| {
        let [a, b, c] = ["a", "b", "c"].map(|name| flow.add(name, nothing));
        flow.start(a);
        flow.route(a >> b >> c);
        flow.route(a >> c);
        flow.route(b >> END);
    });

    let duplicate = |from: &str, first: &str, second: &str| Fault::DuplicateEdge {
        node: node(from),
        action: Action::DEFAULT,
        first: node(first),
        second: node(second),
    };
    assert_eq!(faults, [duplicate("a", "`b`", "`c`"), duplicate("b", "`c`", "the end")]);
}

#[test]
fn every_label_of_a_node_with_edges_is_routed() {
    let faults = faults(|flow| {
        let (judge, next) = (flow.add("judge", judge), flow.add("next", nothing));
        flow.start(judge);
        flow.route(judge - Verdict::Reject >> next);
    });

    let unrouted = |action: &'static str| Fault::UnroutedLabel { node: node("judge"), action: action.into() };
    assert_eq!(faults, [unrouted("approve"), unrouted("later")]);
}

#[test]
fn every_exit_of_an_inner_flow_with_edges_is_routed() {
    let faults = faults(|flow| {
        let mut inner = Flow::builder("inner");
        let judge = inner.add("judge", judge);
        inner.start(judge);
        let inner = flow.add("inner", inner.build().unwrap());
        flow.start(inner);
        flow.route(inner - "approve" >> END);
    });

    let unrouted = |action: &'static str| Fault::UnroutedLabel { node: node("inner"), action: action.into() };
    assert_eq!(faults, [unrouted("approve"), unrouted("later"), unrouted("reject")][1..]);
}

#[test]
fn an_inner_flow_has_no_edge_for_what_it_never_returns() {
    let faults = faults(|flow| {
        let mut inner = Flow::builder("inner");
        let only = inner.add("only", nothing);
        inner.start(only);
        let inner = flow.add("inner", inner.build().unwrap());
        flow.start(inner);
        flow.route(inner - "defualt" >> END);
        flow.route(inner >> END);
    });

    let (inner, actions) = (node("inner"), vec![Action::DEFAULT]);
    assert_eq!(faults, [Fault::UnknownLabel { node: inner, action: "defualt".into(), actions }]);
}

#[test]
fn every_node_can_be_reached() {
    let faults = faults(|flow| {
        let [a, b, c, d] = ["a", "b", "island", "islet"].map(|name| flow.add(name, nothing));
        flow.start(a);
        flow.route(a >> b >> a);
        flow.route(c >> d >> c);
    });

    assert_eq!(faults, ["island", "islet"].map(|name| Fault::Unreachable { node: node(name) }));
}

#[test]
fn an_inner_flow_that_cannot_be_reached_is_named_once() {
    let faults = faults(|flow| {
        let mut inner = Flow::builder("inner");
        let (x, y) = (inner.add("x", nothing), inner.add("y", nothing));
        inner.start(x);
        inner.route(x >> y);
        let a = flow.add("a", nothing);
        flow.add("lost", inner.build().unwrap());
        flow.start(a);
    });

    assert_eq!(faults, [Fault::Unreachable { node: node("lost") }]);
}

#[test]
fn handles_of_another_builder_are_noticed() {
    let mut other = Flow::<Vec<u32>>::builder("other");
    let foreign = other.add("foreign", nothing);

    let edge = faults(|flow| {
        let a = flow.add("a", nothing);
        flow.start(a);
        flow.route(a >> foreign);
        flow.route(foreign >> a);
    });
    let start = faults(|flow| {
        flow.add("a", nothing);
        flow.start(foreign);
    });

    assert_eq!(edge, [Fault::ForeignHandle, Fault::ForeignHandle]);
    assert_eq!(start, [Fault::ForeignHandle]);
}

#[test]
fn a_handle_of_a_larger_builder_does_not_panic() {
    let mut other = Flow::<Vec<u32>>::builder("other");
    let foreign = (0..10).map(|number| other.add(number.to_string(), nothing)).last().unwrap();

    let faults = faults(|flow| {
        let a = flow.add("a", nothing);
        flow.start(a);
        flow.start(foreign);
        flow.route(a >> foreign);
    });

    assert!(faults.contains(&Fault::ForeignHandle), "{faults:?}");
}

#[test]
fn zero_attempts_are_refused_for_every_kind_of_node() {
    let none = || Retry::attempts(0);
    let zero = [Fault::ZeroAttempts { node: node("node") }];

    let sync = faults(|flow| {
        let it = flow.add("node", blocking(|_| Ok(1)).retry(none()));
        flow.start(it);
    });

    assert_eq!(sync, zero);
    assert_eq!(faults_of_async!(blocking(|_| Ok(1)).retry(none()).inline()), zero);
    assert_eq!(faults_of_async!(awaiting(|_| async { Ok(1) }).retry(none())), zero);
    assert_eq!(faults_of_async!(items(1, |_, _| Ok(1)).retry(none())), zero);
    assert_eq!(faults_of_async!(async_items(1, |_, _| async { Ok(1) }).parallel(2).spawned().retry(none())), zero);
    assert_eq!(
        faults_of_async!(step(|_: &Vec<u32>| (), |(): &()| Ok(()), |_: &mut Vec<u32>, (), ()| ()).retry(none())),
        zero
    );
}

#[test]
fn a_parallel_limit_of_zero_is_refused_for_every_parallel_kind() {
    let zero = [Fault::ZeroLimit { node: node("node") }];
    let mut inner = AsyncFlow::<u32>::builder("inner");
    let only = inner.add("only", |_: &mut u32| ());
    inner.start(only);
    let each = inner.build().unwrap().batch(|_: &Vec<u32>| vec![1], |_: &mut Vec<u32>, _| ());

    assert_eq!(faults_of_async!(items(1, |_, _| Ok(1)).parallel(0)), zero);
    assert_eq!(faults_of_async!(async_items(1, |_, _| async { Ok(1) }).parallel(0)), zero);
    assert_eq!(faults_of_async!(async_items(1, |_, _| async { Ok(1) }).parallel(0).spawned()), zero);
    assert_eq!(faults_of_async!(each.parallel(0)), zero);
}

#[test]
fn a_timeout_is_refused_where_nothing_can_interrupt_a_node() {
    let faults = faults(|flow| {
        let a = flow.add("a", blocking(|_| Ok(1)).timeout(secs(1)));
        let b = flow.add("b", items(1, |_, _| Ok(1)).total_timeout(secs(1)));
        flow.start(a);
        flow.route(a >> b);
    });
    let refused = |name: &str| Fault::TimeoutInSyncFlow { node: node(name) };

    assert_eq!(faults, [refused("a"), refused("b")]);
    assert_eq!(faults_of_async!(blocking(|_| Ok(1)).timeout(secs(1)).inline()), [refused("node")]);
    assert_eq!(faults_of_async!(items(1, |_, _| Ok(1)).total_timeout(secs(1)).inline()), [refused("node")]);
}

#[test]
fn a_wait_between_attempts_is_refused_where_it_would_hold_up_others() {
    let waits = || Retry::attempts(3).fixed(secs(2));
    let refused = |name: &str| Fault::WaitInline { node: name.to_owned() };
    let inner = |name: &str| {
        let mut flow = Flow::<Vec<u32>>::builder(name);
        let a = flow.add("a", blocking(|_| Ok(1)).retry(waits()).inline());
        flow.start(a);
        flow.build().unwrap()
    };
    let each = || inner("each").batch(|_: &Vec<u32>| vec![vec![]], |_: &mut Vec<u32>, _| ());

    assert_eq!(faults_of_async!(blocking(|_| Ok(1)).retry(waits()).inline()), [refused("node")]);
    assert_eq!(faults_of_async!(items(1, |_, _| Ok(1)).retry(waits()).inline()), [refused("node")]);
    assert_eq!(faults_of_async!(inner("inner")), [refused("node/a")]);
    assert_eq!(faults_of_async!(each()), [refused("node/a")]);
    assert_eq!(faults_of_async!(each().parallel(2)), [refused("node/a")]);
    let mut fine = AsyncFlow::<Vec<u32>>::builder("fine");
    let at_once = fine.add("at once", blocking(|_| Ok(1)).retry(Retry::attempts(3)).inline());
    let pooled = fine.add("pooled", blocking(|_| Ok(1)).retry(waits()));
    fine.start(at_once);
    fine.route(at_once >> pooled);
    assert!(fine.build().is_ok());
}

#[test]
fn a_flow_is_not_inside_itself() {
    let build = |name: &str| {
        let mut flow = Flow::<Vec<u32>>::builder(name);
        let only = flow.add("only", nothing);
        flow.start(only);
        flow.build().unwrap()
    };
    let faults = faults(|flow| {
        let direct = flow.add("direct", build("broken"));
        let mut middle = Flow::builder("middle");
        let deep = middle.add("deep", build("broken"));
        middle.start(deep);
        let nested = flow.add("nested", middle.build().unwrap());
        let each = flow.add("each", build("broken").batch(|_: &Vec<u32>| vec![], |_: &mut Vec<u32>, _| ()));
        flow.start(direct);
        flow.route(direct >> nested >> each);
    });

    let inside = |name: &str| Fault::FlowInsideItself { node: node(name), flow: node("broken") };
    assert_eq!(faults, [inside("direct"), inside("nested"), inside("each")]);
}

/// Asks.
struct Question;

impl Ask<Vec<u32>> for Question {
    type Question = ();
    type Answer = ();
    type Action = ();

    fn ask(&self, _: &Vec<u32>) -> Result<()> {
        Ok(())
    }

    fn post(&self, _: &mut Vec<u32>, (): ()) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_batch_flow_that_is_not_journaled_cannot_pause() {
    let faults = faults(|flow| {
        let mut inner = Flow::builder("inner");
        let ask = inner.add("ask", Question);
        inner.start(ask);
        let mut middle = Flow::builder("middle");
        let deep = middle.add("deep", inner.build().unwrap());
        middle.start(deep);
        let each = middle.build().unwrap().batch(|_: &Vec<u32>| vec![], |_: &mut Vec<u32>, _| ());
        let each = flow.add("each", each);
        flow.start(each);
    });

    assert_eq!(faults, [Fault::AskInBatchFlow { node: node("each"), ask: node("deep/ask") }]);
}

#[test]
fn build_reports_every_fault_at_once() {
    let mut flow = AsyncFlow::<Vec<u32>>::builder("all wrong");
    let a = flow.add("a", blocking(|_| Ok(1)).retry(Retry::attempts(0)));
    let slash = flow.add("b/c", items(1, |_, _| Ok(1)).parallel(0));
    let judge = flow.add("judge", judge);
    flow.add("a", nothing);
    flow.route(a >> slash >> judge);
    flow.route(a >> judge);
    flow.route(judge - Verdict::Approve >> a);
    flow.route(judge - Verdict::Reject >> a);
    flow.unrouted(Unrouted::End);

    let error: BuildError = flow.build().unwrap_err();

    assert_eq!(error.flow(), "all wrong");
    assert_eq!(
        error.to_string(),
        "flow `all wrong` has 7 faults:\n  \
         - node `a` has zero attempts: nothing would run; `Retry::attempts(1)` means no retry\n  \
         - `b/c` is no name of a node: a name is not empty and has no `/`\n  \
         - node `b/c` has a parallel limit of zero: nothing would run\n  \
         - two nodes have the name `a`\n  \
         - node `a` has two edges for `default`, to `b/c` and to `judge`\n  \
         - node `judge` can return `later`, which is routed nowhere: add an edge, or end the flow with `>> END`\n  \
         - it has no start: call `start` with a node"
    );
}
