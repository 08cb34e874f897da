//! Keys that are the same for every attempt of one visit and item, and for nothing else.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use crate::common::{alone_sync, blocking, ended, items};
use flowstone_core::{Action, Ask, Context, END, Flow, NodeExt, Outcome, Result, Retry, RunOptions, driver::KeyBase};

/// Keeps the key of every attempt.
#[derive(Clone, Default)]
struct Keys(Arc<Mutex<Vec<String>>>);

impl Keys {
    fn note(&self, cx: &Context) {
        self.0.lock().unwrap().push(cx.idempotency_key());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The number of keys that were seen, and of different ones.
    fn counts(&self) -> (usize, usize) {
        let all = self.all();
        (all.len(), all.iter().collect::<BTreeSet<_>>().len())
    }
}

/// A node that fails twice, and notes its key each time.
fn thrice(keys: &Keys) -> impl Fn(&Context) -> Result<u32> + Send + Sync + 'static {
    let keys = keys.clone();
    move |cx| {
        keys.note(cx);
        if cx.attempt() < 2 { Err("not yet".into()) } else { Ok(0) }
    }
}

#[test]
fn every_attempt_of_a_visit_has_the_same_key() {
    let keys = Keys::default();
    let flow = alone_sync(blocking(thrice(&keys)).retry(Retry::attempts(3)));

    ended(flow.run(&mut vec![]));

    assert_eq!(keys.counts(), (3, 1));
}

#[test]
fn the_fallback_has_the_key_of_its_attempts() {
    let keys = Keys::default();
    let (exec, fallback) = (keys.clone(), keys.clone());
    let node = blocking(move |cx| {
        exec.note(cx);
        Err("broken".into())
    });

    ended(
        alone_sync(node.or(move |_, cx| {
            fallback.note(cx);
            Ok(0)
        }))
        .run(&mut vec![]),
    );

    assert_eq!(keys.counts(), (2, 1));
}

#[test]
fn each_item_has_a_key_of_its_own() {
    let keys = Keys::default();
    let exec = thrice(&keys);
    let flow: Flow<Vec<u32>> = alone_sync(items(10, move |_, cx| exec(cx)).retry(Retry::attempts(3)));

    ended(flow.run(&mut vec![]));

    assert_eq!(keys.counts(), (30, 10));
}

#[test]
fn each_visit_of_a_node_has_a_key_of_its_own() {
    let keys = Keys::default();
    let mut flow = Flow::builder("loop");
    let node = flow.add("node", blocking(thrice(&keys)).retry(Retry::attempts(3)));
    let check = flow.add("check", |state: &mut Vec<u32>| Action::from(if state.len() < 4 { "more" } else { "enough" }));
    flow.start(node);
    flow.route(node >> check);
    flow.route(check - "more" >> node);
    flow.route(check - "enough" >> END);

    ended(flow.build().unwrap().run(&mut vec![]));

    assert_eq!(keys.counts(), (12, 4));
}

#[test]
fn each_run_has_keys_of_its_own() {
    let keys = Keys::default();
    let flow = alone_sync(blocking(thrice(&keys)).retry(Retry::attempts(3)));

    for _ in 0..5 {
        ended(flow.run(&mut vec![]));
    }

    assert_eq!(keys.counts(), (15, 5));
}

#[test]
fn each_child_has_keys_of_its_own() {
    let keys = Keys::default();
    let exec = thrice(&keys);
    let mut leaf = Flow::builder("leaf");
    let leaf_node = leaf.add("node", items(2, move |_, cx| exec(cx)).retry(Retry::attempts(3)));
    leaf.start(leaf_node);
    let mut middle = Flow::builder("middle");
    let each = leaf.build().unwrap().batch(|_: &u32| vec![Vec::<u32>::new(); 3], |_: &mut u32, _| ());
    let each = middle.add("each", each);
    middle.start(each);
    let flow = alone_sync(middle.build().unwrap().batch(|_: &()| vec![0, 0, 0, 0], |(): &mut (), _| ()));

    ended(flow.run(&mut ()));

    // Four children with three children with two items with three attempts.
    assert_eq!(keys.counts(), (72, 24));
}

#[test]
fn the_key_of_a_named_run_is_the_same_in_every_process() {
    let keys = Keys::default();
    let exec = thrice(&keys);
    let flow: Flow<Vec<u32>> = alone_sync(items(2, move |_, cx| exec(cx)).retry(Retry::attempts(3)));

    for _ in 0..2 {
        ended(flow.run_with(&mut vec![], &RunOptions::new().id("trip-42")));
    }

    assert_eq!(keys.all()[0], "trip-42:0:node[0]");
    assert_eq!(keys.counts(), (12, 2));
}

#[test]
fn a_key_can_be_a_header_and_no_two_names_make_the_same() {
    let ids = ["a b", "a%20b", "a\nb", "\u{1f600}", "a:0", "a", "\"a\"", &"x".repeat(400), &"x".repeat(401)];
    let nodes = ["node", "0:node", "n\u{f6}de", "node[0]"];
    let keys = Keys::default();

    for (id, node) in ids.iter().flat_map(|id| nodes.map(|node| (*id, node))) {
        let mut flow = Flow::builder("one");
        let node = flow.add(node, blocking(thrice(&keys)).retry(Retry::attempts(3)));
        flow.start(node);
        ended(flow.build().unwrap().run_with(&mut vec![], &RunOptions::new().id(id)));
    }

    assert_eq!(keys.counts(), (3 * ids.len() * nodes.len(), ids.len() * nodes.len()));
    for key in keys.all() {
        assert!(key.len() <= 255 && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'), "{key}");
    }
    assert_eq!(keys.all()[0], "a%20b:0:node");
}

#[test]
fn a_driver_gives_the_base_of_the_keys_and_the_name_that_a_node_had() {
    let keys = Keys::default();
    let mut flow = Flow::builder("two");
    let charge = flow.add("charge", blocking(thrice(&keys)).retry(Retry::attempts(3)));
    let again = flow.add("again", blocking(thrice(&keys)).retry(Retry::attempts(3)));
    flow.start(charge);
    flow.route(charge >> again);
    let flow = flow.build().unwrap();

    for base in [KeyBase::kept("order%207~77"), KeyBase::plain(&"order 7".into())] {
        let options = RunOptions::new().id("order 7").key_base(base).due(0, "pay");
        ended(flow.run_with(&mut vec![], &options));
    }

    let known: BTreeSet<_> = keys.all().into_iter().collect();
    let wanted = ["order%207~77:0:pay", "order%207~77:1:again", "order 7:0:pay", "order 7:1:again"];
    assert_eq!(known, wanted.map(str::to_owned).into());
}

/// Asks for nothing in particular.
struct Wait;

impl Ask<Vec<u32>> for Wait {
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
fn keys_before_and_after_a_pause_are_of_one_run() {
    let keys = Keys::default();
    let mut flow = Flow::builder("pauses");
    let before = flow.add("before", blocking(thrice(&keys)).retry(Retry::attempts(3)));
    let wait = flow.add("wait", Wait);
    let after = flow.add("after", blocking(thrice(&keys)).retry(Retry::attempts(3)));
    flow.start(before);
    flow.route(before >> wait >> after);
    let flow = flow.build().unwrap();

    let mut state = vec![];
    let Ok(Outcome::Paused(pause)) = flow.run(&mut state) else { panic!() };
    ended(flow.resume(&mut state, pause, ()));

    let all = keys.all();
    let run = all[0].strip_suffix(":0:before").unwrap();
    assert_eq!(all[5], format!("{run}:2:after"));
    assert_eq!(keys.counts(), (6, 2));
}

#[test]
fn nodes_of_the_same_name_in_different_flows_have_different_keys() {
    let keys = Keys::default();
    let inner = |name: &str| {
        let mut flow = Flow::builder(name);
        let node = flow.add("node", blocking(thrice(&keys)).retry(Retry::attempts(3)));
        flow.start(node);
        flow.build().unwrap()
    };
    let mut flow = Flow::builder("outer");
    let (a, b) = (flow.add("a", inner("one")), flow.add("b", inner("two")));
    flow.start(a);
    flow.route(a >> b);

    ended(flow.build().unwrap().run(&mut vec![]));

    assert_eq!(keys.counts(), (6, 2));
}

#[test]
fn a_detached_context_is_for_calling_exec_by_hand() {
    let cx = Context::detached();

    assert_eq!((cx.attempt(), cx.item(), cx.visit(), cx.cancelled(), cx.listening()), (0, None, 0, false, false));
    assert_eq!(cx.node(), "detached");
    assert_eq!(cx.idempotency_key(), Context::default().with_attempt(3).idempotency_key());
    assert_ne!(cx.idempotency_key(), Context::detached().with_item(3).idempotency_key());
    cx.emit("heard by nobody");
}
