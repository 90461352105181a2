//! `#[handlers]`: signatures and kinds, the functions, `handle` and the descriptor.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use ringfleet_abi::hash::fnv1a16;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Attribute, Error, FnArg, ImplItem, ImplItemFn, ItemImpl, Pat, Result, ReturnType, Type};

use crate::fields::push;
use crate::ir::{Function, Param, Program, Receiver, Role};
use crate::lower::{Known, Lowering};
use crate::native::Native;
use crate::paths::actor_crate;
use crate::structs::type_name;
use crate::tree::{self, Tree};
use crate::types::{self, Place};
use crate::{calls, math, text};

/// `#[handlers]`
pub fn handlers(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !attr.is_empty() {
        return Err(Error::new_spanned(attr, "`#[handlers]` takes no arguments"));
    }
    let text_hash = text::hash(item.clone());
    let item: ItemImpl = match syn::parse2(item.clone()) {
        Ok(item) => item,
        Err(_) => {
            let first: TokenStream = item.into_iter().take(2).collect();
            return Err(Error::new_spanned(first, "`#[handlers]` stands on an `impl` block of an actor"));
        }
    };
    let actor = actor_ident(&item)?;
    let program = read(&item, &actor, true)?;
    check_kinds(&program)?;
    calls::check(&program.functions)?;
    let krate = actor_crate();
    let tree = tree::tree(&krate, &program)?;
    let text_hash = if tree.math { text_hash ^ math::hash()? } else { text_hash };
    Ok(emit(&krate, &actor, &program, &tree, text_hash))
}

fn actor_ident(item: &ItemImpl) -> Result<Ident> {
    if let Some((_, path, _)) = &item.trait_ {
        return Err(Error::new_spanned(path, "handlers stand in an `impl` of the actor itself, not of a trait"));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "an actor type has no parameters"));
    }
    match &*item.self_ty {
        Type::Path(path) => match path.path.get_ident() {
            Some(ident) => Ok(ident.clone()),
            None => Err(Error::new_spanned(path, "write the name of the actor's struct, in its own module")),
        },
        other => Err(Error::new_spanned(other, "write the name of the actor's struct")),
    }
}

/// Reads the functions of a block; that of an actor has handlers.
pub fn read(item: &ItemImpl, actor: &Ident, is_actor: bool) -> Result<Program> {
    let mut errors = None;
    let mut functions = Vec::new();
    let mut consts = Vec::new();
    for item in &item.items {
        match item {
            ImplItem::Fn(function) => functions.push(function),
            ImplItem::Const(constant) => match types::check(&constant.ty, Place::Value) {
                Ok(()) => consts.push(constant.clone()),
                Err(error) => push(&mut errors, error),
            },
            other => {
                push(&mut errors, Error::new_spanned(other, "an `impl` with handlers has functions and constants only"))
            }
        }
    }
    let (handlers, helpers): (Vec<&ImplItemFn>, Vec<&ImplItemFn>) =
        functions.iter().copied().partition(|function| is_handler(function));
    let handler_names: Vec<Ident> = handlers.iter().map(|function| function.sig.ident.clone()).collect();
    let helper_names: Vec<(Ident, Receiver)> =
        helpers.iter().map(|function| (function.sig.ident.clone(), receiver(function))).collect();
    if is_actor && handler_names.is_empty() {
        push(
            &mut errors,
            Error::new_spanned(
                actor,
                format!("`{actor}` handles nothing: add `fn on_..(&mut self, m: &Message, ctx: &mut Ctx)`"),
            ),
        );
    }
    let handled: Vec<String> = handlers.iter().filter_map(|function| named_message(function)).collect();
    let known = Known { actor, helpers: &helper_names, handlers: &handler_names, handled: &handled, is_free: false };
    let mut read = Vec::new();
    for function in functions {
        match function_of(function, &known) {
            Ok(function) => read.push(function),
            Err(error) => push(&mut errors, error),
        }
    }
    match errors {
        Some(errors) => Err(errors),
        None => Ok(Program { consts, functions: read }),
    }
}

fn is_handler(function: &ImplItemFn) -> bool {
    function.sig.ident.to_string().starts_with("on_")
}

fn receiver(function: &ImplItemFn) -> Receiver {
    match function.sig.receiver() {
        None => Receiver::None,
        Some(receiver) if receiver.reference.is_none() => Receiver::Value,
        Some(receiver) if receiver.mutability.is_some() => Receiver::Mut,
        Some(_) => Receiver::Shared,
    }
}

/// Reads a function of an actor, or a free one.
pub fn function_of(function: &ImplItemFn, known: &Known<'_>) -> Result<Function> {
    let sig = &function.sig;
    check_qualifiers(function, known.is_free)?;
    check_attributes(function, known.is_free)?;
    let mut params = Vec::new();
    for input in &sig.inputs {
        if let FnArg::Typed(param) = input {
            if !matches!(&*param.pat, Pat::Ident(ident) if ident.by_ref.is_none() && ident.subpat.is_none())
                && !matches!(&*param.pat, Pat::Wild(_))
            {
                return Err(Error::new_spanned(&param.pat, "a parameter is a name"));
            }
            types::check(&param.ty, Place::Param)?;
            params.push(Param { pat: (*param.pat).clone(), ty: (*param.ty).clone() });
        }
    }
    let gives = match &sig.output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => Some((**ty).clone()),
    };
    let role = match is_handler(function) && !known.is_free {
        true => Role::Handler(Box::new(handled(function, &params)?)),
        false => Role::Helper,
    };
    if let Some(gives) = &gives {
        types::check(gives, Place::Value)?;
    }
    let ctx = params.iter().find(|param| types::is_ctx(&param.ty)).and_then(|param| name_of(&param.pat));
    let mut messages = Vec::new();
    if let Role::Handler(message) = &role
        && let Type::Path(message) = &**message
        && let Some(name) = params.first().and_then(|param| name_of(&param.pat))
    {
        messages.push((name, message.path.clone()));
    }
    let mut lowering = Lowering { known, ctx, messages, calls: Vec::new(), sends: Vec::new() };
    let body = lowering.block(&function.block)?;
    let Lowering { calls, sends, .. } = lowering;
    Ok(Function {
        name: sig.ident.clone(),
        attrs: function.attrs.clone(),
        role,
        receiver: receiver(function),
        self_token: sig.receiver().map(|receiver| receiver.self_token),
        params,
        gives,
        body,
        calls,
        sends,
    })
}

fn name_of(pat: &Pat) -> Option<Ident> {
    match pat {
        Pat::Ident(ident) => Some(ident.ident.clone()),
        _ => None,
    }
}

fn check_qualifiers(function: &ImplItemFn, is_free: bool) -> Result<()> {
    let sig = &function.sig;
    let refuse = |span, text: &str| Err(Error::new(span, text));
    if let Some(token) = &sig.asyncness {
        return refuse(
            token.span(),
            "a handler runs to its end: tell an actor, or use `ctx.after`, instead of waiting",
        );
    }
    if let Some(token) = &sig.unsafety {
        return refuse(token.span(), "there is no `unsafe` in a handler: everything it can reach is checked");
    }
    if let Some(token) = &sig.constness {
        return refuse(token.span(), "leave `const` out: helpers run on a device");
    }
    if let Some(abi) = &sig.abi {
        return refuse(abi.span(), "leave `extern` out: helpers run on a device");
    }
    if !sig.generics.params.is_empty() || sig.generics.where_clause.is_some() {
        let whose = if is_free { "functions for devices" } else { "functions of an actor" };
        return refuse(
            sig.generics.span(),
            &format!("{whose} have no parameters of types or lifetimes: write the types"),
        );
    }
    if !is_free && !matches!(function.vis, syn::Visibility::Inherited) {
        return refuse(function.vis.span(), "functions of an actor are called by messages only: leave `pub` out");
    }
    Ok(())
}

/// Documentation and lints may stand at a function; whatever would change what runs may not, for it would not be in the text.
fn check_attributes(function: &ImplItemFn, is_free: bool) -> Result<()> {
    const HARMLESS: [&str; 5] = ["doc", "allow", "expect", "warn", "inline"];
    let harmless = |attr: &Attribute| HARMLESS.iter().any(|name| attr.path().is_ident(name));
    if let Some(attr) = function.attrs.iter().find(|attr| !harmless(attr)) {
        let which = if is_free { "for devices" } else { "of an actor" };
        return Err(Error::new_spanned(attr, format!("at a function {which} stand documentation and lints only")));
    }
    let mut inside = Attributes { first: None };
    inside.visit_block(&function.block);
    match inside.first {
        Some(attr) => Err(Error::new_spanned(attr, "attributes stand at functions, not inside them: leave it out")),
        None => Ok(()),
    }
}

/// Finds the first attribute of a block.
struct Attributes<'a> {
    first: Option<&'a Attribute>,
}

impl<'a> Visit<'a> for Attributes<'a> {
    fn visit_attribute(&mut self, attr: &'a Attribute) {
        self.first.get_or_insert(attr);
    }
}

/// The message of a handler.
fn handled(function: &ImplItemFn, params: &[Param]) -> Result<Type> {
    let sig = &function.sig;
    let name = &sig.ident;
    let shape = format!("a handler is `fn {name}(&mut self, m: &Message, ctx: &mut Ctx)`");
    if let ReturnType::Type(_, ty) = &sig.output {
        return Err(Error::new_spanned(
            ty,
            format!("{shape}: it gives nothing; answer with `ctx.reply(&Report {{ .. }})`"),
        ));
    }
    if receiver(function) != Receiver::Mut {
        let span = sig.receiver().map_or_else(|| name.span(), Spanned::span);
        return Err(Error::new(span, shape));
    }
    let [message, ctx] = params else { return Err(Error::new_spanned(name, shape)) };
    if !types::is_ctx(&ctx.ty) {
        return Err(Error::new_spanned(&ctx.ty, shape));
    }
    match &message.ty {
        Type::Reference(reference) if reference.mutability.is_none() && matches!(&*reference.elem, Type::Path(_)) => {
            Ok((*reference.elem).clone())
        }
        other => Err(Error::new_spanned(other, shape)),
    }
}

/// The name of the message in a handler's signature, right or wrong.
fn named_message(function: &ImplItemFn) -> Option<String> {
    match function.sig.inputs.iter().nth(1)? {
        FnArg::Typed(param) => match &*param.ty {
            Type::Reference(reference) => Some(type_name(&reference.elem)),
            _ => None,
        },
        FnArg::Receiver(_) => None,
    }
}

/// The messages of all handlers, with the names of the handlers.
fn handled_messages(program: &Program) -> Vec<(&Ident, &Type)> {
    let handled = program.functions.iter().filter_map(|function| match &function.role {
        Role::Handler(message) => Some((&function.name, &**message)),
        Role::Helper => None,
    });
    handled.collect()
}

/// Two messages of one actor differ in kind. By name here, where the error can stand at the handler; by value in the generated asserts.
fn check_kinds(program: &Program) -> Result<()> {
    let handled = handled_messages(program);
    for (at, (name, message)) in handled.iter().enumerate() {
        let text = type_name(message);
        for (other, earlier) in &handled[..at] {
            let earlier = type_name(earlier);
            if earlier == text {
                return Err(Error::new_spanned(
                    name,
                    format!("`{other}` and `{name}` both handle `{text}`: a message has one handler"),
                ));
            }
            if fnv1a16(earlier.as_bytes()) == fnv1a16(text.as_bytes()) {
                return Err(Error::new_spanned(
                    message,
                    format!(
                        "the messages `{earlier}` and `{text}` have the same kind, which is a hash of the name: rename one of them"
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn emit(krate: &TokenStream, actor: &Ident, program: &Program, tree: &Tree, text_hash: u64) -> TokenStream {
    let native = Native::new(krate.clone());
    let fuel = native.fuel();
    let functions = program.functions.iter().map(|function| native.function(function));
    let consts = &program.consts;
    let handled = handled_messages(program);
    let messages: Vec<&Type> = handled.iter().map(|(_, message)| *message).collect();
    // One set of names for the arms, which have the spans of the user's types, and for the function around them.
    let [state, incoming, ctx] = ["state", "incoming", "ctx"].map(|name| Ident::new(name, Span::mixed_site()));
    let arms = handled.iter().map(|(name, message)| {
        quote_spanned! { message.span() =>
            <#message as #krate::Message>::KIND => {
                let message = #krate::__private::message_of::<#message>(#incoming)?;
                #krate::__private::state_of::<#actor>(#state)?.#name(message, #ctx, &#fuel)
            }
        }
    });
    let sends = sends(program);
    let asserts = kind_asserts(krate, &handled);
    let Tree { bytes, list, externals, calls, .. } = tree;
    let bytes = proc_macro2::Literal::byte_string(bytes);
    quote! {
        #[allow(
            unused_parens, unused_braces, unreachable_code, unused_must_use, clippy::all, clippy::pedantic,
            clippy::arithmetic_side_effects
        )]
        impl #actor {
            #(#consts)*
            #(#functions)*
        }
        #(impl #krate::Handles<#messages> for #actor {})*
        #asserts
        impl #krate::Behaviour for #actor {
            const DESCRIPTOR: &'static #krate::TypeDescriptor = {
                const KINDS: &[#krate::KindDescriptor] = &[#(#krate::__private::kind_of::<#messages>()),*];
                const SENDS: &[#krate::KindDescriptor] = &[#(#krate::__private::kind_of::<#sends>()),*];
                const CALLS: &[&#krate::FunctionCode] = &[#(#calls),*];
                fn init(state: &mut [u8]) {
                    #krate::__private::init::<#actor>(state);
                }
                fn handle(
                    #state: &mut [u8],
                    #incoming: &#krate::Envelope,
                    #ctx: &mut #krate::Ctx<'_>,
                ) -> ::core::result::Result<(), #krate::Fault> {
                    #ctx.allow_sends(<#actor as #krate::Actor>::MAX_SENDS);
                    let #fuel = #krate::Fuel::new();
                    match #incoming.kind {
                        #(#arms)*
                        _ => ::core::result::Result::Err(#krate::Fault::BadMessage),
                    }
                }
                &#krate::TypeDescriptor {
                    name: <#actor as #krate::Actor>::NAME,
                    width: <#actor as #krate::Actor>::WIDTH,
                    state_bytes: ::core::mem::size_of::<#actor>(),
                    max_sends: <#actor as #krate::Actor>::MAX_SENDS,
                    code_hash: #krate::__private::code_hash(
                        <#actor as #krate::Actor>::TEXT_HASH,
                        #krate::__private::hash_with(#text_hash, CALLS),
                        KINDS,
                        SENDS,
                    ),
                    layout_hash: #krate::__private::layout_hash(<#actor as #krate::Actor>::STATE),
                    state: <#actor as #krate::Actor>::STATE,
                    kinds: KINDS,
                    sends: SENDS,
                    init,
                    handle,
                    code: #krate::Code {
                        file: ::core::file!(),
                        tree: #bytes,
                        state: <#actor as #krate::Plain>::TYPE,
                        // A closure: constants are named by `Self` too.
                        externals: |#list: &mut #krate::__private::Externals| { let _ = &#list; #externals },
                        calls: CALLS,
                    },
                }
            };
        }
    }
}

/// The messages that the functions make, each once.
fn sends(program: &Program) -> Vec<syn::Path> {
    let mut seen = Vec::new();
    let mut sends = Vec::new();
    for path in program.functions.iter().flat_map(|function| &function.sends) {
        let text = path.to_token_stream().to_string();
        if !seen.contains(&text) {
            seen.push(text);
            sends.push(path.clone());
        }
    }
    sends
}

/// The proof that no two kinds are equal, whatever names the types were imported under.
fn kind_asserts(krate: &TokenStream, handled: &[(&Ident, &Type)]) -> TokenStream {
    let mut asserts = TokenStream::new();
    for (at, (_, message)) in handled.iter().enumerate() {
        for (_, earlier) in &handled[..at] {
            let text = format!(
                "the messages `{}` and `{}` have the same kind, which is a hash of the name: rename one of them",
                type_name(earlier),
                type_name(message)
            );
            asserts.extend(quote_spanned! { message.span() =>
                const _: () = ::core::assert!(
                    <#message as #krate::Message>::KIND != <#earlier as #krate::Message>::KIND,
                    #text
                );
            });
        }
    }
    asserts
}
