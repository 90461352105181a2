//! `#[plain]` on an enum without data: a number of fixed size, of which not every value is a variant.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Error, Expr, ExprLit, Ident, ItemEnum, Lit, Result, Variant};

use crate::fields::push;
use crate::paths::actor_crate;
use crate::structs::derives_already;

/// Variants of an enum, as in `ringfleet-ir`.
const VARIANTS_MAX: usize = 256;

/// `#[plain]` on an enum.
pub fn plain(item: &ItemEnum) -> Result<TokenStream> {
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "an enum with `#[plain]` has no parameters"));
    }
    let number = number(item)?;
    let variants = variants(item, &number)?;
    let krate = actor_crate();
    let (ident, name) = (&item.ident, item.ident.to_string());
    let derives = [
        ("Clone", quote!(::core::clone::Clone)),
        ("Copy", quote!(::core::marker::Copy)),
        ("PartialEq", quote!(::core::cmp::PartialEq)),
        ("Eq", quote!(::core::cmp::Eq)),
    ];
    let missing = derives.iter().filter(|(name, _)| !derives_already(&item.attrs, name)).map(|(_, path)| path);
    let descriptors = variants.iter().map(|(variant, value)| {
        let name = variant.to_string();
        quote!(#krate::VariantDescriptor { name: #name, value: #value })
    });
    let names = variants.iter().map(|(variant, _)| variant);
    Ok(quote! {
        #[derive(#(#missing),*)]
        #item
        // SAFETY: the enum has no data and a variant whose number is 0, or the macro would have refused it.
        unsafe impl #krate::__private::bytemuck::Zeroable for #ident {}
        impl #krate::Plain for #ident {
            const TYPE: #krate::FieldType =
                #krate::FieldType::Enum(#name, &<#number as #krate::Plain>::TYPE, &[#(#descriptors),*]);
            type Raw = #number;
            #[inline(always)]
            fn raw(self) -> #number {
                self as #number
            }
            #[inline(always)]
            fn valid(bits: &#number) -> bool {
                false #(|| *bits == Self::#names as #number)*
            }
        }
    })
}

/// The number that the enum says it is held as.
fn number(item: &ItemEnum) -> Result<Ident> {
    let mut found: Option<Ident> = None;
    for attr in item.attrs.iter().filter(|attr| attr.path().is_ident("repr")) {
        attr.parse_nested_meta(|meta| match meta.path.get_ident() {
            Some(number) if ["u8", "u16", "u32"].iter().any(|known| number == known) => {
                found = Some(number.clone());
                Ok(())
            }
            _ => Err(meta.error("an enum with `#[plain]` is held as a `u8`, `u16` or `u32`: write `#[repr(u8)]`")),
        })?;
    }
    found.ok_or_else(|| {
        Error::new_spanned(
            &item.ident,
            format!("say how `{}` is held: write `#[repr(u8)]`, `#[repr(u16)]` or `#[repr(u32)]` above it", item.ident),
        )
    })
}

/// Names and numbers of the variants: numbered as rustc does, each once, one of them 0.
fn variants(item: &ItemEnum, number: &Ident) -> Result<Vec<(Ident, u32)>> {
    let last = match number.to_string().as_str() {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        _ => u64::from(u32::MAX),
    };
    let mut errors: Option<Error> = None;
    let mut known: Vec<(Ident, u32)> = Vec::new();
    let mut next = 0_u64;
    for variant in &item.variants {
        match value_of(variant, next) {
            Ok(value) if value > last => push(
                &mut errors,
                Error::new_spanned(
                    variant,
                    format!("variant `{}` is {value}: too large for `{number}`", variant.ident),
                ),
            ),
            Ok(value) => {
                next = value + 1;
                if let Some((other, _)) = known.iter().find(|(_, known)| u64::from(*known) == value) {
                    push(
                        &mut errors,
                        Error::new_spanned(
                            variant,
                            format!(
                                "variants `{other}` and `{}` are both {value}: give each its own number",
                                variant.ident
                            ),
                        ),
                    );
                }
                known.push((variant.ident.clone(), value as u32));
            }
            Err(error) => push(&mut errors, error),
        }
    }
    if let Some(errors) = errors {
        return Err(errors);
    }
    let name = &item.ident;
    if known.len() > VARIANTS_MAX {
        return Err(Error::new_spanned(name, format!("an enum with `#[plain]` has at most {VARIANTS_MAX} variants")));
    }
    if !known.iter().any(|(_, value)| *value == 0) {
        return Err(Error::new_spanned(
            name,
            format!(
                "no variant of `{name}` is 0, but states may begin as zeroes: give the variant that a new actor has the number 0"
            ),
        ));
    }
    Ok(known)
}

fn value_of(variant: &Variant, next: u64) -> Result<u64> {
    if !matches!(variant.fields, syn::Fields::Unit) {
        return Err(Error::new_spanned(
            variant,
            format!(
                "variant `{}` has data, which an enum with `#[plain]` cannot hold: put the data into fields beside the enum",
                variant.ident
            ),
        ));
    }
    if let Some(attr) = variant.attrs.iter().find(|attr: &&Attribute| attr.path().is_ident("cfg")) {
        return Err(Error::new_spanned(attr, "variants are always there: builds that differ could not talk"));
    }
    match &variant.discriminant {
        None => Ok(next),
        Some((_, Expr::Lit(ExprLit { lit: Lit::Int(int), .. }))) => int.base10_parse(),
        Some((_, other)) => Err(Error::new_spanned(other, "the number of a variant is a literal that is not negative")),
    }
}
