//! The built-in client of models, on `genai`, which knows what each provider speaks.
//!
//! ```text
//! connect   a name, a key, a timeout → Client          http   one pool of connections for all of them
//! request   Request → what genai sends                 reply  what genai received → Reply
//! stream    events as they come → Delta, and a Reply   frames what genai passes over in them
//! failure, retry_after   errors → Failure
//! ```
//!
//! **Invariants:** no type of `genai` or `reqwest` leaves this folder. What they log is dropped, since it may hold what
//! a server echoes of a key.

mod connect;
mod failure;
mod frames;
mod http;
mod key;
mod reply;
mod request;
mod retry_after;
mod stream;

use std::time::Duration;

use flowstone_core::{BoxFuture, Context};
use genai::{
    ServiceTarget,
    adapter::AdapterKind,
    embed::{EmbedOptions, EmbedRequest},
};
use reqwest::Url;
use tracing::{Dispatch, instrument::WithSubscriber};

pub use connect::{Connect, SetupError};

use self::{failure::Faults, http::Door, key::KeySource};
use crate::{
    error::{Failure, ModelError, ModelId},
    message::Part,
    model::{ChatModel, Embeddings},
    request::{Reply, Request, ToolChoice},
};

/// A client of one model.
#[derive(Debug)]
pub(crate) struct Client {
    id: ModelId,
    /// What the service speaks.
    kind: AdapterKind,
    base: Url,
    key: KeySource,
    timeout: Duration,
    max_reply_bytes: usize,
    door: Door,
}

/// What is asked of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Chat,
    Embeddings,
}

impl ChatModel for Client {
    fn id(&self) -> &ModelId {
        &self.id
    }

    fn chat<'a>(&'a self, request: &'a Request, cx: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>> {
        Box::pin(async move {
            let result = if request.stream && cx.listening() {
                self.stream(request, cx).await
            } else {
                self.whole(request).await
            };
            result.map_err(|failure| ModelError::new(self.id.clone(), failure))
        })
    }

    fn embed<'a>(&'a self, texts: &'a [String], _: &'a Context) -> BoxFuture<'a, Result<Embeddings, ModelError>> {
        Box::pin(async move { self.vectors(texts).await.map_err(|failure| ModelError::new(self.id.clone(), failure)) })
    }
}

impl Client {
    /// Makes a call whose reply comes in whole.
    async fn whole(&self, request: &Request) -> Result<Reply, Failure> {
        let limit = request.options.timeout.unwrap_or(self.timeout);
        let kind = self.kind_for(request);
        let key = self.key.read()?;
        let target = self.target(kind, Service::Chat, key.as_ref())?;
        let asked = request::chat(request, kind)?;
        let options = request::options(request, kind, &self.id.name)?;
        let faults = Faults { key: key.as_ref(), base: &self.base, limit, kind };

        let client = self.door.client()?;
        let call = client.exec_chat(target, asked, Some(&options)).with_subscriber(Dispatch::none());
        let received = tokio::time::timeout(limit, call).await.map_err(|_| Failure::TimedOut { limit })?;
        let reply = match received {
            Ok(response) => reply::of(response, &faults)?,
            Err(error) => reply::recovered(&error, &faults).map_or_else(|| Err(faults.of(error)), Ok)?,
        };
        if size(&reply) > self.max_reply_bytes {
            return Err(Failure::TooLong { limit: self.max_reply_bytes });
        }
        Ok(reply)
    }

    async fn vectors(&self, texts: &[String]) -> Result<Embeddings, Failure> {
        if texts.is_empty() {
            return Ok(Embeddings::new(Vec::new(), None));
        }
        let limit = self.timeout;
        // OpenAI's newer interface makes no embeddings; the older one of the same provider does.
        let kind = match self.kind {
            AdapterKind::OpenAIResp => AdapterKind::OpenAI,
            AdapterKind::Ollama if self.has_key() => AdapterKind::OpenAI,
            kind => kind,
        };
        let key = self.key.read()?;
        let target = self.target(kind, Service::Embeddings, key.as_ref())?;
        let faults = Faults { key: key.as_ref(), base: &self.base, limit, kind };

        let (asked, options) = (EmbedRequest::new_batch(texts.to_vec()), EmbedOptions::new().with_capture_usage(true));
        let client = self.door.client()?;
        let call = client.exec_embed(target, asked, Some(&options)).with_subscriber(Dispatch::none());
        let received = tokio::time::timeout(limit, call).await.map_err(|_| Failure::TimedOut { limit })?;
        reply::vectors(received.map_err(|error| faults.of(error))?, texts.len())
    }

    /// What is spoken for this request. Ollama's own interface knows neither schemas, forced tools nor keys, as genai
    /// speaks it; Ollama's other interface, that of OpenAI, does.
    fn kind_for(&self, request: &Request) -> AdapterKind {
        let constrained = request.schema.is_some() || !matches!(request.options.tool_choice, ToolChoice::Auto);
        if self.kind == AdapterKind::Ollama && (constrained || self.has_key()) {
            AdapterKind::OpenAI
        } else {
            self.kind
        }
    }

    fn has_key(&self) -> bool {
        matches!(self.key, KeySource::Given(_))
    }

    fn target(&self, kind: AdapterKind, service: Service, key: Option<&key::Key>) -> Result<ServiceTarget, Failure> {
        http::target(&http::Place { own: self.kind, kind, base: &self.base, name: &self.id.name }, service, key)
    }
}

/// Returns whether a service speaks OpenAI's chat completions: all do that have nothing of their own.
fn speaks_openai(kind: AdapterKind) -> bool {
    use AdapterKind::{Anthropic, Cohere, Gemini, GeminiIx, Ollama, OpenAIResp};
    !matches!(kind, Anthropic | Cohere | Gemini | GeminiIx | Ollama | OpenAIResp)
}

/// The bytes of a reply: of its text, its thoughts and the arguments of its calls.
fn size(reply: &Reply) -> usize {
    let bytes = |part: &Part| match part {
        Part::Text(text) | Part::Reasoning { text, .. } => text.len(),
        Part::ToolCall(call) => call.arguments.to_string().len(),
        Part::Image(_) | Part::ToolResult(_) => 0,
    };
    reply.message.parts.iter().map(bytes).sum()
}
