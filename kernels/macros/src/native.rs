//! The backend for CPU devices: from the checked form to Rust functions that return a `Fault` and cannot panic.
//!
//! Each function takes the fuel of the handling as one more parameter and gives `Result<_, Fault>`. Operations that may fail
//! become calls of `ringfleet_actor::ops` followed by `?`. Sub-expressions keep the order in which Rust evaluates them; the
//! value of an assignment comes before its place, as in Rust.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

use crate::ir::{AssignOp, Block, CheckedOp, CtxCall, Expr, ExprKind, Function, Let, Over, Receiver, Role, Stmt};

/// Emits functions of one actor.
pub struct Native {
    krate: TokenStream,
    /// The hidden parameter.
    fuel: Ident,
}

#[derive(Clone, Copy)]
enum Access {
    Shared,
    Mut,
}

impl Native {
    pub fn new(krate: TokenStream) -> Self {
        Self { krate, fuel: Ident::new("__fuel", Span::mixed_site()) }
    }

    pub fn krate(&self) -> &TokenStream {
        &self.krate
    }

    pub fn fuel(&self) -> &Ident {
        &self.fuel
    }

    pub fn function(&self, function: &Function) -> TokenStream {
        let Self { krate, fuel } = self;
        let Function { name, attrs, body, .. } = function;
        let self_token = &function.self_token;
        let receiver = match function.receiver {
            Receiver::None => None,
            Receiver::Shared => Some(quote!(&#self_token,)),
            Receiver::Mut => Some(quote!(&mut #self_token,)),
            Receiver::Value => Some(quote!(#self_token,)),
        };
        let (params, gives) = (params(function), gives(function));
        let body = self.block(body);
        // A handler's signature is not the user's choice: what it does not use is no mistake.
        let allow = match function.role {
            Role::Handler(_) => Some(quote!(#[allow(unused_variables)])),
            Role::Helper => None,
        };
        quote! {
            #(#attrs)*
            #allow
            #[inline]
            fn #name(#receiver #(#params,)* #fuel: &#krate::Fuel) -> ::core::result::Result<#gives, #krate::Fault> {
                let _ = #fuel;
                let __value: #gives = #body;
                ::core::result::Result::Ok(__value)
            }
        }
    }

    /// The body of a free function: gives the call, with the text that `code` says.
    pub fn free(&self, function: &Function, code: &Ident) -> TokenStream {
        let Self { krate, fuel } = self;
        let gives = gives(function);
        let body = self.block(&function.body);
        quote! {
            #krate::__private::call(
                #code,
                move |#fuel: &#krate::Fuel| -> ::core::result::Result<#gives, #krate::Fault> {
                    let _ = #fuel;
                    let __value: #gives = #body;
                    ::core::result::Result::Ok(__value)
                },
            )
        }
    }

    fn block(&self, block: &Block) -> TokenStream {
        let stmts = block.stmts.iter().map(|stmt| self.stmt(stmt));
        quote!({ #(#stmts)* })
    }

    /// The body of a loop: every iteration burns fuel first.
    fn body(&self, block: &Block) -> TokenStream {
        let fuel = &self.fuel;
        let stmts = block.stmts.iter().map(|stmt| self.stmt(stmt));
        quote!({ #fuel.burn()?; #(#stmts)* })
    }

    fn stmt(&self, stmt: &Stmt) -> TokenStream {
        match stmt {
            Stmt::Let(stmt) => {
                let Let { pat, ty, init, otherwise } = &**stmt;
                let ty = ty.as_ref().map(|ty| quote!(: #ty));
                let init = init.as_ref().map(|init| {
                    let value = self.value(init);
                    quote!(= #value)
                });
                let otherwise = otherwise.as_ref().map(|block| {
                    let block = self.block(block);
                    quote!(else #block)
                });
                quote!(let #pat #ty #init #otherwise;)
            }
            Stmt::Expr { expr, semi } => {
                let value = self.value(expr);
                if *semi { quote!(#value;) } else { value }
            }
        }
    }

    fn values(&self, exprs: &[Expr]) -> Vec<TokenStream> {
        exprs.iter().map(|expr| self.value(expr)).collect()
    }

    /// An expression. What is not a single token tree stands in parentheses, so that the result can stand anywhere.
    fn value(&self, expr: &Expr) -> TokenStream {
        let span = Span::mixed_site().located_at(expr.span);
        match &expr.kind {
            ExprKind::Lit { negative: false, lit } => quote!(#lit),
            ExprKind::Lit { negative: true, lit } => quote!((-#lit)),
            ExprKind::Path(path) => quote!(#path),
            ExprKind::Field { .. } | ExprKind::Deref(_) => self.place(expr, Access::Shared),
            ExprKind::Index { base, index } => self.element(base, index, span),
            ExprKind::Not(value) => {
                let value = self.value(value);
                quote!((!#value))
            }
            ExprKind::Neg(value) => {
                let (krate, value) = (&self.krate, self.value(value));
                quote_spanned!(span=> #krate::ops::neg(#value)?)
            }
            ExprKind::Checked { op, operands } => self.checked(*op, &self.values(operands), span),
            ExprKind::Binary { op, left, right } => {
                let (left, right) = (self.value(left), self.value(right));
                quote!((#left #op #right))
            }
            ExprKind::Assign { place, value } => {
                let value = if is_local(place) { self.value(value) } else { self.stored(value) };
                let place = self.place(place, Access::Mut);
                quote!(#place = #value)
            }
            ExprKind::AssignOp { op, place, value } => self.assign_op(*op, place, value, span),
            ExprKind::Cast { value, ty } => {
                let value = self.value(value);
                quote_spanned!(span=> (#value as #ty))
            }
            // Where devices differ, or Rust leaves the result open.
            ExprKind::Method { receiver, name, args }
                if ["min", "max", "to_bits", "copysign"].iter().any(|open| name == open) =>
            {
                let (krate, receiver, args) = (&self.krate, self.value(receiver), self.values(args));
                let name = Ident::new(&name.to_string(), span);
                quote_spanned!(span=> #krate::ops::#name(#receiver #(, #args)*))
            }
            ExprKind::Method { receiver, name, args } => {
                let (receiver, args) = (self.value(receiver), self.values(args));
                quote!(#receiver.#name(#(#args),*))
            }
            ExprKind::Convert { function, args } | ExprKind::Actor { function, args } => {
                let args = self.values(args);
                quote!(#function(#(#args),*))
            }
            ExprKind::Helper { on, name, args } => {
                let (args, fuel) = (self.values(args), &self.fuel);
                let receiver = on.as_ref().map_or_else(|| quote!(Self::), |on| quote!(#on.));
                quote!(#receiver #name(#(#args,)* #fuel)?)
            }
            ExprKind::Free { path, args } => {
                let (krate, fuel) = (&self.krate, &self.fuel);
                let called = free_call(krate, path, &self.values(args), span);
                quote_spanned!(span=> #krate::__private::run(#called, #fuel)?)
            }
            ExprKind::Math { name, args } => {
                let (krate, args, fuel) = (&self.krate, self.values(args), &self.fuel);
                let name = Ident::new(&name.to_string(), span);
                quote_spanned!(span=> #krate::math::checked::#name(#(#args,)* #fuel)?)
            }
            ExprKind::Ctx { ctx, call, name, args, .. } => {
                let args = self.values(args);
                match call {
                    CtxCall::Send | CtxCall::Bounded => quote!(#ctx.#name(#(#args),*)?),
                    CtxCall::Plain => quote!(#ctx.#name(#(#args),*)),
                    CtxCall::Fail => quote!(return ::core::result::Result::Err(#ctx.#name(#(#args),*))),
                }
            }
            ExprKind::Struct { path, fields } => {
                let fields = fields.iter().map(|(member, value)| {
                    let value = self.stored(value);
                    quote!(#member: #value)
                });
                quote!((#path { #(#fields),* }))
            }
            ExprKind::Tuple(values) => {
                let values = values.iter().map(|value| self.stored(value));
                quote!((#(#values,)*))
            }
            ExprKind::Array(values) => {
                let values = values.iter().map(|value| self.stored(value));
                quote!([#(#values),*])
            }
            ExprKind::Repeat { element, len } => {
                let (element, len) = (self.stored(element), self.value(len));
                quote!([#element; #len])
            }
            ExprKind::Ref { mutable: false, value } => {
                let place = self.place(value, Access::Shared);
                quote!(&#place)
            }
            ExprKind::Ref { mutable: true, value } => {
                let place = self.place(value, Access::Mut);
                quote!(&mut #place)
            }
            _ => self.control(expr),
        }
    }

    fn control(&self, expr: &Expr) -> TokenStream {
        match &expr.kind {
            ExprKind::Block(block) => self.block(block),
            ExprKind::If { cond, then, otherwise } => {
                let (cond, then) = (self.value(cond), self.block(then));
                let otherwise = otherwise.as_ref().map(|otherwise| {
                    let otherwise = self.value(otherwise);
                    quote!(else #otherwise)
                });
                quote!(if #cond #then #otherwise)
            }
            ExprKind::LetCond { pat, value } => {
                let value = self.value(value);
                quote!(let #pat = #value)
            }
            ExprKind::Match { value, arms } => {
                let value = self.value(value);
                let arms = arms.iter().map(|arm| {
                    let (pat, body) = (&arm.pat, self.value(&arm.body));
                    let guard = arm.guard.as_ref().map(|guard| {
                        let guard = self.value(guard);
                        quote!(if #guard)
                    });
                    quote!(#pat #guard => { #body })
                });
                quote!(match #value { #(#arms)* })
            }
            ExprKind::While { label, cond, body } => {
                let (label, cond, body) = (label_of(label), self.value(cond), self.body(body));
                quote!(#label while #cond #body)
            }
            ExprKind::Loop { label, body } => {
                let (label, body) = (label_of(label), self.body(body));
                quote!(#label loop #body)
            }
            ExprKind::For { label, pat, over, body } => {
                let (label, body) = (label_of(label), self.body(body));
                let over = match over {
                    Over::Range { from, to, inclusive } => {
                        let (from, to) = (self.value(from), self.value(to));
                        if *inclusive { quote!(#from..=#to) } else { quote!(#from..#to) }
                    }
                    Over::Array(array) => self.array(array),
                };
                quote!(#label for #pat in #over #body)
            }
            ExprKind::Break { label, value } => {
                let value = value.as_ref().map(|value| self.value(value));
                quote!(break #label #value)
            }
            ExprKind::Continue { label } => quote!(continue #label),
            ExprKind::Return(value) => {
                let value = value.as_ref().map_or_else(|| quote!(()), |value| self.value(value));
                quote!(return ::core::result::Result::Ok(#value))
            }
            // `value` has taken all others.
            _ => TokenStream::new(),
        }
    }

    /// An expression as a place: what it names, not a copy of it.
    fn place(&self, expr: &Expr, access: Access) -> TokenStream {
        let (krate, span) = (&self.krate, Span::mixed_site().located_at(expr.span));
        match &expr.kind {
            ExprKind::Field { base, member } => {
                let base = self.place(base, access);
                quote!(#base.#member)
            }
            ExprKind::Deref(reference) => {
                let reference = self.value(reference);
                quote!((*#reference))
            }
            ExprKind::Index { base, index } => {
                let (base, index) = (self.place(base, access), self.value(index));
                // The index is computed before the array is borrowed: it may read the array.
                match access {
                    Access::Shared => quote_spanned!(span=>
                        (*{ let __index: usize = #index; #krate::ops::at(&#base, __index)? })),
                    // A method, for what is a reference already is not borrowed anew.
                    Access::Mut => quote_spanned!(span=>
                        (*{ let __index: usize = #index; #krate::ops::at_mut(#base.as_mut_slice(), __index)? })),
                }
            }
            _ => self.value(expr),
        }
    }

    /// A copy of an element.
    fn element(&self, base: &Expr, index: &Expr, span: Span) -> TokenStream {
        let (krate, base, index) = (&self.krate, self.place(base, Access::Shared), self.value(index));
        quote_spanned!(span=> ({ let __index: usize = #index; let __element = *#krate::ops::at(&#base, __index)?; __element }))
    }

    /// What a `for` walks over, by value.
    fn array(&self, array: &Expr) -> TokenStream {
        let (krate, span) = (&self.krate, Span::mixed_site().located_at(array.span));
        let array = self.value(array);
        quote_spanned!(span=> #krate::__private::elements(#array))
    }

    fn checked(&self, op: CheckedOp, operands: &[TokenStream], span: Span) -> TokenStream {
        let krate = &self.krate;
        let name = Ident::new(function_of(op), span);
        quote_spanned!(span=> #krate::ops::#name(#(#operands),*)?)
    }

    /// A value on its way into a field, an element or a part of a tuple.
    fn stored(&self, value: &Expr) -> TokenStream {
        let (krate, span) = (&self.krate, Span::mixed_site().located_at(value.span));
        let value = self.value(value);
        quote_spanned!(span=> #krate::ops::stored(#value))
    }

    fn assign_op(&self, op: AssignOp, place: &Expr, value: &Expr, span: Span) -> TokenStream {
        let krate = &self.krate;
        let local = is_local(place);
        let (place, value) = (self.place(place, Access::Mut), self.value(value));
        let update = match op {
            AssignOp::Checked(op) => {
                let result = self.checked(op, &[quote_spanned!(span=> *__place), quote_spanned!(span=> __value)], span);
                if local {
                    quote_spanned!(span=> *__place = #result;)
                } else {
                    quote_spanned!(span=> *__place = #krate::ops::stored(#result);)
                }
            }
            AssignOp::Bits(op) => quote_spanned!(span=> *__place #op __value;),
        };
        quote_spanned!(span=> { let __value = #value; let __place = &mut #place; #update })
    }
}

/// The parameters of a function but `self`.
pub fn params(function: &Function) -> impl Iterator<Item = TokenStream> {
    function.params.iter().map(|param| {
        let (pat, ty) = (&param.pat, &param.ty);
        quote!(#pat: #ty)
    })
}

/// What a function gives.
pub fn gives(function: &Function) -> TokenStream {
    function.gives.as_ref().map_or_else(|| quote!(()), ToTokens::to_token_stream)
}

/// The call of a free function, or what rustc says of one that is not for devices. All calls with one place in the text look alike, so that it
/// says it once.
pub fn free_call(krate: &TokenStream, path: &syn::Path, args: &[TokenStream], span: Span) -> TokenStream {
    let span = Span::mixed_site().located_at(span);
    let call = quote_spanned!(span=> #path(#(#args),*));
    quote_spanned!(span=> #krate::__private::called(#call))
}

/// Whether a place is a local itself: it is no store, and a NaN in it is not seen before it is stored.
fn is_local(place: &Expr) -> bool {
    matches!(place.kind, ExprKind::Path(_))
}

fn label_of(label: &Option<syn::Lifetime>) -> Option<TokenStream> {
    label.as_ref().map(|label| quote!(#label:))
}

fn function_of(op: CheckedOp) -> &'static str {
    match op {
        CheckedOp::Add => "add",
        CheckedOp::Sub => "sub",
        CheckedOp::Mul => "mul",
        CheckedOp::Div => "div",
        CheckedOp::Rem => "rem",
        CheckedOp::Shl => "shl",
        CheckedOp::Shr => "shr",
        CheckedOp::DivEuclid => "div_euclid",
        CheckedOp::RemEuclid => "rem_euclid",
        CheckedOp::Abs => "abs",
        CheckedOp::Pow => "pow",
        CheckedOp::Clamp => "clamp",
    }
}
