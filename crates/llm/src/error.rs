//! The errors of a model: [`ModelError`]. Its type says whether to try again, and when.

use std::{fmt, time::Duration};

use flowstone_core::{BoxError, NodeError, Usd};
use serde::{Deserialize, Serialize};

use crate::request::Tokens;

/// A model, as errors, spans and price tables name it: `openai:gpt-5`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelId {
    /// The service: `openai`, `ollama`, the host of a URL.
    pub provider: String,
    /// The name by which the provider knows it.
    pub name: String,
}

impl ModelId {
    /// Makes an id.
    pub fn new(provider: impl Into<String>, name: impl Into<String>) -> Self {
        Self { provider: provider.into(), name: name.into() }
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider, self.name)
    }
}

/// An error of a model that gave no reply.
///
/// In a node it is the source of a [`NodeError`] that is terminal, or names a retry-after, as the failure says.
#[derive(Debug, thiserror::Error)]
#[error("model `{model}`: {failure}")]
#[non_exhaustive]
pub struct ModelError {
    /// The model.
    pub model: ModelId,
    /// The failure.
    pub failure: Failure,
    /// The tokens that the call took all the same, if the service said so: a reply that is withheld, or breaks off, is
    /// paid for.
    pub tokens: Option<Tokens>,
}

/// A way in which a call of a model goes wrong.
///
/// `said` is what the provider says of it, in one line, shortened; no key is ever part of it.
///
/// This table says how the built-in client reads an answer, and whether another attempt may help:
///
/// | status, or what else happened | failure | again? |
/// |---|---|---|
/// | 401, 403; 402 and 429 `insufficient_quota` (no money left) | [`Refused`](Self::Refused) | no |
/// | 404 | [`NotFound`](Self::NotFound) | no |
/// | 408, 409, 425, 5xx, 529 | [`Unavailable`](Self::Unavailable) | yes, after the time that the service names |
/// | 429 | [`RateLimited`](Self::RateLimited) | yes, after the time that the service names |
/// | a content filter or a refusal, as a status or as the end of a reply | [`Filtered`](Self::Filtered) | no |
/// | a conversation that is longer than the model takes | [`ContextOverflow`](Self::ContextOverflow) | no |
/// | other 4xx, and 3xx, since no key is carried elsewhere | [`Invalid`](Self::Invalid) | no |
/// | no connection within 10 seconds, or none at all | [`Unreachable`](Self::Unreachable) | yes |
/// | silence for as long as [`Options::timeout`](crate::Options::timeout) | [`TimedOut`](Self::TimedOut) | yes |
/// | HTML, broken JSON, neither text nor a call | [`Malformed`](Self::Malformed) | yes |
/// | a connection that breaks, a stream without its end, an end for a reason that is not known | [`Broken`](Self::Broken) | yes, unless a part was shown |
/// | an error as an event of a stream | as its kind says | yes, unless a part was shown |
/// | more than the most bytes | [`TooLong`](Self::TooLong) | no |
///
/// Once a part of a reply was shown, a failure that would be tried again is [`Broken`](Self::Broken) with `shown`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum Failure {
    /// There is no key to call it with.
    #[error("it takes a key: set {variable}")]
    NoKey { variable: String },
    /// 401 and 403; and nothing left to pay with.
    #[error("the key is refused (status {status}): {said}")]
    Refused { status: u16, said: String },
    /// 404: no such model, or no such service.
    #[error("it is not to be found there (status 404): {said}")]
    NotFound { said: String },
    /// 400, 413, 422, the other 4xx, and redirects.
    #[error("the request is refused (status {status}): {said}")]
    Invalid { status: u16, said: String },
    /// 429.
    #[error("too many requests{}: {said}", After(*.retry_after))]
    RateLimited { retry_after: Option<Duration>, said: String },
    /// 5xx, 529 included; 408, 409 and 425.
    #[error("the service fails (status {status}){}: {said}", After(*.retry_after))]
    Unavailable { status: u16, retry_after: Option<Duration>, said: String },
    /// No connection.
    #[error("the service cannot be reached: {said}")]
    Unreachable { said: String },
    /// Nothing came in time.
    #[error("nothing came within {limit:?}")]
    TimedOut { limit: Duration },
    /// The connection broke, or the stream ended in the middle.
    #[error("the reply broke off{}: {said}", if *.shown { " after part of it was shown" } else { "" })]
    Broken { shown: bool, said: String },
    /// The answer is none that this kind of service sends.
    #[error("the service sent what is no reply: {said}")]
    Malformed { said: String },
    /// The provider does not let the model say this.
    #[error("the reply is withheld by the provider's content filter{}", Colon(.said))]
    Filtered { said: String },
    /// The conversation is longer than the model takes.
    #[error("the conversation is longer than the model takes: {said}")]
    ContextOverflow { said: String },
    /// The reply reached the most tokens that it may have.
    #[error("the reply was cut off at its most tokens, after {} bytes of text", .text.len())]
    Cut { text: String },
    /// A reply without end.
    #[error("the reply is longer than {limit} bytes")]
    TooLong { limit: usize },
    /// The service or the client cannot do this.
    #[error("it cannot do this: {said}")]
    Unsupported { said: String },
    /// The run has a budget of money, and the price of the model is not known.
    #[error("the run may cost {limit} at most, but no price of this model is known: give `Prices` with one")]
    NoPrice { limit: Usd },
    /// A scripted or recorded model has no reply to this request.
    #[error("{said}")]
    Unscripted { said: String },
    /// Another client's own error.
    #[error("{source}")]
    Other {
        retryable: bool,
        #[source]
        source: BoxError,
    },
}

impl ModelError {
    /// Creates an error.
    #[must_use]
    pub fn new(model: ModelId, failure: Failure) -> Self {
        Self { model, failure, tokens: None }
    }

    /// Adds the tokens that the call took all the same.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Option<Tokens>) -> Self {
        self.tokens = tokens;
        self
    }

    /// Returns whether another attempt may help.
    pub(crate) fn is_retryable(&self) -> bool {
        match &self.failure {
            Failure::RateLimited { .. }
            | Failure::Unavailable { .. }
            | Failure::Unreachable { .. }
            | Failure::TimedOut { .. }
            | Failure::Malformed { .. } => true,
            // Text that a person has seen is not taken back.
            Failure::Broken { shown, .. } => !shown,
            Failure::Other { retryable, .. } => *retryable,
            Failure::NoKey { .. }
            | Failure::Refused { .. }
            | Failure::NotFound { .. }
            | Failure::Invalid { .. }
            | Failure::Filtered { .. }
            | Failure::ContextOverflow { .. }
            | Failure::Cut { .. }
            | Failure::TooLong { .. }
            | Failure::Unsupported { .. }
            | Failure::NoPrice { .. }
            | Failure::Unscripted { .. } => false,
        }
    }

    /// Returns how long the service asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.failure {
            Failure::RateLimited { retry_after, .. } | Failure::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Makes the error of a phase: terminal unless another attempt may help, which waits as long as the service asks.
    pub(crate) fn into_node_error(self) -> NodeError {
        let (retryable, retry_after) = (self.is_retryable(), self.retry_after());
        let error = if retryable { NodeError::new(self) } else { NodeError::terminal(self) };
        match retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }
}

impl Failure {
    /// Returns the words of the service, to be masked.
    pub(crate) fn said_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Refused { said, .. }
            | Self::NotFound { said }
            | Self::Invalid { said, .. }
            | Self::RateLimited { said, .. }
            | Self::Unavailable { said, .. }
            | Self::Unreachable { said }
            | Self::Broken { said, .. }
            | Self::Malformed { said }
            | Self::Filtered { said }
            | Self::ContextOverflow { said }
            | Self::Unsupported { said }
            | Self::Unscripted { said } => Some(said),
            Self::NoKey { .. }
            | Self::TimedOut { .. }
            | Self::Cut { .. }
            | Self::TooLong { .. }
            | Self::NoPrice { .. }
            | Self::Other { .. } => None,
        }
    }
}

/// The part of a message that quotes words, if there are any.
struct Colon<'a>(&'a str);

impl fmt::Display for Colon<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// The part of a message that says when to come back.
struct After(Option<Duration>);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |wait| write!(f, ", to be tried again after {wait:?}"))
    }
}
