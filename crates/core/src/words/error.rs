//! Errors of a node and of a run.
//!
//! A phase fails with a [`NodeError`], which any error becomes through `?`, and which says whether to try again. A run
//! stops with a [`RunError`], which says where. What the engine acts on is in the type, never in the text.

use std::{error::Error, fmt, time::Duration};

use crate::words::{
    action::Action,
    guard::report,
    path::{NodePath, RunId},
    pause::Pause,
};

/// A boxed error of any type.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The result of a phase.
pub type Result<T, E = NodeError> = std::result::Result<T, E>;

/// An error of a phase of a node: any error, and whether to try again.
///
/// Every error type becomes a retryable `NodeError` through `?`. It is not itself a [`std::error::Error`], which is
/// what allows that conversion; [`source_ref`](Self::source_ref) gives the error inside.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use flowstone_core::NodeError;
///
/// fn parse(text: &str) -> Result<u32, NodeError> {
///     if text.is_empty() {
///         return Err(NodeError::terminal("nothing to parse")); // no second attempt can help
///     }
///     Ok(text.parse()?)
/// }
///
/// assert!(parse("").unwrap_err().is_terminal());
/// assert!(!parse("x").unwrap_err().is_terminal());
///
/// let busy = NodeError::new("rate limited").with_retry_after(Duration::from_secs(3));
/// assert_eq!(busy.retry_after(), Some(Duration::from_secs(3)));
/// ```
pub struct NodeError(Box<Inner>);

struct Inner {
    source: BoxError,
    terminal: bool,
    retry_after: Option<Duration>,
}

impl NodeError {
    /// Creates an error that a retry policy may try again.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self(Box::new(Inner { source: source.into(), terminal: false, retry_after: None }))
    }

    /// Creates an error that no retry policy tries again.
    pub fn terminal(source: impl Into<BoxError>) -> Self {
        Self(Box::new(Inner { source: source.into(), terminal: true, retry_after: None }))
    }

    /// Sets the least time to wait before the next attempt, as a service asked for it.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Returns whether no further attempt is to be made.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.0.terminal
    }

    /// Returns the least time to wait before the next attempt, if the error named one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the error inside.
    #[must_use]
    pub fn source_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        self.0.source.as_ref()
    }

    /// Returns the error inside if it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.source.downcast_ref()
    }

    /// Gives the error inside.
    #[must_use]
    pub fn into_source(self) -> BoxError {
        self.0.source
    }
}

impl<E: Into<BoxError>> From<E> for NodeError {
    fn from(source: E) -> Self {
        Self::new(source)
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.source.fmt(f)
    }
}

impl fmt::Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeError")
            .field("source", &self.0.source)
            .field("terminal", &self.0.terminal)
            .field("retry_after", &self.0.retry_after)
            .finish()
    }
}

/// An attempt that took longer than it was allowed; found as the source of the error of its phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimedOut {
    /// One attempt took longer than its node's `timeout`.
    #[error("the attempt timed out after {0:?}")]
    Attempt(Duration),
    /// All attempts, waits and items together took longer than their node's `total_timeout`.
    #[error("the visit timed out after {0:?}")]
    Visit(Duration),
}

/// The phase of a visit in which something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Reading the state; for a batch flow, `fork`; for a pause, the question.
    Prep,
    /// The work without the state, and the fallback after its last attempt.
    Exec,
    /// Writing back; for a batch flow, `join`; for a pause, the answer.
    Post,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prep => "prep",
            Self::Exec => "exec",
            Self::Post => "post",
        })
    }
}

/// An error that stopped a run before its end.
///
/// The state keeps what was written before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A node's own code failed, after every attempt and its fallback.
    #[error("run `{run}`: node `{node}`{} failed in {phase}{}", OfItem(*.item), After(*.attempts))]
    #[non_exhaustive]
    Node {
        /// The run.
        run: RunId,
        /// The node.
        node: NodePath,
        /// The phase that failed.
        phase: Phase,
        /// The number of attempts of `exec`; 0 in the other phases, which are not tried again.
        attempts: u32,
        /// The item, for a batch node.
        item: Option<usize>,
        /// `true` if the error said that no further attempt can help, see [`NodeError::terminal`].
        terminal: bool,
        /// The least time to wait before another run tries again, if the error named one.
        retry_after: Option<Duration>,
        /// The error that the node's code returned.
        source: BoxError,
    },
    /// A string action for which the node has edges, but none that fits.
    #[error(
        "run `{run}`: node `{node}` returned `{action}`, which is routed nowhere; its edges are {edges:?} \
         (add a route, or build the flow with `Unrouted::End`)"
    )]
    #[non_exhaustive]
    Unrouted {
        /// The run.
        run: RunId,
        /// The node, or the flow inside a flow, whose edges do not fit.
        node: NodePath,
        /// The action that it returned.
        action: Action,
        /// The labels of its edges.
        edges: Vec<Action>,
    },
    /// The run made as many visits as its options allow, and was not at its end.
    #[error("run `{run}`: stopped before node `{node}`: {limit} visits were made, which is the most allowed")]
    #[non_exhaustive]
    TooManyVisits {
        /// The run.
        run: RunId,
        /// The node that would have been next.
        node: NodePath,
        /// The number allowed.
        limit: u64,
    },
    /// The run's cancellation token was cancelled.
    #[error("run `{run}`: cancelled at node `{node}`")]
    #[non_exhaustive]
    Cancelled {
        /// The run.
        run: RunId,
        /// The node that was being visited.
        node: NodePath,
    },
    /// The run took longer than its options allow.
    #[error("run `{run}`: not done within {limit:?}; it was at node `{node}`")]
    #[non_exhaustive]
    DeadlineExceeded {
        /// The run.
        run: RunId,
        /// The node that was being visited.
        node: NodePath,
        /// The time that the run had.
        limit: Duration,
    },
    /// An answer that does not fit the question; the run still waits, and `pause` can be answered again.
    #[error("run `{run}`: the answer to node `{}` does not fit", .pause.node())]
    #[non_exhaustive]
    Answer {
        /// The run.
        run: RunId,
        /// The pause, still unanswered.
        pause: Pause,
        /// The part that did not fit, with its place in the JSON.
        source: serde_json::Error,
    },
    /// The work of the run could not be kept: the journal of its driver failed. It is not tried again.
    #[error("run `{run}`: node `{node}`{}: what it has done could not be kept", AtItem(*.item))]
    #[non_exhaustive]
    Journal {
        /// The run.
        run: RunId,
        /// The node that was being visited.
        node: NodePath,
        /// The item, for a batch node.
        item: Option<usize>,
        /// The error of the journal.
        source: BoxError,
    },
    /// Something that watches or times the run panicked: a listener, the clock. What was done before stands.
    #[error("run `{run}`: {place} panicked at node `{node}`: {message}")]
    #[non_exhaustive]
    Panicked {
        /// The run.
        run: RunId,
        /// The node that was being visited, or would have been next.
        node: NodePath,
        /// The part that panicked: `a listener`, `the clock`.
        place: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// A child of a batch flow asks, in a run that nothing keeps: only a driver that keeps runs puts children away.
    #[error(
        "run `{run}`: node `{node}` asks inside a batch flow, which takes a run that is kept: run the flow with a store"
    )]
    #[non_exhaustive]
    NeedsStore {
        /// The run.
        run: RunId,
        /// The node that asks.
        node: NodePath,
    },
    /// A pause that another flow returned: this flow has no such node, or that node asks nothing.
    #[error("run `{run}`: flow `{flow}` has no pause at node `{}`", .pause.node())]
    #[non_exhaustive]
    NoSuchPause {
        /// The run.
        run: RunId,
        /// The flow that was to go on.
        flow: String,
        /// The pause, still unanswered.
        pause: Pause,
    },
}

impl RunError {
    /// Creates the error of a [`Journal`](crate::driver::Journal) that could not keep what a run has done.
    pub fn journal(run: RunId, node: NodePath, item: Option<usize>, source: impl Into<BoxError>) -> Self {
        Self::Journal { run, node, item, source: source.into() }
    }

    /// Creates the error of a run that was cancelled while a driver had put it away.
    #[must_use]
    pub fn cancelled(run: RunId, node: NodePath) -> Self {
        Self::Cancelled { run, node }
    }

    /// Returns the path of the node at which the run stopped.
    #[must_use]
    pub fn node(&self) -> &NodePath {
        match self {
            Self::Node { node, .. }
            | Self::Unrouted { node, .. }
            | Self::TooManyVisits { node, .. }
            | Self::Cancelled { node, .. }
            | Self::DeadlineExceeded { node, .. }
            | Self::Panicked { node, .. }
            | Self::Journal { node, .. }
            | Self::NeedsStore { node, .. } => node,
            Self::Answer { pause, .. } | Self::NoSuchPause { pause, .. } => pause.node(),
        }
    }
}

impl RunError {
    /// Records in the span of a run why it stopped, by one of a few words, since the full error may tell what is in the
    /// state.
    ///
    /// For drivers, with the span that [`Execution::span`](crate::driver::Execution::span) gives.
    pub fn record_in(&self, span: &tracing::Span) {
        if span.is_none() {
            return;
        }
        let kind = match self {
            Self::Node { .. } => "node",
            Self::Unrouted { .. } => "unrouted",
            Self::TooManyVisits { .. } => "too_many_visits",
            Self::Cancelled { .. } => "cancelled",
            Self::DeadlineExceeded { .. } => "timeout",
            Self::Panicked { .. } => "panic",
            Self::Answer { .. } => "answer",
            Self::Journal { .. } => "journal",
            Self::NeedsStore { .. } => "needs_store",
            Self::NoSuchPause { .. } => "no_such_pause",
        };
        span.record("error.type", kind);
        span.record("otel.status_code", "error");
    }

    /// Returns the error and all its causes in one line, for people, of at most some 4 KiB. The end of the line says
    /// what is left out.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::{Flow, Result, RunOptions};
    ///
    /// let mut flow = Flow::builder("parse");
    /// let parse = flow.add("parse", |text: &mut String| -> Result<()> { text.parse::<u8>()?; Ok(()) });
    /// flow.start(parse);
    ///
    /// let error = flow.build()?.run_with(&mut "x".into(), &RunOptions::new().id("r1")).unwrap_err();
    /// assert_eq!(error.report(), "run `r1`: node `parse` failed in post: invalid digit found in string");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn report(&self) -> String {
        report(self)
    }
}

/// The part of a message that names an item.
struct OfItem(Option<usize>);

impl fmt::Display for OfItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |item| write!(f, ", item {item},"))
    }
}

/// The part of a message that names an item, before a colon.
struct AtItem(Option<usize>);

impl fmt::Display for AtItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |item| write!(f, ", item {item}"))
    }
}

/// The part of a message that counts attempts.
struct After(u32);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(" after 1 attempt"),
            attempts => write!(f, " after {attempts} attempts"),
        }
    }
}
