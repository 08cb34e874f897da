//! Sending a request: one pool of connections for all models of a runtime, and bounds on time and bytes.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use reqwest::{
    Response, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect,
};
use serde_json::Value;
use tokio::runtime;
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{
    Allowance,
    failure::{self, causes},
    frames::Body,
};
use crate::error::Failure;

/// The longest that a connection may take to come about.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most connections to one service that are kept while nobody uses them: as many as a busy process calls at once, so that
/// its next wave of calls need not connect again.
const IDLE_CONNECTIONS: usize = 1_000;

/// The most runtimes whose connections are kept: programs have one or two, tests one each.
const RUNTIMES: usize = 16;

/// The most bytes that are read of a service's words when it refuses a request.
const ERROR_BYTES: usize = 64 * 1024;

/// The bounds of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The longest that the service may be silent: any byte ends a silence.
    pub(crate) silence: Duration,
    /// The most bytes of a frame, as they come over the connection.
    pub(crate) frame: usize,
    /// The most bytes of an answer, as they come over the connection.
    pub(crate) answer: usize,
}

impl Bounds {
    /// The bounds of a reply that says so many bytes at most: JSON writes a letter with up to six, and a stream wraps
    /// some 250 around each word.
    pub(crate) fn of_reply(silence: Duration, bytes: usize, streamed: bool) -> Self {
        let frame = bytes.saturating_mul(4).saturating_add(ERROR_BYTES);
        let answer = if streamed { bytes.saturating_mul(64).saturating_add(ERROR_BYTES) } else { frame };
        Self { silence, frame, answer }
    }

    /// The bounds of the vectors of so many texts.
    pub(crate) fn of_vectors(silence: Duration, texts: usize) -> Self {
        const VECTOR: usize = 256 * 1024;
        let bytes = texts.saturating_mul(VECTOR).saturating_add(ERROR_BYTES);
        Self { silence, frame: bytes, answer: bytes }
    }
}

/// The way out of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// To anywhere, through the proxy that the environment names, if it does.
    World,
    /// To this machine, which no proxy reaches.
    Loopback,
}

/// The connections of all models, one pool for each runtime: a connection is driven by the runtime that made it, and is
/// dead, or worse, silent, while that one does not run.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

struct Open {
    runtime: runtime::Id,
    door: Door,
    client: reqwest::Client,
}

impl Door {
    /// Chooses the way to a service.
    pub(crate) fn to(base: &Url) -> Self {
        let host = base.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        if host == "localhost" || address.is_ok_and(|ip| ip.is_loopback()) { Self::Loopback } else { Self::World }
    }

    /// Sends a request; returns the answer, whose body has not been read, and what the service says that it has left.
    pub(crate) async fn send(
        self,
        url: Url,
        headers: HeaderMap,
        body: &Value,
        bounds: &Bounds,
    ) -> Result<(Response, Option<Allowance>), Failure> {
        let json = serde_json::to_vec(body).map_err(|error| impossible(&error.to_string()))?;
        let request = self.client()?.post(url).headers(headers);
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(json);
        let silence = bounds.silence;
        // The log of the client for HTTP may hold a key that a server echoes.
        let sent = tokio::time::timeout(silence, request.send().with_subscriber(Dispatch::none()));
        let answer = sent.await.map_err(|_| Failure::TimedOut { limit: silence })?;
        let answer = answer.map_err(|error| failure::of_http(error, silence))?;
        let left = Allowance::read(answer.headers(), SystemTime::now());
        let status = answer.status();
        if status.is_success() {
            return Ok((answer, left));
        }
        let headers = answer.headers().clone();
        let said = Body::new(answer, Bounds { frame: ERROR_BYTES, answer: ERROR_BYTES, ..*bounds }).words().await;
        Err(failure::of_status(status, &headers, &said))
    }

    /// Returns the client of the runtime that this is called in.
    fn client(self) -> Result<reqwest::Client, Failure> {
        let runtime = runtime::Handle::try_current().map_err(|error| impossible(&error.to_string()))?.id();
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.iter().find(|one| one.runtime == runtime && one.door == self) {
            return Ok(known.client.clone());
        }
        let client = client(self).map_err(|reason| impossible(&reason))?;
        if open.len() == RUNTIMES {
            open.remove(0);
        }
        open.push(Open { runtime, door: self, client: client.clone() });
        Ok(client)
    }
}

fn impossible(reason: &str) -> Failure {
    Failure::Unsupported { said: format!("there is no client for HTTP: {reason}") }
}

fn client(door: Door) -> Result<reqwest::Client, String> {
    // Fails if the program has chosen a provider of cryptography already, which is then used.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder()
        .user_agent(concat!("flowstone/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        // A redirect would carry the key, which is in a header of the provider's own, to another host.
        .redirect(redirect::Policy::none())
        // A few kilobytes could become gigabytes. Text as short as a reply gains nothing by it.
        .no_gzip()
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_keep_alive_while_idle(true)
        .http2_adaptive_window(true);
    let builder = if matches!(door, Door::Loopback) { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| causes(&error))
}
