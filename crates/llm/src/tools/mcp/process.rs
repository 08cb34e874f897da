//! A server that is a program: its start, and its standard error.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flowstone_core::CancellationToken;
use rmcp::transport::TokioChildProcess;
use tokio::{
    io::AsyncReadExt,
    process::{ChildStderr, Command},
    task::JoinHandle,
};

use super::McpFailure;

/// The variables that a program needs to run, and that hold no secret: the list of the protocol's own clients, with
/// languages and folders for temporary files.
const INHERITED: &str = "PATH HOME USER LOGNAME SHELL TERM LANG LC_ALL TZ TMPDIR TEMP TMP APPDATA HOMEDRIVE HOMEPATH \
    LOCALAPPDATA PATHEXT PROCESSOR_ARCHITECTURE SYSTEMDRIVE SYSTEMROOT USERPROFILE";

/// The most bytes of the standard error that are kept: enough for a stack trace.
const KEPT_BYTES: usize = 2048;

/// The longest wait for the last words of a program that has closed its output.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Starts a program as the other side of a connection.
pub(super) fn start(
    program: &OsStr,
    arguments: &[OsString],
    environment: &BTreeMap<OsString, OsString>,
    folder: Option<&PathBuf>,
) -> Result<(TokioChildProcess, Tail), McpFailure> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.envs(INHERITED.split(' ').filter_map(|name| Some((name, std::env::var_os(name)?))));
    // The runtime may be gone before the connection is closed in an orderly way.
    command.envs(environment).kill_on_drop(true);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let started = TokioChildProcess::builder(command).stderr(Stdio::piped()).spawn();
    let (process, stderr) = started.map_err(|source| McpFailure::Start { program: shown(program), source })?;
    Ok((process, Tail::of(stderr)))
}

/// A program without its folder, which says nothing to the reader.
pub(super) fn shown(program: &OsStr) -> String {
    Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
}

/// The end of a program's standard error, read as it comes so that the program never waits.
#[derive(Debug)]
pub(super) struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    ended: CancellationToken,
    reader: Option<JoinHandle<()>>,
}

impl Tail {
    fn of(stderr: Option<ChildStderr>) -> Self {
        let (kept, ended) = (Arc::<Mutex<VecDeque<u8>>>::default(), CancellationToken::new());
        let end = ended.clone().drop_guard();
        let reader = stderr.map(|mut stderr| {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let _end = end;
                let mut chunk = [0; 1024];
                while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend(&chunk[..read]);
                    let surplus = kept.len().saturating_sub(KEPT_BYTES);
                    kept.drain(..surplus);
                }
            })
        });
        Self { kept, ended, reader }
    }

    /// Waits a moment for the program's end, and gives the last lines.
    pub(super) async fn last_words(&self) -> String {
        // A program that it started may still have its standard error open.
        let _ = tokio::time::timeout(LAST_WORDS, self.ended.cancelled()).await;
        self.so_far()
    }

    /// Gives the last lines so far.
    pub(super) fn so_far(&self) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).trim().to_owned()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}
