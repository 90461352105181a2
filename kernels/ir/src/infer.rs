//! Finds the types of a function's expressions, as rustc does: variables for what is not written, unified on the way.
//!
//! What reaches this step has been compiled by rustc as native code, so an error here is a gap of this step, not of the user.

use std::collections::BTreeMap;

use crate::Error;
use crate::externals::Externals;
use crate::raw::{AssignOp, BinaryOp, Block, CheckedOp, CtxCall, End, Expr, ExprKind, Function, Len, Lit, Over, Pat};
use crate::raw::{Receiver, Stmt, Type};
use crate::ty::{Float, Int, Ty};

type Result<T> = std::result::Result<T, Error>;

/// The types of a function as its callers see it.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Parameters but `self`.
    pub params: Vec<Ty>,
    /// What it gives.
    pub gives: Ty,
    /// How it takes `self`.
    pub receiver: Receiver,
    /// Its position in the program.
    pub function: u32,
}

/// What a text calls, by the positions that its tree names.
#[derive(Clone, Debug, Default)]
pub struct Callees {
    /// Functions of the text itself.
    pub own: Vec<Signature>,
    /// Free functions.
    pub free: Vec<Signature>,
}

/// The types of a function's body.
#[derive(Clone, Debug)]
pub struct Typed {
    /// Of its locals.
    pub locals: Vec<Ty>,
    /// Of its expressions, by number.
    pub exprs: Vec<Ty>,
}

#[derive(Clone, Debug)]
enum Variable {
    Any,
    Int,
    Float,
    Is(Ty),
}

/// A type as it is written. `_` is refused unless a variable can be made.
pub(crate) fn written(externals: &Externals, ty: &Type, fresh: &mut dyn FnMut() -> Option<Ty>) -> Result<Ty> {
    let missing = || Error::new(0, "a name of the tree is not in the list beside it");
    Ok(match ty {
        Type::Infer => fresh().ok_or_else(|| Error::new(0, "a signature names its types"))?,
        Type::Bool => Ty::Bool,
        Type::Int(int) => Ty::Int(*int),
        Type::Float(float) => Ty::Float(*float),
        Type::Named(at) => externals.types.get(*at as usize).ok_or_else(missing)?.clone(),
        Type::Array(element, len) => Ty::Array(Box::new(written(externals, element, fresh)?), length(externals, *len)?),
        Type::Tuple(parts) if parts.is_empty() => Ty::Unit,
        Type::Tuple(parts) => {
            Ty::Tuple(parts.iter().map(|part| written(externals, part, fresh)).collect::<Result<_>>()?)
        }
        Type::Ref(_, inner) => Ty::Ref(Box::new(written(externals, inner, fresh)?)),
    })
}

/// The length of an array.
pub(crate) fn length(externals: &Externals, len: Len) -> Result<u32> {
    match len {
        Len::Literal(len) => Ok(len),
        Len::Const(at) => {
            let (ty, bytes) = externals
                .consts
                .get(at as usize)
                .ok_or_else(|| Error::new(0, "a constant of the tree is not in the list beside it"))?;
            let mut value = [0; 16];
            match (ty, value.get_mut(..bytes.len())) {
                (Ty::Int(_), Some(lower)) => lower.copy_from_slice(bytes),
                _ => return Err(Error::new(0, "the length of an array is a number")),
            }
            u32::try_from(u128::from_le_bytes(value)).map_err(|_| Error::new(0, "an array is too long"))
        }
    }
}

/// Finds the types of one function.
pub fn infer(
    externals: &Externals,
    state: &Ty,
    callees: &Callees,
    function: &Function,
    own: &Signature,
) -> Result<Typed> {
    let mut infer = Infer {
        externals,
        state,
        callees,
        variables: Vec::new(),
        locals: Vec::new(),
        exprs: vec![Ty::Unit; function.exprs as usize],
        loops: BTreeMap::new(),
        gives: own.gives.clone(),
        line: function.line,
    };
    infer.locals = own.params.clone();
    while infer.locals.len() < function.locals.len() {
        let local = infer.fresh(Variable::Any);
        infer.locals.push(local);
    }
    let body = infer.block(&function.body)?;
    let gives = infer.gives.clone();
    infer.same(&body, &gives)?;
    let locals = infer.locals.iter().map(|ty| infer.settled(ty)).collect();
    let exprs = infer.exprs.iter().map(|ty| infer.settled(ty)).collect();
    Ok(Typed { locals, exprs })
}

struct Infer<'a> {
    externals: &'a Externals,
    state: &'a Ty,
    callees: &'a Callees,
    variables: Vec<Variable>,
    locals: Vec<Ty>,
    exprs: Vec<Ty>,
    /// What loops give by `break`; absent: nothing has left the loop yet.
    loops: BTreeMap<u32, Option<Ty>>,
    gives: Ty,
    line: u32,
}

impl Infer<'_> {
    fn wrong<T>(&self, text: impl Into<String>) -> Result<T> {
        Err(Error::new(self.line, text))
    }

    fn fresh(&mut self, variable: Variable) -> Ty {
        self.variables.push(variable);
        Ty::Var(self.variables.len() as u32 - 1)
    }

    /// The type itself, or the last variable that stands for it.
    fn found(&self, ty: &Ty) -> Ty {
        match ty {
            Ty::Var(at) => match &self.variables[*at as usize] {
                Variable::Is(ty) => self.found(ty),
                _ => ty.clone(),
            },
            other => other.clone(),
        }
    }

    /// With all variables replaced, numbers without other hints by Rust's defaults.
    fn settled(&self, ty: &Ty) -> Ty {
        match self.found(ty) {
            Ty::Var(at) => match self.variables[at as usize] {
                Variable::Int => Ty::Int(Int::I32),
                Variable::Float => Ty::Float(Float::F64),
                _ => Ty::Unit,
            },
            Ty::Array(element, len) => Ty::Array(Box::new(self.settled(&element)), len),
            Ty::Tuple(parts) => Ty::Tuple(parts.iter().map(|part| self.settled(part)).collect()),
            Ty::Option(inner) => Ty::Option(Box::new(self.settled(&inner))),
            Ty::Ref(inner) => Ty::Ref(Box::new(self.settled(&inner))),
            other => other,
        }
    }

    fn same(&mut self, a: &Ty, b: &Ty) -> Result<()> {
        let (a, b) = (self.found(a), self.found(b));
        match (&a, &b) {
            _ if a == b => Ok(()),
            (Ty::Never, _) | (_, Ty::Never) => Ok(()),
            (Ty::Var(at), other) | (other, Ty::Var(at)) => {
                let at = *at as usize;
                let fits = match (&self.variables[at], other) {
                    (Variable::Int, Ty::Int(_)) | (Variable::Float, Ty::Float(_)) => true,
                    (Variable::Int | Variable::Float, Ty::Var(other)) => {
                        match (&self.variables[at], &self.variables[*other as usize]) {
                            (Variable::Int, Variable::Int) | (Variable::Float, Variable::Float) => true,
                            (_, Variable::Any) => {
                                self.variables[*other as usize] = Variable::Is(Ty::Var(at as u32));
                                return Ok(());
                            }
                            _ => false,
                        }
                    }
                    (Variable::Int | Variable::Float, _) => false,
                    _ => true,
                };
                if !fits {
                    return self.wrong(format!("`{a}` is not `{b}`"));
                }
                self.variables[at] = Variable::Is(other.clone());
                Ok(())
            }
            (Ty::Array(a, m), Ty::Array(b, n)) if m == n => self.same(a, b),
            (Ty::Tuple(a), Ty::Tuple(b)) if a.len() == b.len() => {
                a.iter().zip(b).try_for_each(|(a, b)| self.same(a, b))
            }
            (Ty::Option(a), Ty::Option(b)) | (Ty::Ref(a), Ty::Ref(b)) => self.same(a, b),
            _ => self.wrong(format!("`{a}` is not `{b}`")),
        }
    }

    /// The type of a value that comes from one of two ways.
    fn join(&mut self, a: Ty, b: Ty) -> Result<Ty> {
        self.same(&a, &b)?;
        Ok(if a == Ty::Never { b } else { a })
    }

    fn block(&mut self, block: &Block) -> Result<Ty> {
        let mut ends = false;
        let mut value = Ty::Unit;
        let last = block.stmts.len().wrapping_sub(1);
        for (at, stmt) in block.stmts.iter().enumerate() {
            match stmt {
                Stmt::Let { pat, ty, init, otherwise, line } => {
                    self.line = *line;
                    let ty = self.local(ty.as_ref(), init.as_ref(), &mut ends)?;
                    self.pat(pat, &ty)?;
                    if let Some(block) = otherwise {
                        self.block(block)?;
                    }
                }
                Stmt::Expr(expr, semi) => {
                    let ty = self.expr(expr)?;
                    ends |= self.found(&ty) == Ty::Never;
                    if at == last && !semi {
                        value = ty;
                    }
                }
            }
        }
        Ok(if ends { Ty::Never } else { value })
    }

    fn local(&mut self, ty: Option<&Type>, init: Option<&Expr>, ends: &mut bool) -> Result<Ty> {
        let known = match ty {
            Some(ty) => self.written(ty)?,
            None => self.fresh(Variable::Any),
        };
        if let Some(init) = init {
            let value = self.expr(init)?;
            if value == Ty::Never {
                *ends = true;
            } else {
                self.same(&known, &value)?;
            }
        }
        Ok(known)
    }

    fn written(&mut self, ty: &Type) -> Result<Ty> {
        let externals = self.externals;
        let mut fresh = || Some(self.fresh(Variable::Any));
        written(externals, ty, &mut fresh)
    }

    fn lit(&mut self, lit: &Lit) -> Ty {
        match lit {
            Lit::Bool(_) => Ty::Bool,
            Lit::Int { suffix: Some(int), .. } => Ty::Int(*int),
            Lit::Int { .. } => self.fresh(Variable::Int),
            Lit::Float { suffix: Some(float), .. } => Ty::Float(*float),
            Lit::Float { .. } => self.fresh(Variable::Float),
        }
    }

    fn constant(&self, at: u32) -> Result<Ty> {
        match self.externals.consts.get(at as usize) {
            Some((ty, _)) => Ok(ty.clone()),
            None => self.wrong("a constant of the tree is not in the list beside it"),
        }
    }

    fn pat(&mut self, pat: &Pat, ty: &Ty) -> Result<()> {
        match pat {
            Pat::Wild => Ok(()),
            Pat::Bind(local) => {
                let local = self.locals[*local as usize].clone();
                self.same(&local, ty)
            }
            Pat::Lit(lit) => {
                let lit = self.lit(lit);
                self.same(&lit, ty)
            }
            Pat::Const(at) => {
                let constant = self.constant(*at)?;
                self.same(&constant, ty)
            }
            Pat::Range { start, end, .. } => {
                for end in [start, end].into_iter().flatten() {
                    let end = match end {
                        End::Lit(lit) => self.lit(lit),
                        End::Const(at) => self.constant(*at)?,
                    };
                    self.same(&end, ty)?;
                }
                Ok(())
            }
            Pat::Or(cases) => cases.iter().try_for_each(|case| self.pat(case, ty)),
            Pat::Tuple(parts) => {
                let types: Vec<Ty> = parts.iter().map(|_| self.fresh(Variable::Any)).collect();
                self.same(&Ty::Tuple(types.clone()), ty)?;
                parts.iter().zip(&types).try_for_each(|(part, ty)| self.pat(part, ty))
            }
            Pat::Some(inner) => {
                let ty = self.inside(ty)?;
                self.pat(inner, &ty)
            }
            Pat::None => self.inside(ty).map(|_| ()),
        }
    }

    /// What an `Option` holds.
    fn inside(&mut self, ty: &Ty) -> Result<Ty> {
        let inner = self.fresh(Variable::Any);
        self.same(&Ty::Option(Box::new(inner.clone())), ty)?;
        Ok(inner)
    }

    fn expr(&mut self, expr: &Expr) -> Result<Ty> {
        let before = std::mem::replace(&mut self.line, expr.line);
        let ty = self.kind(expr)?;
        self.exprs[expr.id as usize] = ty.clone();
        self.line = before;
        Ok(ty)
    }

    /// An expression whose references are looked through.
    fn target(&mut self, expr: &Expr) -> Result<Ty> {
        let ty = self.expr(expr)?;
        let mut ty = self.found(&ty);
        while let Ty::Ref(inner) = ty {
            ty = self.found(&inner);
        }
        Ok(ty)
    }

    fn all(&mut self, exprs: &[Expr]) -> Result<Ty> {
        let ty = self.fresh(Variable::Any);
        for expr in exprs {
            let other = self.expr(expr)?;
            self.same(&ty, &other)?;
        }
        Ok(ty)
    }

    fn expect(&mut self, expr: &Expr, ty: &Ty) -> Result<()> {
        let found = self.expr(expr)?;
        self.same(&found, ty)
    }

    fn kind(&mut self, expr: &Expr) -> Result<Ty> {
        Ok(match &expr.kind {
            ExprKind::Lit(lit) => self.lit(lit),
            ExprKind::Local(local) => self.locals[*local as usize].clone(),
            ExprKind::Const(at) => self.constant(*at)?,
            ExprKind::Own => self.state.clone(),
            ExprKind::Field { base, name } => {
                let base = self.target(base)?;
                self.field(&base, name)?
            }
            ExprKind::Index { base, index } => {
                self.expect(index, &Ty::Int(Int::Usize))?;
                match self.target(base)? {
                    Ty::Array(element, _) => *element,
                    other => return self.wrong(format!("`{other}` has no elements")),
                }
            }
            ExprKind::Deref(value) => match self.expr(value).map(|ty| self.found(&ty))? {
                Ty::Ref(inner) => *inner,
                other => return self.wrong(format!("`{other}` is no reference")),
            },
            ExprKind::Not(value) => self.target(value)?,
            ExprKind::Checked { op: CheckedOp::Shl | CheckedOp::Shr | CheckedOp::Pow, operands } => {
                let value = self.expr(&operands[0])?;
                let by = self.expr(&operands[1])?;
                if matches!(&expr.kind, ExprKind::Checked { op: CheckedOp::Pow, .. }) {
                    self.same(&by, &Ty::Int(Int::U32))?;
                }
                value
            }
            ExprKind::Checked { operands, .. } => self.all(operands)?,
            ExprKind::Binary { op, left, right } => {
                let (left, right) = (self.target(left)?, self.target(right)?);
                match op {
                    BinaryOp::Both | BinaryOp::Either => {
                        self.same(&left, &Ty::Bool)?;
                        self.same(&right, &Ty::Bool)?;
                        Ty::Bool
                    }
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => self.join(left, right)?,
                    _ => {
                        self.same(&left, &right)?;
                        Ty::Bool
                    }
                }
            }
            ExprKind::Assign { place, value } => {
                let value = self.expr(value)?;
                self.expect(place, &value)?;
                if value == Ty::Never { Ty::Never } else { Ty::Unit }
            }
            ExprKind::AssignOp { op, place, value } => {
                let value = self.target(value)?;
                let place = self.expr(place)?;
                if !matches!(op, AssignOp::Checked(CheckedOp::Shl | CheckedOp::Shr)) {
                    self.same(&place, &value)?;
                }
                Ty::Unit
            }
            ExprKind::Cast { value, ty } => {
                let ty = self.written(ty)?;
                let found = self.expr(value)?;
                // A literal takes the type that it is cast to.
                if matches!(value.kind, ExprKind::Lit(_)) && self.can_be(&found, &ty) {
                    self.same(&found, &ty)?;
                }
                ty
            }
            ExprKind::From { ty, value } => {
                self.expr(value)?;
                self.written(ty)?
            }
            ExprKind::FromBits { ty, value } => {
                let bits = if *ty == Float::F32 { Int::U32 } else { Int::U64 };
                self.expect(value, &Ty::Int(bits))?;
                Ty::Float(*ty)
            }
            ExprKind::Method { receiver, name, args } => self.method(receiver, name, args)?,
            ExprKind::Helper { function, args } | ExprKind::Free { function, args } => {
                let callees = self.callees;
                let list = if matches!(expr.kind, ExprKind::Free { .. }) { &callees.free } else { &callees.own };
                let Some(signature) = list.get(*function as usize) else {
                    return self.wrong("no such helper");
                };
                if signature.params.len() != args.len() {
                    return self.wrong("a helper with other parameters");
                }
                for (arg, ty) in args.iter().zip(&signature.params) {
                    self.expect(arg, ty)?;
                }
                signature.gives.clone()
            }
            ExprKind::Actor { key, .. } => {
                self.expect(key, &Ty::Int(Int::U64))?;
                actor_ref()
            }
            ExprKind::Ctx { call, args, message } => self.ctx(*call, args, *message)?,
            ExprKind::Struct { ty, fields } => {
                let ty = self.written(ty)?;
                for (name, value) in fields {
                    let field = self.field(&ty, name)?;
                    self.expect(value, &field)?;
                }
                ty
            }
            ExprKind::Tuple(parts) if parts.is_empty() => Ty::Unit,
            ExprKind::Tuple(parts) => Ty::Tuple(parts.iter().map(|part| self.expr(part)).collect::<Result<_>>()?),
            ExprKind::Array(elements) => {
                let element = self.all(elements)?;
                Ty::Array(Box::new(element), elements.len() as u32)
            }
            ExprKind::Repeat { element, len } => {
                let element = self.expr(element)?;
                Ty::Array(Box::new(element), length(self.externals, *len)?)
            }
            ExprKind::Ref { value, .. } => Ty::Ref(Box::new(self.expr(value)?)),
            _ => self.control(expr)?,
        })
    }

    fn can_be(&self, literal: &Ty, ty: &Ty) -> bool {
        match (self.found(literal), ty) {
            (Ty::Var(at), Ty::Int(_)) => matches!(self.variables[at as usize], Variable::Int),
            (Ty::Var(at), Ty::Float(_)) => matches!(self.variables[at as usize], Variable::Float),
            _ => false,
        }
    }

    fn control(&mut self, expr: &Expr) -> Result<Ty> {
        Ok(match &expr.kind {
            ExprKind::Block(block) => self.block(block)?,
            ExprKind::If { cond, then, otherwise } => {
                self.cond(cond)?;
                let then = self.block(then)?;
                let otherwise = match otherwise {
                    Some(otherwise) => self.expr(otherwise)?,
                    None => Ty::Unit,
                };
                self.join(then, otherwise)?
            }
            ExprKind::Match { value, arms } => {
                let value = self.expr(value)?;
                let mut all = Ty::Never;
                for arm in arms {
                    self.pat(&arm.pat, &value)?;
                    if let Some(guard) = &arm.guard {
                        self.expect(guard, &Ty::Bool)?;
                    }
                    let body = self.expr(&arm.body)?;
                    all = self.join(all, body)?;
                }
                all
            }
            ExprKind::While { id, cond, body } => {
                self.loops.insert(*id, None);
                self.cond(cond)?;
                self.block(body)?;
                Ty::Unit
            }
            ExprKind::Loop { id, body } => {
                self.loops.insert(*id, None);
                self.block(body)?;
                self.loops.remove(id).flatten().unwrap_or(Ty::Never)
            }
            ExprKind::For { id, pat, over, body } => {
                let element = match over {
                    Over::Range { from, to, .. } => {
                        let from = self.expr(from)?;
                        self.expect(to, &from)?;
                        from
                    }
                    Over::Array(array) => match self.target(array)? {
                        Ty::Array(element, _) => *element,
                        other => return self.wrong(format!("`{other}` has no elements")),
                    },
                };
                self.pat(pat, &element)?;
                self.loops.insert(*id, None);
                self.block(body)?;
                Ty::Unit
            }
            ExprKind::Break { id, value } => {
                let value = match value {
                    Some(value) => self.expr(value)?,
                    None => Ty::Unit,
                };
                if let Some(Some(known)) = self.loops.get(id).cloned() {
                    self.same(&known, &value)?;
                }
                self.loops.insert(*id, Some(value));
                Ty::Never
            }
            ExprKind::Continue { .. } => Ty::Never,
            ExprKind::Return(value) => {
                let value = match value {
                    Some(value) => self.expr(value)?,
                    None => Ty::Unit,
                };
                let gives = self.gives.clone();
                self.same(&value, &gives)?;
                Ty::Never
            }
            _ => return self.wrong("a condition stands where a value is wanted"),
        })
    }

    fn cond(&mut self, cond: &Expr) -> Result<()> {
        if let ExprKind::LetCond { pat, value } = &cond.kind {
            let value = self.expr(value)?;
            return self.pat(pat, &value);
        }
        self.expect(cond, &Ty::Bool)
    }

    fn field(&mut self, base: &Ty, name: &str) -> Result<Ty> {
        let found = match self.found(base) {
            Ty::Struct(at) if at < BUILT_IN => {
                let def = &self.externals.structs[at as usize];
                def.fields.iter().find(|(field, _)| field == name).map(|(_, ty)| ty.clone())
            }
            Ty::Struct(at) => built_in(at).into_iter().find(|(field, _)| *field == name).map(|(_, ty)| ty),
            Ty::Tuple(parts) => name.parse().ok().and_then(|at: usize| parts.get(at).cloned()),
            _ => None,
        };
        match found {
            Some(ty) => Ok(ty),
            None => self.wrong(format!("`{base}` has no field `{name}`")),
        }
    }

    fn ctx(&mut self, call: CtxCall, args: &[Expr], message: Option<u32>) -> Result<Ty> {
        let message = message.and_then(|at| self.externals.messages.get(at as usize)).map(|message| message.ty.clone());
        let wanted: Vec<Ty> = match (call, message) {
            (CtxCall::Tell, Some(message)) => vec![actor_ref(), Ty::Ref(Box::new(message))],
            (CtxCall::Reply, Some(message)) => vec![Ty::Ref(Box::new(message))],
            (CtxCall::After, Some(message)) => vec![Ty::Int(Int::U32), Ty::Ref(Box::new(message))],
            (CtxCall::Fail, _) => vec![Ty::Int(Int::U16)],
            (CtxCall::RandomBelow, _) => vec![Ty::Int(Int::U64)],
            (CtxCall::Tell | CtxCall::Reply | CtxCall::After, None) => return self.wrong("a send without message"),
            _ => Vec::new(),
        };
        if wanted.len() != args.len() {
            return self.wrong("a call of the `Ctx` with other arguments");
        }
        for (arg, ty) in args.iter().zip(&wanted) {
            self.expect(arg, ty)?;
        }
        Ok(match call {
            CtxCall::Sender => Ty::Struct(ACTOR_ID),
            CtxCall::Key | CtxCall::Random | CtxCall::RandomBelow => Ty::Int(Int::U64),
            CtxCall::Now => Ty::Struct(HLC),
            CtxCall::Fail => Ty::Never,
            _ => Ty::Unit,
        })
    }

    fn method(&mut self, receiver: &Expr, name: &str, args: &[Expr]) -> Result<Ty> {
        let on = self.target(receiver)?;
        let (int, float) = match &on {
            Ty::Int(int) => (Some(*int), None),
            Ty::Float(float) => (None, Some(*float)),
            Ty::Var(at) if matches!(self.variables[*at as usize], Variable::Int) => (Some(Int::I32), None),
            Ty::Var(at) if matches!(self.variables[*at as usize], Variable::Float) => (None, Some(Float::F64)),
            _ => (None, None),
        };
        let counted = ["shl", "shr", "pow"].iter().any(|end| name.ends_with(end)) || name.starts_with("rotate_");
        for arg in args {
            let wanted = match (&on, name) {
                (Ty::Option(inner), "unwrap_or") => (**inner).clone(),
                _ if counted => Ty::Int(Int::U32),
                _ => on.clone(),
            };
            let found = self.target(arg)?;
            self.same(&found, &wanted)?;
        }
        Ok(match (name, int, float, &on) {
            ("is_some" | "is_none", _, _, Ty::Option(_)) => Ty::Bool,
            ("unwrap_or", _, _, Ty::Option(inner)) => (**inner).clone(),
            ("len", _, _, Ty::Array(..)) => Ty::Int(Int::Usize),
            ("wall_ms", _, _, Ty::Struct(HLC)) => Ty::Int(Int::U64),
            ("counter", _, _, Ty::Struct(HLC)) => Ty::Int(Int::U16),
            ("unsigned_abs" | "abs_diff", Some(int), _, _) => Ty::Int(int.unsigned()),
            ("is_positive" | "is_negative" | "is_power_of_two", Some(_), _, _) => Ty::Bool,
            ("is_nan" | "is_finite" | "is_infinite", _, Some(_), _) => Ty::Bool,
            ("to_bits", _, Some(float), _) => Ty::Int(if float == Float::F32 { Int::U32 } else { Int::U64 }),
            (
                "leading_zeros" | "trailing_zeros" | "leading_ones" | "trailing_ones" | "count_ones" | "count_zeros",
                Some(_),
                _,
                _,
            ) => Ty::Int(Int::U32),
            (name, Some(_), _, _) if name.starts_with("checked_") => Ty::Option(Box::new(on)),
            (_, Some(_), _, _) | (_, _, Some(_), _) => on,
            _ => return self.wrong(format!("`{on}` has no method `{name}`")),
        })
    }
}

/// Structs from here on are not the user's.
pub(crate) const BUILT_IN: u32 = 1 << 30;
/// `ActorRef`
pub(crate) const ACTOR_REF: u32 = BUILT_IN;
/// `ActorId`
pub(crate) const ACTOR_ID: u32 = BUILT_IN + 1;
/// `SetId`
pub(crate) const SET_ID: u32 = BUILT_IN + 2;
/// `Hlc`
pub(crate) const HLC: u32 = BUILT_IN + 3;

/// `ActorRef`
#[must_use]
pub fn actor_ref() -> Ty {
    Ty::Struct(ACTOR_REF)
}

/// `ActorId`
#[must_use]
pub fn actor_id() -> Ty {
    Ty::Struct(ACTOR_ID)
}

/// `SetId`
#[must_use]
pub fn set_id() -> Ty {
    Ty::Struct(SET_ID)
}

/// `Hlc`
#[must_use]
pub fn hlc() -> Ty {
    Ty::Struct(HLC)
}

/// The fields of a struct that is not the user's.
pub(crate) fn built_in(at: u32) -> Vec<(&'static str, Ty)> {
    match at {
        ACTOR_REF => vec![("tag", Ty::Int(Int::U32)), ("key", Ty::Int(Int::U64))],
        ACTOR_ID => vec![("set", set_id()), ("key", Ty::Int(Int::U64))],
        SET_ID => vec![("0", Ty::Int(Int::U16))],
        _ => vec![("0", Ty::Int(Int::U64))],
    }
}

/// The name of a struct that is not the user's.
pub(crate) fn built_in_name(at: u32) -> &'static str {
    match at {
        ACTOR_REF => "ActorRef",
        ACTOR_ID => "ActorId",
        SET_ID => "SetId",
        _ => "Hlc",
    }
}
