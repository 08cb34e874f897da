//! Connections: one pool for all models of a runtime, and where each call goes.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use genai::{
    Headers, ModelIden, ServiceTarget,
    adapter::AdapterKind,
    resolver::{AuthData, Endpoint},
};
use reqwest::{Url, redirect};
use tokio::runtime;

use super::{Service, key::Key};
use crate::error::Failure;

/// How long a connection may take to come about.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many connections to one service are kept while nobody uses them: as many as a busy process calls at once, so that
/// its next wave of calls need not connect again.
const IDLE_CONNECTIONS: usize = 1_000;

/// How many runtimes' connections are kept: programs have one or two, tests one each.
const RUNTIMES: usize = 16;

/// The way out of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// To anywhere, through the proxy that the environment names, if it does.
    World,
    /// To this machine, which no proxy reaches.
    Loopback,
}

/// The connections of all models, one pool for each runtime: a connection is driven by the runtime that made it, and is
/// dead, or worse, silent, while that one does not run.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

struct Open {
    runtime: runtime::Id,
    door: Door,
    client: genai::Client,
}

impl Door {
    /// Chooses the way to a service.
    pub(super) fn to(base: &Url) -> Self {
        let host = base.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        if host == "localhost" || address.is_ok_and(|ip| ip.is_loopback()) { Self::Loopback } else { Self::World }
    }

    /// Returns the client of the runtime that this is called in.
    pub(super) fn client(self) -> Result<genai::Client, Failure> {
        let runtime = runtime::Handle::try_current().map_err(|error| impossible(&error.to_string()))?.id();
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.iter().find(|one| one.runtime == runtime && one.door == self) {
            return Ok(known.client.clone());
        }
        let client = client(self).map_err(|reason| impossible(&reason))?;
        if open.len() == RUNTIMES {
            open.remove(0);
        }
        open.push(Open { runtime, door: self, client: client.clone() });
        Ok(client)
    }
}

fn impossible(reason: &str) -> Failure {
    Failure::Unsupported { said: format!("there is no client for HTTP: {reason}") }
}

fn client(door: Door) -> Result<genai::Client, String> {
    // Fails if the program has chosen a provider of cryptography already, which is then used.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder()
        .user_agent(concat!("flowstone/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        // A redirect would carry the key, which is in a header of the provider's own, to another host.
        .redirect(redirect::Policy::none())
        // A few kilobytes could become gigabytes. Text as short as a reply gains nothing by it.
        .no_gzip()
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_keep_alive_while_idle(true)
        .http2_adaptive_window(true);
    let builder = if matches!(door, Door::Loopback) { builder.no_proxy() } else { builder };
    let http = builder.build().map_err(|error| super::failure::causes(&error))?;
    genai::Client::builder().with_reqwest(http).build().map_err(|error| error.to_string())
}

/// Where a model is found.
pub(super) struct Place<'a> {
    /// What the service speaks by itself.
    pub(super) own: AdapterKind,
    /// What is spoken in this call.
    pub(super) kind: AdapterKind,
    pub(super) base: &'a Url,
    pub(super) name: &'a str,
}

/// Says where a call goes, and with which key.
pub(super) fn target(place: &Place<'_>, service: Service, key: Option<&Key>) -> Result<ServiceTarget, Failure> {
    let model = ModelIden::new(place.kind, place.name);
    if place.own == AdapterKind::Ollama && place.kind != place.own {
        let base = place.base.join("v1/").map_err(|error| no_url(&error))?;
        return overridden(&base, model, service, key);
    }
    let auth = match key {
        Some(key) => AuthData::from_single(key.expose()),
        // genai's client of OpenAI's interface insists on a key, which a local server does not take.
        None if place.kind == AdapterKind::OpenAI => return overridden(place.base, model, service, key),
        None => AuthData::None,
    };
    Ok(ServiceTarget { endpoint: Endpoint::from_owned(place.base.as_str()), auth, model })
}

/// A call of OpenAI's interface whose URL and headers are given, so that it goes without a key if there is none.
fn overridden(base: &Url, model: ModelIden, service: Service, key: Option<&Key>) -> Result<ServiceTarget, Failure> {
    let path = match service {
        Service::Chat => "chat/completions",
        Service::Embeddings => "embeddings",
    };
    let mut url = base.join(path).map_err(|error| no_url(&error))?;
    url.set_query(base.query());
    let headers = match key {
        Some(key) => Headers::from(("Authorization".to_owned(), format!("Bearer {}", key.expose()))),
        None => Headers::default(),
    };
    let auth = AuthData::RequestOverride { url: url.to_string(), headers };
    Ok(ServiceTarget { endpoint: Endpoint::from_owned(base.as_str()), auth, model })
}

fn no_url(error: &dyn std::error::Error) -> Failure {
    Failure::Unsupported { said: format!("its URL cannot be extended: {error}") }
}
