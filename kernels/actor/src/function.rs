//! Free functions that run on devices: what `#[device_fn]` makes of them.
//!
//! A function is called by its path, so whatever `use` brings it along has to bring its text, too, and the macro of the caller sees no
//! more than the path. So the native function gives a [`Call`], not its value: the call says by its type which text it is of. `#[handlers]` and
//! `#[device_fn]` take the text from a call that is written down and never made. The text refers to those of the functions that it calls,
//! and they are put together when the program of an actor type is made.
//!
//! A cycle of such references is one of statics, which rustc refuses with their names; a function that calls itself directly is refused by the
//! macro, and a cycle in a program of unknown origin by the verifier of `ringfleet-ir`. So the stack is bounded on every device.
//!
//! ```compile_fail,E0391
//! use ringfleet_actor::prelude::*;
//!
//! #[device_fn]
//! fn even(x: u32) -> bool {
//!     if x == 0 { true } else { odd(x - 1) }
//! }
//!
//! // error: cycle detected when evaluating initializer of static `even::__DEVICE_FN_WITHOUT_RECURSION`
//! #[device_fn]
//! fn odd(x: u32) -> bool {
//!     if x == 0 { false } else { even(x - 1) }
//! }
//! ```

use std::marker::PhantomData;

use ringfleet_ir::Externals;

use crate::fault::Fault;
use crate::ops::Fuel;
use crate::plain::fnv;

/// The call of a free function with `#[device_fn]`: its arguments, and what it will do with them.
///
/// In handlers and other functions for devices it looks like its value. Elsewhere, in a test for example, it is [run](Call::run):
///
/// ```
/// use ringfleet_actor::Fault;
/// use ringfleet_actor::prelude::*;
///
/// #[device_fn]
/// fn share(cents: u64, parts: u64) -> u64 {
///     cents / parts
/// }
///
/// assert_eq!(share(700, 7).run(), Ok(100));
/// assert_eq!(share(700, 0).run(), Err(Fault::DivideByZero));
/// ```
#[must_use = "outside handlers a call does nothing until it is `run`"]
pub struct Call<T, K, F> {
    body: F,
    of: PhantomData<fn() -> (T, K)>,
}

impl<T, K, F: FnOnce(&Fuel) -> Result<T, Fault>> Call<T, K, F> {
    /// Makes the call, with the fuel of one message.
    ///
    /// # Errors
    /// What fails an actor that makes it.
    pub fn run(self) -> Result<T, Fault> {
        (self.body)(&Fuel::new())
    }
}

/// What `#[device_fn]` has read of a function.
#[derive(Debug)]
pub struct FunctionCode {
    /// The function's name.
    pub name: &'static str,
    /// The user's file.
    pub file: &'static str,
    /// Hash of its text and of those of the functions that it calls.
    pub hash: u64,
    /// The tree, as bytes.
    pub tree: &'static [u8],
    /// Fills the list of types and constants that the tree refers to.
    pub externals: fn(&mut Externals),
    /// The free functions that it calls.
    pub calls: &'static [&'static FunctionCode],
}

/// For generated code: which text a call is of.
#[doc(hidden)]
pub trait Device: 'static {
    /// The text.
    const CODE: &'static FunctionCode;
}

/// What a call of a free function in a handler gives: a [`Call`].
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a function that does not run on devices is called here",
    label = "this is no call of a `#[device_fn]`",
    note = "if the function is yours, write `#[device_fn]` above it; otherwise write what it does into a helper"
)]
pub trait DeviceCall<T, K, F> {
    /// The call.
    fn call(self) -> Call<T, K, F>;
}

#[diagnostic::do_not_recommend]
impl<T, K, F> DeviceCall<T, K, F> for Call<T, K, F> {
    #[inline(always)]
    fn call(self) -> Self {
        self
    }
}

/// For generated code: a call that has not been made.
#[doc(hidden)]
#[inline(always)]
pub fn call<T, K: Device, F: FnOnce(&Fuel) -> Result<T, Fault>>(_: K, body: F) -> Call<T, K, F> {
    Call { body, of: PhantomData }
}

/// For generated code: asks for a call of a function for devices.
#[doc(hidden)]
#[inline(always)]
pub fn called<C: DeviceCall<T, K, F>, T, K, F>(call: C) -> Call<T, K, F> {
    call.call()
}

/// For generated code: makes a call with the fuel of the handling.
///
/// # Errors
/// Those of the function.
#[doc(hidden)]
#[inline(always)]
pub fn run<T, K, F: FnOnce(&Fuel) -> Result<T, Fault>>(call: Call<T, K, F>, fuel: &Fuel) -> Result<T, Fault> {
    (call.body)(fuel)
}

/// For generated code: the text of the function that `called` would call.
#[doc(hidden)]
#[must_use]
pub const fn code_of<T, K: Device, F, W: Fn() -> Call<T, K, F>>(called: &W) -> &'static FunctionCode {
    let _ = called;
    K::CODE
}

/// For generated code: an argument of a call that is never made.
///
/// # Panics
/// Always: who makes that call is a bug.
#[doc(hidden)]
#[must_use]
pub fn never<T>() -> T {
    unreachable!("a call that only says which function is meant")
}

/// For generated code: the hash of a text and of those of the functions that it calls.
#[doc(hidden)]
#[must_use]
pub const fn hash_with(mut hash: u64, calls: &[&FunctionCode]) -> u64 {
    let mut at = 0;
    while at < calls.len() {
        hash = fnv(hash, &calls[at].hash.to_le_bytes());
        at += 1;
    }
    hash
}

/// For generated code: what the macro has read, with the hash of its text.
#[doc(hidden)]
#[must_use]
pub const fn function_code(
    name: &'static str,
    file: &'static str,
    text_hash: u64,
    tree: &'static [u8],
    externals: fn(&mut Externals),
    calls: &'static [&'static FunctionCode],
) -> FunctionCode {
    FunctionCode { name, file, hash: hash_with(text_hash, calls), tree, externals, calls }
}
