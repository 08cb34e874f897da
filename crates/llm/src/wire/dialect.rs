//! Differences between services that speak the same wire: [`Dialect`], with those that are known in one table.

use super::Wire;

/// The way in which a service speaks its [`Wire`]: plain data, given to [`Connect::dialect`](crate::Connect::dialect)
/// for a service that is not known by its name.
///
/// # Example
///
/// ```
/// use flowstone_llm::{Dialect, Model};
///
/// let dialect = Dialect { key_header: "api-key", key_prefix: "", ..Dialect::OPENAI };
/// let model = Model::connect("http://127.0.0.1:8080/v1#tiny").dialect(dialect).key("a key").build()?;
/// assert_eq!(model.id().to_string(), "127.0.0.1:8080:tiny");
/// # Ok::<(), flowstone_llm::SetupError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// The interface that it speaks.
    pub wire: Wire,
    /// Where a whole reply is asked for, under the base URL; `{model}` stands for the model.
    pub path: &'static str,
    /// Where a stream is asked for.
    pub stream_path: &'static str,
    /// Where vectors are asked for; `None` if the service makes none.
    pub embed_path: Option<&'static str>,
    /// The header that holds the key.
    pub key_header: &'static str,
    /// The text before the key there.
    pub key_prefix: &'static str,
    /// The way in which thoughts without a signature go back.
    pub thoughts: Thoughts,
    /// The form in which a schema for the reply is sent.
    pub schemas: Schemas,
    /// `true` if all instructions go into one message at the beginning, since the service, or the template of its
    /// model, refuses another.
    pub one_system: bool,
    /// `true` if messages of the same role that follow each other are joined, for the same reason.
    pub joined: bool,
    /// Which ids of calls it takes.
    pub call_ids: CallIds,
    /// The field for the most tokens to make.
    pub max_tokens: &'static str,
    /// The field for the seed; `None` if it takes none.
    pub seed: Option<&'static str>,
    /// `true` if it wants to be told that it is to think, beside how much.
    pub thinking_switch: bool,
}

/// The way in which thoughts without a signature go back to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Thoughts {
    /// Not at all.
    Dropped,
    /// In this field of the message.
    Field(&'static str),
    /// As a `thinking` chunk in front of the text.
    Chunk,
}

/// The form in which a schema for the reply is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schemas {
    /// In its strict form: all properties required, and none but them.
    Strict,
    /// As it is.
    Plain,
    /// Not at all; the service is asked for some JSON object.
    AnyObject,
}

/// Which ids of calls a service takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallIds {
    /// Any.
    Any,
    /// Letters, digits, `_` and `-`.
    Word,
    /// Exactly nine letters and digits.
    Nine,
}

impl Dialect {
    /// OpenAI's own chat completions.
    pub const OPENAI: Self = Self {
        wire: Wire::OpenAi,
        path: "chat/completions",
        stream_path: "chat/completions",
        embed_path: Some("embeddings"),
        key_header: "authorization",
        key_prefix: "Bearer ",
        thoughts: Thoughts::Dropped,
        schemas: Schemas::Strict,
        one_system: false,
        joined: false,
        call_ids: CallIds::Any,
        max_tokens: "max_tokens",
        seed: Some("seed"),
        thinking_switch: false,
    };

    /// Chat completions of any other server: vLLM, llama.cpp, LM Studio, a gateway. It holds the model to its template,
    /// which may be strict.
    pub const SERVER: Self =
        Self { one_system: true, joined: true, thoughts: Thoughts::Field("reasoning_content"), ..Self::OPENAI };

    /// OpenAI's Responses.
    pub const RESPONSES: Self =
        Self { wire: Wire::Responses, path: "responses", stream_path: "responses", ..Self::OPENAI };

    /// Anthropic's Messages.
    pub const ANTHROPIC: Self = Self {
        wire: Wire::Anthropic,
        path: "messages",
        stream_path: "messages",
        embed_path: None,
        key_header: "x-api-key",
        key_prefix: "",
        one_system: true,
        joined: true,
        call_ids: CallIds::Word,
        seed: None,
        ..Self::OPENAI
    };

    /// Google's `generateContent`.
    pub const GEMINI: Self = Self {
        wire: Wire::Gemini,
        path: "models/{model}:generateContent",
        stream_path: "models/{model}:streamGenerateContent?alt=sse",
        embed_path: Some("models/{model}:batchEmbedContents"),
        key_header: "x-goog-api-key",
        key_prefix: "",
        schemas: Schemas::Plain,
        one_system: true,
        joined: true,
        ..Self::OPENAI
    };

    /// Ollama's own interface.
    pub const OLLAMA: Self = Self {
        wire: Wire::Ollama,
        path: "api/chat",
        stream_path: "api/chat",
        embed_path: Some("api/embed"),
        one_system: true,
        joined: true,
        ..Self::OPENAI
    };

    /// Ollama's other interface, which knows keys, schemas and forced tools.
    pub(crate) const OLLAMA_OPENAI: Self = Self {
        path: "v1/chat/completions",
        stream_path: "v1/chat/completions",
        embed_path: Some("v1/embeddings"),
        thoughts: Thoughts::Dropped,
        ..Self::SERVER
    };

    const NO_VECTORS: Self = Self { embed_path: None, ..Self::OPENAI };

    pub(crate) const GROQ: Self = Self::NO_VECTORS;
    pub(crate) const XAI: Self = Self::NO_VECTORS;
    pub(crate) const COHERE: Self = Self::OPENAI;
    pub(crate) const FIREWORKS: Self = Self { thoughts: Thoughts::Field("reasoning_content"), ..Self::OPENAI };
    pub(crate) const MOONSHOT: Self = Self { embed_path: None, ..Self::FIREWORKS };
    pub(crate) const NEBIUS: Self = Self::FIREWORKS;
    pub(crate) const OPENROUTER: Self = Self::FIREWORKS;
    pub(crate) const TOGETHER: Self = Self { joined: true, one_system: true, ..Self::FIREWORKS };
    pub(crate) const DEEPSEEK: Self = Self { schemas: Schemas::AnyObject, thinking_switch: true, ..Self::MOONSHOT };
    pub(crate) const ZAI: Self = Self { schemas: Schemas::AnyObject, ..Self::FIREWORKS };
    pub(crate) const MISTRAL: Self = Self {
        thoughts: Thoughts::Chunk,
        call_ids: CallIds::Nine,
        seed: Some("random_seed"),
        joined: true,
        one_system: true,
        ..Self::OPENAI
    };

    /// Returns the dialect that OpenAI speaks for a model: its newer interface serves some of them only, or better.
    pub(crate) fn of_openai(model: &str) -> Self {
        let Some(version) = model.strip_prefix("gpt-").filter(|version| !version.starts_with("oss")) else {
            let thinks = ["o1", "o3", "o4"].iter().any(|family| model.starts_with(family));
            let max_tokens = if thinks { "max_completion_tokens" } else { Self::OPENAI.max_tokens };
            return Self { max_tokens, ..Self::OPENAI };
        };
        let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
        let newer = version[..digits].parse::<u32>().is_ok_and(|version| version >= 5);
        let variant = version.split('-').skip(1).any(|part| part.contains("codex") || part.contains("pro"));
        if newer || variant { Self::RESPONSES } else { Self::OPENAI }
    }

    /// An id of a call as the service takes it: the same for a call and its result.
    pub(super) fn call_id(&self, id: &str) -> String {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match self.call_ids {
            CallIds::Nine if !(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())) => nine(id),
            CallIds::Word if !id.chars().all(word) => {
                // Different ids stay different.
                let kept: String = id.chars().map(|c| if word(c) { c } else { '_' }).collect();
                format!("{kept}-{}", nine(id))
            }
            CallIds::Any | CallIds::Word | CallIds::Nine => id.to_owned(),
        }
    }
}

/// Nine letters and digits of a text: its FNV-1a hash, so that they are the same in every process.
fn nine(text: &str) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    let mut digit = || {
        let digit = DIGITS[(hash % 36) as usize];
        hash /= 36;
        char::from(digit)
    };
    (0..9).map(|_| digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_as_a_service_takes_them_and_stay_different() {
        let strict = Dialect::MISTRAL;

        let ids = ["call_1", "call_2", "aB3dE6gH9"].map(|id| strict.call_id(id));

        assert!(ids.iter().all(|id| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{ids:?}");
        assert!(ids[0] != ids[1] && ids[2] == "aB3dE6gH9");
        assert_ne!(Dialect::ANTHROPIC.call_id("a:b"), Dialect::ANTHROPIC.call_id("a.b"));
        assert_eq!(Dialect::ANTHROPIC.call_id("toolu_1"), "toolu_1");
    }

    #[test]
    fn openai_serves_newer_models_by_its_newer_interface() {
        for (model, wire) in [
            ("gpt-4o-mini", Wire::OpenAi),
            ("gpt-5-mini", Wire::Responses),
            ("gpt-5.2", Wire::Responses),
            ("gpt-4o-codex", Wire::Responses),
            ("gpt-oss-20b", Wire::OpenAi),
            ("text-embedding-3-small", Wire::OpenAi),
        ] {
            assert_eq!(Dialect::of_openai(model).wire, wire, "{model}");
        }
    }
}
