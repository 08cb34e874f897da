//! A connection to a server, which is made anew by the next call after the server has ended.
//!
//! **Invariant:** a call is sent once. One that was under way when the server ended may have been done, so that it fails;
//! it is the model that decides whether to make it again.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rmcp::{
    ClientHandler, RoleClient, ServiceError,
    model::{ClientCapabilities, ClientConfig, ErrorCode, ErrorData, Implementation, ProtocolVersion},
    service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt, RunningService},
};
use tokio::sync::Mutex;

use super::{
    Mcp, McpError, McpFailure,
    connect::Place,
    http::{self, cut},
    process::{self, Tail},
};

/// How much of its own name a server is called by.
const LONGEST_NAME: usize = 64;

/// A server, and the connection to it.
pub(super) struct Link {
    mcp: Mcp,
    name: String,
    /// Held while a connection is made, so that several calls that find none wait for the same one.
    live: Mutex<Option<Arc<Live>>>,
}

/// A connection. When the last call that uses it is over, and nobody else holds it, the server ends.
pub(super) struct Live {
    pub(super) service: RunningService<RoleClient, Client>,
    stderr: Option<Tail>,
    broken: AtomicBool,
}

/// What this side says of itself, and what a server may ask it: nothing.
pub(super) struct Client;

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("flowstone", env!("CARGO_PKG_VERSION")))
    }
}

impl Link {
    pub(super) async fn connect(mcp: Mcp) -> Result<Self, McpError> {
        let provisional = mcp.provisional_name();
        let live = mcp.open(&provisional).await?;
        let named = || {
            let info = live.service.peer_info()?;
            let mut name = info.server_info.as_ref()?.name.clone();
            name = mcp.without_secrets(name);
            name.truncate(name.floor_char_boundary(LONGEST_NAME));
            Some(name).filter(|name| !name.is_empty())
        };
        let name = mcp.name.clone().or_else(named).unwrap_or(provisional);
        Ok(Self { mcp, name, live: Mutex::new(Some(Arc::new(live))) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn mcp(&self) -> &Mcp {
        &self.mcp
    }

    /// Asks the server for something, connecting first if the connection has ended.
    pub(super) async fn ask<T, F>(&self, doing: &str, question: impl FnOnce(Arc<Live>) -> F) -> Result<T, McpError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let live = self.live().await?;
        match question(Arc::clone(&live)).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let failure = live.explain(error).await;
                Err(self.error(doing, failure))
            }
        }
    }

    /// As [`ask`](Self::ask), for what has no time limit from elsewhere.
    pub(super) async fn ask_in_time<T, F>(
        &self,
        doing: &str,
        question: impl FnOnce(Arc<Live>) -> F,
    ) -> Result<T, McpError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let limit = self.mcp.timeout;
        match tokio::time::timeout(limit, self.ask(doing, question)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.error(doing, McpFailure::TimedOut { limit, last_words: String::new() })),
        }
    }

    /// Makes an error of the server's, without what nobody may see.
    pub(super) fn error(&self, doing: &str, failure: McpFailure) -> McpError {
        // The name of a tool is the server's, too.
        McpError::new(&self.name, cut(self.mcp.without_secrets(doing.to_owned())), self.mcp.clean(failure))
    }

    /// Ends the connection, and waits until the server has ended, if nobody else uses it.
    pub(super) async fn close(&self) {
        let live = self.live.lock().await.take();
        if let Some(live) = live.and_then(Arc::into_inner) {
            // How it ended makes no difference any more.
            let _ = live.service.cancel().await;
        }
    }

    async fn live(&self) -> Result<Arc<Live>, McpError> {
        let mut place = self.live.lock().await;
        if let Some(live) = place.as_ref().filter(|live| !live.is_over()) {
            return Ok(Arc::clone(live));
        }
        *place = None;
        let live = Arc::new(self.mcp.open(&self.name).await?);
        *place = Some(Arc::clone(&live));
        Ok(live)
    }
}

impl Live {
    fn is_over(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.service.is_closed() || self.service.is_transport_closed()
    }

    async fn explain(&self, error: ServiceError) -> McpFailure {
        let failure = match error {
            ServiceError::McpError(error) if !self.service.is_transport_closed() => return refused(error),
            // A program has no transport that could fail but for its own end.
            ServiceError::TransportSend(error) if self.stderr.is_none() => http::failure(&error),
            ServiceError::TransportSend(_) | ServiceError::TransportClosed | ServiceError::McpError(_) => {
                McpFailure::Ended { last_words: last_words(self.stderr.as_ref()).await }
            }
            ServiceError::Timeout { timeout: limit } => {
                return McpFailure::TimedOut { limit, last_words: String::new() };
            }
            ServiceError::UnexpectedResponse => {
                return McpFailure::Protocol { said: "the answer is none to what it was asked".to_owned() };
            }
            other => return McpFailure::Protocol { said: cut(other.to_string()) },
        };
        self.broken.store(true, Ordering::Relaxed);
        failure
    }
}

impl Mcp {
    /// Opens a connection.
    async fn open(&self, name: &str) -> Result<Live, McpError> {
        let mut opened = self.open_by(ClientLifecycleMode::Initialize).await;
        // Every server so far begins by a handshake, but for those that know the protocol of 2026 only, which has none.
        if let Err(McpFailure::Refused { code, .. }) = &opened
            && [ErrorCode::METHOD_NOT_FOUND.0, ErrorCode::UNSUPPORTED_PROTOCOL_VERSION.0].contains(code)
        {
            let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
            opened = self.open_by(ClientLifecycleMode::Discover { preferred_versions }).await;
        }
        opened.map_err(|failure| McpError::new(name, "connect", self.clean(failure)))
    }

    async fn open_by(&self, beginning: ClientLifecycleMode) -> Result<Live, McpFailure> {
        match &self.place {
            Place::Process { program, arguments, environment, folder } => {
                let (process, tail) = process::start(program, arguments, environment, folder.as_ref())?;
                self.greet(process, beginning, Some(tail)).await
            }
            Place::Url { url, token } => {
                let transport = http::transport(url, token.as_deref(), self.timeout)?;
                self.greet(transport, beginning, None).await
            }
        }
    }

    async fn greet<T, E, A>(
        &self,
        transport: T,
        beginning: ClientLifecycleMode,
        stderr: Option<Tail>,
    ) -> Result<Live, McpFailure>
    where
        T: rmcp::transport::IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        match tokio::time::timeout(self.timeout, Client.serve_with_lifecycle(transport, beginning)).await {
            Ok(Ok(service)) => Ok(Live { service, stderr, broken: AtomicBool::new(false) }),
            Ok(Err(error)) => Err(not_greeted(error, stderr.as_ref()).await),
            Err(_) => {
                let last_words = stderr.as_ref().map(Tail::so_far).unwrap_or_default();
                Err(McpFailure::TimedOut { limit: self.timeout, last_words })
            }
        }
    }

    fn clean(&self, failure: McpFailure) -> McpFailure {
        let clean = |text: String| self.without_secrets(text);
        match failure {
            McpFailure::Ended { last_words } => McpFailure::Ended { last_words: clean(last_words) },
            McpFailure::TimedOut { limit, last_words } => McpFailure::TimedOut { limit, last_words: clean(last_words) },
            McpFailure::Unreachable { said } => McpFailure::Unreachable { said: clean(said) },
            McpFailure::Refused { code, said } => McpFailure::Refused { code, said: clean(said) },
            McpFailure::Tool { said } => McpFailure::Tool { said: clean(said) },
            McpFailure::Protocol { said } => McpFailure::Protocol { said: clean(said) },
            McpFailure::Schema { said } => McpFailure::Schema { said: clean(said) },
            other @ (McpFailure::Start { .. } | McpFailure::Address { .. } | McpFailure::Unauthorized) => other,
        }
    }
}

async fn not_greeted(error: ClientInitializeError, stderr: Option<&Tail>) -> McpFailure {
    match error {
        ClientInitializeError::JsonRpcError(error) => refused(error),
        ClientInitializeError::TransportError { error, .. } if stderr.is_none() => http::failure(&error),
        ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. } => {
            McpFailure::Ended { last_words: last_words(stderr).await }
        }
        other => McpFailure::Protocol { said: cut(other.to_string()) },
    }
}

async fn last_words(stderr: Option<&Tail>) -> String {
    match stderr {
        Some(tail) => tail.last_words().await,
        None => String::new(),
    }
}

fn refused(error: ErrorData) -> McpFailure {
    McpFailure::Refused { code: error.code.0, said: cut(error.message.into_owned()) }
}
