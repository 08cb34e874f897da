//! Calls as they are seen: text as it comes, spans, and, with the feature `otel`, OpenTelemetry.

pub(crate) mod delta;
#[cfg(feature = "otel")]
pub mod otel;
pub(crate) mod span;
