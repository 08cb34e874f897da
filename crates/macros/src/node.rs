//! `#[node]`: from an inherent `impl` block to the same block and an `impl` of a node trait that forwards to it.
//!
//! ```text
//! impl block ── method::find ─▶ the phases ── signature::read ─▶ what each takes and gives ── forward ─▶ trait impl
//! ```
//!
//! **Invariant:** the user's block is given back whatever is wrong with it, so that one mistake is one error.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Error, ImplItem, Item, ItemImpl, Meta, Result, Token, parse::Parser, parse2, punctuated::Punctuated};

use crate::{errors::Errors, forward, method, signature};

/// Which of the traits is asked for; whether it is the async one is seen from the phases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Single,
    Batch,
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = match parse2::<Item>(item) {
        Ok(Item::Impl(item)) => item,
        Ok(other) => {
            let message = "`#[node]` stands over the `impl` block with the node's phases: `impl Fetch { fn prep… }`";
            return and_error(&other, &Error::new_spanned(head(&other), message));
        }
        Err(error) => return error.to_compile_error(),
    };
    match implement(arguments, &item) {
        Ok(implementation) => {
            let item = quiet(item);
            quote!(#item #implementation)
        }
        Err(error) => and_error(&item, &error),
    }
}

fn implement(arguments: TokenStream, item: &ItemImpl) -> Result<TokenStream> {
    let shape = shape(arguments)?;
    if let Some((path, _)) = &item.trait_ {
        let message = "`#[node]` writes the `impl` of a trait itself: put it over an inherent `impl Type { … }`";
        return Err(Error::new_spanned(path, message));
    }
    let mut errors = Errors::default();
    let methods = method::find(item, &mut errors);
    let node = signature::read(item, shape, &methods, &mut errors);
    errors.finish()?;
    Ok(forward::implementation(item, &node))
}

/// Reads what stands in the parentheses of `#[node(…)]`.
fn shape(arguments: TokenStream) -> Result<Shape> {
    let mut errors = Errors::default();
    let mut shape = Shape::Single;
    // `async` is a keyword, and so not a `Meta`; the words are read as tokens to answer for it, too.
    let words = Punctuated::<TokenStream, Token![,]>::parse_terminated_with;
    let words = (|input: syn::parse::ParseStream<'_>| words(input, word)).parse2(arguments)?;
    for word in words {
        match word.to_string().as_str() {
            "batch" if shape == Shape::Single => shape = Shape::Batch,
            "batch" => errors.at(word, "`batch` is there twice"),
            "async" => errors.at(word, "a node is async if one of its phases is an `async fn`; leave `async` out here"),
            "parallel" | "spawned" => errors.at(
                word,
                "how many items run at once is said where the node is added: `flow.add(\"name\", Node.parallel(8))`; \
                 here it is `#[node(batch)]`",
            ),
            _ => errors.at(word, "unknown argument: it is `#[node]`, or `#[node(batch)]` for one `exec` per item"),
        }
    }
    errors.finish()?;
    Ok(shape)
}

fn word(input: syn::parse::ParseStream<'_>) -> Result<TokenStream> {
    if input.peek(Token![async]) {
        return Ok(input.parse::<Token![async]>()?.into_token_stream());
    }
    if input.peek(syn::Lit) {
        return Ok(input.parse::<syn::Lit>()?.into_token_stream());
    }
    Ok(input.parse::<Meta>()?.into_token_stream())
}

/// Lets the phases have the signatures that the engine asks for, whatever the linter makes of them.
///
/// The attribute comes first, so that one of the user's own wins.
fn quiet(mut item: ItemImpl) -> ItemImpl {
    for member in &mut item.items {
        if let ImplItem::Fn(function) = member
            && method::PHASES.contains(&function.sig.ident.to_string().as_str())
        {
            let allow = syn::parse_quote!(#[allow(
                clippy::needless_pass_by_value,
                clippy::ptr_arg,
                clippy::trivially_copy_pass_by_ref,
                clippy::unused_self,
                reason = "the signature of a phase is the engine's"
            )]);
            function.attrs.insert(0, allow);
        }
    }
    item
}

/// The words before the body of an item: its keyword and name are enough to point at.
pub(crate) fn head(item: &Item) -> TokenStream {
    let is_attribute =
        |tree: &proc_macro2::TokenTree| matches!(tree, proc_macro2::TokenTree::Punct(p) if p.as_char() == '#');
    let mut tokens = item.to_token_stream().into_iter().peekable();
    while tokens.next_if(is_attribute).is_some() {
        tokens.next();
    }
    tokens.take_while(|tree| matches!(tree, proc_macro2::TokenTree::Ident(_))).collect()
}

pub(crate) fn and_error(item: impl ToTokens, error: &Error) -> TokenStream {
    let error = error.to_compile_error();
    quote!(#item #error)
}
