//! Durable runs from outside: through the public API, over files in a folder that goes away.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

mod answered_between;
mod asking;
mod budget;
mod changed_items;
mod children;
mod clocks;
mod closing;
mod concurrency;
mod deaths;
mod delete;
mod expiry;
mod files;
mod fitness;
mod fixture;
mod flows;
mod follow;
mod full_pool;
mod group;
mod heard;
mod history;
mod items;
mod keys;
mod late_answers;
mod lifecycle;
mod list;
mod listen;
mod migrate;
mod model;
mod moved;
mod owner;
mod pair;
mod panics;
mod pauses;
mod races;
mod reading;
mod refused;
mod retry;
mod run_in;
mod side_by_side;
mod sizes;
mod skipped;
mod sleeps;
mod start;
mod statements;
mod stops;
mod storable;
mod stress;
mod two_at_once;
mod unregistered;
mod usage;
mod usage_children;
