//! A ring of four sync nodes.

use std::hint::black_box;

use flowstone::{Context, END, Flow, Node, Result};

use super::{Count, Go, sure};

struct Add(u64);

impl Node<Count> for Add {
    type Prep = u64;
    type Exec = u64;
    type Action = Go;

    fn prep(&self, count: &Count) -> Result<u64> {
        Ok(count.done)
    }

    fn exec(&self, done: &u64, _: &Context) -> Result<u64> {
        Ok(done + self.0)
    }

    fn post(&self, count: &mut Count, _: u64, done: u64) -> Result<Go> {
        count.done = done;
        Ok(count.go())
    }
}

pub(super) fn ours(n: usize) {
    let mut flow = Flow::builder("chain");
    let nodes = ["a", "b", "c", "d"].map(|name| flow.add(name, Add(1)));
    flow.start(nodes[0]);
    for (index, node) in nodes.into_iter().enumerate() {
        flow.route(node - Go::On >> nodes[(index + 1) % 4]);
        flow.route(node - Go::Out >> END);
    }
    let flow = sure(flow.build());
    let mut count = Count { done: 0, of: n as u64 };
    sure(flow.run(&mut count));
    assert_eq!(count.done, n as u64);
}

/// A step without a library.
trait Step {
    fn step(&self, count: &mut Count) -> usize;
}

impl Step for Add {
    fn step(&self, count: &mut Count) -> usize {
        count.done += self.0;
        count.go() as usize
    }
}

pub(super) fn limit(n: usize) {
    let steps: Vec<Box<dyn Step>> = (0..4).map(|_| Box::new(black_box(Add(1))) as Box<dyn Step>).collect();
    let next: Vec<[Option<usize>; 2]> = (0..4).map(|index| [Some((index + 1) % 4), None]).collect();
    let mut count = Count { done: 0, of: n as u64 };
    let mut at = Some(0);
    while let Some(index) = at {
        at = next[index][steps[index].step(&mut count)];
    }
    assert_eq!(count.done, n as u64);
}
