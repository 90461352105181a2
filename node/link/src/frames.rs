//! Frames: a stream of bytes cut into messages.
//!
//! A frame is its length (u32, little-endian) and that many bytes. Frames of a stream arrive in the
//! order sent, whole (C3). What is bounded: a frame by [`FRAME_BYTES_MAX`], a sender's queue by
//! the caller who flushes it, a receiver's buffer by one frame and one read.
//!
//! All waits may be dropped half-way (`select!`, timeouts): nothing is lost or sent twice, the next
//! call goes on where this one stopped.

use std::{future::poll_fn, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use ringfleet_env::{LaneError, LaneReader, LaneWriter};

use crate::{CloseReason, FRAME_BYTES_MAX};

/// Bytes of the length before each frame.
const HEADER_BYTES: usize = 4;

/// Frames from this size on are handed to the stream as they are instead of being copied behind the
/// queued ones.
const COPY_BYTES_MAX: usize = 4096;

/// Queued bytes are cut into pieces of this size: acknowledged pieces are freed one by one.
const PIECE_BYTES: usize = 64 * 1024;

/// Pieces a receiver takes from its stream at a time.
const READ_PIECES: usize = 32;

/// Why a frame could not be sent or received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame above [`FRAME_BYTES_MAX`]: refused unsent, or received from a peer that is not ours.
    #[error("a frame of {bytes} bytes is above the limit of {FRAME_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The peer gave this stream up, and the connection is still there.
    #[error("the peer gave the stream up with code {code}")]
    Stopped {
        /// What it gave as a reason.
        code: u64,
    },
    /// The stream was finished or given up on this side before.
    #[error("the stream was closed on this side")]
    Closed,
    /// The connection is gone.
    #[error("the connection was lost: {0}")]
    Lost(CloseReason),
}

impl From<WriteError> for FrameError {
    fn from(e: WriteError) -> Self {
        match e {
            WriteError::Stopped(code) => Self::Stopped { code: code.into_inner() },
            WriteError::ConnectionLost(e) => Self::Lost(e.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Closed,
        }
    }
}

impl From<ReadError> for FrameError {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Reset(code) => Self::Stopped { code: code.into_inner() },
            ReadError::ConnectionLost(e) => Self::Lost(e.into()),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => Self::Closed,
        }
    }
}

impl From<LaneError> for FrameError {
    fn from(e: LaneError) -> Self {
        match e {
            LaneError::Stopped { code } => Self::Stopped { code: u64::from(code) },
            LaneError::Closed => Self::Closed,
            LaneError::Lost(end) => Self::Lost(end.into()),
        }
    }
}

/// What a sender writes to.
#[derive(Debug)]
enum Sink {
    Quic(SendStream),
    Lane(Box<dyn LaneWriter>),
}

/// What a receiver reads from.
#[derive(Debug)]
enum Source {
    Quic(RecvStream),
    Lane(Box<dyn LaneReader>),
}

/// The sending half of a stream.
///
/// Dropping it finishes the stream after what was flushed; frames still queued are lost, and if one
/// was sent in part the receiver is told [`FrameError::Truncated`].
#[derive(Debug)]
pub struct FrameSender {
    stream: Sink,
    /// Frames that are not yet in a piece.
    tail: BytesMut,
    /// Pieces in order, from `next` on not yet taken by the stream.
    pieces: Vec<Bytes>,
    next: usize,
    queued_bytes: usize,
}

impl FrameSender {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self::over(Sink::Quic(stream))
    }

    pub(crate) fn of_lane(lane: Box<dyn LaneWriter>) -> Self {
        Self::over(Sink::Lane(lane))
    }

    fn over(stream: Sink) -> Self {
        Self { stream, tail: BytesMut::new(), pieces: Vec::new(), next: 0, queued_bytes: 0 }
    }

    /// Puts a frame into the queue without sending it. Many frames, then one [`FrameSender::flush`],
    /// is the fast way. The caller bounds the queue by [`FrameSender::queued_bytes`].
    pub fn queue(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        self.queue_parts(&[frame])
    }

    /// [`FrameSender::queue`] of one frame that lies in several places, such as header and envelopes.
    pub fn queue_parts(&mut self, parts: &[&[u8]]) -> Result<(), FrameError> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        self.queue_header(bytes)?;
        if self.tail.capacity() - self.tail.len() < bytes {
            self.tail.reserve(bytes.max(PIECE_BYTES));
        }
        for part in parts {
            self.tail.extend_from_slice(part);
        }
        self.queued_bytes += bytes;
        if self.tail.len() >= PIECE_BYTES {
            self.cut();
        }
        Ok(())
    }

    /// [`FrameSender::queue`] of bytes that need no copy. The memory behind them is held until the
    /// peer has acknowledged them.
    pub fn queue_bytes(&mut self, frame: Bytes) -> Result<(), FrameError> {
        if frame.len() <= COPY_BYTES_MAX {
            return self.queue_parts(&[&frame]);
        }
        self.queue_header(frame.len())?;
        self.cut();
        self.queued_bytes += frame.len();
        self.pieces.push(frame);
        Ok(())
    }

    /// Bytes queued and not yet taken by the stream.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Waits until the stream has taken all that is queued. It takes as much as its windows allow;
    /// what it has taken is sent, acknowledged and sent again without further calls.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.cut();
        while self.next < self.pieces.len() {
            // Takes part of a piece by advancing it in place, so dropping this wait leaves the
            // queue exactly at the first byte that was not taken.
            let pieces = &mut self.pieces[self.next..];
            match &mut self.stream {
                Sink::Quic(stream) => {
                    let written = stream.write_chunks(pieces).await?;
                    self.next += written.chunks;
                    self.queued_bytes -= written.bytes;
                }
                Sink::Lane(lane) => {
                    let mut bytes = {
                        let parts: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                        poll_fn(|cx| lane.poll_write(cx, &parts)).await?
                    };
                    self.queued_bytes -= bytes;
                    for piece in pieces {
                        if bytes < piece.len() {
                            piece.advance(bytes);
                            break;
                        }
                        bytes -= piece.len();
                        self.next += 1;
                    }
                }
            }
        }
        self.pieces.clear();
        self.next = 0;
        Ok(())
    }

    /// Sends one frame, after those that are queued.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        self.queue(frame)?;
        self.flush().await
    }

    /// Sends what is queued and says that no more frames come.
    pub async fn finish(&mut self) -> Result<(), FrameError> {
        self.flush().await?;
        match &mut self.stream {
            Sink::Quic(stream) => stream.finish().map_err(|_| FrameError::Closed),
            Sink::Lane(lane) => Ok(lane.finish()?),
        }
    }

    /// Waits until the peer has acknowledged everything of a finished stream, or gave it up.
    pub async fn acknowledged(&mut self) -> Result<(), FrameError> {
        let stream = match &mut self.stream {
            Sink::Quic(stream) => stream,
            Sink::Lane(lane) => return Ok(poll_fn(|cx| lane.poll_acknowledged(cx)).await?),
        };
        match stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(FrameError::Stopped { code: code.into_inner() }),
            Err(quinn::StoppedError::ConnectionLost(e)) => Err(FrameError::Lost(e.into())),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(FrameError::Closed),
        }
    }

    /// Gives the stream up: what is queued or under way is dropped, the peer is told the code.
    pub fn reset(&mut self, code: u32) {
        self.tail.clear();
        self.pieces.clear();
        (self.next, self.queued_bytes) = (0, 0);
        match &mut self.stream {
            Sink::Quic(stream) => {
                // Closed before: nothing is left to give up.
                let _ = stream.reset(VarInt::from_u32(code));
            }
            Sink::Lane(lane) => lane.reset(code),
        }
    }

    fn queue_header(&mut self, bytes: usize) -> Result<(), FrameError> {
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes });
        }
        // The limit is far below u32.
        self.tail.put_u32_le(bytes as u32);
        self.queued_bytes += HEADER_BYTES;
        Ok(())
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }
}

/// The receiving half of a stream. Dropping it gives the stream up.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: Source,
    buffer: BytesMut,
    ended: bool,
}

impl FrameReceiver {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream: Source::Quic(stream), buffer: BytesMut::new(), ended: false }
    }

    pub(crate) fn of_lane(lane: Box<dyn LaneReader>) -> Self {
        Self { stream: Source::Lane(lane), buffer: BytesMut::new(), ended: false }
    }

    /// Waits for a frame; `None` when the sender has finished. The bytes have no alignment.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if self.ended {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
            let stream = match &mut self.stream {
                Source::Quic(stream) => stream,
                Source::Lane(lane) => {
                    match poll_fn(|cx| lane.poll_read(cx)).await? {
                        Some(bytes) => self.buffer.extend_from_slice(&bytes),
                        None => self.ended = true,
                    }
                    continue;
                }
            };
            let mut pieces: [Bytes; READ_PIECES] = Default::default();
            match stream.read_chunks(&mut pieces).await? {
                Some(count) => {
                    let bytes = pieces[..count].iter().map(Bytes::len).sum();
                    self.buffer.reserve(bytes);
                    for piece in &pieces[..count] {
                        self.buffer.extend_from_slice(piece);
                    }
                }
                None => self.ended = true,
            }
        }
    }

    /// A frame that has already arrived, without waiting: for taking all that one wake-up brought.
    pub fn buffered(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_le_bytes(*header) as usize;
        if bytes > FRAME_BYTES_MAX {
            // Nothing after this can be trusted; the peer stops sending.
            self.stop(u32::MAX);
            return Err(FrameError::TooLarge { bytes });
        }
        if self.buffer.len() < HEADER_BYTES + bytes {
            self.buffer.reserve(HEADER_BYTES + bytes - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(self.buffer.split_to(bytes).freeze()))
    }

    /// Gives the stream up: the sender is told the code at its next write.
    pub fn stop(&mut self, code: u32) {
        match &mut self.stream {
            Source::Quic(stream) => {
                // Stopped or finished before: the sender knows.
                let _ = stream.stop(VarInt::from_u32(code));
            }
            Source::Lane(lane) => lane.stop(code),
        }
    }
}
