//! Kills durable runs.
fn main() {}
