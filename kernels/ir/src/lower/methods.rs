//! Methods of numbers.

use super::{Lowering, Result};
use crate::infer;
use crate::program::{Arith, Mode, Op, Operand, Place, Step, Value};
use crate::raw::Expr;
use crate::ty::{Int, Ty};

impl Lowering<'_, '_> {
    pub(super) fn method(&mut self, receiver: &Expr, name: &str, args: &[Expr]) -> Result<Value> {
        let on = self.ty(receiver).target().clone();
        if let (Ty::Array(_, len), "len") = (&on, name) {
            return Ok(Value::Use(self.int(Int::Usize, (*len).into())?));
        }
        let mut exprs = vec![receiver];
        exprs.extend(args);
        let mut operands = self.operands(&exprs)?;
        Ok(match (name, &on) {
            ("is_some", _) => Value::IsSome(operands[0]),
            ("is_none", _) => {
                let some = self.temp(&Ty::Bool, Value::IsSome(operands[0]))?;
                Value::Op(Op::Not, vec![some])
            }
            ("unwrap_or", Ty::Option(inner)) => Value::Use(self.unwrap_or(&operands, inner)?),
            ("wall_ms" | "counter", _) => {
                let root = self.root(operands[0], &infer::hlc())?;
                let stamp = Value::Load(Place { root, steps: vec![Step::Field(0)] });
                let stamp = self.temp(&Ty::Int(Int::U64), stamp)?;
                if name == "counter" {
                    return Ok(Value::Op(Op::Cast, vec![stamp]));
                }
                let bits = self.int(Int::U32, ringfleet_abi::hlc::COUNTER_BITS.into())?;
                Value::Op(Op::Arith(Arith::Shr, Mode::Wrapping), vec![stamp, bits])
            }
            ("to_bits" | "copysign", Ty::Float(_)) => {
                let last = operands.len() - 1;
                operands[last] = self.op(&on, Op::Canon, vec![operands[last]])?;
                Value::Op(if name == "to_bits" { Op::ToBits } else { Op::Copysign }, operands)
            }
            _ => match op(name) {
                Some(op) => Value::Op(op, operands),
                None => return self.wrong(format!("no method `{name}`")),
            },
        })
    }

    fn unwrap_or(&mut self, operands: &[Operand], inner: &Ty) -> Result<Operand> {
        let to = self.local(inner, "")?;
        let some = self.temp(&Ty::Bool, Value::IsSome(operands[0]))?;
        let (option, other) = (operands[0], operands[1]);
        let (then, _) = self.inside(|lowering| {
            lowering.set(to, Value::Inner(option));
            Ok(())
        })?;
        let (otherwise, _) = self.inside(|lowering| {
            lowering.set(to, Value::Use(other));
            Ok(())
        })?;
        self.emit(crate::program::StmtKind::If { cond: some, then, otherwise: Some(otherwise) });
        Ok(Operand::Local(to))
    }
}

fn op(name: &str) -> Option<Op> {
    let modes = [("wrapping_", Mode::Wrapping), ("saturating_", Mode::Saturating), ("checked_", Mode::Optional)];
    for (prefix, mode) in modes {
        if let Some(rest) = name.strip_prefix(prefix) {
            return Arith::ALL.into_iter().find(|arith| arith.name() == rest).map(|arith| Op::Arith(arith, mode));
        }
    }
    Some(match name {
        "min" => Op::Min,
        "max" => Op::Max,
        "abs_diff" => Op::AbsDiff,
        "unsigned_abs" => Op::UnsignedAbs,
        "rotate_left" => Op::RotateLeft,
        "rotate_right" => Op::RotateRight,
        "signum" => Op::Signum,
        "is_positive" => Op::IsPositive,
        "is_negative" => Op::IsNegative,
        "is_power_of_two" => Op::IsPowerOfTwo,
        "leading_zeros" => Op::LeadingZeros,
        "trailing_zeros" => Op::TrailingZeros,
        "leading_ones" => Op::LeadingOnes,
        "trailing_ones" => Op::TrailingOnes,
        "count_ones" => Op::CountOnes,
        "count_zeros" => Op::CountZeros,
        "swap_bytes" => Op::SwapBytes,
        "reverse_bits" => Op::ReverseBits,
        "sqrt" => Op::Sqrt,
        "floor" => Op::Floor,
        "ceil" => Op::Ceil,
        "round" => Op::Round,
        "trunc" => Op::Trunc,
        "is_nan" => Op::IsNan,
        "is_finite" => Op::IsFinite,
        "is_infinite" => Op::IsInfinite,
        _ => return None,
    })
}
