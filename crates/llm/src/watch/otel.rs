//! Spans and metrics for OpenTelemetry: [`Telemetry`] sends them to a collector, over OTLP/HTTP.
//!
//! ```text
//! spans of `flowstone` ─▶ Telemetry::layer ─▶ batches ─┐
//!                                                      ├─▶ a thread with a runtime of its own ─▶ OTLP/HTTP
//! metrics of calls ─▶ the global meter ─▶ every minute ┘
//! ```
//!
//! | span | of | attributes besides `gen_ai.operation.name`, `gen_ai.conversation.id` (the run's id), `error.type` |
//! |---|---|---|
//! | `invoke_workflow FLOW` | a run | `gen_ai.agent.name` |
//! | `invoke_agent AGENT` | a visit of an agent's nodes | `gen_ai.agent.name` |
//! | `chat MODEL` | a call of a model | provider, `server.*`, `gen_ai.{request,response,usage}.*` |
//! | `embeddings MODEL` | a call for vectors | provider, `server.*`, input tokens, dimensions |
//! | `execute_tool TOOL` | a call of a tool | `gen_ai.tool.{name,type,call.id}` |
//!
//! | metric | in | |
//! |---|---|---|
//! | `gen_ai.client.operation.duration` | `s` | each call, with `error.type` if it failed |
//! | `gen_ai.client.operation.time_to_first_chunk` | `s` | of streams; in spans `gen_ai.response.time_to_first_chunk` |
//! | `gen_ai.client.token.usage` | `{token}` | by `gen_ai.token.type`, as far as providers tell |
//!
//! Metrics go through OpenTelemetry's global meter, so that a program with a meter provider of its own has them, too.
//!
//! No key is in a span. What is said, to models, by them and by tools, is in spans only if the variable
//! `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` is `true`; the texts of errors never are.

use std::{fmt, io, sync::mpsc, thread, time::Duration};

use flowstone_core::BoxError;
use opentelemetry::{
    Array, StringValue, Value,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider, trace::SdkTracerProvider};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, registry::LookupSpan};

mod export;
mod metrics;

pub(crate) use metrics::{Instruments, instruments};

/// The longest that a flush or a shutdown waits for a collector. The SDK's own waits add up to more.
const LIMIT: Duration = Duration::from_secs(5);

/// Sends spans and metrics to a collector, until it is shut down or dropped.
///
/// The standard variables say where and how: `OTEL_EXPORTER_OTLP_ENDPOINT` (the default is port 4318 of this machine),
/// `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT` and those for traces and metrics alone,
/// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_METRIC_EXPORT_INTERVAL`. `OTEL_SERVICE_NAME` takes the
/// place of the name given in the program, and with `OTEL_SDK_DISABLED=true` nothing is sent.
///
/// # Example
///
/// ```no_run
/// use flowstone_llm::otel::Telemetry;
///
/// let telemetry = Telemetry::install("support-desk")?;
/// // … runs …
/// telemetry.shutdown()?;
/// # Ok::<(), flowstone_llm::otel::TelemetryError>(())
/// ```
#[must_use = "what was not sent yet is sent, and nothing after it, when this is dropped"]
pub struct Telemetry {
    /// `None` if it is disabled, or shut down.
    providers: Option<Providers>,
}

#[derive(Clone)]
struct Providers {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
}

impl Telemetry {
    /// Sends the spans of the target `flowstone` and the metrics of this process, from now on.
    ///
    /// # Errors
    ///
    /// If the process has a subscriber of `tracing` already, see [`start`](Self::start), or a variable is malformed.
    pub fn install(service: impl Into<String>) -> Result<Self, TelemetryError> {
        let telemetry = Self::prepare(service.into())?;
        if telemetry.providers.is_some() {
            let subscriber = tracing_subscriber::registry().with(telemetry.layer());
            tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Subscribed)?;
        }
        telemetry.meter();
        Ok(telemetry)
    }

    /// Sends metrics from now on; spans are sent by a subscriber with the [layer](Self::layer).
    ///
    /// # Errors
    ///
    /// If a variable is malformed.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use flowstone_llm::otel::Telemetry;
    /// use tracing_subscriber::layer::SubscriberExt;
    ///
    /// let telemetry = Telemetry::start("support-desk")?;
    /// let subscriber = tracing_subscriber::registry().with(telemetry.layer()); // and layers of your own
    /// tracing::subscriber::set_global_default(subscriber)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(service: impl Into<String>) -> Result<Self, TelemetryError> {
        let telemetry = Self::prepare(service.into())?;
        telemetry.meter();
        Ok(telemetry)
    }

    /// Makes a layer that sends the spans of the target `flowstone`.
    #[must_use]
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        self.providers.as_ref().map(|providers| {
            tracing_opentelemetry::layer()
                .with_tracer(providers.traces.tracer("flowstone"))
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_filter(Targets::new().with_target("flowstone", tracing::Level::INFO))
        })
    }

    /// Sends the spans and metrics that have gathered, and waits at most 5 seconds. It blocks the thread.
    ///
    /// # Errors
    ///
    /// If it could not be sent, or not in time.
    pub fn flush(&self) -> Result<(), TelemetryError> {
        let Some(providers) = self.providers.clone() else { return Ok(()) };
        in_time(move || {
            let (traces, metrics) = (providers.traces.force_flush(), providers.metrics.force_flush());
            traces.and(metrics)
        })
    }

    /// Sends the spans and metrics that have gathered, waits at most 5 seconds, and sends nothing from then on. It
    /// blocks the thread.
    ///
    /// # Errors
    ///
    /// If it could not be sent, or not in time.
    pub fn shutdown(mut self) -> Result<(), TelemetryError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), TelemetryError> {
        let Some(providers) = self.providers.take() else { return Ok(()) };
        in_time(move || {
            let (traces, metrics) = (providers.traces.shutdown(), providers.metrics.shutdown());
            traces.and(metrics)
        })
    }

    fn prepare(service: String) -> Result<Self, TelemetryError> {
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Self { providers: None });
        }
        let resource = Resource::builder();
        let resource = match variable("OTEL_SERVICE_NAME") {
            Some(_) => resource,
            None => resource.with_service_name(service),
        };
        let (spans, metrics) = export::exporters()?;
        let resource = resource.build();
        let traces = SdkTracerProvider::builder().with_resource(resource.clone()).with_batch_exporter(spans).build();
        let metrics = SdkMeterProvider::builder().with_resource(resource).with_periodic_exporter(metrics).build();
        Ok(Self { providers: Some(Providers { traces, metrics }) })
    }

    fn meter(&self) {
        if let Some(providers) = &self.providers {
            opentelemetry::global::set_meter_provider(providers.metrics.clone());
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.end();
    }
}

impl fmt::Debug for Telemetry {
    /// Says nothing of the exporters, whose headers may hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("sends", &self.providers.is_some()).finish_non_exhaustive()
    }
}

/// An error that keeps traces from being sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum TelemetryError {
    /// Another subscriber was installed before.
    #[error("this process has a subscriber of `tracing` already: add `Telemetry::start(…)?.layer()` to it")]
    Subscribed,
    /// An endpoint that is no URL, a timeout that is no number.
    #[error("the exporter cannot be set up: see the variables `OTEL_EXPORTER_OTLP_…`")]
    Exporter { source: BoxError },
    /// The system gave no thread.
    #[error("no thread could be started to send spans and metrics")]
    Thread { source: io::Error },
    /// The collector did not take it.
    #[error("spans or metrics could not be sent")]
    Unsent { source: BoxError },
    /// The collector, or the way to it, is too slow.
    #[error("spans or metrics could not be sent within {limit:?}")]
    TimedOut { limit: Duration },
}

/// Records a list as an attribute of a span; false where no layer of OpenTelemetry takes the span.
pub(crate) fn record_list(span: &Span, name: &'static str, list: &[&str]) -> bool {
    let taken = !span.is_none() && span.context().span().span_context().is_valid();
    if taken {
        let list = list.iter().map(|text| StringValue::from((*text).to_owned())).collect();
        span.set_attribute(name, Value::Array(Array::String(list)));
    }
    taken
}

/// Runs work that waits for the collector on another thread, and waits for that up to the limit.
fn in_time(
    work: impl FnOnce() -> opentelemetry_sdk::error::OTelSdkResult + Send + 'static,
) -> Result<(), TelemetryError> {
    let (done, result) = mpsc::sync_channel(1);
    let sender = thread::Builder::new().name("flowstone-otel-end".to_owned());
    let spawned = sender.spawn(move || {
        // Fails if the limit has passed.
        let _ = done.send(work());
    });
    spawned.map_err(|source| TelemetryError::Thread { source })?;
    match result.recv_timeout(LIMIT) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(TelemetryError::Unsent { source: error.into() }),
        Err(_) => Err(TelemetryError::TimedOut { limit: LIMIT }),
    }
}

/// Reads a variable; an empty one is none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
