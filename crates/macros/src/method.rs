//! The phases of an `impl` block, found by name, and what holds for all of them.

use syn::{FnArg, ImplItem, ImplItemFn, ItemImpl, PatType, ReceiverKind, ReturnType, Safety, Signature};

use crate::{
    errors::Errors,
    types::{Output, borrows, is_future, is_unnamed},
};

/// The names by which a phase is recognised; every other method is left alone.
pub(crate) const PHASES: [&str; 4] = ["prep", "exec", "exec_fallback", "post"];

/// A phase as the user wrote it, with `&self` checked and taken off.
pub(crate) struct Method<'a> {
    pub(crate) sig: &'a Signature,
    pub(crate) params: Vec<&'a PatType>,
    pub(crate) output: Output,
    /// `true` if its receiver and generics are as they should be, so that it makes sense to look at its parameters.
    pub(crate) sound: bool,
}

/// The phases that there are.
pub(crate) struct Methods<'a> {
    pub(crate) prep: Option<Method<'a>>,
    pub(crate) exec: Option<Method<'a>>,
    pub(crate) fallback: Option<Method<'a>>,
    pub(crate) post: Option<Method<'a>>,
}

pub(crate) fn find<'a>(item: &'a ItemImpl, errors: &mut Errors) -> Methods<'a> {
    let mut phase = |name: &str| {
        let function = item.items.iter().find_map(|member| match member {
            ImplItem::Fn(function) if function.sig.ident == name => Some(function),
            _ => None,
        })?;
        Some(method(function, errors))
    };
    let [prep, exec, fallback, post] = PHASES.map(&mut phase);
    Methods { prep, exec, fallback, post }
}

fn method<'a>(function: &'a ImplItemFn, errors: &mut Errors) -> Method<'a> {
    let sig = &function.sig;
    let name = &sig.ident;
    let params: Vec<_> = sig.inputs.iter().filter_map(typed).collect();
    let output = Output::of(&sig.output);

    let sound = takes_self(sig, errors) & is_plain(function, &params, errors);
    if let ReturnType::Type(_, written) = &sig.output {
        if is_future(written) {
            errors.at(written, format!("write `async fn {name}` in place of a returned future"));
        } else if is_unnamed(written) {
            errors.at(written, format!("`{name}` returns a type with a name, not `impl Trait`"));
        } else if name != "post" && borrows(&output.ty) {
            let message = format!("`{name}` returns owned data: it outlives the phase, and cannot borrow from it");
            errors.at(written, message);
        }
    }
    Method { sig, params, output, sound }
}

fn typed(argument: &FnArg) -> Option<&PatType> {
    match argument {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    }
}

fn takes_self(sig: &Signature, errors: &mut Errors) -> bool {
    let name = &sig.ident;
    let Some(receiver) = sig.receiver() else {
        errors.at(name, format!("`{name}` is a method: its first parameter is `&self`"));
        return false;
    };
    if matches!(&receiver.kind, ReceiverKind::Reference(_, _, None)) {
        return true;
    }
    let message = format!(
        "`{name}` takes `&self`: one node serves many runs at once, so what changes belongs into the state, \
         or behind a lock or an atomic"
    );
    errors.at(receiver, message);
    false
}

fn is_plain(function: &ImplItemFn, params: &[&PatType], errors: &mut Errors) -> bool {
    let sig = &function.sig;
    let name = &sig.ident;
    let mut plain = true;
    let mut refuse = |tokens: &dyn quote::ToTokens, why: &str| {
        errors.at(tokens, format!("`{name}` {why}"));
        plain = false;
    };
    if !sig.generics.params.is_empty() {
        refuse(&sig.generics, "cannot be generic, since the engine calls it: put the parameter on the `impl`");
    }
    for param in params.iter().filter(|param| is_unnamed(&param.ty)) {
        refuse(&param.ty, "cannot be generic, since the engine calls it: name the type in place of `impl Trait`");
    }
    if let Safety::Unsafe(token) = &sig.safety {
        refuse(token, "is called by the engine, and so cannot be `unsafe`");
    }
    for attr in function.attrs.iter().filter(|attr| attr.path().is_ident("cfg")) {
        refuse(attr, "cannot come and go by `cfg`: put the `cfg` on the `impl` block, or inside the method");
    }
    plain
}
