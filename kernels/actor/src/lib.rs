//! How a user writes an actor.
//!
//! ```
//! use ringfleet_actor::prelude::*;
//!
//! #[message]
//! pub struct Leg {
//!     pub arr_delay_minutes: i32,
//!     pub distance_miles: u32,
//! }
//!
//! #[message]
//! pub struct Summary {}
//!
//! #[message]
//! pub struct CarrierReport {
//!     pub legs: u64,
//!     pub delay_sum: i64,
//! }
//!
//! #[actor(name = "flights.carrier", width = lane)]
//! #[derive(Default)]
//! pub struct Carrier {
//!     legs: u64,
//!     delay_sum: i64,
//! }
//!
//! #[handlers]
//! impl Carrier {
//!     fn on_leg(&mut self, m: &Leg, ctx: &mut Ctx) {
//!         self.legs += 1;
//!         self.delay_sum += m.arr_delay_minutes as i64;
//!     }
//!     fn on_summary(&mut self, _m: &Summary, ctx: &mut Ctx) {
//!         ctx.reply(&CarrierReport { legs: self.legs, delay_sum: self.delay_sum })
//!     }
//! }
//!
//! let registry = TypeRegistry::new(types![Carrier]).expect("one name once");
//! assert!(registry.by_name("flights.carrier").is_some());
//! ```
//!
//! State and messages are fixed-size plain data. The text of the handlers is a subset of Rust that GPU code can carry;
//! the macros read it into a checked form and emit the native function from that form: arithmetic, shifts and indices
//! are checked whatever the user's Cargo profile says, loops burn fuel, and whatever goes wrong is a [`Fault`] of this
//! one actor. Nothing unwinds (C9: every loop of a handler is bounded by [`FUEL_PER_MESSAGE`], every handling by its
//! type's `max_sends`).
//!
//! | module | for |
//! |---|---|
//! | [`plain`](mod@plain), [`message`](mod@message), [`actor`](mod@actor) | what the macros implement |
//! | [`ctx`], [`sends`] | what a handler may do, and how a device reads what it did |
//! | [`descriptor`] | what a process knows about an actor type |
//! | [`code`] | the handlers as data: `ringfleet-ir`'s program of a type |
//! | [`function`](mod@function) | free functions with `#[device_fn]` that handlers call |
//! | [`ops`], [`fault`] | the checked form at work |
//! | [`math`] | `exp`, `ln`, `sin`, `cos`, `pow`: the same bits everywhere |
//! | [`testing`] | unit tests of actors without a device |
//!
//! Deliberately absent: allocation, threads, clocks. What a handler sees of time is the stamp of its handling.

// The macros name this crate by its public name, here too.
extern crate self as ringfleet_actor;

pub mod actor;
pub mod code;
pub mod ctx;
pub mod descriptor;
pub mod fault;
pub mod function;
pub mod math;
pub mod message;
pub mod ops;
pub mod plain;
pub mod sends;
pub mod testing;

#[doc(hidden)]
pub mod __private;

pub use actor::{Actor, ActorRef, Behaviour, Handles};
pub use code::Code;
pub use ctx::Ctx;
pub use descriptor::{KindDescriptor, TypeDescriptor, TypeRegistry, TypeRegistryError, Width};
pub use fault::Fault;
pub use function::{Call, FunctionCode};
pub use message::Message;
pub use ops::{FUEL_PER_MESSAGE, Fuel};
pub use plain::{FieldDescriptor, FieldType, Plain, VariantDescriptor};
pub use ringfleet_abi::{ActorId, ActorKey, Envelope, Flags, Hlc, SetId};
pub use ringfleet_macros::{actor, device_fn, handlers, message, plain};
pub use sends::{SendBuffer, Target};

/// Everything that a file with actors needs.
pub mod prelude {
    pub use crate::{Actor, ActorRef, Ctx, Message, TypeRegistry, math, types};
    pub use ringfleet_macros::{actor, device_fn, handlers, message, plain};
}

/// The descriptors of actor types: `types![Carrier, Airport]` is a `Vec<&'static TypeDescriptor>`.
#[macro_export]
macro_rules! types {
    ($($actor:ty),* $(,)?) => {
        ::std::vec![$(<$actor as $crate::Behaviour>::DESCRIPTOR),*]
    };
}

/// The examples of the page about the language.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/language.md")]
pub struct LanguagePage;
