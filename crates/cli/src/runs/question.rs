//! An open question in words, with the command that answers it.

use std::path::Path;

use flowstone_durable::Question;
use serde_json::Value;

use crate::{
    screen::compact,
    words::{at, for_shell},
};

/// Shows the question of a run, and the command that answers it.
pub(crate) fn lines(question: &Question, program: &str, store: &Path) -> Vec<String> {
    let Question { run, step, node, .. } = question;
    let mut lines = vec![
        format!("question  at node `{node}`, step {step}, asked {}", at(question.asked_at)),
        format!("asks      {}", compact(&question.question)),
        format!("schema    {}", compact(&question.schema)),
    ];
    if let Some(expires_at) = question.expires_at {
        lines.push(format!("expires   {}", at(expires_at)));
    }
    if let Some(refused) = &question.refused {
        lines.push(format!("refused   the last answer: {refused}"));
    }
    let (run, node, store) = (for_shell(run.as_str()), for_shell(node.as_str()), store.to_string_lossy());
    let (answer, store) = (example(&question.schema), for_shell(&store));
    lines.push(format!("answer    {program} runs answer {run} --node {node} --step {step} {answer} --store {store}"));
    lines
}

/// Returns an answer that fits a schema, as a word of a command line, where the schema is of the simplest kinds.
fn example(schema: &Value) -> String {
    let first = schema.get("enum").and_then(|values| values.get(0));
    match (first, schema.get("type").and_then(Value::as_str)) {
        (Some(Value::String(word)), _) if is_word(word) => for_shell(word).into_owned(),
        (Some(value), _) => for_shell(&compact(value)).into_owned(),
        (None, Some("boolean")) => "true".to_owned(),
        _ => "ANSWER".to_owned(),
    }
}

/// A text that is taken without quotes: it is no JSON, and no file.
fn is_word(text: &str) -> bool {
    let letters = text.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '_');
    letters && !text.is_empty() && serde_json::from_str::<Value>(text).is_err()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_example_is_an_answer_that_fits() {
        let cases = [
            (json!({ "enum": ["yes", "no"] }), "yes"),
            (json!({ "enum": ["true", "false"] }), r#"'"true"'"#),
            (json!({ "enum": ["not yet"] }), r#"'"not yet"'"#),
            (json!({ "enum": [3, 4] }), "3"),
            (json!({ "type": "boolean" }), "true"),
            (json!({ "type": "object" }), "ANSWER"),
            (json!(true), "ANSWER"),
        ];
        for (schema, answer) in cases {
            assert_eq!(example(&schema), answer, "{schema}");
        }
    }
}
