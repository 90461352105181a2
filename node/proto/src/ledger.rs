//! What an agent counts (C7).
//!
//! Messages that pass through an agent, markers and verdicts not counted. After every step, exactly:
//!
//! ```text
//!   client_in + node_in - taken_back + egress_in
//!     = ingress_done + node_out + replies_out + dead_total + lost_total + outbound_now + pending_now
//! ```
//!
//! A message of an actor on node 1 to an actor on node 2 is counted by agent 1 as `egress_in`, then `outbound_now`, then
//! `node_out` once agent 2 has said that it was handled; by agent 2 as `node_in` when it is accepted, `pending_now` until its
//! worker is done with it, `ingress_done` afterwards. Between devices of one node the agent is its own peer and counts both.
//!
//! **The sum of a quiet cluster**, over all workers (`sent`, `handled`, `dead`) and all agents:
//!
//! ```text
//!   sent + client_in + node_in - taken_back = handled + replies_out + node_out + dead(workers) + dead(agents) + lost
//! ```
//!
//! `node_in` and `node_out` cancel unless a channel was lost while the last acknowledgements were under way: the message was
//! accepted there (`node_in`) and is reported lost here, so it counts as one more arrival and is both handled and lost. In a
//! cluster that is not quiet the right side is increased by what is in flight: `outbound_now`, `pending_now` of the agents and
//! rings, spills and timers of the devices ([`ringfleet_abi::WorkerCounters::in_flight`]); a message acknowledged late is then
//! counted on both sides, by `node_in` and by `outbound_now`.

use ringfleet_abi::{DeadReason, LostReason};

/// The counters of one agent. Cumulative unless they end in `_now`; units are messages unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Messages of clients accepted.
    pub client_in: u64,
    /// Messages accepted from nodes, this one's other devices included.
    pub node_in: u64,
    /// Messages taken from the egress rings of devices.
    pub egress_in: u64,
    /// Messages that workers are done with: handled or dead-lettered by the worker.
    pub ingress_done: u64,
    /// Messages that other nodes (or this one's other devices) have acknowledged as handled.
    pub node_out: u64,
    /// Replies handed to the links of clients.
    pub replies_out: u64,
    /// Messages dead-lettered by the agent, by reason.
    pub dead: [u64; DeadReason::COUNT],
    /// Messages reported lost, by reason.
    pub lost: [u64; LostReason::COUNT],
    /// Messages that wait to be sent or acknowledged.
    pub outbound_now: u64,
    /// Messages accepted that no worker is done with.
    pub pending_now: u64,
    /// Verdicts handed to the links of clients. Not messages.
    pub verdicts_out: u64,
    /// Messages accepted and then refused before they were executed: their sender owns them again.
    pub taken_back: u64,
    /// The part of `taken_back` that clients own again.
    pub taken_back_clients: u64,
    /// Answers `Busy`, in answers.
    pub busy_answers: u64,
    /// Answers `Moved`, in answers.
    pub moved_answers: u64,
    /// Answers `ChannelLost`, in answers.
    pub channel_lost_answers: u64,
    /// Messages skipped because they had been accepted before (sent again across a reconnect).
    pub duplicates: u64,
    /// Channels of this agent that broke, in channels.
    pub channels_lost: u64,
    /// Sources that expired, in sources.
    pub sessions_expired: u64,
}

impl Ledger {
    /// Adds another incarnation's counters.
    pub fn add(&mut self, other: &Ledger) {
        for (sum, value) in self.dead.iter_mut().zip(other.dead).chain(self.lost.iter_mut().zip(other.lost)) {
            *sum += value;
        }
        macro_rules! add {
            ($($field:ident)*) => { $(self.$field += other.$field;)* };
        }
        add!(client_in node_in egress_in ingress_done node_out replies_out outbound_now pending_now verdicts_out taken_back
            taken_back_clients busy_answers moved_answers channel_lost_answers duplicates channels_lost sessions_expired);
    }

    /// All dead letters of the agent.
    #[must_use]
    pub fn dead_total(&self) -> u64 {
        self.dead.iter().sum()
    }

    /// All messages reported lost.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// What came into the agent and was not given back.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.client_in + self.node_in + self.egress_in - self.taken_back
    }

    /// What became of it. Equal to [`Ledger::arrived`], always (C7).
    #[must_use]
    pub fn accounted(&self) -> u64 {
        self.ingress_done
            + self.node_out
            + self.replies_out
            + self.dead_total()
            + self.lost_total()
            + self.outbound_now
            + self.pending_now
    }
}
