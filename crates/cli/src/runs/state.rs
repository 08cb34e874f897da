//! `runs state` and `runs diff`: a state, and the changes in it.

use std::io::Write;

use flowstone_durable::Reader;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::{
    arguments::{DiffArguments, StateArguments},
    screen::{Screen, compact},
    stop::{Result, Stop},
    words::shortened,
};

/// The most that people are shown of a changed value, in characters; `--json` has all of it.
const LONGEST: usize = 160;

pub(super) fn state<W: Write>(arguments: &StateArguments, screen: &mut Screen<W>) -> Result<()> {
    let reader = Reader::open(&arguments.common.store)?;
    // People and programs get the same: it is JSON, in which control characters are escaped already.
    screen.json(&reader.state(arguments.id.as_str(), arguments.step)?)
}

pub(super) fn diff<W: Write>(arguments: &DiffArguments, screen: &mut Screen<W>) -> Result<()> {
    let reader = Reader::open(&arguments.common.store)?;
    let DiffArguments { id, from, to, common } = arguments;
    let patch = reader.diff(id.as_str(), *from, *to)?;
    if common.json {
        return screen.json(&patch);
    }
    let before = reader.state(id.as_str(), Some(*from))?;
    let lines = lines(before, patch).map_err(|error| Stop::because("the difference cannot be shown", &*error))?;
    if lines.is_empty() {
        return screen.line("no change");
    }
    lines.iter().try_for_each(|line| screen.line(line))
}

/// One line for each operation. Its place is that at its turn: an earlier removal from a list has moved the rest.
fn lines(mut state: Value, patch: Value) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let Patch(operations) = serde_json::from_value(patch)?;
    let mut lines = Vec::with_capacity(operations.len());
    for operation in operations {
        let path = operation.path().to_string();
        let old = state.pointer(&path).map(brief).unwrap_or_default();
        let place = if path.is_empty() { "(all)" } else { &path };
        lines.push(match &operation {
            PatchOperation::Add(add) => format!("+ {place} {}", brief(&add.value)),
            PatchOperation::Remove(_) => format!("- {place} {old}"),
            PatchOperation::Replace(replace) => format!("~ {place} {old} -> {}", brief(&replace.value)),
            other => format!("  {}", brief(&serde_json::to_value(other)?)),
        });
        json_patch::patch(&mut state, &[operation])?;
    }
    Ok(lines)
}

fn brief(value: &Value) -> String {
    shortened(&compact(value), LONGEST).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_operation_is_a_line_with_what_was_there() {
        let before = json!({ "city": "Oslo", "days": [1, 2, 3], "draft": true });
        let patch = json!([
            { "op": "replace", "path": "/city", "value": "Rome" },
            { "op": "remove", "path": "/days/0" },
            { "op": "remove", "path": "/days/0" },
            { "op": "remove", "path": "/draft" },
            { "op": "add", "path": "/note", "value": { "text": "x".repeat(300) } },
        ]);

        let lines = lines(before, patch).unwrap();

        let long = format!("+ /note {{\"text\":\"{}… (311 B in all)", "x".repeat(151));
        assert_eq!(lines, ["~ /city \"Oslo\" -> \"Rome\"", "- /days/0 1", "- /days/0 2", "- /draft true", &long]);
    }

    #[test]
    fn a_state_that_changed_as_a_whole_is_one_line() {
        let patch = json!([{ "op": "replace", "path": "", "value": 2 }]);

        assert_eq!(lines(json!(1), patch).unwrap(), ["~ (all) 1 -> 2"]);
    }
}
