//! `math::exp` and its siblings: one text in the language of handlers, which native code calls and programs contain.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Ident, ItemImpl, Result};

use crate::ir::Program;
use crate::native::Native;
use crate::paths::actor_crate;
use crate::{calls, handlers, text};

/// What handlers may call, with the number of arguments.
pub const FUNCTIONS: [(&str, usize); 5] = [("exp", 1), ("ln", 1), ("sin", 1), ("cos", 1), ("pow", 2)];

const TEXT: &str = include_str!("math/functions.rs");

/// The functions and their helpers.
pub fn program() -> Result<Program> {
    let item: ItemImpl = syn::parse_str(TEXT)?;
    let program = handlers::read(&item, &Ident::new("Math", Span::call_site()), false)?;
    calls::check(&program.functions)?;
    Ok(program)
}

/// The hash of the text: who uses it is other code when it changes.
pub fn hash() -> Result<u64> {
    Ok(text::hash(syn::parse_str::<TokenStream>(TEXT)?))
}

/// The native functions, for the crate of actors.
pub fn native() -> Result<TokenStream> {
    let native = Native::new(actor_crate());
    let program = program()?;
    let functions = program.functions.iter().map(|function| native.function(function));
    Ok(quote! {
        struct Math;
        #[allow(
            unused_parens, unused_braces, unreachable_code, clippy::all, clippy::pedantic, clippy::arithmetic_side_effects
        )]
        impl Math { #(#functions)* }
    })
}
