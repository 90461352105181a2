//! What a receiver says about channels: many answers in one frame, in order.

use ringfleet_abi::{Epoch, LostReason, NodeId, ShardId};

use super::{KIND_ANSWERS, WireError, begin, source_of, source_words, u16_at, u32_at, u64_at};
use crate::peer::Source;

/// Bytes of a frame before its first answer.
pub const ANSWERS_HEADER_BYTES: usize = 24;
/// Bytes of an answer.
pub const ANSWER_BYTES: usize = 40;

const ACK: u16 = 0;
const BUSY: u16 = 1;
const MOVED: u16 = 2;
const CHANNEL_LOST: u16 = 3;

/// One answer about the channel (source of the frame, `shard`) of `generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Cumulative acknowledgement (C3).
    Ack {
        /// The channel's shard.
        shard: ShardId,
        /// The channel's generation.
        generation: u32,
        /// Everything up to here need not be sent again over this link.
        accepted_through: u64,
        /// Everything up to here has been handled (or dead-lettered) by the owner worker.
        handled_through: u64,
    },
    /// Nothing from `at` on was executed; send again from there after a pause (C9).
    Busy {
        /// The channel's shard.
        shard: ShardId,
        /// The channel's generation.
        generation: u32,
        /// The attempt that this refuses.
        attempt: u32,
        /// The first sequence that was not accepted.
        at: u64,
        /// Whether the receiver remembers the channel. If not, it speaks of this attempt only.
        certain: bool,
    },
    /// Nothing from `at` on was executed; the shard is not resident here at that epoch.
    Moved {
        /// The channel's shard.
        shard: ShardId,
        /// The channel's generation.
        generation: u32,
        /// The attempt that this refuses.
        attempt: u32,
        /// The first sequence that was not accepted.
        at: u64,
        /// Whether the receiver remembers the channel. If not, it speaks of this attempt only.
        certain: bool,
        /// The latest residence that the receiver knows of.
        epoch: Epoch,
        /// Where that is; 0: nowhere.
        hint: NodeId,
    },
    /// The receiver has no memory of this channel.
    ChannelLost {
        /// The channel's shard.
        shard: ShardId,
        /// The channel's generation.
        generation: u32,
        /// The attempt that this refuses.
        attempt: u32,
        /// Nothing after this sequence was accepted in this attempt.
        after_seq: u64,
        /// A new generation must be greater than this one.
        generation_floor: u32,
        /// Why.
        reason: LostReason,
    },
}

impl Answer {
    /// The channel's shard.
    #[must_use]
    pub const fn shard(&self) -> ShardId {
        match *self {
            Answer::Ack { shard, .. }
            | Answer::Busy { shard, .. }
            | Answer::Moved { shard, .. }
            | Answer::ChannelLost { shard, .. } => shard,
        }
    }

    /// The channel's generation.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        match *self {
            Answer::Ack { generation, .. }
            | Answer::Busy { generation, .. }
            | Answer::Moved { generation, .. }
            | Answer::ChannelLost { generation, .. } => generation,
        }
    }
}

/// A decoded frame.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    /// Whose channels this is about: the receiver of the frame.
    pub source: Source,
    body: &'a [u8],
}

impl<'a> Answers<'a> {
    /// The answers, in order.
    pub fn iter(&self) -> impl Iterator<Item = Answer> + use<'a> {
        // `decode` has read each of them once.
        self.body.chunks_exact(ANSWER_BYTES).filter_map(|bytes| decode_answer(bytes).ok())
    }
}

fn flag(bytes: &[u8]) -> Result<bool, WireError> {
    match u16_at(bytes, 2) {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Field { kind: "answers", field: "certain" }),
    }
}

fn decode_answer(bytes: &[u8]) -> Result<Answer, WireError> {
    let bad = |field| WireError::Field { kind: "answers", field };
    let shard = ShardId::unpack(u32_at(bytes, 4));
    let (generation, attempt) = (u32_at(bytes, 8), u32_at(bytes, 12));
    let (first, second, third) = (u64_at(bytes, 16), u64_at(bytes, 24), u32_at(bytes, 32));
    Ok(match u16_at(bytes, 0) {
        ACK if second <= first => Answer::Ack { shard, generation, accepted_through: first, handled_through: second },
        ACK => return Err(bad("handled_through")),
        BUSY => Answer::Busy { shard, generation, attempt, at: first, certain: flag(bytes)? },
        MOVED => Answer::Moved {
            shard,
            generation,
            attempt,
            at: first,
            certain: flag(bytes)?,
            epoch: Epoch(second),
            hint: NodeId(third),
        },
        CHANNEL_LOST => Answer::ChannelLost {
            shard,
            generation,
            attempt,
            after_seq: first,
            generation_floor: third,
            reason: LostReason::from_code(u16_at(bytes, 2)).ok_or(bad("reason"))?,
        },
        _ => return Err(bad("answer")),
    })
}

pub(super) fn decode(bytes: &[u8]) -> Result<Answers<'_>, WireError> {
    let length = WireError::Length { kind: "answers", bytes: bytes.len() };
    if bytes.len() < ANSWERS_HEADER_BYTES {
        return Err(length);
    }
    let body = &bytes[ANSWERS_HEADER_BYTES..];
    if !body.len().is_multiple_of(ANSWER_BYTES) || body.len() / ANSWER_BYTES != u32_at(bytes, 4) as usize {
        return Err(length);
    }
    let source =
        source_of(u16_at(bytes, 2), u64_at(bytes, 8)).ok_or(WireError::Field { kind: "answers", field: "source" })?;
    for answer in body.chunks_exact(ANSWER_BYTES) {
        decode_answer(answer)?;
    }
    Ok(Answers { source, body })
}

/// Writes one frame.
#[derive(Debug)]
pub struct AnswersWriter<'b> {
    buffer: &'b mut Vec<u8>,
    start: usize,
    count: u32,
}

impl<'b> AnswersWriter<'b> {
    /// Begins a frame about the channels of `source` at the end of `buffer`.
    pub fn new(buffer: &'b mut Vec<u8>, source: Source) -> Self {
        let start = buffer.len();
        let (kind, id) = source_words(source);
        begin(buffer, KIND_ANSWERS, kind, 0);
        buffer.extend_from_slice(&id.to_le_bytes());
        buffer.extend_from_slice(&0u64.to_le_bytes());
        Self { buffer, start, count: 0 }
    }

    /// Appends an answer.
    pub fn answer(&mut self, answer: &Answer) {
        let (kind, detail, attempt, first, second, third) = match *answer {
            Answer::Ack { accepted_through, handled_through, .. } => {
                assert!(handled_through <= accepted_through, "C3: handled is never ahead of accepted");
                (ACK, 0, 0, accepted_through, handled_through, 0)
            }
            Answer::Busy { attempt, at, certain, .. } => (BUSY, u16::from(certain), attempt, at, 0, 0),
            Answer::Moved { attempt, at, certain, epoch, hint, .. } => {
                (MOVED, u16::from(certain), attempt, at, epoch.0, hint.0)
            }
            Answer::ChannelLost { attempt, after_seq, generation_floor, reason, .. } => {
                (CHANNEL_LOST, reason.code(), attempt, after_seq, 0, generation_floor)
            }
        };
        self.buffer.extend_from_slice(&kind.to_le_bytes());
        self.buffer.extend_from_slice(&detail.to_le_bytes());
        for word in [answer.shard().pack(), answer.generation(), attempt] {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        for word in [first, second, u64::from(third)] {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
    }

    /// Ends the frame.
    pub fn finish(self) {
        self.buffer[self.start + 4..self.start + 8].copy_from_slice(&self.count.to_le_bytes());
    }
}
