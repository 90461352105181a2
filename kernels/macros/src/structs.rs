//! `#[message]`, `#[plain]` and `#[actor]` on structs.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use ringfleet_abi::limits::{MAX_SENDS_DEFAULT, MAX_SENDS_LIMIT, PAYLOAD_BYTES_MAX, STATE_BYTES_MAX};
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::{Attribute, Error, Ident, ItemEnum, ItemStruct, LitInt, LitStr, Result};

use crate::fields::{self, Fields, Owner};
use crate::paths::actor_crate;
use crate::{enums, text};

/// `#[message]`
pub fn message(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    refuse_arguments("message", &attr)?;
    let item = parse_struct("#[message]", item)?;
    let checked = fields::check(Owner::Message, &item, PAYLOAD_BYTES_MAX)?;
    let krate = actor_crate();
    let ident = &item.ident;
    let name = ident.to_string();
    let plain = plain_impls(&krate, &item, &checked);
    let size = size_assert(&krate, &item, &checked, PAYLOAD_BYTES_MAX, "a message has at most 32 bytes");
    Ok(quote! {
        #plain
        #size
        impl #krate::Message for #ident {
            const NAME: &'static str = #name;
            const KIND: u16 = #krate::__private::fnv1a16(#name.as_bytes());
            const FIELDS: &'static [#krate::FieldDescriptor] = match <Self as #krate::Plain>::TYPE {
                #krate::FieldType::Struct(_, fields) => fields,
                _ => &[],
            };
        }
    })
}

/// `#[plain]`
pub fn plain(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    refuse_arguments("plain", &attr)?;
    if let Ok(item) = syn::parse2::<ItemEnum>(item.clone()) {
        return enums::plain(&item);
    }
    let item = parse_struct("#[plain]", item)?;
    let checked = fields::check(Owner::Plain, &item, STATE_BYTES_MAX)?;
    Ok(plain_impls(&actor_crate(), &item, &checked))
}

/// `#[actor(..)]`
pub fn actor(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let text_hash = text::hash(quote! { #attr #item });
    let arguments = ActorArguments::parse(attr)?;
    let item = parse_struct("#[actor]", item)?;
    let checked = fields::check(Owner::State, &item, STATE_BYTES_MAX)?;
    let krate = actor_crate();
    let (ident, vis) = (&item.ident, &item.vis);
    let ActorArguments { name, max_sends, zeroed } = arguments;
    let plain = plain_impls(&krate, &item, &checked);
    let size = size_assert(&krate, &item, &checked, STATE_BYTES_MAX, "the state of an actor has at most 4096 bytes");
    let initial = if zeroed {
        quote! { #krate::__private::bytemuck::Zeroable::zeroed() }
    } else {
        quote_spanned! { ident.span() => <#ident as ::core::default::Default>::default() }
    };
    Ok(quote! {
        #plain
        #size
        impl #krate::Actor for #ident {
            const NAME: &'static str = #name;
            const WIDTH: #krate::Width = #krate::Width::Lane;
            const MAX_SENDS: u32 = #max_sends;
            const STATE: &'static [#krate::FieldDescriptor] = match <Self as #krate::Plain>::TYPE {
                #krate::FieldType::Struct(_, fields) => fields,
                _ => &[],
            };
            const TEXT_HASH: u64 = #text_hash;
            fn initial() -> Self {
                #initial
            }
        }
        #[allow(dead_code)]
        impl #ident {
            /// The actor `key` of the set that is named like this type.
            #[must_use]
            #[inline]
            #vis const fn at(key: u64) -> #krate::ActorRef<Self> {
                #krate::ActorRef::at(key)
            }
            /// The actor `key` of the set `set`.
            #[must_use]
            #[inline]
            #vis const fn in_set(set: &str, key: u64) -> #krate::ActorRef<Self> {
                #krate::ActorRef::in_set(set, key)
            }
        }
    })
}

struct ActorArguments {
    name: String,
    max_sends: u32,
    zeroed: bool,
}

impl ActorArguments {
    fn parse(attr: TokenStream) -> Result<Self> {
        let mut name = None;
        let mut arguments = Self { name: String::new(), max_sends: MAX_SENDS_DEFAULT as u32, zeroed: false };
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                name = Some(parse_name(&meta)?);
            } else if meta.path.is_ident("width") {
                parse_width(&meta)?;
            } else if meta.path.is_ident("max_sends") {
                arguments.max_sends = parse_max_sends(&meta)?;
            } else if meta.path.is_ident("init") {
                let value: Ident = meta.value()?.parse()?;
                if value != "zero" {
                    return Err(Error::new(
                        value.span(),
                        "`init` is `zero` or left out: then the state is `Default::default()`",
                    ));
                }
                arguments.zeroed = true;
            } else {
                return Err(
                    meta.error("unknown argument of `#[actor]`: there are `name`, `width`, `max_sends` and `init`")
                );
            }
            Ok(())
        });
        parser.parse2(attr)?;
        arguments.name = name.ok_or_else(|| {
            Error::new(Span::call_site(), "an actor type has a name: write `#[actor(name = \"shop.cart\")]`")
        })?;
        Ok(arguments)
    }
}

fn parse_name(meta: &ParseNestedMeta<'_>) -> Result<String> {
    let lit: LitStr = meta.value()?.parse()?;
    let name = lit.value();
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
    };
    if name.len() > 63 || !name.split('.').all(word) {
        return Err(Error::new(
            lit.span(),
            "the name of an actor type is at most 63 characters: lower-case words of letters, digits, `-` and `_` with dots \
             between them, such as \"flights.carrier\"",
        ));
    }
    Ok(name)
}

fn parse_width(meta: &ParseNestedMeta<'_>) -> Result<()> {
    let width: Ident = meta.value()?.parse()?;
    if width == "lane" {
        Ok(())
    } else if width == "warp" || width == "block" {
        Err(Error::new(width.span(), format!("width `{width}` does not exist yet: write `width = lane`")))
    } else {
        Err(Error::new(width.span(), format!("there is no width `{width}`: write `width = lane`")))
    }
}

fn parse_max_sends(meta: &ParseNestedMeta<'_>) -> Result<u32> {
    let lit: LitInt = meta.value()?.parse()?;
    let max_sends: u32 = lit.base10_parse()?;
    if max_sends as usize > MAX_SENDS_LIMIT {
        return Err(Error::new(
            lit.span(),
            format!("one handling sends at most {MAX_SENDS_LIMIT} messages: let the actor tell itself to go on"),
        ));
    }
    Ok(max_sends)
}

fn refuse_arguments(attribute: &str, attr: &TokenStream) -> Result<()> {
    if attr.is_empty() {
        return Ok(());
    }
    Err(Error::new_spanned(attr, format!("`#[{attribute}]` takes no arguments")))
}

fn parse_struct(attribute: &str, item: TokenStream) -> Result<ItemStruct> {
    let item: ItemStruct = match syn::parse2(item.clone()) {
        Ok(item) => item,
        Err(_) => return Err(Error::new_spanned(first_tokens(item), format!("`{attribute}` stands on a struct"))),
    };
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &item.generics,
            format!("a struct with `{attribute}` has no parameters: its layout is fixed; write the types"),
        ));
    }
    if let Some(repr) = item.attrs.iter().find(|attr| attr.path().is_ident("repr")) {
        return Err(Error::new_spanned(repr, format!("leave `repr` out: `{attribute}` makes the struct `repr(C)`")));
    }
    Ok(item)
}

fn first_tokens(item: TokenStream) -> TokenStream {
    item.into_iter().take(2).collect()
}

/// The struct itself and what makes it plain.
fn plain_impls(krate: &TokenStream, item: &ItemStruct, checked: &Fields) -> TokenStream {
    let ident = &item.ident;
    let name = ident.to_string();
    let derives = [("Clone", quote!(::core::clone::Clone)), ("Copy", quote!(::core::marker::Copy))];
    let missing = derives.iter().filter(|(name, _)| !derives_already(&item.attrs, name)).map(|(_, path)| path);
    let asserts = layout_asserts(krate, item, checked);
    let names: Vec<&Ident> = checked.fields.iter().map(|(field, _)| field).collect();
    let types: Vec<&syn::Type> = checked.fields.iter().map(|(_, ty)| ty).collect();
    let descriptors = checked.fields.iter().map(|(field, ty)| {
        let field_name = field.to_string();
        quote! {
            #krate::FieldDescriptor {
                name: #field_name,
                ty: <#ty as #krate::Plain>::TYPE,
                offset: ::core::mem::offset_of!(#ident, #field),
            }
        }
    });
    quote! {
        #[derive(#(#missing),*)]
        #[repr(C)]
        #item
        const _: () = {
            /// The struct with numbers in place of enums.
            #[derive(::core::clone::Clone, ::core::marker::Copy)]
            #[repr(C)]
            pub struct Bits {
                #(#names: <#types as #krate::Plain>::Raw,)*
            }
            // SAFETY: all fields are `Pod`. The layout is that of the struct, for every field has the size and the alignment of its
            // counterpart; there is no padding, for every field starts where the one before it ends and the last one ends the struct
            // (asserted below).
            unsafe impl #krate::__private::bytemuck::Zeroable for Bits {}
            // SAFETY: as above.
            unsafe impl #krate::__private::bytemuck::Pod for Bits {}
            // SAFETY: all fields are `Plain` (asserted below by type), hence `Zeroable`.
            unsafe impl #krate::__private::bytemuck::Zeroable for #ident {}
            // SAFETY: the struct is `repr(C)` without padding (asserted below), and there is none in what is `Plain`.
            unsafe impl #krate::__private::bytemuck::NoUninit for #ident {}
            // SAFETY: `Bits` has the layout of the struct, and what is `Plain` says of every field whether its bits are a value.
            unsafe impl #krate::__private::bytemuck::CheckedBitPattern for #ident {
                type Bits = Bits;
                #[inline(always)]
                fn is_valid_bit_pattern(bits: &Bits) -> bool {
                    <#ident as #krate::Plain>::valid(bits)
                }
            }
            impl #krate::Plain for #ident {
                const TYPE: #krate::FieldType = #krate::FieldType::Struct(#name, &[#(#descriptors),*]);
                type Raw = Bits;
                #[inline]
                fn raw(self) -> Bits {
                    Bits { #(#names: <#types as #krate::Plain>::raw(self.#names),)* }
                }
                #[inline(always)]
                fn valid(bits: &Bits) -> bool {
                    let _ = bits;
                    true #(&& <#types as #krate::Plain>::valid(&bits.#names))*
                }
            }
            ::core::assert!(::core::mem::size_of::<Bits>() == ::core::mem::size_of::<#ident>());
            ::core::assert!(::core::mem::align_of::<Bits>() == ::core::mem::align_of::<#ident>());
        };
        #asserts
    }
}

pub fn derives_already(attrs: &[Attribute], name: &str) -> bool {
    attrs.iter().filter(|attr| attr.path().is_ident("derive")).any(|attr| {
        let mut found = false;
        // A derive that does not parse is rustc's to report.
        let _ = attr.parse_nested_meta(|meta| {
            found |= meta.path.segments.last().is_some_and(|last| last.ident == name);
            Ok(())
        });
        found
    })
}

/// What the `unsafe impl`s stand on. Where the macro knows the layout it has reported what is wrong before; these asserts are the proof
/// that does not depend on it.
fn layout_asserts(krate: &TokenStream, item: &ItemStruct, checked: &Fields) -> TokenStream {
    let ident = &item.ident;
    let mut end = quote!(0usize);
    let mut asserts = TokenStream::new();
    for (at, (field, ty)) in checked.fields.iter().enumerate() {
        let is_plain = format_ident!("field_{at}_is_plain");
        let text = format!(
            "padding before field `{field}`: order the fields from the most aligned to the least, or add a pad field"
        );
        asserts.extend(quote_spanned! { syn::spanned::Spanned::span(ty) =>
            const _: fn() = || {
                fn #is_plain<T: #krate::Plain>() {}
                #is_plain::<#ty>();
            };
        });
        asserts.extend(quote_spanned! { field.span() =>
            const _: () = ::core::assert!(::core::mem::offset_of!(#ident, #field) == #end, #text);
        });
        end = quote!(#end + ::core::mem::size_of::<#ty>());
    }
    let last = checked.fields.last().map_or(ident, |(field, _)| field);
    let text = format!("padding after field `{last}`: add a pad field after it");
    asserts.extend(quote_spanned! { last.span() =>
        const _: () = ::core::assert!(::core::mem::size_of::<#ident>() == #end, #text);
    });
    asserts
}

fn size_assert(
    krate: &TokenStream,
    item: &ItemStruct,
    checked: &Fields,
    bytes_max: usize,
    rule: &str,
) -> Option<TokenStream> {
    if checked.known {
        return None;
    }
    let ident = &item.ident;
    let text = format!("`{ident}` is too long: {rule}");
    let _ = krate;
    Some(quote_spanned! { ident.span() =>
        const _: () = ::core::assert!(::core::mem::size_of::<#ident>() <= #bytes_max, #text);
    })
}

/// The last name of a type's path, for messages.
pub fn type_name(ty: &syn::Type) -> String {
    match ty {
        syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
        other => other.to_token_stream().to_string(),
    }
}
