//! The first and the last frame of a link.

use super::{KIND_GOODBYE, KIND_HELLO, WireError, begin, source_of, source_words, u16_at, u32_at, u64_at};
use crate::peer::{CloseReason, PeerIdentity, Source};
use ringfleet_abi::NodeId;

/// Begins every connection, so that something else on the port is told apart at once.
pub const MAGIC: [u8; 8] = *b"ringflt\x01";
/// The oldest protocol version that this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// The youngest protocol version that this build speaks.
pub const PROTOCOL_MAX: u16 = 1;
/// Bytes of a `Hello`.
pub const HELLO_BYTES: usize = 48;

const GOODBYE_BYTES: usize = 8;

/// Who speaks, and which versions of the protocol.
///
/// Both ends send one and compute the same picked version with [`negotiate`]; whoever answers a `Hello` puts it into `picked`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest version.
    pub min: u16,
    /// Highest version.
    pub max: u16,
    /// The version picked; 0 in the first `Hello` of a connection.
    pub picked: u16,
    /// Who speaks.
    pub identity: PeerIdentity,
    /// The placement index that it has seen.
    pub placement_index: u64,
}

impl Hello {
    /// The `Hello` of this build.
    #[must_use]
    pub const fn new(identity: PeerIdentity, placement_index: u64) -> Self {
        Self { min: PROTOCOL_MIN, max: PROTOCOL_MAX, picked: 0, identity, placement_index }
    }

    /// The same with the version picked.
    #[must_use]
    pub const fn picking(mut self, version: u16) -> Self {
        self.picked = version;
        self
    }
}

/// The highest version that both ends speak.
///
/// # Errors
/// [`WireError::Version`] if there is none, or if the peer picked another one.
pub const fn negotiate(theirs: &Hello) -> Result<u16, WireError> {
    let highest = if theirs.max < PROTOCOL_MAX { theirs.max } else { PROTOCOL_MAX };
    let refused = WireError::Version { min: theirs.min, max: theirs.max };
    if highest < theirs.min || highest < PROTOCOL_MIN {
        return Err(refused);
    }
    if theirs.picked != 0 && theirs.picked != highest {
        return Err(refused);
    }
    Ok(highest)
}

/// Appends a `Hello` to `buffer`.
pub fn encode_hello(hello: &Hello, buffer: &mut Vec<u8>) {
    let (kind, id) = source_words(hello.identity.source());
    let node = match hello.identity {
        PeerIdentity::Node { node, .. } => node.0,
        PeerIdentity::Client { .. } => 0,
    };
    begin(buffer, KIND_HELLO, kind, 1);
    buffer.extend_from_slice(&MAGIC);
    for version in [hello.min, hello.max, hello.picked, 0] {
        buffer.extend_from_slice(&version.to_le_bytes());
    }
    buffer.extend_from_slice(&id.to_le_bytes());
    buffer.extend_from_slice(&u64::from(node).to_le_bytes());
    buffer.extend_from_slice(&hello.placement_index.to_le_bytes());
}

pub(super) fn decode(bytes: &[u8]) -> Result<Hello, WireError> {
    if bytes.len() != HELLO_BYTES {
        return Err(WireError::Length { kind: "hello", bytes: bytes.len() });
    }
    if bytes[8..16] != MAGIC {
        return Err(WireError::Magic);
    }
    let bad = |field| WireError::Field { kind: "hello", field };
    let source = source_of(u16_at(bytes, 2), u64_at(bytes, 24)).ok_or(bad("source"))?;
    let identity = match source {
        Source::Node(incarnation) => PeerIdentity::Node { node: NodeId(u32_at(bytes, 32)), incarnation },
        Source::Client(session) => PeerIdentity::Client { session },
    };
    let hello = Hello {
        min: u16_at(bytes, 16),
        max: u16_at(bytes, 18),
        picked: u16_at(bytes, 20),
        identity,
        placement_index: u64_at(bytes, 40),
    };
    if hello.min > hello.max { Err(bad("version range")) } else { Ok(hello) }
}

/// Appends a `Goodbye` to `buffer`.
pub fn encode_goodbye(reason: CloseReason, buffer: &mut Vec<u8>) {
    begin(buffer, KIND_GOODBYE, reason as u16, 0);
}

pub(super) fn decode_goodbye(bytes: &[u8]) -> Result<CloseReason, WireError> {
    if bytes.len() != GOODBYE_BYTES {
        return Err(WireError::Length { kind: "goodbye", bytes: bytes.len() });
    }
    CloseReason::from_code(u16_at(bytes, 2)).ok_or(WireError::Field { kind: "goodbye", field: "reason" })
}
