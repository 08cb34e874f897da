//! Tools inside tools: a flow or an agent whose own tools are such again.
//!
//! A call stands on the stack of the one that it is made in, so that a tool which reaches itself would end the process.
//! A model decides how often it does: hence the bound.

use std::future::Future;

/// The most calls that may be under way inside each other.
const DEEPEST: usize = 16;

tokio::task_local! {
    /// The number of calls around this one. A task of its own begins with a stack of its own.
    static DEPTH: usize;
}

/// A call inside too many others.
#[derive(Debug, thiserror::Error)]
#[error("{DEEPEST} calls of tools are under way inside each other, and no further one is made")]
pub(super) struct TooDeep;

/// Makes a call one deeper than the one that it is made in.
pub(super) async fn deeper<T>(call: impl Future<Output = T>) -> Result<T, TooDeep> {
    let depth = DEPTH.try_with(|depth| *depth).unwrap_or(0);
    if depth >= DEEPEST {
        return Err(TooDeep);
    }
    Ok(DEPTH.scope(depth + 1, call).await)
}
