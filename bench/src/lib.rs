//! The benchmark cases, each with the limit that nothing could beat, written by hand.
//!
//! | case | ours | limit |
//! |---|---|---|
//! | `chain` | a `Flow` of four nodes in a ring | a loop over `dyn` calls with an index table |
//! | `async-chain` | an `AsyncFlow` of four nodes in a ring | a loop over a `Box<dyn Future>` a step with an index table |
//! | `concurrent` | n runs of three nodes that each sleep 50 ms | n tokio tasks that sleep three times |
//! | `fanout`, `fanout-100` | a parallel batch node over n items of 10 ms | `buffer_unordered` |
//! | `llm-call` | n calls of a model at once, each in a run of its own | `reqwest` and `serde_json` by hand, with the same pool of connections |
//! | `llm-first-token` | n streams, one after another, each until its first piece of text is heard | the first piece by hand |
//! | `llm-waiting` | n calls at once that nobody answers: memory | n requests of reqwest: the connections alone |
//!
//! The service of the `llm` cases is in the same process, and costs both sides the same.

pub mod cases;
pub mod measure;
