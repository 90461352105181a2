//! Messages on their way: runs of consecutive sequences.

use bytemuck::cast_slice;
use ringfleet_abi::limits::ENVELOPE_BYTES;
use ringfleet_abi::{Envelope, Epoch, ShardId};

use super::{KIND_DELIVER, WireError, begin, source_of, source_words, u16_at, u32_at, u64_at};
use crate::peer::Source;

/// Bytes of a frame before its first run.
pub const DELIVER_HEADER_BYTES: usize = 32;
/// Bytes of a run before its envelopes.
pub const RUN_HEADER_BYTES: usize = 32;

/// What all runs of a frame share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverHeader {
    /// Whose messages.
    pub source: Source,
    /// Wall clock ms at which the sender's lease ends; 0 for clients, who have none (C2).
    pub lease_end_ms: u64,
    /// The placement index by which the sender routed; a receiver that is behind catches up first.
    pub placement_index: u64,
}

/// Where a run belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// The target shard.
    pub shard: ShardId,
    /// How many envelopes, at least 1.
    pub count: u32,
    /// The channel's generation, at least 1; raised whenever the channel was lost.
    pub generation: u32,
    /// The channel's attempt, raised with every rewind. Refusals echo it, so a sender tells a late refusal from a current one.
    pub attempt: u32,
    /// The residence that the sender means.
    pub epoch: Epoch,
    /// Sequence of the first envelope, from 1.
    pub first_seq: u64,
}

/// A decoded frame.
#[derive(Clone, Copy, Debug)]
pub struct Deliver<'a> {
    /// What all runs share.
    pub header: DeliverHeader,
    runs: u32,
    body: &'a [u8],
}

/// A decoded run.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Where it belongs.
    pub header: RunHeader,
    body: &'a [u8],
}

impl<'a> Run<'a> {
    /// Its envelopes from the `skip`-th on.
    pub fn envelopes(&self, skip: usize) -> impl ExactSizeIterator<Item = Envelope> + use<'a> {
        let from = (skip * ENVELOPE_BYTES).min(self.body.len());
        self.body[from..].chunks_exact(ENVELOPE_BYTES).map(bytemuck::pod_read_unaligned)
    }
}

impl<'a> Deliver<'a> {
    /// Its runs, in order.
    #[must_use]
    pub fn runs(&self) -> Runs<'a> {
        Runs { left: self.runs, body: self.body }
    }
}

/// Iterator over the runs of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Runs<'a> {
    left: u32,
    body: &'a [u8],
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        // `decode` walked over all runs before it gave the frame out.
        let (run, rest) = split_run(self.body).ok()?;
        self.body = rest;
        Some(run)
    }
}

fn split_run(body: &[u8]) -> Result<(Run<'_>, &[u8]), WireError> {
    let length = WireError::Length { kind: "deliver", bytes: body.len() };
    if body.len() < RUN_HEADER_BYTES {
        return Err(length);
    }
    let count = u32_at(body, 4);
    let header = RunHeader {
        shard: ShardId::unpack(u32_at(body, 0)),
        count,
        generation: u32_at(body, 8),
        attempt: u32_at(body, 12),
        epoch: Epoch(u64_at(body, 16)),
        first_seq: u64_at(body, 24),
    };
    let bad = |field| WireError::Field { kind: "deliver", field };
    if count == 0 || count as usize > (body.len() - RUN_HEADER_BYTES) / ENVELOPE_BYTES {
        return Err(length);
    }
    if header.generation == 0 {
        return Err(bad("generation"));
    }
    // Sequences stay below 2^63, so that no sum of theirs overflows.
    if header.first_seq == 0 || header.first_seq > u64::MAX >> 1 {
        return Err(bad("first_seq"));
    }
    let end = RUN_HEADER_BYTES + count as usize * ENVELOPE_BYTES;
    Ok((Run { header, body: &body[RUN_HEADER_BYTES..end] }, &body[end..]))
}

pub(super) fn decode(bytes: &[u8]) -> Result<Deliver<'_>, WireError> {
    let length = WireError::Length { kind: "deliver", bytes: bytes.len() };
    if bytes.len() < DELIVER_HEADER_BYTES {
        return Err(length);
    }
    let source =
        source_of(u16_at(bytes, 2), u64_at(bytes, 8)).ok_or(WireError::Field { kind: "deliver", field: "source" })?;
    let runs = u32_at(bytes, 4);
    let header = DeliverHeader { source, lease_end_ms: u64_at(bytes, 16), placement_index: u64_at(bytes, 24) };
    let body = &bytes[DELIVER_HEADER_BYTES..];
    let mut rest = body;
    for _ in 0..runs {
        rest = split_run(rest)?.1;
    }
    if rest.is_empty() { Ok(Deliver { header, runs, body }) } else { Err(length) }
}

/// Writes one frame.
#[derive(Debug)]
pub struct DeliverWriter<'b> {
    buffer: &'b mut Vec<u8>,
    start: usize,
    runs: u32,
}

impl<'b> DeliverWriter<'b> {
    /// Begins a frame at the end of `buffer`.
    pub fn new(buffer: &'b mut Vec<u8>, header: &DeliverHeader) -> Self {
        let start = buffer.len();
        let (kind, id) = source_words(header.source);
        begin(buffer, KIND_DELIVER, kind, 0);
        for word in [id, header.lease_end_ms, header.placement_index] {
            buffer.extend_from_slice(&word.to_le_bytes());
        }
        Self { buffer, start, runs: 0 }
    }

    /// Appends a run whose envelopes lie in two pieces.
    pub fn run(&mut self, header: &RunHeader, pieces: (&[Envelope], &[Envelope])) {
        assert_eq!(
            header.count as usize,
            pieces.0.len() + pieces.1.len(),
            "a run's count is the number of its envelopes"
        );
        for word in [header.shard.pack(), header.count, header.generation, header.attempt] {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        for word in [header.epoch.0, header.first_seq] {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        self.buffer.extend_from_slice(cast_slice(pieces.0));
        self.buffer.extend_from_slice(cast_slice(pieces.1));
        self.runs += 1;
    }

    /// Ends the frame.
    pub fn finish(self) {
        self.buffer[self.start + 4..self.start + 8].copy_from_slice(&self.runs.to_le_bytes());
    }
}
