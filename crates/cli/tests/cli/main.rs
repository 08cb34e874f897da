//! The program `flowstone`, and one with flows of its own, as a shell sees them: output, exit codes, errors.
//!
//! The stores are made through the library, with the flows of the example `desk`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod change;
mod common;
mod drive;
mod errors;
#[path = "../../examples/desk/flows.rs"]
mod flows;
mod graph;
mod help;
mod look;
mod new;
mod used;
