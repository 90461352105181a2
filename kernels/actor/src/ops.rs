//! The operations of generated code: arithmetic, shifts and indices that return a [`Fault`] where plain Rust would panic
//! or, in release builds, wrap. Results are those of Rust wherever Rust has one.

use std::cell::Cell;

use ringfleet_abi::{ActorId, Hlc, SetId};

use crate::actor::{Actor, ActorRef};
use crate::fault::Fault;
use crate::plain::Plain;

pub use ringfleet_ir::FUEL_PER_MESSAGE;

/// The loop iterations that are left to a handling.
#[derive(Debug)]
pub struct Fuel(Cell<u32>);

impl Default for Fuel {
    fn default() -> Self {
        Self::new()
    }
}

impl Fuel {
    /// What one message gets.
    #[must_use]
    #[inline(always)]
    pub const fn new() -> Self {
        Fuel(Cell::new(FUEL_PER_MESSAGE))
    }

    /// One iteration less.
    ///
    /// # Errors
    /// [`Fault::OutOfFuel`] if none is left.
    #[inline(always)]
    pub fn burn(&self) -> Result<(), Fault> {
        match self.0.get().checked_sub(1) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(Fault::OutOfFuel),
        }
    }
}

/// Numbers: what `+ - * / %` work on.
#[diagnostic::on_unimplemented(
    message = "arithmetic in a handler works on integers and floats, not on `{Self}`",
    label = "not a number"
)]
pub trait Number: Copy {
    /// `a + b`
    #[doc(hidden)]
    fn add(self, other: Self) -> Result<Self, Fault>;
    /// `a - b`
    #[doc(hidden)]
    fn sub(self, other: Self) -> Result<Self, Fault>;
    /// `a * b`
    #[doc(hidden)]
    fn mul(self, other: Self) -> Result<Self, Fault>;
    /// `a / b`
    #[doc(hidden)]
    fn div(self, other: Self) -> Result<Self, Fault>;
    /// `a % b`
    #[doc(hidden)]
    fn rem(self, other: Self) -> Result<Self, Fault>;
    /// `a.div_euclid(b)`
    #[doc(hidden)]
    fn div_euclid(self, other: Self) -> Result<Self, Fault>;
    /// `a.rem_euclid(b)`
    #[doc(hidden)]
    fn rem_euclid(self, other: Self) -> Result<Self, Fault>;
    /// `a.clamp(low, high)`
    #[doc(hidden)]
    fn clamp(self, low: Self, high: Self) -> Result<Self, Fault>;
    /// `a.min(b)`
    #[doc(hidden)]
    fn min(self, other: Self) -> Self;
    /// `a.max(b)`
    #[doc(hidden)]
    fn max(self, other: Self) -> Self;
}

/// Floats: what `a.to_bits()` and `a.copysign(b)` work on.
pub trait Float: Number + Plain {
    /// The unsigned integer of the same width.
    #[doc(hidden)]
    type Bits;
    /// `a.to_bits()`
    #[doc(hidden)]
    fn to_bits(self) -> Self::Bits;
    /// `a.copysign(b)`
    #[doc(hidden)]
    fn copysign(self, sign: Self) -> Self;
}

/// What can be stored in a field, an element or a part of a tuple.
pub trait Stored: Copy {
    /// The value as it is stored: every NaN of a float is the positive quiet one without payload, for devices differ in the
    /// NaNs that they make. Structs and arrays are stored as they are, for their parts have been stored before.
    #[doc(hidden)]
    #[must_use]
    fn stored(self) -> Self;
}

impl<T: Plain> Stored for T {
    #[inline(always)]
    fn stored(self) -> Self {
        T::canonical(self)
    }
}

macro_rules! stored {
    ($([$($param:ident: $bound:path),*] $ty:ty;)*) => { $(
        impl<$($param: $bound),*> Stored for $ty {
            #[inline(always)]
            fn stored(self) -> Self { self }
        }
    )* };
}

stored! {
    [] ();
    [] bool;
    [] usize;
    [] isize;
    [] Hlc;
    [] SetId;
    [] ActorId;
    [A: Actor] ActorRef<A>;
    [T: Copy] Option<T>;
    [A: Copy] (A,);
    [A: Copy, B: Copy] (A, B);
    [A: Copy, B: Copy, C: Copy] (A, B, C);
    [A: Copy, B: Copy, C: Copy, D: Copy] (A, B, C, D);
}

/// The value as it is stored.
#[inline(always)]
pub fn stored<T: Stored>(value: T) -> T {
    value.stored()
}

/// `a.min(b)`. Of floats: `a` where both are equal, `b` where `a` is a NaN.
#[inline(always)]
pub fn min<T: Number>(a: T, b: T) -> T {
    T::min(a, b)
}

/// `a.max(b)`. Of floats: `a` where both are equal, `b` where `a` is a NaN.
#[inline(always)]
pub fn max<T: Number>(a: T, b: T) -> T {
    T::max(a, b)
}

/// `a.to_bits()`, of a NaN as it is stored.
#[inline(always)]
pub fn to_bits<T: Float>(a: T) -> T::Bits {
    T::to_bits(a)
}

/// `a.copysign(b)`; a NaN is positive.
#[inline(always)]
pub fn copysign<T: Float>(a: T, b: T) -> T {
    T::copysign(a, b)
}

/// Numbers with a sign: what `-a` and `a.abs()` work on.
pub trait Signed: Number {
    /// `-a`
    #[doc(hidden)]
    fn neg(self) -> Result<Self, Fault>;
    /// `a.abs()`
    #[doc(hidden)]
    fn abs(self) -> Result<Self, Fault>;
}

/// Integers: what `<<` and `>>` work on.
pub trait Integer: Number {
    /// `a << bits`
    #[doc(hidden)]
    fn shl(self, bits: u32) -> Result<Self, Fault>;
    /// `a >> bits`
    #[doc(hidden)]
    fn shr(self, bits: u32) -> Result<Self, Fault>;
    /// `a.pow(exponent)`
    #[doc(hidden)]
    fn pow(self, exponent: u32) -> Result<Self, Fault>;
    /// As the distance of a shift; `None` where no integer is that wide.
    #[doc(hidden)]
    fn distance(self) -> Option<u32>;
}

/// The faults of an integer division: which one, if `a.checked_div(b)` has no result.
#[cold]
#[inline(never)]
fn division_fault(divisor_is_zero: bool) -> Fault {
    if divisor_is_zero { Fault::DivideByZero } else { Fault::Overflow }
}

macro_rules! integers {
    ($($ty:ty),*) => { $(
        impl Number for $ty {
            #[inline(always)]
            fn add(self, other: Self) -> Result<Self, Fault> { self.checked_add(other).ok_or(Fault::Overflow) }
            #[inline(always)]
            fn sub(self, other: Self) -> Result<Self, Fault> { self.checked_sub(other).ok_or(Fault::Overflow) }
            #[inline(always)]
            fn mul(self, other: Self) -> Result<Self, Fault> { self.checked_mul(other).ok_or(Fault::Overflow) }
            #[inline(always)]
            fn div(self, other: Self) -> Result<Self, Fault> {
                self.checked_div(other).ok_or_else(|| division_fault(other == 0))
            }
            #[inline(always)]
            fn rem(self, other: Self) -> Result<Self, Fault> {
                self.checked_rem(other).ok_or_else(|| division_fault(other == 0))
            }
            #[inline(always)]
            fn div_euclid(self, other: Self) -> Result<Self, Fault> {
                self.checked_div_euclid(other).ok_or_else(|| division_fault(other == 0))
            }
            #[inline(always)]
            fn rem_euclid(self, other: Self) -> Result<Self, Fault> {
                self.checked_rem_euclid(other).ok_or_else(|| division_fault(other == 0))
            }
            #[inline(always)]
            fn clamp(self, low: Self, high: Self) -> Result<Self, Fault> {
                if low <= high { Ok(Ord::clamp(self, low, high)) } else { Err(Fault::OutOfBounds) }
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self { Ord::min(self, other) }
            #[inline(always)]
            fn max(self, other: Self) -> Self { Ord::max(self, other) }
        }
        impl Integer for $ty {
            #[inline(always)]
            fn shl(self, bits: u32) -> Result<Self, Fault> { self.checked_shl(bits).ok_or(Fault::Overflow) }
            #[inline(always)]
            fn shr(self, bits: u32) -> Result<Self, Fault> { self.checked_shr(bits).ok_or(Fault::Overflow) }
            #[inline(always)]
            fn pow(self, exponent: u32) -> Result<Self, Fault> { self.checked_pow(exponent).ok_or(Fault::Overflow) }
            #[inline(always)]
            fn distance(self) -> Option<u32> { u32::try_from(self).ok() }
        }
    )* };
}

macro_rules! signed {
    ($($ty:ty),*) => { $(
        impl Signed for $ty {
            #[inline(always)]
            fn neg(self) -> Result<Self, Fault> { self.checked_neg().ok_or(Fault::Overflow) }
            #[inline(always)]
            fn abs(self) -> Result<Self, Fault> { self.checked_abs().ok_or(Fault::Overflow) }
        }
    )* };
}

macro_rules! floats {
    ($($ty:ty: $bits:ty),*) => { $(
        impl Number for $ty {
            #[inline(always)]
            fn add(self, other: Self) -> Result<Self, Fault> { Ok(self + other) }
            #[inline(always)]
            fn sub(self, other: Self) -> Result<Self, Fault> { Ok(self - other) }
            #[inline(always)]
            fn mul(self, other: Self) -> Result<Self, Fault> { Ok(self * other) }
            #[inline(always)]
            fn div(self, other: Self) -> Result<Self, Fault> { Ok(self / other) }
            #[inline(always)]
            fn rem(self, other: Self) -> Result<Self, Fault> { Ok(self % other) }
            #[inline(always)]
            fn div_euclid(self, other: Self) -> Result<Self, Fault> { Ok(<$ty>::div_euclid(self, other)) }
            #[inline(always)]
            fn rem_euclid(self, other: Self) -> Result<Self, Fault> { Ok(<$ty>::rem_euclid(self, other)) }
            #[inline(always)]
            fn clamp(self, low: Self, high: Self) -> Result<Self, Fault> {
                // Written so that a NaN bound is refused too.
                if low <= high { Ok(<$ty>::clamp(self, low, high)) } else { Err(Fault::OutOfBounds) }
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self { if other < self || self.is_nan() { other } else { self } }
            #[inline(always)]
            fn max(self, other: Self) -> Self { if other > self || self.is_nan() { other } else { self } }
        }
        impl Float for $ty {
            type Bits = $bits;
            #[inline(always)]
            fn to_bits(self) -> $bits { <$ty>::to_bits(self.stored()) }
            #[inline(always)]
            fn copysign(self, sign: Self) -> Self { <$ty>::copysign(self, sign.stored()) }
        }
        impl Signed for $ty {
            #[inline(always)]
            fn neg(self) -> Result<Self, Fault> { Ok(-self) }
            #[inline(always)]
            fn abs(self) -> Result<Self, Fault> { Ok(<$ty>::abs(self)) }
        }
    )* };
}

integers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);
signed!(i8, i16, i32, i64, i128, isize);
floats!(f32: u32, f64: u64);

macro_rules! binary {
    ($($name:ident: $bound:ident, $text:literal;)*) => { $(
        #[doc = $text]
        ///
        /// # Errors
        /// Where Rust panics.
        #[inline(always)]
        pub fn $name<T: $bound>(a: T, b: T) -> Result<T, Fault> { T::$name(a, b) }
    )* };
}

binary! {
    add: Number, "`a + b`";
    sub: Number, "`a - b`";
    mul: Number, "`a * b`";
    div: Number, "`a / b`";
    rem: Number, "`a % b`";
    div_euclid: Number, "`a.div_euclid(b)`";
    rem_euclid: Number, "`a.rem_euclid(b)`";
}

/// `a.clamp(low, high)`
///
/// # Errors
/// [`Fault::OutOfBounds`] if `low > high`.
#[inline(always)]
pub fn clamp<T: Number>(a: T, low: T, high: T) -> Result<T, Fault> {
    T::clamp(a, low, high)
}

/// `-a`
///
/// # Errors
/// [`Fault::Overflow`] for the least value.
#[inline(always)]
pub fn neg<T: Signed>(a: T) -> Result<T, Fault> {
    T::neg(a)
}

/// `a.abs()`
///
/// # Errors
/// [`Fault::Overflow`] for the least value.
#[inline(always)]
pub fn abs<T: Signed>(a: T) -> Result<T, Fault> {
    T::abs(a)
}

/// `a.pow(exponent)`
///
/// # Errors
/// [`Fault::Overflow`].
#[inline(always)]
pub fn pow<T: Integer>(a: T, exponent: u32) -> Result<T, Fault> {
    T::pow(a, exponent)
}

/// `a << bits`
///
/// # Errors
/// [`Fault::Overflow`] if `bits` is negative or not less than the width of `a`.
#[inline(always)]
pub fn shl<T: Integer, D: Integer>(a: T, bits: D) -> Result<T, Fault> {
    T::shl(a, bits.distance().ok_or(Fault::Overflow)?)
}

/// `a >> bits`
///
/// # Errors
/// [`Fault::Overflow`] if `bits` is negative or not less than the width of `a`.
#[inline(always)]
pub fn shr<T: Integer, D: Integer>(a: T, bits: D) -> Result<T, Fault> {
    T::shr(a, bits.distance().ok_or(Fault::Overflow)?)
}

/// The element that `array[index]` reads.
///
/// # Errors
/// [`Fault::OutOfBounds`].
#[inline(always)]
pub fn at<T, const N: usize>(array: &[T; N], index: usize) -> Result<&T, Fault> {
    array.get(index).ok_or(Fault::OutOfBounds)
}

/// The element that `array[index] = ..` writes.
///
/// # Errors
/// [`Fault::OutOfBounds`].
#[inline(always)]
pub fn at_mut<T>(array: &mut [T], index: usize) -> Result<&mut T, Fault> {
    array.get_mut(index).ok_or(Fault::OutOfBounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_faults_where_rust_panics() {
        assert_eq!(add(u8::MAX, 1), Err(Fault::Overflow));
        assert_eq!(sub(0_u8, 1), Err(Fault::Overflow));
        assert_eq!(mul(i16::MAX, 2), Err(Fault::Overflow));
        assert_eq!(div(1, 0), Err(Fault::DivideByZero));
        assert_eq!(div(i32::MIN, -1), Err(Fault::Overflow));
        assert_eq!(rem(1, 0), Err(Fault::DivideByZero));
        assert_eq!(rem(i64::MIN, -1), Err(Fault::Overflow));
        assert_eq!(div_euclid(1_u8, 0), Err(Fault::DivideByZero));
        assert_eq!(rem_euclid(i8::MIN, -1), Err(Fault::Overflow));
        assert_eq!(neg(i8::MIN), Err(Fault::Overflow));
        assert_eq!(abs(i128::MIN), Err(Fault::Overflow));
        assert_eq!(pow(10_u8, 3), Err(Fault::Overflow));
        assert_eq!(shl(1_u32, 32), Err(Fault::Overflow));
        assert_eq!(shl(1_u32, -1), Err(Fault::Overflow));
        assert_eq!(shr(1_u64, u128::MAX), Err(Fault::Overflow));
        assert_eq!(clamp(1, 3, 2), Err(Fault::OutOfBounds));
        assert_eq!(clamp(1.0, f32::NAN, 2.0), Err(Fault::OutOfBounds));
        assert_eq!(at(&[1, 2], 2), Err(Fault::OutOfBounds));
        assert_eq!(at_mut(&mut [1, 2], usize::MAX), Err(Fault::OutOfBounds));
    }

    #[test]
    fn floats_follow_ieee_and_never_fault() {
        assert_eq!(div(1.0, 0.0), Ok(f64::INFINITY));
        assert_eq!(rem(7.5_f32, 2.0), Ok(1.5));
        assert_eq!(neg(0.0_f32).map(f32::to_bits), Ok((-0.0_f32).to_bits()));
    }

    #[test]
    fn shifts_lose_bits_silently_as_in_rust() {
        assert_eq!(shl(0x81_u8, 1), Ok(2));
        assert_eq!(shr(-1_i32, 31_u8), Ok(-1));
    }

    #[test]
    fn fuel_ends_after_the_last_iteration_that_was_granted() {
        let fuel = Fuel::new();
        assert!((0..FUEL_PER_MESSAGE).all(|_| fuel.burn().is_ok()));
        assert_eq!(fuel.burn(), Err(Fault::OutOfFuel));
        assert_eq!(fuel.burn(), Err(Fault::OutOfFuel));
    }
}
