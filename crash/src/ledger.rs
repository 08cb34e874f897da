//! What nodes do to the world outside the store: one line for each call of `exec`, in a file that is only appended to.
//!
//! A line is one `write` to a file opened with `O_APPEND`, so that a killed process leaves whole lines, and lines of two
//! processes do not mix. It is never synced: the process dies, not the machine.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use flowstone::Context;

/// One call of `exec`, or of the `post` of a question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deed {
    /// The idempotency key; of a question, one that is made up.
    pub(crate) key: String,
    pub(crate) attempt: u32,
    /// The run that the user started.
    pub(crate) run: String,
    /// Who did it, as the state says: the run, or the child of a batch flow.
    pub(crate) who: String,
    pub(crate) visit: u64,
    pub(crate) node: String,
    pub(crate) item: Option<usize>,
}

/// What stands in a ledger: deeds, and marks of what is about to be done to a run from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Deed(Deed),
    /// What is done (`retry`, `cancel`, `delete`, …), and the run.
    Mark(String, String),
}

/// Where deeds are written down.
#[derive(Debug)]
pub(crate) enum Ledger {
    File(File),
    Memory(Mutex<Vec<Deed>>),
}

impl Deed {
    pub(crate) fn of(cx: &Context, who: &str) -> Self {
        Self {
            key: without_life(&cx.idempotency_key()),
            attempt: cx.attempt(),
            run: cx.run_id().to_string(),
            who: who.to_owned(),
            visit: cx.visit(),
            node: cx.node().to_string(),
            item: cx.item(),
        }
    }

    /// A question's `post`, which knows of its run only what the state holds.
    pub(crate) fn answered(who: &str, number: u32) -> Self {
        Self {
            key: format!("{who}?{number}"),
            attempt: 0,
            run: who.to_owned(),
            who: who.to_owned(),
            visit: u64::from(number),
            node: "ask".to_owned(),
            item: None,
        }
    }

    fn line(&self) -> String {
        let Self { key, attempt, run, who, visit, node, item } = self;
        let item = item.map_or_else(|| "-".to_owned(), |item| item.to_string());
        format!("deed {key} {attempt} {run} {who} {visit} {node} {item}\n")
    }
}

/// A key without the part that only this life of a run has, which a run in memory has not.
fn without_life(key: &str) -> String {
    const RANDOM: usize = 16;

    let life = key.split_once('~').and_then(|(id, rest)| Some(format!("{id}{}", rest.get(RANDOM..)?)));
    life.unwrap_or_else(|| key.to_owned())
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self::File)
    }

    pub(crate) fn deed(&self, deed: Deed) -> std::io::Result<()> {
        match self {
            Self::File(file) => append(file, &deed.line()),
            Self::Memory(deeds) => {
                deeds.lock().unwrap_or_else(PoisonError::into_inner).push(deed);
                Ok(())
            }
        }
    }

    pub(crate) fn mark(&self, what: &str, run: &str) -> std::io::Result<()> {
        match self {
            Self::File(file) => append(file, &format!("mark {what} {run}\n")),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Takes what was written down in memory.
    pub(crate) fn take(&self) -> Vec<Deed> {
        match self {
            Self::File(_) => Vec::new(),
            Self::Memory(deeds) => std::mem::take(&mut deeds.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

fn append(mut file: &File, line: &str) -> std::io::Result<()> {
    let written = file.write(line.as_bytes())?;
    if written == line.len() { Ok(()) } else { Err(std::io::ErrorKind::WriteZero.into()) }
}

/// What a process says that met its limit of file sizes here, before it did what it was about to write down.
pub(crate) const FULL: &str = "the ledger cannot be written";

/// Cuts off the part of a line with which such a process ended.
pub(crate) fn cut_part(path: &Path) -> Result<()> {
    let text = std::fs::read(path).context("the ledger cannot be read")?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let file = OpenOptions::new().write(true).open(path).context("the ledger cannot be written")?;
    file.set_len(whole as u64).context("the ledger cannot be cut")
}

/// Reads the ledger of a process that has ended.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).context("the ledger cannot be read")?;
    text.lines().map(|line| parse(line).with_context(|| format!("a line of the ledger: {line}"))).collect()
}

fn parse(line: &str) -> Result<Line> {
    let words: Vec<&str> = line.split(' ').collect();
    Ok(match words[..] {
        ["mark", what, run] => Line::Mark(what.to_owned(), run.to_owned()),
        ["deed", key, attempt, run, who, visit, node, item] => Line::Deed(Deed {
            key: key.to_owned(),
            attempt: attempt.parse()?,
            run: run.to_owned(),
            who: who.to_owned(),
            visit: visit.parse()?,
            node: node.to_owned(),
            item: if item == "-" { None } else { Some(item.parse()?) },
        }),
        _ => bail!("it has {} words", words.len()),
    })
}
