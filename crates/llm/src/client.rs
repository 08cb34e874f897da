//! The built-in client: it asks a service by its wire, and makes a reply of the answer.
//!
//! ```text
//! connect   a name, a key, a timeout → Client     route   where its requests go     wire   what services speak
//! ```
//!
//! **Invariant:** no type of `reqwest` leaves this crate, and what it logs is dropped, since it may hold what a server
//! echoes of a key.

mod connect;
mod key;
mod route;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use flowstone_core::{BoxFuture, Context};
use reqwest::{
    Method, Response, Url,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

pub use connect::{Connect, SetupError};
pub(crate) use key::Key;

use self::{key::KeySource, route::Route};
use crate::{
    error::{Failure, ModelError, ModelId},
    message::{Role, distinct_ids},
    model::{ChatModel, Embeddings},
    request::{Reply, Request, Tokens, ToolChoice},
    watch::delta::Delta,
    wire::{
        Allowance, Asked, Fold, Piece, Wire,
        dialect::Dialect,
        failure::once_shown,
        frames::{Body, Came, Heard},
        mask::Mask,
        transport::{Bounds, Door},
    },
};

/// A client of one model.
#[derive(Debug)]
pub(crate) struct Client {
    id: ModelId,
    route: Route,
    /// The way for requests that the usual one does not take.
    constrained: Option<Route>,
    base: Url,
    key: KeySource,
    /// Headers of the user's own.
    headers: Vec<(HeaderName, Key)>,
    /// The longest that the service may be silent.
    silence: Duration,
    /// The longest that a call may take.
    call_limit: Duration,
    max_reply_bytes: usize,
    door: Door,
    /// The allowance that the service named last.
    left: Mutex<Option<Allowance>>,
}

impl ChatModel for Client {
    fn id(&self) -> &ModelId {
        &self.id
    }

    fn chat<'a>(&'a self, request: &'a Request, cx: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>> {
        Box::pin(async move {
            let mut tokens = None;
            let reply = self.reply(request, cx, &mut tokens).await;
            reply.map_err(|failure| self.error(failure).with_tokens(tokens))
        })
    }

    fn embed<'a>(&'a self, texts: &'a [String], _: &'a Context) -> BoxFuture<'a, Result<Embeddings, ModelError>> {
        Box::pin(async move { self.vectors(texts).await.map_err(|failure| self.error(failure)) })
    }

    fn allowance(&self) -> Option<Allowance> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A call spends most of its time waiting for the service, and a busy process has thousands that wait. So a waiting
/// call holds little: its body is bytes by then, and the room for reading an answer is taken when there is one.
impl Client {
    fn error(&self, failure: Failure) -> ModelError {
        ModelError::new(self.id.clone(), failure)
    }

    /// Asks for a reply; `tokens` are set as soon as the service has counted them, also if the call fails.
    async fn reply(&self, request: &Request, cx: &Context, tokens: &mut Option<Tokens>) -> Result<Reply, Failure> {
        let stream = request.stream && cx.listening();
        let route = self.route_for(request);
        let silence = request.options.timeout.unwrap_or(self.silence);
        let bounds = Bounds::of_reply(silence, self.max_reply_bytes, stream).for_call(self.call_limit);
        let (post, mask) = {
            let asked = Asked { request, model: &self.id.name, stream };
            let body = route.dialect.wire.encode(&asked, &route.dialect)?;
            self.post(&route.dialect, if stream { &route.stream } else { &route.whole }, body)?
        };
        let answer = self.door.send(post, &bounds).await.map_err(|failure| mask.failure(failure))?;
        let reading = Reading { wire: route.dialect.wire, request, cx: stream.then_some(cx), mask, bounds, tokens };
        Box::pin(reading.read(self.noted(answer), self.max_reply_bytes)).await
    }

    async fn vectors(&self, texts: &[String]) -> Result<Embeddings, Failure> {
        if texts.is_empty() {
            return Ok(Embeddings::new(Vec::new(), None));
        }
        let route = self.constrained.as_ref().filter(|_| self.has_key()).unwrap_or(&self.route);
        let wire = route.dialect.wire;
        let url = route.vectors.as_ref().ok_or_else(|| unsendable("embeddings of this provider"))?;
        let bounds = Bounds::of_vectors(self.silence, texts.len()).for_call(self.call_limit);
        let (post, mask) = self.post(&route.dialect, url, wire.encode_texts(&self.id.name, texts)?)?;
        let vectors = async {
            let answer = self.noted(self.door.send(post, &bounds).await?);
            let mut frames = Vec::new();
            let mut take = |frame: &serde_json::Value| {
                frames.push(frame.clone());
                Ok(Heard::More)
            };
            Box::pin(Body::new(answer, bounds).frames(false, &mut take)).await?;
            // Some answer with a bare list.
            let body = if frames.len() == 1 { frames.remove(0) } else { frames.into() };
            wire.decode_vectors(&body, texts.len())
        };
        vectors.await.map_err(|failure| mask.failure(failure))
    }

    /// Returns the way for this request.
    fn route_for(&self, request: &Request) -> &Route {
        let constrained = request.schema.is_some() || request.options.tool_choice != ToolChoice::Auto;
        self.constrained.as_ref().filter(|_| constrained || self.has_key()).unwrap_or(&self.route)
    }

    fn has_key(&self) -> bool {
        matches!(self.key, KeySource::Given(_))
    }

    /// Makes a request for HTTP, and the mask for its secrets.
    fn post(&self, dialect: &Dialect, url: &Url, body: Vec<u8>) -> Result<(reqwest::Request, Mask), Failure> {
        let own = |name: &str| self.headers.iter().any(|(own, _)| own.as_str().eq_ignore_ascii_case(name));
        // Whoever gives the header of the key needs no other.
        let key = if own(dialect.key_header) { None } else { self.key.read()? };
        let mask = Mask::new(key.as_ref(), self.headers.iter().map(|(_, value)| value), &self.base);
        let mut post = reqwest::Request::new(Method::POST, url.clone());
        let headers = post.headers_mut();
        if let Some(key) = &key {
            let name = HeaderName::from_bytes(dialect.key_header.as_bytes())
                .map_err(|_| unsendable("the header of the key has no name"))?;
            headers.insert(name, secret(&format!("{}{}", dialect.key_prefix, key.expose()))?);
        }
        if dialect.wire == Wire::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), secret(value.expose())?);
        }
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        *post.body_mut() = Some(body.into());
        Ok((post, mask))
    }

    /// Notes the requests and tokens that the service has left, as its headers say.
    fn noted(&self, answer: Response) -> Response {
        if let Some(left) = Allowance::read(answer.headers(), SystemTime::now()) {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        }
        answer
    }
}

/// An answer that is read.
struct Reading<'a> {
    wire: Wire,
    request: &'a Request,
    /// `None` if nobody wants the text as it comes.
    cx: Option<&'a Context>,
    mask: Mask,
    bounds: Bounds,
    tokens: &'a mut Option<Tokens>,
}

impl Reading<'_> {
    async fn read(self, answer: Response, most: usize) -> Result<Reply, Failure> {
        let Self { wire, request, cx, mask, bounds, tokens } = self;
        let mut shown = Shown { cx, any: false };
        let mut fold = Fold::new(wire, most, cx.is_some());
        let mut take = |frame: &serde_json::Value| {
            let decoded = wire.decode(frame, &mut fold);
            *tokens = fold.tokens();
            decoded?;
            shown.all(fold.pieces());
            Ok(fold.heard())
        };
        let came = Body::new(answer, bounds).frames(cx.is_some(), &mut take).await;
        let reply = came.and_then(|came| whole(came, fold, &mut shown, request));
        let mut reply = reply.map_err(|failure| {
            let failure = mask.failure(failure);
            if shown.any { once_shown(failure) } else { failure }
        })?;
        distinct_ids(&mut reply.message, &request.messages);
        Ok(mask.reply(reply))
    }
}

/// Makes a reply of the frames that came, if they are all of it.
fn whole(came: Came, mut fold: Fold, shown: &mut Shown<'_>, request: &Request) -> Result<Reply, Failure> {
    if came == Came::Frames && !fold.has_end() {
        return Err(Failure::Broken { shown: false, said: "the stream ended in the middle".to_owned() });
    }
    fold.close()?;
    shown.all(fold.pieces());
    fold.finish(request.messages.last().is_some_and(|last| last.role == Role::Tool))
}

/// Shows pieces to the listeners of the run.
///
/// **Invariant:** what was shown is not taken back: a failure after the first piece says so, and is not tried again.
struct Shown<'a> {
    cx: Option<&'a Context>,
    any: bool,
}

impl Shown<'_> {
    fn all(&mut self, pieces: Vec<Piece>) {
        let Some(cx) = self.cx else { return };
        for piece in pieces {
            self.any |= cx.heard();
            match &piece {
                Piece::Text(text) => Delta::Text(text).emit(cx),
                Piece::Thought(text) => Delta::Reasoning(text).emit(cx),
            }
        }
    }
}

fn secret(value: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(value).map_err(|_| unsendable("a key or a header that cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn unsendable(said: &str) -> Failure {
    Failure::Unsupported { said: said.to_owned() }
}
