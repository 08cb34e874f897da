#![allow(unused_variables)]

use flowstone::prelude::*;

struct Docs;
struct Named<'a>(&'a str);

/// Searches.
#[tool]
async fn search(
    docs: &mut Docs,
    query: String,
    /// Where
    place: &str,
    /// What kinds
    kinds: &[String],
    /// How many, and of what
    (limit, unit): (u32, String),
    _: &Docs,
    cx: Context,
) {
}

/// Searches.
#[tool]
async fn find<'a>(
    first: &Context,
    second: &Context,
    #[serde(default)] docs: &Docs,
    #[cfg(unix)]
    /// What
    query: String,
    named: &Named<'a>,
    /// Whom
    whom: Named<'a>,
) {
}

/// Looks.
#[tool]
async fn look(docs: &'static Docs) {}

fn main() {}
