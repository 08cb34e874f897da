//! The README and the pages of the guide, whose code is compiled and run as doc tests.
//!
//! There is an item for each page. They exist while doc tests are collected, and in no build.

macro_rules! pages {
    ($($name:ident = $path:literal),+ $(,)?) => {$(
        #[doc = include_str!($path)]
        struct $name;
    )+};
}

pages! {
    Readme = "../../../README.md",
    Guide = "../../../docs/guide/README.md",
    Nodes = "../../../docs/guide/nodes.md",
    Actions = "../../../docs/guide/actions.md",
    Flows = "../../../docs/guide/flows.md",
    Batches = "../../../docs/guide/batches.md",
    Async = "../../../docs/guide/async.md",
    ErrorsAndRetries = "../../../docs/guide/errors-and-retries.md",
    Pauses = "../../../docs/guide/pauses.md",
    Watching = "../../../docs/guide/watching.md",
    Testing = "../../../docs/guide/testing.md",
    FromPocketflow = "../../../docs/guide/from-pocketflow.md",
}
