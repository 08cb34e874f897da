//! Finds the JSON in a reply: the whole of it, or one object in a fenced block or among other text.
//!
//! Nothing is guessed: of two different objects none is taken, and broken JSON stays broken.

use serde_json::{Deserializer, Value};

/// The most braces that are looked at for the beginning of an object.
const LOOKS: usize = 64;

/// Returns the one JSON value of a reply, or what is wrong with it.
pub(super) fn find(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the reply has no text".to_owned());
    }
    let whole = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Some(value) = fenced(text).and_then(|block| serde_json::from_str(block).ok()) {
        return Ok(value);
    }
    match among(text) {
        Among::One(value) => Ok(value),
        Among::Several => Err("the reply has more than one JSON object".to_owned()),
        Among::None => Err(format!("the reply is not JSON: {whole}")),
    }
}

/// The inside of the fenced block, if there is exactly one.
fn fenced(text: &str) -> Option<&str> {
    let mut parts = text.split("```");
    let (_, block, _, more) = (parts.next()?, parts.next()?, parts.next()?, parts.next());
    let inside = block.strip_prefix("json").or_else(|| block.strip_prefix("JSON")).unwrap_or(block);
    more.is_none().then_some(inside)
}

enum Among {
    None,
    One(Value),
    Several,
}

/// The objects that begin at a brace and are whole.
fn among(text: &str) -> Among {
    let (mut found, mut from) = (None, 0);
    for _ in 0..LOOKS {
        let Some(brace) = text[from..].find('{').map(|offset| from + offset) else { break };
        let mut values = Deserializer::from_str(&text[brace..]).into_iter::<Value>();
        if let Some(Ok(value)) = values.next() {
            from = brace + values.byte_offset();
            match &found {
                Some(first) if *first != value => return Among::Several,
                _ => found = Some(value),
            }
        } else if text[brace + 1..].trim_start().starts_with('"') {
            // An object that does not end is broken: neither its own inside nor an object before it is the reply.
            return Among::None;
        } else {
            from = brace + 1;
        }
    }
    found.map_or(Among::None, Among::One)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::find;

    #[test]
    fn an_object_is_found_alone_in_a_fence_and_among_text() {
        let texts = [
            " {\"a\": 1}\n",
            "```json\n{\"a\": 1}\n```",
            "Here you are:\n```\n{\"a\": 1}\n```\nAnything else?",
            "Sure! {\"a\": 1} Anything {else}?",
            "The set {1, 2}: {\"a\": 1}",
        ];

        for text in texts {
            assert_eq!(find(text), Ok(json!({ "a": 1 })), "{text}");
        }
    }

    #[test]
    fn what_could_be_meant_in_two_ways_or_is_broken_is_not_taken() {
        let texts = [
            "",
            "no",
            "{\"a\": 1} or {\"a\": 2}",
            "{\"a\": {\"b\": 1}",
            "{\n  \"a\": {\"b\": 1},\n",
            "{\"a\": 1",
            "[{\"a\": 1}, {\"a\":",
            "{{{{",
        ];

        let faults = texts.map(|text| find(text).err());

        assert_eq!(
            faults,
            [
                "the reply has no text",
                "the reply is not JSON: expected ident at line 1 column 2",
                "the reply has more than one JSON object",
                "the reply is not JSON: EOF while parsing an object at line 1 column 14",
                "the reply is not JSON: EOF while parsing a value at line 2 column 16",
                "the reply is not JSON: EOF while parsing an object at line 1 column 7",
                "the reply is not JSON: EOF while parsing a value at line 1 column 16",
                "the reply is not JSON: key must be a string at line 1 column 2",
            ]
            .map(|fault| Some(fault.to_owned()))
        );
    }
}
