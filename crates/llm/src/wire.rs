//! The interfaces of services: a request as their JSON, and their JSON as a reply. See
//! `docs/decisions/0028-our-own-wires.md`.
//!
//! ```text
//! Request ─▶ encode ─▶ transport ─▶ bytes ─▶ frames ─▶ decode ─▶ Fold ─▶ Reply
//!                                            whole: one frame │ SSE, lines: many
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `openai`, `responses`, `anthropic`, `gemini`, `ollama` | a wire each: `encode` and `decode` |
//! | `vectors` | embeddings, of all wires |
//! | `dialect` | what differs between services of one wire, as plain data: [`Dialect`] |
//! | `turns` | messages as services take them: without blank texts, joined where templates are strict |
//! | `fold`, `thoughts` | what has come so far, of a reply that is whole or streamed; thoughts in front of a text |
//! | `transport`, `frames` | sending, and frames out of bytes, with bounds on bytes and silence |
//! | `failure`, `wait`, `mask` | what a service says when it fails, how long to wait, and what nobody may see of it |
//!
//! # Invariants
//!
//! - A whole reply is one frame: `decode` does not know whether more will come.
//! - Unknown is never success: a reason to end, a refused request, a frame without anything that is known.
//! - What a service wants back is kept as it came, and goes to the same wire only.

use std::fmt;

use serde_json::Value;

use crate::{
    error::Failure,
    model::Embeddings,
    request::{Request, Tokens},
};

mod anthropic;
pub(crate) mod dialect;
pub(crate) mod failure;
mod fold;
pub(crate) mod frames;
mod gemini;
mod json;
pub(crate) mod mask;
mod ollama;
mod openai;
mod responses;
mod thoughts;
pub(crate) mod transport;
mod turns;
mod vectors;
mod wait;

pub(crate) use fold::{Fold, Piece};
pub(crate) use wait::Allowance;

use dialect::Dialect;

/// An interface that services speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wire {
    /// OpenAI's chat completions, which most services speak.
    OpenAi,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's `generateContent`.
    Gemini,
    /// Ollama's own chat, a line of JSON for each piece.
    Ollama,
}

impl Wire {
    /// Returns its name, as stored [`Extra`](crate::Extra)s have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Responses => "responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// Makes the body of a request.
    pub(crate) fn encode(self, asked: &Asked<'_>, dialect: &Dialect) -> Result<Vec<u8>, Failure> {
        if asked.request.messages.iter().all(crate::message::Message::says_nothing) {
            return Err(unsupported("a request without a message that says something"));
        }
        match self {
            Self::OpenAi => openai::encode(asked, dialect),
            Self::Responses => bytes(&responses::encode(asked, dialect)?),
            Self::Anthropic => bytes(&anthropic::encode(asked, dialect)?),
            Self::Gemini => bytes(&gemini::encode(asked, dialect)?),
            Self::Ollama => bytes(&ollama::encode(asked, dialect)?),
        }
    }

    /// Takes a frame into the reply so far.
    pub(crate) fn decode(self, frame: &Value, fold: &mut Fold) -> Result<(), Failure> {
        match self {
            Self::OpenAi => openai::decode(frame, fold),
            Self::Responses => responses::decode(frame, fold),
            Self::Anthropic => anthropic::decode(frame, fold),
            Self::Gemini => gemini::decode(frame, fold),
            Self::Ollama => ollama::decode(frame, fold),
        }
    }

    /// Makes the body of a request for vectors.
    pub(crate) fn encode_texts(self, model: &str, texts: &[String]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Gemini => bytes(&gemini::encode_texts(model, texts)),
            _ => bytes(&vectors::encode(model, texts)),
        }
    }

    /// Reads the vectors of so many texts, in the order of the texts.
    pub(crate) fn decode_vectors(self, body: &Value, texts: usize) -> Result<Embeddings, Failure> {
        if let Some(failure) = failure::in_frame(body) {
            return Err(failure);
        }
        let (vectors, tokens) = vectors::read(body);
        let whole = vectors.len() == texts && vectors.iter().all(|vector| !vector.is_empty());
        if whole {
            return Ok(Embeddings::new(vectors, tokens));
        }
        Err(failure::in_words(body)
            .unwrap_or_else(|| Failure::Malformed { said: format!("{} vectors for {texts} texts", vectors.len()) }))
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request, with the facts that it does not hold itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a Request,
    /// The name of the model, as the service knows it.
    pub(crate) model: &'a str,
    pub(crate) stream: bool,
}

/// The counts so far: of each number the largest, since services repeat them, or send them in parts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) cached: Option<u64>,
    pub(crate) reasoning: Option<u64>,
}

impl Counted {
    fn add(&mut self, more: Self) {
        self.input = self.input.max(more.input);
        self.output = self.output.max(more.output);
        self.cached = self.cached.max(more.cached);
        self.reasoning = self.reasoning.max(more.reasoning);
    }

    fn tokens(self) -> Option<Tokens> {
        (self.input.is_some() || self.output.is_some()).then(|| Tokens {
            input: self.input.unwrap_or(0),
            output: self.output.unwrap_or(0),
            cached_input: self.cached.unwrap_or(0),
            reasoning: self.reasoning.unwrap_or(0),
        })
    }
}

/// Writes a body.
fn bytes(body: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(|error| unsupported(&format!("a request that is no JSON: {error}")))
}

fn unsupported(said: &str) -> Failure {
    Failure::Unsupported { said: said.to_owned() }
}
