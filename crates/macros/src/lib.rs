//! The `#[node]` attribute and the `Action` derive.
use proc_macro::TokenStream;

/// Being built.
#[proc_macro_attribute]
pub fn node(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}

/// Being built.
#[proc_macro_derive(Action, attributes(action))]
pub fn action(_: TokenStream) -> TokenStream {
    TokenStream::new()
}
