//! Patterns: a test without effects, and bindings.

use super::{Bound, Lowering, Result};
use crate::program::{Op, Operand, Place, Step, StmtKind, Value};
use crate::raw::{End, Pat};
use crate::ty::Ty;

impl Lowering<'_, '_> {
    /// Whether the pattern matches; `None` if it always does.
    pub(super) fn test(&mut self, pat: &Pat, value: Operand, ty: &Ty) -> Result<Option<Operand>> {
        Ok(match pat {
            Pat::Wild | Pat::Bind(_) => None,
            Pat::Lit(lit) => {
                let lit = self.lit(lit, ty)?;
                Some(self.op(&Ty::Bool, Op::Eq, vec![value, lit])?)
            }
            Pat::Const(at) => {
                let constant = self.external(*at)?;
                Some(self.op(&Ty::Bool, Op::Eq, vec![value, constant])?)
            }
            Pat::Range { start, end, inclusive } => {
                let mut test = None;
                if let Some(start) = start {
                    let start = self.end(start, ty)?;
                    test = Some(self.op(&Ty::Bool, Op::Ge, vec![value, start])?);
                }
                if let Some(end) = end {
                    let end = self.end(end, ty)?;
                    let op = if *inclusive { Op::Le } else { Op::Lt };
                    let below = self.op(&Ty::Bool, op, vec![value, end])?;
                    test = self.both(test, Some(below))?;
                }
                test
            }
            Pat::Or(cases) => {
                let mut any = None;
                for case in cases {
                    let Some(test) = self.test(case, value, ty)? else { return Ok(None) };
                    any = Some(match any {
                        None => test,
                        Some(any) => self.op(&Ty::Bool, Op::Or, vec![any, test])?,
                    });
                }
                any
            }
            Pat::Tuple(parts) => {
                let mut all = None;
                for (at, part) in parts.iter().enumerate() {
                    if matches!(part, Pat::Wild | Pat::Bind(_)) {
                        continue;
                    }
                    let (operand, ty) = self.part(value, ty, at)?;
                    let test = self.test(part, operand, &ty)?;
                    all = self.both(all, test)?;
                }
                all
            }
            Pat::Some(inner) => {
                let some = self.temp(&Ty::Bool, Value::IsSome(value))?;
                let test = if matches!(**inner, Pat::Wild | Pat::Bind(_)) {
                    None
                } else {
                    let (operand, ty) = self.inner(value, ty)?;
                    self.test(inner, operand, &ty)?
                };
                self.both(Some(some), test)?
            }
            Pat::None => {
                let some = self.temp(&Ty::Bool, Value::IsSome(value))?;
                Some(self.op(&Ty::Bool, Op::Not, vec![some])?)
            }
        })
    }

    fn both(&mut self, a: Option<Operand>, b: Option<Operand>) -> Result<Option<Operand>> {
        match (a, b) {
            (Some(a), Some(b)) => Ok(Some(self.op(&Ty::Bool, Op::And, vec![a, b])?)),
            (a, b) => Ok(a.or(b)),
        }
    }

    fn end(&mut self, end: &End, ty: &Ty) -> Result<Operand> {
        match end {
            End::Lit(lit) => self.lit(lit, ty),
            End::Const(at) => self.external(*at),
        }
    }

    fn part(&mut self, value: Operand, ty: &Ty, at: usize) -> Result<(Operand, Ty)> {
        let Ty::Tuple(parts) = ty else { return self.wrong("a tuple pattern of something else") };
        let part = parts[at].clone();
        let root = self.root(value, ty)?;
        let load = Value::Load(Place { root, steps: vec![Step::Field(at as u32)] });
        Ok((self.temp(&part, load)?, part))
    }

    fn inner(&mut self, value: Operand, ty: &Ty) -> Result<(Operand, Ty)> {
        let Ty::Option(inner) = ty else { return self.wrong("`Some` of something else") };
        Ok((self.temp(inner, Value::Inner(value))?, (**inner).clone()))
    }

    /// Binds the names of a pattern that matches.
    pub(super) fn bind(&mut self, pat: &Pat, value: Operand, ty: &Ty) -> Result<()> {
        match pat {
            Pat::Bind(local) => {
                if let Bound::Local(to) = self.bound[*local as usize] {
                    self.set(to, Value::Use(value));
                }
                Ok(())
            }
            Pat::Tuple(parts) => {
                for (at, part) in parts.iter().enumerate().filter(|(_, part)| binds(part)) {
                    let (operand, ty) = self.part(value, ty, at)?;
                    self.bind(part, operand, &ty)?;
                }
                Ok(())
            }
            Pat::Some(inner) if binds(inner) => {
                let (operand, ty) = self.inner(value, ty)?;
                self.bind(inner, operand, &ty)
            }
            Pat::Or(cases) if binds(pat) => self.bind_one_of(cases, value, ty),
            _ => Ok(()),
        }
    }

    /// Binds the names of the first case that matches.
    fn bind_one_of(&mut self, cases: &[Pat], value: Operand, ty: &Ty) -> Result<()> {
        let Some((first, rest)) = cases.split_first() else { return Ok(()) };
        let test = if rest.is_empty() { None } else { self.test(first, value, ty)? };
        let Some(cond) = test else { return self.bind(first, value, ty) };
        let (then, _) = self.inside(|lowering| lowering.bind(first, value, ty))?;
        let (otherwise, _) = self.inside(|lowering| lowering.bind_one_of(rest, value, ty))?;
        self.emit(StmtKind::If { cond, then, otherwise: Some(otherwise) });
        Ok(())
    }
}

fn binds(pat: &Pat) -> bool {
    match pat {
        Pat::Bind(_) => true,
        Pat::Or(parts) | Pat::Tuple(parts) => parts.iter().any(binds),
        Pat::Some(inner) => binds(inner),
        _ => false,
    }
}
