//! Loading a stored run, so that a driver can continue it: its last state, and the rows of the visit under way.

use std::collections::BTreeMap;

use flowstone_core::{
    NodePath, RunId,
    driver::{ItemId, ItemKey, KeyBase},
};
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

use crate::{
    disk::snapshot::Chain,
    records::{
        ids::gone,
        state::{Restored, state_at},
    },
    words::{
        columns::{count, int},
        error::{ReadError, damaged},
        status::Status,
        waits::Wait,
    },
};

/// The deepest nesting of JSON that is read: the limit of `serde_json`.
const DEPTH: usize = 127;

/// A run with its last checkpoint.
pub(crate) struct Loaded {
    pub(crate) run: i64,
    pub(crate) id: RunId,
    /// The beginning of the keys of its visits.
    pub(crate) key: KeyBase,
    pub(crate) flow: i64,
    pub(crate) flow_name: String,
    pub(crate) status: Status,
    pub(crate) standing: Standing,
    /// Its last step.
    pub(crate) seq: u64,
    /// The node to visit; none once it has ended.
    pub(crate) next: Option<NodePath>,
    pub(crate) action: Option<String>,
    /// The version of its state.
    pub(crate) version: u32,
    /// The step that changed the state last.
    pub(crate) changed: u64,
    /// The chain that holds the state, and that the next snapshot continues.
    pub(crate) chain: Chain,
    /// The question of the visit under way, if it has one.
    pub(crate) asked: Option<Asked>,
    pub(crate) under_way: UnderWay,
}

/// Facts about a stored run. They decide if something must be written before the run goes on.
pub(crate) struct Standing {
    pub(crate) flow_name: String,
    /// `true` if its row still says why the run could not go on, or which status it had before.
    pub(crate) refused: bool,
    /// `true` if it waits for its turn.
    pub(crate) queued: bool,
    /// The number of the driver that let it run, if one did.
    pub(crate) epoch: Option<i64>,
    /// `true` if its process has died more than once in the visit under way.
    pub(crate) suspect: bool,
}

/// The question of a visit under way.
pub(crate) struct Asked {
    /// The version of the flow that asked.
    pub(crate) version: u32,
    pub(crate) question: Value,
    pub(crate) schema: Value,
    /// The answer, or the reason why it cannot be read: an older version kept answers unchecked.
    pub(crate) answer: Option<Result<Value, String>>,
    /// `true` if it has expired.
    pub(crate) expired: bool,
}

impl Asked {
    /// Returns `true` if the run can go on, with the answer or since the question has expired.
    pub(crate) fn is_over(&self) -> bool {
        self.expired || self.answer.is_some()
    }
}

/// The kept part of a visit that was under way when its process ended.
#[derive(Default)]
pub(crate) struct UnderWay {
    /// The rows of items by number; the node itself has a number, too.
    pub(crate) items: BTreeMap<i64, KeptItem>,
    pub(crate) children: Vec<KnownChild>,
    /// The number of items that its batch had.
    pub(crate) began_with: Option<u64>,
    /// The time at which its `total_timeout` is over.
    pub(crate) ends: Option<Wait>,
    /// `true` if it is tried again after it failed or was cancelled.
    pub(crate) retried: bool,
    /// `true` if it has a row of its own.
    pub(crate) has_row: bool,
}

/// The row of an item, or of the node itself.
pub(crate) struct KeptItem {
    pub(crate) key: Option<ItemKey>,
    /// The version of the flow that kept it, if that is known.
    pub(crate) version: Option<u32>,
    pub(crate) kept: Kept,
}

/// The output of an item, or a wait before an attempt.
pub(crate) enum Kept {
    Output(Vec<u8>),
    Wait { attempt: u32, wait: Wait },
}

/// A child that was begun before.
#[derive(Clone, Copy)]
pub(crate) struct KnownChild {
    pub(crate) run: i64,
    pub(crate) item: ItemId,
    pub(crate) status: Status,
    /// The number of visits that it has completed.
    pub(crate) visits: u64,
}

impl KnownChild {
    /// Returns `true` if it is the child of this item, also if the items have another order now.
    pub(crate) fn is_of(&self, item: ItemId) -> bool {
        self.item.key == item.key && (item.key.is_some() || self.item.index == item.index)
    }
}

/// Reads the facts about a run; `None` if there is no run of this number.
pub(crate) fn standing(db: &Connection, run: i64) -> Result<Option<Standing>, ReadError> {
    let mut select = db.prepare_cached(
        "SELECT name, refused IS NOT NULL OR was IS NOT NULL, queued_at IS NOT NULL, epoch,
             resumes >= 2 AND resumed_seq = 1 + (SELECT max(seq) FROM visits WHERE visits.run = runs.run)
         FROM runs JOIN flows USING (flow) WHERE run = ?1",
    )?;
    let standing = select.query_row([run], |row| {
        Ok(Standing {
            flow_name: row.get(0)?,
            refused: row.get(1)?,
            queued: row.get(2)?,
            epoch: row.get(3)?,
            suspect: row.get::<_, Option<bool>>(4)?.unwrap_or_default(),
        })
    });
    Ok(standing.optional()?)
}

/// Loads a run so that it can be continued; `None` if there is no run of this number.
pub(crate) fn load(db: &Connection, run: i64, full_every: u32) -> Result<Option<Loaded>, ReadError> {
    let Some(standing) = standing(db, run)? else { return Ok(None) };
    let mut head = db.prepare_cached(
        "SELECT id, flow, name, status, runs.action, key FROM runs JOIN flows USING (flow) WHERE run = ?1",
    )?;
    let head = head
        .query_row([run], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, Option<String>>(4)?,
                row.get::<_, Option<String>>(5)?,
            ))
        })
        .optional()?;
    let Some((id, flow, flow_name, status, action, key)) = head else { return Ok(None) };
    let mut last = db.prepare_cached("SELECT seq, next FROM visits WHERE run = ?1 ORDER BY seq DESC LIMIT 1")?;
    let (seq, next) = last
        .query_row([run], |row| Ok((count(row, "seq")?, row.get::<_, Option<String>>(1)?)))
        .optional()?
        .ok_or_else(|| gone(db, run, "step"))?;
    let Restored { version, changed, chain } = state_at(db, run, seq, full_every)?;
    let status = Status::of_code(status).ok_or_else(|| damaged(format!("run `{id}` has status {status}")))?;
    let id = RunId::from(id);
    let asked = asked(db, &id, run, seq + 1)?;
    Ok(Some(Loaded {
        run,
        key: key.map_or_else(|| KeyBase::plain(&id), KeyBase::kept),
        id,
        flow,
        flow_name,
        status,
        standing,
        seq,
        next: next.map(NodePath::from),
        action,
        version,
        changed,
        chain,
        asked,
        under_way: under_way(db, run, seq + 1)?,
    }))
}

fn asked(db: &Connection, id: &RunId, run: i64, seq: u64) -> Result<Option<Asked>, ReadError> {
    let mut select = db.prepare_cached(
        "SELECT question, schema, answer, expired_at, version FROM pauses WHERE run = ?1 AND seq = ?2",
    )?;
    let row = select
        .query_row((run, int(seq)), |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get::<_, Option<i64>>(3)?,
                row.get(4)?,
            ))
        })
        .optional()?;
    let Some((question, schema, answer, expired, version)) = row else { return Ok(None) };
    let readable = |answer: String| match serde_json::from_str(&answer) {
        Ok(answer) => Ok(Ok(answer)),
        // This is no damage: older versions wrote such JSON, which is refused now.
        Err(error) if is_deep(&answer) => Ok(Err(error.to_string())),
        Err(error) => Err(ReadError::from(damaged(format!("an answer to run `{id}`: {error}")))),
    };
    let answer = answer.map(readable).transpose()?;
    Ok(Some(Asked {
        version,
        question: json_or_text(id, question)?,
        schema: json_or_text(id, schema)?,
        answer,
        expired: expired.is_some(),
    }))
}

fn under_way(db: &Connection, run: i64, seq: u64) -> Result<UnderWay, ReadError> {
    let mut found = UnderWay::default();
    let mut items = db.prepare_cached(
        "SELECT item, output, attempt, wake_at, item_key, wait_ms, version FROM items WHERE run = ?1 AND seq = ?2",
    )?;
    let mut rows = items.query((run, int(seq)))?;
    while let Some(row) = rows.next()? {
        let kept = match (row.get::<_, Option<Vec<u8>>>(1)?, row.get(2)?, row.get(3)?) {
            (Some(output), _, _) => Kept::Output(output),
            (None, Some(attempt), Some(wake_at)) => Kept::Wait { attempt, wait: Wait::seen_now(wake_at, row.get(5)?) },
            _ => return Err(damaged(format!("an item of run #{run} has neither output nor wait")).into()),
        };
        let (key, version) = (row.get::<_, Option<[u8; 16]>>(4)?.map(ItemKey::from_bytes), row.get(6)?);
        found.items.insert(row.get(0)?, KeptItem { key, version, kept });
    }
    let mut children = db.prepare_cached(
        "SELECT item, run, item_key, status,
             (SELECT seq FROM visits WHERE visits.run = runs.run ORDER BY seq DESC LIMIT 1) AS seq
         FROM runs WHERE parent = ?1 AND parent_seq = ?2 AND parent IS NOT NULL",
    )?;
    let mut rows = children.query((run, int(seq)))?;
    while let Some(row) = rows.next()? {
        let index = usize::try_from(count(row, "item")?).unwrap_or(usize::MAX);
        let key = row.get::<_, Option<[u8; 16]>>(2)?.map(ItemKey::from_bytes);
        let code = row.get(3)?;
        let status = Status::of_code(code).ok_or_else(|| damaged(format!("a run with status {code}")))?;
        let item = ItemId { index, key };
        found.children.push(KnownChild { run: row.get(1)?, item, status, visits: count(row, "seq")? });
    }
    let mut visit =
        db.prepare_cached("SELECT items, ends_at, left_ms, retried FROM under_way WHERE run = ?1 AND seq = ?2")?;
    let visit = visit.query_row((run, int(seq)), |row| {
        let items: Option<i64> = row.get(0)?;
        found.began_with = items.and_then(|items| u64::try_from(items).ok());
        let (ends_at, left): (Option<i64>, _) = (row.get(1)?, row.get(2)?);
        found.ends = ends_at.map(|at| Wait::seen_now(at, left));
        (found.retried, found.has_row) = (row.get(3)?, true);
        Ok(())
    });
    visit.optional()?;
    Ok(found)
}

/// Reads JSON that was stored as text. JSON of an older version that is nested too deep to be read is returned as a
/// string.
pub(crate) fn json_or_text(run: &RunId, text: String) -> Result<Value, ReadError> {
    match serde_json::from_str(&text) {
        Ok(json) => Ok(json),
        Err(_) if is_deep(&text) => Ok(Value::String(text)),
        Err(error) => Err(damaged(format!("JSON of run `{run}`: {error}")).into()),
    }
}

/// Returns `true` if JSON is nested too deep to be read.
fn is_deep(text: &str) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    text.bytes().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => depth += 1,
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEPTH
    })
}
