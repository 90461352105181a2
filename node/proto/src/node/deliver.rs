//! Messages that come in over links: what is held, refused, accepted (C2, C3, C6, C9, C11).
//!
//! A whole frame waits (`Held`) while this node's lease is over, while its view is older than the one by which the sender
//! routed, or while the sender is younger than the view. Then each run is decided by the first line that applies:
//!
//! ```text
//!   sender fenced by the view            ChannelLost(SenderFenced), and the link is closed
//!   frame past its lease end + 250 ms    Busy at first                      the lease may have been renewed since
//!   set not in the view                  ChannelLost(SetDeleted)
//!   shard not resident at that epoch     Moved with the epoch and node of the view
//!   being assigned or opened             Busy
//!   client: backlog above half           Busy                               (admission)
//!   client: gate of the shard closed     Busy                               (a device refused before)
//!   worker's queue at its bound          Busy
//!   otherwise                            the filter decides
//! ```

use ringfleet_abi::hlc::check_ahead;
use ringfleet_abi::limits::LEASE_GRACE_MS;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{
    DeadReason, Envelope, Flags, Hlc, KeySpace, LostReason, NodeId, SessionId, SetId, ShardId, Verdict, VerdictBody,
};

use super::residence::{Placed, State};
use super::worker::{QueuedRun, What, WorkerQueue};
use super::{NodeProto, SetEntry};
use crate::inbound::{Admission, busy};
use crate::now::Now;
use crate::peer::{LinkId, Source};
use crate::wire::{Answer, Deliver, Run};

/// Flags that no message from outside may carry.
const CONTROL_FLAGS: [Flags; 2] = [Flags::MARKER, Flags::CONTROL];

/// What all envelopes of a run have in common.
#[derive(Clone, Copy)]
struct Gatekeeper {
    shard: ShardId,
    set: SetEntry,
    session: Option<SessionId>,
    wall_ms: u64,
}

impl Gatekeeper {
    /// Checks one envelope and, if it is a client's, puts the session's name into it (C11).
    #[inline]
    fn admit(&self, envelope: &mut Envelope) -> Result<(), DeadReason> {
        if let Some(session) = self.session {
            envelope.from_set = SetId::CLIENT.0;
            envelope.from_key = u64::from(session.0) << 32 | envelope.from_key & u64::from(u32::MAX);
            if envelope.flags().has(Flags::REPLY) {
                return Err(DeadReason::BadMessage);
            }
        } else if envelope.from_client() {
            // A node speaks for its actors only.
            return Err(DeadReason::BadMessage);
        }
        if envelope.check().is_err() || CONTROL_FLAGS.iter().any(|flag| envelope.flags().has(*flag)) {
            return Err(DeadReason::BadMessage);
        }
        if envelope.to_set != self.shard.set.0 {
            return Err(DeadReason::NoSuchSet);
        }
        // A worker must never get a message of a shard that it does not own: nobody else would account for it.
        if self.set.keys.shard_of(self.set.shards, envelope.to_key) != Some(self.shard.index) {
            return Err(DeadReason::NoSuchKey);
        }
        check_ahead(envelope.stamp(), self.wall_ms).map_err(|_| DeadReason::StampAhead)
    }
}

impl NodeProto {
    /// Whether a frame must wait.
    pub(super) fn must_hold(&self, now: Now, deliver: &Deliver<'_>) -> bool {
        self.is_fenced(now)
            || self.view_index == 0
            || deliver.header.placement_index > self.view_index
            || matches!(deliver.header.source, Source::Node(incarnation) if incarnation.0 > self.view_index)
    }

    /// Takes in a frame that need not wait. Returns false if its sender is fenced.
    pub(super) fn deliver(&mut self, now: Now, link: LinkId, deliver: &Deliver<'_>) -> bool {
        let header = deliver.header;
        let Some(source) = self.inbound.source(header.source, link, now.mono_ns) else {
            // No memory for another source: the sender must not take silence for a lost link, so it is told when it tries again.
            self.unknown_busy(link, deliver);
            return true;
        };
        let fenced = matches!(header.source, Source::Node(incarnation) if !self.live.contains_key(&incarnation.0));
        let late = !header.source.is_client() && header.lease_end_ms.saturating_add(LEASE_GRACE_MS) < now.wall_ms;
        let congested = header.source.is_client() && self.outbound.is_congested();
        if let Source::Node(incarnation) = header.source {
            tracing::trace!(
                target: "fence",
                receiver = self.config.incarnation.0,
                incarnation = incarnation.0,
                lease_end_ms = header.lease_end_ms,
                "{}",
                if fenced || late { "refused" } else { "accepted" }
            );
        }
        for run in deliver.runs() {
            if fenced {
                self.lost(source, &run, LostReason::SenderFenced);
            } else if late {
                self.busy(source, &run);
            } else {
                self.deliver_run(now, source, header.source, congested, &run);
            }
        }
        !fenced
    }

    fn deliver_run(&mut self, now: Now, source: u32, of: Source, congested: bool, run: &Run<'_>) {
        let shard = run.header.shard;
        let Some(placed) = self.placement.of(shard).copied() else {
            return self.lost(source, run, LostReason::SetDeleted);
        };
        let slot = self.resident_of.of(shard).copied().unwrap_or(0);
        let Some(slot) = slot.checked_sub(1) else { return self.moved(source, run, placed) };
        let Some(resident) = self.residents[slot as usize] else { return self.moved(source, run, placed) };
        if resident.epoch != run.header.epoch {
            return self.moved(source, run, placed);
        }
        match resident.state {
            State::Live => {}
            State::Assigning | State::Opening { .. } => return self.busy(source, run),
            State::Flushing { .. } | State::Draining | State::Releasing => return self.moved(source, run, placed),
        }
        let (device, worker) = (usize::from(resident.device.0), usize::from(resident.worker.0));
        let client = of.is_client();
        let full = self.devices[device].workers[worker].pending() >= self.config.pending_worker_max;
        if full || client && (congested || resident.gate_until.is_some()) {
            return self.busy(source, run);
        }
        let (filter, skip) = match self.inbound.admit(source, &run.header) {
            Admission::Take { filter, skip } => (filter, skip),
            Admission::Done { .. } => return,
        };
        let Some(set) = self.sets.get(shard.set.0 as usize).copied().flatten() else { return };
        let session = if let Source::Client(session) = of { Some(session) } else { None };
        let keeper = Gatekeeper { shard, set, session, wall_ms: now.wall_ms };
        let count = run.header.count - skip;
        let mut next = self.inbound.next_seq(filter);
        let mut good = 0;
        for mut envelope in run.envelopes(skip as usize) {
            let verdict = keeper.admit(&mut envelope);
            let queue = &mut self.devices[device].workers[worker];
            match verdict {
                Ok(()) => {
                    queue.push(envelope);
                    good += 1;
                }
                Err(reason) => {
                    if good > 0 {
                        queue.book(What::Messages, slot, source, client, filter, next, good);
                    }
                    next += u64::from(good);
                    queue.book(What::Dead(reason), slot, source, client, filter, next, 1);
                    next += 1;
                    good = 0;
                    self.tell_dead(now, &envelope);
                }
            }
        }
        if good > 0 {
            let queue = &mut self.devices[device].workers[worker];
            queue.book(What::Messages, slot, source, client, filter, next, good);
        }
        self.inbound.accept(filter, count);
        self.pending_now += u64::from(count);
        if let Some(resident) = &mut self.residents[slot as usize] {
            resident.outstanding += u64::from(count);
        }
        if client {
            self.ledger.client_in += u64::from(count);
        } else {
            self.ledger.node_in += u64::from(count);
        }
        // A run of nothing but dead letters has no position for a worker to be done with.
        if good == 0 {
            self.finish_done(resident.device, resident.worker);
        }
    }

    /// Tells a client that its message is not one.
    fn tell_dead(&mut self, now: Now, envelope: &Envelope) {
        if envelope.from_client() {
            let body = VerdictBody { position: u64::MAX, fault: 0, worker: u16::MAX, kind: envelope.kind };
            let answer = Envelope::verdict(envelope, Verdict::BadMessage, body, Hlc::from_wall_ms(now.wall_ms));
            self.reply(&answer);
        }
    }

    fn busy(&mut self, source: u32, run: &Run<'_>) {
        let (at, certain) = self.inbound.next_of(source, &run.header);
        self.inbound.queue(source, busy(&run.header, at, certain));
    }

    fn lost(&mut self, source: u32, run: &Run<'_>, reason: LostReason) {
        let header = run.header;
        let answer = Answer::ChannelLost {
            shard: header.shard,
            generation: header.generation,
            attempt: header.attempt,
            after_seq: header.first_seq - 1,
            generation_floor: 0,
            reason,
        };
        self.inbound.queue(source, answer);
    }

    fn moved(&mut self, source: u32, run: &Run<'_>, placed: Placed) {
        let header = run.header;
        let (at, certain) = self.inbound.next_of(source, &header);
        let hint = if placed.resident { NodeId(placed.node) } else { NodeId(0) };
        self.inbound.queue(
            source,
            Answer::Moved {
                shard: header.shard,
                generation: header.generation,
                attempt: header.attempt,
                at,
                certain,
                epoch: placed.epoch,
                hint,
            },
        );
    }

    /// Answers Busy to a source for which there is no memory.
    fn unknown_busy(&mut self, link: LinkId, deliver: &Deliver<'_>) {
        let mut frame = self.spare_frame();
        let mut writer = crate::wire::AnswersWriter::new(&mut frame, deliver.header.source);
        for run in deliver.runs().take(crate::limits::FRAME_ANSWERS_MAX) {
            writer.answer(&busy(&run.header, run.header.first_seq, false));
        }
        writer.finish();
        self.actions.push_back(crate::action::Action::Send { link, lane: crate::peer::Lane::Answers, frame });
    }

    /// Books out what workers are done with.
    pub(super) fn finish_done(&mut self, device: ringfleet_abi::DeviceIndex, worker: ringfleet_abi::WorkerIndex) {
        let (device, worker) = (usize::from(device.0), usize::from(worker.0));
        while let Some(run) = self.devices[device].workers[worker].pop_done() {
            if run.what == What::Marker {
                self.settled(run.resident, 1);
                continue;
            }
            let count = u64::from(run.count);
            let counted = self.inbound.done(run.source, run.filter, run.first_seq + count - 1, count);
            match run.what {
                What::Dead(reason) => self.ledger.dead[reason as usize] += counted,
                _ => self.ledger.ingress_done += counted,
            }
            self.took_back(&run, count - counted);
            self.booked_out(&run);
        }
        self.open_gates(device, worker);
    }

    /// C7: this incarnation ends, and no worker will be done with what it had accepted. What clients sent is lost with it, and they
    /// are told so by whoever succeeds it; what nodes sent they still own and report themselves.
    pub(super) fn give_up_pending(&mut self, reason: LostReason) -> u64 {
        let runs: Vec<QueuedRun> =
            self.devices.iter_mut().flat_map(|port| &mut port.workers).flat_map(WorkerQueue::give_up).collect();
        let mut lost = 0;
        for run in runs.iter().filter(|run| run.what != What::Marker) {
            let count = u64::from(run.count);
            // Nothing is answered any more: the filters go with the incarnation.
            let counted = self.inbound.done(run.source, run.filter, run.first_seq + count - 1, count);
            match run.what {
                What::Dead(reason) => self.ledger.dead[reason as usize] += counted,
                _ if run.client => {
                    self.ledger.lost[reason as usize] += counted;
                    lost += counted;
                }
                _ => self.took_back(run, counted),
            }
            self.took_back(run, count - counted);
            self.pending_now -= count;
        }
        lost
    }

    fn took_back(&mut self, run: &QueuedRun, count: u64) {
        if is_on(Mutant::TakenBackUncounted) {
            return;
        }
        self.ledger.taken_back += count;
        if run.client {
            self.ledger.taken_back_clients += count;
        }
    }

    fn booked_out(&mut self, run: &QueuedRun) {
        let count = u64::from(run.count);
        self.pending_now -= count;
        self.settled(run.resident, count);
    }

    /// Books envelopes out of a shard; a shard that leaves goes with the last one.
    fn settled(&mut self, slot: u32, count: u64) {
        if let Some(resident) = &mut self.residents[slot as usize] {
            resident.outstanding -= count;
            if resident.outstanding == 0 {
                self.drained(slot);
            }
        }
    }

    /// A run that no worker has seen goes back to its sender with an answer made of (shard, generation, attempt, at).
    pub(super) fn withdrawn(&mut self, run: &QueuedRun, answer: impl Fn(ShardId, u32, u32, u64) -> Answer) {
        self.inbound.withdraw(run.source, u64::from(run.count));
        self.took_back(run, u64::from(run.count));
        if self.inbound.take_back(run.filter, run.first_seq)
            && let Some((shard, generation, attempt, at)) = self.inbound.position(run.filter)
        {
            self.inbound.refuse_by(run.filter, answer(shard, generation, attempt, at));
        }
        self.booked_out(run);
    }

    /// A device has refused the message of a client at a position of its ingress (C3, C9).
    pub(super) fn refused(&mut self, device: ringfleet_abi::DeviceIndex, body: VerdictBody) {
        let at = usize::from(device.0);
        let Some(queue) = self.devices[at].workers.get(usize::from(body.worker)) else { return };
        let Some((run, seq)) = queue.at(body.position) else { return };
        let pushed = queue.pushed_total();
        let answer = |shard, generation, attempt, at| Answer::Busy { shard, generation, attempt, at, certain: true };
        if self.inbound.take_back(run.filter, seq)
            && let Some((shard, generation, attempt, next)) = self.inbound.position(run.filter)
        {
            self.inbound.refuse_by(run.filter, answer(shard, generation, attempt, next));
        }
        let Some(resident) = &mut self.residents[run.resident as usize] else { return };
        if resident.gate_until.is_some() {
            return;
        }
        resident.gate_until = Some(pushed);
        self.gated.push(run.resident);
        let queue = &mut self.devices[at].workers[usize::from(body.worker)];
        let slot = run.resident;
        for back in queue.withdraw(|run| run.client && run.resident == slot) {
            self.withdrawn(&back, answer);
        }
    }

    /// Opens the gates of shards whose worker is done with everything that was pushed before they closed.
    fn open_gates(&mut self, device: usize, worker: usize) {
        if self.gated.is_empty() {
            return;
        }
        let mut gated = std::mem::take(&mut self.gated);
        gated.retain(|&slot| {
            let Some(resident) = &mut self.residents[slot as usize] else { return false };
            let here = usize::from(resident.device.0) == device && usize::from(resident.worker.0) == worker;
            let queue = &mut self.devices[device].workers[worker];
            if !here || resident.gate_until.is_none_or(|until| queue.done_total() < until) {
                return true;
            }
            resident.gate_until = None;
            // The gate of a shard that leaves goes with it; a marker would come after the release.
            if resident.state == State::Live {
                queue.push(Envelope::gate_marker(resident.shard));
                queue.book_marker(slot);
                resident.outstanding += 1;
            }
            false
        });
        self.gated = gated;
    }
}

/// The shard of a key, if the set has it.
#[inline]
pub(super) fn shard_of(set: SetId, keys: KeySpace, shards: u16, key: u64) -> Option<ShardId> {
    keys.shard_of(shards, key).map(|index| ShardId::new(set, index))
}
