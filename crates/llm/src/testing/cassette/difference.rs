//! The differences between two requests, for people.

use std::fmt;

use serde_json::Value;

use crate::schema::shorten;

/// The most places that are named.
const NAMED: usize = 5;

/// The most characters of a value that are shown.
const SHOWN: usize = 60;

/// The most characters that are shown of what two texts have in common, before they differ.
const COMMON: usize = 15;

/// The places at which two values differ.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Each with its path, and what is there.
    places: Vec<(String, String)>,
    size: usize,
}

/// The size of a place at which nothing is alike.
const PLACE: usize = 1_000;

impl Difference {
    pub(super) fn between(asked: &Value, kept: &Value) -> Self {
        let mut difference = Self::default();
        difference.walk(String::new(), Some(asked), Some(kept));
        difference
    }

    /// The size of the difference: to compare, not to show.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    fn walk(&mut self, path: String, asked: Option<&Value>, kept: Option<&Value>) {
        match (asked, kept) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let more = b.keys().filter(|key| !a.contains_key(*key));
                for key in a.keys().chain(more) {
                    let step = key.replace('~', "~0").replace('/', "~1");
                    self.walk(format!("{path}/{step}"), a.get(key), b.get(key));
                }
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) => {
                for i in 0..a.len().max(b.len()) {
                    self.walk(format!("{path}/{i}"), a.get(i), b.get(i));
                }
            }
            (a, b) if a == b => {}
            (Some(Value::String(a)), Some(Value::String(b))) => {
                let begin = alike(a.chars(), b.chars());
                let end = alike(a.chars().rev(), b.chars().rev());
                let longer = a.chars().count().max(b.chars().count());
                let from = if begin > SHOWN / 2 { begin - COMMON } else { 0 };
                let differing = longer.saturating_sub(begin + end);
                self.note(path, &part(a, from), &part(b, from), PLACE / 2 + PLACE / 2 * differing / longer.max(1));
            }
            (a, b) => self.note(path, &shown(a), &shown(b), PLACE),
        }
    }

    fn note(&mut self, path: String, asked: &str, kept: &str, size: usize) {
        self.size += size;
        let path = if path.is_empty() { "/".to_owned() } else { path };
        self.places.push((path, format!("{asked} instead of {kept}")));
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.places.iter().take(NAMED).map(|(path, what)| format!("`{path}`: {what}")).collect();
        f.write_str(&places.join("; "))?;
        match self.places.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and at {more} more places"),
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| shorten(&value.to_string(), SHOWN))
}

/// Returns how many characters two texts have in common, from one end.
fn alike(a: impl Iterator<Item = char>, b: impl Iterator<Item = char>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

fn part(text: &str, from: usize) -> String {
    let rest: String = text.chars().skip(from).collect();
    let (before, rest) = (if from > 0 { "…" } else { "" }, shorten(&rest, SHOWN));
    format!("{:?}", format!("{before}{rest}"))
}
