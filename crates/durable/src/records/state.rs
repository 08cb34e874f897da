//! Reading the state of a run after a step.

use flowstone_core::{RunId, driver::Panicked};
use rusqlite::{Connection, OptionalExtension};
use serde::de::DeserializeOwned;

use crate::{
    disk::snapshot::{Chain, Kind, Unfolding, Unreadable},
    records::ids::gone,
    words::{
        columns::{count, int},
        error::{ReadError, damaged},
    },
};

/// The state of a run after a step.
pub(crate) struct Restored {
    pub(crate) version: u32,
    /// The step that changed the state last.
    pub(crate) changed: u64,
    /// The chain that the next snapshot continues; it holds the state.
    pub(crate) chain: Chain,
}

/// Reads the state after a step: the last whole state, and the changes since.
///
/// Each row names the row that it changes, so only changes are read, and no visits that left the state as it was.
pub(crate) fn state_at(db: &Connection, run: i64, seq: u64, full_every: u32) -> Result<Restored, ReadError> {
    let mut select =
        db.prepare_cached("SELECT kind, body, version, base, size FROM visits WHERE run = ?1 AND seq = ?2")?;
    let unreadable =
        |error: Unreadable| ReadError::from(damaged(format!("the state after step {seq} of run #{run}: {error}")));
    let mut links: Vec<(Kind, Vec<u8>)> = Vec::new();
    let mut at = Some(seq);
    let (mut version, mut changed, mut size) = (0, None, None);
    while let Some(link) = at {
        let row = select.query_row((run, int(link)), |row| {
            Ok((
                row.get(0)?,
                row.get::<_, Option<Vec<u8>>>(1)?,
                row.get::<_, Option<u32>>(2)?,
                row.get::<_, Option<i64>>(3)?,
                count(row, "size")?,
            ))
        });
        let (code, body, own, base, own_size) = row.optional()?.ok_or_else(|| gone(db, run, "step"))?;
        size = size.or(Some(own_size));
        let kind = Kind::from_code(code).map_err(unreadable)?;
        // A base is always an earlier row; without this check a damaged store could lead in a circle.
        at = base.and_then(|base| u64::try_from(base).ok()).filter(|base| *base < link);
        match (kind, &body) {
            (Kind::Same, None) => {}
            (Kind::Same, Some(_)) => return Err(unreadable(Unreadable::Form)),
            _ => {
                changed = changed.or(Some(link));
                links.push((kind, body.unwrap_or_default()));
            }
        }
        if kind == Kind::Full {
            version = own.unwrap_or_default();
            at = None;
        }
    }
    let mut unfolding = Unfolding::default();
    for (kind, body) in links.into_iter().rev() {
        unfolding.push(kind, &body).map_err(unreadable)?;
    }
    let chain = unfolding.into_chain(full_every).map_err(unreadable)?;
    // If a page was cut off, SQLite reads zeros, which also parse as a row, but with a size that is not that of its
    // state.
    if size != Some(chain.state().len() as u64) {
        return Err(unreadable(Unreadable::Check));
    }
    Ok(Restored { version, changed: changed.unwrap_or_default(), chain })
}

/// Decodes a state that is known to be as it was written.
pub(crate) fn decode<S: DeserializeOwned>(run: &RunId, json: &[u8]) -> Result<S, ReadError> {
    let failed =
        |path: String, source: serde_json::Error| ReadError::Decode { run: run.clone(), path, source: source.into() };
    let decode = || serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(json));
    match Panicked::catch(decode) {
        Ok(state) => state.map_err(|error| failed(error.path().to_string(), error.into_inner())),
        Err(panicked) => Err(failed(".".to_owned(), serde::de::Error::custom(panicked))),
    }
}
