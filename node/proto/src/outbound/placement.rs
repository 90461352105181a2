//! Where channels lead: views, links, residences (C2, C3).

use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{Incarnation, LostReason, NodeId, ShardId};

use super::bounds::mark;
use super::channel::{Gate, Target};
use super::{Outbound, Route};
use crate::control::NodeView;
use crate::control::view::{Fence, ShardState};
use crate::map::IdMap;
use crate::now::Now;

impl Outbound {
    /// Adopts a view. An older one than the last is ignored.
    pub fn handle_view(&mut self, now: Now, view: &NodeView) {
        self.now = now;
        if view.index < self.view_index {
            return;
        }
        self.view_index = view.index;
        self.adopt_routes(view);
        for member in &view.members {
            self.peers.add(member.incarnation());
        }
        for slot in 0..self.channels.len() as u32 {
            self.retarget(slot, view);
        }
        self.peers.forget(|peer| view.fence(peer) == Fence::Fenced);
    }

    /// A link to this start of a node is up: everything un-handled is sent again.
    pub fn peer_up(&mut self, now: Now, incarnation: Incarnation) {
        self.now = now;
        self.peer_down(incarnation);
        let peer = self.peers.add(incarnation);
        self.peers.of_mut(peer).up = true;
        for slot in 0..self.channels.len() as u32 {
            if self.channels[slot as usize].target.is_some_and(|target| target.peer == peer) {
                self.list(slot);
            }
        }
        // Channels that were listed while the link was down are in the peer's list already.
        self.wake(peer);
    }

    /// The link is down: what was in transit may be lost.
    pub fn peer_down(&mut self, incarnation: Incarnation) {
        let Some(peer) = self.peers.find(incarnation) else { return };
        if !std::mem::take(&mut self.peers.of_mut(peer).up) {
            return;
        }
        for channel in &mut self.channels {
            if channel.target.is_some_and(|target| target.peer == peer) {
                channel.rewind();
                if is_on(Mutant::ResentOutOfOrder) && channel.len() > 1 {
                    channel.unacked.swap(0, 1);
                }
            }
        }
        self.peers.of_mut(peer).in_transit = 0;
    }

    /// Whether a link to this peer is up.
    #[must_use]
    pub fn is_up(&self, incarnation: Incarnation) -> bool {
        self.peers.find(incarnation).is_some_and(|peer| self.peers.of(peer).up)
    }

    /// The node that owns a shard by the view in use, if somebody does.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> Option<(NodeId, Incarnation)> {
        let route = self.routes.of(shard)?;
        route.resident.then_some((NodeId(route.node), Incarnation(route.incarnation)))
    }

    pub(super) fn adopt_routes(&mut self, view: &NodeView) {
        let old = std::mem::take(&mut self.routes);
        for set in &view.sets {
            self.routes.add_set(set.set_id(), set.shards, Route::default());
        }
        let live: IdMap<u64, ()> = view.members.iter().map(|member| (member.incarnation, ())).collect();
        for shard in &view.shards {
            let Some(route) = self.routes.of_mut(shard.shard_id()) else { continue };
            *route = Route {
                incarnation: shard.incarnation,
                node: shard.node,
                epoch: shard.epoch(),
                resident: shard.state == ShardState::Resident && live.contains_key(&shard.incarnation),
                channel: 0,
            };
        }
        for (slot, channel) in self.channels.iter().enumerate() {
            // A freed slot's shard may have a new channel: the old table says which slot is in use.
            if old.of(channel.shard).is_some_and(|route| route.channel == slot as u32 + 1)
                && let Some(route) = self.routes.of_mut(channel.shard)
            {
                route.channel = slot as u32 + 1;
            }
        }
    }

    /// Points a channel to where the view in use has its shard.
    pub(super) fn retarget(&mut self, slot: u32, view: &NodeView) {
        if self.channels[slot as usize].free {
            return;
        }
        let channel = &self.channels[slot as usize];
        let before = channel.in_transit();
        let Some(route) = self.routes.of(channel.shard).copied() else {
            let end = channel.end();
            self.break_channel(slot, LostReason::SetDeleted, end);
            self.transit_changed(slot, before);
            self.unbind(slot);
            self.channels[slot as usize].free = true;
            self.free.push(slot);
            return;
        };
        if let Some(target) = channel.target {
            let gone = view.fence(self.peers.of(target.peer).incarnation) == Fence::Fenced;
            if gone || route.epoch > target.epoch {
                if channel.used() {
                    let reason = if gone { LostReason::NodeLost } else { LostReason::ShardRestarted };
                    let through =
                        if is_on(Mutant::ExecutedSentAgain) { channel.base - 1 } else { channel.maybe_through };
                    self.break_channel(slot, reason, through);
                } else {
                    self.channels[slot as usize].rewind();
                }
                self.transit_changed(slot, before);
                self.unbind(slot);
            }
        }
        self.bind(slot);
    }

    /// Takes a channel off its peer. Nothing of it is in transit any more.
    pub(super) fn unbind(&mut self, slot: u32) {
        let channel = &mut self.channels[slot as usize];
        channel.open = false;
        channel.gate = Gate::Open;
        if let Some(target) = channel.target.take() {
            let listed = std::mem::take(&mut channel.listed);
            let peer = self.peers.of_mut(target.peer);
            if listed {
                peer.ready.retain(|&ready| ready != slot);
            }
            peer.queued -= self.channels[slot as usize].len();
            mark(&mut peer.full_since, peer.queued >= self.config.peer_max, self.now.mono_ns, &mut self.at_bound);
        }
    }

    /// Opens or closes a channel by the route of the view in use.
    pub(super) fn bind(&mut self, slot: u32) {
        let channel = &mut self.channels[slot as usize];
        let Some(route) = self.routes.of(channel.shard).copied() else { return };
        channel.open = route.resident;
        if !route.resident {
            return;
        }
        if channel.target.is_none() {
            let peer = self.peers.add(Incarnation(route.incarnation));
            channel.target = Some(Target { peer, epoch: route.epoch });
            let peer = self.peers.of_mut(peer);
            peer.queued += channel.len();
            mark(&mut peer.full_since, peer.queued >= self.config.peer_max, self.now.mono_ns, &mut self.at_bound);
        }
        if let Gate::Moved { view_index, epoch } = channel.gate
            && (self.view_index > view_index || route.epoch >= epoch)
        {
            channel.gate = Gate::Open;
        }
        self.list(slot);
    }
}
