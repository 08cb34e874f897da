//! The errors of servers: of those that are used, and of our own.

use std::{fmt, io, net::SocketAddr, time::Duration};

use flowstone_core::BuildError;

/// An error of a server.
///
/// # Example
///
/// ```
/// use flowstone_llm::mcp::{Mcp, McpFailure};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error = Mcp::stdio("no-such-program", ["--stdio"]).named("docs").connect().await.unwrap_err();
/// assert!(matches!(error.failure, McpFailure::Start { .. }));
/// assert_eq!(
///     error.to_string(),
///     "MCP server `docs`: connect: cannot start `no-such-program`: is it installed, and in the PATH?",
/// );
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("MCP server `{server}`: {doing}: {failure}")]
#[non_exhaustive]
pub struct McpError {
    /// The server, by its [name](super::Mcp::named).
    pub server: String,
    /// The call that failed: `connect`, `tool `search``.
    pub doing: String,
    /// The failure.
    #[source]
    pub failure: McpFailure,
}

impl McpError {
    pub(super) fn new(server: impl Into<String>, doing: impl Into<String>, failure: McpFailure) -> Self {
        Self { server: server.into(), doing: doing.into(), failure }
    }
}

/// An error of a server.
#[derive(Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum McpFailure {
    /// Its program does not start.
    Start { program: String, source: io::Error },
    /// Its address is none.
    Address { address: String },
    /// A header that cannot be sent.
    Header { name: String },
    /// It ended, or closed the connection; with the end of what its program printed on its standard error.
    Ended { last_words: String },
    /// Nothing came in time.
    TimedOut { limit: Duration, last_words: String },
    /// There is no connection to it.
    Unreachable { said: String },
    /// It wants a token, or refuses the one it got.
    Unauthorized,
    /// It says that it cannot do this.
    Refused { code: i32, said: String },
    /// The tool says that it failed.
    Tool { said: String },
    /// It sent a message that the protocol does not allow.
    Protocol { said: String },
    /// A tool is not as its own schema says, or its schema is none.
    Schema { said: String },
}

impl fmt::Display for McpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { program, source } if source.kind() == io::ErrorKind::NotFound => {
                write!(f, "cannot start `{program}`: is it installed, and in the PATH?")
            }
            Self::Start { program, .. } => write!(f, "cannot start `{program}`"),
            Self::Address { address } => {
                write!(f, "`{address}` is no address: it is to begin with http:// or https://")
            }
            Self::Header { name } => {
                write!(f, "the header `{name}` has letters that no header may have, in its name or its value")
            }
            Self::Ended { last_words } => write!(f, "it ended, or closed the connection{}", LastWords(last_words)),
            Self::TimedOut { limit, last_words } => {
                write!(f, "nothing came within {limit:?}{}", LastWords(last_words))
            }
            Self::Unreachable { said } => write!(f, "it cannot be reached: {said}"),
            Self::Unauthorized => f.write_str("it takes a token, and this one or none is refused: see `Mcp::token`"),
            Self::Refused { code, said } => write!(f, "it refuses: {said} (code {code})"),
            Self::Tool { said } => f.write_str(said),
            Self::Protocol { said } => write!(f, "it does not keep to the protocol: {said}"),
            Self::Schema { said } => write!(f, "it does not keep to its schema: {said}"),
        }
    }
}

impl std::error::Error for McpFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { source, .. } if source.kind() != io::ErrorKind::NotFound => Some(source),
            _ => None,
        }
    }
}

/// The part of a message that quotes the last words of a program.
struct LastWords<'a>(&'a str);

impl fmt::Display for LastWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; the last that it printed is:\n{}", self.0) }
    }
}

/// An error of serving tools.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum ServeError {
    /// Something is wrong with the tools.
    #[error("the tools cannot be served")]
    Tools(#[source] BuildError),
    /// The address is open to other machines, and nothing says which names it has there.
    #[error("{address} is not loopback: say under which names it is reached, by `Serve::host`")]
    Open { address: SocketAddr },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    /// The connection broke.
    #[error("the connection failed")]
    Connection(#[source] io::Error),
    /// The client does not speak the protocol.
    #[error("the client does not keep to the protocol: {said}")]
    Protocol { said: String },
}
