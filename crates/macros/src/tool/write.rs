//! Writing the struct of a tool, and its `impl` of `Tool`, which calls the user's function.
//!
//! Local names are the macro's own (`mixed_site`): a function may be called `arguments`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{ItemFn, ext::IdentExt, spanned::Spanned};

use super::signature::{Param, Tool, docs};

pub(super) fn implementation(function: &ItemFn, tool: &Tool<'_>) -> TokenStream {
    let cfgs: Vec<_> = function.attrs.iter().filter(|attr| attr.path().is_ident("cfg")).collect();
    let holder = holder(function, tool);
    let fields = argument_fields(tool);
    let implementation = tool_impl(function, tool);
    quote! {
        #(#cfgs)*
        #holder

        #(#cfgs)*
        const _: () = {
            #[derive(::flowstone::llm::__macros::serde::Deserialize, ::flowstone::llm::__macros::schemars::JsonSchema)]
            #[serde(crate = "::flowstone::llm::__macros::serde", deny_unknown_fields)]
            #[schemars(crate = "::flowstone::llm::__macros::schemars")]
            struct __Arguments { #fields }

            #implementation
        };
    }
}

/// The struct that a user makes: `search { docs }`.
fn holder(function: &ItemFn, tool: &Tool<'_>) -> TokenStream {
    let (vis, name) = (&function.vis, &function.sig.ident);
    let documents = docs(function.attrs.iter());
    let fields = tool.params.iter().filter_map(|param| match param {
        Param::Service { name, ty, attrs } => {
            let fallback = attrs.is_empty().then(|| format!("The service `{name}`."));
            let docs = fallback.map(|text| quote!(#[doc = #text]));
            Some(quote!(#docs #(#attrs)* #vis #name: ::std::sync::Arc<#ty>,))
        }
        Param::Argument { .. } | Param::Context => None,
    });
    let shown = name.unraw().to_string();
    quote! {
        #(#[doc = #documents])*
        #[allow(non_camel_case_types, reason = "it has the name of its function")]
        #[derive(::core::clone::Clone)]
        #vis struct #name { #(#fields)* }

        #[automatically_derived]
        impl ::core::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                // Not what it holds: that may be a client with a key.
                f.write_str(#shown)
            }
        }
    }
}

fn argument_fields(tool: &Tool<'_>) -> TokenStream {
    let fields = tool.params.iter().filter_map(|param| match param {
        Param::Argument { name, ty, attrs } => Some(quote!(#(#attrs)* #name: #ty,)),
        Param::Service { .. } | Param::Context => None,
    });
    quote!(#(#fields)*)
}

fn tool_impl(function: &ItemFn, tool: &Tool<'_>) -> TokenStream {
    let name = &function.sig.ident;
    let shown = name.unraw().to_string();
    let documents = docs(function.attrs.iter());
    let [this, given, cx, arguments] = ["this", "given", "cx", "arguments"].map(local);
    // The header is at the user's own, so that what is said of the future is said there: that it is not `Send`, say.
    let at = name.span().resolved_at(Span::call_site());
    let run = run(function, tool);
    let body = quote_spanned! {at=>
        ::std::boxed::Box::pin(async move {
            let #arguments: __Arguments = ::flowstone::llm::__macros::arguments(#shown, #given)?;
            #run
        })
    };
    quote! {
        #[automatically_derived]
        impl ::flowstone::llm::Tool for #name {
            fn spec(&self) -> ::flowstone::llm::ToolSpec {
                ::flowstone::llm::__macros::spec::<__Arguments>(#shown, &[#(#documents),*])
            }

            fn call<'call>(
                &'call self,
                #given: ::flowstone::llm::__macros::Value,
                #cx: &'call ::flowstone::Context,
            ) -> ::flowstone::BoxFuture<'call, ::flowstone::Result<::std::string::String>> {
                let #this = self;
                #body
            }
        }
    }
}

/// Calls the function, on the blocking pool if it is not `async`.
fn run(function: &ItemFn, tool: &Tool<'_>) -> TokenStream {
    let [this, cx, result] = ["this", "cx", "result"].map(local);
    let at = output(function);
    let call = call(function, tool);
    let told = quote_spanned! {at=>
        let #result = #call;
        ::flowstone::llm::__macros::told(&#result)
    };
    if function.sig.asyncness.is_some() {
        return told;
    }
    quote! {
        let #this = ::core::clone::Clone::clone(#this);
        ::flowstone::llm::__macros::blocking(#cx, move |#cx| { #told }).await
    }
}

fn call(function: &ItemFn, tool: &Tool<'_>) -> TokenStream {
    let [this, cx, arguments] = ["this", "cx", "arguments"].map(local);
    let name = &function.sig.ident;
    let given = tool.params.iter().map(|param| match param {
        Param::Context => quote!(#cx),
        Param::Service { name, .. } => quote!(&*#this.#name),
        Param::Argument { name, .. } => quote!(#arguments.#name),
    });
    let at = output(function);
    let call = quote!(#name(#(#given),*));
    let call = if function.sig.asyncness.is_some() { quote_spanned!(at=> #call.await) } else { call };
    // By its type: an error is one also where the result has another name.
    quote_spanned!(at=> {
        use ::flowstone::__macros::Infallibly as _;
        ::flowstone::__macros::Returned(#call).value()?
    })
}

/// Where the user says what is returned.
fn output(function: &ItemFn) -> Span {
    let at = match &function.sig.output {
        syn::ReturnType::Type(_, ty) => ty.span(),
        syn::ReturnType::Default => function.sig.ident.span(),
    };
    at.resolved_at(Span::call_site())
}

fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}
