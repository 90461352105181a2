//! Which shards live here, and what the devices must be told so that it is so (C1, C2, C8).
//!
//! ```text
//!   view: mine, set known     Assign --Assigned--> Live --own channel empty--> Route(worker), RouteCommit
//!   view: mine, set new       Assign --Assigned--> Opening --all Assigned--> Route(every shard), RouteCommit(v) --RouteFlushed(v)--> Live
//!   view: Releasing           Live --Route(egress), RouteCommit(v)--> Flushing --RouteFlushed(v)--> Draining
//!                             Draining --worker done with all of it--> Release --Released--> gone; `leaving` reports
//!   view: not mine            the same, but what no worker has seen yet goes back to its senders (Moved), and nothing is reported
//! ```
//!
//! **A new set opens when its routes are adopted.** Until then its shards answer `Busy`: what they sent would be dead-lettered.
//!
//! **Routes are flushed before a release.** Workers that still send under the old route table do so until they have adopted the
//! new one; `RouteFlushed` says that all of that has been consumed. What comes through the agent is drained next. So a released
//! shard has handled everything that was accepted for it, and its filters can go.
//!
//! **A release is reported late (C3, C6):** `leaving` says when and why.
//!
//! **A local route is opened late.** While messages of this node's own actors for a shard go through the agent (they were
//! sent when the shard lived elsewhere), a direct route would let younger messages overtake them, so the shard is routed to its
//! worker only when this node's own channel to it is empty. What a worker sent to egress in the instant before it adopted that
//! route is reported lost (`shard_restarted`), because its successors may have overtaken it. In a set that is new to the device
//! there is no such message: its shards are routed at once.

use ringfleet_abi::{Control, DeviceIndex, Epoch, RouteTarget, SetId, ShardId, Status, WorkerIndex};

use super::NodeProto;
use crate::action::Action;
use crate::control::NodeView;
use crate::control::view::{SetState, ShardState, ShardView};
use crate::now::Now;
use crate::wire::Answer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The device has been told.
    Assigning,
    /// It is resident; the routes of its set, new to the device, are being adopted.
    Opening {
        /// The route table that has them; 0: not told yet.
        version: u64,
    },
    /// It takes messages.
    Live,
    /// The device's workers adopt routes that lead away from it.
    Flushing {
        /// The route table.
        version: u64,
    },
    /// What was accepted for it is being handled.
    Draining,
    /// The device has been told to drop it.
    Releasing,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Resident {
    pub shard: ShardId,
    pub device: DeviceIndex,
    pub worker: WorkerIndex,
    pub epoch: Epoch,
    pub state: State,
    /// Messages accepted for it, and gate markers, that its worker is not done with.
    pub outstanding: u64,
    /// Messages of clients are refused until the worker's ingress is done to this position and a marker has been pushed.
    pub gate_until: Option<u64>,
    /// Whether its device routes it to its worker.
    pub routed: bool,
    /// Whether the coordinator waits for the release.
    pub report: bool,
}

/// What the view says of a shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Placed {
    pub node: u32,
    pub incarnation: u64,
    pub epoch: Epoch,
    pub device: u16,
    pub worker: u16,
    pub resident: bool,
    pub releasing: bool,
}

impl Placed {
    fn of(shard: &ShardView) -> Self {
        Self {
            node: shard.node,
            incarnation: shard.incarnation,
            epoch: shard.epoch(),
            device: shard.device,
            worker: shard.worker,
            resident: shard.state == ShardState::Resident,
            releasing: shard.state == ShardState::Releasing,
        }
    }
}

impl NodeProto {
    /// Brings sets and shards to what the view says.
    pub(super) fn place(&mut self, view: &NodeView) {
        self.placement = Default::default();
        for set in &view.sets {
            self.placement.add_set(set.set_id(), set.shards, Placed::default());
            self.add_set(set);
        }
        for shard in &view.shards {
            if let Some(placed) = self.placement.of_mut(shard.shard_id()) {
                *placed = Placed::of(shard);
            }
        }
        // Shards that leave first: their routes must lead away before anything new is routed.
        for slot in 0..self.residents.len() as u32 {
            if let Some(resident) = self.residents[slot as usize] {
                self.reconcile(resident.shard);
            }
        }
        for shard in &view.shards {
            if shard.incarnation == self.config.incarnation.0 {
                self.reconcile(shard.shard_id());
            }
        }
        self.remove_sets();
        self.commit_routes();
        self.report_applied();
    }

    fn add_set(&mut self, set: &crate::control::view::SetView) {
        let id = set.set_id();
        let at = id.0 as usize;
        if self.sets.len() <= at {
            self.sets.resize(at + 1, None);
        }
        let deleting = set.state == SetState::Deleting;
        if let Some(known) = &mut self.sets[at] {
            known.deleting = deleting;
            // Said again, it changes the policy of a set that devices know.
            if known.failures != set.failures {
                known.failures = set.failures;
                self.tell_set(set);
            }
            return;
        }
        let entry = super::SetEntry { keys: set.keys.into(), shards: set.shards, failures: set.failures, deleting };
        self.sets[at] = Some(entry);
        self.resident_of.add_set(id, set.shards, 0);
        self.tell_set(set);
        for device in &mut self.devices {
            device.routes.add_set(id, set.shards, RouteTarget::None);
            device.new_sets.push(id);
        }
    }

    fn tell_set(&mut self, set: &crate::control::view::SetView) {
        let type_index = self.config.types.iter().position(|name| *name == set.actor_type);
        let control = Control::AddSet {
            set: set.set_id(),
            tag: set.tag,
            type_index: type_index.and_then(|index| u16::try_from(index).ok()),
            keys: set.keys.into(),
            shards: set.shards,
            actors_per_shard: self.config.actors_per_shard,
            restart: set.failures.mode(),
        };
        for device in 0..self.devices.len() as u16 {
            self.submit(DeviceIndex(device), control);
        }
    }

    /// Forgets sets that the view does not have and that have no shard here any more.
    fn remove_sets(&mut self) {
        for at in 1..self.sets.len() {
            let set = SetId(at as u16);
            let Some(entry) = self.sets[at] else { continue };
            let shard = |index| ShardId::new(set, ringfleet_abi::ShardIndex(index));
            let in_view = self.placement.of(shard(0)).is_some();
            let here = (0..entry.shards).any(|index| self.resident_of.of(shard(index)).is_some_and(|slot| *slot != 0));
            if in_view || here {
                continue;
            }
            self.sets[at] = None;
            self.resident_of.remove_set(set);
            for device in 0..self.devices.len() as u16 {
                self.devices[usize::from(device)].routes.remove_set(set);
                self.devices[usize::from(device)].new_sets.retain(|new| *new != set);
                self.submit(DeviceIndex(device), Control::RemoveSet { set });
            }
        }
    }

    /// Takes the next step of one shard towards what the view says.
    fn reconcile(&mut self, shard: ShardId) {
        let placed = self.placement.of(shard).copied().unwrap_or_default();
        let mine = placed.incarnation == self.config.incarnation.0;
        let slot = self.resident_of.of(shard).copied().unwrap_or(0);
        let Some(slot) = slot.checked_sub(1) else {
            if mine && placed.resident {
                self.assign(shard, placed);
            } else if mine && placed.releasing {
                self.leave_unheard(shard, placed.epoch);
            }
            return;
        };
        let Some(resident) = self.residents[slot as usize] else { return };
        let stays = mine && placed.resident && placed.epoch == resident.epoch;
        if stays || !matches!(resident.state, State::Assigning | State::Opening { .. } | State::Live) {
            return;
        }
        let report = mine && placed.releasing && placed.epoch == resident.epoch;
        self.begin_release(slot, report);
    }

    fn assign(&mut self, shard: ShardId, placed: Placed) {
        let device = DeviceIndex(placed.device);
        let workers = self.devices.get(usize::from(placed.device)).map_or(0, |device| device.workers.len());
        if usize::from(placed.worker) >= workers {
            self.actions.push_back(Action::AssignFailed { device, shard, epoch: placed.epoch });
            return;
        }
        let resident = Resident {
            shard,
            device,
            worker: WorkerIndex(placed.worker),
            epoch: placed.epoch,
            state: State::Assigning,
            outstanding: 0,
            gate_until: None,
            routed: false,
            report: false,
        };
        let slot = match self.residents_free.pop() {
            Some(slot) => {
                self.residents[slot as usize] = Some(resident);
                slot
            }
            None => {
                self.residents.push(Some(resident));
                (self.residents.len() - 1) as u32
            }
        };
        if let Some(of) = self.resident_of.of_mut(shard) {
            *of = slot + 1;
        }
        self.devices[usize::from(placed.device)].assigning += 1;
        self.submit(device, Control::Assign { shard, epoch: placed.epoch, worker: WorkerIndex(placed.worker) });
    }

    fn begin_release(&mut self, slot: u32, report: bool) {
        let Some(mut resident) = self.residents[slot as usize] else { return };
        match resident.state {
            State::Assigning => self.devices[usize::from(resident.device.0)].assigning -= 1,
            State::Opening { .. } => self.devices[usize::from(resident.device.0)].opening -= 1,
            _ => {}
        }
        self.looping.retain(|&looping| looping != slot);
        let device = &mut self.devices[usize::from(resident.device.0)];
        // One commit for all shards that leave with this view: the next version.
        resident.state = State::Flushing { version: device.version + 1 };
        resident.report = report;
        resident.routed = false;
        device.urgent = true;
        self.residents[slot as usize] = Some(resident);
        self.route(resident.device, resident.shard, RouteTarget::Egress);
        self.devices[usize::from(resident.device.0)].routes_changed = true;
        if !report {
            self.send_back(slot);
        }
    }

    /// Gives everything that no worker has seen back to its senders.
    fn send_back(&mut self, slot: u32) {
        let Some(resident) = self.residents[slot as usize] else { return };
        let placed = self.placement.of(resident.shard).copied().unwrap_or_default();
        let queue = &mut self.devices[usize::from(resident.device.0)].workers[usize::from(resident.worker.0)];
        for run in queue.withdraw(|run| run.resident == slot && run.what != super::worker::What::Marker) {
            let moved = |shard, generation, attempt, at| Answer::Moved {
                shard,
                generation,
                attempt,
                at,
                certain: true,
                epoch: placed.epoch,
                hint: ringfleet_abi::NodeId(placed.node),
            };
            self.withdrawn(&run, moved);
        }
    }

    pub(super) fn route(&mut self, device: DeviceIndex, shard: ShardId, target: RouteTarget) {
        let port = &mut self.devices[usize::from(device.0)];
        if let Some(route) = port.routes.of_mut(shard)
            && *route != target
        {
            *route = target;
            port.routes_changed = true;
            self.submit(device, Control::Route { shard, target });
        }
    }

    /// Commits changed routes of devices on which no assignment is under way; at once where a shard leaves.
    pub(super) fn commit_routes(&mut self) {
        for at in 0..self.devices.len() {
            let device = DeviceIndex(at as u16);
            if self.devices[at].assigning == 0 {
                self.route_new_sets(device);
            }
            let port = &mut self.devices[at];
            if port.routes_changed && (port.assigning == 0 || port.urgent) {
                port.routes_changed = false;
                port.urgent = false;
                port.version += 1;
                let version = port.version;
                self.leaving_commit(device, version);
                self.submit(device, Control::RouteCommit { version });
            }
        }
    }

    /// Tells a device every route of the sets that are new to it.
    fn route_new_sets(&mut self, device: DeviceIndex) {
        for set in std::mem::take(&mut self.devices[usize::from(device.0)].new_sets) {
            let Some(entry) = self.sets.get(set.0 as usize).copied().flatten() else { continue };
            for index in 0..entry.shards {
                let shard = ShardId::new(set, ringfleet_abi::ShardIndex(index));
                let slot = self.resident_of.of(shard).and_then(|slot| slot.checked_sub(1));
                let version = self.devices[usize::from(device.0)].version + 1;
                let here = slot
                    .and_then(|slot| self.residents[slot as usize].as_mut())
                    .filter(|resident| resident.device == device && matches!(resident.state, State::Opening { .. }));
                let target = match here {
                    Some(resident) => {
                        resident.routed = true;
                        resident.state = State::Opening { version };
                        RouteTarget::Worker(resident.worker)
                    }
                    None => RouteTarget::Egress,
                };
                self.route(device, shard, target);
            }
        }
    }

    /// Opens local routes whose own channel has become empty.
    pub(super) fn settle_routes(&mut self) {
        if self.looping.is_empty() {
            return;
        }
        let mut looping = std::mem::take(&mut self.looping);
        looping.retain(|&slot| {
            let Some(resident) = self.residents[slot as usize] else { return false };
            if self.outbound.waiting(resident.shard) > 0 {
                return true;
            }
            if let Some(resident) = &mut self.residents[slot as usize] {
                resident.routed = true;
            }
            self.route(resident.device, resident.shard, RouteTarget::Worker(resident.worker));
            false
        });
        self.looping = looping;
        self.commit_routes();
        self.report_applied();
    }

    pub(super) fn status(&mut self, now: Now, device: DeviceIndex, status: Status) {
        match status {
            Status::Assigned { shard, epoch, .. } => self.assigned(device, shard, epoch),
            Status::AssignFailed { shard, epoch } => self.assign_failed(device, shard, epoch),
            Status::RouteFlushed { version } => self.flushed(device, version),
            Status::Released { shard, epoch } => self.released(device, shard, epoch),
            // Logged and counted by the shell; nothing to decide.
            Status::Started { .. }
            | Status::ActorFailed { .. }
            | Status::Fenced
            | Status::Unfenced
            | Status::WorkerLost { .. }
            | Status::WorkerStalled { .. }
            | Status::WorkerResumed { .. }
            | Status::Stopped => {}
        }
        self.now = now;
        self.settle_routes();
        self.commit_routes();
        self.report_applied();
    }

    fn slot_at(&self, device: DeviceIndex, shard: ShardId, epoch: Epoch) -> Option<u32> {
        let slot = self.resident_of.of(shard)?.checked_sub(1)?;
        let resident = self.residents[slot as usize]?;
        (resident.device == device && resident.epoch == epoch).then_some(slot)
    }

    fn assigned(&mut self, device: DeviceIndex, shard: ShardId, epoch: Epoch) {
        let Some(slot) = self.slot_at(device, shard, epoch) else { return };
        if let Some(resident) = &mut self.residents[slot as usize]
            && resident.state == State::Assigning
        {
            let port = &mut self.devices[usize::from(device.0)];
            port.assigning -= 1;
            if port.new_sets.contains(&shard.set) {
                resident.state = State::Opening { version: 0 };
                port.opening += 1;
            } else {
                resident.state = State::Live;
                self.looping.push(slot);
            }
        }
    }

    fn assign_failed(&mut self, device: DeviceIndex, shard: ShardId, epoch: Epoch) {
        let Some(slot) = self.slot_at(device, shard, epoch) else { return };
        self.actions.push_back(Action::AssignFailed { device, shard, epoch });
        if let Some(resident) = self.residents[slot as usize]
            && resident.state == State::Assigning
        {
            self.devices[usize::from(device.0)].assigning -= 1;
            self.drop_resident(slot, resident);
        }
    }

    fn flushed(&mut self, device: DeviceIndex, flushed: u64) {
        self.devices[usize::from(device.0)].flushed = flushed;
        for slot in 0..self.residents.len() as u32 {
            let Some(resident) = self.residents[slot as usize].as_mut().filter(|resident| resident.device == device)
            else {
                continue;
            };
            match resident.state {
                State::Flushing { version } if version <= flushed => {
                    resident.state = State::Draining;
                    self.drained(slot);
                }
                State::Opening { version } if version > 0 && version <= flushed => {
                    resident.state = State::Live;
                    self.devices[usize::from(device.0)].opening -= 1;
                }
                _ => {}
            }
        }
        self.leaving_flushed(device, flushed);
    }

    /// Releases a draining shard once its worker is done with everything that was accepted for it.
    pub(super) fn drained(&mut self, slot: u32) {
        if let Some(resident) = &mut self.residents[slot as usize]
            && resident.state == State::Draining
            && resident.outstanding == 0
        {
            resident.state = State::Releasing;
            let (device, shard, epoch) = (resident.device, resident.shard, resident.epoch);
            self.submit(device, Control::Release { shard, epoch });
        }
    }

    fn released(&mut self, device: DeviceIndex, shard: ShardId, epoch: Epoch) {
        let Some(slot) = self.slot_at(device, shard, epoch) else { return };
        let Some(resident) = self.residents[slot as usize] else { return };
        if resident.state != State::Releasing {
            return;
        }
        self.drop_resident(slot, resident);
        if resident.report {
            self.leave(device, shard, epoch);
        }
        // The view may want it here again, at a later epoch.
        if self.placement.of(shard).is_some_and(|placed| placed.epoch != epoch) {
            self.reconcile(shard);
        }
        self.remove_sets();
    }

    fn drop_resident(&mut self, slot: u32, resident: Resident) {
        assert!(resident.outstanding == 0, "C8: a shard is dropped only after everything accepted for it is done");
        self.inbound.forget_shard(resident.shard);
        if let Some(of) = self.resident_of.of_mut(resident.shard) {
            *of = 0;
        }
        self.gated.retain(|&gated| gated != slot);
        self.looping.retain(|&looping| looping != slot);
        self.residents[slot as usize] = None;
        self.residents_free.push(slot);
    }

    /// Says that the view is in effect, once nothing is being assigned and every route has been told.
    fn report_applied(&mut self) {
        let told = self.devices.iter().all(|device| {
            device.assigning == 0 && device.opening == 0 && !device.routes_changed && device.new_sets.is_empty()
        });
        if told && self.view_index > self.applied_index {
            self.applied_index = self.view_index;
            self.actions.push_back(Action::ReportApplied { index: self.applied_index });
        }
    }
}
