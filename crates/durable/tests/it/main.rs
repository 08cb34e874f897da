//! Durable runs from outside: through the public API, over files in a folder that goes away.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

mod delete;
mod files;
mod flows;
mod lifecycle;
mod list;
mod migrate;
mod model;
mod retry;
mod start;
mod stops;
mod stress;
