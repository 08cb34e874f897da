//! A client for HTTP whose errors name no URL: the protocol's library logs them, and a URL may hold a key.
//!
//! A server that has forgotten its session, or cannot read a request, answers by an error without an id, or with one of
//! its own. The library drops it, and the call waits until its time is up. Here it is given the id of the request that
//! it answers: whatever comes back from a POST belongs to that.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{StreamExt, stream::BoxStream};
use reqwest::{
    Client, Error,
    header::{HeaderName, HeaderValue},
};
use rmcp::{
    model::{ClientJsonRpcMessage, JsonRpcMessage, RequestId},
    transport::streamable_http_client::{
        SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
    },
};
use serde_json::Value;
use sse_stream::Sse;

/// The client, for the transport.
#[derive(Clone)]
pub(super) struct Quiet {
    client: Client,
    /// Set when the server answers as if it knew nothing of the session.
    lost: Arc<AtomicBool>,
}

impl Quiet {
    pub(super) fn new(client: Client, lost: Arc<AtomicBool>) -> Self {
        Self { client, lost }
    }

    /// Gives an error without the id of the request that id.
    fn of(
        &self,
        id: Option<RequestId>,
        sent: Result<StreamableHttpPostResponse>,
    ) -> Result<StreamableHttpPostResponse> {
        let Some(id) = id else { return sent };
        match sent? {
            StreamableHttpPostResponse::Json(JsonRpcMessage::Error(mut error), session)
                if error.id.as_ref() != Some(&id) =>
            {
                self.lost.store(true, Ordering::Relaxed);
                error.id = Some(id);
                Ok(StreamableHttpPostResponse::Json(JsonRpcMessage::Error(error), session))
            }
            StreamableHttpPostResponse::Sse(events, session) => {
                let (lost, id) = (Arc::clone(&self.lost), serde_json::to_value(&id).unwrap_or_default());
                let events = events.map(move |event| event.map(|event| with_id(event, &id, &lost)));
                Ok(StreamableHttpPostResponse::Sse(events.boxed(), session))
            }
            other => Ok(other),
        }
    }
}

/// Gives an event that is an error without the id of the request that id.
fn with_id(mut event: Sse, id: &Value, lost: &AtomicBool) -> Sse {
    let Some(data) = event.data.as_deref().filter(|data| data.contains("\"error\"")) else { return event };
    let Ok(Value::Object(mut message)) = serde_json::from_str(data) else { return event };
    if message.contains_key("error") && !message.contains_key("method") && message.get("id") != Some(id) {
        lost.store(true, Ordering::Relaxed);
        message.insert("id".to_owned(), id.clone());
        event.data = Some(Value::Object(message).to_string());
    }
    event
}

/// The id of a request, which waits for an answer.
fn awaited(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    if let JsonRpcMessage::Request(request) = message { Some(request.id.clone()) } else { None }
}

type Result<T> = std::result::Result<T, StreamableHttpError<Error>>;
type Events = BoxStream<'static, std::result::Result<Sse, SseError>>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl StreamableHttpClient for Quiet {
    type Error = Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse> {
        let id = awaited(&message);
        self.of(id, without_url(self.client.post_message(uri, message, session, token, headers).await))
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse> {
        let id = awaited(&message);
        let sent = self.client.post_message_with_response_limits(uri, message, session, token, headers, limits);
        self.of(id, without_url(sent.await))
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<()> {
        without_url(self.client.delete_session(uri, session, token, headers).await)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<Events> {
        without_url(self.client.get_stream(uri, session, last_event, token, headers).await)
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: Headers,
        most_bytes: usize,
    ) -> Result<Events> {
        let events =
            self.client.get_stream_with_max_sse_event_size(uri, session, last_event, token, headers, most_bytes);
        without_url(events.await)
    }
}

fn without_url<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        StreamableHttpError::Client(error) => StreamableHttpError::Client(error.without_url()),
        other => other,
    })
}
