#![allow(unused_variables)]

use flowstone::llm::tool;

struct Docs;

#[tool(name = "find")]
async fn search(&self, docs: &Docs) {}

///
#[tool]
unsafe extern "C" fn generic<T: Clone>(
    /// Some
    all: Vec<impl Clone>,
) -> impl Clone
where
    T: Copy,
{
}

/// Returns a future.
#[tool]
fn future() -> impl Future<Output = u32> {
    async { 1 }
}

/// Borrows.
#[tool]
async fn borrowed(docs: &Docs) -> &str {
    ""
}

/// Nothing to call.
#[tool]
struct Search;

/// Nothing to call.
#[tool]
impl Docs {}

fn main() {}
