//! Where a server is, and how it is reached: [`Mcp`].

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{McpError, McpServer, http, link::Link, process, secret};

/// The longest that a server may take until it is ready, and for a list: one that `npx` has to fetch first takes a
/// while.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A server that a flow is to use: where it is, and how it is reached.
///
/// # Example
///
/// ```no_run
/// use flowstone_llm::{Tools, mcp::Mcp};
///
/// # async fn example() -> Result<(), flowstone_core::NodeError> {
/// let files = Mcp::stdio("npx", ["-y", "@modelcontextprotocol/server-filesystem", "docs"]).connect().await?;
/// let wiki = Mcp::http("https://wiki.example.org/mcp").token(std::env::var("WIKI_TOKEN")?).connect().await?;
/// let tools = Tools::new()
///     .with_all(files.tools().await?)
///     .with_all(wiki.tools().await?)
///     .only(["read_text_file", "search_files", "search_pages"]);
/// tools.check()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mcp {
    pub(super) place: Place,
    pub(super) name: Option<String>,
    pub(super) prefix: String,
    pub(super) timeout: Duration,
}

/// Where a server is.
#[derive(Clone)]
pub(super) enum Place {
    Process {
        program: OsString,
        arguments: Vec<OsString>,
        /// The variables that its environment has beside those that every program needs.
        environment: BTreeMap<OsString, OsString>,
        folder: Option<PathBuf>,
    },
    Url {
        url: String,
        token: Option<String>,
        /// Headers of the user's own.
        headers: Vec<(String, String)>,
    },
}

impl Mcp {
    /// Names a server that is a program, which is started, and spoken with over its standard input and output.
    ///
    /// Of the environment it has what programs need to run (`PATH`, `HOME`, `USER`, `SHELL`, `TERM`, `LANG`, the folder
    /// for temporary files), and what [`env`](Self::env) adds: no key of this program gets there by itself. It ends
    /// with the last handle to it, at the latest six seconds later; if this program is killed, it finds its input at an
    /// end.
    pub fn stdio<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Self {
        Self::new(Place::Process {
            program: program.as_ref().to_owned(),
            arguments: arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect(),
            environment: BTreeMap::new(),
            folder: None,
        })
    }

    /// Names a server that is reached over HTTP, at a URL like `http://127.0.0.1:8000/mcp`.
    pub fn http(url: impl Into<String>) -> Self {
        Self::new(Place::Url { url: url.into(), token: None, headers: Vec::new() })
    }

    fn new(place: Place) -> Self {
        Self { place, name: None, prefix: String::new(), timeout: TIMEOUT }
    }

    /// Sets its name in errors. By default it is the server's own.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the beginning of its tools' names, so that those of two servers differ: `wiki_`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Adds a variable to the environment of its program. Its value is shown nowhere. A server over HTTP has none.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        if let Place::Process { environment, .. } = &mut self.place {
            environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        }
        self
    }

    /// Sets the folder that its program works in. A server over HTTP has none.
    #[must_use]
    pub fn folder(mut self, path: impl AsRef<Path>) -> Self {
        if let Place::Process { folder, .. } = &mut self.place {
            *folder = Some(path.as_ref().to_owned());
        }
        self
    }

    /// Sets the bearer token that a server over HTTP is sent. It is shown nowhere. A program takes its own by
    /// [`env`](Self::env).
    #[must_use]
    pub fn token(mut self, secret: impl Into<String>) -> Self {
        if let Place::Url { token, .. } = &mut self.place {
            *token = Some(secret.into());
        }
        self
    }

    /// Adds a header to each request to a server over HTTP. Its value is shown nowhere. A program has none.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_llm::mcp::Mcp;
    ///
    /// let wiki = Mcp::http("https://wiki.example.org/mcp").header("x-api-key", "a key of the wiki");
    /// assert!(!format!("{wiki:?}").contains("a key"));
    /// ```
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Place::Url { headers, .. } = &mut self.place {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// Sets how long it may take to connect, and for a list, a resource or a prompt. The default is 30 seconds. How
    /// long a tool may take is up to [`Tools::timeout`](crate::Tools::timeout).
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Connects to it.
    ///
    /// # Errors
    ///
    /// Its program does not start, it cannot be reached, does not answer in time, or does not speak the protocol.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with timers and IO.
    pub async fn connect(self) -> Result<McpServer, McpError> {
        Ok(McpServer::new(Arc::new(Link::connect(self).await?)))
    }

    /// Returns a name for the server until it has said its own.
    pub(super) fn provisional_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| match &self.place {
            Place::Process { program, .. } => process::shown(program),
            Place::Url { url, .. } => http::shown(url),
        })
    }

    /// Takes the secrets out of a text.
    pub(super) fn without_secrets(&self, text: String) -> String {
        match &self.place {
            Place::Process { environment, .. } => {
                let values: Vec<_> = environment.values().map(|value| value.to_string_lossy()).collect();
                secret::without(text, values.iter().map(|value| &**value))
            }
            Place::Url { url, .. } => self.without_token(text.replace(url, &http::shown(url))),
        }
    }

    /// Takes out of a text what a server over HTTP was sent to let this program in. The environment of a program stays:
    /// it may hold the folder that its results are about.
    pub(super) fn without_token(&self, text: String) -> String {
        let Place::Url { url, token, headers } = &self.place else { return text };
        let of_url = http::secrets(url);
        let values = headers.iter().map(|(_, value)| value);
        secret::without(text, of_url.iter().chain(token).chain(values).map(String::as_str))
    }
}

impl fmt::Debug for Mcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Process { program, .. } => process::shown(program),
            Place::Url { url, .. } => http::shown(url),
        };
        f.debug_struct("Mcp").field("name", &self.name).field("place", &place).finish_non_exhaustive()
    }
}
