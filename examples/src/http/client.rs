//! A client: one request, and its answer as a whole.
//!
//! Its errors say in their type whether another attempt can help, so that a node's `exec` can pass them on.

use std::{error::Error, pin::pin, time::Duration};

use flowstone::{NodeError, Result};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes},
    client::conn::http1,
    header::{HOST, HeaderMap, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::MOST;

const AGENT: &str = "flowstone-example";

/// The longest wait that is believed of a service; the number that it names may be any.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The time that the service asks to be left alone, if it names one in seconds.
    pub retry_after: Option<Duration>,
    /// The whole body.
    pub body: Bytes,
}

/// The reason why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address is none, or asks for TLS of a client that has none.
    #[error("`{0}` is no URL")]
    NoUrl(String),
    /// No connection: no network, no such host, nobody listens.
    #[error("{host} cannot be reached")]
    Unreachable {
        /// The host.
        host: String,
        /// The reason why there is no connection.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The connection ended before the answer did.
    #[error("the connection broke off")]
    BrokenOff(#[source] Box<dyn Error + Send + Sync>),
    /// An answer of more than a megabyte.
    #[error("the service does not stop answering")]
    TooLong,
}

/// Another attempt can help, unless there is nothing to ask.
fn in_node(error: HttpError) -> NodeError {
    match error {
        HttpError::NoUrl(_) => NodeError::terminal(error),
        _ => NodeError::new(error),
    }
}

/// A client. Clones share what they hold.
#[derive(Debug, Clone)]
pub struct Client(Way);

#[derive(Debug, Clone)]
enum Way {
    /// Straight to the service, a connection for each request.
    Plain,
    /// With TLS, and through the machine's proxy if there is one.
    #[cfg(feature = "live")]
    Tls(reqwest::Client),
}

impl Client {
    /// Returns a client for plain HTTP, which goes past the machine's proxy.
    #[must_use]
    pub fn plain() -> Self {
        Self(Way::Plain)
    }

    /// Returns a client that speaks TLS, through the machine's proxy if it has one.
    ///
    /// # Errors
    ///
    /// If the machine has no certificates to check a service's with.
    #[cfg(feature = "live")]
    pub fn tls() -> reqwest::Result<Self> {
        // An error means that there is one already, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().user_agent(AGENT).build().map(|http| Self(Way::Tls(http)))
    }

    /// Asks with GET.
    ///
    /// # Errors
    ///
    /// An [`HttpError`], terminal if another attempt cannot help.
    pub async fn get(&self, url: &str, query: &[(&str, &str)]) -> Result<Answer> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let request = Request::get(format!("{url}?{query}")).body(Full::default());
        self.send(url, request).await.map_err(in_node)
    }

    /// Sends a text with POST.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn post(&self, url: &str, text: String) -> Result<Answer> {
        let request = Request::post(url).body(Full::from(text));
        self.send(url, request).await.map_err(in_node)
    }

    async fn send(&self, url: &str, request: hyper::http::Result<Request<Full<Bytes>>>) -> Result<Answer, HttpError> {
        let request = request.map_err(|_| HttpError::NoUrl(url.to_owned()))?;
        match &self.0 {
            Way::Plain => plain(url, request).await,
            #[cfg(feature = "live")]
            Way::Tls(http) => tls(http, url, request).await,
        }
    }
}

async fn plain(url: &str, mut request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
    let host = match (request.uri().scheme_str(), request.uri().authority()) {
        (Some("http"), Some(host)) => host.clone(),
        _ => return Err(HttpError::NoUrl(url.to_owned())),
    };
    let broken_off = |error: hyper::Error| HttpError::BrokenOff(error.into());
    let stream = TcpStream::connect((host.host(), host.port_u16().unwrap_or(80))).await;
    let stream = stream.map_err(|error| HttpError::Unreachable { host: host.to_string(), source: error.into() })?;
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(broken_off)?;

    // A service is told the path only; the whole URL is for proxies.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| HttpError::NoUrl(url.to_owned()))?;
    let headers = request.headers_mut();
    headers.insert(HOST, host.as_str().parse().map_err(|_| HttpError::NoUrl(url.to_owned()))?);
    headers.insert(USER_AGENT, AGENT.parse().expect("invariant: a constant without control characters"));
    let mut answer = pin!(async { read(connection.send_request(request).await.map_err(broken_off)?).await });
    tokio::select! {
        answer = &mut answer => return answer,
        // The connection is at its end, of which the answer hears; what came before is still to be read.
        _ = driver => {}
    }
    answer.await
}

#[cfg(feature = "live")]
async fn tls(http: &reqwest::Client, url: &str, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
    let request = request.map(reqwest::Body::wrap).try_into().map_err(|_| HttpError::NoUrl(url.to_owned()))?;
    let response = http.execute(request).await.map_err(|error| {
        let host = url.split('/').nth(2).unwrap_or(url).to_owned();
        let (connects, source) = (error.is_connect(), error.without_url().into());
        if connects { HttpError::Unreachable { host, source } } else { HttpError::BrokenOff(source) }
    })?;
    read(response.into()).await
}

/// Reads the whole of an answer, which is short if it is an answer.
async fn read<B>(response: Response<B>) -> Result<Answer, HttpError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MOST).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { HttpError::TooLong } else { HttpError::BrokenOff(error) }
    })?;
    Ok(Answer { status: head.status, retry_after: retry_after(&head.headers), body: body.to_bytes() })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}
