//! Frames of a data connection (C3, C9, C11): fixed little-endian layouts, no magic but in [`Hello`].
//!
//! The link layer carries whole frames behind a length prefix; [`decode`] gets exactly one.
//!
//! | frame | lane | bytes |
//! |---|---|---|
//! | `Hello` | answers, the first of each direction | 48 |
//! | `Deliver` | data | 32 + runs x 32 + envelopes x 64 |
//! | `Answers` | answers | 24 + answers x 40 |
//! | `Replies` | answers | 24 + envelopes x 64 |
//! | `Goodbye` | answers | 8 |
//!
//! Every frame begins with `kind: u16, detail: u16, count: u32`. A `Deliver` frame carries runs: consecutive sequences of one
//! channel, so that under load a frame holds hundreds of envelopes however many shards they are for.
//!
//! Decoding never panics, reads nothing beyond the frame and allocates nothing: counts are checked against the length first.
//!
//! Deliberately absent: compression, optional fields, and a frame that changes its meaning with the version; a new version adds
//! kinds.

mod answer;
mod deliver;
mod hello;
mod replies;
#[cfg(test)]
mod tests;

pub use answer::{ANSWER_BYTES, ANSWERS_HEADER_BYTES, Answer, Answers, AnswersWriter};
pub use deliver::{
    DELIVER_HEADER_BYTES, Deliver, DeliverHeader, DeliverWriter, RUN_HEADER_BYTES, Run, RunHeader, Runs,
};
pub use hello::{HELLO_BYTES, Hello, MAGIC, PROTOCOL_MAX, PROTOCOL_MIN, encode_goodbye, encode_hello, negotiate};
pub use replies::{REPLIES_HEADER_BYTES, Replies, RepliesWriter};

use crate::peer::{CloseReason, Source};
use ringfleet_abi::{Incarnation, SessionId};

const KIND_HELLO: u16 = 1;
const KIND_DELIVER: u16 = 2;
const KIND_ANSWERS: u16 = 3;
const KIND_REPLIES: u16 = 4;
const KIND_GOODBYE: u16 = 5;

const SOURCE_NODE: u16 = 0;
const SOURCE_CLIENT: u16 = 1;

/// One decoded frame. Bodies are views of the bytes; their envelopes are not checked yet.
#[derive(Clone, Debug)]
pub enum Frame<'a> {
    /// The first frame of each direction.
    Hello(Hello),
    /// Messages.
    Deliver(Deliver<'a>),
    /// Acknowledgements and refusals.
    Answers(Answers<'a>),
    /// Replies and verdicts to a client.
    Replies(Replies<'a>),
    /// The peer closes the link.
    Goodbye(CloseReason),
}

/// Bytes that are not a frame of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The frame ends before its fields do, or goes on after them.
    #[error("a {kind} frame of {bytes} bytes does not have the length that its fields give")]
    Length {
        /// Which frame.
        kind: &'static str,
        /// How long.
        bytes: usize,
    },
    /// No such frame.
    #[error("unknown frame kind {kind}")]
    Kind {
        /// The number.
        kind: u16,
    },
    /// A field has a value that the protocol does not allow.
    #[error("field {field} of a {kind} frame is out of range")]
    Field {
        /// Which frame.
        kind: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// The peer does not speak this protocol.
    #[error("the peer's first frame does not begin with the magic of ringfleet's data protocol")]
    Magic,
    /// No protocol version in common.
    #[error("the peer speaks protocol versions {min} to {max}, this build {PROTOCOL_MIN} to {PROTOCOL_MAX}")]
    Version {
        /// The peer's lowest.
        min: u16,
        /// The peer's highest.
        max: u16,
    },
}

/// Decodes one whole frame.
///
/// # Errors
/// [`WireError`] if the bytes are not exactly one frame.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, WireError> {
    if bytes.len() < 8 {
        return Err(WireError::Length { kind: "short", bytes: bytes.len() });
    }
    match u16_at(bytes, 0) {
        KIND_HELLO => hello::decode(bytes).map(Frame::Hello),
        KIND_DELIVER => deliver::decode(bytes).map(Frame::Deliver),
        KIND_ANSWERS => answer::decode(bytes).map(Frame::Answers),
        KIND_REPLIES => replies::decode(bytes).map(Frame::Replies),
        KIND_GOODBYE => hello::decode_goodbye(bytes).map(Frame::Goodbye),
        kind => Err(WireError::Kind { kind }),
    }
}

fn source_of(kind: u16, id: u64) -> Option<Source> {
    match kind {
        SOURCE_NODE => Some(Source::Node(Incarnation(id))),
        SOURCE_CLIENT => u32::try_from(id).ok().map(|id| Source::Client(SessionId(id))),
        _ => None,
    }
}

const fn source_words(source: Source) -> (u16, u64) {
    match source {
        Source::Node(incarnation) => (SOURCE_NODE, incarnation.0),
        Source::Client(session) => (SOURCE_CLIENT, session.0 as u64),
    }
}

fn begin(buffer: &mut Vec<u8>, kind: u16, detail: u16, count: u32) {
    buffer.extend_from_slice(&kind.to_le_bytes());
    buffer.extend_from_slice(&detail.to_le_bytes());
    buffer.extend_from_slice(&count.to_le_bytes());
}

// The callers of these three have checked the length of `bytes`.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

const _: () = assert!(cfg!(target_endian = "little"), "envelopes are copied to the wire as they lie in memory");
