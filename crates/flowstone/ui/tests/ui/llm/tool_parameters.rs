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
    /// The kinds
    kinds: &[String],
    /// The number, and its unit
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
    /// The query
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
