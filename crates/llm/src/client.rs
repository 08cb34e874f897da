//! The built-in client: it asks a service by its wire, and makes a reply of what comes.
//!
//! ```text
//! connect   a name, a key, a timeout → Client          wire   what services speak
//! ```
//!
//! **Invariant:** no type of `reqwest` leaves this crate, and what it logs is dropped, since it may hold what a server
//! echoes of a key.

mod connect;
mod key;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use flowstone_core::{BoxFuture, Context};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

pub use connect::{Connect, SetupError};
pub(crate) use key::Key;

use self::key::KeySource;
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
    dialect: Dialect,
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
            let reply = self.named(self.reply(request, cx, &mut tokens)).await;
            reply.map_err(|error| error.with_tokens(tokens))
        })
    }

    fn embed<'a>(&'a self, texts: &'a [String], _: &'a Context) -> BoxFuture<'a, Result<Embeddings, ModelError>> {
        Box::pin(async move { self.named(self.vectors(texts)).await })
    }

    fn allowance(&self) -> Option<Allowance> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Client {
    /// Makes a call, within the time that it may take.
    async fn named<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, ModelError> {
        let called = tokio::time::timeout(self.call_limit, call).await;
        let result = called.unwrap_or(Err(Failure::TimedOut { limit: self.call_limit }));
        result.map_err(|failure| ModelError::new(self.id.clone(), failure))
    }

    /// Asks for a reply; `tokens` is what was counted of it, also if it fails or is given up.
    async fn reply(&self, request: &Request, cx: &Context, tokens: &mut Option<Tokens>) -> Result<Reply, Failure> {
        let stream = request.stream && cx.listening();
        let dialect = self.dialect_for(request);
        let asked = Asked { request, model: &self.id.name, stream };
        let body = dialect.wire.encode(&asked, &dialect)?;
        let path = if stream { dialect.stream_path } else { dialect.path };
        let silence = request.options.timeout.unwrap_or(self.silence);
        let bounds = Bounds::of_reply(silence, self.max_reply_bytes, stream);
        let call = self.call(&dialect, path)?;

        let mut shown = Shown { cx: stream.then_some(cx), any: false };
        let mut fold = Fold::new(dialect.wire, self.max_reply_bytes, stream);
        let came = async {
            let (answer, left) = self.door.send(call.url, call.headers, &body, &bounds).await?;
            self.note(left);
            let mut take = |frame: &serde_json::Value| {
                let decoded = dialect.wire.decode(frame, &mut fold);
                *tokens = fold.tokens();
                decoded?;
                shown.all(fold.pieces());
                Ok(fold.heard())
            };
            Body::new(answer, bounds).frames(stream, &mut take).await
        };
        let came = came.await;
        let reply = came.and_then(|came| whole(came, fold, &mut shown, request));
        let mut reply = reply.map_err(|failure| {
            let failure = call.mask.failure(failure);
            if shown.any { once_shown(failure) } else { failure }
        })?;
        distinct_ids(&mut reply.message, &request.messages);
        Ok(call.mask.reply(reply))
    }

    async fn vectors(&self, texts: &[String]) -> Result<Embeddings, Failure> {
        if texts.is_empty() {
            return Ok(Embeddings::new(Vec::new(), None));
        }
        let dialect =
            if self.dialect == Dialect::OLLAMA && self.has_key() { Dialect::OLLAMA_OPENAI } else { self.dialect };
        let path = dialect.embed_path.ok_or_else(|| {
            let said = "embeddings of this provider".to_owned();
            Failure::Unsupported { said }
        })?;
        let bounds = Bounds::of_vectors(self.silence, texts.len());
        let call = self.call(&dialect, path)?;
        let body = dialect.wire.encode_texts(&self.id.name, texts);
        let vectors = async {
            let (answer, left) = self.door.send(call.url, call.headers, &body, &bounds).await?;
            self.note(left);
            let mut frames = Vec::new();
            let mut take = |frame: &serde_json::Value| {
                frames.push(frame.clone());
                Ok(Heard::More)
            };
            Body::new(answer, bounds).frames(false, &mut take).await?;
            // Some answer with a bare list.
            let body = if frames.len() == 1 { frames.remove(0) } else { frames.into() };
            dialect.wire.decode_vectors(&body, texts.len())
        };
        vectors.await.map_err(|failure| call.mask.failure(failure))
    }

    /// Returns the dialect for this request. Ollama's own interface knows neither schemas nor forced tools nor
    /// keys; its other one, that of OpenAI, does.
    fn dialect_for(&self, request: &Request) -> Dialect {
        let constrained = request.schema.is_some() || request.options.tool_choice != ToolChoice::Auto;
        if self.dialect == Dialect::OLLAMA && (constrained || self.has_key()) {
            Dialect::OLLAMA_OPENAI
        } else {
            self.dialect
        }
    }

    fn has_key(&self) -> bool {
        matches!(self.key, KeySource::Given(_))
    }

    /// Says where a call goes, with which headers, and what nobody may see of it.
    fn call(&self, dialect: &Dialect, path: &str) -> Result<Call, Failure> {
        let own = |name: &str| self.headers.iter().any(|(own, _)| own.as_str().eq_ignore_ascii_case(name));
        // Whoever gives the header of the key needs no other.
        let key = if own(dialect.key_header) { None } else { self.key.read()? };
        let mask = Mask::new(key.as_ref(), self.headers.iter().map(|(_, value)| value), &self.base);
        let mut headers = HeaderMap::new();
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
        Ok(Call { url: self.url(path)?, headers, mask })
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        let escape = |c: char| match c {
            '%' | '?' | '#' | ' ' => format!("%{:02X}", u32::from(c)),
            c => c.to_string(),
        };
        let path = path.replace("{model}", &self.id.name.chars().map(escape).collect::<String>());
        let mut url =
            self.base.join(&path).map_err(|error| unsendable(&format!("its URL cannot be extended: {error}")))?;
        if let Some(query) = self.base.query() {
            let query = url.query().map_or_else(|| query.to_owned(), |own| format!("{query}&{own}"));
            url.set_query(Some(&query));
        }
        Ok(url)
    }

    fn note(&self, left: Option<Allowance>) {
        if left.is_some() {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = left;
        }
    }
}

/// Makes a reply of what came, if it is all of it.
fn whole(came: Came, mut fold: Fold, shown: &mut Shown<'_>, request: &Request) -> Result<Reply, Failure> {
    if came == Came::Frames && !fold.has_end() {
        return Err(Failure::Broken { shown: false, said: "the stream ended in the middle".to_owned() });
    }
    fold.close()?;
    shown.all(fold.pieces());
    fold.finish(request.messages.last().is_some_and(|last| last.role == Role::Tool))
}

/// Where a call goes.
struct Call {
    url: Url,
    headers: HeaderMap,
    mask: Mask,
}

/// Shows pieces to whoever listens.
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
