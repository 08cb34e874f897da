//! The ledger: a file with a line for each invoice that was posted, outside the store.
//!
//! It stands for a service that knows idempotency keys: a key that it has seen is not posted again. So a run that was
//! killed after the posting and before it could keep that, and asks again, does no harm.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::flow::Invoice;

#[derive(Debug)]
pub(crate) struct Ledger(Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    file: File,
    /// The file's length up to the end of its last whole line.
    length: u64,
    keys: HashSet<String>,
}

impl Ledger {
    /// Opens a ledger. Half a line at its end, which a kill may leave, was never answered for, and is cut off.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        let keys = text[..whole].lines().filter_map(|line| Some(line.split_once(';')?.0.to_owned())).collect();
        Ok(Self(Mutex::new(Lines { file, length: whole as u64, keys })))
    }

    /// Posts an invoice, unless the key was posted before. When this returns, the line is on disk.
    pub(crate) fn post(&self, key: &str, invoice: &Invoice) -> io::Result<()> {
        let lines = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.keys.contains(key) {
            return Ok(());
        }
        let Invoice { number, vendor, date, cents } = invoice;
        let line = format!("{key};{number};{date};{vendor};{}.{:02}\n", cents / 100, cents % 100);
        let written = lines.file.write_all(line.as_bytes()).and_then(|()| lines.file.sync_data());
        if let Err(error) = written {
            lines.file.set_len(lines.length)?;
            return Err(error);
        }
        lines.length += line.len() as u64;
        lines.keys.insert(key.to_owned());
        Ok(())
    }
}
