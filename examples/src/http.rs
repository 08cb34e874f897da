//! What the HTTP clients of the examples have in common.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest wait that is believed of a service; the number that it names may be any.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Begins a client that speaks TLS.
pub fn client() -> reqwest::ClientBuilder {
    // An error means that there is one already, which does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().user_agent("flowstone-example")
}

/// Begins a client for plain HTTP, past the machine's proxy. It looks for no certificates: a small container has none.
pub fn plain_client() -> reqwest::ClientBuilder {
    client().no_proxy().tls_certs_only([])
}

/// Returns how long a service asks to be left alone, if it says so in seconds.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}
