//! The cases.

use crate::measure::Case;

mod async_chain;
mod chain;
mod concurrent;
mod fanout;

/// All cases.
pub const CASES: [Case; 5] = [
    Case { name: "chain", n: 10_000_000, unit: "steps", ours: chain::ours, limit: chain::limit, memory: false },
    Case {
        name: "async-chain",
        n: 5_000_000,
        unit: "steps",
        ours: async_chain::ours,
        limit: async_chain::limit,
        memory: false,
    },
    Case {
        name: "concurrent",
        n: 1_000_000,
        unit: "runs",
        ours: concurrent::ours,
        limit: concurrent::limit,
        memory: true,
    },
    Case { name: "fanout", n: 1_000_000, unit: "items", ours: fanout::ours, limit: fanout::limit, memory: true },
    Case {
        name: "fanout-100",
        n: 20_000,
        unit: "items",
        ours: fanout::ours_100,
        limit: fanout::limit_100,
        memory: true,
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

/// Whether a chain goes on.
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
