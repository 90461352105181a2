//! Replies and verdicts to a client.

use bytemuck::bytes_of;
use ringfleet_abi::Envelope;
use ringfleet_abi::SessionId;
use ringfleet_abi::limits::ENVELOPE_BYTES;

use super::{KIND_REPLIES, WireError, begin, u32_at, u64_at};

/// Bytes of a frame before its first envelope.
pub const REPLIES_HEADER_BYTES: usize = 24;

/// A decoded frame.
#[derive(Clone, Copy, Debug)]
pub struct Replies<'a> {
    /// To which session.
    pub session: SessionId,
    /// Wall clock ms at which the lease of the sending node ends (C2).
    pub lease_end_ms: u64,
    body: &'a [u8],
}

impl<'a> Replies<'a> {
    /// The envelopes, in order: replies, and verdicts ([`Envelope::as_verdict`]).
    pub fn envelopes(&self) -> impl ExactSizeIterator<Item = Envelope> + use<'a> {
        self.body.chunks_exact(ENVELOPE_BYTES).map(bytemuck::pod_read_unaligned)
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Replies<'_>, WireError> {
    let length = WireError::Length { kind: "replies", bytes: bytes.len() };
    if bytes.len() < REPLIES_HEADER_BYTES {
        return Err(length);
    }
    let body = &bytes[REPLIES_HEADER_BYTES..];
    if !body.len().is_multiple_of(ENVELOPE_BYTES) || body.len() / ENVELOPE_BYTES != u32_at(bytes, 4) as usize {
        return Err(length);
    }
    let session =
        u32::try_from(u64_at(bytes, 8)).map_err(|_| WireError::Field { kind: "replies", field: "session" })?;
    Ok(Replies { session: SessionId(session), lease_end_ms: u64_at(bytes, 16), body })
}

/// Writes one frame.
#[derive(Debug)]
pub struct RepliesWriter<'b> {
    buffer: &'b mut Vec<u8>,
}

impl<'b> RepliesWriter<'b> {
    /// Begins a frame in an empty `buffer`.
    pub fn new(buffer: &'b mut Vec<u8>, session: SessionId, lease_end_ms: u64) -> Self {
        assert!(buffer.is_empty(), "a frame of replies begins in an empty buffer");
        begin(buffer, KIND_REPLIES, 0, 0);
        buffer.extend_from_slice(&u64::from(session.0).to_le_bytes());
        buffer.extend_from_slice(&lease_end_ms.to_le_bytes());
        Self { buffer }
    }

    /// Goes on with a frame that was begun before.
    pub fn resume(buffer: &'b mut Vec<u8>) -> Self {
        assert!(buffer.len() >= REPLIES_HEADER_BYTES, "only a begun frame is resumed");
        Self { buffer }
    }

    /// Appends an envelope; returns how many there are now.
    pub fn envelope(&mut self, envelope: &Envelope) -> usize {
        self.buffer.extend_from_slice(bytes_of(envelope));
        let count = (self.buffer.len() - REPLIES_HEADER_BYTES) / ENVELOPE_BYTES;
        self.buffer[4..8].copy_from_slice(&(count as u32).to_le_bytes());
        count
    }
}
