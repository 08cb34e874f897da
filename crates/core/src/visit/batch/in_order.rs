//! Many futures on one task: up to a limit under way at once, outputs in input order.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as Polling, Poll},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::task::{
    coop::{consume_budget, has_budget_remaining},
    yield_now,
};

use crate::{context::Context, outcome::Detour, words::error::Result};

/// Work that is done for each of a row of inputs.
pub(crate) trait Each: Sync {
    type Input: Send;
    type Output: Send;

    /// The context of the visit that the inputs belong to.
    fn context(&self) -> &Context;

    fn run(&self, input: Self::Input) -> impl Future<Output = Result<Self::Output, Box<Detour>>> + Send;
}

/// Does something for each input, up to `limit` at once, and gives the outputs in input order.
///
/// The futures are polled in place, on the task of the caller. After the first failure the others are dropped.
pub(crate) async fn in_order<E: Each>(
    each: &E,
    mut inputs: impl ExactSizeIterator<Item = E::Input> + Send,
    limit: usize,
) -> Result<Vec<E::Output>, Box<Detour>> {
    if limit <= 1 {
        let mut outputs = Vec::with_capacity(inputs.len());
        for input in inputs {
            each.context().check()?;
            outputs.push(each.run(input).await?);
            give_way(each.context()).await;
        }
        return Ok(outputs);
    }
    let mut outputs = Vec::new();
    outputs.resize_with(inputs.len(), || None);
    let mut running = FuturesUnordered::new();
    let mut begun = 0;
    loop {
        while running.len() < limit
            && let Some(input) = inputs.next()
        {
            each.context().check()?;
            running.push(Numbered { index: begun, future: each.run(input) });
            begun += 1;
        }
        match running.next().await {
            None => return Ok(filled(outputs)),
            Some((index, output)) => outputs[index] = Some(output?),
        }
        if each.context().listening() {
            yield_now().await;
        }
    }
}

/// Gives way between two items that never wait, so that others run and listeners read.
async fn give_way(cx: &Context) {
    if cx.listening() {
        yield_now().await;
    } else {
        consume_budget().await;
    }
}

pin_project_lite::pin_project! {
    /// One of many futures of a task, with its number.
    ///
    /// It gives way at once when the task has used up its share of time. tokio's own resources give way, too, but they
    /// wake the task later, and `FuturesUnordered` would go on to poll all the others in vain: a fan-out would cost the
    /// square of its width.
    struct Numbered<F> { index: usize, #[pin] future: F }
}

impl<F: Future> Future for Numbered<F> {
    type Output = (usize, F::Output);

    fn poll(self: Pin<&mut Self>, polling: &mut Polling<'_>) -> Poll<Self::Output> {
        if !has_budget_remaining() {
            polling.waker().wake_by_ref();
            return Poll::Pending;
        }
        let this = self.project();
        this.future.poll(polling).map(|output| (*this.index, output))
    }
}

pub(crate) fn filled<T>(outputs: Vec<Option<T>>) -> Vec<T> {
    outputs.into_iter().map(|output| output.expect("invariant: every input gave an output")).collect()
}
