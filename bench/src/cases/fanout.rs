//! A batch of items that each wait.
//!
//! Within a task's share of time, tokio's timers give way after 128 polls, and `buffer_unordered` by itself then polls
//! all the others in vain, which costs the square of its width: 35 µs an item at 200,000. Both sides have the remedy,
//! which is to give way before the timer does ([`Fair`]).

use std::{
    future::Future,
    pin::Pin,
    task::{Context as Polling, Poll},
    time::Duration,
};

use flowstone::{AsyncBatchNode, AsyncFlow, Context, NodeExt, Result};
use futures_util::{StreamExt, stream};
use tokio::{task::coop::has_budget_remaining, time::sleep};

use super::{runtime, sure};

const WAIT: Duration = Duration::from_millis(10);

struct Wait;

/// The number of items, and the outputs.
struct Batch {
    items: usize,
    outputs: Vec<u64>,
}

impl AsyncBatchNode<Batch> for Wait {
    type Item = u64;
    type Output = u64;
    type Outcome = u64;
    type Action = ();

    async fn prep(&self, batch: &Batch) -> Result<Vec<u64>> {
        Ok((0..batch.items as u64).collect())
    }

    async fn exec(&self, item: &u64, _: &Context) -> Result<u64> {
        sleep(WAIT).await;
        Ok(item + 1)
    }

    async fn post(&self, batch: &mut Batch, _: Vec<u64>, outputs: Vec<u64>) -> Result<()> {
        batch.outputs = outputs;
        Ok(())
    }
}

pub(super) fn ours(n: usize) {
    with_flowstone(n, usize::MAX);
}

pub(super) fn ours_100(n: usize) {
    with_flowstone(n, 100);
}

pub(super) fn limit(n: usize) {
    by_hand(n, usize::MAX);
}

pub(super) fn limit_100(n: usize) {
    by_hand(n, 100);
}

fn with_flowstone(n: usize, limit: usize) {
    let mut flow = AsyncFlow::builder("fanout");
    let wait = flow.add("wait", Wait.parallel(limit));
    flow.start(wait);
    let flow = sure(flow.build());
    let outputs = runtime().block_on(async move {
        let run = tokio::spawn(async move {
            let mut batch = Batch { items: n, outputs: Vec::new() };
            sure(flow.run_async(&mut batch).await);
            batch.outputs
        });
        sure(run.await)
    });
    check(&outputs, n);
}

fn by_hand(n: usize, limit: usize) {
    let outputs = runtime().block_on(async move {
        let run = tokio::spawn(async move {
            let items: Vec<u64> = (0..n as u64).collect();
            let mut outputs = vec![None; n];
            let mut done = stream::iter(items.iter().copied().enumerate())
                .map(|(index, item)| Fair {
                    future: async move {
                        sleep(WAIT).await;
                        (index, item + 1)
                    },
                })
                .buffer_unordered(limit.min(n));
            while let Some((index, output)) = done.next().await {
                outputs[index] = Some(output);
            }
            outputs.into_iter().flatten().collect::<Vec<u64>>()
        });
        sure(run.await)
    });
    check(&outputs, n);
}

pin_project_lite::pin_project! {
    /// Gives way at once when its task has used up its share of time.
    struct Fair<F> { #[pin] future: F }
}

impl<F: Future> Future for Fair<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, polling: &mut Polling<'_>) -> Poll<F::Output> {
        if has_budget_remaining() {
            return self.project().future.poll(polling);
        }
        polling.waker().wake_by_ref();
        Poll::Pending
    }
}

fn check(outputs: &[u64], n: usize) {
    assert_eq!(outputs.len(), n);
    assert!(outputs.iter().enumerate().all(|(index, output)| *output == index as u64 + 1), "the order is kept");
}
