//! Transcendental functions that give the same bits on every device: `math::exp(x)` in a handler, and anywhere else.
//!
//! They are written once in the language of handlers (`kernels/macros/src/math/functions.rs`). Native code calls what the macro made of
//! that text, and the program of a type that uses them contains it. Their accuracy is in docs/language.md.
//!
//! Deliberately absent: `f32`. Write `math::exp(x as f64) as f32`.

use crate::ops::Fuel;

ringfleet_macros::math_functions!();

macro_rules! functions {
    ($($(#[doc = $text:literal])* $name:ident($($arg:ident),*);)*) => {
        $(
            $(#[doc = $text])*
            #[must_use]
            pub fn $name($($arg: f64),*) -> f64 {
                // Nothing in the text faults: it has no loop, and its only indices are bounded by the exponent.
                Math::$name($($arg,)* &Fuel::new()).unwrap_or(f64::NAN)
            }
        )*
        /// For generated code only.
        #[doc(hidden)]
        pub mod checked {
            use crate::{Fault, Fuel};
            $(
                #[inline]
                #[allow(missing_docs, clippy::missing_errors_doc)]
                pub fn $name($($arg: f64,)* fuel: &Fuel) -> Result<f64, Fault> {
                    super::Math::$name($($arg,)* fuel)
                }
            )*
        }
    };
}

functions! {
    /// e to the power of `x`.
    exp(x);
    /// The natural logarithm; minus infinity of both zeroes, NaN of negative numbers.
    ln(x);
    /// The sine of an angle in radians, however large; NaN of infinities.
    sin(x);
    /// The cosine of an angle in radians, however large; NaN of infinities.
    cos(x);
    /// `x` to the power of `y`, in special cases as C99 and `f64::powf` have it.
    pow(x, y);
}
