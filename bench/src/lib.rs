//! The benchmark cases, each with the limit that nothing could beat, written by hand.
//!
//! | case | ours | limit |
//! |---|---|---|
//! | `chain` | a `Flow` of four nodes in a ring | a loop over `dyn` calls with an index table |
//! | `async-chain` | an `AsyncFlow` of four nodes in a ring | a loop over a `Box<dyn Future>` a step with an index table |
//! | `concurrent` | n runs of three nodes that each sleep 50 ms | n tokio tasks that sleep three times |
//! | `fanout`, `fanout-100` | a parallel batch node over n items of 10 ms | `buffer_unordered` |

pub mod cases;
pub mod measure;
