//! A server that is reached over HTTP: the client, and the meaning of its errors.

use std::{
    collections::HashMap,
    error::Error,
    iter::successors,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use reqwest::{
    Client, Url,
    header::{HeaderName, HeaderValue},
    redirect,
};
use rmcp::transport::{
    StreamableHttpClientTransport,
    common::client_side_sse::SseRetryPolicy,
    streamable_http_client::{
        AuthRequiredError, HttpStatusError, StreamableHttpClientTransportConfig, StreamableHttpError,
    },
};

use super::{McpFailure, quiet::Quiet};

/// The most redirects that are followed: one more is a circle.
const REDIRECTS: usize = 10;

/// Makes the transport; its first request connects.
pub(super) fn transport(
    url: &str,
    token: Option<&str>,
    headers: &[(String, String)],
    connect: Duration,
    lost: Arc<AtomicBool>,
) -> Result<StreamableHttpClientTransport<Quiet>, McpFailure> {
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let parsed = parsed.ok_or_else(|| McpFailure::Address { address: shown(url) })?;
    let client = client(&parsed, connect).map_err(|error| McpFailure::Unreachable { said: error.to_string() })?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(url);
    config.retry_config = Arc::new(Again);
    if let Some(token) = token {
        config = config.auth_header(token);
    }
    let headers = headers.iter().map(|(name, value)| header(name, value)).collect::<Result<HashMap<_, _>, _>>()?;
    config = config.custom_headers(headers);
    Ok(StreamableHttpClientTransport::with_client(Quiet::new(client, lost), config))
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), McpFailure> {
    match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        (Ok(name), Ok(mut value)) => {
            value.set_sensitive(true);
            Ok((name, value))
        }
        _ => Err(McpFailure::Header { name: name.to_owned() }),
    }
}

/// Asks again for a reply that broke off, as the protocol lets a client, but not for ever: without a bound the call of
/// a server that has ended would wait until its time is up.
#[derive(Debug)]
struct Again;

impl SseRetryPolicy for Again {
    fn retry(&self, failed: usize) -> Option<Duration> {
        (failed <= 1).then_some(Duration::from_secs(1))
    }
}

fn client(url: &Url, connect: Duration) -> reqwest::Result<Client> {
    // Another part of the program may have chosen one already: that one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(connect)
        // A kept connection whose last reply was not read to its end waits 40 ms for an acknowledgement.
        .pool_max_idle_per_host(0)
        .redirect(redirect::Policy::custom(|attempt| {
            let same = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
            // Of the others the message or the token would be lost, or go to someone else.
            let kept = matches!(attempt.status().as_u16(), 307 | 308);
            if same && kept && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
        }));
    if matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")) {
        builder = builder.no_proxy();
    }
    builder.build()
}

/// A URL without the parts that may be secret: its user, its query, and a path of more than one part, in which some
/// services put a key.
pub(super) fn shown(url: &str) -> String {
    let parsed = Url::parse(url).ok();
    let Some((url, host)) = parsed.as_ref().and_then(|url| Some((url, url.host_str()?))) else {
        return "an address that is none".to_owned();
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let short = url.path_segments().is_none_or(|parts| parts.count() <= 1);
    format!("{}://{host}{port}{}", url.scheme(), if short { url.path() } else { "/…" })
}

/// Returns the parts of a URL that may be secret, each as it is written there, and as it is meant.
pub(super) fn secrets(url: &str) -> Vec<String> {
    let Ok(url) = Url::parse(url) else { return Vec::new() };
    let written =
        url.query().unwrap_or_default().split('&').filter_map(|pair| Some(pair.split_once('=')?.1.to_owned()));
    let meant = url.query_pairs().map(|(_, value)| value.into_owned());
    let login = [url.username(), url.password().unwrap_or_default()].map(str::to_owned);
    written.chain(meant).chain(login).collect()
}

/// Reads the meaning of an error of the transport.
pub(super) fn failure(error: &(dyn Error + 'static)) -> McpFailure {
    let mut said = String::new();
    for cause in successors(Some(error), |&error| error.source()) {
        if cause.is::<AuthRequiredError>() {
            return McpFailure::Unauthorized;
        }
        if let Some(status) = cause.downcast_ref::<HttpStatusError>() {
            return McpFailure::Unreachable { said: format!("it answers with status {}", status.status) };
        }
        match cause.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            Some(StreamableHttpError::UnexpectedServerResponse(text)) => return unexpected(text),
            // It does not give the client's error as its source.
            Some(StreamableHttpError::Client(error)) => return failure(error),
            _ => {}
        }
        // The last cause says the most: `connection refused`.
        said = cause.to_string();
    }
    McpFailure::Unreachable { said }
}

/// Reads `HTTP 401 Unauthorized: body`, the only form in which the transport tells most statuses.
fn unexpected(text: &str) -> McpFailure {
    let Some(answer) = text.strip_prefix("HTTP ") else { return McpFailure::Protocol { said: text.to_owned() } };
    match answer.get(..3) {
        Some("401" | "403") => McpFailure::Unauthorized,
        _ => McpFailure::Unreachable { said: format!("it answers with status {}", cut(answer.to_owned())) },
    }
}

/// The most bytes of a server's text that an error quotes.
const QUOTED: usize = 500;

/// Shortens a text that a server made as long as it liked.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > QUOTED {
        text.truncate(text.floor_char_boundary(QUOTED));
        text.push('…');
    }
    text
}
