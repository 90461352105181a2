//! The message: 64 bytes, the same in a client, in a frame on the wire and in every ring.
//!
//! | offset | bytes | field | |
//! |---|---|---|---|
//! | 0 | 8 | `to_key` | key of the target actor |
//! | 8 | 8 | `from_key` | key of the sender; of a client: session << 32 or ask number |
//! | 16 | 8 | `hlc` | stamp of the sending (C6); (from, hlc) names the message |
//! | 24 | 2 | `to_set` | |
//! | 26 | 2 | `from_set` | |
//! | 28 | 2 | `kind` | which message, unique within the actor type; 0 ([`KIND_CHILD_FAILED`]) is none of any type |
//! | 30 | 2 | `bits` | 6 bits payload length, 4 bits following slots (0 now), 6 flags |
//! | 32 | 32 | `payload` | |
//!
//! The shard is computed from set and key, the tenant follows from the set, epoch and sequence live in frames.

use bytemuck::{Pod, Zeroable};

use crate::hlc::Hlc;
use crate::ids::{ActorId, SetId};
use crate::limits::{ENVELOPE_BYTES, PAYLOAD_BYTES_MAX};

/// One message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Envelope {
    /// Key of the target actor.
    pub to_key: u64,
    /// Key of the sender; of a client: session << 32 | ask number.
    pub from_key: u64,
    /// The stamp of the sending.
    pub hlc: u64,
    /// Set of the target actor.
    pub to_set: u16,
    /// Set of the sender, [`SetId::CLIENT`] for a client.
    pub from_set: u16,
    /// Which message.
    pub kind: u16,
    /// Payload length, following slots and flags; read through the methods.
    pub bits: u16,
    /// The payload. Zero beyond its length when made here; nobody reads there.
    pub payload: [u8; PAYLOAD_BYTES_MAX],
}

const _: () = assert!(size_of::<Envelope>() == ENVELOPE_BYTES && align_of::<Envelope>() == ENVELOPE_BYTES);

/// The bits of the payload length in `bits`.
pub const LEN_MASK: u16 = 0x3F;
/// Where the number of following slots begins in `bits`.
pub const SLOTS_SHIFT: u32 = 6;
/// The bits of the number of following slots, shifted down.
pub const SLOTS_MASK: u16 = 0xF;
/// Where the flags begin in `bits`; they reach to its end.
pub const FLAGS_SHIFT: u32 = 10;

/// The kind of an escalation: the sender has failed, and the target is to fail, too. No message of an actor type has it, and no client
/// may send it; otherwise it is a message like others.
pub const KIND_CHILD_FAILED: u16 = 0;

const _: () = assert!(LEN_MASK as usize >= PAYLOAD_BYTES_MAX && LEN_MASK >> SLOTS_SHIFT == 0);
const _: () = assert!(SLOTS_MASK << SLOTS_SHIFT >> FLAGS_SHIFT == 0 && Flags::SPARE.0 << FLAGS_SHIFT == 1 << 15);

/// The six flags of an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// A tell.
    pub const NONE: Flags = Flags(0);
    /// The sender waits for a reply.
    pub const ASK: Flags = Flags(1);
    /// Answers an ask.
    pub const REPLY: Flags = Flags(1 << 1);
    /// Separates what was sent before a change from what was sent after. Handled by workers, never by actors.
    pub const MARKER: Flags = Flags(1 << 2);
    /// Not a message between actors: a verdict or a marker. Not counted in C7.
    pub const CONTROL: Flags = Flags(1 << 3);
    /// The way of this message is recorded.
    pub const TRACE: Flags = Flags(1 << 4);
    /// Must be 0.
    pub const SPARE: Flags = Flags(1 << 5);

    /// The flags as they stand in the envelope, shifted down by [`FLAGS_SHIFT`].
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Why bytes from outside are not an envelope that this version understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// The payload length is over 32.
    PayloadLength {
        /// The length that stands in the envelope.
        bytes: u8,
    },
    /// Following slots, which this version refuses.
    FollowingSlots {
        /// How many.
        slots: u8,
    },
    /// The spare flag is set.
    SpareFlag,
    /// A client's envelope carries a flag that only nodes and workers may set.
    ClientFlags {
        /// The flags that stand in the envelope.
        flags: u16,
    },
    /// A client's envelope has kind 0, or is addressed to no set or to a client session.
    ClientTarget {
        /// The target set.
        set: u16,
        /// The kind.
        kind: u16,
    },
}

impl core::fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            EnvelopeError::PayloadLength { bytes } => {
                write!(f, "a payload of {bytes} bytes, {PAYLOAD_BYTES_MAX} are allowed in one envelope")
            }
            EnvelopeError::FollowingSlots { slots } => {
                write!(f, "{slots} following slots, this version carries payloads of at most {PAYLOAD_BYTES_MAX} bytes")
            }
            EnvelopeError::SpareFlag => f.write_str("the spare flag is set"),
            EnvelopeError::ClientFlags { flags } => {
                write!(f, "flags {flags:#08b}, a client may set ask and trace only")
            }
            EnvelopeError::ClientTarget { set, kind } => {
                write!(f, "kind {kind} to set {set}, a client sends messages to actors only")
            }
        }
    }
}

impl core::error::Error for EnvelopeError {}

impl Envelope {
    /// A message of `kind` with `payload`.
    ///
    /// # Errors
    /// [`EnvelopeError::PayloadLength`] if the payload is over 32 bytes.
    #[inline]
    pub fn new(from: ActorId, to: ActorId, kind: u16, flags: Flags, payload: &[u8]) -> Result<Self, EnvelopeError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(EnvelopeError::PayloadLength { bytes: u8::try_from(payload.len()).unwrap_or(u8::MAX) });
        }
        let mut envelope = Envelope {
            to_key: to.key,
            from_key: from.key,
            hlc: 0,
            to_set: to.set.0,
            from_set: from.set.0,
            kind,
            bits: payload.len() as u16 | (flags.0 << FLAGS_SHIFT),
            payload: [0; PAYLOAD_BYTES_MAX],
        };
        envelope.payload[..payload.len()].copy_from_slice(payload);
        Ok(envelope)
    }

    /// Checks an envelope that came from outside.
    ///
    /// # Errors
    /// What is wrong with its `bits`.
    #[inline]
    pub const fn check(&self) -> Result<(), EnvelopeError> {
        let bytes = self.bits & LEN_MASK;
        if bytes as usize > PAYLOAD_BYTES_MAX {
            return Err(EnvelopeError::PayloadLength { bytes: bytes as u8 });
        }
        let slots = self.following_slots();
        if slots != 0 {
            return Err(EnvelopeError::FollowingSlots { slots });
        }
        if self.flags().has(Flags::SPARE) {
            return Err(EnvelopeError::SpareFlag);
        }
        Ok(())
    }

    /// Checks an envelope that a client sent. Beyond [`Envelope::check`] it must be a message to an actor: a forged marker would
    /// open a shard's gate and let later messages overtake refused ones (C3), a forged reply or verdict would end another session's
    /// ask (C4, C11).
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub const fn check_client(&self) -> Result<(), EnvelopeError> {
        if let Err(error) = self.check() {
            return Err(error);
        }
        let flags = self.flags();
        if flags.0 & !Flags::ASK.with(Flags::TRACE).0 != 0 {
            return Err(EnvelopeError::ClientFlags { flags: flags.0 });
        }
        if self.kind == 0 || self.to_set == SetId::NONE.0 || self.to_set == SetId::CLIENT.0 {
            return Err(EnvelopeError::ClientTarget { set: self.to_set, kind: self.kind });
        }
        Ok(())
    }

    /// What an actor that failed at `hlc - 1` tells the actor of the same key in its parent set.
    #[must_use]
    pub const fn child_failed(child: ActorId, hlc: Hlc, trace: bool) -> Self {
        let flags = if trace { Flags::TRACE } else { Flags::NONE };
        Envelope {
            to_key: child.key,
            from_key: child.key,
            hlc: hlc.0,
            to_set: SetId::NONE.0,
            from_set: child.set.0,
            kind: KIND_CHILD_FAILED,
            bits: flags.0 << FLAGS_SHIFT,
            payload: [0; PAYLOAD_BYTES_MAX],
        }
    }

    /// Whether this tells the target to fail because its child has.
    #[must_use]
    #[inline]
    pub const fn is_child_failed(&self) -> bool {
        self.kind == KIND_CHILD_FAILED && !self.from_client() && self.payload_len() == 0
    }

    /// Bytes of payload, 0 to 32 in a checked envelope.
    #[must_use]
    #[inline]
    pub const fn payload_len(&self) -> usize {
        (self.bits & LEN_MASK) as usize
    }

    /// The payload. At most 32 bytes, whatever the bits say.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.payload[..self.payload_len().min(PAYLOAD_BYTES_MAX)]
    }

    /// Slots of payload that follow this one; 0 now.
    #[must_use]
    #[inline]
    pub const fn following_slots(&self) -> u8 {
        ((self.bits >> SLOTS_SHIFT) & SLOTS_MASK) as u8
    }

    /// The flags.
    #[must_use]
    #[inline]
    pub const fn flags(&self) -> Flags {
        Flags(self.bits >> FLAGS_SHIFT)
    }

    /// Replaces the flags.
    #[inline]
    pub const fn set_flags(&mut self, flags: Flags) {
        self.bits = (self.bits & ((1 << FLAGS_SHIFT) - 1)) | (flags.0 << FLAGS_SHIFT);
    }

    /// The target actor.
    #[must_use]
    #[inline]
    pub const fn to(&self) -> ActorId {
        ActorId::new(SetId(self.to_set), self.to_key)
    }

    /// The sender.
    #[must_use]
    #[inline]
    pub const fn from(&self) -> ActorId {
        ActorId::new(SetId(self.from_set), self.from_key)
    }

    /// The stamp.
    #[must_use]
    #[inline]
    pub const fn stamp(&self) -> Hlc {
        Hlc(self.hlc)
    }

    /// Whether the sender is a client session.
    #[must_use]
    #[inline]
    pub const fn from_client(&self) -> bool {
        self.from_set == SetId::CLIENT.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(payload: &[u8]) -> Result<Envelope, EnvelopeError> {
        Envelope::new(ActorId::new(SetId(1), 2), ActorId::new(SetId(3), 4), 5, Flags::ASK.with(Flags::TRACE), payload)
    }

    #[test]
    fn length_and_flags_share_the_bits_without_touching_each_other() {
        let mut envelope = sample(&[7; 32]).expect("32 bytes fit");
        assert_eq!(envelope.payload(), [7; 32]);
        assert!(
            envelope.flags().has(Flags::ASK)
                && envelope.flags().has(Flags::TRACE)
                && !envelope.flags().has(Flags::REPLY)
        );
        envelope.set_flags(Flags::REPLY);
        assert_eq!(envelope.payload_len(), 32);
        assert_eq!(envelope.flags(), Flags::REPLY);
        assert_eq!(envelope.check(), Ok(()));
    }

    #[test]
    fn a_payload_over_32_bytes_is_refused_with_its_length() {
        assert_eq!(sample(&[0; 33]), Err(EnvelopeError::PayloadLength { bytes: 33 }));
    }

    #[test]
    fn bits_that_this_version_does_not_know_are_refused() {
        let mut envelope = sample(&[]).expect("empty");
        envelope.bits = 33;
        assert_eq!(envelope.check(), Err(EnvelopeError::PayloadLength { bytes: 33 }));
        envelope.bits = 2 << 6;
        assert_eq!(envelope.check(), Err(EnvelopeError::FollowingSlots { slots: 2 }));
        envelope.bits = 1 << 15;
        assert_eq!(envelope.check(), Err(EnvelopeError::SpareFlag));
    }

    #[test]
    fn a_client_cannot_send_what_only_nodes_and_workers_may() {
        let good = sample(&[1]).expect("one byte");
        assert_eq!(good.check_client(), Ok(()));
        for forged in [Flags::REPLY, Flags::MARKER, Flags::CONTROL, Flags::MARKER.with(Flags::CONTROL)] {
            let mut envelope = good;
            envelope.set_flags(forged);
            assert_eq!(envelope.check(), Ok(()), "a node or worker may");
            assert_eq!(envelope.check_client(), Err(EnvelopeError::ClientFlags { flags: forged.bits() }));
        }
        let other = |to_set: u16, kind: u16| {
            let mut envelope = good;
            (envelope.to_set, envelope.kind) = (to_set, kind);
            envelope.check_client()
        };
        assert_eq!(other(SetId::CLIENT.0, 5), Err(EnvelopeError::ClientTarget { set: SetId::CLIENT.0, kind: 5 }));
        assert_eq!(other(0, 5), Err(EnvelopeError::ClientTarget { set: 0, kind: 5 }));
        assert_eq!(other(1, 0), Err(EnvelopeError::ClientTarget { set: 1, kind: 0 }));
        assert!(Envelope { bits: 33, ..good }.check_client().is_err());
    }
}
