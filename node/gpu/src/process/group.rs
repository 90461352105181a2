//! GPUs that send to each other, as one device (C1, C2, C3, C4, C9): whoever drives it sees one [`Device`] with the workers of all of
//! them.
//!
//! ```text
//!   driver ── GroupDevice ─┬─ member 0 (ProcessDevice) ── workers 0 .. W-1       rings between all workers of all members:
//!                          ├─ member 1 (ProcessDevice) ── workers W .. 2W-1      each GPU writes the others' memory, and
//!                          └─ ...                                                nothing of it goes through this process
//! ```
//!
//! * **Numbers.** Worker w of member m is worker m · W + w of the group, and that is its number as a peer in the kernels' route tables. So
//!   a route is the same word for every member; what a single worker is told (an assignment) or says (a status, a verdict) is translated.
//! * **One owner (C2).** Members know only their own shards. The group's copy of residences refuses what a single device would refuse: a
//!   shard that another member has, and an epoch that is not above the last, wherever that was.
//! * **Order of controls.** A control that was taken reaches every member that it is for, in the order submitted: what a member has no
//!   room for waits here with all behind it, at most [`HELD_MAX`]. Lease, pause, resume and stop are words of their own and never wait.
//! * **Route commits in lockstep (C3, C4).** A worker counts markers of all workers of all members by the parity of the tables that they
//!   announce. All members get the same commits, so parities flip in step, whatever versions each member counts for itself. Commit n + 1
//!   waits here until all workers of all members have told that n is flushed; so a marker of n + 2, which has n's parity, is never
//!   written while anybody counts those of n. `RouteFlushed` is told when the last member has told it: by then every worker of every
//!   member has consumed all that was sent by the old routes, by whichever member.
//! * **All know a set before anybody runs a shard of it (C3).** An actor of a new set may send to any shard of it, also to one of another
//!   member, which has to know the set by then. So the first assignment of a shard of a set that was added since the last commit waits
//!   for a commit of the group's own, of which nobody is told: when all workers of all members have flushed it, they have adopted what came
//!   before it, the set among it. Routes that were submitted before such an assignment take effect with that commit instead of the
//!   driver's next one, which then finds them in effect; the driver is told of its own commit only, so it counts on neither earlier.
//! * **Lease (C2).** Every member obeys its own word, written from the same deadline. The group is unfenced when all are.
//! * **Loss.** The first member that is lost is told as [`Status::WorkerLost`] with its first worker; the group takes no more envelopes.
//!   Rings of the others into its memory stay mapped, so its end harms nobody else before they are stopped.
//!
//! Deliberately absent: a group that goes on with fewer members. Whoever drives it gives the device up, and forms the next of the rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use ringfleet_abi::{Control, Envelope, Epoch, SetId, ShardId, Status, VerdictBody, WorkerCounters, WorkerIndex};
use ringfleet_actor::TypeDescriptor;
use ringfleet_env::Clock;

use super::child::{Launch, LaunchError};
use super::device::{GpuConfig, ProcessDevice, Wanted, begin_member};
use super::hub::Hub;
use super::routing::{Residence, Routing};
use crate::device::{CodeChanges, Device, Full};

/// The most GPUs of a group.
pub const GROUP_MAX: usize = ringfleet_kernels::geometry::DEVICES_MAX as usize;
/// Controls that wait for a member or for a flush, and answers that wait to be polled, together. One more is [`Full`].
pub const HELD_MAX: usize = 4096;

/// A device that can be a member: its envelopes are given to a worker that the group has chosen.
pub trait Member: Device {
    /// Puts one envelope into the ring of a worker, unpublished; `false` if there is no room.
    fn push_to(&mut self, worker: WorkerIndex, envelope: &Envelope) -> bool;
    /// Publishes what was put.
    fn publish(&mut self);
}

/// Why a group did not start.
#[derive(Debug, thiserror::Error)]
#[error("member {member} of the group: {source}")]
pub struct GroupError {
    /// The first member that failed, by its place.
    pub member: usize,
    /// What it says.
    #[source]
    pub source: LaunchError,
}

/// Starts the device processes of a group, all at once, and waits until all are ready to send to each other. One that fails ends all.
///
/// # Errors
/// [`GroupError`] of the first that failed; nothing is left behind then.
pub fn start_group(
    launches: Vec<Launch>,
    config: &GpuConfig,
    types: &[&'static TypeDescriptor],
    clock: &Arc<dyn Clock>,
) -> Result<Vec<ProcessDevice>, GroupError> {
    let hub = Hub::new(launches.len());
    let wanted = Wanted::Gpu(config.clone());
    let begun: Vec<_> = launches
        .into_iter()
        .enumerate()
        .map(|(member, launch)| {
            let seat = hub.seat(member);
            let begun = begin_member(launch, &wanted, types, member, Some(seat.clone()), clock.clone());
            begun.inspect_err(|_| seat.fail())
        })
        .collect();
    let finished = begun.into_iter().map(|begun| begun.and_then(|starting| starting.finish()));
    let finished: Vec<_> = finished.map(|ready| ready.map(|ready| ProcessDevice::new(ready, clock.clone()))).collect();
    let blamed = hub.failed();
    let (mut devices, mut failed) = (Vec::new(), None);
    for (member, outcome) in finished.into_iter().enumerate() {
        match outcome {
            Ok(device) => devices.push(device),
            Err(source) if failed.is_none() || blamed == Some(member) => failed = Some(GroupError { member, source }),
            Err(_) => {}
        }
    }
    failed.map_or(Ok(devices), Err)
}

/// A route commit that is under way: which members have told that it is flushed.
#[derive(Debug)]
struct Commit {
    version: u64,
    flushed: Vec<bool>,
    /// The group's own: nobody is told.
    own: bool,
    /// Sets that all members know when it is flushed.
    knows: BTreeSet<SetId>,
}

/// Several devices that send to each other, as one.
#[derive(Debug)]
pub struct GroupDevice<M> {
    members: Vec<M>,
    /// Workers of each member.
    each: u16,
    routing: Routing,
    /// Controls that wait, and how many members have taken the first of them.
    held: VecDeque<Control>,
    given: usize,
    commit: Option<Commit>,
    /// Sets that were added since the last commit: not every worker knows them.
    fresh: BTreeSet<SetId>,
    /// The first of those that wait is a commit of the group's own.
    own_commit: bool,
    /// The last version of a commit.
    version: u64,
    /// What the group itself answers.
    events: VecDeque<Status>,
    started: usize,
    stopped: Vec<bool>,
    fenced: Vec<bool>,
    /// What was last told of the lease.
    told_fenced: bool,
    lost: bool,
    turn: usize,
}

impl<M: Member> GroupDevice<M> {
    /// Of members that all have the same number of workers and were started as devices 0, 1, ... of each other.
    ///
    /// # Panics
    /// If there is none, or their workers are not all as many: a bug of whoever started them.
    #[must_use]
    pub fn new(members: Vec<M>) -> Self {
        let count = members.len();
        let each = members.first().expect("C9: a group has members").workers();
        assert!(members.iter().all(|member| member.workers() == each), "C9: members of a group are alike");
        let workers = each.checked_mul(count as u16).expect("C9: workers of a group have numbers of 16 bits");
        Self {
            members,
            each,
            routing: Routing::new(workers),
            held: VecDeque::new(),
            given: 0,
            commit: None,
            fresh: BTreeSet::new(),
            own_commit: false,
            version: 0,
            events: VecDeque::new(),
            started: 0,
            stopped: vec![false; count],
            fenced: vec![true; count],
            told_fenced: true,
            lost: false,
            turn: 0,
        }
    }

    /// The members, in order.
    #[must_use]
    pub fn members(&self) -> &[M] {
        &self.members
    }

    /// Member and its own number of a worker of the group.
    fn place(&self, worker: WorkerIndex) -> (usize, WorkerIndex) {
        (usize::from(worker.0 / self.each), WorkerIndex(worker.0 % self.each))
    }

    /// The group's number of a member's worker; none of the group's for one that the member does not have.
    fn number(&self, member: usize, worker: WorkerIndex) -> WorkerIndex {
        if worker.0 < self.each { WorkerIndex(member as u16 * self.each + worker.0) } else { WorkerIndex(u16::MAX) }
    }

    /// Gives members what waits, as far as they have room and commits are flushed.
    fn give(&mut self) {
        while let Some(&control) = self.held.front() {
            if self.give_one(control) {
                self.held.pop_front();
                self.given = 0;
            } else if self.held.front() == Some(&control) {
                return;
            }
            // Else something was put before it.
        }
    }

    /// Whether everybody whom it concerns has it now.
    fn give_one(&mut self, control: Control) -> bool {
        match control {
            Control::Assign { shard, .. } if !self.is_known(shard.set) => false,
            Control::Assign { shard, epoch, worker } => self.assign(control, shard, epoch, worker),
            Control::AddSet { set, .. } => {
                let added = self.give_to_all(control);
                if added {
                    self.fresh.insert(set);
                }
                added
            }
            Control::Release { shard, epoch } => match self.routing.residence(shard) {
                Some(Residence::At { worker, .. }) => self.give_to(self.place(worker).0, control, control),
                // As a device answers that does not have it.
                _ => {
                    self.events.push_back(Status::Released { shard, epoch });
                    true
                }
            },
            // Members would not agree: those that own none of its shards would forget it.
            Control::RemoveSet { set } if self.given == 0 && self.routing.is_used(set) => true,
            Control::RouteCommit { .. } | Control::RemoveSet { .. } if self.given == 0 && self.commit.is_some() => {
                false
            }
            Control::RouteCommit { version } => {
                if self.commit.is_none() {
                    let (flushed, own) = (vec![false; self.members.len()], std::mem::take(&mut self.own_commit));
                    self.commit = Some(Commit { version, flushed, own, knows: std::mem::take(&mut self.fresh) });
                    self.version = version;
                }
                self.give_to_all(control)
            }
            _ => self.give_to_all(control),
        }
    }

    /// Whether all workers of all members know a set; if not, and nothing is under way after which they do, that is begun.
    fn is_known(&mut self, set: SetId) -> bool {
        if self.fresh.contains(&set) {
            if self.commit.is_none() && !self.own_commit {
                self.own_commit = true;
                self.held.push_front(Control::RouteCommit { version: self.version });
            }
            return false;
        }
        self.commit.as_ref().is_none_or(|commit| !commit.knows.contains(&set))
    }

    fn assign(&mut self, control: Control, shard: ShardId, epoch: Epoch, worker: WorkerIndex) -> bool {
        let possible = worker.0 < self.workers()
            && match self.routing.residence(shard) {
                None => false,
                Some(Residence::None { last }) => epoch > last,
                // Said again: its owner answers again.
                Some(Residence::At { worker: owner, epoch: now, leaving }) => {
                    !leaving && owner == worker && now == epoch
                }
            };
        if !possible {
            self.events.push_back(Status::AssignFailed { shard, epoch });
            return true;
        }
        let (member, own) = self.place(worker);
        self.give_to(member, Control::Assign { shard, epoch, worker: own }, control)
    }

    /// `own` is `control` in the member's numbers.
    fn give_to(&mut self, member: usize, own: Control, control: Control) -> bool {
        let taken = self.members[member].submit(own).is_ok();
        if taken {
            self.routing.sent(&control);
        }
        taken
    }

    fn give_to_all(&mut self, control: Control) -> bool {
        while let Some(member) = self.members.get_mut(self.given) {
            if member.submit(control).is_err() {
                return false;
            }
            self.given += 1;
        }
        self.routing.sent(&control);
        true
    }

    /// What a member's status is to whoever drives the group; `None`: nothing yet.
    fn merge(&mut self, member: usize, status: Status) -> Option<Status> {
        let status = match status {
            Status::Started { layout_hash, .. } => {
                self.started += 1;
                let all = self.started == self.members.len();
                return all.then(|| Status::Started { workers: self.workers(), layout_hash });
            }
            Status::RouteFlushed { version } => {
                let commit = self.commit.as_mut().filter(|commit| commit.version == version)?;
                commit.flushed[member] = true;
                if !commit.flushed.iter().all(|flushed| *flushed) {
                    return None;
                }
                if self.commit.take().is_some_and(|commit| commit.own) {
                    return None;
                }
                status
            }
            Status::Fenced | Status::Unfenced => {
                self.fenced[member] = status == Status::Fenced;
                let fenced = self.fenced.contains(&true);
                if fenced == std::mem::replace(&mut self.told_fenced, fenced) {
                    return None;
                }
                if fenced { Status::Fenced } else { Status::Unfenced }
            }
            Status::Stopped => {
                self.stopped[member] = true;
                return (!self.stopped.contains(&false)).then_some(status);
            }
            Status::WorkerLost { worker } => {
                let first = !std::mem::replace(&mut self.lost, true);
                return first.then(|| Status::WorkerLost { worker: self.number(member, worker) });
            }
            Status::Assigned { shard, epoch, worker } => {
                Status::Assigned { shard, epoch, worker: self.number(member, worker) }
            }
            Status::WorkerStalled { worker } => Status::WorkerStalled { worker: self.number(member, worker) },
            Status::WorkerResumed { worker } => Status::WorkerResumed { worker: self.number(member, worker) },
            Status::AssignFailed { .. } | Status::Released { .. } | Status::ActorFailed { .. } => status,
        };
        self.routing.came(&status);
        Some(status)
    }

    /// A verdict names its worker, too.
    fn translate(&self, member: usize, envelopes: &mut [Envelope]) {
        for envelope in envelopes.iter_mut().filter(|envelope| envelope.is_control()) {
            let Some((_, body)) = envelope.as_verdict() else { continue };
            let body = VerdictBody { worker: self.number(member, WorkerIndex(body.worker)).0, ..body };
            envelope.payload[..size_of::<VerdictBody>()].copy_from_slice(bytemuck::bytes_of(&body));
        }
    }
}

impl<M: Member> Device for GroupDevice<M> {
    fn push_ingress(&mut self, envelopes: &[Envelope]) -> usize {
        if self.lost {
            return 0;
        }
        let mut taken = 0;
        for envelope in envelopes {
            let (member, own) = self.place(self.routing.worker_of(envelope));
            if !self.members[member].push_to(own, envelope) {
                break;
            }
            taken += 1;
        }
        self.members.iter_mut().for_each(Member::publish);
        taken
    }

    fn ingress_worker(&self, envelope: &Envelope) -> WorkerIndex {
        self.routing.worker_of(envelope)
    }

    fn poll_egress(&mut self, envelopes: &mut [Envelope]) -> usize {
        let count = self.members.len();
        self.turn = (self.turn + 1) % count;
        let mut taken = 0;
        for step in 0..count {
            let member = (self.turn + step) % count;
            let got = self.members[member].poll_egress(&mut envelopes[taken..]);
            self.translate(member, &mut envelopes[taken..taken + got]);
            taken += got;
        }
        taken
    }

    fn egress_is_behind(&self) -> bool {
        self.members.iter().any(Device::egress_is_behind)
    }

    fn submit(&mut self, control: Control) -> Result<(), Full> {
        match control {
            Control::Lease { .. } | Control::Pause | Control::Resume | Control::Stop => {
                self.members.iter_mut().try_for_each(|member| member.submit(control))
            }
            _ if self.held.len() + self.events.len() >= HELD_MAX => Err(Full),
            _ => {
                self.held.push_back(control);
                self.give();
                Ok(())
            }
        }
    }

    fn poll_status(&mut self) -> Option<Status> {
        self.give();
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let count = self.members.len();
        for step in 0..count {
            let member = (self.turn + step) % count;
            while let Some(status) = self.members[member].poll_status() {
                if let Some(status) = self.merge(member, status) {
                    return Some(status);
                }
            }
        }
        None
    }

    fn counters(&self, worker: WorkerIndex) -> WorkerCounters {
        let (member, own) = self.place(worker);
        self.members.get(member).map_or_else(WorkerCounters::default, |member| member.counters(own))
    }

    fn ingress_done(&self, worker: WorkerIndex) -> u64 {
        let (member, own) = self.place(worker);
        self.members.get(member).map_or(0, |member| member.ingress_done(own))
    }

    fn workers(&self) -> u16 {
        self.each * self.members.len() as u16
    }

    fn actors_by_set(&self) -> BTreeMap<SetId, u64> {
        let mut all = BTreeMap::new();
        for (set, actors) in self.members.iter().flat_map(Device::actors_by_set) {
            *all.entry(set).or_default() += actors;
        }
        all
    }

    fn code_changes(&self) -> CodeChanges {
        let mut all = CodeChanges::default();
        self.members.iter().for_each(|member| all.add(&member.code_changes()));
        all
    }

    fn check_workers(&mut self, now_ns: u64) {
        self.members.iter_mut().for_each(|member| member.check_workers(now_ns));
    }

    fn can_wake(&self) -> bool {
        self.members.iter().all(Device::can_wake)
    }

    fn watch(&mut self, waker: &Waker) {
        self.members.iter_mut().for_each(|member| member.watch(waker));
    }
}

#[cfg(test)]
mod tests;
