//! Hashes of source text that do not change with formatting, comments or compiler versions.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use ringfleet_abi::hash::fnv1a64;

/// FNV-1a of the tokens, one space between them, documentation left out.
pub fn hash(tokens: TokenStream) -> u64 {
    let mut text = String::new();
    write(tokens, &mut text);
    fnv1a64(text.as_bytes())
}

/// The text of a type for messages, spaced as people write types. Compilers differ in how they print tokens.
pub fn show(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    show_into(tokens.to_token_stream(), &mut text);
    text
}

fn show_into(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        if text.ends_with([',', ';']) {
            text.push(' ');
        }
        let after_word = text.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket if after_word => (" [", "]"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                show_into(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => text.push(punct.as_char()),
            word => {
                if after_word {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
}

fn write(tokens: TokenStream, text: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' && tokens.peek().is_some_and(is_doc) => {
                tokens.next();
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("( ", ") "),
                    Delimiter::Brace => ("{ ", "} "),
                    Delimiter::Bracket => ("[ ", "] "),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.push_str(close);
            }
            other => {
                text.push_str(&other.to_string());
                text.push(' ');
            }
        }
    }
}

fn is_doc(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(ident)) if ident == "doc")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn types_are_shown_as_they_are_written() {
        for ty in ["Option<u32>", "&'static [u8; 4]", "std::vec::Vec<u8>", "(u32, i8)"] {
            assert_eq!(show(ty.parse::<TokenStream>().expect("tokens")), ty);
        }
    }

    #[test]
    fn layout_and_comments_do_not_count_and_every_token_does() {
        let base = hash(quote! { struct A { a: u32 } });
        let same: TokenStream = "/// doc\nstruct A {\n  // note\n a : u32 }".parse().expect("tokens");
        assert_eq!(hash(same), base);
        assert_ne!(hash(quote! { struct A { a: i32 } }), base);
        assert_ne!(hash(quote! { struct A { a: u32, } }), base);
    }
}
