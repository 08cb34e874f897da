//! The name of a model, in one string: who serves it, and what they call it.
//!
//! | name | service |
//! |---|---|
//! | `openai:gpt-5-mini` | a [provider](PROVIDERS) by its name |
//! | `http://127.0.0.1:8080/v1#NAME` | any server that speaks OpenAI's chat completions, by its base URL |

use genai::adapter::AdapterKind;
use reqwest::Url;

use crate::{client::SetupError, error::ModelId};

/// A name that was understood.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) id: ModelId,
    pub(crate) service: Service,
}

/// Who serves a model.
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
    pub(crate) kind: AdapterKind,
    /// The base URL, which ends with `/`.
    pub(crate) base: &'static str,
    /// The variable of the environment that holds the key, if it takes one.
    pub(crate) variable: Option<&'static str>,
}

const fn provider(name: &'static str, kind: AdapterKind, variable: &'static str, base: &'static str) -> Provider {
    Provider { name, kind, base, variable: Some(variable) }
}

/// The providers that a name may begin with.
#[rustfmt::skip]
pub(crate) static PROVIDERS: &[Provider] = &[
    provider("openai", AdapterKind::OpenAI, "OPENAI_API_KEY", "https://api.openai.com/v1/"),
    provider("anthropic", AdapterKind::Anthropic, "ANTHROPIC_API_KEY", "https://api.anthropic.com/v1/"),
    provider("gemini", AdapterKind::Gemini, "GEMINI_API_KEY", "https://generativelanguage.googleapis.com/v1beta/"),
    Provider { name: "ollama", kind: AdapterKind::Ollama, base: "http://localhost:11434/", variable: None },
    provider("groq", AdapterKind::Groq, "GROQ_API_KEY", "https://api.groq.com/openai/v1/"),
    provider("cohere", AdapterKind::Cohere, "COHERE_API_KEY", "https://api.cohere.com/v1/"),
    provider("deepseek", AdapterKind::DeepSeek, "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1/"),
    provider("fireworks", AdapterKind::Fireworks, "FIREWORKS_API_KEY", "https://api.fireworks.ai/inference/v1/"),
    provider("mistral", AdapterKind::Mistral, "MISTRAL_API_KEY", "https://api.mistral.ai/v1/"),
    provider("moonshot", AdapterKind::Moonshot, "MOONSHOT_API_KEY", "https://api.moonshot.ai/v1/"),
    provider("nebius", AdapterKind::Nebius, "NEBIUS_API_KEY", "https://api.studio.nebius.ai/v1/"),
    provider("openrouter", AdapterKind::OpenRouter, "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1/"),
    provider("together", AdapterKind::Together, "TOGETHER_API_KEY", "https://api.together.xyz/v1/"),
    provider("xai", AdapterKind::Xai, "XAI_API_KEY", "https://api.x.ai/v1/"),
    provider("zai", AdapterKind::Zai, "ZAI_API_KEY", "https://api.z.ai/api/paas/v4/"),
];

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
