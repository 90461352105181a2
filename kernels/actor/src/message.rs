//! Messages: plain data of at most 32 bytes with a kind.

use bytemuck::{CheckedBitPattern, NoUninit};
use ringfleet_abi::limits::PAYLOAD_BYTES_MAX;
use ringfleet_abi::{ActorId, Envelope, Flags};

use crate::plain::{FieldDescriptor, Plain};

/// What actors say to each other. Implemented by `#[message]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    label = "not a message",
    note = "put `#[message]` on the struct"
)]
pub trait Message: Plain + NoUninit + CheckedBitPattern {
    /// The struct's name.
    const NAME: &'static str;
    /// The kind: `fnv1a16` of the name, never 0. Adding a handler never changes the kinds of others.
    const KIND: u16;
    /// Its fields, in the order of their offsets.
    const FIELDS: &'static [FieldDescriptor];

    /// The payload: the message's bytes, then zeroes.
    #[must_use]
    #[inline]
    fn to_payload(&self) -> [u8; PAYLOAD_BYTES_MAX] {
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        payload[..size_of::<Self>()].copy_from_slice(bytemuck::bytes_of(self));
        payload
    }

    /// The message in an envelope, or `None` if the envelope carries another kind or length, or an enum in it has the number of
    /// no variant.
    #[must_use]
    #[inline]
    fn from_envelope(envelope: &Envelope) -> Option<Self> {
        if envelope.kind != Self::KIND || envelope.payload_len() != size_of::<Self>() {
            return None;
        }
        bytemuck::checked::try_pod_read_unaligned(&envelope.payload[..size_of::<Self>()]).ok()
    }

    /// An envelope with this message, not yet stamped.
    #[must_use]
    #[inline]
    fn to_envelope(&self, from: ActorId, to: ActorId, flags: Flags) -> Envelope {
        let mut envelope = Envelope {
            to_key: to.key,
            from_key: from.key,
            hlc: 0,
            to_set: to.set.0,
            from_set: from.set.0,
            kind: Self::KIND,
            bits: size_of::<Self>() as u16,
            payload: self.to_payload(),
        };
        if flags != Flags::NONE {
            envelope.set_flags(flags);
        }
        envelope
    }
}
