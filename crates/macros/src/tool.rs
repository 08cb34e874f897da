//! `#[tool]`: from a function to the same function, and a type of its name that implements `Tool`.
//!
//! ```text
//! fn ── signature::read ─▶ services, arguments, context ── write ─▶ struct of the services
//!                                                                   └ impl Tool: arguments from JSON, call, result to text
//! ```
//!
//! The struct has the function's name, which is free: functions are values, structs with braces are types.
//!
//! **Invariant:** the user's function is given back whatever is wrong with it, so that one mistake is one error.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, Item, ItemFn, parse2};

use crate::node::{and_error, head};

mod signature;
mod write;

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = match parse2::<Item>(item) {
        Ok(Item::Fn(function)) => function,
        Ok(other) => {
            let message = "`#[tool]` stands over a function: `async fn search(docs: &Docs, /// …`";
            return and_error(&other, &Error::new_spanned(head(&other), message));
        }
        Err(error) => return error.to_compile_error(),
    };
    let tool = signature::read(arguments, &function).map(|tool| write::implementation(&function, &tool));
    let function = plain(function);
    match tool {
        Ok(implementation) => quote!(#function #implementation),
        Err(error) => and_error(&function, &error),
    }
}

/// Takes off what the compiler does not know, and lets the function have what a tool asks for, whatever the linter makes
/// of it. The attribute comes first, so that one of the user's own wins.
fn plain(mut function: ItemFn) -> ItemFn {
    for input in &mut function.sig.inputs {
        if let FnArg::Typed(param) = input {
            param.attrs.retain(|attr| !signature::MOVED.iter().any(|moved| attr.path().is_ident(moved)));
        }
    }
    let allow = syn::parse_quote!(#[allow(
        clippy::missing_errors_doc,
        clippy::missing_panics_doc,
        clippy::needless_pass_by_value,
        clippy::trivially_copy_pass_by_ref,
        clippy::unused_async,
        reason = "its parameters are those of a tool, and its doc comment is for a model"
    )]);
    function.attrs.insert(0, allow);
    function
}
