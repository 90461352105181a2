//! The nodes that channels lead to.

use std::collections::VecDeque;

use ringfleet_abi::Incarnation;

use crate::map::IdMap;

#[derive(Debug, Default)]
pub(super) struct Peer {
    pub incarnation: Incarnation,
    /// Whether a link to it is up.
    pub up: bool,
    /// Envelopes sent and not yet said to be accepted.
    pub in_transit: usize,
    /// Envelopes kept for it.
    pub queued: usize,
    /// Since when `queued` is at its bound, in monotonic ns.
    pub full_since: Option<u64>,
    /// Channels with something to send, in turn.
    pub ready: VecDeque<u32>,
    /// Whether it stands in the list of peers with something to send.
    listed: bool,
}

/// A slab of peers, found by incarnation.
#[derive(Debug, Default)]
pub(super) struct Peers {
    slots: Vec<Peer>,
    free: Vec<u32>,
    by_incarnation: IdMap<u64, u32>,
    ready: VecDeque<u32>,
}

impl Peers {
    pub fn of(&self, slot: u32) -> &Peer {
        &self.slots[slot as usize]
    }

    pub fn of_mut(&mut self, slot: u32) -> &mut Peer {
        &mut self.slots[slot as usize]
    }

    pub fn find(&self, incarnation: Incarnation) -> Option<u32> {
        self.by_incarnation.get(&incarnation.0).copied()
    }

    pub fn add(&mut self, incarnation: Incarnation) -> u32 {
        if let Some(slot) = self.find(incarnation) {
            return slot;
        }
        let peer = Peer { incarnation, ..Peer::default() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = peer;
                slot
            }
            None => {
                self.slots.push(peer);
                (self.slots.len() - 1) as u32
            }
        };
        self.by_incarnation.insert(incarnation.0, slot);
        slot
    }

    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter()
    }

    /// Frees the peers that `gone` names. No channel leads to them any more.
    pub fn forget(&mut self, gone: impl Fn(Incarnation) -> bool) {
        let lost: Vec<u32> =
            self.by_incarnation.iter().filter(|(id, _)| gone(Incarnation(**id))).map(|(_, slot)| *slot).collect();
        for slot in lost {
            let peer = std::mem::take(&mut self.slots[slot as usize]);
            assert!(peer.queued == 0, "C3: a peer is forgotten only after its channels have left it");
            self.by_incarnation.remove(&peer.incarnation.0);
            self.ready.retain(|&ready| ready != slot);
            self.free.push(slot);
        }
    }

    /// Lists a peer that can be sent something.
    pub fn wake(&mut self, slot: u32, window: usize) {
        let peer = &mut self.slots[slot as usize];
        if peer.up && !peer.listed && !peer.ready.is_empty() && peer.in_transit < window {
            peer.listed = true;
            self.ready.push_back(slot);
        }
    }

    /// The next peer to send to; it leaves the list.
    pub fn next_ready(&mut self) -> Option<u32> {
        let slot = self.ready.pop_front()?;
        self.slots[slot as usize].listed = false;
        Some(slot)
    }
}
