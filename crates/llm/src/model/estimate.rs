//! A guess at tokens, where nobody has counted: four bytes of text are one.

use crate::{
    message::{Conversation, Image, Message, Part},
    request::{Reply, Request, Tokens},
};

/// The bytes of a token, by rule of thumb.
const BYTES_PER_TOKEN: u64 = 4;

/// The tokens that an image is taken for; providers count from some 80 to some 1,500.
const TOKENS_PER_IMAGE: u64 = 1_000;

impl Request {
    /// Guesses the tokens of the request.
    pub(crate) fn estimate(&self) -> Tokens {
        let tools = self.tools.iter().map(|tool| tool.description.len() + tool.parameters.to_string().len());
        let input = tokens(tools.sum()) + self.messages.iter().map(Message::estimated_tokens).sum::<u64>();
        Tokens { input, ..Tokens::default() }
    }
}

impl Tokens {
    /// Returns the tokens that were sent and made.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Guesses the tokens of texts.
    pub(crate) fn of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        Self { input: texts.map(|text| tokens(text.len())).sum(), ..Self::default() }
    }

    /// The guess for a request with that for its reply.
    pub(crate) fn with_output(mut self, reply: &Reply) -> Self {
        self.output = reply.message.estimated_tokens();
        self
    }
}

impl Conversation {
    /// Guesses how many tokens the conversation takes: a quarter of its bytes, and a thousand for each image.
    #[must_use]
    pub fn estimated_tokens(&self) -> u64 {
        self.messages.iter().map(Message::estimated_tokens).sum()
    }
}

impl Message {
    /// Guesses how many tokens the message takes; see [`Conversation::estimated_tokens`].
    #[must_use]
    pub fn estimated_tokens(&self) -> u64 {
        self.parts.iter().map(Part::estimated_tokens).sum()
    }
}

impl Part {
    fn estimated_tokens(&self) -> u64 {
        match self {
            Self::Text(text) | Self::Reasoning { text, .. } => tokens(text.len()),
            Self::Image(Image::Data { .. } | Image::Url(_)) => TOKENS_PER_IMAGE,
            Self::ToolCall(call) => tokens(call.name.len() + call.arguments.to_string().len()),
            Self::ToolResult(result) => tokens(result.text.len()),
            // Its tokens are the service's own business.
            Self::Extra(_) => 0,
        }
    }
}

fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN)
}
