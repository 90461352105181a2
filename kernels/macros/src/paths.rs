//! How generated code names `ringfleet-actor` in the user's crate.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

/// `::ringfleet_actor`, or `::ringfleet::actor` where the user depends on the whole of Ringfleet only.
pub fn actor_crate() -> TokenStream {
    let found = |package: &str| match crate_name(package) {
        Ok(FoundCrate::Name(name)) => Some(Ident::new(&name, Span::call_site())),
        // The crate itself, its tests and its examples: its own name works in all of them.
        Ok(FoundCrate::Itself) => Some(Ident::new(&package.replace('-', "_"), Span::call_site())),
        Err(_) => None,
    };
    match (found("ringfleet-actor"), found("ringfleet")) {
        (Some(name), _) => quote!(::#name),
        (None, Some(name)) => quote!(::#name::actor),
        // Let rustc say that the crate is missing, by its name.
        (None, None) => quote!(::ringfleet_actor),
    }
}
