//! The rules of a spec that its types do not say. They are part of the format; build errors are not looked for here.

use serde_json::Value;

use crate::spec::{FailPhase, Graph, GraphKind, Items, Leaf, Spec, SpecError, WriteOp};

/// Checks that every number is an integer in `0..2^31`.
pub(crate) fn numbers(raw: &Value) -> Result<(), SpecError> {
    match raw {
        Value::Number(number) if number.as_u64().is_none_or(|number| number >= 1 << 31) => {
            Err(SpecError::new(format!("{number} is no integer in 0..2^31")))
        }
        Value::Array(elements) => elements.iter().try_for_each(numbers),
        Value::Object(fields) => fields.values().try_for_each(numbers),
        _ => Ok(()),
    }
}

/// Checks everything else.
pub(crate) fn spec(spec: &Spec) -> Result<(), SpecError> {
    spec.flow.leaves().try_for_each(rules)?;
    for graph in spec.flow.graphs() {
        items(graph, spec)?;
        if graph.kind == GraphKind::AsyncParallelBatchFlow {
            parallel(graph)?;
        }
    }
    Ok(())
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Result<(), SpecError> {
    if holds { Ok(()) } else { Err(SpecError::new(message())) }
}

/// Only `exec` has items and attempts.
fn rules(leaf: &Leaf) -> Result<(), SpecError> {
    leaf.fail.iter().try_for_each(|rule| {
        let fits = rule.phase == FailPhase::Exec || (rule.item.is_none() && rule.attempts.is_none());
        require(fits, || format!("node `{}`: only `exec` has items and attempts", leaf.name.as_str()))
    })
}

/// Batch flows and no others have items; a table of items is a list of objects, and nothing writes it.
fn items(graph: &Graph, spec: &Spec) -> Result<(), SpecError> {
    let name = graph.name.as_str();
    require(graph.items.is_some() == graph.kind.is_batch(), || {
        format!("flow `{name}`: batch flows have items, other flows have none")
    })?;
    let Some(Items::Table { key, by }) = &graph.items else { return Ok(()) };
    let tables: Vec<&Value> = match (by, spec.shared.get(key)) {
        (Some(_), Some(Value::Object(tables))) => tables.values().collect(),
        (None, Some(table)) => vec![table],
        _ => return Err(SpecError::new(format!("flow `{name}`: `{key}` is no table"))),
    };
    let good = |table: &&Value| table.as_array().is_some_and(|rows| rows.iter().all(Value::is_object));
    require(tables.iter().all(good), || format!("flow `{name}`: `{key}` is no table"))?;
    require(!spec.flow.writes(key), || format!("flow `{name}`: its table of items `{key}` is written"))
}

/// Checks that nodes in a parallel batch flow only add, and read no key that is written inside it.
fn parallel(graph: &Graph) -> Result<(), SpecError> {
    let name = graph.name.as_str();
    graph.leaves().try_for_each(|leaf| {
        let adds = leaf.post.as_ref().is_none_or(|write| write.op == WriteOp::Add);
        require(adds, || format!("flow `{name}`: inside a parallel flow, `post` may only add"))?;
        let read = leaf.prep.as_ref().map(|source| source.keys()).unwrap_or_default();
        let apart = !read.into_iter().any(|key| graph.writes(key));
        require(apart, || format!("flow `{name}`: a parallel flow reads a key that it writes"))
    })
}
