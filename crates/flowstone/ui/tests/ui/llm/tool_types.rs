use std::{cell::Cell, rc::Rc};

use flowstone::prelude::*;

struct Filter;

/// Searches.
#[tool]
async fn search(
    /// Which
    filter: Filter,
) -> u32 {
    let _ = filter;
    1
}

/// Counts.
#[tool]
async fn count(counter: &Cell<u32>) -> u32 {
    counter.get()
}

/// Waits.
#[tool]
async fn waits() {
    let held = Rc::new(1);
    std::future::ready(()).await;
    drop(held);
}

struct Unwritten;

/// Returns what is no JSON.
#[tool]
async fn unwritten() -> Unwritten {
    Unwritten
}

struct NoError;

/// Fails with what is no error.
#[tool]
async fn fails() -> Result<u32, NoError> {
    Err(NoError)
}

fn main() {}
