//! Tools, thus flows, offered to any client of the protocol: [`serve`].

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use flowstone_core::{CancellationToken, RunOptions};
use rmcp::{
    ServiceExt,
    service::ServerInitializeError,
    transport::{
        StreamableHttpServerConfig, StreamableHttpService, stdio_pipes,
        streamable_http_server::session::local::LocalSessionManager,
    },
};
use tokio::net::{TcpListener, ToSocketAddrs};

use super::{ServeError, handler::Handler};
use crate::tools::Tools;

/// The longest that calls under way may take when the server is to stop.
const LAST_CALLS: Duration = Duration::from_secs(10);

/// The longest that the last answers may take to their clients.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// Where clients find the server.
const PATH: &str = "/mcp";

/// Offers tools as a server of the Model Context Protocol; with [`flow_tool`](crate::flow_tool) a flow is one.
///
/// # Example
///
/// ```
/// use flowstone_core::{CancellationToken, Context};
/// use flowstone_llm::{Tool, Tools, function, mcp};
/// use serde_json::json;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Name {
///     /// Whom to greet
///     name: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let greet = function("greet", "Greets somebody", |Name { name }| async move { Ok(format!("Hello, {name}!")) });
/// let stop = CancellationToken::new();
/// let server = mcp::serve("greeter", Tools::new().with(greet)).stop(stop.clone()).bind("127.0.0.1:0").await?;
/// let url = server.url();
/// let serving = tokio::spawn(server.run());
///
/// let client = mcp::Mcp::http(url).connect().await?;
/// let greet = client.tools().await?.remove(0);
/// let said = greet.call(json!({ "name": "Ada" }), &Context::detached()).await;
/// assert_eq!(said.map_err(|error| error.to_string())?, "Hello, Ada!");
///
/// client.close().await;
/// stop.cancel();
/// serving.await??;
/// # Ok(())
/// # }
/// ```
pub fn serve(name: impl Into<String>, tools: Tools) -> Serve {
    Serve {
        name: name.into(),
        tools,
        instructions: None,
        options: RunOptions::new(),
        stop: CancellationToken::new(),
        hosts: Vec::new(),
        origins: Vec::new(),
    }
}

/// Tools that are to be offered to clients, made by [`serve`].
///
/// Each call is a run of its own, which ends when its client takes it back or goes. What goes wrong in it, and a panic,
/// is told to the client as the result of the tool.
#[must_use = "nothing is served before `stdio`, `bind` or `http`"]
pub struct Serve {
    name: String,
    tools: Tools,
    instructions: Option<String>,
    options: RunOptions,
    stop: CancellationToken,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Serve {
    /// Sets the purpose of the server, which the clients' models are told.
    pub fn instructions(mut self, text: impl Into<String>) -> Self {
        self.instructions = Some(text.into());
        self
    }

    /// Sets the options of each call's run: a budget, a deadline, a listener. An id would be that of all of them; their
    /// cancellation is the client's.
    pub fn options(mut self, options: RunOptions) -> Self {
        self.options = options;
        self
    }

    /// Stops when this is cancelled: no further call is taken, those under way have ten seconds.
    pub fn stop(mut self, token: CancellationToken) -> Self {
        self.stop = token;
        self
    }

    /// Takes requests over HTTP that are meant for this host, as `mcp.example.org` or `mcp.example.org:8443`, beside
    /// those for loopback.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// Takes requests over HTTP of web pages of this origin, as `https://app.example.org:443`, or `http://localhost:*`.
    /// By default those of all pages are refused, so that no page that a person happens to look at can call the tools.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Serves the program that started this one, over standard input and output, until it closes the input.
    ///
    /// Nothing else may print on the standard output: messages of the tools go to the standard error.
    ///
    /// # Errors
    ///
    /// Something is wrong with the tools, or the other side does not speak the protocol.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with timers and IO.
    pub async fn stdio(self) -> Result<(), ServeError> {
        let stop = self.stop.clone();
        let handler = self.handler()?;
        let over = CancellationToken::new();
        let serving = async {
            match handler.clone().serve_with_ct(stdio_pipes(), over.clone()).await {
                Ok(service) => drop(service.waiting().await),
                // A client that leaves before it has said anything, and a server that stops before, are no failures.
                Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => {}
                Err(error) => return Err(ServeError::Protocol { said: error.to_string() }),
            }
            Ok(())
        };
        let ended = until(serving, &stop, async {
            handler.finish(LAST_CALLS, LAST_ANSWERS).await;
            over.cancel();
        });
        ended.await
    }

    /// Listens on an address, as `127.0.0.1:8000`; port 0 is one that is free.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on; it is open to other machines without a [host](Self::host).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with timers and IO.
    pub async fn bind(self, address: impl ToSocketAddrs + fmt::Display) -> Result<Bound, ServeError> {
        let listen = |source| ServeError::Listen { address: address.to_string(), source };
        let listener = TcpListener::bind(&address).await.map_err(listen)?;
        self.on(listener)
    }

    /// Serves clients that come over streamable HTTP, at the path `/mcp`, until it is [stopped](Self::stop).
    ///
    /// # Errors
    ///
    /// Something is wrong with the tools; the listener is open to other machines without a [host](Self::host).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with timers and IO.
    pub async fn http(self, listener: TcpListener) -> Result<(), ServeError> {
        self.on(listener)?.run().await
    }

    fn on(self, listener: TcpListener) -> Result<Bound, ServeError> {
        let address = listener.local_addr().map_err(ServeError::Connection)?;
        if !address.ip().is_loopback() && self.hosts.is_empty() {
            return Err(ServeError::Open { address });
        }
        Ok(Bound { serve: self, listener, address })
    }

    fn handler(self) -> Result<Handler, ServeError> {
        Handler::new(self.name, self.instructions, self.tools, self.options).map_err(ServeError::Tools)
    }
}

/// A server that listens, and is about to run.
#[must_use = "nothing is served before `run`"]
pub struct Bound {
    serve: Serve,
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Returns where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Serves until it is [stopped](Serve::stop).
    ///
    /// # Errors
    ///
    /// Something is wrong with the tools, or with the listener.
    pub async fn run(self) -> Result<(), ServeError> {
        let Self { serve, listener, .. } = self;
        let (stop, over, closing) = (serve.stop.clone(), CancellationToken::new(), CancellationToken::new());
        let hosts = ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).chain(serve.hosts.clone());
        // A page in a browser may reach loopback under a name of its own, so that the names count, and not the address.
        let config = StreamableHttpServerConfig::default()
            .with_allowed_hosts(hosts)
            .with_allowed_origins(serve.origins.clone())
            .enforce_origin_validation()
            .with_cancellation_token(over.clone());
        let handler = serve.handler()?;
        let each = handler.clone();
        let service =
            StreamableHttpService::new(move || Ok(each.clone()), Arc::<LocalSessionManager>::default(), config);
        let router = Router::new().route_service(PATH, service);

        let serving = async {
            let shutdown = closing.clone().cancelled_owned();
            let served: io::Result<()> = axum::serve(listener, router).with_graceful_shutdown(shutdown).await;
            served.map_err(ServeError::Connection)
        };
        let ended = until(serving, &stop, async {
            closing.cancel();
            handler.finish(LAST_CALLS, LAST_ANSWERS).await;
            over.cancel();
            // A client that keeps its connection open, and asks for nothing, is left.
            tokio::time::sleep(LAST_ANSWERS).await;
        });
        ended.await
    }
}

/// Serves until it ends by itself, or is to stop and has come to its end.
async fn until(
    serving: impl Future<Output = Result<(), ServeError>>,
    stop: &CancellationToken,
    end: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let stopped = async {
        stop.cancelled().await;
        end.await;
    };
    tokio::select! {
        served = serving => served,
        () = stopped => Ok(()),
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("name", &self.name).field("tools", &self.tools).finish_non_exhaustive()
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("serve", &self.serve).field("address", &self.address).finish()
    }
}
