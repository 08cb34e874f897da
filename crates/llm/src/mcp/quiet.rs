//! A client for HTTP whose errors name no URL: the protocol's library logs them, and a URL may hold a key.

use std::{collections::HashMap, sync::Arc};

use futures_util::stream::BoxStream;
use reqwest::{
    Client, Error,
    header::{HeaderName, HeaderValue},
};
use rmcp::{
    model::ClientJsonRpcMessage,
    transport::streamable_http_client::{
        SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
    },
};
use sse_stream::Sse;

/// The client, for the transport.
#[derive(Clone)]
pub(super) struct Quiet(pub(super) Client);

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
        without_url(self.0.post_message(uri, message, session, token, headers).await)
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
        let sent = self.0.post_message_with_response_limits(uri, message, session, token, headers, limits);
        without_url(sent.await)
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<()> {
        without_url(self.0.delete_session(uri, session, token, headers).await)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<Events> {
        without_url(self.0.get_stream(uri, session, last_event, token, headers).await)
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
        let events = self.0.get_stream_with_max_sse_event_size(uri, session, last_event, token, headers, most_bytes);
        without_url(events.await)
    }
}

fn without_url<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        StreamableHttpError::Client(error) => StreamableHttpError::Client(error.without_url()),
        other => other,
    })
}
