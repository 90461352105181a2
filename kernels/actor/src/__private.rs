//! For generated code only; no part of the interface.

use bytemuck::checked::CheckedCastError;
use ringfleet_abi::Envelope;

pub use bytemuck;
pub use ringfleet_abi::hash::fnv1a16;
pub use ringfleet_abi::limits::STATE_BYTES_MAX;
pub use ringfleet_ir::Externals;

pub use crate::code::{push_const, push_message, push_type};
pub use crate::descriptor::code_hash;
pub use crate::function::{Device, call, called, code_of, function_code, hash_with, never, run};
pub use crate::plain::layout_hash;

use crate::actor::Actor;
use crate::descriptor::KindDescriptor;
use crate::fault::Fault;
use crate::message::Message;

/// Puts the state of an actor that has just been activated into its slot, whatever was there.
///
/// # Panics
/// If the slot is too small: a bug of the device.
pub fn init<A: Actor>(slot: &mut [u8]) {
    slot[..size_of::<A>()].copy_from_slice(bytemuck::bytes_of(&A::initial()));
}

/// The state in its slot.
///
/// # Errors
/// [`Fault::OutOfBounds`] if an enum in it has the number of no variant: handlers cannot write one.
///
/// # Panics
/// If the device handed over a slot that is too small or not aligned: a bug of the device.
#[inline(always)]
pub fn state_of<A: Actor>(slot: &mut [u8]) -> Result<&mut A, Fault> {
    match bytemuck::checked::try_from_bytes_mut(&mut slot[..size_of::<A>()]) {
        Ok(state) => Ok(state),
        Err(CheckedCastError::InvalidBitPattern) => Err(Fault::OutOfBounds),
        Err(_) => panic!("a device hands over state slots that are aligned to 16 bytes"),
    }
}

/// The message in an envelope of its kind, in place.
///
/// # Errors
/// [`Fault::BadMessage`] if the payload has another length, or an enum in it the number of no variant.
#[inline(always)]
pub fn message_of<M: Message>(incoming: &Envelope) -> Result<&M, Fault> {
    if incoming.payload_len() != size_of::<M>() {
        return Err(Fault::BadMessage);
    }
    // The payload starts at offset 32 of an envelope aligned to 64, and no plain type is aligned to more than 16.
    bytemuck::checked::try_from_bytes(&incoming.payload[..size_of::<M>()]).map_err(|_| Fault::BadMessage)
}

/// The descriptor of a message.
#[must_use]
pub const fn kind_of<M: Message>() -> KindDescriptor {
    KindDescriptor { name: M::NAME, kind: M::KIND, bytes: size_of::<M>(), fields: M::FIELDS }
}

/// What a `for` of a handler walks over: the elements of an array, copied.
#[inline(always)]
pub fn elements<T: Copy, const N: usize>(array: [T; N]) -> std::array::IntoIter<T, N> {
    array.into_iter()
}
