//! From an envelope to its handling, and what comes of it.
#![allow(unsafe_code)]

use std::slice;

use ringfleet_abi::envelope::FLAGS_SHIFT;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{Consumer, DeadReason, Draws, Envelope, Flags, Hlc, RestartMode, SetId, Verdict};
use ringfleet_actor::{Ctx, Fault, Target, TypeDescriptor};

use super::answer::Origin;
use super::{Core, FiredTimer, NS_PER_MS, Outbox};
use crate::arena::{Header, SlotRef};
use crate::memory::HeapRing;
use crate::sets::SetTable;
use crate::timers::Timer;

/// How many messages ahead an actor is fetched from memory. A handling takes 30 to 60 ns and memory 100 to 200, so
/// eight are enough; sixteen and thirty-two were no faster. Staging one for each handled was a third faster than
/// staging sixteen at once: a burst of fetches fills the processor's miss buffers and then stands still.
const AHEAD: u32 = 8;

/// In the own lane this flag marks a fired timer; its generation is the next of `fired`. Elsewhere the flag is refused.
pub(super) const FIRED: Flags = Flags::SPARE;

/// Flags of what is no plain message.
const SPECIAL_BITS: u16 = (Flags::MARKER.bits() | Flags::CONTROL.bits() | FIRED.bits()) << FLAGS_SHIFT;

/// What staging found out. A hint: the handling looks again at who lies in the slot.
#[derive(Clone, Copy)]
struct Staged {
    slot: Option<SlotRef>,
    ty: Option<&'static TypeDescriptor>,
}

const NOTHING: Staged = Staged { slot: None, ty: None };

/// Hints the processor to fetch a line that will be written.
#[inline(always)]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing; any address is allowed.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

impl Core {
    /// Handles the first `count` messages of a ring between workers.
    pub(super) fn run_ring(&mut self, input: &mut Consumer<HeapRing>, count: u32) {
        self.run(input, count, Self::take_from_ring);
    }

    /// Handles the first `count` envelopes of the ingress.
    pub(super) fn run_ingress(&mut self, input: &mut Consumer<HeapRing>, count: u32) {
        self.run(input, count, Self::take_from_ingress);
    }

    /// Takes the first `count` envelopes of an input in order, with their actors fetched [`AHEAD`] messages ahead, and
    /// the table entries that lead to them twice as far.
    #[inline(always)]
    fn run(&mut self, input: &mut Consumer<HeapRing>, count: u32, take: impl Fn(&mut Self, &Envelope, Staged)) {
        let mut staged = [NOTHING; AHEAD as usize];
        for at in 0..count.min(2 * AHEAD) {
            self.stage_table(input.peek_ref(at));
        }
        for at in 0..count.min(AHEAD) {
            staged[at as usize] = self.stage(input.peek_ref(at));
        }
        for at in 0..count {
            if at + 2 * AHEAD < count {
                self.stage_table(input.peek_ref(at + 2 * AHEAD));
                prefetch(input.peek_ref((at + 3 * AHEAD).min(count - 1)));
            }
            let place = (at % AHEAD) as usize;
            let found = staged[place];
            if at + AHEAD < count {
                staged[place] = self.stage(input.peek_ref(at + AHEAD));
            }
            if is_on(Mutant::BatchReordered) && (at ^ 1) < count {
                take(self, input.peek_ref(at ^ 1), NOTHING);
                continue;
            }
            take(self, input.peek_ref(at), found);
        }
        input.release(count);
    }

    /// Fires due timers into the own lane, while there is room; says whether any.
    pub(super) fn fire_timers(&mut self, most: u32) -> bool {
        if self.timers.len() == 0 {
            return false;
        }
        let now_ms = self.now_ns / NS_PER_MS;
        let mut fired = 0;
        while fired < most && self.out.spill_used < self.out.spill_max {
            let Some(timer) = self.timers.pop_due(now_ms) else { break };
            fired += 1;
            if self.timer_target(&timer).is_none() {
                self.out.dead(DeadReason::ActorGone);
                continue;
            }
            let mut envelope = timer.envelope;
            envelope.set_flags(envelope.flags().with(FIRED));
            self.fired.push_back(FiredTimer { shard: timer.shard, generation: timer.generation });
            self.out.push(self.index, &envelope);
        }
        fired > 0
    }

    /// The actor that set the timer, if it is still that one.
    fn timer_target(&self, timer: &Timer) -> Option<SlotRef> {
        let slot = self.find(&timer.envelope)?;
        // SAFETY: slots of resident shards, see `SlotRef`.
        let (header, generation) = unsafe { (slot.header.as_ref(), slot.keep.as_ref().generation) };
        let same = holds(header, timer.envelope.to_key) && !header.has_failed() && generation == timer.generation;
        same.then_some(slot)
    }

    /// Finds the actor of a message and fetches it.
    #[inline(always)]
    fn stage(&self, envelope: &Envelope) -> Staged {
        if let Some(entry) = self.sets.get(envelope.to_set)
            && let Some(index) = entry.map.shard_of(envelope.to_key)
            && let Some(shard) = entry.local[index.0 as usize].as_deref()
            && let Some(slot) = shard.hint(entry.arena.layout(), envelope.to_key)
        {
            prefetch(slot.header.as_ptr());
            prefetch(slot.state.as_ptr());
            return Staged { slot: Some(slot), ty: entry.ty };
        }
        NOTHING
    }

    /// Fetches the table entry that finding the actor will read.
    #[inline(always)]
    fn stage_table(&self, envelope: &Envelope) {
        if let Some(entry) = self.sets.get(envelope.to_set)
            && entry.map.is_hashed()
            && let Some(index) = entry.map.shard_of(envelope.to_key)
            && let Some(shard) = &entry.local[index.0 as usize]
        {
            prefetch(shard.table_line(envelope.to_key));
        }
    }

    /// The slot of a message's actor.
    fn find(&self, envelope: &Envelope) -> Option<SlotRef> {
        let entry = self.sets.get(envelope.to_set)?;
        let index = entry.map.shard_of(envelope.to_key)?;
        entry.local[index.0 as usize].as_deref()?.locate(entry.arena.layout(), envelope.to_key)
    }

    #[inline(always)]
    fn take_from_ring(&mut self, envelope: &Envelope, staged: Staged) {
        if envelope.bits & SPECIAL_BITS != 0 {
            return self.take_special(envelope);
        }
        self.out.counters.ring_in += 1;
        self.deliver(envelope, staged, Origin::Ring);
    }

    #[inline(always)]
    fn take_from_ingress(&mut self, envelope: &Envelope, staged: Staged) {
        let origin = self.next_origin();
        if envelope.is_control() {
            return self.open_gate(envelope);
        }
        if envelope.from_client() && self.is_gated(envelope) {
            return self.refuse(envelope, origin, Verdict::Busy);
        }
        if envelope.check().is_err() {
            self.out.counters.ingress_in += 1;
            return self.dead_letter(envelope, origin, DeadReason::BadMessage, 0);
        }
        if envelope.hlc > self.hlc_max {
            self.out.counters.ingress_in += 1;
            self.out.counters.stamps_ahead += 1;
            return self.dead_letter(envelope, origin, DeadReason::StampAhead, 0);
        }
        self.deliver(envelope, staged, origin);
    }

    #[inline]
    pub(super) fn next_origin(&mut self) -> Origin {
        let position = self.ingress_taken;
        self.ingress_taken += 1;
        Origin::Ingress(position)
    }

    /// Handles a message: the actor is there in all but the first of its messages.
    #[inline(always)]
    fn deliver(&mut self, envelope: &Envelope, staged: Staged, origin: Origin) {
        if let (Some(slot), Some(ty)) = (staged.slot, staged.ty) {
            // SAFETY: no shard has left since staging, for that is done between batches.
            let header = unsafe { slot.header.as_ref() };
            if holds(header, envelope.to_key) && !header.has_failed() {
                if origin != Origin::Ring {
                    self.out.counters.ingress_in += 1;
                }
                return self.handle(envelope, slot, ty, origin);
            }
        }
        self.deliver_slowly(envelope, origin);
    }

    /// Handles a message whose actor was not where staging looked, or that cannot be handled.
    #[cold]
    fn deliver_slowly(&mut self, envelope: &Envelope, origin: Origin) {
        let found = self.whereabouts(envelope).and_then(|(slot, ty)| match slot {
            Some(slot) => Ok((slot, ty)),
            // A message that no handler takes activates nobody.
            None if !takes(ty, envelope) && !envelope.is_child_failed() => Err(DeadReason::BadMessage),
            None => self.activate(envelope, ty),
        });
        match found {
            Err(DeadReason::ShardFull) if origin != Origin::Ring && envelope.from_client() => {
                self.refuse(envelope, origin, Verdict::ShardFull);
            }
            Err(reason) => {
                if origin != Origin::Ring {
                    self.out.counters.ingress_in += 1;
                }
                self.dead_letter(envelope, origin, reason, 0);
            }
            Ok((slot, ty)) => {
                if origin != Origin::Ring {
                    self.out.counters.ingress_in += 1;
                }
                self.handle(envelope, slot, ty, origin);
            }
        }
    }

    /// The live actor of a message, `None` if it has to be activated, or why it cannot be handled here.
    pub(super) fn whereabouts(
        &self,
        envelope: &Envelope,
    ) -> Result<(Option<SlotRef>, &'static TypeDescriptor), DeadReason> {
        let entry = self.sets.get(envelope.to_set).ok_or(DeadReason::NoSuchSet)?;
        let index = entry.map.shard_of(envelope.to_key).ok_or(DeadReason::NoSuchKey)?;
        let shard = entry.local[index.0 as usize].as_deref().ok_or(DeadReason::NotResident)?;
        let ty = entry.ty.ok_or(DeadReason::NotResident)?;
        let Some(slot) = shard.locate(entry.arena.layout(), envelope.to_key) else { return Ok((None, ty)) };
        // SAFETY: slots of resident shards, see `SlotRef`.
        let header = unsafe { slot.header.as_ref() };
        match holds(header, envelope.to_key) {
            true if header.has_failed() => Err(DeadReason::ActorFailed),
            true => Ok((Some(slot), ty)),
            false => Ok((None, ty)),
        }
    }

    fn activate(
        &mut self,
        envelope: &Envelope,
        ty: &'static TypeDescriptor,
    ) -> Result<(SlotRef, &'static TypeDescriptor), DeadReason> {
        let entry = self.sets.get_mut(envelope.to_set).ok_or(DeadReason::NoSuchSet)?;
        let index = entry.map.shard_of(envelope.to_key).ok_or(DeadReason::NoSuchKey)?;
        let shard = entry.local[index.0 as usize].as_deref_mut().ok_or(DeadReason::NotResident)?;
        let slot = shard.activate(&mut entry.arena, envelope.to_key).map_err(|_| DeadReason::ShardFull)?;
        // SAFETY: the slot has room for a state of the set's type, and this worker alone touches it.
        (ty.init)(unsafe { state_of(slot, ty) });
        // SAFETY: as above.
        unsafe { (*slot.keep.as_ptr()).draws = Draws::new(entry.tag) };
        entry.count_actors(1);
        self.out.counters.activations += 1;
        self.out.counters.actors_now += 1;
        Ok((slot, ty))
    }

    /// Runs the handler of a live actor.
    #[inline(always)]
    fn handle(&mut self, envelope: &Envelope, slot: SlotRef, ty: &'static TypeDescriptor, origin: Origin) {
        // SAFETY: `slot` is the slot of a live actor of this worker; nothing else refers to it while the handler runs.
        let (header, state, keep) =
            unsafe { (&mut *slot.header.as_ptr(), state_of(slot, ty), &mut *slot.keep.as_ptr()) };
        let hlc = if is_on(Mutant::HlcNotRaised) {
            header.hlc().max(self.now_hlc) + 1
        } else if is_on(Mutant::HlcForgotten) {
            envelope.hlc.max(self.now_hlc) + 1
        } else {
            header.hlc().max(envelope.hlc).max(self.now_hlc) + 1
        };
        let mut ctx = Ctx::new(envelope.to(), envelope, Hlc(hlc), &mut self.sends, &mut keep.draws);
        let outcome = (ty.handle)(state, envelope, &mut ctx);
        let stopped = ctx.stopped();
        if let Err(fault) = outcome {
            header.set_hlc(hlc);
            return self.fail(envelope, slot, ty, origin, fault);
        }
        let sends = self.sends.len();
        // The stamps of the sends are the actor's too: its next handling comes after them.
        header.set_hlc(hlc + sends as u64);
        if self.timers.room() < sends as u32 && self.timers_sent() > self.timers.room() {
            return self.fail(envelope, slot, ty, origin, Fault::TimerFull);
        }
        self.out.counters.handled += 1;
        self.out.counters.sent += sends as u64;
        self.send_all(slot);
        if origin != Origin::Ring && envelope.flags().has(Flags::ASK) && envelope.from_client() {
            self.answer_silence(envelope, origin);
        }
        if stopped {
            self.remove(envelope, slot);
        }
    }

    fn timers_sent(&self) -> u32 {
        self.sends.iter().filter(|(target, _)| matches!(target, Target::Timer { .. })).count() as u32
    }

    /// Hands on what a successful handling sent, in order.
    #[inline(always)]
    fn send_all(&mut self, slot: SlotRef) {
        let (targets, envelopes) = self.sends.parts_mut();
        for (target, envelope) in targets.iter().zip(envelopes) {
            match *target {
                Target::Tag(tag) => match self.sets.by_tag(tag) {
                    Some(set) => {
                        envelope.to_set = set;
                        self.out.send(&self.sets, envelope);
                    }
                    None => self.out.dead(DeadReason::NoSuchSet),
                },
                Target::Set(_) => self.out.send(&self.sets, envelope),
                Target::Timer { delay_ms } => {
                    let shard = self.sets.get(envelope.to_set).and_then(|entry| {
                        let index = entry.map.shard_of(envelope.to_key)?;
                        Some(ringfleet_abi::ShardId::new(SetId(envelope.to_set), index).pack())
                    });
                    // SAFETY: the slot of the live actor that set the timer.
                    let generation = unsafe { slot.keep.as_ref().generation };
                    self.timers.set(Timer {
                        // Rounded up, so that at least the delay passes.
                        due_ms: self.now_ns.div_ceil(NS_PER_MS) + u64::from(delay_ms),
                        generation,
                        shard: shard.expect("the actor that set the timer was found through its shard"),
                        envelope: *envelope,
                    });
                }
            }
        }
    }

    /// A handling failed: it sends nothing, and its actor fails unless the message was none of its kinds. What becomes of the actor is
    /// its set's policy: it is restarted, or stays failed, and then the actor of its key in the parent set hears of it.
    #[cold]
    fn fail(&mut self, envelope: &Envelope, slot: SlotRef, ty: &'static TypeDescriptor, origin: Origin, fault: Fault) {
        let child_failed = fault == Fault::BadMessage && envelope.is_child_failed();
        if fault == Fault::BadMessage && !child_failed {
            return self.dead_letter(envelope, origin, DeadReason::BadMessage, fault.code());
        }
        let fault = if child_failed { Fault::ChildFailed } else { fault };
        self.out.counters.failures += 1;
        self.report_failure(envelope.to_set, envelope.to_key, fault.code());
        let budget = self.sets.get(envelope.to_set).map_or(RestartMode::Stop.budget(), |entry| entry.restart);
        // SAFETY: as in `handle`.
        let (header, keep) = unsafe { (&mut *slot.header.as_ptr(), &mut *slot.keep.as_ptr()) };
        let failed_at = Hlc(header.hlc());
        let restarted = budget.take(&mut keep.window, failed_at);
        if restarted {
            self.out.counters.restarts += 1;
            // SAFETY: as in `handle`.
            let state = unsafe { state_of(slot, ty) };
            state.fill(0);
            (ty.init)(state);
            if let Some(shard) = self.shard_mut(envelope) {
                shard.renew(slot);
            }
        } else if budget.parent == 0 {
            header.set_failed();
        } else {
            // The stamp of the escalation is the actor's, too.
            header.set_hlc(failed_at.plus(1).0);
            header.set_failed();
        }
        if child_failed {
            // It has done what it was sent for.
            self.out.counters.handled += 1;
        } else {
            self.dead_letter(envelope, origin, DeadReason::HandlerFailed, fault.code());
        }
        if !restarted && budget.parent != 0 {
            self.escalate(envelope, budget.parent, failed_at.plus(1));
        }
    }

    /// The target of `envelope` has failed for good: the actor of its key in the parent set is told to fail, too. That is a message like
    /// others, so it keeps its place behind what the actor sent there before (C3) and ends somewhere (C7).
    fn escalate(&mut self, envelope: &Envelope, parent: u32, hlc: Hlc) {
        self.out.counters.sent += 1;
        self.out.counters.escalations += 1;
        let mut told = Envelope::child_failed(envelope.to(), hlc, envelope.flags().has(Flags::TRACE));
        match self.sets.by_tag(parent) {
            Some(set) => {
                told.to_set = set;
                self.out.send(&self.sets, &told);
            }
            None => self.out.dead(DeadReason::NoSuchSet),
        }
    }

    /// The actor has stopped.
    #[cold]
    fn remove(&mut self, envelope: &Envelope, slot: SlotRef) {
        let Some(entry) = self.sets.get_mut(envelope.to_set) else { return };
        let Some(index) = entry.map.shard_of(envelope.to_key) else { return };
        if let Some(shard) = entry.local[index.0 as usize].as_deref_mut() {
            shard.deactivate(entry.arena.layout(), slot);
            entry.count_actors(-1);
            self.out.counters.actors_now -= 1;
        }
    }

    pub(super) fn shard_mut(&mut self, envelope: &Envelope) -> Option<&mut crate::shard::Shard> {
        let entry = self.sets.get_mut(envelope.to_set)?;
        let index = entry.map.shard_of(envelope.to_key)?;
        entry.local[index.0 as usize].as_deref_mut()
    }

    /// Markers and fired timers.
    #[cold]
    fn take_special(&mut self, envelope: &Envelope) {
        if self.take_marker(envelope) {
            return;
        }
        self.out.counters.ring_in += 1;
        if !envelope.flags().has(FIRED) {
            // Nothing else with the flag control is sent between workers.
            return self.out.dead(DeadReason::BadMessage);
        }
        let fired = self.fired.pop_front().expect("C3: every flagged slot of the own lane has its entry, in order");
        let mut plain = *envelope;
        plain.bits &= !(FIRED.bits() << FLAGS_SHIFT);
        let timer = Timer { due_ms: 0, generation: fired.generation, shard: fired.shard, envelope: plain };
        match self.timer_target(&timer).zip(self.sets.get(plain.to_set).and_then(|entry| entry.ty)) {
            Some((slot, ty)) => self.handle(&plain, slot, ty, Origin::Ring),
            None => self.out.dead(DeadReason::ActorGone),
        }
    }

    pub(super) fn take_marker(&mut self, envelope: &Envelope) -> bool {
        match envelope.as_route_marker() {
            Some((worker, version)) => {
                self.markers.push((worker.0, version));
                true
            }
            None => false,
        }
    }
}

impl Outbox {
    /// Routes a message by its set and key.
    #[inline(always)]
    fn send(&mut self, sets: &SetTable, envelope: &Envelope) {
        if envelope.to_set == SetId::CLIENT.0 {
            return self.send_to_client(envelope);
        }
        let Some(entry) = sets.get(envelope.to_set) else { return self.dead(DeadReason::NoSuchSet) };
        let Some(index) = entry.map.shard_of(envelope.to_key) else { return self.dead(DeadReason::NoSuchKey) };
        let lane = entry.routes[index.0 as usize];
        self.push(lane, envelope);
        if let Some(lane) = self.lanes.get(lane as usize) {
            prefetch(lane.slot_address(RING_AHEAD));
        }
    }

    fn send_to_client(&mut self, envelope: &Envelope) {
        // Ask number 0 is a tell: nobody waits for an answer.
        if envelope.to_key as u32 == 0 {
            return self.dead(DeadReason::NoReplyTo);
        }
        self.push(self.egress, envelope);
    }
}

/// How many slots ahead of the next write a ring is fetched.
const RING_AHEAD: u32 = 8;

#[inline(always)]
fn holds(header: &Header, key: u64) -> bool {
    header.is_live() && header.key == key
}

/// Whether the type has a handler of this kind and length.
fn takes(ty: &TypeDescriptor, envelope: &Envelope) -> bool {
    ty.kinds.iter().any(|kind| kind.kind == envelope.kind && kind.bytes == envelope.payload_len())
}

/// The state in a slot.
///
/// # Safety
/// The slot was laid out for states of `ty`, belongs to a resident shard of this worker, and no other reference to its
/// state exists.
#[inline(always)]
unsafe fn state_of<'a>(slot: SlotRef, ty: &TypeDescriptor) -> &'a mut [u8] {
    // SAFETY: the layout gives every slot `state_bytes` of its own, aligned to 16; the rest is the caller's promise.
    unsafe { slice::from_raw_parts_mut(slot.state.as_ptr(), ty.state_bytes) }
}
