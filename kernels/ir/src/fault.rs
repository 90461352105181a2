//! The codes of faults, as they cross boundaries. `Fault` of `ringfleet-actor` gives them names.

#![allow(missing_docs, reason = "named and explained by `Fault`")]

pub const BAD_MESSAGE: u32 = 1;
pub const OVERFLOW: u32 = 2;
pub const DIVIDE_BY_ZERO: u32 = 3;
pub const OUT_OF_BOUNDS: u32 = 4;
pub const TOO_MANY_SENDS: u32 = 5;
pub const OUT_OF_FUEL: u32 = 6;
pub const DELAY_TOO_LONG: u32 = 7;
/// The class of `ctx.fail(code)`; the code is in the upper half.
pub const USER: u32 = 9;
