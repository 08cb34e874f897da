//! Writing the trait `impl` that forwards to the user's methods.
//!
//! A phase is called as `Self::prep(self, …)`, which is the inherent method, since those come before a trait's.
//!
//! **Invariant:** what the user has not written is never called: `Self::exec` would then be the trait's own, and call
//! itself without end.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{GenericParam, ItemImpl, Type, WhereClause, parse_quote, parse_quote_spanned, spanned::Spanned};

use crate::{
    node::Shape,
    signature::{Node, Phase, Value},
};

pub(crate) fn implementation(item: &ItemImpl, node: &Node) -> TokenStream {
    let self_ty = &item.self_ty;
    let cfgs = item.attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    let (generics, state, bounds) = generics(item, node.state.as_ref());
    let phases = [&node.prep, &node.exec, &node.fallback, &node.post];
    let is_async = phases.into_iter().flatten().any(|phase| phase.is_async);
    let name = match (node.shape, is_async) {
        (Shape::Single, false) => quote!(Node),
        (Shape::Single, true) => quote!(AsyncNode),
        (Shape::Batch, false) => quote!(BatchNode),
        (Shape::Batch, true) => quote!(AsyncBatchNode),
    };
    let types = types(node);
    let methods = methods(node, &state, is_async);
    quote! {
        #(#cfgs)*
        #[automatically_derived]
        #[allow(trivial_bounds, reason = "the bound on the state is there for its message")]
        impl #generics ::flowstone::#name<#state> for #self_ty #bounds {
            #types
            #methods
        }
    }
}

/// The generics of the `impl`, the state, and the bounds: the user's, and that the state is one.
///
/// The bound says what a state is at the place where the user names it; without it the compiler would report the
/// phases' futures instead.
fn generics(item: &ItemImpl, state: Option<&Type>) -> (TokenStream, TokenStream, TokenStream) {
    let mut generics = item.generics.clone();
    let (state, at) = match state {
        Some(state) => (state.to_token_stream(), here(state.span())),
        None => {
            let any = Ident::new("__State", Span::mixed_site());
            generics.params.push(GenericParam::Type(parse_quote!(#any)));
            (any.into_token_stream(), Span::call_site())
        }
    };
    let bounds: &mut WhereClause = generics.make_where_clause();
    bounds.predicates.push(parse_quote_spanned!(at=> #state: ::flowstone::State));
    let (generics, _, bounds) = generics.split_for_impl();
    (generics.to_token_stream(), state, bounds.to_token_stream())
}

fn types(node: &Node) -> TokenStream {
    let Node { prep_type, exec_type, outcome, action, .. } = node;
    match node.shape {
        Shape::Single => quote! {
            type Prep = #prep_type;
            type Exec = #exec_type;
            type Action = #action;
        },
        Shape::Batch => quote! {
            type Item = #prep_type;
            type Output = #exec_type;
            type Outcome = #outcome;
            type Action = #action;
        },
    }
}

fn methods(node: &Node, state: &TokenStream, is_async: bool) -> TokenStream {
    let Node { prep_type, exec_type, outcome, action, .. } = node;
    let (given, made) = match node.shape {
        Shape::Single => (quote!(#prep_type), quote!(#exec_type)),
        Shape::Batch => (quote!(::std::vec::Vec<#prep_type>), quote!(::std::vec::Vec<#outcome>)),
    };
    let (shared, borrowed) = ((Value::Shared, quote!(&#state)), (Value::Prep, quote!(&#prep_type)));
    let error = (Value::Error, quote!(::flowstone::NodeError));
    let context = (Value::Context, quote!(&::flowstone::Context));

    let prep = method("prep", node.prep.as_ref(), &[shared], &given, is_async);
    let exec = method("exec", node.exec.as_ref(), &[borrowed.clone(), context.clone()], exec_type, is_async);
    let fallback = node
        .fallback
        .as_ref()
        .map(|fallback| method("exec_fallback", Some(fallback), &[borrowed, error, context], exec_type, is_async));
    let params = [(Value::Shared, quote!(&mut #state)), (Value::Prep, given), (Value::Exec, made)];
    let post = method("post", node.post.as_ref(), &params, action, is_async);
    quote!(#prep #exec #fallback #post)
}

/// One method of the trait: it calls the user's phase, or, where there is none, returns `()`.
///
/// Its header is at the user's own, so that what is said of it is said there: of a future that is not `Send`, say.
fn method(
    name: &str,
    phase: Option<&Phase>,
    params: &[(Value, TokenStream)],
    returns: impl ToTokens,
    is_async: bool,
) -> TokenStream {
    let at = phase.map_or_else(Span::call_site, |phase| here(phase.name.span()));
    let name = Ident::new(name, at);
    let asyncness = is_async.then(|| quote_spanned!(at=> async));
    let params = params.iter().map(|(value, ty)| {
        let is_used = phase.is_some_and(|phase| phase.arguments.iter().any(|(argument, _)| argument == value));
        let pattern = if is_used { value.ident(Span::call_site()).into_token_stream() } else { quote!(_) };
        quote!(#pattern: #ty)
    });
    let result = phase.map_or_else(|| quote!(()), call);
    let checks = phase.map(checks);
    let body = quote! {
        #checks
        let result: #returns = #result;
        ::core::result::Result::Ok(result)
    };
    quote_spanned! {at=>
        #asyncness fn #name(&self, #(#params),*) -> ::flowstone::Result<#returns> { #body }
    }
}

/// The call of a user's phase, each part at the place where the user wrote what it has to fit.
fn call(phase: &Phase) -> TokenStream {
    let at = here(phase.at);
    let name = Ident::new(&phase.name.to_string(), at);
    let arguments = phase.arguments.iter().map(|(value, span)| value.ident(here(*span)));
    let call = quote_spanned!(at=> Self::#name(self, #(#arguments),*));
    let call = if phase.is_async { quote_spanned!(at=> #call.await) } else { call };
    if phase.fallible { quote_spanned!(at=> #call?) } else { call }
}

/// Lets the compiler refuse what was taken for a value by its name, and is something else by its type.
fn checks(phase: &Phase) -> TokenStream {
    let at = here(phase.at);
    let gives = &phase.gives;
    let kind = quote_spanned!(at=> ::flowstone::__macros::kind_of::<#gives>());
    let is_value = (!phase.fallible).then(|| quote_spanned!(at=> ::flowstone::__macros::no_result(#kind.result());));
    let one_state = phase.states.as_ref().map(|(written, state)| {
        let at = here(written.span());
        quote_spanned!(at=> ::flowstone::__macros::one_state::<#written, #state>();)
    });
    quote_spanned! {at=>
        {
            use ::flowstone::__macros::Otherwise as _;
            #one_state
            #is_value
            ::flowstone::__macros::no_future(#kind.future());
        }
    }
}

impl Value {
    fn ident(self, span: Span) -> Ident {
        let name = match self {
            Self::Shared => "shared",
            Self::Prep => "prep",
            Self::Exec => "exec",
            Self::Error => "error",
            Self::Context => "cx",
        };
        Ident::new(name, span)
    }
}

/// The user's place, with the names of the macro: so a message points there, and no lint takes the code for the user's.
fn here(span: Span) -> Span {
    span.resolved_at(Span::call_site())
}
