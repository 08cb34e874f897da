//! The client of the extraction service, and the process that the service is.

use std::{
    env,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use flowstone::prelude::*;
use flowstone_examples::http::client::Client;

use super::flow::Invoice;

/// The client: cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Extraction {
    http: Client,
    url: String,
}

impl Extraction {
    pub(crate) fn at(url: &str) -> Self {
        Self { http: Client::plain(), url: format!("{url}/extract") }
    }

    /// Sends a text, and returns what the service finds in it.
    pub(crate) async fn extract(&self, text: &str) -> Result<Invoice> {
        let answer = self.http.post(&self.url, text.to_owned()).await?;
        let status = answer.status;
        if status.is_success() {
            return Ok(serde_json::from_slice(&answer.body)?);
        }
        let error = format!("the extraction service answered {status}");
        Err(match answer.retry_after {
            Some(wait) => NodeError::new(error).with_retry_after(wait),
            None if status.is_server_error() => NodeError::new(error),
            None => NodeError::terminal(error),
        })
    }
}

/// The service as a process of its own: this program again, with the command `service`.
///
/// It serves until its standard input ends. The system closes the pipe also when this process is killed, so that the
/// service never outlives it.
#[derive(Debug)]
pub(crate) struct Service {
    process: Child,
    pub(crate) url: String,
}

impl Service {
    pub(crate) fn start(counts: &Path, seed: u64, latency: Duration) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["service", "--port", "0", "--counts"]).arg(counts);
        command.args(["--seed", &seed.to_string(), "--latency", &latency.as_millis().to_string()]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut url)?;
        }
        let service = Self { process, url: url.trim().to_owned() };
        if service.url.is_empty() { Err(io::Error::other("it ended before it served")) } else { Ok(service) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Waiting closes its standard input, with which it ends.
        let _ = self.process.wait();
    }
}
