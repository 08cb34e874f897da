//! `#[derive(Action)]`: an enum without fields as the labels of a node.

use std::collections::BTreeMap;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Data, DataEnum, DeriveInput, Expr, ExprLit, Fields, Lit, LitStr, Meta, Result, Token, Variant, ext::IdentExt,
    parse2,
};

use crate::errors::Errors;

/// The label's name that makes `a >> b` an edge.
const DEFAULT: &str = "default";

pub(crate) fn expand(input: TokenStream) -> TokenStream {
    parse2(input).and_then(|input| implement(&input)).unwrap_or_else(|error| error.to_compile_error())
}

fn implement(input: &DeriveInput) -> Result<TokenStream> {
    let mut errors = Errors::default();
    if !input.generics.params.is_empty() {
        errors.at(&input.generics, "an action has no generics: its labels are names");
    }
    for attr in input.attrs.iter().filter(|attr| attr.path().is_ident("action")) {
        errors.at(attr, "`#[action(name = \"…\")]` stands on a variant");
    }
    let Data::Enum(data) = &input.data else {
        errors.at(&input.ident, "an action is an enum without fields: each variant is a label");
        errors.finish()?;
        return Ok(TokenStream::new());
    };
    if data.variants.is_empty() {
        errors.at(&input.ident, "an action has at least one variant; a node with nothing to choose returns `()`");
    }
    let names = names(data, &mut errors);
    errors.finish()?;
    Ok(labels(input, data, &names))
}

fn labels(input: &DeriveInput, data: &DataEnum, names: &[String]) -> TokenStream {
    let ty = &input.ident;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    let indices: Vec<_> = (0..names.len()).collect();
    let about = data.variants.iter().map(description);
    let default = names.iter().any(|name| name == DEFAULT).then(|| {
        quote! {
            #[automatically_derived]
            impl ::flowstone::HasDefault for #ty {}
        }
    });
    quote! {
        #[automatically_derived]
        impl ::flowstone::Label for #ty {
            const NAMES: &'static [&'static str] = &[#(#names),*];

            #[inline]
            fn index(&self) -> ::core::option::Option<usize> {
                ::core::option::Option::Some(match self {
                    #(Self::#variants => #indices,)*
                })
            }

            #[inline]
            fn action(self) -> ::flowstone::Action {
                ::flowstone::Action::from(match self {
                    #(Self::#variants => #names,)*
                })
            }
        }

        #[automatically_derived]
        impl ::flowstone::Choice for #ty {
            const ABOUT: &'static [&'static str] = &[#(#about),*];

            #[inline]
            fn choose(index: usize) -> ::core::option::Option<Self> {
                match index {
                    #(#indices => ::core::option::Option::Some(Self::#variants),)*
                    _ => ::core::option::Option::None,
                }
            }
        }
        #default
    }
}

/// The doc comment of a variant in one line, so that it fits a list.
fn description(variant: &Variant) -> String {
    let docs = variant.attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let docs: Vec<String> = docs.collect();
    let lines = docs.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

fn names(data: &DataEnum, errors: &mut Errors) -> Vec<String> {
    let mut seen: BTreeMap<String, &Variant> = BTreeMap::new();
    let mut names = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            let message = format!(
                "a label has no fields: `{}` names a way out, what is found goes into the state",
                variant.ident
            );
            errors.at(&variant.fields, message);
        }
        let (name, at) = match renamed(variant, errors) {
            Some(name) => (name.value(), name.span()),
            None => (snake_case(&variant.ident.unraw().to_string()), variant.ident.span()),
        };
        if let Some(first) = seen.get(&name) {
            let message = format!("`{}` has the name `{name}`, too: two labels cannot have one name", first.ident);
            errors.add(syn::Error::new(at, message));
        }
        seen.entry(name.clone()).or_insert(variant);
        names.push(name);
    }
    names
}

/// Reads `#[action(name = "…")]`.
fn renamed(variant: &Variant, errors: &mut Errors) -> Option<LitStr> {
    let mut renamed: Option<LitStr> = None;
    for attr in variant.attrs.iter().filter(|attr| attr.path().is_ident("action")) {
        let form = "a variant is renamed by `#[action(name = \"…\")]`";
        let read = attr.parse_args_with(|input: syn::parse::ParseStream<'_>| {
            let key = input.call(syn::Ident::parse_any)?;
            if key != "name" {
                return Err(syn::Error::new(key.span(), form));
            }
            input.parse::<Token![=]>()?;
            input.parse::<LitStr>()
        });
        match read {
            Ok(name) if renamed.is_some() => errors.at(name, "this variant has two names"),
            Ok(name) if name.value().is_empty() => {
                errors.at(&name, "a label's name is not empty; the default action is named `default`");
                renamed = Some(unused(variant, name.span()));
            }
            Ok(name) => renamed = Some(name),
            Err(_) if matches!(attr.meta, Meta::Path(_)) => errors.at(attr, form),
            Err(error) => errors.add(error),
        }
    }
    renamed
}

/// A name that no other variant has, for one that is refused already.
fn unused(variant: &Variant, span: Span) -> LitStr {
    LitStr::new(&format!("{} ", variant.ident), span)
}

/// `NotFound` is `not_found`, `HTTPError` is `http_error`: an underscore before a capital that begins a word.
fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (i, &c) in chars.iter().enumerate() {
        let after_small = i > 0 && !chars[i - 1].is_uppercase() && chars[i - 1] != '_';
        let before_small = i > 0 && chars[i - 1] != '_' && chars.get(i + 1).is_some_and(|next| next.is_lowercase());
        if c.is_uppercase() && (after_small || before_small) {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn a_label_is_named_by_the_words_of_its_variant() {
        let names = ["Yes", "NotFound", "HTTPError", "TryV2", "V2Ready", "Äußerst", "snake_already", "A", "ABTest"];

        let labels = names.map(snake_case);

        let expected =
            ["yes", "not_found", "http_error", "try_v2", "v2_ready", "äußerst", "snake_already", "a", "ab_test"];
        assert_eq!(labels, expected);
    }
}
