//! Exporters that bring a runtime along.
//!
//! The SDK exports from threads of its own, which know no tokio, but the HTTP client needs one; and the runtime of the
//! program may be blocked by the very shutdown that waits for an export, or gone. So one thread drives a runtime for
//! the exporters, and ends with the last of them.

use std::{
    fmt,
    future::{self, Future},
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use opentelemetry_otlp::{MetricExporter, SpanExporter as OtlpSpanExporter, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use super::{TelemetryError, variable};

/// The longest that a request may take, unless a variable says otherwise: the default of OpenTelemetry's exporters.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the exporters of spans and of metrics, as the standard variables say.
pub(super) fn exporters() -> Result<(Driven<OtlpSpanExporter>, Driven<MetricExporter>), TelemetryError> {
    // Fails if the program has chosen another before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let driver = Driver::start().map_err(|source| TelemetryError::Thread { source })?;
    let wrong = |source: opentelemetry_otlp::ExporterBuildError| TelemetryError::Exporter { source: source.into() };
    let spans = OtlpSpanExporter::builder().with_http().with_http_client(client("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")?);
    let metrics = MetricExporter::builder().with_http().with_http_client(client("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT")?);
    let (spans, metrics) = (spans.build().map_err(wrong)?, metrics.build().map_err(wrong)?);
    let driver = Arc::new(driver);
    Ok((Driven { exporter: spans, driver: Arc::clone(&driver) }, Driven { exporter: metrics, driver }))
}

/// Makes the client of an exporter: as the exporter's own would be, but for redirects, which would carry the headers of
/// `OTEL_EXPORTER_OTLP_HEADERS`, and so a key, to another host.
fn client(own_timeout: &str) -> Result<reqwest::Client, TelemetryError> {
    let milliseconds =
        [own_timeout, "OTEL_EXPORTER_OTLP_TIMEOUT"].into_iter().find_map(|name| variable(name)?.parse().ok());
    let client = reqwest::Client::builder()
        .timeout(milliseconds.map_or(TIMEOUT, Duration::from_millis))
        .redirect(reqwest::redirect::Policy::none());
    client.build().map_err(|source| TelemetryError::Exporter { source: source.into() })
}

/// An exporter, and the runtime of its connections.
pub(super) struct Driven<E> {
    exporter: E,
    driver: Arc<Driver>,
}

impl<E: SpanExporter> SpanExporter for Driven<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.driver.drive(self.exporter.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Driven<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.driver.drive(self.exporter.export(metrics)).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

impl<E> fmt::Debug for Driven<E> {
    /// Says nothing of the exporter, whose headers may hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven").finish_non_exhaustive()
    }
}

/// A thread with a runtime, which ends when this is dropped.
struct Driver {
    runtime: Handle,
    _running: oneshot::Sender<()>,
}

impl Driver {
    fn start() -> io::Result<Self> {
        let (built, runtime) = mpsc::sync_channel(1);
        let (running, dropped) = oneshot::channel::<()>();
        // The runtime is made there, since one must not be dropped inside another.
        thread::Builder::new().name("flowstone-otel".to_owned()).spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = built.send(Err(error));
                    return;
                }
            };
            let _ = built.send(Ok(runtime.handle().clone()));
            let _ = runtime.block_on(dropped);
        })?;
        let runtime = runtime.recv().map_err(io::Error::other)??;
        Ok(Self { runtime, _running: running })
    }

    /// Lets a future that is polled elsewhere use the runtime.
    fn drive<'a, T>(&'a self, export: impl Future<Output = T> + Send + 'a) -> impl Future<Output = T> + Send + 'a {
        let mut export = Box::pin(export);
        future::poll_fn(move |cx| {
            let _entered = self.runtime.enter();
            export.as_mut().poll(cx)
        })
    }
}
