//! A ring of four async nodes.

use std::{future::Future, hint::black_box, pin::Pin};

use flowstone::{AsyncFlow, AsyncNode, Context, END, Result};

use super::{Count, Go, runtime, sure};

struct Add(u64);

impl AsyncNode<Count> for Add {
    type Prep = u64;
    type Exec = u64;
    type Action = Go;

    async fn prep(&self, count: &Count) -> Result<u64> {
        Ok(count.done)
    }

    async fn exec(&self, done: &u64, _: &Context) -> Result<u64> {
        Ok(done + self.0)
    }

    async fn post(&self, count: &mut Count, _: u64, done: u64) -> Result<Go> {
        count.done = done;
        Ok(count.go())
    }
}

pub(super) fn ours(n: usize) {
    let mut flow = AsyncFlow::builder("chain");
    let nodes = ["a", "b", "c", "d"].map(|name| flow.add(name, Add(1)));
    flow.start(nodes[0]);
    for (index, node) in nodes.into_iter().enumerate() {
        flow.route(node - Go::On >> nodes[(index + 1) % 4]);
        flow.route(node - Go::Out >> END);
    }
    let flow = sure(flow.build());
    let mut count = Count { done: 0, of: n as u64 };
    sure(runtime().block_on(flow.run_async(&mut count)));
    assert_eq!(count.done, n as u64);
}

type BoxFuture<'a> = Pin<Box<dyn Future<Output = Result<usize>> + Send + 'a>>;

/// An async step without a library: one box.
trait Step: Send + Sync {
    fn step<'a>(&'a self, count: &'a mut Count) -> BoxFuture<'a>;
}

impl Step for Add {
    fn step<'a>(&'a self, count: &'a mut Count) -> BoxFuture<'a> {
        Box::pin(async move {
            let done = self.read(count).await;
            let done = self.work(&done).await?;
            Ok(self.write(count, done).await as usize)
        })
    }
}

/// The same three phases.
impl Add {
    async fn read(&self, count: &Count) -> u64 {
        count.done
    }

    async fn work(&self, done: &u64) -> Result<u64> {
        Ok(done + self.0)
    }

    async fn write(&self, count: &mut Count, done: u64) -> Go {
        count.done = done;
        count.go()
    }
}

pub(super) fn limit(n: usize) {
    let steps: Vec<Box<dyn Step>> = (0..4).map(|_| Box::new(black_box(Add(1))) as Box<dyn Step>).collect();
    let next: Vec<[Option<usize>; 2]> = (0..4).map(|index| [Some((index + 1) % 4), None]).collect();
    let mut count = Count { done: 0, of: n as u64 };
    runtime().block_on(async {
        let mut at = Some(0);
        while let Some(index) = at {
            at = next[index][sure(steps[index].step(&mut count).await)];
        }
    });
    assert_eq!(count.done, n as u64);
}
