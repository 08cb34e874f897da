//! Facts about a type that its tokens alone tell.

use quote::ToTokens;
use syn::{
    GenericArgument, Path, PathArguments, PathSegment, ReturnType, Type, TypeParamBound, TypeReference, parse_quote,
    parse_quote_spanned, spanned::Spanned,
};

/// The type that a phase returns: `T`, or a result of `T`, whose error goes through `?`.
pub(crate) struct Output {
    /// `T` as far as it can be read off: for messages, and to compare with what is written elsewhere.
    pub(crate) ty: Type,
    /// `T` as the compiler knows it: of a result, whatever its parameters stand for.
    pub(crate) value: Type,
    /// `true` if it is called a result. One by another name is refused by the code that is written for it.
    pub(crate) fallible: bool,
}

impl Output {
    pub(crate) fn of(output: &ReturnType) -> Self {
        let ReturnType::Type(_, written) = output else {
            return Self { ty: parse_quote!(()), value: parse_quote!(()), fallible: false };
        };
        let written = bare(written);
        match last_segment(written).filter(|last| last.ident == "Result") {
            Some(result) => Self {
                // An alias without parameters, such as `fmt::Result`, is a result of `()`.
                ty: first_argument(result).cloned().unwrap_or(parse_quote!(())),
                value: parse_quote_spanned!(written.span()=> <#written as ::flowstone::__macros::Fallible>::Value),
                fallible: true,
            },
            None => Self { ty: written.clone(), value: written.clone(), fallible: false },
        }
    }
}

/// Takes off the groups that macros put around a type.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        ty => ty,
    }
}

pub(crate) fn reference(ty: &Type) -> Option<&TypeReference> {
    match bare(ty) {
        Type::Reference(reference) => Some(reference),
        _ => None,
    }
}

/// The element type of a `Vec<…>`.
pub(crate) fn vec_element(ty: &Type) -> Option<&Type> {
    last_segment(bare(ty)).filter(|last| last.ident == "Vec").and_then(first_argument)
}

/// Returns whether this is a path that ends in `name`.
pub(crate) fn is_named(ty: &Type, name: &str) -> bool {
    last_segment(bare(ty)).is_some_and(|last| last.ident == name)
}

pub(crate) fn is_unit(ty: &Type) -> bool {
    matches!(bare(ty), Type::Tuple(tuple) if tuple.elems.is_empty())
}

/// Returns whether a value of this type borrows, as far as it is written down: it has a lifetime other than `'static`.
pub(crate) fn borrows(ty: &Type) -> bool {
    match bare(ty) {
        Type::Reference(reference) => {
            reference.lifetime.as_ref().is_none_or(|lifetime| lifetime.ident != "static") || borrows(&reference.elem)
        }
        Type::Path(path) => arguments(&path.path).any(|argument| match argument {
            GenericArgument::Lifetime(lifetime) => lifetime.ident != "static",
            GenericArgument::Type(ty) => borrows(ty),
            _ => false,
        }),
        Type::Tuple(tuple) => tuple.elems.iter().any(borrows),
        Type::Array(array) => borrows(&array.elem),
        Type::Slice(slice) => borrows(&slice.elem),
        _ => false,
    }
}

/// Returns whether this type has an `impl Trait` in it, and so no name.
pub(crate) fn is_unnamed(ty: &Type) -> bool {
    match bare(ty) {
        Type::ImplTrait(_) => true,
        Type::Reference(reference) => is_unnamed(&reference.elem),
        Type::Path(path) => {
            arguments(&path.path).any(|argument| matches!(argument, GenericArgument::Type(ty) if is_unnamed(ty)))
        }
        Type::Tuple(tuple) => tuple.elems.iter().any(is_unnamed),
        _ => false,
    }
}

/// Returns whether this is `impl Future<…>` or a box of a `dyn Future<…>`.
pub(crate) fn is_future(ty: &Type) -> bool {
    let future = |bound: &TypeParamBound| {
        matches!(bound, TypeParamBound::Trait(bound)
            if bound.path.segments.last().is_some_and(|last| last.ident == "Future"))
    };
    match bare(ty) {
        Type::ImplTrait(ty) => ty.bounds.iter().any(future),
        Type::TraitObject(ty) => ty.bounds.iter().any(future),
        Type::Path(path) => {
            is_named(ty, "BoxFuture")
                || arguments(&path.path)
                    .any(|argument| matches!(argument, GenericArgument::Type(inner) if is_future(inner)))
        }
        _ => false,
    }
}

/// Returns whether two types are written alike.
pub(crate) fn same(a: &Type, b: &Type) -> bool {
    shown(bare(a)) == shown(bare(b))
}

/// A type as a person would write it.
pub(crate) fn shown(ty: &Type) -> String {
    let spaced = ty.to_token_stream().to_string();
    let tight = [(" :: ", "::"), (":: ", "::"), (" < ", "<"), (" >", ">"), ("& ", "&"), (" ,", ","), ("< ", "<")];
    tight.into_iter().fold(spaced, |text, (from, to)| text.replace(from, to))
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

fn first_argument(segment: &PathSegment) -> Option<&Type> {
    match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        }),
        _ => None,
    }
}

fn arguments(path: &Path) -> impl Iterator<Item = &GenericArgument> {
    path.segments
        .iter()
        .filter_map(|segment| match &segment.arguments {
            PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
            _ => None,
        })
        .flatten()
}
