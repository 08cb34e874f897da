//! A digest of some topics: each is read, a person approves the whole, and it is sent.
//!
//! ```text
//! read (a topic after the other) ─▶ approve ─ yes ─▶ send
//!                                      └───── no ──▶ (end)
//! ```

use std::{error::Error, process::ExitCode};

use flowstone::{
    BuildError,
    cli::{self, Flows},
    prelude::*,
};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The state of a run. The store keeps it as JSON after every step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Digest {
    topics: Vec<String>,
    lines: Vec<String>,
    sent: bool,
}

impl Default for Digest {
    fn default() -> Self {
        let topics = ["bees", "comets", "glass", "ice", "lichens", "moss", "quartz", "tides"];
        Self { topics: topics.map(str::to_owned).to_vec(), lines: Vec::new(), sent: false }
    }
}

/// Reads up on each topic. `exec` runs once for each, and is the place for slow work: a request, or a model.
struct Read {
    takes: Duration,
}

#[node(batch)]
impl Read {
    fn prep(&self, digest: &Digest) -> Vec<String> {
        digest.topics.clone()
    }

    async fn exec(&self, topic: &str) -> Result<String> {
        tokio::time::sleep(self.takes).await;
        Ok(format!("{topic}: {} letters", topic.len()))
    }

    fn post(&self, digest: &mut Digest, _topics: Vec<String>, lines: Vec<String>) {
        digest.lines = lines;
    }
}

/// Asks a person. The run waits in the store meanwhile, also while no process is there.
struct Approve;

#[derive(Action)]
enum Approved {
    Yes,
    No,
}

impl Ask<Digest> for Approve {
    type Question = Vec<String>;
    type Answer = bool;
    type Action = Approved;

    fn ask(&self, digest: &Digest) -> Result<Vec<String>> {
        Ok(digest.lines.clone())
    }

    fn schema(&self) -> serde_json::Value {
        serde_json::json!({ "type": "boolean" })
    }

    fn post(&self, _digest: &mut Digest, answer: bool) -> Result<Approved> {
        Ok(if answer { Approved::Yes } else { Approved::No })
    }
}

fn digest(takes: Duration) -> Result<AsyncFlow<Digest>, BuildError> {
    let mut flow = AsyncFlow::builder("digest");
    // `journaled` puts each result into the store at once: after a crash only the rest is read.
    let read = flow.add("read", Read { takes }.retry(Retry::attempts(3)).journaled());
    let approve = flow.add("approve", Approve);
    let send = flow.add("send", |digest: &mut Digest| digest.sent = true);
    flow.start(read);
    flow.route(read >> approve);
    flow.route(approve - Approved::Yes >> send);
    flow.route(approve - Approved::No >> END);
    flow.build()
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    Ok(cli::main(Flows::new().with(digest(Duration::from_secs(1))?)))
}
