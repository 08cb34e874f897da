//! The cases.

use crate::measure::{Bytes, Case};

mod async_chain;
mod chain;
mod concurrent;
mod durable;
mod fanout;
mod llm;

/// All cases.
pub const CASES: [Case; 12] = [
    Case {
        name: "chain",
        n: 10_000_000,
        unit: "steps",
        ours: chain::ours,
        limit: chain::limit,
        bytes: Bytes::Uncounted,
    },
    Case {
        name: "async-chain",
        n: 5_000_000,
        unit: "steps",
        ours: async_chain::ours,
        limit: async_chain::limit,
        bytes: Bytes::Uncounted,
    },
    Case {
        name: "concurrent",
        n: 1_000_000,
        unit: "runs",
        ours: concurrent::ours,
        limit: concurrent::limit,
        bytes: Bytes::Memory,
    },
    Case {
        name: "fanout",
        n: 1_000_000,
        unit: "items",
        ours: fanout::ours,
        limit: fanout::limit,
        bytes: Bytes::Memory,
    },
    Case {
        name: "fanout-100",
        n: 20_000,
        unit: "items",
        ours: fanout::ours_100,
        limit: fanout::limit_100,
        bytes: Bytes::Memory,
    },
    Case {
        name: "durable-chain",
        n: 1_000,
        unit: "visits",
        ours: durable::chain,
        limit: durable::chain_limit,
        bytes: Bytes::File,
    },
    Case {
        name: "durable-many",
        n: 100_000,
        unit: "visits",
        ours: durable::many,
        limit: durable::many_limit,
        bytes: Bytes::File,
    },
    Case {
        name: "durable-many-chats",
        n: 100_000,
        unit: "visits",
        ours: durable::many_chats,
        limit: durable::many_chats_limit,
        bytes: Bytes::File,
    },
    Case {
        name: "durable-resume",
        n: 100_000,
        unit: "runs",
        ours: durable::resume,
        limit: durable::resume_limit,
        bytes: Bytes::Uncounted,
    },
    Case {
        name: "llm-call",
        n: 1_000,
        unit: "calls",
        ours: llm::call,
        limit: llm::call_limit,
        bytes: Bytes::Uncounted,
    },
    Case {
        name: "llm-first-token",
        n: 500,
        unit: "calls",
        ours: llm::first_token,
        limit: llm::first_token_limit,
        bytes: Bytes::Uncounted,
    },
    Case {
        name: "llm-waiting",
        n: 1_000,
        unit: "calls",
        ours: llm::waiting,
        limit: llm::waiting_limit,
        bytes: Bytes::Memory,
    },
];

/// A step that a benchmark takes cannot fail.
fn sure<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.expect("invariant: nothing in a benchmark fails")
}

fn runtime() -> tokio::runtime::Runtime {
    sure(tokio::runtime::Builder::new_multi_thread().enable_time().build())
}

/// The state of the chains: how many steps are done, of how many.
struct Count {
    done: u64,
    of: u64,
}

/// The labels of a chain: it goes on or ends.
#[derive(Clone, Copy, flowstone::Action)]
enum Go {
    On,
    Out,
}

impl Count {
    fn go(&self) -> Go {
        if self.done < self.of { Go::On } else { Go::Out }
    }
}
