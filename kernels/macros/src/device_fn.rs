//! `#[device_fn]`: free functions that run on devices.
//!
//! The function that is emitted has the user's name and parameters and gives a call, whose type says which text it is of; the text is in
//! a static inside it (`ringfleet_actor::function` has the reasons). So one path, or one `use`, brings both along.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::visit::Visit;
use syn::{Error, ImplItemFn, ItemFn, Path, Result};

use crate::ir::Program;
use crate::lower::Known;
use crate::native::{self, Native};
use crate::paths::actor_crate;
use crate::tree::{self, Tree};
use crate::{handlers, math, text};

/// `#[device_fn]`
pub fn device_fn(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !attr.is_empty() {
        return Err(Error::new_spanned(attr, "`#[device_fn]` takes no arguments"));
    }
    let text_hash = text::hash(item.clone());
    let ItemFn { attrs, vis, sig, block } = match syn::parse2(item.clone()) {
        Ok(item) => item,
        Err(_) => {
            let first: TokenStream = item.into_iter().take(2).collect();
            return Err(Error::new_spanned(first, "`#[device_fn]` stands on a free function"));
        }
    };
    if let Some(receiver) = sig.receiver() {
        return Err(Error::new_spanned(
            receiver,
            "`#[device_fn]` stands on a free function; the functions of an `impl` with `#[handlers]` need no attribute",
        ));
    }
    let item = ImplItemFn { attrs, vis, defaultness: None, sig, block: *block };
    let mut own = Own { first: None };
    own.visit_block(&item.block);
    if let Some(path) = own.first {
        return Err(Error::new_spanned(path, "a free function has no `self`: give it what it needs as a parameter"));
    }
    let known = Known { actor: &item.sig.ident, helpers: &[], handlers: &[], handled: &[], is_free: true };
    let function = handlers::function_of(&item, &known)?;
    let program = Program { consts: Vec::new(), functions: vec![function] };
    let krate = actor_crate();
    let tree = tree::tree(&krate, &program)?;
    let text_hash = if tree.math { text_hash ^ math::hash()? } else { text_hash };
    let native = Native::new(krate.clone());
    Ok(program.functions.iter().map(|function| emit(&native, &item, function, &tree, text_hash)).collect())
}

fn emit(
    native: &Native,
    item: &ImplItemFn,
    function: &crate::ir::Function,
    tree: &Tree,
    text_hash: u64,
) -> TokenStream {
    let krate = native.krate();
    let (vis, name, attrs) = (&item.vis, &function.name, &function.attrs);
    let (params, gives) = (native::params(function), native::gives(function));
    let Tree { bytes, list, externals, calls, .. } = tree;
    let bytes = proc_macro2::Literal::byte_string(bytes);
    let text = name.to_string();
    // rustc names the static when it refuses a cycle of calls, at the user's text.
    let span = Span::mixed_site().located_at(name.span());
    let code = Ident::new("__DEVICE_FN_WITHOUT_RECURSION", span);
    let marker = Ident::new("__DeviceFn", Span::mixed_site());
    let code_static = quote_spanned! { span =>
        static #code: #krate::FunctionCode = #krate::__private::function_code(
            #text,
            ::core::file!(),
            #text_hash,
            #bytes,
            |#list: &mut #krate::__private::Externals| { let _ = &#list; #externals },
            &[#(#calls),*],
        );
    };
    let call = native.free(function, &marker);
    quote! {
        #(#attrs)*
        #[allow(
            unused_parens, unused_braces, unreachable_code, unused_must_use, clippy::all, clippy::pedantic,
            clippy::arithmetic_side_effects
        )]
        #[inline]
        #vis fn #name(#(#params),*) -> #krate::Call<
            #gives,
            impl #krate::__private::Device,
            impl ::core::ops::FnOnce(&#krate::Fuel) -> ::core::result::Result<#gives, #krate::Fault>,
        > {
            #code_static
            struct #marker;
            impl #krate::__private::Device for #marker {
                const CODE: &'static #krate::FunctionCode = &#code;
            }
            #call
        }
    }
}

/// Finds the first `self` or `Self`.
struct Own<'a> {
    first: Option<&'a Path>,
}

impl<'a> Visit<'a> for Own<'a> {
    fn visit_path(&mut self, path: &'a Path) {
        if path.segments.first().is_some_and(|first| first.ident == "self" || first.ident == "Self")
            && (path.segments.len() == 1 || path.segments[0].ident == "Self")
        {
            self.first.get_or_insert(path);
        }
        syn::visit::visit_path(self, path);
    }
}
