//! Flows as data, and what their nodes do: everything follows from the node's number and the state.

use std::sync::{Arc, Mutex};

use flowstone_core::{Action, Ask, AsyncBatchNode, AsyncFlow, AsyncNode, Context, END, NodeExt, Result, Retry};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::common::failure;

/// No run makes more visits.
const MOST_VISITS: u64 = 14;

/// The state: a number that every visit changes, and how many visits there were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tape {
    visits: u64,
    sum: u64,
    words: Vec<String>,
}

impl Tape {
    /// Writes a visit down, and returns the action: one of three, or the end once there were enough.
    fn write(&mut self, node: u64, value: u64) -> Action {
        self.visits += 1;
        self.sum = self.sum.wrapping_mul(31).wrapping_add(node * 101 + value) % 1_000_003;
        if self.sum.is_multiple_of(3) {
            self.words.push(format!("{node}:{value}"));
        }
        if self.visits >= MOST_VISITS {
            return "stop".into();
        }
        ["a", "b", "c"][(self.sum / 7 % 3) as usize].into()
    }
}

/// The deeds of nodes, outside the store: `visit node` and `visit item n`.
#[derive(Clone, Debug, Default)]
pub(super) struct Deeds(Arc<Mutex<Vec<String>>>);

impl Deeds {
    fn add(&self, deed: String) {
        self.0.lock().unwrap().push(deed);
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A flow as data.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    nodes: Vec<(Kind, [usize; 3])>,
}

/// The kind of a node.
#[derive(Clone, Debug)]
enum Kind {
    /// Fails in its first so many attempts of three, and for good with three.
    Node { fails: u32 },
    /// So many items, of which some fail once.
    Batch { items: u64, limit: usize, journaled: bool, fails: bool },
    /// Children that make as many visits as their number says.
    Children { count: u64, limit: usize, journaled: bool },
    /// Asks a number.
    Ask,
}

/// Up to six nodes; each of three actions leads anywhere, so that there are loops, and chains that end.
pub(super) fn graphs() -> impl Strategy<Value = Graph> {
    let kind = prop_oneof![
        4 => prop_oneof![12 => 0_u32..3, 1 => Just(3)].prop_map(|fails| Kind::Node { fails }),
        3 => (0_u64..6, 1_usize..4, any::<bool>(), any::<bool>())
            .prop_map(|(items, limit, journaled, fails)| Kind::Batch { items, limit, journaled, fails }),
        2 => (0_u64..4, 1_usize..3, any::<bool>())
            .prop_map(|(count, limit, journaled)| Kind::Children { count, limit, journaled }),
        2 => Just(Kind::Ask),
    ];
    // One target in twelve is beyond the nodes, which is the end.
    let node = (kind, prop::array::uniform3(0_usize..72));
    prop::collection::vec(node, 1..7).prop_map(|mut nodes| {
        let count = nodes.len();
        for target in nodes.iter_mut().flat_map(|(_, targets)| targets) {
            *target = if *target < 66 { *target % count } else { count };
        }
        Graph { nodes }
    })
}

impl Graph {
    /// The nodes that can be reached: a flow with others does not build.
    fn reached(&self) -> Vec<usize> {
        let (mut reached, mut next) = (vec![0], 0);
        while let Some(at) = reached.get(next) {
            for target in self.nodes[*at].1 {
                if target < self.nodes.len() && !reached.contains(&target) {
                    reached.push(target);
                }
            }
            next += 1;
        }
        reached
    }

    pub(super) fn build(&self, deeds: &Deeds) -> AsyncFlow<Tape> {
        let mut flow = AsyncFlow::builder("model");
        let mut at = vec![None; self.nodes.len()];
        for node in self.reached() {
            let (id, deeds) = (node as u64, deeds.clone());
            let name = format!("n{node}");
            let added = match self.nodes[node].0 {
                Kind::Node { fails } => flow.add(name, Plain { id, fails, deeds }.retry(Retry::attempts(3))),
                Kind::Ask => flow.add(name, Question { id, deeds }),
                Kind::Batch { items, limit, journaled, fails } => {
                    let batch = Batch { id, items, fails, deeds }.retry(Retry::attempts(2)).parallel(limit);
                    if journaled { flow.add(name, batch.journaled()) } else { flow.add(name, batch) }
                }
                Kind::Children { count, limit, journaled } => {
                    let fork =
                        move |tape: &Tape| (0..count).map(|n| Child { left: n, sum: tape.sum }).collect::<Vec<_>>();
                    let join = move |tape: &mut Tape, ended: Vec<Child>| {
                        deeds.add(format!("{} n{id}", tape.visits));
                        tape.write(id, ended.iter().fold(3, |sum, child| sum * 5 % 1009 + child.sum))
                    };
                    let children = child().batch(fork, join).parallel(limit);
                    if journaled { flow.add(name, children.journaled()) } else { flow.add(name, children) }
                }
            };
            at[node] = Some(added);
        }
        flow.start(at[0].unwrap());
        for node in self.reached() {
            let from = at[node].unwrap();
            for (action, target) in ["a", "b", "c"].into_iter().zip(self.nodes[node].1) {
                match at.get(target).copied().flatten() {
                    Some(to) => flow.route(from - action >> to),
                    None => flow.route(from - action >> END),
                }
            }
            flow.route(from - "stop" >> END);
        }
        flow.build().unwrap()
    }
}

struct Plain {
    id: u64,
    fails: u32,
    deeds: Deeds,
}

impl AsyncNode<Tape> for Plain {
    type Prep = u64;
    type Exec = u64;
    type Action = Action;

    async fn prep(&self, tape: &Tape) -> Result<u64> {
        Ok(tape.sum)
    }

    async fn exec(&self, sum: &u64, cx: &Context) -> Result<u64> {
        if cx.attempt() < self.fails {
            return Err(failure("not yet"));
        }
        self.deeds.add(format!("{} n{}", cx.visit(), self.id));
        tokio::task::yield_now().await;
        Ok(sum % 13 + cx.visit())
    }

    async fn post(&self, tape: &mut Tape, _: u64, value: u64) -> Result<Action> {
        Ok(tape.write(self.id, value))
    }
}

struct Batch {
    id: u64,
    items: u64,
    fails: bool,
    deeds: Deeds,
}

impl AsyncBatchNode<Tape> for Batch {
    type Item = u64;
    type Output = u64;
    type Outcome = u64;
    type Action = Action;

    async fn prep(&self, tape: &Tape) -> Result<Vec<u64>> {
        Ok((0..self.items).map(|item| tape.sum % 50 + item).collect())
    }

    async fn exec(&self, item: &u64, cx: &Context) -> Result<u64> {
        if self.fails && item.is_multiple_of(3) && cx.attempt() == 0 {
            return Err(failure("once"));
        }
        self.deeds.add(format!("{} item {}", cx.visit(), cx.item().unwrap()));
        tokio::task::yield_now().await;
        Ok(item * item)
    }

    async fn post(&self, tape: &mut Tape, _: Vec<u64>, outputs: Vec<u64>) -> Result<Action> {
        self.deeds.add(format!("{} n{}", tape.visits, self.id));
        Ok(tape.write(self.id, outputs.iter().fold(1, |sum, output| sum * 3 % 1009 + output)))
    }
}

struct Question {
    id: u64,
    deeds: Deeds,
}

impl Ask<Tape> for Question {
    type Question = u64;
    type Answer = u64;
    type Action = Action;

    fn ask(&self, tape: &Tape) -> Result<u64> {
        Ok(tape.sum)
    }

    fn post(&self, tape: &mut Tape, answer: u64) -> Result<Action> {
        self.deeds.add(format!("{} n{}", tape.visits, self.id));
        Ok(tape.write(self.id, answer))
    }
}

/// The state of a child: it goes round as often as its number says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Child {
    left: u64,
    sum: u64,
}

fn child() -> AsyncFlow<Child> {
    let mut flow = AsyncFlow::builder("child");
    let turn = flow.add("turn", |child: &mut Child| {
        child.sum = (child.sum * 3 + child.left) % 1009;
        if child.left == 0 {
            return Action::from("done");
        }
        child.left -= 1;
        Action::from("again")
    });
    flow.start(turn);
    flow.route(turn - "again" >> turn);
    flow.route(turn - "done" >> END);
    flow.build().unwrap()
}
