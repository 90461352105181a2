//! Blocks, branches and loops.

use super::{Bound, Looping, Lowering, Result};
use crate::program::{Arith, LocalId, Mode, Op, Operand, StmtKind, Value};
use crate::raw::{Arm, BinaryOp, Block, Expr, ExprKind, Over, Pat, Stmt, Type};
use crate::ty::{Int, Ty};

impl Lowering<'_, '_> {
    pub(super) fn block(&mut self, block: &Block, to: Option<LocalId>) -> Result<()> {
        let last = block.stmts.len().wrapping_sub(1);
        for (at, stmt) in block.stmts.iter().enumerate() {
            match stmt {
                Stmt::Let { pat, ty, init, otherwise, line } => {
                    self.line = *line;
                    self.local_stmt(pat, ty.as_ref(), init.as_ref(), otherwise.as_ref())?;
                }
                Stmt::Expr(expr, semi) if at == last && !semi => self.into(expr, to)?,
                Stmt::Expr(expr, _) => self.into(expr, None)?,
            }
        }
        Ok(())
    }

    fn local_stmt(
        &mut self,
        pat: &Pat,
        _ty: Option<&Type>,
        init: Option<&Expr>,
        otherwise: Option<&Block>,
    ) -> Result<()> {
        let Some(init) = init else { return Ok(()) };
        let ty = self.ty(init);
        if let Pat::Bind(local) = pat {
            match self.bound[*local as usize].clone() {
                Bound::Local(to) => return self.into(init, Some(to)),
                Bound::Unit => return self.operand(init).map(|_| ()),
                _ => {
                    let place = self.place(init, true)?;
                    self.bound[*local as usize] = Bound::Alias(place);
                    return Ok(());
                }
            }
        }
        let value = self.operand(init)?;
        if matches!(ty, Ty::Unit | Ty::Never) {
            return Ok(());
        }
        let ty = ty.target().clone();
        if let Some(otherwise) = otherwise
            && let Some(matches) = self.test(pat, value, &ty)?
        {
            let not = self.op(&Ty::Bool, Op::Not, vec![matches])?;
            let (then, _) = self.inside(|lowering| lowering.block(otherwise, None))?;
            self.emit(StmtKind::If { cond: not, then, otherwise: None });
        }
        self.bind(pat, value, &ty)
    }

    pub(super) fn control(&mut self, expr: &Expr, to: Option<LocalId>) -> Result<()> {
        match &expr.kind {
            ExprKind::Block(block) => self.block(block, to),
            ExprKind::Binary { op, left, right } => self.short(*op, left, right, to),
            ExprKind::If { cond, then, otherwise } => self.branch(cond, then, otherwise.as_deref(), to),
            ExprKind::Match { value, arms } => self.matching(value, arms, to),
            ExprKind::While { id, cond, body } => self.while_loop(*id, cond, body),
            ExprKind::Loop { id, body } => self.looping(*id, to, |_| Ok(None), |lowering| lowering.block(body, None)),
            ExprKind::For { id, pat, over, body } => self.for_loop(*id, pat, over, body),
            ExprKind::Break { id, value } => {
                let to = self.loops.get(id).and_then(|looping| looping.to);
                if let Some(value) = value {
                    self.into(value, to)?;
                }
                let Some(looping) = self.loops.get_mut(id) else { return self.wrong("`break` outside of its loop") };
                looping.left |= !self.dead;
                let body = looping.body;
                self.emit(StmtKind::Break(body));
                Ok(())
            }
            ExprKind::Continue { id } => {
                let Some(looping) = self.loops.get(id) else { return self.wrong("`continue` outside of its loop") };
                let body = looping.body;
                self.emit(StmtKind::Continue(body));
                Ok(())
            }
            ExprKind::Return(value) => {
                let value = match value {
                    Some(value) => {
                        let operand = self.operand(value)?;
                        (!matches!(self.ty(value), Ty::Unit | Ty::Never)).then_some(operand)
                    }
                    None => None,
                };
                self.emit(StmtKind::Return(value));
                Ok(())
            }
            _ => self.wrong("this is not control"),
        }
    }

    /// `a && b`, `a || b`
    fn short(&mut self, op: BinaryOp, left: &Expr, right: &Expr, to: Option<LocalId>) -> Result<()> {
        let to = match to {
            Some(to) => to,
            None => self.local(&Ty::Bool, "")?,
        };
        let left = self.operand(left)?;
        let (decided, _) = self.inside(|lowering| {
            let value = lowering.boolean(op == BinaryOp::Either)?;
            lowering.set(to, Value::Use(value));
            Ok(())
        })?;
        let (open, _) = self.inside(|lowering| lowering.into(right, Some(to)))?;
        let (then, otherwise) = if op == BinaryOp::Both { (open, decided) } else { (decided, open) };
        self.emit(StmtKind::If { cond: left, then, otherwise: Some(otherwise) });
        Ok(())
    }

    fn branch(&mut self, cond: &Expr, then: &Block, otherwise: Option<&Expr>, to: Option<LocalId>) -> Result<()> {
        let (test, bind) = self.cond(cond)?;
        let Some(test) = test else {
            if let Some((pat, value, ty)) = bind {
                self.bind(&pat, value, &ty)?;
            }
            return self.block(then, to);
        };
        let (then, then_ends) = self.inside(|lowering| {
            if let Some((pat, value, ty)) = bind {
                lowering.bind(&pat, value, &ty)?;
            }
            lowering.block(then, to)
        })?;
        let (otherwise, ends) = match otherwise {
            None => (None, false),
            Some(otherwise) => {
                let (block, ends) = self.inside(|lowering| lowering.into(otherwise, to))?;
                (Some(block), ends)
            }
        };
        self.emit(StmtKind::If { cond: test, then, otherwise });
        self.dead |= then_ends && ends;
        Ok(())
    }

    /// The test of a condition and what it binds.
    #[allow(clippy::type_complexity, reason = "used twice, next to it")]
    fn cond(&mut self, cond: &Expr) -> Result<(Option<Operand>, Option<(Pat, Operand, Ty)>)> {
        let ExprKind::LetCond { pat, value } = &cond.kind else { return Ok((Some(self.operand(cond)?), None)) };
        let ty = self.ty(value).target().clone();
        let operand = self.operand(value)?;
        let test = self.test(pat, operand, &ty)?;
        Ok((test, Some((pat.clone(), operand, ty))))
    }

    fn matching(&mut self, value: &Expr, arms: &[Arm], to: Option<LocalId>) -> Result<()> {
        let ty = self.ty(value).target().clone();
        let operand = self.operand(value)?;
        let operand = self.kept(operand, &ty)?;
        if let [first, second] = arms
            && first.guard.is_none()
            && second.guard.is_none()
            && let Some(cond) = self.test(&first.pat, operand, &ty)?
        {
            let arm = |lowering: &mut Self, arm: &Arm| {
                lowering.bind(&arm.pat, operand, &ty)?;
                lowering.into(&arm.body, to)
            };
            let (then, then_ends) = self.inside(|lowering| arm(lowering, first))?;
            let (otherwise, ends) = self.inside(|lowering| arm(lowering, second))?;
            self.emit(StmtKind::If { cond, then, otherwise: Some(otherwise) });
            self.dead |= then_ends && ends;
            return Ok(());
        }
        let mut left = false;
        let (block, ends) = self.inside(|lowering| {
            let own = lowering.current;
            lowering.arms(arms, operand, &ty, to, own, &mut left)
        })?;
        self.emit(StmtKind::Block(block));
        self.dead |= ends && !left;
        Ok(())
    }

    fn arms(
        &mut self,
        arms: &[Arm],
        value: Operand,
        ty: &Ty,
        to: Option<LocalId>,
        own: u32,
        left: &mut bool,
    ) -> Result<()> {
        for (at, arm) in arms.iter().enumerate() {
            // rustc has checked that one arm matches: the last one needs no test.
            let is_last = at + 1 == arms.len() && arm.guard.is_none();
            let test = if is_last { None } else { self.test(&arm.pat, value, ty)? };
            if test.is_none() && arm.guard.is_none() {
                self.bind(&arm.pat, value, ty)?;
                return self.into(&arm.body, to);
            }
            let run = |lowering: &mut Self, left: &mut bool| {
                lowering.bind(&arm.pat, value, ty)?;
                let body = |lowering: &mut Self, left: &mut bool| {
                    lowering.into(&arm.body, to)?;
                    *left |= !lowering.dead;
                    lowering.emit(StmtKind::Leave(own));
                    Ok(())
                };
                let Some(guard) = &arm.guard else { return body(lowering, left) };
                let cond = lowering.operand(guard)?;
                let (then, _) = lowering.inside(|lowering| body(lowering, left))?;
                lowering.emit(StmtKind::If { cond, then, otherwise: None });
                Ok(())
            };
            match test {
                None => run(self, left)?,
                Some(cond) => {
                    let (then, _) = self.inside(|lowering| run(lowering, left))?;
                    self.emit(StmtKind::If { cond, then, otherwise: None });
                }
            }
        }
        self.emit(StmtKind::Unreachable);
        Ok(())
    }

    /// A loop: `head` gives its condition.
    fn looping(
        &mut self,
        id: u32,
        to: Option<LocalId>,
        head: impl FnOnce(&mut Self) -> Result<Option<Operand>>,
        run: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let mut cond = None;
        let (head, _) = self.inside(|lowering| {
            cond = head(lowering)?;
            Ok(())
        })?;
        let (body, _) = self.inside(|lowering| {
            let body = lowering.current;
            lowering.loops.insert(id, Looping { body, to, left: false });
            run(lowering)
        })?;
        let left = self.loops.remove(&id).is_some_and(|looping| looping.left);
        self.emit(StmtKind::Loop { head, cond, body });
        self.dead |= cond.is_none() && !left;
        Ok(())
    }

    fn while_loop(&mut self, id: u32, cond: &Expr, body: &Block) -> Result<()> {
        let slot = std::cell::Cell::new(None);
        self.looping(
            id,
            None,
            |lowering| {
                let (test, bind) = lowering.cond(cond)?;
                slot.set(bind);
                Ok(test)
            },
            |lowering| {
                if let Some((pat, value, ty)) = slot.take() {
                    lowering.bind(&pat, value, &ty)?;
                }
                lowering.block(body, None)
            },
        )
    }

    fn for_loop(&mut self, id: u32, pat: &Pat, over: &Over, body: &Block) -> Result<()> {
        match over {
            Over::Range { from, to, inclusive } => {
                let ty = self.ty(from).target().clone();
                let Ty::Int(int) = ty else { return self.wrong("a range of something else than integers") };
                let ends = self.operands(&[from, to])?;
                let at = self.local(&ty, "")?;
                self.set(at, Value::Use(ends[0]));
                let end = self.kept(ends[1], &ty)?;
                if *inclusive {
                    self.closed(id, pat, at, end, int, body)
                } else {
                    self.open(id, pat, at, end, int, body)
                }
            }
            Over::Array(array) => {
                let ty = self.ty(array).target().clone();
                let Ty::Array(element, len) = &ty else { return self.wrong("a `for` over something else") };
                let operand = self.operand(array)?;
                let operand = self.kept(operand, &ty)?;
                let root = self.root(operand, &ty)?;
                let zero = self.int(Int::Usize, 0)?;
                let end = self.int(Int::Usize, (*len).into())?;
                let at = self.local(&Ty::Int(Int::Usize), "")?;
                self.set(at, Value::Use(zero));
                let element = (**element).clone();
                self.looping(
                    id,
                    None,
                    |lowering| lowering.op(&Ty::Bool, Op::Lt, vec![Operand::Local(at), end]).map(Some),
                    |lowering| {
                        let steps = vec![crate::program::Step::Index(Operand::Local(at))];
                        let load = Value::Load(crate::program::Place { root, steps });
                        let value = lowering.temp(&element, load)?;
                        lowering.advance(at, Int::Usize)?;
                        lowering.bind(pat, value, &element)?;
                        lowering.block(body, None)
                    },
                )
            }
        }
    }

    fn advance(&mut self, at: LocalId, int: Int) -> Result<()> {
        let one = self.int(int, 1)?;
        self.set(at, Value::Op(Op::Arith(Arith::Add, Mode::Wrapping), vec![Operand::Local(at), one]));
        Ok(())
    }

    /// `from..to`
    fn open(&mut self, id: u32, pat: &Pat, at: LocalId, end: Operand, int: Int, body: &Block) -> Result<()> {
        let ty = Ty::Int(int);
        self.looping(
            id,
            None,
            |lowering| lowering.op(&Ty::Bool, Op::Lt, vec![Operand::Local(at), end]).map(Some),
            |lowering| {
                let value = lowering.temp(&ty, Value::Use(Operand::Local(at)))?;
                lowering.advance(at, int)?;
                lowering.bind(pat, value, &ty)?;
                lowering.block(body, None)
            },
        )
    }

    /// `from..=to`: the last value may be the largest of its type.
    fn closed(&mut self, id: u32, pat: &Pat, at: LocalId, end: Operand, int: Int, body: &Block) -> Result<()> {
        let ty = Ty::Int(int);
        let more = self.local(&Ty::Bool, "")?;
        self.set(more, Value::Op(Op::Le, vec![Operand::Local(at), end]));
        self.looping(
            id,
            None,
            |_| Ok(Some(Operand::Local(more))),
            |lowering| {
                let value = lowering.temp(&ty, Value::Use(Operand::Local(at)))?;
                lowering.set(more, Value::Op(Op::Lt, vec![value, end]));
                lowering.advance(at, int)?;
                lowering.bind(pat, value, &ty)?;
                lowering.block(body, None)
            },
        )
    }
}
