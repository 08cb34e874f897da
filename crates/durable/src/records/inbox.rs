//! The inbox: the requests of other processes to the one that drives the store.

use rusqlite::Connection;

use crate::words::{
    columns::{int, now},
    error::StoreError,
};

/// The number of requests that are read at once.
const PAGE: usize = 1000;

/// A request of another process.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) request: i64,
    pub(crate) run: i64,
    pub(crate) what: String,
    /// The run's flow, if the run is still there.
    pub(crate) flow: Option<String>,
}

/// A place in the inbox. Requests before it that stayed there are not read again until there is a reason.
#[derive(Default)]
pub(crate) struct Inbox {
    /// The last request that was looked at.
    pub(crate) seen: i64,
    /// Grows when all requests are to be looked at again.
    pub(crate) round: u64,
    /// Cancellations of runs that are driven. They are looked at again until these runs have stopped.
    pub(crate) again: Vec<Request>,
}

impl Inbox {
    /// Has all requests looked at again: some of them may wait for a flow that is registered now.
    pub(crate) fn look_again(&mut self) {
        *self = Self { round: self.round + 1, ..Self::default() };
    }
}

/// Writes a request to the process that drives the store.
pub(crate) fn ask_driver(db: &Connection, run: i64, what: &str) -> Result<(), StoreError> {
    let mut insert = db.prepare_cached("INSERT INTO inbox (run, what, sent_at) VALUES (?1, ?2, ?3)")?;
    insert.execute((run, what, now()))?;
    Ok(())
}

/// Reads the page of requests after a given one.
pub(crate) fn requests(db: &Connection, after: i64) -> Result<Vec<Request>, StoreError> {
    let mut select = db.prepare_cached(
        "SELECT request, inbox.run, what, name FROM inbox LEFT JOIN runs USING (run) LEFT JOIN flows USING (flow)
         WHERE request > ?1 ORDER BY request LIMIT ?2",
    )?;
    let rows = select.query_map((after, int(PAGE)), |row| {
        Ok(Request { request: row.get(0)?, run: row.get(1)?, what: row.get(2)?, flow: row.get(3)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
