//! A connection to a server, which is made anew by the next call after the server has ended.
//!
//! **Invariant:** a call is done once at most. One that was under way when the server ended may have been done, so that
//! it fails; it is the model that decides whether to make it again. One that the server refused because it had
//! forgotten the session was not done: it is made again, once, over a new connection. See
//! `docs/decisions/0029-an-mcp-call-is-repeated-if-it-was-not-made.md`.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rmcp::{
    ClientHandler, RoleClient, ServiceError,
    model::{
        ClientCapabilities, ClientConfig, ClientRequest, ErrorCode, ErrorData, Implementation, PingRequest,
        ProtocolVersion,
    },
    service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt, NotificationContext, RunningService},
};
use tokio::sync::{Mutex, watch};

use super::{
    Mcp, McpError, McpFailure,
    connect::Place,
    correlated::Correlated,
    http::{self, cut},
    process::{self, Tail},
};

/// The most bytes of its own name that a server is called by.
const LONGEST_NAME: usize = 64;

/// A server, and the connection to it.
pub(super) struct Link {
    mcp: Mcp,
    name: String,
    /// Held while a connection is made, so that several calls that find none wait for the same one.
    live: Mutex<Option<Arc<Live>>>,
    changes: watch::Sender<Changes>,
}

/// A connection. When the last call that uses it is over, and nobody else holds it, the server ends.
pub(super) struct Live {
    pub(super) service: RunningService<RoleClient, Client>,
    stderr: Option<Tail>,
    broken: AtomicBool,
    /// Set when the server answers as if it knew nothing of the session.
    lost: Arc<AtomicBool>,
    /// Set when a call was given up before it was answered: the server may be silent for good.
    doubtful: AtomicBool,
}

/// The longest that a server may take to say that it is alive, once a call was given up.
const ALIVE: Duration = Duration::from_secs(5);

/// Notes that a call was given up before it was answered.
struct Unanswered<'a>(Option<&'a Live>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(live) = self.0 {
            live.doubtful.store(true, Ordering::Relaxed);
        }
    }
}

/// Our side of a connection. A server may ask it nothing. It notes which lists have changed.
pub(super) struct Client(watch::Sender<Changes>);

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("flowstone", env!("CARGO_PKG_VERSION")))
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.send_modify(|changes| changes.tools += 1);
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.send_modify(|changes| changes.resources += 1);
    }

    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.send_modify(|changes| changes.prompts += 1);
    }
}

/// The number of times that a server has said of each list that it has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) tools: u64,
    pub(super) resources: u64,
    pub(super) prompts: u64,
}

impl Link {
    pub(super) async fn connect(mcp: Mcp) -> Result<Self, McpError> {
        let provisional = mcp.provisional_name();
        let changes = watch::Sender::default();
        let live = mcp.open(&provisional, &changes).await?;
        let named = || {
            let info = live.service.peer_info()?;
            let mut name = info.server_info.as_ref()?.name.clone();
            name = mcp.without_secrets(name);
            name.truncate(name.floor_char_boundary(LONGEST_NAME));
            Some(name).filter(|name| !name.is_empty())
        };
        let name = mcp.name.clone().or_else(named).unwrap_or(provisional);
        Ok(Self { mcp, name, live: Mutex::new(Some(Arc::new(live))), changes })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn mcp(&self) -> &Mcp {
        &self.mcp
    }

    /// Returns the news of lists that change.
    pub(super) fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    /// Asks the server for something, connecting first if the connection has ended.
    pub(super) async fn ask<T, F>(&self, doing: &str, question: impl Fn(Arc<Live>) -> F) -> Result<T, McpError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let mut again = true;
        loop {
            let live = self.live().await?;
            let mut unanswered = Unanswered(Some(&live));
            let answer = question(Arc::clone(&live)).await;
            unanswered.0 = None;
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let lost = live.lost.load(Ordering::Relaxed);
            let failure = live.explain(error).await;
            if lost {
                live.broken.store(true, Ordering::Relaxed);
            }
            if !(lost && std::mem::take(&mut again)) {
                return Err(self.error(doing, failure));
            }
        }
    }

    /// As [`ask`](Self::ask), for requests without a time limit of their own.
    pub(super) async fn ask_in_time<T, F>(&self, doing: &str, question: impl Fn(Arc<Live>) -> F) -> Result<T, McpError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let limit = self.mcp.timeout;
        match tokio::time::timeout(limit, self.ask(doing, question)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.error(doing, McpFailure::TimedOut { limit, last_words: String::new() })),
        }
    }

    /// Makes an error of the server's, without secrets.
    pub(super) fn error(&self, doing: &str, failure: McpFailure) -> McpError {
        // The name of a tool is the server's, too.
        McpError::new(&self.name, cut(self.mcp.without_secrets(doing.to_owned())), self.mcp.clean(failure))
    }

    /// Ends the connection, and waits until the server has ended, if nobody else uses it.
    pub(super) async fn close(&self) {
        let live = self.live.lock().await.take();
        if let Some(live) = live.and_then(Arc::into_inner) {
            // Its outcome makes no difference any more.
            let _ = live.service.cancel().await;
        }
    }

    async fn live(&self) -> Result<Arc<Live>, McpError> {
        let mut place = self.live.lock().await;
        if let Some(live) = place.as_ref().filter(|live| !live.is_over())
            && live.is_alive().await
        {
            return Ok(Arc::clone(live));
        }
        *place = None;
        let live = Arc::new(self.mcp.open(&self.name, &self.changes).await?);
        *place = Some(Arc::clone(&live));
        Ok(live)
    }
}

impl Live {
    fn is_over(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.service.is_closed() || self.service.is_transport_closed()
    }

    /// Returns `true` if it still answers. It is asked only if there is a doubt, and any answer will do.
    async fn is_alive(&self) -> bool {
        if !self.doubtful.swap(false, Ordering::Relaxed) {
            return true;
        }
        let ping = self.service.send_request(ClientRequest::PingRequest(PingRequest::default()));
        matches!(tokio::time::timeout(ALIVE, ping).await, Ok(Ok(_) | Err(ServiceError::McpError(_))))
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
    async fn open(&self, name: &str, changes: &watch::Sender<Changes>) -> Result<Live, McpError> {
        let mut opened = self.open_by(ClientLifecycleMode::Initialize, changes).await;
        // Every server so far begins by a handshake, but for those that know the protocol of 2026 only, which has none.
        if let Err(McpFailure::Refused { code, .. }) = &opened
            && [ErrorCode::METHOD_NOT_FOUND.0, ErrorCode::UNSUPPORTED_PROTOCOL_VERSION.0].contains(code)
        {
            let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
            opened = self.open_by(ClientLifecycleMode::Discover { preferred_versions }, changes).await;
        }
        opened.map_err(|failure| McpError::new(name, "connect", self.clean(failure)))
    }

    async fn open_by(
        &self,
        beginning: ClientLifecycleMode,
        changes: &watch::Sender<Changes>,
    ) -> Result<Live, McpFailure> {
        let (client, lost) = (Client(changes.clone()), Arc::default());
        match &self.place {
            Place::Process { program, arguments, environment, folder } => {
                let (process, tail) = process::start(program, arguments, environment, folder.as_ref())?;
                self.greet(Correlated::new(process), client, beginning, Some(tail), lost).await
            }
            Place::Url { url, token, headers } => {
                let noted = Arc::clone(&lost);
                let transport = http::transport(url, token.as_deref(), headers, self.timeout, noted)?;
                self.greet(transport, client, beginning, None, lost).await
            }
        }
    }

    async fn greet<T, E, A>(
        &self,
        transport: T,
        client: Client,
        beginning: ClientLifecycleMode,
        stderr: Option<Tail>,
        lost: Arc<AtomicBool>,
    ) -> Result<Live, McpFailure>
    where
        T: rmcp::transport::IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        match tokio::time::timeout(self.timeout, client.serve_with_lifecycle(transport, beginning)).await {
            Ok(Ok(service)) => {
                let (broken, doubtful) = (AtomicBool::new(false), AtomicBool::new(false));
                Ok(Live { service, stderr, broken, lost, doubtful })
            }
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
            other @ (McpFailure::Start { .. }
            | McpFailure::Address { .. }
            | McpFailure::Header { .. }
            | McpFailure::Unauthorized) => other,
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
