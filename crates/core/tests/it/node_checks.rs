//! A fault that a node reports of itself is a fault of `build()`, whatever its kind and its mode.

use crate::common::Count;
use flowstone_core::{
    Ask, AsyncBatchNode, AsyncFlow, AsyncNode, BatchNode, Context, Fault, Flow, Node, NodeError, NodeExt, Result,
    Retry, step,
};

/// The check of a node.
#[derive(Clone, Default)]
struct Checked {
    fails: bool,
    panics: bool,
    checks: Count,
}

impl Checked {
    fn look(&self) -> Result<()> {
        self.checks.up();
        assert!(!self.panics, "no template");
        if self.fails { Err(NodeError::new(BadTemplate(std::fmt::Error))) } else { Ok(()) }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("its template does not parse")]
struct BadTemplate(#[source] std::fmt::Error);

struct Single(Checked);

impl Node<u32> for Single {
    type Prep = ();
    type Exec = ();
    type Action = ();

    fn check(&self) -> Result<()> {
        self.0.look()
    }

    fn prep(&self, _: &u32) -> Result<()> {
        Ok(())
    }

    fn exec(&self, (): &(), _: &Context) -> Result<()> {
        Ok(())
    }

    fn post(&self, n: &mut u32, (): (), (): ()) -> Result<()> {
        *n += 1;
        Ok(())
    }
}

struct Awaited(Checked);

impl AsyncNode<u32> for Awaited {
    type Prep = ();
    type Exec = ();
    type Action = ();

    fn check(&self) -> Result<()> {
        self.0.look()
    }

    async fn prep(&self, _: &u32) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), _: &Context) -> Result<()> {
        Ok(())
    }

    async fn post(&self, _: &mut u32, (): (), (): ()) -> Result<()> {
        Ok(())
    }
}

struct Batch(Checked);

impl BatchNode<u32> for Batch {
    type Item = ();
    type Output = ();
    type Outcome = ();
    type Action = ();

    fn check(&self) -> Result<()> {
        self.0.look()
    }

    fn prep(&self, _: &u32) -> Result<Vec<()>> {
        Ok(vec![])
    }

    fn exec(&self, (): &(), _: &Context) -> Result<()> {
        Ok(())
    }

    fn post(&self, _: &mut u32, _: Vec<()>, _: Vec<()>) -> Result<()> {
        Ok(())
    }
}

struct AwaitedBatch(Checked);

impl AsyncBatchNode<u32> for AwaitedBatch {
    type Item = ();
    type Output = ();
    type Outcome = ();
    type Action = ();

    fn check(&self) -> Result<()> {
        self.0.look()
    }

    async fn prep(&self, _: &u32) -> Result<Vec<()>> {
        Ok(vec![])
    }

    async fn exec(&self, (): &(), _: &Context) -> Result<()> {
        Ok(())
    }

    async fn post(&self, _: &mut u32, _: Vec<()>, _: Vec<()>) -> Result<()> {
        Ok(())
    }
}

struct Question(Checked);

impl Ask<u32> for Question {
    type Question = ();
    type Answer = ();
    type Action = ();

    fn check(&self) -> Result<()> {
        self.0.look()
    }

    fn ask(&self, _: &u32) -> Result<()> {
        Ok(())
    }

    fn post(&self, _: &mut u32, (): ()) -> Result<()> {
        Ok(())
    }
}

/// The faults of a flow that starts with this node, and how often the node was checked.
macro_rules! checked {
    ($flow:ident, $checked:expr, $node:expr) => {{
        let checked: Checked = $checked;
        let mut flow = $flow::<u32>::builder("checked");
        let make: fn(Checked) -> _ = $node;
        let node = flow.add("node", make(checked.clone()));
        flow.start(node);
        let faults = flow.build().map(|_| ()).err().map_or(vec![], |error| error.faults().to_vec());
        (faults, checked.checks.get())
    }};
}

#[test]
fn a_node_of_every_kind_and_mode_is_checked_once() {
    let fails = || Checked { fails: true, ..Checked::default() };
    let said = "its template does not parse: an error occurred when formatting an argument";
    let wrong = (vec![Fault::Node { node: "node".to_owned(), message: said.to_owned() }], 1);

    assert_eq!(checked!(Flow, fails(), Single), wrong);
    assert_eq!(checked!(Flow, fails(), |it| Single(it).inline()), wrong);
    assert_eq!(checked!(Flow, fails(), Batch), wrong);
    assert_eq!(checked!(Flow, fails(), |it| Batch(it).inline()), wrong);
    assert_eq!(checked!(Flow, fails(), |it| Batch(it).journaled()), wrong);
    assert_eq!(checked!(Flow, fails(), Question), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), Single), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), Awaited), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), |it| Awaited(it).retry(Retry::attempts(3))), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), |it| Batch(it).parallel(2)), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), |it| Batch(it).parallel(2).journaled()), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), AwaitedBatch), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), |it| AwaitedBatch(it).parallel(2).journaled()), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), |it| AwaitedBatch(it).parallel(2).spawned()), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), |it| AwaitedBatch(it).parallel(2).spawned().journaled()), wrong);
    assert_eq!(checked!(AsyncFlow, fails(), Question), wrong);
}

#[test]
fn a_node_with_nothing_wrong_is_no_fault() {
    let (faults, checks) = checked!(AsyncFlow, Checked::default(), Awaited);

    assert_eq!((faults, checks), (vec![], 1));
}

#[test]
fn a_check_that_panics_is_a_fault() {
    let panics = Checked { panics: true, ..Checked::default() };

    let (faults, _) = checked!(Flow, panics, Single);

    assert_eq!(faults, [Fault::Node { node: "node".to_owned(), message: "panicked: no template".to_owned() }]);
}

#[test]
fn a_check_is_reported_with_all_other_faults() {
    let mut flow = Flow::<u32>::builder("wrong");
    let fails = Checked { fails: true, ..Checked::default() };
    flow.add("a", Single(fails.clone()).retry(Retry::attempts(0)));
    flow.add("b", Question(fails));

    let error = flow.build().unwrap_err();

    assert_eq!(
        error.to_string(),
        "flow `wrong` has 4 faults:\n  \
         - node `a` has zero attempts: nothing would run; `Retry::attempts(1)` means no retry\n  \
         - node `a`: its template does not parse: an error occurred when formatting an argument\n  \
         - node `b`: its template does not parse: an error occurred when formatting an argument\n  \
         - it has no start: call `start` with a node"
    );
}

#[test]
fn a_flow_that_is_built_is_not_checked_again() {
    let checked = Checked::default();
    let mut inner = Flow::builder("inner");
    let single = inner.add("single", Single(checked.clone()));
    inner.start(single);
    let inner = inner.build().unwrap();
    let mut outer = AsyncFlow::builder("outer");
    let (a, b) = (outer.add("a", inner.clone()), outer.add("b", AsyncFlow::from(inner.clone())));
    let c = outer.add("c", inner.batch(|n: &u32| vec![*n], |_: &mut u32, _| ()));
    outer.start(a);
    outer.route(a >> b >> c);

    outer.build().unwrap();

    assert_eq!(checked.checks.get(), 1);
}

#[test]
fn a_step_and_a_closure_have_nothing_to_check() {
    let mut flow = Flow::builder("steps");
    let first = flow.add("first", |n: &mut u32| *n += 1);
    let second = flow.add("second", step(|n: &u32| *n, |n: &u32| Ok(n * 2), |n: &mut u32, _, twice: u32| *n = twice));
    flow.start(first);
    flow.route(first >> second);

    let mut n = 20;
    flow.build().unwrap().run(&mut n).unwrap();

    assert_eq!(n, 42);
}
