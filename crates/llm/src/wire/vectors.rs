//! Vectors of texts: asked for in one form by nearly all services, and given back in several.

use serde_json::{Value, json};

use super::{
    json::{count, field, list},
    openai::counted,
};
use crate::request::Tokens;

pub(super) fn encode(model: &str, texts: &[String]) -> Value {
    json!({ "model": model, "input": texts })
}

/// The vectors in a reply, in the order of their texts, and what they took: in all forms that services have for it.
pub(super) fn read(body: &Value) -> (Vec<Vec<f32>>, Option<Tokens>) {
    let entries = match body {
        Value::Array(entries) => entries.as_slice(),
        // Of one text.
        body if body.get("embedding").is_some() => std::slice::from_ref(body),
        _ => {
            let by_kind = field(body, "embeddings").map_or(&[][..], |kinds| list(kinds, "float"));
            let places = [list(body, "data"), list(body, "embeddings"), by_kind];
            places.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
        }
    };
    let mut vectors: Vec<(u64, Vec<f32>)> = entries
        .iter()
        .enumerate()
        .map(|(place, entry)| (count(entry, "index").unwrap_or(place as u64), vector(entry)))
        .collect();
    vectors.sort_by_key(|(index, _)| *index);
    let mut counted = field(body, "usage").map(counted).unwrap_or_default();
    counted.input = counted.input.or_else(|| count(body, "prompt_eval_count"));
    if counted.input.is_none() {
        counted.input = field(body, "usage").and_then(|usage| count(usage, "total_tokens"));
    }
    (vectors.into_iter().map(|(_, vector)| vector).collect(), counted.tokens())
}

fn vector(entry: &Value) -> Vec<f32> {
    let numbers = match entry {
        Value::Array(numbers) => numbers.as_slice(),
        Value::Object(_) => {
            let inner = ["embedding", "values", "float"].iter().find_map(|name| field(entry, name));
            return inner.map(vector).unwrap_or_default();
        }
        _ => &[],
    };
    // Of a server that could give one for each word, and gives one for all.
    if let [only @ Value::Array(_)] = numbers {
        return vector(only);
    }
    let vector: Option<Vec<f32>> = numbers.iter().map(|number| number.as_f64().map(|number| number as f32)).collect();
    vector.unwrap_or_default()
}
