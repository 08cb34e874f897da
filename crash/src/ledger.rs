//! The deeds of nodes outside the store: one line for each call of `exec`, in a file that is only appended to.
//!
//! A line is one `write` to a file opened with `O_APPEND`, so that lines of two processes do not mix. A killed process
//! may leave a part of its last line, up to the end of a page. The file is never synced, since the process dies and not
//! the machine.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use flowstone::Context;
use flowstone_disk::Disk;

use crate::version::plain;

/// One call of `exec`, or of the `post` of a question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deed {
    /// The idempotency key of the same deed in memory, in the first version, with the places of items there; for a
    /// question it is made up.
    pub(crate) key: String,
    /// The key itself.
    pub(crate) whole: String,
    pub(crate) attempt: u32,
    /// The run that the user started.
    pub(crate) run: String,
    /// The run, or the child of a batch flow, that did it, according to the state.
    pub(crate) who: String,
    pub(crate) visit: u64,
    pub(crate) node: String,
    /// The place that the item has in the first version.
    pub(crate) item: Option<usize>,
}

/// A line of a ledger: a deed, a mark of an action on a run that is about to follow, or a fact that a caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Deed(Deed),
    /// A mark: the action (`retry`, `cancel`, `delete`, …), and the run.
    Mark(String, String),
    /// A fact that a caller was told of a run, and that must hold from then on.
    Told(Told, String),
}

/// A fact that the store has told a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    Started,
    Ended,
    /// The question of this step has its answer.
    Answered(u64),
    /// The question of this step has expired: an answer was refused.
    Late(u64),
    Cancelled,
    /// It was cancelled, and goes on; a broken node may still be broken.
    Uncancelled,
    /// It had failed, and goes on; its broken node is mended.
    Retried,
    /// Its process has died too often.
    Failed,
    /// It was deleted.
    Gone,
}

/// The place to which lines are written.
#[derive(Debug)]
pub(crate) enum Ledger {
    File(File),
    Memory(Mutex<Vec<Line>>),
    /// The lines of a machine with this disk. Without power it does nothing and hears nothing, so further lines are
    /// dropped.
    Powered {
        disk: Arc<Disk>,
        lines: Arc<Mutex<Vec<Line>>>,
    },
}

impl Deed {
    pub(crate) fn of(cx: &Context, who: &str, item: Option<usize>) -> Self {
        let whole = cx.idempotency_key();
        Self {
            key: identity(&whole, who, item),
            whole,
            attempt: cx.attempt(),
            run: cx.run_id().to_string(),
            who: who.to_owned(),
            visit: cx.visit(),
            node: plain(cx.node().as_str()),
            item,
        }
    }

    /// Returns `true` if the two are the same except for the letters of their keys.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let of = |deed: &Self| Self { whole: String::new(), ..deed.clone() };
        of(self) == of(other)
    }

    /// Returns the deed that follows a question, which knows only the state of its run. Attempt 0 stands for an answer,
    /// and attempt 1 for the question's expiry.
    pub(crate) fn of_question(who: &str, number: usize, expires: bool, expired: bool) -> Self {
        Self {
            key: format!("{who}?{number}"),
            whole: format!("{who}?{number}"),
            attempt: u32::from(expired),
            run: root(who, '/').to_owned(),
            who: who.to_owned(),
            visit: number as u64,
            node: if expires { "expiring" } else { "ask" }.to_owned(),
            item: None,
        }
    }

    /// Returns the other end of the same question, if it has two.
    pub(crate) fn other_way(&self) -> Option<Self> {
        let two = self.key.contains('?') && self.node == "expiring";
        two.then(|| Self { attempt: 1 - self.attempt, ..self.clone() })
    }
}

/// Returns the run that the user started, from the id or the name of a child, whose own parts come after such a letter.
pub(crate) fn root(child: &str, after: char) -> &str {
    child.split(after).next().unwrap_or(child)
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Deed(Deed { key: _, whole, attempt, run, who, visit, node, item }) => {
                let item = item.map_or_else(|| "-".to_owned(), |item| item.to_string());
                format!("deed {whole} {attempt} {run} {who} {visit} {node} {item}\n")
            }
            Self::Mark(what, run) => format!("mark {what} {run}\n"),
            Self::Told(what, run) => format!("told {} {run}\n", what.text()),
        }
    }
}

impl Told {
    const PLAIN: [(Self, &str); 7] = [
        (Self::Started, "started"),
        (Self::Ended, "ended"),
        (Self::Cancelled, "cancelled"),
        (Self::Uncancelled, "uncancelled"),
        (Self::Retried, "retried"),
        (Self::Failed, "failed"),
        (Self::Gone, "gone"),
    ];

    fn text(self) -> String {
        let plain = Self::PLAIN.iter().find(|(told, _)| *told == self);
        match (plain, self) {
            (Some((_, name)), _) => (*name).to_owned(),
            (None, Self::Answered(step)) => format!("answered{step}"),
            (None, Self::Late(step)) => format!("late{step}"),
            (None, told) => format!("{told:?}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let plain = Self::PLAIN.iter().find(|(_, name)| *name == text).map(|(told, _)| *told);
        let answered = || text.strip_prefix("answered")?.parse().ok().map(Self::Answered);
        let late = || text.strip_prefix("late")?.parse().ok().map(Self::Late);
        plain.or_else(answered).or_else(late)
    }
}

/// The number of letters in a key that belong to one life of its run.
const LIFE: usize = 16;

/// Returns those letters; a run in memory has none.
pub(crate) fn life(key: &str) -> Option<&str> {
    key.split_once('~')?.1.get(..LIFE)
}

/// Returns the identity of a deed: its key in memory. Where the key names an item as the journal knows it, the identity
/// has the place of the item, from `who` and `item`.
fn identity(whole: &str, who: &str, item: Option<usize>) -> String {
    let key = in_memory(whole);
    let mut children = who.split('/').skip(1).map(|child| child.rsplit('.').next().unwrap_or(child));
    let mut parts = Vec::new();
    let count = key.split(':').count();
    for (at, part) in key.split(':').enumerate() {
        let own = item.filter(|_| at + 1 == count).map(|item| item.to_string());
        parts.push(match part.split_once('[') {
            Some((node, _)) => format!("{node}[{}]", own.as_deref().or_else(|| children.next()).unwrap_or("?")),
            None => part.to_owned(),
        });
    }
    parts.join(":")
}

/// Returns a key, or the id of a child, in the form that it has in memory: for `run3~0123456789abcdef:1:work2-g1`
/// without the letters of this life, and with the names of the first version.
pub(crate) fn in_memory(key: &str) -> String {
    let life = key.split_once('~').and_then(|(id, rest)| Some(format!("{id}{}", rest.get(LIFE..)?)));
    plain(&life.unwrap_or_else(|| key.to_owned()))
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self::File)
    }

    pub(crate) fn write(&self, line: Line) -> std::io::Result<()> {
        let push = |lines: &Mutex<Vec<Line>>, line| lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        match self {
            Self::File(file) => return append(file, &line.text()),
            Self::Memory(lines) => push(lines, line),
            Self::Powered { disk, lines } => disk.while_on(|| push(lines, line)).unwrap_or_default(),
        }
        Ok(())
    }

    /// Takes the deeds that were written down in memory.
    pub(crate) fn take(&self) -> Vec<Deed> {
        let Self::Memory(lines) = self else { return Vec::new() };
        let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
        let deed = |line| match line {
            Line::Deed(deed) => Some(deed),
            Line::Mark(..) | Line::Told(..) => None,
        };
        lines.into_iter().filter_map(deed).collect()
    }
}

fn append(mut file: &File, line: &str) -> std::io::Result<()> {
    let written = file.write(line.as_bytes())?;
    if written == line.len() { Ok(()) } else { Err(std::io::ErrorKind::WriteZero.into()) }
}

/// The message of a process that reached its limit of file sizes here, before it did the deed of the line.
pub(crate) const FULL: &str = "the ledger cannot be written";

/// Cuts off the part of a line that a process has left at its end; the process has not done that deed.
pub(crate) fn cut_part(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
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
        ["told", what, run] => Line::Told(Told::parse(what).context("nothing that is told")?, run.to_owned()),
        ["deed", whole, attempt, run, who, visit, node, item] => {
            let item = if item == "-" { None } else { Some(item.parse()?) };
            Line::Deed(Deed {
                key: identity(whole, who, item),
                whole: whole.to_owned(),
                attempt: attempt.parse()?,
                run: run.to_owned(),
                who: who.to_owned(),
                visit: visit.parse()?,
                node: node.to_owned(),
                item,
            })
        }
        _ => bail!("it has {} words", words.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_is_known_by_places_whatever_its_key_has() {
        let whole = "run3~0123456789abcdef:4:nested1-g2/keptflows0[8f5e]:1:kept2by5of7[77aa]";

        assert_eq!(identity(whole, "run3/keptflows0.0.2", Some(6)), "run3:4:nested1/keptflows0[2]:1:kept2by5of7[6]");
        assert_eq!(identity("run3:4:flows1[2]:0:work0", "run3/flows1.0.2", None), "run3:4:flows1[2]:0:work0");
        assert_eq!(life(whole), Some("0123456789abcdef"));
    }
}
