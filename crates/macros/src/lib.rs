//! The macros of Flowstone: the attributes `#[node]` and `#[tool]`, and `#[derive(Action)]`.
//!
//! Users get them from the crate `flowstone`, to which the written code refers as `::flowstone`. In the order in which
//! an `impl` block goes through them:
//!
//! | module | what it does |
//! |---|---|
//! | `node` | takes the attribute and the block, gives back the block and a trait `impl` |
//! | `method` | finds the phases by name, checks what holds for all of them |
//! | `signature` | reads what each phase takes and gives |
//! | `forward` | writes the trait `impl` that calls the user's methods |
//! | `types`, `errors` | what can be told of a type by its tokens; many errors at once |
//! | `action` | `#[derive(Action)]` |
//! | `tool` | `#[tool]`: reads the function's parameters, writes the type that holds its services |
//!
//! The pages of `docs/` are what users read of each; their code is run by the tests of `flowstone`, of which this package knows
//! nothing: with it as a dependency of tests, cargo would compile half of the workspace a second time, for the host.
//!
//! # Invariants
//!
//! - The user's methods stay what they are: plain methods that a test calls without the engine.
//! - A wrong signature is an error at the user's line, which says what is expected; all of them come at once.
//! - Written code never calls a phase that the user has not written.

mod action;
mod errors;
mod forward;
mod method;
mod node;
mod signature;
mod tool;
mod types;

use proc_macro::TokenStream;

#[doc = include_str!("../docs/node.md")]
#[proc_macro_attribute]
pub fn node(arguments: TokenStream, item: TokenStream) -> TokenStream {
    node::expand(arguments.into(), item.into()).into()
}

#[doc = include_str!("../docs/action.md")]
#[proc_macro_derive(Action, attributes(action))]
pub fn action(input: TokenStream) -> TokenStream {
    action::expand(input.into()).into()
}

#[doc = include_str!("../docs/tool.md")]
#[proc_macro_attribute]
pub fn tool(arguments: TokenStream, item: TokenStream) -> TokenStream {
    tool::expand(arguments.into(), item.into()).into()
}
