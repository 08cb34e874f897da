//! The meaning of values: coercions, functions of `exec`, writes of `post`.
//!
//! **Invariant:** every function here takes every value, so no run fails for a reason that its spec did not plan.

use std::borrow::Cow;

use flowstone::Shared;
use serde_json::Value;

use crate::spec::{Function, Write, WriteOp};

/// Sums are taken modulo this number.
pub const MODULUS: u64 = 1_000_003;

/// Makes a number of a value, below [`MODULUS`].
#[must_use]
pub fn number(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::Bool(value) => u64::from(*value),
        Value::Number(number) => number.as_u64().unwrap_or_default() % MODULUS,
        Value::String(text) => text.chars().count() as u64 % MODULUS,
        Value::Array(elements) => elements.iter().map(number).sum::<u64>() % MODULUS,
        Value::Object(fields) => fields.len() as u64 % MODULUS,
    }
}

/// Makes a text of a value.
#[must_use]
pub fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string().into(),
        Value::Number(number) => number.to_string().into(),
        Value::String(text) => text.into(),
        Value::Array(elements) => format!("[{}]", joined(elements, ",")).into(),
        Value::Object(_) => "{}".into(),
    }
}

/// Makes a list of a value.
#[must_use]
pub fn sequence(value: Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(elements) => elements,
        value => vec![value],
    }
}

/// Applies a function to a value.
#[must_use]
pub fn call(function: &Function, value: &Value) -> Value {
    match function {
        Function::Identity {} => value.clone(),
        Function::Add { k } => ((number(value) + u64::from(*k)) % MODULUS).into(),
        Function::Mul { k, m } => (number(value) * u64::from(*k) % u64::from(m.get())).into(),
        Function::Sum {} => number(value).into(),
        Function::Len {} => sequence(value.clone()).len().into(),
        Function::Wrap { before, after } => format!("{before}{}{after}", text(value)).into(),
        Function::Join { sep } => joined(&sequence(value.clone()), sep).into(),
    }
}

/// Writes a value into the shared value.
pub fn write(shared: &mut Shared, write: &Write, value: &Value) {
    let before = shared.get(&write.key).cloned().unwrap_or_default();
    let after = match write.op {
        WriteOp::Set => value.clone(),
        WriteOp::Append => {
            let mut list = sequence(before);
            list.push(value.clone());
            list.into()
        }
        WriteOp::Add => ((number(&before) + number(value)) % MODULUS).into(),
    };
    shared.insert(write.key.clone(), after);
}

fn joined(elements: &[Value], separator: &str) -> String {
    elements.iter().map(text).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_value_has_a_number_a_text_and_a_sequence() {
        let cases = [
            (json!(null), 0, "null", json!([])),
            (json!(true), 1, "true", json!([true])),
            (json!(MODULUS + 2), 2, "1000005", json!([MODULUS + 2])),
            (json!("zwölf"), 5, "zwölf", json!(["zwölf"])),
            (json!([1, "ab", [3, null]]), 6, "[1,ab,[3,null]]", json!([1, "ab", [3, null]])),
            (json!({"a": 1, "b": 2}), 2, "{}", json!([{"a": 1, "b": 2}])),
        ];

        for (value, as_number, as_text, as_sequence) in cases {
            assert_eq!(number(&value), as_number, "{value}");
            assert_eq!(text(&value), as_text, "{value}");
            assert_eq!(json!(sequence(value)), as_sequence);
        }
    }

    #[test]
    fn functions_compute_what_the_kit_says() {
        let cases = [
            (json!({"fn": "identity"}), json!([1]), json!([1])),
            (json!({"fn": "add", "k": 1_000_004}), json!(1), json!(2)),
            (
                json!({"fn": "mul", "k": 2_147_483_647, "m": 7}),
                json!(1_000_002),
                json!(2_147_483_647_u64 * 1_000_002 % 7),
            ),
            (json!({"fn": "sum"}), json!([1, 2, "abc"]), json!(6)),
            (json!({"fn": "len"}), json!(null), json!(0)),
            (json!({"fn": "wrap", "before": "<", "after": ">"}), json!([null, false]), json!("<[null,false]>")),
            (json!({"fn": "join", "sep": "-"}), json!([1, {}, "x"]), json!("1-{}-x")),
        ];

        for (function, value, result) in cases {
            let function: Function = serde_json::from_value(function).unwrap();
            assert_eq!(call(&function, &value), result, "{function:?}");
        }
    }

    #[test]
    fn a_missing_key_is_written_as_if_it_were_null() {
        let mut shared = Shared::new();

        for (op, key) in [(WriteOp::Set, "set"), (WriteOp::Append, "append"), (WriteOp::Add, "add")] {
            write(&mut shared, &Write { op, key: key.to_owned() }, &json!("abc"));
        }

        assert_eq!(Value::Object(shared), json!({"set": "abc", "append": ["abc"], "add": 3}));
    }
}
