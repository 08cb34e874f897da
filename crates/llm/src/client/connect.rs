//! From a name to a model: [`Model::named`], [`Model::from_env`], [`Model::connect`].

use std::{env, fmt, sync::Mutex, time::Duration};

use reqwest::{Url, header::HeaderName};

use super::{
    Client,
    key::{Key, KeySource},
    route::Route,
};
use crate::{
    model::Model,
    name::{self, Name, Service},
    wire::{dialect::Dialect, transport::Door},
};

/// The variable of the environment that names a model.
const VARIABLE: &str = "FLOWSTONE_MODEL";

/// The longest that a service may be silent: a model that thinks for long says nothing for minutes.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The longest that a call may take, however lively it is: longer than any model thinks.
const CALL_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The most bytes of a reply: some 250,000 tokens, more than any model makes in one.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// An error of setting up a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum SetupError {
    /// The variable is not set.
    #[error(
        "no model is named: set FLOWSTONE_MODEL, for example to `openai:gpt-5-mini` (with OPENAI_API_KEY), \
         `ollama:llama3.2`, or `http://127.0.0.1:8080/v1#NAME` for a server that speaks OpenAI's interface"
    )]
    Unset,
    /// A name without a colon.
    #[error("`{name}` does not say who serves it: write `openai:{name}`, `ollama:{name}` or `http://HOST/v1#{name}`")]
    NoProvider { name: String },
    /// A provider that nobody knows.
    #[error(
        "no provider is called `{provider}`: there are `{known}`, and any server by its URL, `http://HOST/v1#NAME`"
    )]
    UnknownProvider { provider: String, known: String },
    /// A provider or a URL without the name of a model.
    #[error("the name of the model is missing: write `{form}`")]
    NoName { form: String },
    /// A text that is no URL.
    #[error("the URL of the service is none: {reason}")]
    BadUrl { reason: String },
    /// A URL with a user or a password in it, which messages and logs would show.
    #[error("the URL of the service at {server} holds a user or a password: set FLOWSTONE_API_KEY instead")]
    KeyInUrl { server: String },
    /// A header that cannot be sent.
    #[error("the header `{name}` cannot be sent: its name or its value has letters that no header may have")]
    BadHeader { name: String },
}

impl Model {
    /// Makes a model of its name.
    ///
    /// | name | service | key |
    /// |---|---|---|
    /// | `openai:NAME`, `anthropic:NAME`, `gemini:NAME`, `groq:NAME` | that provider | `OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `GEMINI_API_KEY`, `GROQ_API_KEY` |
    /// | `cohere:`, `deepseek:`, `fireworks:`, `mistral:`, `moonshot:`, `nebius:`, `openrouter:`, `together:`, `xai:`, `zai:` | that provider | its variable, as `MISTRAL_API_KEY` |
    /// | `ollama:NAME` | Ollama on this machine | none |
    /// | `http://127.0.0.1:8080/v1#NAME` | a server that speaks OpenAI's interface | `FLOWSTONE_API_KEY`, if it is set |
    ///
    /// Nothing is sent, and no key is read, before the first call: one without the key that it takes fails with
    /// [`Failure::NoKey`](crate::Failure::NoKey).
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_llm::Model;
    ///
    /// let model = Model::named("http://127.0.0.1:8080/v1#smollm2")?;
    /// assert_eq!(model.id().to_string(), "127.0.0.1:8080:smollm2");
    /// assert!(Model::named("gpt-5").unwrap_err().to_string().contains("write `openai:gpt-5`"));
    /// # Ok::<(), flowstone_llm::SetupError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SetupError`], if the name cannot be understood.
    pub fn named(name: &str) -> Result<Self, SetupError> {
        Self::connect(name).build()
    }

    /// Makes the model that the variable `FLOWSTONE_MODEL` names.
    ///
    /// # Errors
    ///
    /// [`SetupError`], if it is not set, or the name cannot be understood.
    pub fn from_env() -> Result<Self, SetupError> {
        match env::var(VARIABLE) {
            Ok(name) if !name.trim().is_empty() => Self::named(&name),
            _ => Err(SetupError::Unset),
        }
    }

    /// Begins to make a model of its name, with more to say of it than [`named`](Self::named) takes.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    /// use flowstone_llm::Model;
    ///
    /// let model = Model::connect("openai:gpt-4o-mini")
    ///     .base_url("https://gateway.example/openai/v1")
    ///     .key("a key of the gateway")
    ///     .timeout(Duration::from_secs(30))
    ///     .build()?;
    /// assert_eq!(model.id().to_string(), "openai:gpt-4o-mini");
    /// # Ok::<(), flowstone_llm::SetupError>(())
    /// ```
    pub fn connect(name: &str) -> Connect {
        Connect {
            name: name.to_owned(),
            base: None,
            key: None,
            headers: Vec::new(),
            dialect: None,
            timeout: TIMEOUT,
            call_timeout: CALL_TIMEOUT,
            max_reply_bytes: MAX_REPLY_BYTES,
        }
    }
}

/// A model that is being set up; see [`Model::connect`].
#[must_use = "a model comes of it with `build`"]
pub struct Connect {
    name: String,
    base: Option<String>,
    key: Option<Key>,
    headers: Vec<(String, Key)>,
    dialect: Option<Dialect>,
    timeout: Duration,
    call_timeout: Duration,
    max_reply_bytes: usize,
}

impl Connect {
    /// Sets where the service is: a gateway in front of the provider, which is sent the provider's key.
    pub fn base_url(mut self, url: &str) -> Self {
        self.base = Some(url.to_owned());
        self
    }

    /// Sets the key, instead of the one in the environment.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(Key::new(key));
        self
    }

    /// Adds a header to each request: for a gateway, a beta, or a key in a header of another name. Its value is masked
    /// as a key is. A second one of the same name takes the place of the first, and one that holds the key that of the
    /// key.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_llm::{Model, SetupError};
    ///
    /// let model = Model::connect("anthropic:claude-sonnet-4-5").header("anthropic-beta", "context-1m-2025-08-07").build();
    /// assert!(model.is_ok());
    /// let error = Model::connect("openai:gpt-5").header("two words", "x").build().unwrap_err();
    /// assert!(matches!(error, SetupError::BadHeader { .. }));
    /// ```
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), Key::new(value)));
        self
    }

    /// Sets how the service speaks its wire, where that is not known by its name.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// Sets how long the service may be silent; any byte that comes, also one that says nothing, ends a silence. The
    /// default is 5 minutes; [`Options::timeout`](crate::Options::timeout) of a request comes before it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long a call may take as a whole, however lively the service is. The default is an hour.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Sets the most bytes of text, thoughts and arguments in a reply. The default is 1 MiB; a stream that goes on is
    /// ended there.
    pub fn max_reply_bytes(mut self, bytes: usize) -> Self {
        self.max_reply_bytes = bytes;
        self
    }

    /// Makes the model.
    ///
    /// # Errors
    ///
    /// [`SetupError`], if the name or the URL cannot be understood.
    pub fn build(self) -> Result<Model, SetupError> {
        let Name { id, service } = Name::parse(&self.name)?;
        let (dialect, own, key) = match service {
            Service::Known(known) => {
                let key = known.variable.map_or(KeySource::None, KeySource::Variable);
                (known.dialect_for(&id.name), name::base_url(known.base)?, key)
            }
            Service::Url(url) => (Dialect::SERVER, url, KeySource::Url),
        };
        let base: Url = self.base.map_or(Ok(own), |base| name::base_url(&base))?;
        let headers = self.headers.into_iter().map(|(name, value)| match HeaderName::from_bytes(name.as_bytes()) {
            Ok(parsed) if value.fits_header() => Ok((parsed, value)),
            _ => Err(SetupError::BadHeader { name }),
        });
        let dialect = self.dialect.unwrap_or(dialect);
        // Ollama's own interface knows neither schemas nor forced tools nor keys; its other one, that of OpenAI, does.
        let other = (dialect == Dialect::OLLAMA).then(|| Route::new(Dialect::OLLAMA_OPENAI, &base, &id.name));
        Ok(Model::new(Client {
            route: Route::new(dialect, &base, &id.name)?,
            constrained: other.transpose()?,
            id,
            door: Door::to(&base),
            base,
            key: self.key.map_or(key, KeySource::Given),
            headers: headers.collect::<Result<_, _>>()?,
            silence: self.timeout,
            call_limit: self.call_timeout,
            max_reply_bytes: self.max_reply_bytes,
            left: Mutex::default(),
        }))
    }
}

flowstone_core::__no_node!(Connect: total_timeout, retry, parallel =>
    "retries and timeouts belong to the node that asks the model: `Chat::new(model).retry(Retry::attempts(3))`"
);

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the name nor the URL is shown: somebody may have put a key there.
        f.debug_struct("Connect").field("key", &self.key).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
