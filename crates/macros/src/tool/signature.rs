//! The parameters of a tool, and the faults in them, all at once, each at the user's line.
//!
//! | parameter | stands for |
//! |---|---|
//! | `&Context` | the context of the call |
//! | any other `&T` | a service, which the tool holds |
//! | anything owned | an argument, which the model gives |

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use syn::{
    Attribute, Expr, ExprLit, FnArg, ItemFn, Lit, Meta, Pat, PatType, Result, ReturnType, Safety, Type, TypeReference,
};

use crate::{
    errors::Errors,
    types::{Output, borrows, is_future, is_named, is_unnamed, reference, shown},
};

/// The attributes of parameters that go to the fields made of them.
pub(super) const MOVED: [&str; 3] = ["doc", "serde", "schemars"];

/// A function, as a tool.
pub(super) struct Tool<'a> {
    /// In the order of the parameters.
    pub(super) params: Vec<Param<'a>>,
}

pub(super) enum Param<'a> {
    Context,
    /// Something behind a reference, which the tool holds.
    Service {
        name: Ident,
        ty: &'a Type,
        attrs: Vec<&'a Attribute>,
    },
    /// Something that the model gives.
    Argument {
        name: Ident,
        ty: &'a Type,
        attrs: Vec<&'a Attribute>,
    },
}

pub(super) fn read<'a>(arguments: TokenStream, function: &'a ItemFn) -> Result<Tool<'a>> {
    let mut errors = Errors::default();
    if !arguments.is_empty() {
        errors.at(arguments, "`#[tool]` takes nothing: the name is the function's, the description its doc comment");
    }
    head(function, &mut errors);
    let mut params = Vec::new();
    for input in &function.sig.inputs {
        match input {
            FnArg::Receiver(receiver) => errors.at(
                receiver,
                "a tool is a function without `self`: what it needs are parameters by reference, `docs: &Docs`",
            ),
            FnArg::Typed(param) => params.extend(read_param(param, &mut errors)),
        }
    }
    if params.iter().filter(|param| matches!(param, Param::Context)).count() > 1 {
        errors.at(&function.sig.inputs, "a call has one context");
    }
    output(&function.sig.output, &mut errors);
    errors.finish()?;
    Ok(Tool { params })
}

/// Checks all but the parameters and what is returned.
fn head(function: &ItemFn, errors: &mut Errors) {
    let sig = &function.sig;
    if !is_documented(&function.attrs) {
        let message = "a tool has a doc comment, `/// …`: it tells the model what it does, and when to call it";
        errors.at(&sig.ident, message);
    }
    if !sig.generics.params.is_empty() || sig.generics.where_clause.is_some() {
        errors.at(&sig.generics, "a tool is not generic: the model calls it with JSON");
    }
    if let Safety::Unsafe(token) = &sig.safety {
        errors.at(token, "a tool is called by a model, and so cannot be `unsafe`");
    }
    if let Some(abi) = &sig.abi {
        errors.at(abi, "a tool is a function of Rust");
    }
    if let Some(token) = &sig.constness {
        errors.at(token, "a tool is called while a program runs, and so is not `const`");
    }
    if let Some(dots) = &sig.variadic {
        errors.at(dots, "a tool takes a known number of arguments");
    }
}

fn read_param<'a>(param: &'a PatType, errors: &mut Errors) -> Option<Param<'a>> {
    if is_unnamed(&param.ty) {
        errors.at(&param.ty, "a tool is not generic: name the type in place of `impl Trait`");
        return None;
    }
    if let Some(attr) = param.attrs.iter().find(|attr| attr.path().is_ident("cfg")) {
        errors.at(attr, "a parameter of a tool cannot come and go by `cfg`");
    }
    match reference(&param.ty) {
        None => argument(param, errors),
        Some(borrowed) if is_named(&borrowed.elem, "Context") && borrowed.mutability.is_none() => {
            refuse_json(param, "the context", errors);
            Some(Param::Context)
        }
        Some(borrowed) => service(param, borrowed, errors),
    }
}

fn argument<'a>(param: &'a PatType, errors: &mut Errors) -> Option<Param<'a>> {
    if is_named(&param.ty, "Context") {
        errors.at(&param.ty, "the context is borrowed: `&Context`");
        return None;
    }
    if borrows(&param.ty) {
        errors.at(&param.ty, "an argument is owned: it is read from the JSON that the model gives");
    }
    let name = name(param, "an argument", errors)?;
    if !is_documented(&param.attrs) {
        let message = format!("an argument has a doc comment before it, `/// …`: it tells the model what `{name}` is");
        errors.at(param, message);
    }
    let attrs = param.attrs.iter().filter(|attr| MOVED.iter().any(|moved| attr.path().is_ident(moved)));
    Some(Param::Argument { name, ty: &param.ty, attrs: attrs.collect() })
}

fn service<'a>(param: &'a PatType, borrowed: &'a TypeReference, errors: &mut Errors) -> Option<Param<'a>> {
    let refused = if borrowed.mutability.is_some() {
        let inner = shown(&borrowed.elem);
        Some(format!("many runs call a tool at once, so it takes `&{inner}`; what changes is behind a lock, or atomic"))
    } else if let Some(owned) = owned(&borrowed.elem) {
        Some(format!("an argument is owned: take `{owned}`; a reference is a service, which the tool holds"))
    } else if borrows(&borrowed.elem) || borrowed.lifetime.is_some() {
        Some("a service is held by the tool, and cannot borrow: it has no lifetimes".to_owned())
    } else {
        None
    };
    if let Some(message) = refused {
        errors.at(&param.ty, message);
        return None;
    }
    refuse_json(param, "a service, which the tool holds,", errors);
    // The parentheses of `&(dyn Find + Sync)` are too many in `Arc<dyn Find + Sync>`.
    let ty = if let Type::Paren(inner) = &*borrowed.elem { &*inner.elem } else { &*borrowed.elem };
    let attrs = param.attrs.iter().filter(|attr| attr.path().is_ident("doc")).collect();
    Some(Param::Service { name: name(param, "a service", errors)?, ty, attrs })
}

/// Names the type to take in place of a reference that is meant as an argument.
fn owned(ty: &Type) -> Option<String> {
    match ty {
        Type::Slice(slice) => Some(format!("Vec<{}>", shown(&slice.elem))),
        ty => is_named(ty, "str").then(|| "String".to_owned()),
    }
}

fn refuse_json(param: &PatType, what: &str, errors: &mut Errors) {
    for attr in param.attrs.iter().filter(|attr| attr.path().is_ident("serde") || attr.path().is_ident("schemars")) {
        errors.at(attr, format!("{what} is not read from JSON"));
    }
}

fn name(param: &PatType, what: &str, errors: &mut Errors) -> Option<Ident> {
    match &*param.pat {
        Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => Some(name.ident.clone()),
        pattern => {
            errors.at(pattern, format!("{what} has a name: take it as `name: {}`", shown(&param.ty)));
            None
        }
    }
}

/// Checks what is returned.
fn output(output: &ReturnType, errors: &mut Errors) {
    if let ReturnType::Type(_, written) = output {
        if is_future(written) {
            errors.at(written, "write `async fn` in place of a returned future");
        } else if is_unnamed(written) {
            errors.at(written, "a tool returns a type with a name, not `impl Trait`");
        } else if borrows(&Output::of(output).ty) {
            errors.at(written, "a tool returns owned data");
        }
    }
}

/// Returns whether there is a doc comment with a text; one that is not a literal is taken to have some.
fn is_documented(attrs: &[Attribute]) -> bool {
    docs(attrs.iter()).any(|text| match text {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => !text.value().trim().is_empty(),
        other => !other.to_token_stream().is_empty(),
    })
}

/// The lines of a doc comment, as expressions.
pub(super) fn docs<'a>(attrs: impl Iterator<Item = &'a Attribute>) -> impl Iterator<Item = &'a Expr> {
    attrs.filter_map(|attr| match &attr.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => Some(&meta.value),
        _ => None,
    })
}
