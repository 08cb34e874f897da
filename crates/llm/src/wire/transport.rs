//! Sending a request: one pool of connections for all models of a runtime, and bounds on time and bytes.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Request, Response, Url, redirect};
use tokio::{runtime, time::Instant};
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{
    failure::{self, causes},
    frames::Body,
};
use crate::error::Failure;

/// The longest that a connection may take to come about.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most connections to one service that are kept while nobody uses them: as many as a busy process calls at once,
/// so that its next wave of calls need not connect again.
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
    /// The longest that the call may take.
    call: Duration,
    /// The moment when that is over; `None` is never.
    end: Option<Instant>,
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
        Self { silence, call: Duration::MAX, end: None, frame, answer }
    }

    /// The bounds of the vectors of so many texts.
    pub(crate) fn of_vectors(silence: Duration, texts: usize) -> Self {
        const VECTOR: usize = 256 * 1024;
        let bytes = texts.saturating_mul(VECTOR).saturating_add(ERROR_BYTES);
        Self { silence, call: Duration::MAX, end: None, frame: bytes, answer: bytes }
    }

    /// Bounds the whole call, which begins now.
    pub(crate) fn for_call(self, limit: Duration) -> Self {
        // A limit beyond the end of all clocks is none.
        Self { call: limit, end: Instant::now().checked_add(limit), ..self }
    }

    /// Waits for the service's next step, at most for the given silence and for the rest of the call.
    ///
    /// One timer does for both limits. The end of the call is looked at first, since a service that never makes it wait
    /// starts no timer.
    pub(super) async fn wait<T>(&self, silence: Duration, next: impl Future<Output = T>) -> Result<T, Failure> {
        let left = self.end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        let limit = if left < silence { self.call } else { silence };
        if left.is_zero() {
            return Err(Failure::TimedOut { limit });
        }
        tokio::time::timeout(left.min(silence), next).await.map_err(|_| Failure::TimedOut { limit })
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

    /// Sends a request; returns the answer, whose body has not been read.
    pub(crate) async fn send(self, request: Request, bounds: &Bounds) -> Result<Response, Failure> {
        // The log of the client for HTTP may hold a key that a server echoes.
        let sent = self.client()?.execute(request).with_subscriber(Dispatch::none());
        let answer = bounds.wait(bounds.silence, sent).await?;
        let answer = answer.map_err(|error| failure::of_http(error, bounds.silence))?;
        if answer.status().is_success() { Ok(answer) } else { Err(Box::pin(refused(answer, *bounds)).await) }
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

/// Reads why a service refuses a request.
async fn refused(answer: Response, bounds: Bounds) -> Failure {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let said = Body::new(answer, Bounds { frame: ERROR_BYTES, answer: ERROR_BYTES, ..bounds }).words().await;
    failure::of_status(status, &headers, &said)
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
