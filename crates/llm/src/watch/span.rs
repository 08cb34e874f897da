//! Calls as they are seen from outside: spans by OpenTelemetry's conventions for generative AI, and, with the feature
//! `otel`, metrics.
//!
//! ```text
//! run (invoke_workflow) ─▶ visit ─▶ attempt ─▶ invoke_agent ─▶ chat │ embeddings │ execute_tool
//! ```
//!
//! **Invariant:** where nobody looks, nothing is made: what a span says is put together behind [`spans_wanted`].
//!
//! **Invariant:** what is said, also in errors, is in no span unless [`content::wanted`]: of an error only its kind.

use std::{
    borrow::Cow,
    future::Future,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use flowstone_core::{Context, Result};
use tracing::{Instrument, Span, field::Empty};

use crate::{
    error::{Failure, ModelError, ModelId},
    message::{ToolCall, ToolFault, ToolResult},
    model::Embeddings,
    request::{Reply, Request, Tokens},
};

mod content;
pub(crate) mod names;

/// A call of a model, as it is watched; one that is dropped before its [`end`](Self::end) was cancelled.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// `None` where nobody looks.
    watched: Option<Watched<'a>>,
}

impl<'a> Call<'a> {
    pub(crate) fn chat(model: &'a ModelId, request: &Request, cx: &Context) -> Self {
        let stream = request.stream && cx.listening();
        Self::begin(names::CHAT, model, stream, || chat_span(model, request, stream, cx))
    }

    pub(crate) fn embeddings(model: &'a ModelId, cx: &Context) -> Self {
        Self::begin(names::EMBEDDINGS, model, false, || embeddings_span(model, cx))
    }

    fn begin(operation: &'static str, model: &'a ModelId, stream: bool, span: impl FnOnce() -> Span) -> Self {
        let spans = spans_wanted();
        #[cfg(feature = "otel")]
        let metrics = crate::watch::otel::instruments();
        #[cfg(feature = "otel")]
        let watched = spans || metrics.is_some();
        #[cfg(not(feature = "otel"))]
        let watched = spans;
        let watched = watched.then(|| Watched {
            operation,
            model,
            span: if spans { span() } else { Span::none() },
            began: Instant::now(),
            first: stream.then(Arc::default),
            #[cfg(feature = "otel")]
            metrics,
        });
        Self { watched }
    }

    /// Makes the call, inside its span.
    pub(crate) async fn run<T>(&self, call: impl Future<Output = T>) -> T {
        let Some(watched) = &self.watched else { return call.await };
        let span = watched.span.clone();
        match &watched.first {
            Some(first) => FIRST_CHUNK.scope(Arc::clone(first), call).instrument(span).await,
            None => call.instrument(span).await,
        }
    }

    pub(crate) fn end(mut self, result: &Result<Reply, ModelError>) {
        let Some(watched) = self.watched.take() else { return };
        match result {
            Ok(reply) => watched.replied(reply),
            Err(error) => watched.failed(&kind(&error.failure)),
        }
    }

    pub(crate) fn end_embeddings(mut self, result: &Result<Embeddings, ModelError>) {
        let Some(watched) = self.watched.take() else { return };
        match result {
            Ok(embeddings) => watched.embedded(embeddings),
            Err(error) => watched.failed(&kind(&error.failure)),
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(watched) = self.watched.take() {
            watched.failed("cancelled");
        }
    }
}

/// Says that a piece of a reply has come: the first one of a call counts.
pub(crate) fn chunk() {
    // Fails outside a call, or in one that nobody watches.
    let _ = FIRST_CHUNK.try_with(|first| {
        first.get_or_init(Instant::now);
    });
}

/// Makes a call of a tool, inside its span.
pub(crate) async fn execute_tool(
    call: &ToolCall,
    cx: &Context,
    work: impl Future<Output = Result<ToolResult>>,
) -> Result<ToolResult> {
    if !spans_wanted() {
        return work.await;
    }
    let span = tool_span(call, cx);
    let result = work.instrument(span.clone()).await;
    match &result {
        Ok(ToolResult { fault: None, .. }) => {}
        Ok(ToolResult { fault: Some(ToolFault::Misuse), .. }) => mark_failed(&span, "misuse"),
        Ok(ToolResult { fault: Some(ToolFault::Refused), .. }) => mark_failed(&span, "refused"),
        Ok(ToolResult { fault: Some(ToolFault::Failed), .. }) => mark_failed(&span, "failed"),
        Err(_) => mark_failed(&span, "stopped"),
    }
    if let Ok(result) = &result
        && content::wanted()
    {
        span.record(names::TOOL_CALL_RESULT, &*result.text);
    }
    result
}

/// Makes the span of a visit of an agent's nodes; none where nobody looks.
pub(crate) fn invoke_agent(name: &str, cx: &Context) -> Span {
    if !spans_wanted() {
        return Span::none();
    }
    tracing::info_span!(
        target: "flowstone",
        "invoke_agent",
        { names::SPAN_NAME } = %format_args!("{} {name}", names::INVOKE_AGENT),
        { names::SPAN_KIND } = "internal",
        { names::OPERATION_NAME } = names::INVOKE_AGENT,
        { names::AGENT_NAME } = name,
        { names::CONVERSATION_ID } = %cx.run_id(),
    )
}

/// Returns whether somebody takes spans: the one check where nobody does.
fn spans_wanted() -> bool {
    tracing::enabled!(target: "flowstone", tracing::Level::INFO)
}

tokio::task_local! {
    /// When the first piece of the reply came to the call that is under way. Not in the call's span or context, since a
    /// client only knows `Delta::emit`.
    static FIRST_CHUNK: Arc<OnceLock<Instant>>;
}

/// The facts of a call that somebody watches.
#[derive(Debug)]
struct Watched<'a> {
    #[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "only metrics name it again"))]
    operation: &'static str,
    #[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "only metrics name it again"))]
    model: &'a ModelId,
    span: Span,
    began: Instant,
    /// Of a stream, when its first piece came.
    first: Option<Arc<OnceLock<Instant>>>,
    #[cfg(feature = "otel")]
    metrics: Option<Arc<crate::watch::otel::Instruments>>,
}

impl Watched<'_> {
    fn replied(&self, reply: &Reply) {
        let span = &self.span;
        if !span.is_none() {
            let first = self.first_chunk();
            span.record(names::RESPONSE_ID, reply.id.as_deref());
            span.record(names::RESPONSE_MODEL, reply.model.as_deref());
            record_list(span, names::RESPONSE_FINISH_REASONS, &[content::finish(&reply.finish)]);
            span.record(names::RESPONSE_TIME_TO_FIRST_CHUNK, first.map(|first| first.as_secs_f64()));
            if let Some(tokens) = &reply.tokens {
                self.record_tokens(tokens);
                span.record(names::USAGE_OUTPUT_TOKENS, int(tokens.output));
            }
            if content::wanted() {
                span.record(names::OUTPUT_MESSAGES, content::output(reply));
            }
        }
        self.measure(&Ended { tokens: reply.tokens, model: reply.model.as_deref(), error: None });
    }

    fn embedded(&self, embeddings: &Embeddings) {
        if let Some(vector) = embeddings.vectors.first() {
            self.span.record(names::EMBEDDINGS_DIMENSION_COUNT, int(vector.len() as u64));
        }
        if let Some(tokens) = &embeddings.tokens {
            self.record_tokens(tokens);
        }
        self.measure(&Ended { tokens: embeddings.tokens, model: None, error: None });
    }

    fn failed(&self, error: &str) {
        let first = self.first_chunk();
        self.span.record(names::RESPONSE_TIME_TO_FIRST_CHUNK, first.map(|first| first.as_secs_f64()));
        mark_failed(&self.span, error);
        self.measure(&Ended { tokens: None, model: None, error: Some(error) });
    }

    /// Records tokens but those that were made, which embeddings have none of. What a provider does not tell is 0.
    fn record_tokens(&self, tokens: &Tokens) {
        self.span.record(names::USAGE_INPUT_TOKENS, int(tokens.input));
        let if_told = |tokens: u64| (tokens > 0).then(|| int(tokens));
        self.span.record(names::USAGE_CACHE_READ_INPUT_TOKENS, if_told(tokens.cached_input));
        self.span.record(names::USAGE_REASONING_OUTPUT_TOKENS, if_told(tokens.reasoning));
    }

    fn first_chunk(&self) -> Option<Duration> {
        let first = self.first.as_ref()?.get()?;
        Some(first.duration_since(self.began))
    }

    #[cfg(feature = "otel")]
    fn measure(&self, ended: &Ended<'_>) {
        if let Some(metrics) = &self.metrics {
            let times = (self.began.elapsed(), self.first_chunk());
            metrics.record(self.operation, self.model, times, ended);
        }
    }

    #[cfg(not(feature = "otel"))]
    fn measure(&self, _: &Ended<'_>) {}
}

/// The outcome of a call, for metrics.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "only metrics read it"))]
pub(crate) struct Ended<'a> {
    pub(crate) tokens: Option<Tokens>,
    /// The model that replied, as its provider says.
    pub(crate) model: Option<&'a str>,
    pub(crate) error: Option<&'a str>,
}

fn chat_span(model: &ModelId, request: &Request, stream: bool, cx: &Context) -> Span {
    let (options, (address, port)) = (&request.options, names::server(&model.provider));
    let span = tracing::info_span!(
        target: "flowstone",
        "chat",
        { names::SPAN_NAME } = %format_args!("{} {}", names::CHAT, model.name),
        { names::SPAN_KIND } = "client",
        { names::SPAN_STATUS } = Empty,
        { names::OPERATION_NAME } = names::CHAT,
        { names::PROVIDER_NAME } = names::provider(&model.provider),
        { names::CONVERSATION_ID } = %cx.run_id(),
        { names::OUTPUT_TYPE } = request.schema.as_ref().map(|_| "json"),
        { names::REQUEST_MODEL } = &*model.name,
        { names::REQUEST_TEMPERATURE } = options.temperature,
        { names::REQUEST_TOP_P } = options.top_p,
        { names::REQUEST_MAX_TOKENS } = options.max_tokens.map(i64::from),
        { names::REQUEST_SEED } = options.seed.map(int),
        { names::REQUEST_STOP_SEQUENCES } = Empty,
        { names::REQUEST_STREAM } = stream.then_some(true),
        { names::RESPONSE_ID } = Empty,
        { names::RESPONSE_MODEL } = Empty,
        { names::RESPONSE_FINISH_REASONS } = Empty,
        { names::RESPONSE_TIME_TO_FIRST_CHUNK } = Empty,
        { names::USAGE_INPUT_TOKENS } = Empty,
        { names::USAGE_OUTPUT_TOKENS } = Empty,
        { names::USAGE_CACHE_READ_INPUT_TOKENS } = Empty,
        { names::USAGE_REASONING_OUTPUT_TOKENS } = Empty,
        { names::ERROR_TYPE } = Empty,
        { names::SERVER_ADDRESS } = address,
        { names::SERVER_PORT } = port,
        { names::SYSTEM_INSTRUCTIONS } = Empty,
        { names::INPUT_MESSAGES } = Empty,
        { names::OUTPUT_MESSAGES } = Empty,
    );
    if !options.stop.is_empty() {
        let stop: Vec<&str> = options.stop.iter().map(String::as_str).collect();
        record_list(&span, names::REQUEST_STOP_SEQUENCES, &stop);
    }
    if content::wanted() {
        span.record(names::SYSTEM_INSTRUCTIONS, content::instructions(request));
        span.record(names::INPUT_MESSAGES, content::input(request));
    }
    span
}

fn embeddings_span(model: &ModelId, cx: &Context) -> Span {
    let (address, port) = names::server(&model.provider);
    tracing::info_span!(
        target: "flowstone",
        "embeddings",
        { names::SPAN_NAME } = %format_args!("{} {}", names::EMBEDDINGS, model.name),
        { names::SPAN_KIND } = "client",
        { names::SPAN_STATUS } = Empty,
        { names::OPERATION_NAME } = names::EMBEDDINGS,
        { names::PROVIDER_NAME } = names::provider(&model.provider),
        { names::CONVERSATION_ID } = %cx.run_id(),
        { names::REQUEST_MODEL } = &*model.name,
        { names::EMBEDDINGS_DIMENSION_COUNT } = Empty,
        { names::USAGE_INPUT_TOKENS } = Empty,
        { names::USAGE_CACHE_READ_INPUT_TOKENS } = Empty,
        { names::USAGE_REASONING_OUTPUT_TOKENS } = Empty,
        { names::ERROR_TYPE } = Empty,
        { names::SERVER_ADDRESS } = address,
        { names::SERVER_PORT } = port,
    )
}

fn tool_span(call: &ToolCall, cx: &Context) -> Span {
    let span = tracing::info_span!(
        target: "flowstone",
        "execute_tool",
        { names::SPAN_NAME } = %format_args!("{} {}", names::EXECUTE_TOOL, call.name),
        { names::SPAN_KIND } = "internal",
        { names::SPAN_STATUS } = Empty,
        { names::OPERATION_NAME } = names::EXECUTE_TOOL,
        { names::CONVERSATION_ID } = %cx.run_id(),
        { names::TOOL_NAME } = &*call.name,
        { names::TOOL_TYPE } = "function",
        { names::TOOL_CALL_ID } = &*call.id,
        { names::ERROR_TYPE } = Empty,
        { names::TOOL_CALL_ARGUMENTS } = Empty,
        { names::TOOL_CALL_RESULT } = Empty,
    );
    if content::wanted() {
        span.record(names::TOOL_CALL_ARGUMENTS, call.arguments.to_string());
    }
    span
}

fn mark_failed(span: &Span, error: &str) {
    span.record(names::ERROR_TYPE, error);
    span.record(names::SPAN_STATUS, "error");
}

/// Records a list: as one where OpenTelemetry takes it, else as JSON, since `tracing` has no lists.
fn record_list(span: &Span, name: &'static str, list: &[&str]) {
    #[cfg(feature = "otel")]
    if crate::watch::otel::record_list(span, name, list) {
        return;
    }
    if !span.is_none() {
        span.record(name, serde_json::Value::from(list).to_string());
    }
}

/// The conventions' `error.type`: the status if there is one, else a word of few.
fn kind(failure: &Failure) -> Cow<'static, str> {
    let word = match failure {
        Failure::Refused { status, .. } | Failure::Invalid { status, .. } | Failure::Unavailable { status, .. } => {
            return status.to_string().into();
        }
        Failure::NotFound { .. } => "404",
        Failure::RateLimited { .. } => "429",
        Failure::NoKey { .. } => "no_key",
        Failure::Unreachable { .. } => "unreachable",
        Failure::TimedOut { .. } => "timeout",
        Failure::Broken { .. } => "broken",
        Failure::Malformed { .. } => "malformed",
        Failure::Filtered { .. } => "content_filter",
        Failure::ContextOverflow { .. } => "context_overflow",
        Failure::Cut { .. } => "length",
        Failure::TooLong { .. } => "too_long",
        Failure::Unsupported { .. } => "unsupported",
        Failure::NoPrice { .. } => "no_price",
        Failure::Unscripted { .. } => "unscripted",
        Failure::Other { .. } => "_OTHER",
    };
    word.into()
}

/// Numbers are told as `i64`: others reach OpenTelemetry as text.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
