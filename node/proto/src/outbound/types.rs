//! What goes in and out of [`super::Outbound`]: bounds, events, errors, counters.

use ringfleet_abi::{Envelope, Epoch, LostReason, ShardId};

use crate::limits::{OUTBOUND_CHANNEL_MAX, OUTBOUND_PEER_MAX, OUTBOUND_TOTAL_MAX, PEER_WINDOW};

/// Bounds of one [`super::Outbound`] (C9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundConfig {
    /// Envelopes kept for one channel.
    pub channel_max: usize,
    /// Envelopes kept for all channels to one peer.
    pub peer_max: usize,
    /// Envelopes kept altogether.
    pub total_max: usize,
    /// Envelopes sent to one peer that it has not said to have accepted.
    pub peer_window: usize,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            channel_max: OUTBOUND_CHANNEL_MAX,
            peer_max: OUTBOUND_PEER_MAX,
            total_max: OUTBOUND_TOTAL_MAX,
            peer_window: PEER_WINDOW,
        }
    }
}

/// What the owner of the messages must know. Each channel is a queue: messages enter at its back by [`super::Outbound::enqueue`] and
/// leave at its FRONT, by `Handled` and `Lost`, in order; only [`super::Outbound::give_up`] takes one from the middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundEvent {
    /// The owner worker is done with these.
    Handled {
        /// The channel.
        shard: ShardId,
        /// How many, from the front.
        count: u64,
    },
    /// Nothing of the channel from the `index`-th waiting message on was executed; it is sent again after a pause, unless
    /// [`super::Outbound::give_up`] takes it out.
    Busy {
        /// The channel.
        shard: ShardId,
        /// Position in the channel's queue, from 0.
        index: usize,
    },
    /// The same, but the shard lives elsewhere: fetch a younger directory.
    Moved {
        /// The channel.
        shard: ShardId,
        /// Position in the channel's queue, from 0.
        index: usize,
        /// The residence that the refusing node knows of.
        epoch: Epoch,
    },
    /// The channel broke (C3). These messages, from the front, may or may not have been executed. What is behind them was not,
    /// and goes on under a new generation.
    Lost {
        /// The channel.
        shard: ShardId,
        /// The generation that ended.
        generation: u32,
        /// The last sequence of that generation known to be handled; the messages are `after_seq + 1..`.
        after_seq: u64,
        /// Why.
        reason: LostReason,
        /// The messages, possibly none.
        messages: Vec<Envelope>,
    },
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// A bound is reached (C9).
    #[error("the bound on waiting messages is reached")]
    NoRoom,
    /// The view has no such set or shard.
    #[error("no such set or shard")]
    NoSuchShard,
}

/// Why a message cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GiveUpError {
    /// There is no such message.
    #[error("no such message is waiting")]
    NotWaiting,
    /// It may have been executed.
    #[error("the message has been sent and not refused: it may have been executed")]
    MaybeExecuted,
}

/// Counters of one [`super::Outbound`], cumulative but `queued_now`; in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboundStats {
    /// Acknowledged as handled.
    pub handled: u64,
    /// Reported lost, by reason.
    pub lost: [u64; LostReason::COUNT],
    /// Waiting to be sent or acknowledged.
    pub queued_now: u64,
    /// Sent, every sending counted.
    pub sent: u64,
    /// Channels that broke, in channels.
    pub channels_lost: u64,
    /// Answers that contradict what was sent, in answers. Above 0: a bug of a peer.
    pub impossible_answers: u64,
}
