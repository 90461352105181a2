//! The backend for everything else than CPU devices: from the checked form to a tree of `ringfleet-ir`, as bytes.
//!
//! Names are resolved here, by the scopes of Rust. What only rustc can resolve (named types, constants, messages) is collected in a
//! list of externals: the tree refers to them by position, and generated code fills the list in the same order.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use ringfleet_ir::raw;
use ringfleet_ir::ty::{Float, Int};
use syn::spanned::Spanned;
use syn::{Error, Lit, Member, Pat, Path, Result, Type};

use crate::ir::{self, AssignOp, Block, CheckedOp, Expr, ExprKind, Function, Over, Program, Receiver, Role, Stmt};
use crate::native::free_call;
use crate::{math, types};

/// The tree as bytes, and the statements that fill the list beside it.
pub struct Tree {
    pub bytes: Vec<u8>,
    /// The name of the list in those statements.
    pub list: Ident,
    pub externals: TokenStream,
    /// Whether functions of `math` are in it.
    pub math: bool,
    /// The texts of the free functions that it calls, in the order of their positions.
    pub calls: Vec<TokenStream>,
}

/// Makes the tree of a program.
pub fn tree(krate: &TokenStream, program: &Program) -> Result<Tree> {
    let list = Ident::new("externals", Span::mixed_site());
    let mut names = Names {
        krate,
        list: list.clone(),
        types: List::default(),
        consts: List::default(),
        messages: List::default(),
        calls: List::default(),
        math: Vec::new(),
    };
    let functions: Vec<Ident> = program.functions.iter().map(|function| function.name.clone()).collect();
    let mut tree = raw::Program::default();
    for function in &program.functions {
        let mut reader = Reader::new(&mut names, &functions);
        tree.functions.push(reader.function(function)?);
    }
    if !names.math.is_empty() {
        let library = math::program()?;
        // Those that are called, and those that they call.
        let mut at = 0;
        while let Some(name) = names.math.get(at).cloned() {
            let Some(function) = library.functions.iter().find(|function| function.name == name) else {
                return Err(Error::new(Span::call_site(), format!("no function of `math` is called `{name}`")));
            };
            let mut reader = Reader { library: true, ..Reader::new(&mut names, &functions) };
            let function = reader.function(function)?;
            tree.functions.push(raw::Function { name: format!("{}{name}", raw::MATH), ..function });
            at += 1;
        }
    }
    let math = !names.math.is_empty();
    let bytes = ringfleet_ir::tree_bytes(&tree);
    let (types, consts, messages) = (names.types.tokens, names.consts.tokens, names.messages.tokens);
    let externals = quote!(#(#types)* #(#consts)* #(#messages)*);
    Ok(Tree { bytes, list, externals, math, calls: names.calls.tokens })
}

/// One kind of external: texts that have been met, and what fills the list.
#[derive(Default)]
struct List {
    texts: Vec<String>,
    tokens: Vec<TokenStream>,
}

impl List {
    fn at(&mut self, text: String, tokens: impl FnOnce() -> TokenStream) -> u32 {
        let at = self.texts.iter().position(|known| *known == text).unwrap_or_else(|| {
            self.texts.push(text);
            self.tokens.push(tokens());
            self.texts.len() - 1
        });
        at as u32
    }
}

struct Names<'a> {
    krate: &'a TokenStream,
    list: Ident,
    types: List,
    consts: List,
    messages: List,
    calls: List,
    /// Functions of `math` in the order in which they were met: they follow those of the text.
    math: Vec<String>,
}

impl Names<'_> {
    fn ty(&mut self, ty: &Type) -> u32 {
        let (krate, list) = (self.krate, &self.list);
        self.types.at(
            ty.to_token_stream().to_string(),
            || quote_spanned!(ty.span()=> #krate::__private::push_type::<#ty>(#list);),
        )
    }

    fn constant(&mut self, value: TokenStream, span: Span) -> u32 {
        let (krate, list) = (self.krate, &self.list);
        self.consts.at(value.to_string(), || quote_spanned!(span=> #krate::__private::push_const(#list, &(#value));))
    }

    /// A free function, by a call of it that is never made.
    fn call(&mut self, path: &Path, args: &[Expr], span: Span) -> u32 {
        let krate = self.krate;
        self.calls.at(path.to_token_stream().to_string(), || {
            let never = |arg: &Expr| {
                let span = Span::mixed_site().located_at(arg.span);
                quote_spanned!(span=> #krate::__private::never())
            };
            let args: Vec<TokenStream> = args.iter().map(never).collect();
            let called = free_call(krate, path, &args, span);
            quote!(#krate::__private::code_of(&|| #called))
        })
    }

    fn message(&mut self, path: &impl ToTokens) -> u32 {
        let (krate, list) = (self.krate, &self.list);
        self.messages
            .at(path.to_token_stream().to_string(), || quote!(#krate::__private::push_message::<#path>(#list);))
    }
}

/// Reads one function.
struct Reader<'a, 'k> {
    names: &'a mut Names<'k>,
    functions: &'a [Ident],
    /// Names of locals by number.
    locals: Vec<String>,
    scopes: Vec<Vec<(Ident, u32)>>,
    loops: Vec<(Option<Ident>, u32)>,
    loops_made: u32,
    exprs: u32,
    ctx: Option<Ident>,
    /// What is read is `math` itself.
    library: bool,
}

impl<'a, 'k> Reader<'a, 'k> {
    fn new(names: &'a mut Names<'k>, functions: &'a [Ident]) -> Self {
        Self {
            names,
            functions,
            locals: Vec::new(),
            scopes: vec![Vec::new()],
            loops: Vec::new(),
            loops_made: 0,
            exprs: 0,
            ctx: None,
            library: false,
        }
    }

    fn function(&mut self, function: &Function) -> Result<raw::Function> {
        let mut params = Vec::new();
        for param in &function.params {
            let name = match &param.pat {
                Pat::Ident(ident) => Some(ident.ident.clone()),
                _ => None,
            };
            if types::is_ctx(&param.ty) {
                self.ctx = name;
                continue;
            }
            let ty = self.ty(&param.ty)?;
            params.push(raw::Param { ty });
            match name {
                Some(name) => {
                    self.declare(&name);
                }
                None => self.locals.push("_".to_owned()),
            }
        }
        let handles = match &function.role {
            Role::Handler(message) => Some(self.names.message(message)),
            Role::Helper => None,
        };
        let gives = function.gives.as_ref().map(|ty| self.ty(ty)).transpose()?;
        let body = self.block(&function.body)?;
        Ok(raw::Function {
            name: function.name.to_string(),
            line: line(function.name.span()),
            handles,
            receiver: match function.receiver {
                Receiver::None => raw::Receiver::None,
                Receiver::Shared => raw::Receiver::Shared,
                Receiver::Mut => raw::Receiver::Mut,
                Receiver::Value => raw::Receiver::Value,
            },
            params,
            gives,
            body,
            locals: std::mem::take(&mut self.locals),
            exprs: self.exprs,
        })
    }

    fn declare(&mut self, name: &Ident) -> u32 {
        let at = self.locals.len() as u32;
        self.locals.push(name.to_string());
        if let Some(scope) = self.scopes.last_mut() {
            scope.push((name.clone(), at));
        }
        at
    }

    fn find(&self, name: &Ident) -> Option<u32> {
        self.scopes
            .iter()
            .rev()
            .flat_map(|scope| scope.iter().rev())
            .find(|(known, _)| known == name)
            .map(|(_, at)| *at)
    }

    fn scope<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.scopes.push(Vec::new());
        let result = run(self);
        self.scopes.pop();
        result
    }

    fn ty(&mut self, ty: &Type) -> Result<raw::Type> {
        Ok(match ty {
            Type::Paren(inner) => self.ty(&inner.elem)?,
            Type::Group(inner) => self.ty(&inner.elem)?,
            Type::Infer(_) => raw::Type::Infer,
            Type::Array(array) => raw::Type::Array(Box::new(self.ty(&array.elem)?), self.len(&array.len)?),
            Type::Tuple(tuple) => {
                raw::Type::Tuple(tuple.elems.iter().map(|elem| self.ty(elem)).collect::<Result<_>>()?)
            }
            Type::Reference(reference) => {
                raw::Type::Ref(reference.mutability.is_some(), Box::new(self.ty(&reference.elem)?))
            }
            Type::Path(path) => {
                let name = path.path.get_ident().map(ToString::to_string).unwrap_or_default();
                match (Int::by_name(&name), Float::by_name(&name)) {
                    (Some(int), _) => raw::Type::Int(int),
                    (_, Some(float)) => raw::Type::Float(float),
                    _ if name == "bool" => raw::Type::Bool,
                    _ => raw::Type::Named(self.names.ty(ty)),
                }
            }
            other => return Err(Error::new_spanned(other, "use numbers, `bool`, arrays, tuples and plain structs")),
        })
    }

    fn len(&mut self, len: &syn::Expr) -> Result<raw::Len> {
        if let syn::Expr::Lit(lit) = len
            && let Lit::Int(int) = &lit.lit
        {
            return Ok(raw::Len::Literal(int.base10_parse()?));
        }
        Ok(raw::Len::Const(self.names.constant(len.to_token_stream(), len.span())))
    }

    fn block(&mut self, block: &Block) -> Result<raw::Block> {
        self.scope(|reader| {
            let stmts = block.stmts.iter().map(|stmt| reader.stmt(stmt)).collect::<Result<_>>()?;
            Ok(raw::Block { stmts })
        })
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<raw::Stmt> {
        Ok(match stmt {
            Stmt::Let(stmt) => {
                // The names of the pattern begin behind the value.
                let ty = stmt.ty.as_ref().map(|ty| self.ty(ty)).transpose()?;
                let init = stmt.init.as_ref().map(|init| self.expr(init)).transpose()?;
                let otherwise = stmt.otherwise.as_ref().map(|block| self.block(block)).transpose()?;
                let pat = self.pattern(&stmt.pat)?;
                raw::Stmt::Let { pat, ty, init, otherwise, line: line(stmt.pat.span()) }
            }
            Stmt::Expr { expr, semi } => raw::Stmt::Expr(self.expr(expr)?, *semi),
        })
    }

    fn pattern(&mut self, pat: &Pat) -> Result<raw::Pat> {
        self.pat(pat, &mut Vec::new())
    }

    fn pat(&mut self, pat: &Pat, bound: &mut Vec<(Ident, u32)>) -> Result<raw::Pat> {
        Ok(match pat {
            Pat::Wild(_) => raw::Pat::Wild,
            Pat::Paren(paren) => self.pat(&paren.pat, bound)?,
            Pat::Ident(ident) if ident.ident == "None" => raw::Pat::None,
            Pat::Ident(ident) if is_constant(&ident.ident) => {
                raw::Pat::Const(self.names.constant(ident.ident.to_token_stream(), ident.span()))
            }
            Pat::Ident(ident) => {
                let name = &ident.ident;
                let at = match bound.iter().find(|(known, _)| known == name) {
                    Some((_, at)) => *at,
                    None => {
                        let at = self.declare(name);
                        bound.push((name.clone(), at));
                        at
                    }
                };
                raw::Pat::Bind(at)
            }
            Pat::Path(path) => raw::Pat::Const(self.names.constant(path.to_token_stream(), path.span())),
            Pat::Lit(value) => raw::Pat::Lit(literal(&value.lit, false)?),
            Pat::Range(range) => raw::Pat::Range {
                start: range.start.as_ref().map(|end| self.end(end)).transpose()?,
                end: range.end.as_ref().map(|end| self.end(end)).transpose()?,
                inclusive: matches!(range.limits, syn::RangeLimits::Closed(_)),
            },
            Pat::Or(or) => raw::Pat::Or(or.cases.iter().map(|case| self.pat(case, bound)).collect::<Result<_>>()?),
            Pat::Tuple(tuple) => {
                raw::Pat::Tuple(tuple.elems.iter().map(|elem| self.pat(elem, bound)).collect::<Result<_>>()?)
            }
            Pat::TupleStruct(some) if some.elems.len() == 1 => {
                raw::Pat::Some(Box::new(self.pat(&some.elems[0], bound)?))
            }
            other => return Err(Error::new_spanned(other, "this pattern is not in the subset")),
        })
    }

    fn end(&mut self, end: &syn::Expr) -> Result<raw::End> {
        Ok(match end {
            syn::Expr::Lit(lit) => raw::End::Lit(literal(&lit.lit, false)?),
            syn::Expr::Unary(unary) => match &*unary.expr {
                syn::Expr::Lit(lit) => raw::End::Lit(literal(&lit.lit, true)?),
                other => {
                    return Err(Error::new_spanned(other, "the ends of a range pattern are literals or constants"));
                }
            },
            constant => raw::End::Const(self.names.constant(constant.to_token_stream(), constant.span())),
        })
    }

    fn boxed(&mut self, expr: &Expr) -> Result<Box<raw::Expr>> {
        Ok(Box::new(self.expr(expr)?))
    }

    fn all(&mut self, exprs: &[Expr]) -> Result<Vec<raw::Expr>> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    /// Arguments of a helper; its `Ctx` goes without saying.
    fn arguments(&mut self, args: &[Expr]) -> Result<Vec<raw::Expr>> {
        let is_ctx = |arg: &&Expr| match &arg.kind {
            ExprKind::Path(path) => self.ctx.is_some() && path.get_ident() == self.ctx.as_ref(),
            _ => false,
        };
        let rest: Vec<&Expr> = args.iter().filter(|arg| !is_ctx(arg)).collect();
        rest.into_iter().map(|arg| self.expr(arg)).collect()
    }

    fn math(&mut self, name: &Ident, args: &[Expr]) -> Result<raw::ExprKind> {
        let names = &mut self.names.math;
        let at = names.iter().position(|known| name == known).unwrap_or_else(|| {
            names.push(name.to_string());
            names.len() - 1
        });
        let function = (self.functions.len() + at) as u32;
        Ok(raw::ExprKind::Helper { function, args: self.all(args)? })
    }

    fn expr(&mut self, expr: &Expr) -> Result<raw::Expr> {
        let id = self.exprs;
        self.exprs += 1;
        Ok(raw::Expr { id, line: line(expr.span), kind: self.kind(expr)? })
    }

    fn kind(&mut self, expr: &Expr) -> Result<raw::ExprKind> {
        use raw::ExprKind as To;
        Ok(match &expr.kind {
            ExprKind::Lit { negative, lit } => To::Lit(literal(lit, *negative)?),
            ExprKind::Path(path) => self.path(path, expr.span),
            ExprKind::Field { base, member } => To::Field { base: self.boxed(base)?, name: member_name(member) },
            ExprKind::Index { base, index } => To::Index { base: self.boxed(base)?, index: self.boxed(index)? },
            ExprKind::Deref(value) => To::Deref(self.boxed(value)?),
            ExprKind::Not(value) => To::Not(self.boxed(value)?),
            ExprKind::Neg(value) => To::Checked { op: raw::CheckedOp::Neg, operands: vec![self.expr(value)?] },
            ExprKind::Checked { op, operands } => To::Checked { op: checked(*op), operands: self.all(operands)? },
            ExprKind::Binary { op, left, right } => {
                To::Binary { op: binary(op)?, left: self.boxed(left)?, right: self.boxed(right)? }
            }
            ExprKind::Assign { place, value } => To::Assign { place: self.boxed(place)?, value: self.boxed(value)? },
            ExprKind::AssignOp { op, place, value } => To::AssignOp {
                op: match op {
                    AssignOp::Checked(op) => raw::AssignOp::Checked(checked(*op)),
                    AssignOp::Bits(op) => raw::AssignOp::Bits(binary(op)?),
                },
                place: self.boxed(place)?,
                value: self.boxed(value)?,
            },
            ExprKind::Cast { value, ty } => To::Cast { value: self.boxed(value)?, ty: self.ty(ty)? },
            ExprKind::Method { receiver, name, args } => {
                To::Method { receiver: self.boxed(receiver)?, name: name.to_string(), args: self.all(args)? }
            }
            ExprKind::Convert { function, args } => self.convert(function, args, expr.span)?,
            ExprKind::Helper { name, args, .. } if self.library => self.math(name, args)?,
            ExprKind::Math { name, args } => self.math(name, args)?,
            ExprKind::Helper { name, args, .. } => {
                let function = self.functions.iter().position(|known| known == name);
                let Some(function) = function else { return Err(Error::new(expr.span, "no such helper")) };
                To::Helper { function: function as u32, args: self.arguments(args)? }
            }
            ExprKind::Free { path, args } => {
                let function = self.names.call(path, args, expr.span);
                To::Free { function, args: self.arguments(args)? }
            }
            ExprKind::Actor { function, args } => self.actor(function, args, expr.span)?,
            ExprKind::Ctx { name, args, message, .. } => {
                let message = message.as_ref().map(|message| self.names.message(message));
                To::Ctx { call: ctx_call(name)?, args: self.all(args)?, message }
            }
            ExprKind::Struct { path, fields } => {
                let ty: Type = syn::parse2(path.to_token_stream())?;
                let ty = raw::Type::Named(self.names.ty(&ty));
                let fields = fields
                    .iter()
                    .map(|(member, value)| Ok((member_name(member), self.expr(value)?)))
                    .collect::<Result<_>>()?;
                To::Struct { ty, fields }
            }
            ExprKind::Tuple(parts) => To::Tuple(self.all(parts)?),
            ExprKind::Array(elements) => To::Array(self.all(elements)?),
            ExprKind::Repeat { element, len } => {
                let element = self.boxed(element)?;
                let len = match &len.kind {
                    ExprKind::Lit { lit: Lit::Int(int), .. } => raw::Len::Literal(int.base10_parse()?),
                    ExprKind::Path(path) => raw::Len::Const(self.names.constant(path.to_token_stream(), path.span())),
                    _ => return Err(Error::new(len.span, "the length of an array is a literal or a constant")),
                };
                To::Repeat { element, len }
            }
            ExprKind::Ref { mutable, value } => To::Ref { mutable: *mutable, value: self.boxed(value)? },
            _ => self.control(expr)?,
        })
    }

    fn control(&mut self, expr: &Expr) -> Result<raw::ExprKind> {
        use raw::ExprKind as To;
        Ok(match &expr.kind {
            ExprKind::Block(block) => To::Block(self.block(block)?),
            ExprKind::If { cond, then, otherwise } => {
                // What the condition binds is known in the first block only.
                let (cond, then) = self.scope(|reader| Ok((reader.boxed(cond)?, reader.block(then)?)))?;
                let otherwise = otherwise.as_ref().map(|otherwise| self.boxed(otherwise)).transpose()?;
                To::If { cond, then, otherwise }
            }
            ExprKind::LetCond { pat, value } => {
                let value = self.boxed(value)?;
                To::LetCond { pat: self.pattern(pat)?, value }
            }
            ExprKind::Match { value, arms } => {
                let value = self.boxed(value)?;
                let arm = |reader: &mut Self, arm: &ir::Arm| {
                    let pat = reader.pattern(&arm.pat)?;
                    let guard = arm.guard.as_ref().map(|guard| reader.expr(guard)).transpose()?;
                    Ok(raw::Arm { pat, guard, body: reader.expr(&arm.body)? })
                };
                let arms = arms.iter().map(|one| self.scope(|reader| arm(reader, one))).collect::<Result<_>>()?;
                To::Match { value, arms }
            }
            ExprKind::While { label, cond, body } => {
                let id = self.enter(label.as_ref());
                let (cond, body) = self.scope(|reader| Ok((reader.boxed(cond)?, reader.block(body)?)))?;
                self.loops.pop();
                To::While { id, cond, body }
            }
            ExprKind::Loop { label, body } => {
                let id = self.enter(label.as_ref());
                let body = self.block(body)?;
                self.loops.pop();
                To::Loop { id, body }
            }
            ExprKind::For { label, pat, over, body } => {
                let over = match over {
                    Over::Range { from, to, inclusive } => {
                        raw::Over::Range { from: self.boxed(from)?, to: self.boxed(to)?, inclusive: *inclusive }
                    }
                    Over::Array(array) => raw::Over::Array(self.boxed(array)?),
                };
                let id = self.enter(label.as_ref());
                let (pat, body) = self.scope(|reader| Ok((reader.pattern(pat)?, reader.block(body)?)))?;
                self.loops.pop();
                To::For { id, pat, over, body }
            }
            ExprKind::Break { label, value } => {
                let id = self.looping(label.as_ref(), expr.span)?;
                To::Break { id, value: value.as_ref().map(|value| self.boxed(value)).transpose()? }
            }
            ExprKind::Continue { label } => To::Continue { id: self.looping(label.as_ref(), expr.span)? },
            ExprKind::Return(value) => To::Return(value.as_ref().map(|value| self.boxed(value)).transpose()?),
            // `kind` has taken all others.
            _ => return Err(Error::new(expr.span, "this is not in the subset")),
        })
    }

    fn enter(&mut self, label: Option<&syn::Lifetime>) -> u32 {
        let id = self.loops_made;
        self.loops_made += 1;
        self.loops.push((label.map(|label| label.ident.clone()), id));
        id
    }

    fn looping(&self, label: Option<&syn::Lifetime>, span: Span) -> Result<u32> {
        let found = match label {
            None => self.loops.last(),
            Some(label) => self.loops.iter().rev().find(|(known, _)| known.as_ref() == Some(&label.ident)),
        };
        found.map(|(_, id)| *id).ok_or_else(|| Error::new(span, "there is no such loop around this"))
    }

    fn path(&mut self, path: &Path, span: Span) -> raw::ExprKind {
        if path.is_ident("self") {
            return raw::ExprKind::Own;
        }
        match path.get_ident().and_then(|ident| self.find(ident)) {
            Some(local) => raw::ExprKind::Local(local),
            None => raw::ExprKind::Const(self.names.constant(path.to_token_stream(), span)),
        }
    }

    fn convert(&mut self, function: &Path, args: &[Expr], span: Span) -> Result<raw::ExprKind> {
        let name = |at: usize| function.segments.iter().nth_back(at).map(|segment| segment.ident.to_string());
        let (Some(function), Some(owner), [value]) = (name(0), name(1), args) else {
            return Err(Error::new(span, "a conversion takes one value"));
        };
        let value = self.boxed(value)?;
        Ok(match (function.as_str(), Int::by_name(&owner), Float::by_name(&owner)) {
            ("from_bits", _, Some(ty)) => raw::ExprKind::FromBits { ty, value },
            (_, Some(int), _) => raw::ExprKind::From { ty: raw::Type::Int(int), value },
            (_, _, Some(float)) => raw::ExprKind::From { ty: raw::Type::Float(float), value },
            _ => return Err(Error::new(span, "a conversion gives a number")),
        })
    }

    fn actor(&mut self, function: &Path, args: &[Expr], span: Span) -> Result<raw::ExprKind> {
        let (tag, key) = match args {
            [key] => (quote!(#function(0).set_tag()), key),
            [Expr { kind: ExprKind::Lit { lit, .. }, .. }, key] => (quote!(#function(#lit, 0).set_tag()), key),
            _ => return Err(Error::new(span, "an actor is named by its key")),
        };
        Ok(raw::ExprKind::Actor { tag: self.names.constant(tag, span), key: self.boxed(key)? })
    }
}

fn line(span: Span) -> u32 {
    span.start().line as u32
}

fn member_name(member: &Member) -> String {
    match member {
        Member::Named(name) => name.to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

/// `SCREAMING_CASE`, as in expressions.
fn is_constant(ident: &Ident) -> bool {
    let name = ident.to_string();
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn literal(lit: &Lit, negative: bool) -> Result<raw::Lit> {
    // A minus is an operator in an expression, and a part of the literal in a pattern.
    let signed = |digits: &str| match digits.strip_prefix('-') {
        Some(rest) => (!negative, rest.to_owned()),
        None => (negative, digits.to_owned()),
    };
    Ok(match lit {
        Lit::Bool(value) => raw::Lit::Bool(value.value),
        Lit::Byte(value) => raw::Lit::Int { negative, value: value.value().into(), suffix: Some(Int::U8) },
        Lit::Int(int) if Float::by_name(int.suffix()).is_some() => {
            let (negative, digits) = signed(int.base10_digits());
            raw::Lit::Float { negative, digits, suffix: Float::by_name(int.suffix()) }
        }
        Lit::Int(int) => {
            let (negative, digits) = signed(int.base10_digits());
            let value = digits.parse().map_err(|error| Error::new(int.span(), error))?;
            raw::Lit::Int { negative, value, suffix: Int::by_name(int.suffix()) }
        }
        Lit::Float(float) => {
            let (negative, digits) = signed(float.base10_digits());
            raw::Lit::Float { negative, digits, suffix: Float::by_name(float.suffix()) }
        }
        other => return Err(Error::new_spanned(other, "there is no text in a handler: use numbers")),
    })
}

fn checked(op: CheckedOp) -> raw::CheckedOp {
    match op {
        CheckedOp::Add => raw::CheckedOp::Add,
        CheckedOp::Sub => raw::CheckedOp::Sub,
        CheckedOp::Mul => raw::CheckedOp::Mul,
        CheckedOp::Div => raw::CheckedOp::Div,
        CheckedOp::Rem => raw::CheckedOp::Rem,
        CheckedOp::Shl => raw::CheckedOp::Shl,
        CheckedOp::Shr => raw::CheckedOp::Shr,
        CheckedOp::DivEuclid => raw::CheckedOp::DivEuclid,
        CheckedOp::RemEuclid => raw::CheckedOp::RemEuclid,
        CheckedOp::Abs => raw::CheckedOp::Abs,
        CheckedOp::Pow => raw::CheckedOp::Pow,
        CheckedOp::Clamp => raw::CheckedOp::Clamp,
    }
}

fn binary(op: &syn::BinOp) -> Result<raw::BinaryOp> {
    use syn::BinOp;
    Ok(match op {
        BinOp::And(_) => raw::BinaryOp::Both,
        BinOp::Or(_) => raw::BinaryOp::Either,
        BinOp::BitAnd(_) | BinOp::BitAndAssign(_) => raw::BinaryOp::And,
        BinOp::BitOr(_) | BinOp::BitOrAssign(_) => raw::BinaryOp::Or,
        BinOp::BitXor(_) | BinOp::BitXorAssign(_) => raw::BinaryOp::Xor,
        BinOp::Eq(_) => raw::BinaryOp::Eq,
        BinOp::Ne(_) => raw::BinaryOp::Ne,
        BinOp::Lt(_) => raw::BinaryOp::Lt,
        BinOp::Le(_) => raw::BinaryOp::Le,
        BinOp::Gt(_) => raw::BinaryOp::Gt,
        BinOp::Ge(_) => raw::BinaryOp::Ge,
        other => return Err(Error::new_spanned(other, "this operator is not in the subset")),
    })
}

fn ctx_call(name: &Ident) -> Result<raw::CtxCall> {
    Ok(match name.to_string().as_str() {
        "tell" => raw::CtxCall::Tell,
        "reply" => raw::CtxCall::Reply,
        "after" => raw::CtxCall::After,
        "sender" => raw::CtxCall::Sender,
        "key" => raw::CtxCall::Key,
        "now" => raw::CtxCall::Now,
        "stop" => raw::CtxCall::Stop,
        "fail" => raw::CtxCall::Fail,
        "random" => raw::CtxCall::Random,
        "random_below" => raw::CtxCall::RandomBelow,
        _ => return Err(Error::new_spanned(name, "`Ctx` has no such call")),
    })
}
