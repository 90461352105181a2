//! Links: who is at the other end, what waits, who dials (C2, C9, C11).
//!
//! Of two nodes the one with the lower id dials, so a pair has one link. A second link of the same peer replaces the first.

use std::collections::VecDeque;

use ringfleet_abi::Incarnation;

use super::{NodeProto, ProtocolError};
use crate::action::Action;
use crate::control::NodeView;
use crate::limits::{CONNECT_MS_FIRST, CONNECT_MS_MAX, HELD_FRAMES_MAX, VIEW_WAIT_MS_MAX};
use crate::now::{NS_PER_MS, Now};
use crate::peer::{CloseReason, LinkId, PeerIdentity, Source};
use crate::wire::{Frame, decode};

#[derive(Debug)]
pub(super) struct Link {
    pub peer: PeerIdentity,
    /// Frames that wait for a younger view or for the own lease, in order.
    pub held: VecDeque<Vec<u8>>,
    /// When a link whose first frame waits for a view is given up.
    held_until_ns: u64,
    /// A begun frame of replies.
    pub replies: Vec<u8>,
}

impl Link {
    pub fn held_until_ns(&self) -> Option<u64> {
        (!self.held.is_empty()).then_some(self.held_until_ns)
    }
}

#[derive(Debug)]
pub(super) struct Dial {
    node: ringfleet_abi::NodeId,
    addr: String,
    /// When to connect; `None` while connecting or connected.
    at_ns: Option<u64>,
    pause_ms: u64,
}

impl Dial {
    pub fn due_ns(&self) -> Option<u64> {
        self.at_ns
    }

    fn pause(&mut self, now: Now) {
        self.pause_ms = (self.pause_ms * 2).clamp(CONNECT_MS_FIRST, CONNECT_MS_MAX);
        self.at_ns = Some(now.mono_ns + self.pause_ms * NS_PER_MS);
    }
}

impl NodeProto {
    /// A link is up: the shell has checked certificate, session and Hello.
    pub fn link_up(&mut self, now: Now, link: LinkId, peer: PeerIdentity) {
        assert!(link != super::SELF_LINK, "the highest link id is the node's link to itself");
        let old = match peer {
            PeerIdentity::Node { incarnation, .. } => self.nodes.get(&incarnation.0).copied(),
            PeerIdentity::Client { session } => self.clients.get(&session.0).copied(),
        };
        if let Some(old) = old {
            self.close(now, old, CloseReason::Replaced);
        }
        let fresh = Link { peer, held: VecDeque::new(), held_until_ns: 0, replies: Vec::new() };
        self.links.insert(link.0, fresh);
        self.inbound.set_link(peer.source(), Some(link));
        match peer {
            PeerIdentity::Node { incarnation, .. } => {
                if incarnation.0 <= self.view_index && !self.live.contains_key(&incarnation.0) {
                    self.close(now, link, CloseReason::Fenced);
                    return;
                }
                if incarnation.0 > self.view_index {
                    self.need_view(incarnation.0);
                }
                self.nodes.insert(incarnation.0, link);
                self.outbound.peer_up(now, incarnation);
                if let Some(dial) = self.dials.get_mut(&incarnation.0) {
                    dial.at_ns = None;
                    dial.pause_ms = 0;
                }
            }
            PeerIdentity::Client { session } => {
                self.clients.insert(session.0, link);
            }
        }
    }

    /// A link is down.
    pub fn link_down(&mut self, now: Now, link: LinkId) {
        let Some(gone) = self.links.remove(&link.0) else { return };
        if !gone.held.is_empty() {
            // What it held was never accepted: its sender sends it again.
            self.held_links -= 1;
        }
        if gone.replies.capacity() > 0 {
            self.recycle(gone.replies);
        }
        match gone.peer {
            PeerIdentity::Node { incarnation, .. } => {
                if self.nodes.get(&incarnation.0) == Some(&link) {
                    self.nodes.remove(&incarnation.0);
                    self.inbound.set_link(Source::Node(incarnation), None);
                    self.outbound.peer_down(incarnation);
                    if let Some(dial) = self.dials.get_mut(&incarnation.0) {
                        dial.pause(now);
                    }
                }
            }
            PeerIdentity::Client { session } => {
                if self.clients.get(&session.0) == Some(&link) {
                    self.clients.remove(&session.0);
                    self.inbound.set_link(Source::Client(session), None);
                }
            }
        }
    }

    /// An [`Action::Connect`] did not succeed.
    pub fn connect_failed(&mut self, now: Now, incarnation: Incarnation) {
        if self.nodes.contains_key(&incarnation.0) {
            return;
        }
        if let Some(dial) = self.dials.get_mut(&incarnation.0) {
            dial.pause(now);
        }
    }

    pub(super) fn close(&mut self, now: Now, link: LinkId, reason: CloseReason) {
        if self.links.contains_key(&link.0) {
            self.link_down(now, link);
            self.actions.push_back(Action::Close { link, reason });
        }
    }

    /// Closes the link of a fenced sender, after its answers.
    pub(super) fn refuse_fenced(&mut self, now: Now, link: LinkId) {
        while let super::Polled::Action(action) = {
            self.ack_flushing = true;
            self.poll_answers(now)
        } {
            self.actions.push_back(action);
        }
        self.close(now, link, CloseReason::Fenced);
    }

    /// Begins to dial new members with a higher id, and forgets members that are gone.
    pub(super) fn meet_members(&mut self, now: Now, view: &NodeView) {
        let live = &self.live;
        self.dials.retain(|incarnation, _| live.contains_key(incarnation));
        for member in &view.members {
            if member.node <= self.config.node.0 || self.dials.contains_key(&member.incarnation) {
                continue;
            }
            let connected = self.nodes.contains_key(&member.incarnation);
            let dial = Dial {
                node: member.node_id(),
                addr: member.data_addr.clone(),
                at_ns: (!connected).then_some(now.mono_ns),
                pause_ms: 0,
            };
            self.dials.insert(member.incarnation, dial);
        }
        let gone: Vec<LinkId> = self
            .nodes
            .iter()
            .filter(|(incarnation, _)| **incarnation <= view.index && !self.live.contains_key(incarnation))
            .map(|(_, link)| *link)
            .collect();
        for link in gone {
            self.close(now, link, CloseReason::Fenced);
        }
        self.dial(now);
    }

    pub(super) fn dial(&mut self, now: Now) {
        for (incarnation, dial) in &mut self.dials {
            if dial.at_ns.is_some_and(|at_ns| at_ns <= now.mono_ns) {
                dial.at_ns = None;
                self.actions.push_back(Action::Connect {
                    node: dial.node,
                    incarnation: Incarnation(*incarnation),
                    addr: dial.addr.clone(),
                });
            }
        }
    }

    pub(super) fn need_view(&mut self, index: u64) {
        if index > self.view_index && index > self.asked_index {
            self.asked_index = index;
            self.actions.push_back(Action::NeedView { index });
        }
    }

    pub(super) fn hold(&mut self, now: Now, id: LinkId, bytes: &[u8], index: u64) -> Result<(), ProtocolError> {
        self.need_view(index);
        let Some(link) = self.links.get_mut(&id.0) else { return Err(ProtocolError::UnknownLink) };
        if link.held.len() >= HELD_FRAMES_MAX {
            return Err(ProtocolError::TooManyHeld);
        }
        if link.held.is_empty() {
            self.held_links += 1;
            link.held_until_ns = now.mono_ns + VIEW_WAIT_MS_MAX * NS_PER_MS;
        }
        link.held.push_back(bytes.to_vec());
        Ok(())
    }

    /// Takes in what has waited and need not wait any more.
    pub(super) fn release_held(&mut self, now: Now) {
        if self.held_links == 0 {
            return;
        }
        let mut waiting: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| !link.held.is_empty()).map(|(id, _)| LinkId(*id)).collect();
        waiting.sort_unstable();
        for id in waiting {
            self.release_link(now, id);
        }
    }

    fn release_link(&mut self, now: Now, id: LinkId) {
        while let Some(link) = self.links.get_mut(&id.0) {
            let Some(bytes) = link.held.pop_front() else {
                self.held_links -= 1;
                return;
            };
            // It was decoded before it was held.
            let Ok(Frame::Deliver(deliver)) = decode(&bytes) else { continue };
            if self.must_hold(now, &deliver) {
                if let Some(link) = self.links.get_mut(&id.0) {
                    link.held.push_front(bytes);
                }
                return;
            }
            if !self.deliver(now, id, &deliver) {
                self.held_links -= 1;
                if let Some(link) = self.links.get_mut(&id.0) {
                    link.held.clear();
                }
                self.refuse_fenced(now, id);
                return;
            }
        }
    }

    /// Closes links whose sender has seen a view that does not come. A node without a lease keeps what it holds.
    pub(super) fn give_up_held(&mut self, now: Now) {
        if self.held_links == 0 {
            return;
        }
        if self.is_fenced(now) {
            let until_ns = now.mono_ns + VIEW_WAIT_MS_MAX * NS_PER_MS;
            self.links.values_mut().for_each(|link| link.held_until_ns = until_ns);
            return;
        }
        let late: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| link.held_until_ns().is_some_and(|until_ns| until_ns <= now.mono_ns))
            .map(|(id, _)| LinkId(*id))
            .collect();
        for id in late {
            self.close(now, id, CloseReason::ViewTimeout);
        }
    }
}
