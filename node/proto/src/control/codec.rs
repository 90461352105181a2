//! The envelope of every control message: 16 bytes of header, then the body in rkyv's archived form.
//!
//! ```text
//!   0..4   magic `RFC1`
//!   4..6   format version, little endian
//!   6..8   message kind (which enum the body is)
//!   8..12  body length in bytes
//!   12..16 zero
//! ```
//! Decoding checks every byte that it follows (bytecheck) and allocates no more than the body's own size; bytes from
//! outside never make it panic, which a property test tries.

use super::limits::CONTROL_BYTES_MAX;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error as RkyvError;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// The first four bytes of every control message.
pub const MAGIC: [u8; 4] = *b"RFC1";
/// The version of the bodies. Another one is refused; there is no negotiation below the link's own.
pub const VERSION: u16 = 3;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 16;

/// Which enum a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum MessageKind {
    /// [`super::NodeRequest`].
    NodeRequest = 1,
    /// [`super::NodeReply`].
    NodeReply = 2,
    /// [`super::AdminRequest`].
    AdminRequest = 3,
    /// [`super::AdminReply`].
    AdminReply = 4,
}

impl MessageKind {
    const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::NodeRequest),
            2 => Some(Self::NodeReply),
            3 => Some(Self::AdminRequest),
            4 => Some(Self::AdminReply),
            _ => None,
        }
    }
}

/// Why bytes are not a control message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than a header, or fewer than the header announces.
    #[error("a control message ends early: {have} bytes of {need}")]
    Truncated {
        /// Bytes that are there.
        have: usize,
        /// Bytes that must be there.
        need: usize,
    },
    /// The magic is not `RFC1`.
    #[error("not a control message: the first four bytes are {found:02x?}")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The sender speaks another version.
    #[error("control message of format version {found}; this build reads version {VERSION}")]
    Version {
        /// The version of the message.
        found: u16,
    },
    /// The header names no kind, or another one than expected.
    #[error("control message of kind {found}, expected {expected:?}")]
    Kind {
        /// The code in the header.
        found: u16,
        /// What the caller expected, if it did.
        expected: Option<MessageKind>,
    },
    /// Longer than [`CONTROL_BYTES_MAX`], or bytes follow the body.
    #[error("control message of {bytes} bytes where at most {limit} are read")]
    Length {
        /// Announced or present bytes.
        bytes: usize,
        /// The limit that applies.
        limit: usize,
    },
    /// The body is not a valid archive.
    #[error("reading the body of a control message")]
    Body(#[source] RkyvError),
}

/// A type that travels as the body of a control message.
pub trait ControlMessage: Sized
    + Archive<Archived: for<'a> CheckBytes<HighValidator<'a, RkyvError>> + Deserialize<Self, HighDeserializer<RkyvError>>>
    + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, RkyvError>>
{
    /// The code in the header.
    const KIND: MessageKind;
}

impl ControlMessage for super::NodeRequest {
    const KIND: MessageKind = MessageKind::NodeRequest;
}
impl ControlMessage for super::NodeReply {
    const KIND: MessageKind = MessageKind::NodeReply;
}
impl ControlMessage for super::AdminRequest {
    const KIND: MessageKind = MessageKind::AdminRequest;
}
impl ControlMessage for super::AdminReply {
    const KIND: MessageKind = MessageKind::AdminReply;
}

/// The bytes of `message`, header first.
///
/// # Errors
/// [`CodecError::Length`] when the message is longer than [`CONTROL_BYTES_MAX`].
pub fn encode<M: ControlMessage>(message: &M) -> Result<Vec<u8>, CodecError> {
    let body = rkyv::to_bytes::<RkyvError>(message).map_err(CodecError::Body)?;
    let bytes = HEADER_BYTES + body.len();
    if bytes > CONTROL_BYTES_MAX {
        return Err(CodecError::Length { bytes, limit: CONTROL_BYTES_MAX });
    }
    let mut out = Vec::with_capacity(bytes);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(M::KIND as u16).to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&body);
    Ok(out)
}

/// The kind that the header names, after checking magic, version and length.
///
/// # Errors
/// Everything but [`CodecError::Body`].
pub fn peek_kind(bytes: &[u8]) -> Result<MessageKind, CodecError> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(CodecError::Truncated { have: bytes.len(), need: HEADER_BYTES });
    };
    let [m0, m1, m2, m3, v0, v1, k0, k1, l0, l1, l2, l3, ..] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(CodecError::Magic { found: [m0, m1, m2, m3] });
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(CodecError::Version { found: version });
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > CONTROL_BYTES_MAX - HEADER_BYTES {
        return Err(CodecError::Length { bytes: length.saturating_add(HEADER_BYTES), limit: CONTROL_BYTES_MAX });
    }
    if body.len() < length {
        return Err(CodecError::Truncated { have: bytes.len(), need: HEADER_BYTES + length });
    }
    if body.len() > length {
        return Err(CodecError::Length { bytes: bytes.len(), limit: HEADER_BYTES + length });
    }
    let code = u16::from_le_bytes([k0, k1]);
    MessageKind::from_code(code).ok_or(CodecError::Kind { found: code, expected: None })
}

/// The message in `bytes`.
///
/// # Errors
/// Every variant of [`CodecError`]; never a panic, whatever the bytes are.
pub fn decode<M: ControlMessage>(bytes: &[u8]) -> Result<M, CodecError> {
    let kind = peek_kind(bytes)?;
    if kind != M::KIND {
        return Err(CodecError::Kind { found: kind as u16, expected: Some(M::KIND) });
    }
    // The archive wants alignment that a network buffer does not have.
    let mut body: AlignedVec = AlignedVec::with_capacity(bytes.len() - HEADER_BYTES);
    body.extend_from_slice(&bytes[HEADER_BYTES..]);
    rkyv::from_bytes::<M, RkyvError>(&body).map_err(CodecError::Body)
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
