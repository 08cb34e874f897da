//! The child process: starting it, hearing it, killing it, waiting for it.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::plan::{Life, Point};

/// The signal of an abort.
const ABORT: i32 = 6;

/// The end of a process.
#[derive(Debug)]
pub(crate) enum End {
    /// It was killed at a time.
    Killed,
    /// It was killed at the planned point.
    KilledAt,
    /// One of its runs killed it.
    Aborted,
    /// It ended by itself, with everything done.
    Done,
    /// It ended by itself, for this reason.
    Fault { kind: String, text: String },
    /// It had to be killed because it did not end.
    Stuck,
}

/// News that a process tells while it lives.
pub(crate) enum News {
    /// It drives the store now.
    Open,
    Seen {
        job: String,
        when: String,
    },
    /// A limit of the number of runs at work was reached.
    Full,
}

/// A child process, killed and waited for at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    /// Kept open: the child ends when it is closed.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts this program again, as a child that drives the store in its life of this number.
    pub(crate) fn start(store: &Path, ledger: &Path, (seed, number): (u64, usize), life: &Life) -> Result<Self> {
        let program = std::env::current_exe().context("this program does not know where it is")?;
        let mut command = match life {
            Life::Limit(kib) => {
                let mut shell = Command::new("sh");
                // A write beyond the limit is then an error, not a signal. The unit is 512 bytes in POSIX.
                let written = std::fs::metadata(ledger).map_or(0, |data| data.len() / 1024);
                let limited = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", (written + kib) * 2);
                shell.arg("-c").arg(limited).arg(&program);
                shell
            }
            _ => Command::new(&program),
        };
        command.arg("--child").arg(store).arg(ledger).arg(seed.to_string()).arg(number.to_string());
        if let Life::Point(Point { job, when, nth }) = life {
            command.args([job, when, &nth.to_string()[..]]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("no child was started")?;
        let (out, stdin) = (child.stdout.take().context("the child has no output")?, child.stdin.take());
        let (tell, lines) = channel();
        let process = Self { child, lines, _stdin: stdin };
        std::thread::Builder::new().name("listen".to_owned()).spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        })?;
        Ok(process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets the process live until its planned end, and returns that end, or `late` if it did not come in time. `news`
    /// is called for each message, and returns `true` if another process could drive the store, too.
    pub(crate) fn live(
        &mut self,
        life: &Life,
        (patience, late): (Duration, End),
        mut news: impl FnMut(News, u32) -> Result<bool>,
    ) -> Result<End> {
        let pid = self.id();
        let (limit, late) = match life {
            Life::Time(millis) => (Duration::from_millis(*millis), End::Killed),
            _ => (patience, late),
        };
        let until = Instant::now() + limit;
        let mut end = None;
        loop {
            let line = match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => break end = end.or(Some(late)),
                // It closes its output by ending.
                Err(RecvTimeoutError::Disconnected) => {
                    drop(self.child.wait());
                    break;
                }
            };
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("open", _) => {
                    if news(News::Open, pid)? {
                        // The process may have ended by itself a moment ago; then nobody held the store.
                        let has_ended = |_| {
                            std::thread::sleep(Duration::from_millis(50));
                            self.child.try_wait().is_ok_and(|status| status.is_some())
                        };
                        ensure!((0..100).any(has_ended), "two processes drive one store");
                    }
                }
                ("done", _) => end = Some(End::Done),
                ("abort", _) => end = Some(End::Aborted),
                ("full", _) => drop(news(News::Full, pid)?),
                ("at", _) => break end = Some(End::KilledAt),
                ("seen", point) => {
                    let (job, when) = point.split_once(' ').unwrap_or((point, ""));
                    news(News::Seen { job: job.to_owned(), when: when.to_owned() }, pid)?;
                }
                (kind @ ("fault" | "panic"), text) => {
                    let (kind, text) = match kind {
                        "fault" => text.split_once(' ').unwrap_or((text, "")),
                        _ => (kind, text),
                    };
                    // The first fault is the cause of the others.
                    end = end.or(Some(End::Fault { kind: kind.to_owned(), text: text.to_owned() }));
                }
                _ => end = Some(End::Fault { kind: "odd".to_owned(), text: line }),
            }
        }
        let (status, killed) = self.kill()?;
        if matches!(end, Some(End::Aborted)) && status.signal() != Some(ABORT) && !killed {
            return Ok(odd(format!("it was about to abort, and ended with {status}")));
        }
        Ok(match end {
            Some(End::Done) if !status.success() && !killed => odd(format!("it was done, and ended with {status}")),
            Some(end) => end,
            None => odd(format!("it ended with {status}, and said nothing")),
        })
    }

    /// Kills the process and waits for it; returns `true` if it had not ended before.
    fn kill(&mut self) -> Result<(ExitStatus, bool)> {
        if let Some(status) = self.child.try_wait()? {
            return Ok((status, false));
        }
        self.child.kill().context("the child cannot be killed")?;
        Ok((self.child.wait().context("the child cannot be waited for")?, true))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn odd(text: String) -> End {
    End::Fault { kind: "odd".to_owned(), text }
}
