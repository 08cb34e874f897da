//! Reading the steps of a run, and its states.

use std::time::Duration;

use flowstone_core::{Action, NodePath, RunId, Usage};
use rusqlite::{Row, params};
use serde_json::Value;

use crate::{
    records::{
        reader::Reader,
        state::{decode, state_at},
        usage,
    },
    words::{
        columns::{count, int, time},
        error::{ReadError, damaged},
        info::{Items, StepInfo},
    },
};

impl Reader {
    /// Returns the steps of a run from a number on, at most so many, oldest first. Step 0 is the start.
    ///
    /// # Errors
    ///
    /// [`ReadError::UnknownRun`] if there is none of this id.
    pub fn steps(&self, id: impl Into<RunId>, from: u64, limit: usize) -> Result<Vec<StepInfo>, ReadError> {
        self.at_once(|reader| reader.steps_of(reader.number(&id.into())?, from, limit))
    }

    pub(crate) fn steps_of(&self, run: i64, from: u64, limit: usize) -> Result<Vec<StepInfo>, ReadError> {
        let mut select = self.db.prepare_cached(
            "SELECT seq, node, action, next, started_at, took_us, attempts, retries, recorded, recalled, size,
                    length(body) AS stored
             FROM visits WHERE run = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
        )?;
        let mut rows = select.query(params![run, int(from), int(limit)])?;
        let mut steps = Vec::new();
        while let Some(row) = rows.next()? {
            steps.push(step(row)?);
        }
        if let Some(last) = steps.last() {
            let used = usage::of_steps(&self.db, run, from, last.step)?;
            steps.iter_mut().for_each(|step| step.usage = used.get(&step.step).copied().unwrap_or_default());
        }
        Ok(steps)
    }

    /// Returns the state after a step; the last one, if none is given. It is returned as it is stored, in the version
    /// that it had then.
    ///
    /// # Errors
    ///
    /// If there is no such run or step.
    pub fn state(&self, id: impl Into<RunId>, step: Option<u64>) -> Result<Value, ReadError> {
        let id = id.into();
        let restored = self.at_once(|reader| {
            let run = reader.number(&id)?;
            let last = reader.last_step(run)?;
            let step = step.unwrap_or(last);
            if step > last {
                return Err(ReadError::UnknownStep { run: id.clone(), step, last });
            }
            state_at(&reader.db, run, step, 1)
        })?;
        // Its check has shown that it is the state that was written.
        decode(&id, restored.chain.state())
    }

    /// Returns what changed in the state between two steps, as a JSON patch (RFC 6902): of both as they are stored.
    ///
    /// # Errors
    ///
    /// If there is no such run or step.
    pub fn diff(&self, id: impl Into<RunId>, from: u64, to: u64) -> Result<Value, ReadError> {
        let id = id.into();
        let both = |reader: &Self| Ok((reader.state(id.clone(), Some(from))?, reader.state(id.clone(), Some(to))?));
        let (old, new) = self.at_once::<_, ReadError>(both)?;
        let failed = |error: serde_json::Error| {
            let (run, path) = (id.clone(), ".".to_owned());
            ReadError::Decode { run, path, source: error.into() }
        };
        serde_json::to_value(json_patch::diff(&old, &new)).map_err(failed)
    }
}

fn step(row: &Row<'_>) -> Result<StepInfo, ReadError> {
    let retries: Option<String> = row.get("retries")?;
    let retries = retries.map(|retries| serde_json::from_str(&retries)).transpose();
    let recorded: Option<i64> = row.get("recorded")?;
    Ok(StepInfo {
        step: count(row, "seq")?,
        node: row.get::<_, Option<String>>("node")?.map(NodePath::from),
        action: row.get::<_, Option<String>>("action")?.map(Action::from),
        next: row.get::<_, Option<String>>("next")?.map(NodePath::from),
        started_at: time(row.get("started_at")?),
        took: Duration::from_micros(count(row, "took_us")?),
        attempts: count(row, "attempts")?,
        retries: retries.map_err(|error| damaged(format!("the retries of a visit: {error}")))?.unwrap_or_default(),
        items: match recorded {
            Some(_) => Some(Items { recorded: count(row, "recorded")?, recalled: count(row, "recalled")? }),
            None => None,
        },
        usage: Usage::default(),
        state_size: count(row, "size")?,
        stored_size: row.get::<_, Option<i64>>("stored")?.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
    })
}
