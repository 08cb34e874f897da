//! The README, the pages of the guide and those of the macros, whose code is compiled and run as doc tests.
//!
//! There is an item for each page. They exist while doc tests are collected, and in no build. A page whose code needs a
//! feature is there with that feature only: `cargo test -p flowstone --doc --all-features` runs them all.

macro_rules! pages {
    ($($(#[$only:meta])* $name:ident = $path:literal),+ $(,)?) => {$(
        $(#[$only])*
        #[doc = include_str!($path)]
        struct $name;
    )+};
}

pages! {
    #[cfg(feature = "durable")]
    Readme = "../../../README.md",
    Guide = "../../../docs/guide/README.md",
    #[cfg(feature = "cli")]
    FiveMinutes = "../../../docs/guide/five-minutes.md",
    Nodes = "../../../docs/guide/nodes.md",
    Actions = "../../../docs/guide/actions.md",
    Flows = "../../../docs/guide/flows.md",
    #[cfg(feature = "durable")]
    Batches = "../../../docs/guide/batches.md",
    Async = "../../../docs/guide/async.md",
    ErrorsAndRetries = "../../../docs/guide/errors-and-retries.md",
    #[cfg(feature = "durable")]
    Durable = "../../../docs/guide/durable.md",
    #[cfg(all(feature = "durable", feature = "schema"))]
    Pauses = "../../../docs/guide/pauses.md",
    #[cfg(feature = "durable")]
    History = "../../../docs/guide/history.md",
    #[cfg(feature = "durable")]
    Operations = "../../../docs/guide/operations.md",
    #[cfg(feature = "cli")]
    Cli = "../../../docs/guide/cli.md",
    #[cfg(feature = "llm")]
    Models = "../../../docs/guide/models.md",
    #[cfg(all(feature = "llm", feature = "durable"))]
    StructuredOutput = "../../../docs/guide/structured-output.md",
    #[cfg(feature = "mcp")]
    Tools = "../../../docs/guide/tools.md",
    #[cfg(all(feature = "llm", feature = "durable"))]
    Agents = "../../../docs/guide/agents.md",
    #[cfg(feature = "otel")]
    Watching = "../../../docs/guide/watching.md",
    Events = "../../../docs/guide/events.md",
    #[cfg(feature = "llm")]
    Testing = "../../../docs/guide/testing.md",
    MacroNode = "../../macros/docs/node.md",
    MacroAction = "../../macros/docs/action.md",
    #[cfg(feature = "llm")]
    MacroTool = "../../macros/docs/tool.md",
    FromPocketflow = "../../../docs/guide/from-pocketflow.md",
}
