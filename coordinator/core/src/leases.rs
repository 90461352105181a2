//! The leader's memory of leases (C2, C10). No part of the log: renewals are no records.
//!
//! Why a member is never declared lost while its lease lives:
//! - A node counts its lease from the moment it SENT the renewal; the leader counts from the moment it received it, which
//!   is later, and adds a margin for clocks that run at different rates.
//! - A renewal is granted only after leadership was confirmed by a quorum after the renewal was received. So if another
//!   leader was elected, it was elected after that, and it counts every lease from its own election: later still.
//! - Time in which the leader could not have granted anything, because its process was paused or it had no quorum, does not
//!   count ([`LeaseTable::skip`]): nobody is lost for the silence of the coordinators. Nodes stop meanwhile, keep their state,
//!   and go on at the same epoch.
//! - A member whose loss is being proposed gets no further grant (`doom`), so no grant overlaps the record.
//!
//! Time is an argument, in nanoseconds of one monotonic clock; nothing here is stored or sent.

use crate::clocks::ClockTable;
use ringfleet_abi::limits::LEASE_GRACE_MS;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_proto::control::Load;
use ringfleet_proto::control::limits::{CLOCK_ERROR_MS_MAX, CLOCK_OFFSET_MS_MAX};
use std::collections::BTreeMap;

/// The difference between two wall clocks that the cluster lives with: each may be off by 200 ms (C6). A clock that is off by more
/// than `CLOCK_OFFSET_MS_MAX` is quarantined; the rest is for what it does before that is noticed.
const CLOCK_DIFFERENCE_MS: u64 = 400;
const _: () = assert!(2 * (CLOCK_OFFSET_MS_MAX + CLOCK_ERROR_MS_MAX) as u64 <= CLOCK_DIFFERENCE_MS);
/// Added to a lease before its member is declared lost, besides a tenth of the lease for clocks of different rates.
///
/// A receiver takes a frame until its sender's lease end plus the grace, by its own wall clock. So when a successor begins, nothing of
/// its predecessor is taken any more only if the margin covers the grace and the difference of the clocks; and stamps of the successor
/// are beyond those of the predecessor, which may be as far ahead as the clocks allow (`specs/Fence.tla`, `specs/Hlc.tla`).
pub const MARGIN_MS: u64 = LEASE_GRACE_MS + CLOCK_DIFFERENCE_MS;

/// What the leader knows of one live incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLiveness {
    /// When its last granted renewal was received, or the leader was elected, or it joined.
    pub renewed_ns: u64,
    /// Whether its loss is being proposed.
    pub doomed: bool,
    /// The placement index through which its shards are in effect; 0: not said yet.
    pub applied_index: u64,
    /// What it is carrying.
    pub load: Load,
}

/// What a renewal reports besides asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Renewal {
    /// The placement index through which its shards are in effect.
    pub applied_index: u64,
    /// What it is carrying.
    pub load: Load,
}

/// Leases of all live incarnations, as one leader in one term remembers them.
#[derive(Clone, Debug)]
pub struct LeaseTable {
    patience_ns: u64,
    nodes: BTreeMap<u64, NodeLiveness>,
    clocks: ClockTable,
}

impl LeaseTable {
    /// The table of a leader that has just been elected: every lease counts as renewed now.
    #[must_use]
    pub fn elected(lease_ms: u32, now_ns: u64, alive: impl Iterator<Item = u64>) -> Self {
        let lease_ms = u64::from(lease_ms);
        let patience_ms =
            if is_on(Mutant::LeaseMarginZero) { lease_ms / 2 } else { lease_ms + lease_ms / 10 + MARGIN_MS };
        let mut table =
            Self { patience_ns: patience_ms * 1_000_000, nodes: BTreeMap::new(), clocks: ClockTable::default() };
        table.follow(now_ns, alive);
        table
    }

    /// Takes in who is alive in the state: newcomers count as renewed now, the gone are forgotten.
    pub fn follow(&mut self, now_ns: u64, alive: impl Iterator<Item = u64>) {
        let mut before = std::mem::take(&mut self.nodes);
        self.nodes = alive
            .map(|incarnation| {
                let fresh = NodeLiveness { renewed_ns: now_ns, doomed: false, applied_index: 0, load: Load::default() };
                (incarnation, before.remove(&incarnation).unwrap_or(fresh))
            })
            .collect();
        self.clocks.retain(|incarnation| self.nodes.contains_key(&incarnation));
    }

    /// Grants a renewal that was received at `received_ns`, leadership having been confirmed since. False: not granted,
    /// because the incarnation is gone or going.
    #[must_use]
    pub fn grant(&mut self, incarnation: u64, received_ns: u64, renewal: Renewal) -> bool {
        match self.nodes.get_mut(&incarnation) {
            Some(node) if !node.doomed => {
                node.renewed_ns = node.renewed_ns.max(received_ns);
                node.applied_index = node.applied_index.max(renewal.applied_index);
                node.load = renewal.load;
                true
            }
            _ => false,
        }
    }

    /// The leader was out of touch for `gap_ns` until now: that time does not count against anybody.
    pub fn skip(&mut self, gap_ns: u64, now_ns: u64) {
        for node in self.nodes.values_mut() {
            node.renewed_ns = node.renewed_ns.saturating_add(gap_ns).min(now_ns);
        }
    }

    /// Who has not renewed for a lease and its margin. From now on they get no grant; their loss must be proposed until
    /// the state has it.
    pub fn doom(&mut self, now_ns: u64) -> Vec<u64> {
        let patience = self.patience_ns;
        let expired =
            self.nodes.iter_mut().filter(|(_, node)| node.doomed || now_ns.saturating_sub(node.renewed_ns) > patience);
        expired
            .map(|(&incarnation, node)| {
                node.doomed = true;
                incarnation
            })
            .collect()
    }

    /// The clocks that this leader has heard of.
    #[must_use]
    pub fn clocks(&self) -> &ClockTable {
        &self.clocks
    }

    /// The clocks, to tell them more.
    pub fn clocks_mut(&mut self) -> &mut ClockTable {
        &mut self.clocks
    }

    /// What is known of an incarnation.
    #[must_use]
    pub fn node(&self, incarnation: u64) -> Option<&NodeLiveness> {
        self.nodes.get(&incarnation)
    }

    /// Until the incarnation would be declared lost.
    #[must_use]
    pub fn left_ms(&self, incarnation: u64, now_ns: u64) -> u32 {
        self.nodes.get(&incarnation).map_or(0, |node| {
            let left = node.renewed_ns.saturating_add(self.patience_ns).saturating_sub(now_ns) / 1_000_000;
            u32::try_from(left).unwrap_or(u32::MAX)
        })
    }

    /// How many leases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}
