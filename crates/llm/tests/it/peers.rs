//! Programs that no one here wrote, as the other side of a test: where they are, and a guard that ends them.
//!
//! `cargo xtask test` installs them and says where they are by two variables. Without these the tests say in a line
//! what they leave out; in CI that is a failure.

#![expect(clippy::print_stderr, reason = "what is not tested is said where the tests are")]
#![cfg_attr(not(feature = "mcp"), expect(dead_code, reason = "some of it is for the tests of that feature"))]

use std::{
    env,
    fs::File,
    io::Read,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The longest that a program may take until it answers: CI's machines are slow at times.
const START: Duration = Duration::from_secs(60);

/// Returns the interpreter whose environment has llmock, mcp, mcp-server-time and rotel, if they are installed.
pub(crate) fn python() -> Option<PathBuf> {
    installed("FLOWSTONE_PEERS_PYTHON", "the programs from PyPI")
}

/// Returns the folder whose `node_modules` has the MCP project's servers, if they are installed.
pub(crate) fn node() -> Option<PathBuf> {
    installed("FLOWSTONE_PEERS_NODE", "the programs from npm")
}

fn installed(variable: &str, what: &str) -> Option<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Some(path.into());
    }
    let said = format!("not tested against {what}: {variable} is not set; `cargo xtask test` installs them");
    assert!(env::var_os("CI").is_none(), "{said}");
    eprintln!("{said}");
    None
}

/// A program that listens on a port of its own on loopback. It is killed when this is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    port: u16,
    printed: tempfile::NamedTempFile,
}

impl Peer {
    /// Starts what `command` says, given a free port, and waits until something answers there.
    pub(crate) fn start(command: impl Fn(u16) -> Command) -> Self {
        // Between the choice of the port and its use another program may have taken it.
        let started = (0..3).find_map(|_| {
            let port = free_port();
            Self::spawn(port, command(port)).ready()
        });
        started.expect("the program ends as soon as it is started")
    }

    /// Starts a program that listens on this port, and waits until something answers there.
    pub(crate) fn start_at(port: u16, command: Command) -> Self {
        Self::spawn(port, command).ready().expect("the program ends as soon as it is started")
    }

    /// Returns the port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has printed so far.
    pub(crate) fn printed(&self) -> String {
        let mut text = Vec::new();
        File::open(self.printed.path()).unwrap().read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn spawn(port: u16, mut command: Command) -> Self {
        let printed = tempfile::NamedTempFile::new().unwrap();
        let (out, err) = (append(&printed), append(&printed));
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        Self { child, port, printed }
    }

    fn ready(mut self) -> Option<Self> {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                eprintln!("the program ended ({status}) before it answered:\n{}", self.printed());
                return None;
            }
            assert!(start.elapsed() < START, "nothing answers on port {}:\n{}", self.port, self.printed());
            thread::sleep(Duration::from_millis(20));
        }
        Some(self)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a port of loopback that nothing listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn append(file: &tempfile::NamedTempFile) -> File {
    File::options().append(true).open(file.path()).unwrap()
}
