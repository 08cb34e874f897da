//! The tests of the core from outside, a module for each subject, in one program.
//!
//! Rows of the semantics and of the lessons from other engines are named where they are pinned.

mod common;

mod batch;
mod batch_flow;
mod blocking_job;
mod budget;
mod build_faults;
mod cancel;
mod deadline;
mod dropped;
mod errors;
mod events;
mod execution;
mod expire;
mod flow;
mod guards;
mod journal;
mod journaled_children;
mod keys;
mod modes;
mod nested;
mod node_checks;
mod panics;
mod parallel;
mod pause;
mod pictures;
mod pool;
mod random_graphs;
mod retry;
mod run_in;
#[cfg(feature = "schema")]
mod schema;
mod sizes;
mod sleep;
mod spawned;
mod stops;
mod stream;
mod string_actions;
mod terminal_event;
mod timeout;
mod visit;
mod waits;
mod within;
