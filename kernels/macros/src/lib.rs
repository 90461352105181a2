//! The macros behind `#[message]`, `#[plain]`, `#[actor]` and `#[handlers]`. Users import them from `ringfleet-actor`.
//!
//! ```text
//!   text --lower--> checked form (ir) --native--> a Rust function that cannot panic
//!                        |
//!                        +----------tree-----> a tree of `ringfleet-ir`, for GPUs and for showing
//! ```
//!
//! | module | step |
//! |---|---|
//! | `handlers` | `#[handlers]`: signatures, kinds, the `handle` function and the descriptor |
//! | `device_fn` | `#[device_fn]`: free functions |
//! | `lower` | reads the text of a function into the checked form, or says what to write instead |
//! | `ir` | the checked form: the only thing that backends read |
//! | `math` | `math::exp` and its siblings, written in the subset |
//! | `calls` | the call graph, which has no cycles |
//! | `native` | the backend for CPU devices |
//! | `tree` | the backend for everything else: names resolved, as bytes |
//! | `structs`, `fields` | `#[message]`, `#[plain]`, `#[actor]`: layout without padding |
//! | `enums` | `#[plain]` on enums |
//! | `text` | hashes of source text |
//!
//! Deliberately absent: types. A macro sees text only; names are resolved and types checked by rustc, on the native function.

use proc_macro::TokenStream;

mod calls;
mod device_fn;
mod enums;
mod fields;
mod handlers;
mod ir;
mod lower;
mod math;
mod methods;
mod native;
mod paths;
mod patterns;
mod structs;
mod text;
mod tree;
mod types;

/// Makes a struct a message: plain data of at most 32 bytes, without padding.
///
/// Fields are fixed-size integers, `f32`, `f64`, arrays of those, and structs and enums with `#[plain]`. The struct gets `repr(C)`,
/// `Clone` and `Copy`. Its kind is a hash of its name.
#[proc_macro_attribute]
pub fn message(attr: TokenStream, item: TokenStream) -> TokenStream {
    structs::message(attr.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Makes a struct, or an enum without data, plain data, so that it can be a field of a message or of a state.
///
/// An enum says how it is held, with `#[repr(u8)]`, `#[repr(u16)]` or `#[repr(u32)]`; one of its variants is 0, for states may begin as zeroes.
/// It gets `Clone`, `Copy`, `PartialEq` and `Eq`. A message with a number that is none of its variants is the fault `bad_message`.
#[proc_macro_attribute]
pub fn plain(attr: TokenStream, item: TokenStream) -> TokenStream {
    structs::plain(attr.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Makes a struct the state of an actor type: `#[actor(name = "flights.carrier", width = lane, max_sends = 8)]`.
///
/// * `name`: the type's name, lower-case words with dots between them;
/// * `width`: `lane` (the default); `warp` and `block` do not exist yet;
/// * `max_sends`: the most messages that one handling may send, 8 by default, at most 64;
/// * `init = zero`: a new actor's state is all zeroes; by default it is `Default::default()`.
///
/// The state is plain data of at most 4,096 bytes, without padding.
#[proc_macro_attribute]
pub fn actor(attr: TokenStream, item: TokenStream) -> TokenStream {
    structs::actor(attr.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Makes the functions of an `impl` block the handlers of an actor.
///
/// `fn on_..(&mut self, m: &Message, ctx: &mut Ctx)` is a handler. Other functions are helpers of the handlers; they take
/// and give values, `&` and `&mut` only as parameters, and the `ctx` if they need it. Constants belong to the block.
///
/// The text is a subset of Rust: numbers, plain structs, tuples, fixed arrays; `let`, assignments, `if`, `match`,
/// `while`, `loop`, `for` over ranges and arrays; calls of helpers, of `Ctx`, and of the methods of numbers that cannot
/// fail (`wrapping_*`, `checked_*`, `saturating_*`, `min`, `leading_zeros`, `sqrt`, ...). Whatever else is written is a compile
/// error that says what to write instead.
///
/// `+ - * / % << >>`, `-x`, `abs`, `pow` and indices fail the actor where plain Rust would panic. Every iteration of a
/// loop burns fuel. All these functions are private to the handlers: in the emitted code their signatures differ.
#[proc_macro_attribute]
pub fn handlers(attr: TokenStream, item: TokenStream) -> TokenStream {
    handlers::handlers(attr.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Makes a free function one that handlers call, on every device.
///
/// Its text is in the subset of [`macro@handlers`]. It is called by its path from handlers, from their helpers and from other such functions, of
/// this crate or another one. It takes and gives values; parameters may also be `&`, `&mut`, and the `ctx`, with which it sends nothing. It is not
/// recursive, has no parameters of types, and no `self`.
///
/// A call in a handler looks like its value and fails the actor like the handler's own text. Elsewhere it gives a `ringfleet_actor::Call`, which is
/// `run`.
#[proc_macro_attribute]
pub fn device_fn(attr: TokenStream, item: TokenStream) -> TokenStream {
    device_fn::device_fn(attr.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// The functions of `ringfleet_actor::math` as native code. Not for users.
#[doc(hidden)]
#[proc_macro]
pub fn math_functions(_: TokenStream) -> TokenStream {
    math::native().unwrap_or_else(|error| error.into_compile_error()).into()
}
