//! A server: a function from a call to a reply, on a port of this machine.

use std::{convert::Infallible, future::Future, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinSet};

use super::MOST;

/// A reply.
pub type Reply = Response<Full<Bytes>>;

/// A request as a service sees it.
#[derive(Debug)]
pub struct Call {
    /// The path, without the query.
    pub path: String,
    query: String,
    /// The body.
    pub body: String,
}

impl Call {
    /// Returns the first value of a name in the query.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

/// Returns a reply with a status and a JSON body.
///
/// # Panics
///
/// If the value cannot be written as JSON.
#[must_use]
pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let body = serde_json::to_vec(value).expect("a reply is plain data");
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    reply
}

/// Returns a reply with a status and a text.
#[must_use]
pub fn text(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::from(text));
    *reply.status_mut() = status;
    reply
}

/// Answers every call by a function, for as long as the future is polled. Dropped, it closes all connections.
pub async fn serve<F, Answering>(listener: TcpListener, answer: F)
where
    F: Fn(Call) -> Answering + Clone + Send + 'static,
    Answering: Future<Output = Reply> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // There are too many open files, say: another time it may work.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let answer = answer.clone();
        connections.spawn(async move {
            let one = service_fn(move |request| one(request, answer.clone()));
            // A caller that has gone is no matter of the server.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), one).await);
        });
    }
}

async fn one<F, Answering>(request: Request<Incoming>, answer: F) -> Result<Reply, Infallible>
where
    F: Fn(Call) -> Answering,
    Answering: Future<Output = Reply>,
{
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MOST).collect().await else {
        return Ok(text(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long, or half of one"));
    };
    let Ok(body) = String::from_utf8(body.to_bytes().into()) else {
        return Ok(text(StatusCode::BAD_REQUEST, "the request is no text"));
    };
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
    Ok(answer(Call { path, query, body }).await)
}
