//! From the text of one function to the checked form.
//!
//! Everything that is not listed here is refused, at its place in the user's text and with what to write instead. All errors of a
//! function are reported together where that makes sense: statement by statement.

use proc_macro2::{Ident, Span};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Error, Expr as Syntax, Lit, Pat, Path, Result, UnOp};

use crate::fields::push;
use crate::ir::{Arm, AssignOp, Block, CheckedOp, CtxCall, Expr, ExprKind, Let, Over, Receiver, Stmt};
use crate::math;
use crate::methods::{self, Method};
use crate::patterns;
use crate::types::{self, Place};

/// The functions that may be called by name.
pub struct Known<'a> {
    /// The actor type's name.
    pub actor: &'a Ident,
    /// Helpers and their receivers.
    pub helpers: &'a [(Ident, Receiver)],
    /// Handlers: they may not be called.
    pub handlers: &'a [Ident],
    /// The names of the messages that they handle.
    pub handled: &'a [String],
    /// What is read is a free function, and `actor` its name.
    pub is_free: bool,
}

/// Reads one function.
pub struct Lowering<'a> {
    pub known: &'a Known<'a>,
    /// The parameter of type `&mut Ctx`.
    pub ctx: Option<Ident>,
    /// Names with the message they hold: the handler's parameter, and locals made by a struct literal.
    pub messages: Vec<(Ident, Path)>,
    pub calls: Vec<Ident>,
    pub sends: Vec<Path>,
}

/// An error that underlines all of `tokens`.
fn refuse<T>(tokens: impl ToTokens, text: impl std::fmt::Display) -> Result<T> {
    Err(Error::new_spanned(tokens, text))
}

fn expr(kind: ExprKind, span: Span) -> Result<Expr> {
    Ok(Expr { kind, span })
}

impl Lowering<'_> {
    pub fn block(&mut self, block: &syn::Block) -> Result<Block> {
        let mut stmts = Vec::new();
        let mut errors = None;
        for stmt in &block.stmts {
            match self.stmt(stmt) {
                Ok(stmt) => stmts.push(stmt),
                Err(error) => push(&mut errors, error),
            }
        }
        match errors {
            Some(errors) => Err(errors),
            None => Ok(Block { stmts }),
        }
    }

    fn stmt(&mut self, stmt: &syn::Stmt) -> Result<Stmt> {
        match stmt {
            syn::Stmt::Local(local) => self.local(local),
            syn::Stmt::Expr(syntax, semi) => Ok(Stmt::Expr { expr: self.boxed(syntax)?, semi: semi.is_some() }),
            syn::Stmt::Macro(stmt) => self.refuse_macro(&stmt.mac),
            syn::Stmt::Item(item) => refuse(item, "items stand beside the handlers, not inside them"),
        }
    }

    fn local(&mut self, local: &syn::Local) -> Result<Stmt> {
        let (pat, ty) = match &local.pat {
            Pat::Type(typed) => (&*typed.pat, Some(&*typed.ty)),
            pat => (pat, None),
        };
        if let Some(ty) = ty {
            types::check(ty, Place::Value)?;
        }
        let (init, otherwise) = match &local.init {
            None => (None, None),
            Some(init) => {
                if let Syntax::Reference(reference) = &*init.expr {
                    return refuse(
                        reference.and_token,
                        "references are not stored: copy the value, or use the place itself",
                    );
                }
                let otherwise = match &init.diverge {
                    None => None,
                    Some((_, syntax)) => match &**syntax {
                        Syntax::Block(block) => Some(self.block(&block.block)?),
                        other => return refuse(other, "`else` has a block"),
                    },
                };
                (Some(self.expr(&init.expr)?), otherwise)
            }
        };
        self.bind(pat)?;
        if let (Pat::Ident(ident), Some(Expr { kind: ExprKind::Struct { path, .. }, .. })) = (pat, &init) {
            self.messages.push((ident.ident.clone(), path.clone()));
        }
        Ok(Stmt::Let(Box::new(Let { pat: pat.clone(), ty: ty.cloned(), init, otherwise })))
    }

    /// Checks a pattern; the names in it hide what they meant before.
    fn bind(&mut self, pat: &Pat) -> Result<()> {
        let mut names = Vec::new();
        patterns::check(pat, &mut names)?;
        for name in names {
            if self.ctx.as_ref() == Some(&name) {
                return refuse(&name, format!("`{name}` is the `Ctx` of this function: use another name"));
            }
            self.messages.retain(|(known, _)| *known != name);
        }
        Ok(())
    }

    fn boxed(&mut self, syntax: &Syntax) -> Result<Box<Expr>> {
        Ok(Box::new(self.expr(syntax)?))
    }

    fn all<'s>(&mut self, list: impl IntoIterator<Item = &'s Syntax>) -> Result<Vec<Expr>> {
        list.into_iter().map(|syntax| self.expr(syntax)).collect()
    }

    pub fn expr(&mut self, syntax: &Syntax) -> Result<Expr> {
        let span = syntax.span();
        let kind = match syntax {
            Syntax::Paren(paren) => return self.expr(&paren.expr),
            Syntax::Group(group) => return self.expr(&group.expr),
            Syntax::Lit(lit) => literal(&lit.lit, false)?,
            Syntax::Path(path) => self.path(path)?,
            Syntax::Field(field) => ExprKind::Field { base: self.base(&field.base)?, member: field.member.clone() },
            Syntax::Index(index) => ExprKind::Index { base: self.base(&index.expr)?, index: self.index(&index.index)? },
            Syntax::Unary(unary) => self.unary(unary)?,
            Syntax::Binary(binary) => self.binary(binary)?,
            Syntax::Assign(assign) => {
                let value = self.boxed(&assign.right)?;
                ExprKind::Assign { place: self.place(&assign.left)?, value }
            }
            Syntax::Cast(cast) => {
                if !types::is_scalar(&cast.ty) {
                    return refuse(&cast.ty, "`as` goes to numbers and `bool`");
                }
                ExprKind::Cast { value: self.boxed(&cast.expr)?, ty: (*cast.ty).clone() }
            }
            Syntax::MethodCall(call) => self.method(call)?,
            Syntax::Call(call) => self.call(call)?,
            Syntax::Struct(literal) => self.struct_literal(literal)?,
            Syntax::Tuple(tuple) => ExprKind::Tuple(self.all(&tuple.elems)?),
            Syntax::Array(array) => ExprKind::Array(self.all(&array.elems)?),
            Syntax::Repeat(repeat) => {
                ExprKind::Repeat { element: self.boxed(&repeat.expr)?, len: self.constant(&repeat.len)? }
            }
            Syntax::Block(block) => {
                if let Some(label) = &block.label {
                    return refuse(label, "blocks have no labels here: use a loop or a helper with `return`");
                }
                ExprKind::Block(self.block(&block.block)?)
            }
            Syntax::If(branch) => self.branch(branch)?,
            Syntax::Match(matching) => self.matching(matching)?,
            Syntax::While(looping) => {
                let cond = self.condition(&looping.cond)?;
                ExprKind::While { label: label(&looping.label), cond, body: self.block(&looping.body)? }
            }
            Syntax::Loop(looping) => ExprKind::Loop { label: label(&looping.label), body: self.block(&looping.body)? },
            Syntax::ForLoop(looping) => self.for_loop(looping)?,
            Syntax::Break(leave) => {
                let value = leave.expr.as_ref().map(|value| self.boxed(value)).transpose()?;
                ExprKind::Break { label: leave.label.clone(), value }
            }
            Syntax::Continue(next) => ExprKind::Continue { label: next.label.clone() },
            Syntax::Return(leave) => ExprKind::Return(leave.expr.as_ref().map(|value| self.boxed(value)).transpose()?),
            Syntax::Reference(reference) => {
                return refuse(reference.and_token, "references are arguments of `ctx` calls and helpers only");
            }
            Syntax::Macro(call) => return self.refuse_macro(&call.mac),
            other => return refuse(other, not_in_the_subset(other)),
        };
        expr(kind, span)
    }

    fn refuse_macro<T>(&self, mac: &syn::Macro) -> Result<T> {
        let name = mac.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        let instead = match name.as_str() {
            "assert" | "assert_eq" | "assert_ne" | "debug_assert" | "panic" | "unreachable" | "todo"
            | "unimplemented" => "write an `if` and `ctx.fail(code)`",
            "println" | "print" | "eprintln" | "dbg" | "format" | "write" => "there is no text: send a message",
            "vec" => "there is no allocation: use an array in the state",
            "matches" => "write a `match`",
            _ => "write out what it stands for",
        };
        refuse(&mac.path, format!("macros do not run in a handler: instead of `{name}!`, {instead}"))
    }

    /// What `.field` or `[index]` is applied to: `self` may stand there alone.
    fn base(&mut self, syntax: &Syntax) -> Result<Box<Expr>> {
        match syntax {
            Syntax::Path(path) if path.path.is_ident("self") => {
                Ok(Box::new(expr(ExprKind::Path(path.path.clone()), path.span())?))
            }
            other => self.boxed(other),
        }
    }

    fn index(&mut self, syntax: &Syntax) -> Result<Box<Expr>> {
        if let Syntax::Range(range) = syntax {
            return refuse(range, "there are no slices: use one index at a time");
        }
        self.boxed(syntax)
    }

    fn place(&mut self, syntax: &Syntax) -> Result<Box<Expr>> {
        match syntax {
            Syntax::Path(_) | Syntax::Field(_) | Syntax::Index(_) => self.boxed(syntax),
            Syntax::Unary(unary) if matches!(unary.op, UnOp::Deref(_)) => self.boxed(syntax),
            Syntax::Paren(paren) => self.place(&paren.expr),
            Syntax::Tuple(tuple) => refuse(tuple, "assign to one place at a time"),
            Syntax::Infer(infer) => refuse(infer, "write `let _ = ..`"),
            other => refuse(other, "only locals, fields and elements of arrays can be assigned to"),
        }
    }

    fn path(&mut self, path: &syn::ExprPath) -> Result<ExprKind> {
        if path.qself.is_some() {
            return refuse(path, "write the type itself");
        }
        if let Some(ident) = path.path.get_ident() {
            if ident == "self" {
                return refuse(path, "`self` is used by its fields and helpers only");
            }
            if self.ctx.as_ref() == Some(ident) {
                return refuse(path, format!("`{ident}` is used by its methods, and as an argument of helpers"));
            }
            let name = ident.to_string();
            if name == "None" {
                return refuse(path, "an `Option` comes from a `checked_` method only; use a value that means none");
            }
            return Ok(ExprKind::Path(path.path.clone()));
        }
        match path.path.segments.last() {
            // A constant or a variant; rustc resolves it.
            Some(last) if last.ident.to_string().starts_with(|c: char| c.is_ascii_uppercase()) => {
                Ok(ExprKind::Path(path.path.clone()))
            }
            _ => refuse(
                path,
                "a path is a constant or a variant here, such as `u32::MAX`, `Self::LIMIT` or `Mode::Open`",
            ),
        }
    }

    fn constant(&mut self, syntax: &Syntax) -> Result<Box<Expr>> {
        match syntax {
            Syntax::Lit(_) | Syntax::Path(_) => self.boxed(syntax),
            other => refuse(other, "the length of an array is a literal or a constant"),
        }
    }

    fn unary(&mut self, unary: &syn::ExprUnary) -> Result<ExprKind> {
        match (&unary.op, &*unary.expr) {
            (UnOp::Neg(_), Syntax::Lit(lit)) => literal(&lit.lit, true),
            (UnOp::Neg(_), value) => Ok(ExprKind::Neg(self.boxed(value)?)),
            (UnOp::Not(_), value) => Ok(ExprKind::Not(self.boxed(value)?)),
            (UnOp::Deref(_), value) => match value {
                Syntax::Path(path) if path.path.is_ident("self") => {
                    refuse(unary, "`self` is used by its fields and helpers only")
                }
                Syntax::Path(_) => Ok(ExprKind::Deref(self.boxed(value)?)),
                other => refuse(other, "`*` goes before a parameter that is a reference"),
            },
            _ => refuse(unary, "this operator is not in the subset"),
        }
    }

    fn binary(&mut self, binary: &syn::ExprBinary) -> Result<ExprKind> {
        let bits =
            matches!(binary.op, syn::BinOp::BitAndAssign(_) | syn::BinOp::BitOrAssign(_) | syn::BinOp::BitXorAssign(_));
        if bits || assign_op(&binary.op).is_some() {
            let op = assign_op(&binary.op).map_or(AssignOp::Bits(binary.op), AssignOp::Checked);
            let value = self.boxed(&binary.right)?;
            return Ok(ExprKind::AssignOp { op, place: self.place(&binary.left)?, value });
        }
        let (left, right) = (self.expr(&binary.left)?, self.expr(&binary.right)?);
        Ok(match checked_op(&binary.op) {
            Some(op) => ExprKind::Checked { op, operands: vec![left, right] },
            None => ExprKind::Binary { op: binary.op, left: Box::new(left), right: Box::new(right) },
        })
    }

    fn condition(&mut self, syntax: &Syntax) -> Result<Box<Expr>> {
        let Syntax::Let(cond) = syntax else { return self.boxed(syntax) };
        let value = self.boxed(&cond.expr)?;
        self.bind(&cond.pat)?;
        Ok(Box::new(expr(ExprKind::LetCond { pat: (*cond.pat).clone(), value }, cond.span())?))
    }

    fn branch(&mut self, branch: &syn::ExprIf) -> Result<ExprKind> {
        let cond = self.condition(&branch.cond)?;
        let then = self.block(&branch.then_branch)?;
        let otherwise = match &branch.else_branch {
            Some((_, syntax)) => Some(self.boxed(syntax)?),
            None => None,
        };
        Ok(ExprKind::If { cond, then, otherwise })
    }

    fn matching(&mut self, matching: &syn::ExprMatch) -> Result<ExprKind> {
        let value = self.boxed(&matching.expr)?;
        let mut arms = Vec::new();
        for arm in &matching.arms {
            self.bind(&arm.pat)?;
            let guard = match &arm.guard {
                Some((_, syntax)) => Some(self.expr(syntax)?),
                None => None,
            };
            arms.push(Arm { pat: arm.pat.clone(), guard, body: self.expr(&arm.body)? });
        }
        Ok(ExprKind::Match { value, arms })
    }

    fn for_loop(&mut self, looping: &syn::ExprForLoop) -> Result<ExprKind> {
        let mut over = &*looping.expr;
        while let Syntax::Paren(paren) = over {
            over = &paren.expr;
        }
        let over = match over {
            Syntax::Range(range) => {
                let (Some(from), Some(to)) = (&range.start, &range.end) else {
                    return refuse(range, "the range of a `for` has two ends: write `from..to`");
                };
                let inclusive = matches!(range.limits, syn::RangeLimits::Closed(_));
                Over::Range { from: self.boxed(from)?, to: self.boxed(to)?, inclusive }
            }
            Syntax::Reference(reference) => {
                return refuse(reference, "write `for x in self.array`: the elements are copied");
            }
            other => Over::Array(self.boxed(other)?),
        };
        self.bind(&looping.pat)?;
        Ok(ExprKind::For {
            label: label(&looping.label),
            pat: (*looping.pat).clone(),
            over,
            body: self.block(&looping.body)?,
        })
    }

    fn struct_literal(&mut self, literal: &syn::ExprStruct) -> Result<ExprKind> {
        if let Some(rest) = &literal.rest {
            return refuse(rest, "write all fields of the struct");
        }
        let fields = literal
            .fields
            .iter()
            .map(|field| Ok((field.member.clone(), self.expr(&field.expr)?)))
            .collect::<Result<_>>()?;
        Ok(ExprKind::Struct { path: literal.path.clone(), fields })
    }

    fn call(&mut self, call: &syn::ExprCall) -> Result<ExprKind> {
        let Syntax::Path(function) = &*call.func else {
            return refuse(&call.func, "there are no function values: call a helper by its name");
        };
        let path = &function.path;
        let segments: Vec<&Ident> = path.segments.iter().map(|segment| &segment.ident).collect();
        let Some((name, owner)) = segments.split_last() else {
            return refuse(call, "call a helper by its name");
        };
        if self.known.is_free && owner.is_empty() && **name == *self.known.actor {
            return refuse(
                function,
                format!(
                    "recursion: `{name}` calls `{name}`; the stack of a GPU thread is bounded: write a loop, or let the actor tell \
                     itself to go on"
                ),
            );
        }
        let own = matches!(owner, [owner] if **owner == "Self" || *owner == self.known.actor) && !self.known.is_free;
        if own && let Some((_, receiver)) = self.known.helpers.iter().find(|(helper, _)| helper == *name) {
            if *receiver != Receiver::None {
                return refuse(function, format!("write `self.{name}(..)`"));
            }
            self.calls.push((*name).clone());
            return Ok(ExprKind::Helper { on: None, name: (*name).clone(), args: self.arguments(&call.args)? });
        }
        if let Some(owner) = owner.last()
            && **owner == "math"
        {
            return self.math(call, name);
        }
        if !owner.is_empty() && (**name == "at" || **name == "in_set") {
            return self.actor_reference(call, path, name);
        }
        if let [owner] = owner
            && crate::fields::scalar_bytes(&owner.to_string()).is_some()
            && (**name == "from" || **name == "from_bits")
        {
            let args = self.all(&call.args)?;
            return Ok(ExprKind::Convert { function: path.clone(), args });
        }
        if **name == "Some" {
            return refuse(call, "an `Option` comes from a `checked_` method only; use a value that means none");
        }
        if let Some(arguments) = path.segments.iter().find(|segment| !segment.arguments.is_empty()) {
            return refuse(&arguments.arguments, "there are no generic calls here");
        }
        let first = segments[0];
        if ["std", "core", "alloc"].iter().any(|library| first == library) {
            return refuse(
                function,
                format!(
                    "`{name}` of the standard library does not run on a device: there are the methods of numbers, such as `a.max(b)`, \
                     and functions with `#[device_fn]`"
                ),
            );
        }
        // Functions and modules have lower-case names, types and their variants have not.
        if segments.iter().any(|segment| segment.to_string().starts_with(|c: char| c.is_uppercase())) {
            let instead = match self.known.is_free {
                true => format!("write a free `fn {name}(..)` with `#[device_fn]`"),
                false => format!(
                    "write `fn {name}(..)` here and call `Self::{name}(..)`, or a free function with `#[device_fn]`"
                ),
            };
            return refuse(function, format!("`{name}` belongs to a type, and does not run on a device: {instead}"));
        }
        // rustc says of a function without `#[device_fn]` that it is to be written above it.
        Ok(ExprKind::Free { path: path.clone(), args: self.arguments(&call.args)? })
    }

    fn math(&mut self, call: &syn::ExprCall, name: &Ident) -> Result<ExprKind> {
        let Some((_, args)) = math::FUNCTIONS.iter().find(|(known, _)| name == known) else {
            let names = math::FUNCTIONS.map(|(name, _)| format!("`{name}`")).join(", ");
            return refuse(&call.func, format!("`ringfleet::math` has no `{name}`: there are {names}"));
        };
        if call.args.len() != *args {
            return refuse(call, format!("`math::{name}` takes {args} of `f64`"));
        }
        Ok(ExprKind::Math { name: name.clone(), args: self.all(&call.args)? })
    }

    fn actor_reference(&mut self, call: &syn::ExprCall, path: &Path, name: &Ident) -> Result<ExprKind> {
        let mut args = Vec::new();
        for (at, syntax) in call.args.iter().enumerate() {
            match syntax {
                Syntax::Lit(lit) if name == "in_set" && at == 0 => match &lit.lit {
                    Lit::Str(_) => {
                        args.push(expr(ExprKind::Lit { negative: false, lit: lit.lit.clone() }, lit.span())?);
                    }
                    other => return refuse(other, "the name of the set is a text literal"),
                },
                other if name == "in_set" && at == 0 => {
                    return refuse(other, "the name of the set is a text literal");
                }
                other => args.push(self.expr(other)?),
            }
        }
        Ok(ExprKind::Actor { function: path.clone(), args })
    }

    /// Arguments of a helper: references and the `Ctx` may stand here.
    fn arguments<'s>(&mut self, args: impl IntoIterator<Item = &'s Syntax>) -> Result<Vec<Expr>> {
        args.into_iter()
            .map(|syntax| match syntax {
                Syntax::Reference(reference) => {
                    let value = match &*reference.expr {
                        Syntax::Path(path) if path.path.is_ident("self") => {
                            return refuse(reference, "make the helper a method: `self.helper(..)`");
                        }
                        value => self.boxed(value)?,
                    };
                    let mutable = reference.mutability.is_some();
                    expr(ExprKind::Ref { mutable, value }, reference.span())
                }
                Syntax::Path(path) if self.ctx.is_some() && path.path.get_ident() == self.ctx.as_ref() => {
                    expr(ExprKind::Path(path.path.clone()), path.span())
                }
                other => self.expr(other),
            })
            .collect()
    }

    fn method(&mut self, call: &syn::ExprMethodCall) -> Result<ExprKind> {
        let name = &call.method;
        if let Some(turbofish) = &call.turbofish {
            return refuse(turbofish, "there are no generic calls here");
        }
        if let Syntax::Path(receiver) = &*call.receiver
            && let Some(ident) = receiver.path.get_ident()
        {
            if ident == "self" {
                return self.own_method(call, receiver.path.clone());
            }
            if self.ctx.as_ref() == Some(ident) {
                let ident = ident.clone();
                return self.ctx_call(ident, call);
            }
        }
        let wants = |args: usize| {
            if call.args.len() == args {
                return Ok(());
            }
            refuse(name, format!("`{name}` takes {args} arguments"))
        };
        match methods::lookup(&name.to_string()) {
            Method::Plain { args } => {
                wants(args)?;
                let receiver = self.boxed(&call.receiver)?;
                Ok(ExprKind::Method { receiver, name: name.clone(), args: self.all(&call.args)? })
            }
            Method::Checked { op, args } => {
                wants(args)?;
                let mut operands = vec![self.expr(&call.receiver)?];
                operands.extend(self.all(&call.args)?);
                Ok(ExprKind::Checked { op, operands })
            }
            Method::Refused(advice) => refuse(name, format!("`{name}` does not run on a device: {advice}")),
        }
    }

    fn own_method(&mut self, call: &syn::ExprMethodCall, on: Path) -> Result<ExprKind> {
        let name = &call.method;
        if self.known.handlers.iter().any(|handler| handler == name) {
            return refuse(name, format!("`{name}` is a handler: put what both need into a helper"));
        }
        match self.known.helpers.iter().find(|(helper, _)| helper == name) {
            Some((_, Receiver::None)) => refuse(name, format!("write `Self::{name}(..)`")),
            Some(_) => {
                self.calls.push(name.clone());
                Ok(ExprKind::Helper { on: Some(on), name: name.clone(), args: self.arguments(&call.args)? })
            }
            None => refuse(
                name,
                format!(
                    "`{name}` is not a helper of this impl: only those run on a device; write `fn {name}(&self, ..)` here"
                ),
            ),
        }
    }

    fn ctx_call(&mut self, ctx: Ident, call: &syn::ExprMethodCall) -> Result<ExprKind> {
        let name = call.method.clone();
        let (kind, args) = match name.to_string().as_str() {
            "tell" => (CtxCall::Send, 2),
            "reply" => (CtxCall::Send, 1),
            "after" => (CtxCall::Send, 2),
            "fail" => (CtxCall::Fail, 1),
            "sender" | "key" | "now" | "stop" | "random" => (CtxCall::Plain, 0),
            "random_below" => (CtxCall::Bounded, 1),
            _ => {
                return refuse(
                    &name,
                    format!(
                        "`Ctx` has no `{name}`: there are tell, reply, after, sender, key, now, random, random_below, fail and stop"
                    ),
                );
            }
        };
        if self.known.is_free && kind == CtxCall::Send {
            return refuse(
                &name,
                "handlers and their helpers send, for an actor type lists what it sends: give back what is to be sent",
            );
        }
        if call.args.len() != args {
            return refuse(&name, format!("`ctx.{name}` takes {args} arguments"));
        }
        let mut lowered = Vec::new();
        let mut message = None;
        for (at, syntax) in call.args.iter().enumerate() {
            if kind == CtxCall::Send && at + 1 == args {
                let (value, path) = self.message(&name, syntax)?;
                lowered.push(value);
                message = Some(path);
            } else {
                lowered.push(self.expr(syntax)?);
            }
        }
        Ok(ExprKind::Ctx { ctx, call: kind, name, args: lowered, message })
    }

    /// The message of a send. Its type has to be in the text: the descriptor lists what an actor sends.
    fn message(&mut self, call: &Ident, syntax: &Syntax) -> Result<(Expr, Path)> {
        let span = syntax.span();
        let before = if call == "reply" { "" } else { ".., " };
        let advice = format!("write the message as a struct in the call: `ctx.{call}({before}&Report {{ .. }})`");
        match syntax {
            Syntax::Reference(reference) if reference.mutability.is_none() => {
                let value = self.boxed(&reference.expr)?;
                let path = match &value.kind {
                    ExprKind::Struct { path, .. } => Some(path.clone()),
                    ExprKind::Path(path) => path.get_ident().and_then(|ident| {
                        let known = self.messages.iter().rev().find(|(name, _)| name == ident);
                        let unit_struct = ident.to_string().starts_with(|c: char| c.is_uppercase());
                        known.map(|(_, message)| message.clone()).or_else(|| unit_struct.then(|| path.clone()))
                    }),
                    _ => None,
                };
                let Some(path) = path else { return refuse(syntax, advice) };
                self.note_send(call, syntax, path.clone())?;
                Ok((expr(ExprKind::Ref { mutable: false, value }, span)?, path))
            }
            // The message that is being handled: a reference already.
            Syntax::Path(path) => {
                let known =
                    path.path.get_ident().and_then(|ident| self.messages.iter().find(|(name, _)| name == ident));
                let Some((_, message)) = known else { return refuse(syntax, advice) };
                let message = message.clone();
                self.note_send(call, syntax, message.clone())?;
                Ok((expr(ExprKind::Path(path.path.clone()), span)?, message))
            }
            _ => refuse(syntax, advice),
        }
    }

    fn note_send(&mut self, call: &Ident, syntax: &Syntax, message: Path) -> Result<()> {
        let name = message.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        if call == "after" && !self.known.handled.contains(&name) {
            let actor = self.known.actor;
            return refuse(syntax, format!("a timer is a tell to oneself, and `{actor}` has no handler of `{name}`"));
        }
        self.sends.push(message);
        Ok(())
    }
}

fn label(label: &Option<syn::Label>) -> Option<syn::Lifetime> {
    label.as_ref().map(|label| label.name.clone())
}

fn literal(lit: &Lit, negative: bool) -> Result<ExprKind> {
    match lit {
        Lit::Int(_) | Lit::Float(_) | Lit::Bool(_) | Lit::Byte(_) => Ok(ExprKind::Lit { negative, lit: lit.clone() }),
        other => refuse(other, "there is no text in a handler: use numbers"),
    }
}

fn checked_op(op: &syn::BinOp) -> Option<CheckedOp> {
    Some(match op {
        syn::BinOp::Add(_) => CheckedOp::Add,
        syn::BinOp::Sub(_) => CheckedOp::Sub,
        syn::BinOp::Mul(_) => CheckedOp::Mul,
        syn::BinOp::Div(_) => CheckedOp::Div,
        syn::BinOp::Rem(_) => CheckedOp::Rem,
        syn::BinOp::Shl(_) => CheckedOp::Shl,
        syn::BinOp::Shr(_) => CheckedOp::Shr,
        _ => return None,
    })
}

fn assign_op(op: &syn::BinOp) -> Option<CheckedOp> {
    Some(match op {
        syn::BinOp::AddAssign(_) => CheckedOp::Add,
        syn::BinOp::SubAssign(_) => CheckedOp::Sub,
        syn::BinOp::MulAssign(_) => CheckedOp::Mul,
        syn::BinOp::DivAssign(_) => CheckedOp::Div,
        syn::BinOp::RemAssign(_) => CheckedOp::Rem,
        syn::BinOp::ShlAssign(_) => CheckedOp::Shl,
        syn::BinOp::ShrAssign(_) => CheckedOp::Shr,
        _ => return None,
    })
}

fn not_in_the_subset(syntax: &Syntax) -> &'static str {
    match syntax {
        Syntax::Closure(_) => "there are no closures on a device: write a helper function",
        Syntax::Async(_) | Syntax::Await(_) => {
            "a handler runs to its end: tell an actor, or use `ctx.after`, instead of waiting"
        }
        Syntax::Unsafe(_) => "there is no `unsafe` in a handler: everything it can reach is checked",
        Syntax::Try(_) => "there is no `?`: write a `match` and `ctx.fail(code)`",
        Syntax::Range(_) => "a range stands in a `for` or in a pattern only",
        Syntax::Let(_) => "`let` stands alone in the condition of an `if` or a `while`",
        Syntax::Const(_) => "write the constant beside the handlers",
        Syntax::RawAddr(_) => "there are no addresses in a handler: hold the value itself",
        _ => "this is not in the subset of Rust that runs on a device",
    }
}
