//! The types that each phase takes and gives, read from its signature; a fault in one is reported at the user's line.
//!
//! The values of a visit are `Shared` (the state), `Prep`, `Exec`, `Error` and `Context`. A parameter is known by its
//! place and by how its type begins: the state is a reference, the context one to a path that ends in `Context`.

use proc_macro2::{Ident, Span};
use quote::quote;
use syn::{ItemImpl, PatType, Type, parse_quote, spanned::Spanned};

use crate::{
    errors::Errors,
    method::{Method, Methods},
    node::Shape,
    types::{Output, is_named, is_unit, reference, same, shown, vec_element},
};

mod forms;

/// The role of a parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    Shared,
    Prep,
    Exec,
    Error,
    Context,
}

/// A call of one of the user's phases: its name, and which values it is given, each at the user's parameter.
pub(crate) struct Phase {
    pub(crate) name: Ident,
    pub(crate) is_async: bool,
    pub(crate) fallible: bool,
    /// The type that it gives, of a result the value, as far as it can be read off.
    pub(crate) gives: Type,
    /// The state that it writes and the node's, if they are not written alike.
    pub(crate) states: Option<(Type, Type)>,
    /// Where the return type is written, or else the name.
    pub(crate) at: Span,
    pub(crate) arguments: Vec<(Value, Span)>,
}

/// All that is needed to write the trait `impl`.
pub(crate) struct Node {
    pub(crate) shape: Shape,
    /// `None`: the node goes with any state.
    pub(crate) state: Option<Type>,
    /// The type that `prep` gives; of a batch node, one item.
    pub(crate) prep_type: Type,
    pub(crate) exec_type: Type,
    /// The type that `post` gets for an item of a batch node.
    pub(crate) outcome: Type,
    pub(crate) action: Type,
    pub(crate) prep: Option<Phase>,
    pub(crate) exec: Option<Phase>,
    pub(crate) fallback: Option<Phase>,
    pub(crate) post: Option<Phase>,
}

/// Reads the phases. When it has found errors, what it returns is not to be used.
pub(crate) fn read(item: &ItemImpl, shape: Shape, methods: &Methods<'_>, errors: &mut Errors) -> Node {
    let reader = Reader { shape, state: state(methods), methods };
    reader.presence(item, errors);
    let prep_type = reader.prep_type(errors);
    let exec_type = value(methods.exec.as_ref());
    let prep = methods.prep.as_ref().map(|prep| phase(prep, reader.prep(prep, errors)));
    let exec = methods.exec.as_ref().map(|exec| phase(exec, reader.exec(exec, errors)));
    let fallback = methods.fallback.as_ref().map(|fallback| phase(fallback, reader.fallback(fallback, errors)));
    let post = methods.post.as_ref().map(|post| phase(post, reader.post(post, errors)));
    let post = post.map(|post| Phase { states: reader.states(), ..post });
    let outcome = reader.outcome(errors).unwrap_or_else(|| exec_type.clone());
    let (state, action) = (reader.state.cloned(), value(methods.post.as_ref()));
    Node { shape, state, prep_type, exec_type, outcome, action, prep, exec, fallback, post }
}

struct Reader<'a> {
    shape: Shape,
    state: Option<&'a Type>,
    methods: &'a Methods<'a>,
}

impl Reader<'_> {
    /// Checks that the phases that a node cannot do without are there.
    fn presence(&self, item: &ItemImpl, errors: &mut Errors) {
        let Methods { prep, exec, fallback, post } = self.methods;
        if self.shape == Shape::Batch {
            for (phase, name, form) in
                [(prep, "prep", "items: it is `-> Vec<Item>`"), (exec, "exec", "output of an item")]
            {
                if phase.is_none() {
                    errors.at(&item.self_ty, format!("a batch node has the phase `{name}`, which gives the {form}"));
                }
            }
        } else if prep.is_none() && exec.is_none() && post.is_none() && fallback.is_none() {
            let message = "a node has at least one of the phases `prep`, `exec` and `post`, as methods of these names";
            errors.at(&item.self_ty, message);
        }
        if let (None, Some(fallback)) = (exec, fallback) {
            errors.at(&fallback.sig.ident, "`exec_fallback` stands in for `exec`, and there is no `exec`");
        }
    }

    /// Returns the type that `prep` gives; of a batch node, one of its items.
    fn prep_type(&self, errors: &mut Errors) -> Type {
        let whole = value(self.methods.prep.as_ref());
        let Some(prep) = self.methods.prep.as_ref().filter(|_| self.shape == Shape::Batch) else { return whole };
        if let Some(item) = vec_element(&prep.output.ty) {
            return item.clone();
        }
        let message = "`prep` of a batch node gives the items: `-> Vec<Item>` or `-> Result<Vec<Item>>`";
        match &prep.sig.output {
            syn::ReturnType::Type(_, ty) => errors.at(ty, message),
            syn::ReturnType::Default => errors.at(&prep.sig.ident, message),
        }
        whole
    }

    fn prep(&self, prep: &Method<'_>, errors: &mut Errors) -> Vec<(Value, Span)> {
        if !prep.sound {
            return Vec::new();
        }
        match prep.params[..] {
            [state] if reference(&state.ty).is_some_and(|r| r.mutability.is_none()) => vec![(Value::Shared, at(state))],
            [state] if !is_context(state) => {
                let read = shown(reference(&state.ty).map_or(&state.ty, |borrowed| &borrowed.elem));
                let message = format!("`prep` only reads the state: take `&{read}`; `post` is what writes");
                refuse(errors, &state.ty, message)
            }
            _ => {
                let (state, gives) = (self.shown_state(), self.shown_prep());
                let message =
                    format!("`prep` takes `&self` and the state: `fn prep(&self, state: &{state}) -> {gives}`");
                refuse(errors, inputs(prep), message)
            }
        }
    }

    fn exec(&self, exec: &Method<'_>, errors: &mut Errors) -> Vec<(Value, Span)> {
        if !exec.sound {
            return Vec::new();
        }
        let (params, context) = match exec.params[..] {
            // A type of the user's own may be called so, too.
            [given] if self.is_given(given) => (&exec.params[..], None),
            _ => split_context(&exec.params),
        };
        let mut arguments = match *params {
            [] if self.shape == Shape::Batch => refuse(
                errors,
                &exec.sig.ident,
                format!("`exec` of a batch node takes one item: `{}`", self.exec_form()),
            ),
            [] => Vec::new(),
            [prep] => self.prep_argument(exec, prep, errors),
            [first, ..] => match params.iter().find(|param| self.is_state(param)) {
                Some(state) => refuse(errors, state, self.no_state("exec")),
                None if is_context(first) => refuse(errors, first, "the context comes last"),
                None => {
                    let message = format!(
                        "`exec` takes `&self`, a borrow of what `prep` gave, and the context, the last two where \
                         wanted: `{}`",
                        self.exec_form()
                    );
                    refuse(errors, inputs(exec), message)
                }
            },
        };
        arguments.extend(context);
        arguments
    }

    fn fallback(&self, fallback: &Method<'_>, errors: &mut Errors) -> Vec<(Value, Span)> {
        if !fallback.sound {
            return Vec::new();
        }
        let (params, context) = split_context(&fallback.params);
        let (mut arguments, error) = match *params {
            [error] if reference(&error.ty).is_none() => (Vec::new(), error),
            [prep, error] if reference(&error.ty).is_none() => (self.prep_argument(fallback, prep, errors), error),
            [.., error] if reference(&error.ty).is_some_and(|r| is_named(&r.elem, "NodeError")) => {
                refuse(errors, &error.ty, "`exec_fallback` is given the error itself: take `NodeError`");
                return Vec::new();
            }
            _ => {
                let message = format!(
                    "`exec_fallback` takes what `exec` takes, and after it the last attempt's error: `{}`",
                    self.fallback_form()
                );
                return refuse(errors, inputs(fallback), message);
            }
        };
        arguments.push((Value::Error, at(error)));
        arguments.extend(context);
        arguments
    }

    /// Reads the parameter by which `exec` and its fallback get what `prep` gave.
    fn prep_argument(&self, phase: &Method<'_>, param: &PatType, errors: &mut Errors) -> Vec<(Value, Span)> {
        let name = &phase.sig.ident;
        let borrowed = reference(&param.ty);
        match (borrowed, &self.methods.prep) {
            _ if self.is_state(param) => refuse(errors, param, self.no_state(&name.to_string())),
            (None, _) if is_named(&param.ty, "Context") => {
                refuse(errors, &param.ty, "the context is borrowed: `&Context`")
            }
            (Some(borrowed), None) if is_unit(&borrowed.elem) => vec![(Value::Prep, at(param))],
            (_, None) if self.shape == Shape::Single => {
                let message =
                    format!("`{name}` takes what `prep` gives, and there is no `prep`: write one, or leave this out");
                refuse(errors, param, message)
            }
            (Some(borrowed), _) if borrowed.mutability.is_none() => vec![(Value::Prep, at(param))],
            _ => {
                let inner = shown(borrowed.map_or(&param.ty, |borrowed| &borrowed.elem));
                let what = if self.shape == Shape::Batch { "its item" } else { "what `prep` gave" };
                let message = format!("`{name}` borrows {what}, since it may be tried again: take `&{inner}`");
                refuse(errors, &param.ty, message)
            }
        }
    }

    fn post(&self, post: &Method<'_>, errors: &mut Errors) -> Vec<(Value, Span)> {
        if !post.sound {
            return Vec::new();
        }
        let values: &[Value] = match (post.params.len(), &self.methods.prep, &self.methods.exec, self.shape) {
            (3, ..) => &[Value::Shared, Value::Prep, Value::Exec],
            (2, _, _, Shape::Batch) | (2, None, Some(_), _) => &[Value::Shared, Value::Exec],
            (2, Some(_), None, _) => &[Value::Shared, Value::Prep],
            (1, None, None, _) => &[Value::Shared],
            _ => return refuse(errors, inputs(post), format!("`post` takes {}", self.post_form())),
        };
        let state = post.params[0];
        match reference(&state.ty) {
            Some(written) if written.mutability.is_none() => {
                let message = format!("`post` writes to the state: take `&mut {}`", shown(&written.elem));
                errors.at(&state.ty, message);
            }
            Some(_) => {}
            None => errors.at(&state.ty, format!("`post` takes {}", self.post_form())),
        }
        for value in post.params[1..].iter().filter(|value| reference(&value.ty).is_some() && !self.gives_references())
        {
            let owned = reference(&value.ty).map_or(&*value.ty, |borrowed| &borrowed.elem);
            let message = format!("`post` is given the values themselves: take `{}`, without `&`", shown(owned));
            errors.at(&value.ty, message);
        }
        values.iter().zip(&post.params).map(|(value, param)| (*value, at(param))).collect()
    }

    /// The state of `post` and that of `prep`, if they are not written alike: whether they are one type is for the
    /// compiler to say.
    fn states(&self) -> Option<(Type, Type)> {
        let written = &*reference(&self.methods.post.as_ref()?.params.first()?.ty)?.elem;
        let state = self.state.filter(|state| !same(state, written))?;
        Some((written.clone(), state.clone()))
    }

    /// Returns whether a phase before `post` gives a reference, which is then a `'static` one: `post` may write it without.
    fn gives_references(&self) -> bool {
        let given = [&self.methods.prep, &self.methods.exec];
        given.into_iter().flatten().any(|phase| reference(&phase.output.ty).is_some())
    }

    /// Returns the type that `post` of a batch node gets for each item.
    fn outcome(&self, errors: &mut Errors) -> Option<Type> {
        let post = self.methods.post.as_ref().filter(|post| self.shape == Shape::Batch && post.sound)?;
        let last = post.params.last().filter(|_| (2..=3).contains(&post.params.len()))?;
        let outcome = vec_element(&last.ty).cloned();
        if outcome.is_none() && reference(&last.ty).is_none() {
            let made = self.methods.exec.as_ref().map_or_else(|| "()".to_owned(), |exec| shown(&exec.output.ty));
            let message = format!(
                "`post` of a batch node gets all outcomes: `Vec<{made}>`, where a failed item ends the run, or \
                 `Vec<Result<{made}>>`, to collect the errors"
            );
            errors.at(&last.ty, message);
        }
        outcome
    }

    /// Returns whether a parameter asks for the state, as far as is known: it is `&mut`, or written as the state is while
    /// `prep` gives something else.
    fn is_state(&self, param: &PatType) -> bool {
        let Some(borrowed) = reference(&param.ty) else { return false };
        let is_written_so = self.state.is_some_and(|state| same(state, &borrowed.elem));
        is_written_so && !self.is_given(param)
    }

    /// Returns whether a parameter is written as a borrow of what `prep` gives, of a batch node as one of an item.
    fn is_given(&self, param: &PatType) -> bool {
        let given = match (&self.methods.prep, self.shape) {
            (Some(prep), Shape::Batch) => vec_element(&prep.output.ty),
            (Some(prep), Shape::Single) => Some(&prep.output.ty),
            (None, _) => None,
        };
        given.zip(reference(&param.ty)).is_some_and(|(given, borrowed)| same(given, &borrowed.elem))
    }
}

/// The state's type: what `prep` reads, or else what `post` writes.
fn state<'a>(methods: &'a Methods<'_>) -> Option<&'a Type> {
    let first = |method: &'a Option<Method<'_>>, mutable: bool| {
        let first = reference(&method.as_ref()?.params.first()?.ty)?;
        (first.mutability.is_some() == mutable).then_some(&*first.elem)
    };
    first(&methods.prep, false).or_else(|| first(&methods.post, true))
}

/// Returns the type that a phase gives, of a result the value; `()` where there is none.
fn value(method: Option<&Method<'_>>) -> Type {
    method.map_or(parse_quote!(()), |method| method.output.value.clone())
}

fn phase(method: &Method<'_>, arguments: Vec<(Value, Span)>) -> Phase {
    let Output { fallible, ref ty, .. } = method.output;
    let at = match &method.sig.output {
        syn::ReturnType::Type(_, ty) => ty.span(),
        syn::ReturnType::Default => method.sig.ident.span(),
    };
    let (name, is_async) = (method.sig.ident.clone(), method.sig.asyncness.is_some());
    Phase { name, is_async, fallible, gives: ty.clone(), states: None, at, arguments }
}

/// Takes the context off the end of the parameters.
fn split_context<'a>(params: &'a [&'a PatType]) -> (&'a [&'a PatType], Option<(Value, Span)>) {
    match params.split_last() {
        Some((last, rest)) if is_context(last) => (rest, Some((Value::Context, at(last)))),
        _ => (params, None),
    }
}

fn is_context(param: &PatType) -> bool {
    reference(&param.ty).is_some_and(|borrowed| is_named(&borrowed.elem, "Context"))
}

fn at(param: &PatType) -> Span {
    param.pat.span()
}

/// The parameters of a phase, to point at; its name where there are none.
fn inputs(method: &Method<'_>) -> proc_macro2::TokenStream {
    let (name, params) = (&method.sig.ident, &method.params);
    if params.is_empty() { quote!(#name) } else { quote!(#(#params),*) }
}

fn refuse(errors: &mut Errors, tokens: impl quote::ToTokens, message: impl std::fmt::Display) -> Vec<(Value, Span)> {
    errors.at(tokens, message);
    Vec::new()
}
