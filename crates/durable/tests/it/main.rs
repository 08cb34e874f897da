//! Durable runs from outside: through the public API, over files in a folder that goes away.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

mod children;
mod closing;
mod delete;
mod files;
mod fixture;
mod flows;
mod follow;
mod history;
mod items;
mod lifecycle;
mod migrate;
mod model;
mod owner;
mod pauses;
mod retry;
mod sleeps;
mod start;
mod stops;
mod stress;
