//! The name of a model, in one string: who serves it, and what they call it.
//!
//! | name | service |
//! |---|---|
//! | `openai:gpt-5-mini` | a [provider](PROVIDERS) by its name |
//! | `http://127.0.0.1:8080/v1#NAME` | any server that speaks OpenAI's chat completions, by its base URL |

use reqwest::Url;

use crate::{client::SetupError, error::ModelId, wire::dialect::Dialect};

/// A name that was understood.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) id: ModelId,
    pub(crate) service: Service,
}

/// A service of models.
#[derive(Debug, Clone)]
pub(crate) enum Service {
    /// A provider that is known by its name.
    Known(&'static Provider),
    /// A server that speaks OpenAI's chat completions, by its base URL, whose path ends with `/`.
    Url(Url),
}

/// A provider that is known by its name.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: &'static str,
    dialect: Dialect,
    /// The base URL, which ends with `/`.
    pub(crate) base: &'static str,
    /// The variable of the environment that holds the key, if it takes one.
    pub(crate) variable: Option<&'static str>,
}

const fn provider(name: &'static str, dialect: Dialect, variable: &'static str, base: &'static str) -> Provider {
    Provider { name, dialect, base, variable: Some(variable) }
}

/// The providers that a name may begin with.
#[rustfmt::skip]
pub(crate) static PROVIDERS: &[Provider] = &[
    provider("openai", Dialect::OPENAI, "OPENAI_API_KEY", "https://api.openai.com/v1/"),
    provider("anthropic", Dialect::ANTHROPIC, "ANTHROPIC_API_KEY", "https://api.anthropic.com/v1/"),
    provider("gemini", Dialect::GEMINI, "GEMINI_API_KEY", "https://generativelanguage.googleapis.com/v1beta/"),
    Provider { name: "ollama", dialect: Dialect::OLLAMA, base: "http://localhost:11434/", variable: None },
    provider("groq", Dialect::GROQ, "GROQ_API_KEY", "https://api.groq.com/openai/v1/"),
    provider("cohere", Dialect::COHERE, "COHERE_API_KEY", "https://api.cohere.ai/compatibility/v1/"),
    provider("deepseek", Dialect::DEEPSEEK, "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1/"),
    provider("fireworks", Dialect::FIREWORKS, "FIREWORKS_API_KEY", "https://api.fireworks.ai/inference/v1/"),
    provider("mistral", Dialect::MISTRAL, "MISTRAL_API_KEY", "https://api.mistral.ai/v1/"),
    provider("moonshot", Dialect::MOONSHOT, "MOONSHOT_API_KEY", "https://api.moonshot.ai/v1/"),
    provider("nebius", Dialect::NEBIUS, "NEBIUS_API_KEY", "https://api.studio.nebius.ai/v1/"),
    provider("openrouter", Dialect::OPENROUTER, "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1/"),
    provider("together", Dialect::TOGETHER, "TOGETHER_API_KEY", "https://api.together.xyz/v1/"),
    provider("xai", Dialect::XAI, "XAI_API_KEY", "https://api.x.ai/v1/"),
    provider("zai", Dialect::ZAI, "ZAI_API_KEY", "https://api.z.ai/api/paas/v4/"),
];

impl Provider {
    /// Returns the name by which the provider knows a model.
    pub(crate) fn dialect_for(&self, model: &str) -> Dialect {
        if self.name == "openai" { Dialect::of_openai(model) } else { self.dialect }
    }
}

impl Name {
    pub(crate) fn parse(text: &str) -> Result<Self, SetupError> {
        let text = text.trim();
        if ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Self::of_url(text);
        }
        let Some((provider, name)) = text.split_once(':') else {
            return Err(SetupError::NoProvider { name: text.to_owned() });
        };
        let Some(known) = PROVIDERS.iter().find(|known| known.name == provider) else {
            let known = PROVIDERS.iter().map(|known| known.name).collect::<Vec<_>>().join("`, `");
            return Err(SetupError::UnknownProvider { provider: provider.to_owned(), known });
        };
        if name.trim().is_empty() {
            return Err(SetupError::NoName { form: format!("{provider}:NAME") });
        }
        Ok(Self { id: ModelId::new(provider, name.trim()), service: Service::Known(known) })
    }

    fn of_url(text: &str) -> Result<Self, SetupError> {
        let (base, name) = text.split_once('#').unwrap_or((text, ""));
        let base = base_url(base)?;
        let server = server(&base);
        if name.trim().is_empty() {
            let form = format!("{}://{server}{}#NAME", base.scheme(), base.path().trim_end_matches('/'));
            return Err(SetupError::NoName { form });
        }
        Ok(Self { id: ModelId::new(server, name.trim()), service: Service::Url(base) })
    }
}

/// Reads the base URL of a service, and lets its path end with `/`, so that paths can be joined to it.
pub(crate) fn base_url(text: &str) -> Result<Url, SetupError> {
    let mut url = Url::parse(text).map_err(|error| SetupError::BadUrl { reason: error.to_string() })?;
    // No message shows a URL as it was given, since this is where people put keys.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SetupError::KeyInUrl { server: server(&url) });
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(SetupError::BadUrl { reason: "it does not begin with `http://HOST` or `https://HOST`".to_owned() });
    }
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// The host of a URL, and its port if it is named.
pub(crate) fn server(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
