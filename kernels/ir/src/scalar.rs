//! Operations on single numbers, as Rust has them. A number is held as its bits, zero-extended.

use crate::fault;
use crate::program::{Arith, Mode, Op};
use crate::ty::{Float, Int};

/// The type of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// `bool`: 0 or 1.
    Bool,
    /// An integer.
    Int(Int),
    /// A float.
    Float(Float),
}

/// What an operation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A number.
    Bits(u128),
    /// An `Option`.
    Maybe(Option<u128>),
}

/// The bits of the NaN that is stored.
#[must_use]
pub const fn canonical_nan(float: Float) -> u128 {
    match float {
        Float::F32 => 0x7fc0_0000,
        Float::F64 => 0x7ff8_0000_0000_0000,
    }
}

/// Applies an operation to operands of type `ty` (the second one of a shift is of type `by`), for a result of type `to`.
///
/// # Errors
/// The code of a fault.
pub fn apply(op: Op, ty: Scalar, by: Scalar, to: Scalar, x: &[u128]) -> Result<Outcome, u32> {
    match ty {
        Scalar::Bool => Ok(Outcome::Bits(boolean(op, x))),
        Scalar::Int(int) => integer(op, int, by, to, x),
        Scalar::Float(Float::F32) => f32_op(op, to, x).map(Outcome::Bits),
        Scalar::Float(Float::F64) => f64_op(op, to, x).map(Outcome::Bits),
    }
}

fn boolean(op: Op, x: &[u128]) -> u128 {
    let (a, b) = (x[0] != 0, x.get(1).is_some_and(|b| *b != 0));
    u128::from(match op {
        Op::And => a & b,
        Op::Or => a | b,
        Op::Xor => a ^ b,
        Op::Not => !a,
        Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => compare(op, &a, &b),
        _ => a,
    })
}

/// The distance of a shift; `None` if it is negative or no integer is that wide.
fn distance(by: Scalar, bits: u128) -> Option<u32> {
    match by {
        Scalar::Int(int) if int.signed() && bits >> (int.bits() - 1) != 0 => None,
        _ => u32::try_from(bits).ok(),
    }
}

/// A comparison, of floats too: nothing but `Ne` holds for a NaN.
fn compare<T: PartialOrd>(op: Op, a: &T, b: &T) -> bool {
    match op {
        Op::Eq => a == b,
        Op::Ne => a != b,
        Op::Lt => a < b,
        Op::Le => a <= b,
        Op::Gt => a > b,
        _ => a >= b,
    }
}

macro_rules! integer_op {
    ($ty:ident, $un:ident, $signed:tt, $op:expr, $by:expr, $to:expr, $x:expr) => {{
        let (op, by, to, x) = ($op, $by, $to, $x);
        let (a, b) = (x[0] as $ty, x.get(1).map_or(0, |b| *b as $ty));
        let count = x.get(1).copied().unwrap_or_default();
        let wide = |value: $ty| value as $un as u128;
        let bits = |value: $ty| Ok(Outcome::Bits(wide(value)));
        let truth = |value: bool| Ok(Outcome::Bits(u128::from(value)));
        let number = |value: u32| Ok(Outcome::Bits(u128::from(value)));
        match op {
            Op::Arith(arith, mode) => {
                let distance = distance(by, count);
                let exact: Option<$ty> = match arith {
                    Arith::Add => a.checked_add(b),
                    Arith::Sub => a.checked_sub(b),
                    Arith::Mul => a.checked_mul(b),
                    Arith::Div => a.checked_div(b),
                    Arith::Rem => a.checked_rem(b),
                    Arith::DivEuclid => a.checked_div_euclid(b),
                    Arith::RemEuclid => a.checked_rem_euclid(b),
                    Arith::Shl => distance.and_then(|n| a.checked_shl(n)),
                    Arith::Shr => distance.and_then(|n| a.checked_shr(n)),
                    Arith::Neg => a.checked_neg(),
                    Arith::Abs => integer_op!(@abs $signed, a),
                    Arith::Pow => a.checked_pow(count as u32),
                };
                match (mode, exact) {
                    (Mode::Optional, exact) => Ok(Outcome::Maybe(exact.map(wide))),
                    (_, Some(exact)) => bits(exact),
                    (Mode::Checked, None) if arith.divides() && b == 0 => Err(fault::DIVIDE_BY_ZERO),
                    (Mode::Checked, None) => Err(fault::OVERFLOW),
                    (Mode::Wrapping, None) => bits(match arith {
                        Arith::Add => a.wrapping_add(b),
                        Arith::Sub => a.wrapping_sub(b),
                        Arith::Mul => a.wrapping_mul(b),
                        Arith::Shl => a.wrapping_shl(count as u32),
                        Arith::Shr => a.wrapping_shr(count as u32),
                        Arith::Neg | Arith::Abs => a.wrapping_neg(),
                        Arith::Pow => a.wrapping_pow(count as u32),
                        _ => return Err(fault::DIVIDE_BY_ZERO),
                    }),
                    (Mode::Saturating, None) => bits(match arith {
                        Arith::Add => a.saturating_add(b),
                        Arith::Sub => a.saturating_sub(b),
                        Arith::Mul => a.saturating_mul(b),
                        Arith::Pow => a.saturating_pow(count as u32),
                        Arith::Neg | Arith::Abs => $ty::MAX,
                        _ => return Err(fault::OVERFLOW),
                    }),
                }
            }
            Op::Clamp => {
                let high = x[2] as $ty;
                if b <= high { bits(a.max(b).min(high)) } else { Err(fault::OUT_OF_BOUNDS) }
            }
            Op::And => bits(a & b),
            Op::Or => bits(a | b),
            Op::Xor => bits(a ^ b),
            Op::Not => bits(!a),
            Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => truth(compare(op, &a, &b)),
            Op::Cast => Ok(Outcome::Bits(match to {
                Scalar::Int(int) => integer_op!(@extend $signed, $ty, a) & mask(int),
                Scalar::Float(Float::F32) => u128::from((a as f32).to_bits()),
                Scalar::Float(Float::F64) => u128::from((a as f64).to_bits()),
                Scalar::Bool => u128::from(a != 0),
            })),
            Op::Min => bits(a.min(b)),
            Op::Max => bits(a.max(b)),
            Op::AbsDiff => Ok(Outcome::Bits(u128::from(a.abs_diff(b) as $un))),
            Op::UnsignedAbs => Ok(Outcome::Bits(u128::from(integer_op!(@unsigned_abs $signed, a) as $un))),
            Op::RotateLeft => bits(a.rotate_left(count as u32)),
            Op::RotateRight => bits(a.rotate_right(count as u32)),
            Op::Signum => bits(integer_op!(@signum $signed, a)),
            Op::IsPositive => truth(a > 0),
            Op::IsNegative => truth(integer_op!(@negative $signed, a)),
            Op::IsPowerOfTwo => truth(a.count_ones() == 1),
            Op::LeadingZeros => number(a.leading_zeros()),
            Op::TrailingZeros => number(a.trailing_zeros()),
            Op::LeadingOnes => number(a.leading_ones()),
            Op::TrailingOnes => number(a.trailing_ones()),
            Op::CountOnes => number(a.count_ones()),
            Op::CountZeros => number(a.count_zeros()),
            Op::SwapBytes => bits(a.swap_bytes()),
            Op::ReverseBits => bits(a.reverse_bits()),
            Op::FromBits => bits(a),
            _ => bits(a),
        }
    }};
    (@abs signed, $a:expr) => { $a.checked_abs() };
    (@abs unsigned, $a:expr) => { Some($a) };
    (@unsigned_abs signed, $a:expr) => { $a.unsigned_abs() };
    (@unsigned_abs unsigned, $a:expr) => { $a };
    (@signum signed, $a:expr) => { $a.signum() };
    (@signum unsigned, $a:expr) => { $a.min(1) };
    (@negative signed, $a:expr) => { $a < 0 };
    (@negative unsigned, $a:expr) => { false };
    (@extend signed, $ty:ident, $a:expr) => { $a as i128 as u128 };
    (@extend unsigned, $ty:ident, $a:expr) => { $a as u128 };
}

fn mask(int: Int) -> u128 {
    u128::MAX >> (128 - int.bits())
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "one text for all widths")]
fn integer(op: Op, int: Int, by: Scalar, to: Scalar, x: &[u128]) -> Result<Outcome, u32> {
    match int {
        Int::U8 => integer_op!(u8, u8, unsigned, op, by, to, x),
        Int::U16 => integer_op!(u16, u16, unsigned, op, by, to, x),
        Int::U32 => integer_op!(u32, u32, unsigned, op, by, to, x),
        Int::U64 | Int::Usize => integer_op!(u64, u64, unsigned, op, by, to, x),
        Int::U128 => integer_op!(u128, u128, unsigned, op, by, to, x),
        Int::I8 => integer_op!(i8, u8, signed, op, by, to, x),
        Int::I16 => integer_op!(i16, u16, signed, op, by, to, x),
        Int::I32 => integer_op!(i32, u32, signed, op, by, to, x),
        Int::I64 | Int::Isize => integer_op!(i64, u64, signed, op, by, to, x),
        Int::I128 => integer_op!(i128, u128, signed, op, by, to, x),
    }
}

macro_rules! float_op {
    ($name:ident, $ty:ident, $bits:ident, $float:expr) => {
        #[allow(clippy::cast_lossless, reason = "one text for both widths")]
        fn $name(op: Op, to: Scalar, x: &[u128]) -> Result<u128, u32> {
            let at = |at: usize| x.get(at).map_or(0.0, |bits| $ty::from_bits(*bits as $bits));
            let (a, b) = (at(0), at(1));
            let truth = u128::from;
            let value = |value: $ty| u128::from(value.to_bits());
            Ok(match op {
                Op::Arith(arith, _) => value(match arith {
                    Arith::Add => a + b,
                    Arith::Sub => a - b,
                    Arith::Mul => a * b,
                    Arith::Div => a / b,
                    Arith::Rem => a % b,
                    Arith::DivEuclid => a.div_euclid(b),
                    Arith::RemEuclid => a.rem_euclid(b),
                    Arith::Neg => -a,
                    Arith::Abs => a.abs(),
                    Arith::Shl | Arith::Shr | Arith::Pow => a,
                }),
                Op::Clamp => {
                    let high = at(2);
                    // Written so that a NaN bound is refused too.
                    if b <= high { value(a.clamp(b, high)) } else { return Err(fault::OUT_OF_BOUNDS) }
                }
                Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => truth(compare(op, &a, &b)),
                Op::Cast => match to {
                    Scalar::Int(int) => cast_to_int(int, a as i128, a as u128, a as f64),
                    Scalar::Float(Float::F32) => u128::from((a as f32).to_bits()),
                    Scalar::Float(Float::F64) => u128::from((a as f64).to_bits()),
                    Scalar::Bool => truth(a != 0.0),
                },
                // Where both are equal, or one is a NaN, Rust leaves open which one it is: here it is fixed.
                Op::Min => value(if b < a || a.is_nan() { b } else { a }),
                Op::Max => value(if b > a || a.is_nan() { b } else { a }),
                Op::Signum => value(a.signum()),
                Op::Sqrt => value(a.sqrt()),
                Op::Floor => value(a.floor()),
                Op::Ceil => value(a.ceil()),
                Op::Round => value(a.round()),
                Op::Trunc => value(a.trunc()),
                Op::Copysign => value(a.copysign(b)),
                Op::IsNan => truth(a.is_nan()),
                Op::IsFinite => truth(a.is_finite()),
                Op::IsInfinite => truth(a.is_infinite()),
                Op::Canon | Op::ToBits if a.is_nan() => canonical_nan($float),
                _ => value(a),
            })
        }
    };
}

float_op!(f32_op, f32, u32, Float::F32);
float_op!(f64_op, f64, u64, Float::F64);

/// A float as an integer: the nearest that fits, towards zero; a NaN is 0.
fn cast_to_int(int: Int, signed: i128, unsigned: u128, value: f64) -> u128 {
    if value.is_nan() {
        return 0;
    }
    if int.signed() {
        let high = i128::MAX >> (128 - int.bits());
        signed.clamp(-high - 1, high) as u128 & mask(int)
    } else {
        unsigned.min(mask(int))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: Op, int: Int, x: &[u128]) -> Result<Outcome, u32> {
        apply(op, Scalar::Int(int), Scalar::Int(Int::U32), Scalar::Int(int), x)
    }

    #[test]
    fn modes_differ_where_the_result_does_not_fit() {
        let add = |mode| run(Op::Arith(Arith::Add, mode), Int::I8, &[127, 1]);
        assert_eq!(add(Mode::Checked), Err(fault::OVERFLOW));
        assert_eq!(add(Mode::Wrapping), Ok(Outcome::Bits(0x80)));
        assert_eq!(add(Mode::Saturating), Ok(Outcome::Bits(127)));
        assert_eq!(add(Mode::Optional), Ok(Outcome::Maybe(None)));
        assert_eq!(run(Op::Arith(Arith::Div, Mode::Checked), Int::U16, &[1, 0]), Err(fault::DIVIDE_BY_ZERO));
    }

    #[test]
    fn casts_follow_rust() {
        let cast = |from, to, x| apply(Op::Cast, from, from, to, &[x]);
        let f = Scalar::Float(Float::F32);
        assert_eq!(cast(f, Scalar::Int(Int::I8), 1e9_f32.to_bits().into()), Ok(Outcome::Bits(127)));
        assert_eq!(cast(f, Scalar::Int(Int::U8), (-1_f32).to_bits().into()), Ok(Outcome::Bits(0)));
        assert_eq!(cast(f, Scalar::Int(Int::I64), f32::NAN.to_bits().into()), Ok(Outcome::Bits(0)));
        assert_eq!(cast(f, Scalar::Int(Int::U128), f32::INFINITY.to_bits().into()), Ok(Outcome::Bits(u128::MAX)));
        assert_eq!(cast(Scalar::Int(Int::I8), Scalar::Int(Int::U32), 0xff), Ok(Outcome::Bits(u128::from(u32::MAX))));
    }
}
