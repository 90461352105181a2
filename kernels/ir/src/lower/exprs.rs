//! Expressions and places.

use super::{Bound, Lowering, Result};
use crate::infer::{self, Signature};
use crate::program::{Arg, Arith, CtxValue, LocalId, Mode, Op, Operand, Place, Step, StmtKind, Target, Value};
use crate::raw::{AssignOp, BinaryOp, CheckedOp, CtxCall, Expr, ExprKind, Receiver};
use crate::ty::{Int, Ty};

/// Elements of an array that can be compared as a whole.
const COMPARED_MAX: u32 = 64;

impl Lowering<'_, '_> {
    /// The values of several expressions, evaluated one after the other.
    pub(super) fn operands(&mut self, exprs: &[&Expr]) -> Result<Vec<Operand>> {
        let mut operands = Vec::new();
        for (at, expr) in exprs.iter().enumerate() {
            let mut operand = self.operand(expr)?;
            if !exprs[at + 1..].iter().all(|later| Self::is_simple(later)) {
                operand = self.kept(operand, &self.ty(expr).target().clone())?;
            }
            operands.push(operand);
        }
        Ok(operands)
    }

    /// A copy of what may change.
    pub(super) fn kept(&mut self, operand: Operand, ty: &Ty) -> Result<Operand> {
        match operand {
            Operand::Local(local) if !self.locals[local as usize].name.is_empty() => self.temp(ty, Value::Use(operand)),
            other => Ok(other),
        }
    }

    /// The value of an expression. Of one without value: something that nobody reads.
    pub(super) fn operand(&mut self, expr: &Expr) -> Result<Operand> {
        let line = std::mem::replace(&mut self.line, expr.line);
        let ty = self.ty(expr).target().clone();
        let operand = match &expr.kind {
            ExprKind::Lit(lit) => self.lit(lit, &ty)?,
            ExprKind::Const(at) => self.external(*at)?,
            ExprKind::Local(local) => match &self.bound[*local as usize] {
                Bound::Local(id) if !self.is_reference(*id) => Operand::Local(*id),
                Bound::Unit => Operand::Const(0),
                _ => {
                    let place = self.place(expr, false)?;
                    self.temp(&ty, Value::Load(place))?
                }
            },
            ExprKind::Ref { value, .. } => self.operand(value)?,
            _ if matches!(ty, Ty::Unit | Ty::Never) => {
                self.into(expr, None)?;
                Operand::Const(0)
            }
            _ => {
                let to = self.local(&ty, "")?;
                self.into(expr, Some(to))?;
                Operand::Local(to)
            }
        };
        self.line = line;
        Ok(operand)
    }

    fn is_reference(&self, local: LocalId) -> bool {
        self.locals[local as usize].kind != crate::program::LocalKind::Value
    }

    /// Evaluates an expression into a local, or for what it does.
    pub(super) fn into(&mut self, expr: &Expr, to: Option<LocalId>) -> Result<()> {
        let line = std::mem::replace(&mut self.line, expr.line);
        match &expr.kind {
            ExprKind::Assign { place, value } => self.assign(place, value)?,
            ExprKind::AssignOp { op, place, value } => self.assign_op(*op, place, value)?,
            ExprKind::Helper { function, args } => {
                let callee = self.callees.own.get(*function as usize);
                self.helper(callee, args, to)?;
            }
            ExprKind::Free { function, args } => {
                let callee = self.callees.free.get(*function as usize);
                self.helper(callee, args, to)?;
            }
            ExprKind::Ctx {
                call: CtxCall::Sender | CtxCall::Key | CtxCall::Now | CtxCall::Random | CtxCall::RandomBelow,
                ..
            } => self.pure(expr, to)?,
            ExprKind::Ctx { call, args, message } => self.ctx(*call, args, *message)?,
            ExprKind::Block(_)
            | ExprKind::If { .. }
            | ExprKind::Match { .. }
            | ExprKind::While { .. }
            | ExprKind::Loop { .. }
            | ExprKind::For { .. }
            | ExprKind::Break { .. }
            | ExprKind::Continue { .. }
            | ExprKind::Return(_)
            | ExprKind::Binary { op: BinaryOp::Both | BinaryOp::Either, .. } => self.control(expr, to)?,
            _ => self.pure(expr, to)?,
        }
        self.line = line;
        Ok(())
    }

    /// What has a value and does nothing else but fault.
    fn pure(&mut self, expr: &Expr, to: Option<LocalId>) -> Result<()> {
        let ty = self.ty(expr).target().clone();
        let to = match to {
            Some(to) => to,
            None if matches!(ty, Ty::Unit | Ty::Never) => {
                if let ExprKind::Tuple(parts) = &expr.kind {
                    parts.iter().try_for_each(|part| self.operand(part).map(|_| ()))?;
                }
                return Ok(());
            }
            None => self.local(&ty, "")?,
        };
        let value = self.value(expr, &ty)?;
        self.set(to, value);
        Ok(())
    }

    fn value(&mut self, expr: &Expr, ty: &Ty) -> Result<Value> {
        Ok(match &expr.kind {
            ExprKind::Lit(_) | ExprKind::Const(_) | ExprKind::Local(_) | ExprKind::Ref { .. } => {
                Value::Use(self.operand(expr)?)
            }
            ExprKind::Field { .. } | ExprKind::Index { .. } | ExprKind::Deref(_) | ExprKind::Own => {
                Value::Load(self.place(expr, false)?)
            }
            ExprKind::Not(value) => Value::Op(Op::Not, vec![self.operand(value)?]),
            ExprKind::Checked { op, operands } => {
                let operands = self.operands(&operands.iter().collect::<Vec<_>>())?;
                Value::Op(checked(*op), operands)
            }
            ExprKind::Binary { op, left, right } => self.binary(*op, left, right)?,
            ExprKind::Cast { value, .. } | ExprKind::From { value, .. } => {
                let operand = self.operand(value)?;
                if *self.ty(value).target() == *ty { Value::Use(operand) } else { Value::Op(Op::Cast, vec![operand]) }
            }
            ExprKind::FromBits { value, .. } => Value::Op(Op::FromBits, vec![self.operand(value)?]),
            ExprKind::Method { receiver, name, args } => self.method(receiver, name, args)?,
            ExprKind::Actor { tag, key } => {
                let key = self.operand(key)?;
                Value::Aggregate(vec![self.external(*tag)?, key])
            }
            ExprKind::Ctx { call: CtxCall::Key, .. } => Value::Ctx(CtxValue::Key),
            ExprKind::Ctx { call: CtxCall::Random, .. } => Value::Ctx(CtxValue::Random),
            ExprKind::Ctx { call: CtxCall::RandomBelow, args, .. } => {
                let [bound] = &args[..] else { return self.wrong("a call of the `Ctx` with other arguments") };
                Value::RandomBelow(self.operand(bound)?)
            }
            ExprKind::Ctx { call: CtxCall::Now, .. } => {
                let now = self.temp(&Ty::Int(Int::U64), Value::Ctx(CtxValue::Now))?;
                Value::Aggregate(vec![now])
            }
            ExprKind::Ctx { .. } => {
                let set = self.temp(&Ty::Int(Int::U16), Value::Ctx(CtxValue::SenderSet))?;
                let set = self.temp(&infer::set_id(), Value::Aggregate(vec![set]))?;
                let key = self.temp(&Ty::Int(Int::U64), Value::Ctx(CtxValue::SenderKey))?;
                Value::Aggregate(vec![set, key])
            }
            ExprKind::Struct { fields, .. } => self.structure(ty, fields)?,
            ExprKind::Tuple(parts) => Value::Aggregate(self.parts(parts)?),
            ExprKind::Array(elements) => Value::Array(self.parts(elements)?),
            ExprKind::Repeat { element, .. } => {
                let operand = self.operand(element)?;
                let ty = self.ty(element);
                Value::Repeat(self.stored(operand, &ty)?)
            }
            _ => return self.wrong("this expression has no value"),
        })
    }

    fn parts(&mut self, exprs: &[Expr]) -> Result<Vec<Operand>> {
        let operands = self.operands(&exprs.iter().collect::<Vec<_>>())?;
        operands.into_iter().zip(exprs).map(|(operand, expr)| self.stored(operand, &self.ty(expr))).collect()
    }

    fn structure(&mut self, ty: &Ty, fields: &[(String, Expr)]) -> Result<Value> {
        let operands = self.operands(&fields.iter().map(|(_, expr)| expr).collect::<Vec<_>>())?;
        let names: Vec<String> = match ty {
            Ty::Struct(at) if *at < infer::BUILT_IN => {
                self.types.externals.structs[*at as usize].fields.iter().map(|(name, _)| name.clone()).collect()
            }
            _ => return self.wrong(format!("`{ty}` cannot be written as a literal")),
        };
        let mut parts = Vec::new();
        for name in &names {
            let Some(at) = fields.iter().position(|(field, _)| field == name) else {
                return self.wrong(format!("no value for field `{name}`"));
            };
            parts.push(self.stored(operands[at], &self.ty(&fields[at].1))?);
        }
        Ok(Value::Aggregate(parts))
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr) -> Result<Value> {
        let ty = self.ty(left).target().clone();
        let operands = self.operands(&[left, right])?;
        let op = match op {
            BinaryOp::And => Op::And,
            BinaryOp::Or => Op::Or,
            BinaryOp::Xor => Op::Xor,
            BinaryOp::Ne if !is_scalar(&ty) => {
                let equal = self.equal(&ty, operands[0], operands[1])?;
                return Ok(Value::Op(Op::Not, vec![equal]));
            }
            BinaryOp::Eq if !is_scalar(&ty) => return Ok(Value::Use(self.equal(&ty, operands[0], operands[1])?)),
            BinaryOp::Eq => Op::Eq,
            BinaryOp::Ne => Op::Ne,
            BinaryOp::Lt => Op::Lt,
            BinaryOp::Le => Op::Le,
            BinaryOp::Gt => Op::Gt,
            _ => Op::Ge,
        };
        if let (Ty::Enum(at), Op::Lt | Op::Le | Op::Gt | Op::Ge) = (&ty, op) {
            let name = self.types.externals.enums[*at as usize].name.clone();
            return self
                .wrong(format!("`{name}` has no order on devices: compare its numbers, as in `a as u32 < b as u32`"));
        }
        if !is_scalar(&ty) {
            return self.wrong(format!("`{ty}` is compared as a whole: compare its parts"));
        }
        Ok(Value::Op(op, operands))
    }

    /// Whether two values are equal, part by part.
    fn equal(&mut self, ty: &Ty, left: Operand, right: Operand) -> Result<Operand> {
        let parts: Vec<(Step, Ty)> = match ty {
            _ if is_scalar(ty) => return self.op(&Ty::Bool, Op::Eq, vec![left, right]),
            Ty::Tuple(parts) => parts.iter().enumerate().map(|(at, ty)| (Step::Field(at as u32), ty.clone())).collect(),
            Ty::Struct(at) if *at >= infer::BUILT_IN => {
                infer::built_in(*at).into_iter().enumerate().map(|(at, (_, ty))| (Step::Field(at as u32), ty)).collect()
            }
            Ty::Array(element, len) if *len <= COMPARED_MAX => (0..*len)
                .map(|at| Ok((Step::Index(self.int(Int::Usize, at.into())?), (**element).clone())))
                .collect::<Result<_>>()?,
            _ => return self.wrong(format!("`{ty}` is compared as a whole: compare its parts")),
        };
        let (left, right) = (self.root(left, ty)?, self.root(right, ty)?);
        let mut all = self.boolean(true)?;
        for (step, ty) in parts {
            let load = |root| Value::Load(Place { root, steps: vec![step] });
            let (a, b) = (self.temp(&ty, load(left))?, self.temp(&ty, load(right))?);
            let equal = self.equal(&ty, a, b)?;
            all = self.op(&Ty::Bool, Op::And, vec![all, equal])?;
        }
        Ok(all)
    }

    /// A local with this value.
    pub(super) fn root(&mut self, operand: Operand, ty: &Ty) -> Result<LocalId> {
        match operand {
            Operand::Local(local) => Ok(local),
            constant => {
                let to = self.local(ty, "")?;
                self.set(to, Value::Use(constant));
                Ok(to)
            }
        }
    }

    /// What an expression names. With `kept` its indices stay what they are, whatever is evaluated later.
    pub(super) fn place(&mut self, expr: &Expr, kept: bool) -> Result<Place> {
        Ok(match &expr.kind {
            ExprKind::Own => Place { root: 0, steps: Vec::new() },
            ExprKind::Local(local) => match &self.bound[*local as usize] {
                Bound::Local(root) => Place { root: *root, steps: Vec::new() },
                Bound::Alias(place) => place.clone(),
                _ => return self.wrong("a name without value"),
            },
            ExprKind::Field { base, name } => {
                let mut place = self.place(base, kept)?;
                let at = self.field_at(&self.ty(base).target().clone(), name)?;
                place.steps.push(Step::Field(at));
                place
            }
            // Native code computes the index before it looks at the array.
            ExprKind::Index { base, index } => {
                let mut at = self.operand(index)?;
                if kept || !Self::is_simple(base) {
                    at = self.kept(at, &Ty::Int(Int::Usize))?;
                }
                let mut place = self.place(base, kept)?;
                place.steps.push(Step::Index(at));
                place
            }
            ExprKind::Deref(value) | ExprKind::Ref { value, .. } => self.place(value, kept)?,
            _ => {
                let ty = self.ty(expr).target().clone();
                let operand = self.operand(expr)?;
                Place { root: self.root(operand, &ty)?, steps: Vec::new() }
            }
        })
    }

    fn field_at(&self, ty: &Ty, name: &str) -> Result<u32> {
        let at = match ty {
            Ty::Struct(at) if *at >= infer::BUILT_IN => {
                infer::built_in(*at).iter().position(|(field, _)| *field == name)
            }
            Ty::Struct(at) => {
                self.types.externals.structs[*at as usize].fields.iter().position(|(field, _)| field == name)
            }
            Ty::Tuple(_) => name.parse().ok(),
            _ => None,
        };
        match at {
            Some(at) => Ok(at as u32),
            None => self.wrong(format!("no field `{name}`")),
        }
    }

    /// Whether storing there makes a NaN canonical: not in a local that is a number.
    fn is_stored(&self, place: &Place) -> bool {
        !place.steps.is_empty() || self.is_reference(place.root)
    }

    fn assign(&mut self, place: &Expr, value: &Expr) -> Result<()> {
        let ty = self.ty(place).target().clone();
        if let ExprKind::Local(local) = &place.kind {
            match self.bound[*local as usize].clone() {
                Bound::Unit => return self.operand(value).map(|_| ()),
                Bound::Local(to) => {
                    // Through a local of its own: an expression may read what it changes.
                    let operand = self.operand(value)?;
                    self.set(to, Value::Use(operand));
                    return Ok(());
                }
                _ => {}
            }
        }
        let mut operand = self.operand(value)?;
        if !Self::is_simple(place) {
            operand = self.kept(operand, &ty)?;
        }
        let to = self.place(place, false)?;
        let operand = if self.is_stored(&to) { self.stored(operand, &ty)? } else { operand };
        self.emit(StmtKind::Set { to, value: Value::Use(operand) });
        Ok(())
    }

    fn assign_op(&mut self, op: AssignOp, place: &Expr, value: &Expr) -> Result<()> {
        let ty = self.ty(place).target().clone();
        let mut operand = self.operand(value)?;
        if !Self::is_simple(place) {
            operand = self.kept(operand, &self.ty(value).target().clone())?;
        }
        let op = match op {
            AssignOp::Checked(op) => checked(op),
            AssignOp::Bits(BinaryOp::And) => Op::And,
            AssignOp::Bits(BinaryOp::Or) => Op::Or,
            AssignOp::Bits(_) => Op::Xor,
        };
        let to = self.place(place, true)?;
        if !self.is_stored(&to) {
            let root = to.root;
            self.emit(StmtKind::Set { to, value: Value::Op(op, vec![Operand::Local(root), operand]) });
            return Ok(());
        }
        let before = self.temp(&ty, Value::Load(to.clone()))?;
        let after = self.op(&ty, op, vec![before, operand])?;
        let after = self.stored(after, &ty)?;
        self.emit(StmtKind::Set { to, value: Value::Use(after) });
        Ok(())
    }

    fn helper(&mut self, callee: Option<&Signature>, args: &[Expr], to: Option<LocalId>) -> Result<()> {
        let Some(Signature { params, gives, receiver, function }) = callee.cloned() else {
            return self.wrong("no such helper");
        };
        let mut lowered = Vec::new();
        let own = Place { root: 0, steps: Vec::new() };
        match receiver {
            Receiver::None => {}
            Receiver::Value => {
                let state = self.locals[0].ty;
                self.locals.push(crate::program::Local {
                    ty: state,
                    kind: crate::program::LocalKind::Value,
                    name: String::new(),
                });
                let copy = self.locals.len() as u32 - 1;
                self.set(copy, Value::Load(own));
                lowered.push(Arg::Value(Operand::Local(copy)));
            }
            Receiver::Shared | Receiver::Mut => lowered.push(Arg::Ref(own)),
        }
        for (at, (arg, ty)) in args.iter().zip(&params).enumerate() {
            if matches!(ty, Ty::Ref(_)) {
                let place = self.place(arg, true)?;
                if place.steps.iter().any(|step| matches!(step, Step::Index(_))) {
                    self.emit(StmtKind::Check(place.clone()));
                }
                lowered.push(Arg::Ref(place));
            } else {
                let mut operand = self.operand(arg)?;
                if !args[at + 1..].iter().all(Self::is_simple) {
                    operand = self.kept(operand, ty)?;
                }
                lowered.push(Arg::Value(operand));
            }
        }
        let to = match to {
            None if gives != Ty::Unit => Some(self.local(&gives, "")?),
            other => other,
        };
        self.emit(StmtKind::Call { function, args: lowered, to });
        Ok(())
    }

    fn ctx(&mut self, call: CtxCall, args: &[Expr], message: Option<u32>) -> Result<()> {
        let to = match (call, args) {
            (CtxCall::Stop, _) => {
                self.emit(StmtKind::Stop);
                return Ok(());
            }
            (CtxCall::Fail, [code]) => {
                let code = self.operand(code)?;
                self.emit(StmtKind::Fail(code));
                return Ok(());
            }
            (CtxCall::Tell, [to, body]) => {
                let (tag, mut key) = match &to.kind {
                    ExprKind::Actor { tag, key } => (self.external(*tag)?, self.operand(key)?),
                    _ => {
                        let actor = self.operand(to)?;
                        let root = self.root(actor, &infer::actor_ref())?;
                        let load = |at| Value::Load(Place { root, steps: vec![Step::Field(at)] });
                        (self.temp(&Ty::Int(Int::U32), load(0))?, self.temp(&Ty::Int(Int::U64), load(1))?)
                    }
                };
                if !Self::is_simple(body) {
                    key = self.kept(key, &Ty::Int(Int::U64))?;
                }
                (Target::Actor { tag, key }, body)
            }
            (CtxCall::Reply, [body]) => (Target::Sender, body),
            (CtxCall::After, [delay, body]) => {
                let mut delay_ms = self.operand(delay)?;
                if !Self::is_simple(body) {
                    delay_ms = self.kept(delay_ms, &Ty::Int(Int::U32))?;
                }
                (Target::Later { delay_ms }, body)
            }
            _ => return self.wrong("a call of the `Ctx` with other arguments"),
        };
        let Some(message) = message else { return self.wrong("a send without message") };
        let body = self.operand(to.1)?;
        self.emit(StmtKind::Send { to: to.0, message, body });
        Ok(())
    }
}

pub(super) fn is_scalar(ty: &Ty) -> bool {
    matches!(ty, Ty::Bool | Ty::Int(_) | Ty::Float(_) | Ty::Enum(_))
}

pub(super) fn checked(op: CheckedOp) -> Op {
    let arith = match op {
        CheckedOp::Add => Arith::Add,
        CheckedOp::Sub => Arith::Sub,
        CheckedOp::Mul => Arith::Mul,
        CheckedOp::Div => Arith::Div,
        CheckedOp::Rem => Arith::Rem,
        CheckedOp::Shl => Arith::Shl,
        CheckedOp::Shr => Arith::Shr,
        CheckedOp::DivEuclid => Arith::DivEuclid,
        CheckedOp::RemEuclid => Arith::RemEuclid,
        CheckedOp::Neg => Arith::Neg,
        CheckedOp::Abs => Arith::Abs,
        CheckedOp::Pow => Arith::Pow,
        CheckedOp::Clamp => return Op::Clamp,
    };
    Op::Arith(arith, Mode::Checked)
}
