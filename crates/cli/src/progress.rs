//! The news of a drive while it lasts: counts on standard error, events in a file, and questions as they come.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write, stderr},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use flowstone_core::{Event, EventKind, RunId};
use flowstone_durable::Reader;

use crate::{
    arguments::ResumeArguments,
    runs::question,
    stop::{Result, Stop},
    words::{counted, plain},
};

/// The time between two drawings of the line on a terminal.
const DRAWN: Duration = Duration::from_millis(200);

/// The time between two lines where there is no terminal.
const WRITTEN: Duration = Duration::from_secs(10);

/// Hears the events of all runs that this process drives, and tells of them.
pub(crate) struct Progress {
    counts: Counts,
    /// The runs that have paused since their questions were last looked for.
    paused: Mutex<BTreeSet<RunId>>,
    events: Option<Events>,
    /// Is a terminal, on which one line is drawn again and again.
    terminal: bool,
    /// With `--json`, programs read the output: no progress is printed.
    silent: bool,
}

#[derive(Default)]
struct Counts {
    runs: Mutex<BTreeSet<RunId>>,
    visits: AtomicU64,
    items: AtomicU64,
    failed: AtomicU64,
}

/// A file that gets a line of JSON for each event.
struct Events {
    path: PathBuf,
    file: Mutex<io::Result<File>>,
}

impl Progress {
    /// Opens the file of events, if one is asked for.
    pub(crate) fn new(arguments: &ResumeArguments) -> Result<Self> {
        let events = arguments.events.as_deref().map(Events::open).transpose()?;
        Ok(Self {
            counts: Counts::default(),
            paused: Mutex::default(),
            events,
            terminal: stderr().is_terminal(),
            silent: arguments.common.json,
        })
    }

    /// Takes an event in.
    pub(crate) fn hear(&self, event: &Event) {
        let Counts { runs, visits, items, failed } = &self.counts;
        match &event.kind {
            EventKind::RunStarted { .. } => drop(lock(runs).insert(event.run.clone())),
            EventKind::VisitEnded { .. } => drop(visits.fetch_add(1, Relaxed)),
            EventKind::ItemEnded { recalled: false, .. } => drop(items.fetch_add(1, Relaxed)),
            EventKind::Failed { .. } => drop(failed.fetch_add(1, Relaxed)),
            EventKind::Paused { .. } | EventKind::Asked { .. } => drop(lock(&self.paused).insert(event.run.clone())),
            _ => {}
        }
        if let Some(events) = &self.events {
            events.write(event);
        }
    }

    /// Prints events, for as long as it is polled: how far the runs are, and, if the command waits through questions,
    /// the questions and the commands that answer them.
    pub(crate) async fn tell(&self, arguments: &ResumeArguments, program: &str) -> Result<()> {
        if self.silent {
            return std::future::pending().await;
        }
        let store = &arguments.common.store;
        let reader = Reader::open(store)?;
        let (mut asked, mut told) = (BTreeSet::new(), String::new());
        for look in 1_u32.. {
            tokio::time::sleep(DRAWN).await;
            if arguments.wait {
                self.ask(&reader, program, store, &mut asked)?;
            }
            let line = self.counts.line();
            let due = DRAWN * look;
            if self.terminal {
                // The next text of the program itself begins where this one does.
                self.write(&format!("\r\x1b[K{line}\r"));
            } else if due.as_millis().is_multiple_of(WRITTEN.as_millis()) && line != told {
                self.write(&format!("{line}\n"));
                told = line;
            }
        }
        Ok(())
    }

    /// Writes the questions that were not written before.
    fn ask(&self, reader: &Reader, program: &str, store: &Path, asked: &mut BTreeSet<(RunId, u64)>) -> Result<()> {
        for run in std::mem::take(&mut *lock(&self.paused)) {
            // A run that has gone meanwhile asks nothing.
            for open in reader.open_questions(run).unwrap_or_default() {
                if asked.insert((open.run.clone(), open.step)) {
                    let lines = question::lines(&open, program, store);
                    let text: String = lines.iter().map(|line| format!("{}\n", plain(line))).collect();
                    self.write(&if self.terminal { format!("\r\x1b[K{text}") } else { text });
                }
            }
        }
        Ok(())
    }

    /// Takes the line away, and says how the file of events fared.
    pub(crate) fn end(&self) -> Result<()> {
        if self.terminal && !self.silent {
            self.write("\r\x1b[K");
        }
        self.events.as_ref().map_or(Ok(()), Events::end)
    }

    /// A terminal that has gone away is nobody's loss.
    fn write(&self, text: &str) {
        let _: io::Result<()> = stderr().write_all(text.as_bytes()).and_then(|()| stderr().flush());
    }
}

impl Counts {
    fn line(&self) -> String {
        let parts = [
            counted(lock(&self.runs).len() as u64, "run"),
            counted(self.visits.load(Relaxed), "visit"),
            counted(self.items.load(Relaxed), "item"),
            format!("{} failed", self.failed.load(Relaxed)),
        ];
        parts.join(", ")
    }
}

impl Events {
    fn open(path: &Path) -> Result<Self> {
        let file =
            OpenOptions::new().create(true).append(true).open(path).map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(Ok(file)) })
    }

    /// Appends a line by one write, so that lines of several processes do not mix. After an error there are no more.
    fn write(&self, event: &Event) {
        let mut file = lock(&self.file);
        let Ok(open) = &mut *file else { return };
        let written = serde_json::to_vec(event).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            open.write_all(&line)
        });
        if let Err(error) = written {
            *file = Err(error);
        }
    }

    fn end(&self) -> Result<()> {
        lock(&self.file).as_ref().map(drop).map_err(|error| cannot_write(&self.path, error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Stop {
    Stop::because(&format!("events cannot be written to `{}`", path.display()), error)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
