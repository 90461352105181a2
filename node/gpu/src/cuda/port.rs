//! The host's ends of the rings to and from a kernel, and the words beside them.
//!
//! * Ingress: one ring in pinned memory, pulled by the router block. The host chooses worker and slot of each envelope, so it has to
//!   know what each worker is finished with: `ingress_done`, which the worker writes. Never more than a worker's ring holds is
//!   outstanding at it, so the router never waits.
//! * Egress: a ring per worker in pinned memory; tails lie side by side, so a look at all of them is a few lines.
//!
//! Loads and stores of position words are atomic. Release stores of the host pair with the system-scope fence of the router, acquire
//! loads with those of the workers (`device/memory.cuh`).
//!
//! The other side may be another process, so no position that it writes is trusted (C9): one that cannot be makes a port broken, and
//! nothing is read or written by it.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use ringfleet_abi::status::StatusOp;
use ringfleet_abi::{Envelope, Flags, Status, WorkerIndex};
use ringfleet_kernels::layout::HostPage;
use ringfleet_kernels::{Geometry, bell};

use crate::host_memory::HostMemory;

/// A word beside each slot of the host's ring: worker above, slot of the worker's ingress ring below this bit.
pub(crate) const DEST_SLOT_BITS: u32 = 20;

/// The host's positions in the rings to the workers.
#[derive(Debug)]
pub struct IngressPort {
    ingress_slots: u32,
    host_slots: u32,
    write: u32,
    published: u32,
    head_seen: u32,
    /// Pushed to each worker.
    pushed: Vec<u64>,
    /// What each worker is finished with, as last told.
    done: Vec<Cell<u64>>,
    broken: Cell<bool>,
    /// The bell holds an envelope that adds up.
    rung: bool,
}

/// The host's positions in the rings from the workers.
#[derive(Debug)]
pub struct EgressPort {
    egress_slots: u32,
    head: Vec<u32>,
    /// How many envelopes of each have come by the bell since its tail was level: so far behind the tail may be.
    ahead: Vec<u32>,
    /// The check of the last bell that was looked at whole: it is taken once.
    bell_seen: u64,
    broken: bool,
    /// The last poll left rings where they were.
    behind: bool,
    events: VecDeque<Status>,
}

pub(crate) fn word32<M: HostMemory>(memory: &M, offset: usize) -> &AtomicU32 {
    // SAFETY: within the page and aligned (offsets of u32 fields); both sides only use atomic accesses of this size.
    unsafe { AtomicU32::from_ptr(memory.host_page().at::<u32>(offset / 4)) }
}

pub(crate) fn word64<M: HostMemory>(memory: &M, offset: usize) -> &AtomicU64 {
    // SAFETY: as above, for u64 fields.
    unsafe { AtomicU64::from_ptr(memory.host_page().at::<u64>(offset / 8)) }
}

impl IngressPort {
    /// The end of empty rings.
    #[must_use]
    pub fn new(geometry: &Geometry, host_slots: u32) -> Self {
        let workers = geometry.workers as usize;
        Self {
            ingress_slots: geometry.ingress_slots,
            host_slots,
            write: 0,
            published: 0,
            head_seen: 0,
            pushed: vec![0; workers],
            done: vec![Cell::new(0); workers],
            broken: Cell::new(false),
            rung: false,
        }
    }

    /// Whether the other side has written a position that cannot be: nothing more is pushed, and the device is to be given up.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// What a worker is finished with. Never falls and is never more than the worker was given: one that says so breaks the port, and
    /// what it said last stands from then on.
    #[must_use]
    pub fn done<M: HostMemory>(&self, memory: &M, worker: WorkerIndex) -> u64 {
        let w = worker.0 as usize;
        let last = self.done[w].get();
        if self.broken.get() {
            return last;
        }
        let now = ingress_done(memory, worker);
        if now < last || now > self.pushed[w] {
            self.broken.set(true);
            return last;
        }
        self.done[w].set(now);
        now
    }

    /// What a worker was finished with when it was last asked.
    #[must_use]
    pub fn last_done(&self, worker: WorkerIndex) -> u64 {
        self.done[worker.0 as usize].get()
    }

    /// Writes one envelope for `worker`, unpublished; `false` if the host's ring or the worker's is full.
    #[inline]
    pub fn push<M: HostMemory>(&mut self, memory: &M, worker: WorkerIndex, envelope: &Envelope) -> bool {
        if self.broken.get() {
            return false;
        }
        let w = worker.0 as usize;
        if self.write.wrapping_sub(self.head_seen) >= self.host_slots {
            // Acquire: the router's reads of the slots that it returned are over.
            let head = word32(memory, offset_of!(HostPage, ingress_head)).load(Ordering::Acquire);
            if head.wrapping_sub(self.head_seen) > self.published.wrapping_sub(self.head_seen) {
                self.broken.set(true);
                return false;
            }
            self.head_seen = head;
            if self.write.wrapping_sub(self.head_seen) >= self.host_slots {
                return false;
            }
        }
        let slots = u64::from(self.ingress_slots);
        if self.pushed[w] - self.done[w].get() >= slots && self.pushed[w] - self.done(memory, worker) >= slots {
            return false;
        }
        let at = (self.write & (self.host_slots - 1)) as usize;
        let slot = (self.pushed[w] as u32) & (self.ingress_slots - 1);
        // SAFETY: the slot is beyond the published tail and not before the router's head, so the router does not read it now.
        unsafe {
            memory.host_ingress().at::<Envelope>(at).write(*envelope);
            memory.host_dest().at::<u32>(at).write(u32::from(worker.0) << DEST_SLOT_BITS | slot);
        }
        self.pushed[w] += 1;
        self.write = self.write.wrapping_add(1);
        true
    }

    /// Publishes what was pushed.
    #[inline]
    pub fn publish<M: HostMemory>(&mut self, memory: &M) {
        if self.write != self.published {
            if self.write.wrapping_sub(self.published) == 1 {
                self.ring_bell(memory);
                self.rung = true;
            } else if self.rung {
                // Its position comes again after 2^32 envelopes.
                word64(memory, offset_of!(HostPage, bell_check)).store(0, Ordering::Relaxed);
                self.rung = false;
            }
            self.published = self.write;
            // Release: pairs with the router's fence after its load; publishes the slots below.
            word32(memory, offset_of!(HostPage, ingress_tail)).store(self.write, Ordering::Release);
        }
    }

    /// Writes a single envelope beside the words that the router reads, so that it needs one read of host memory, not two. The
    /// check makes it safe (`ringfleet_kernels::bell`), so the order of these stores does not matter.
    fn ring_bell<M: HostMemory>(&self, memory: &M) {
        let at = (self.published & (self.host_slots - 1)) as usize;
        // SAFETY: the slot was written by `push` and is not yet published; nobody else writes it.
        let (envelope, dest) =
            unsafe { (memory.host_ingress().at::<[u64; 8]>(at).read(), memory.host_dest().at::<u32>(at).read()) };
        word32(memory, offset_of!(HostPage, bell_position)).store(self.published, Ordering::Relaxed);
        word32(memory, offset_of!(HostPage, bell_dest)).store(dest, Ordering::Relaxed);
        let check = bell::check(self.published, dest, &envelope);
        word64(memory, offset_of!(HostPage, bell_check)).store(check, Ordering::Relaxed);
        for (k, word) in envelope.iter().enumerate() {
            word64(memory, offset_of!(HostPage, bell) + k * 8).store(*word, Ordering::Relaxed);
        }
    }
}

impl EgressPort {
    /// The end of empty rings.
    #[must_use]
    pub fn new(geometry: &Geometry) -> Self {
        let workers = geometry.workers as usize;
        let egress_slots = geometry.egress_slots;
        Self {
            egress_slots,
            head: vec![0; workers],
            ahead: vec![0; workers],
            bell_seen: 0,
            broken: false,
            behind: false,
            events: VecDeque::new(),
        }
    }

    /// Whether a worker has written a position that cannot be: its ring is not read any more, and the device is to be given up.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the last poll left rings where they were although there was room, because too many events wait to be taken.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// The next event that came through the rings. They are set aside by [`EgressPort::poll`], in order per worker; while many of
    /// them wait to be taken, nothing more is polled, and the port [is behind](EgressPort::is_behind).
    pub fn take_event(&mut self) -> Option<Status> {
        self.events.pop_front()
    }

    /// Takes envelopes that workers sent to the host, in order per worker, and returns how many.
    pub fn poll<M: HostMemory>(&mut self, memory: &M, out: &mut [Envelope]) -> usize {
        self.behind = false;
        // A message that comes alone comes by the bell first.
        let mut taken = if out.is_empty() || self.events.len() >= EVENTS_MAX { 0 } else { self.take_bell(memory, out) };
        for worker in 0..self.head.len() {
            let tail = word32(memory, offset_of!(HostPage, egress_tail) + worker * 4).load(Ordering::Relaxed);
            if tail == self.head[worker] {
                self.ahead[worker] = 0;
                continue;
            }
            if taken == out.len() {
                continue;
            }
            if self.events.len() < EVENTS_MAX {
                taken += self.take(memory, worker, tail, &mut out[taken..]);
            } else {
                self.behind = true;
            }
        }
        taken
    }

    /// Takes the envelope of the bell, if it is whole and the next of its ring: its tail comes behind it (`device/bell_lanes.cuh`).
    fn take_bell<M: HostMemory>(&mut self, memory: &M, out: &mut [Envelope]) -> usize {
        let check = word64(memory, offset_of!(HostPage, egress_bell_check)).load(Ordering::Relaxed);
        if check == self.bell_seen {
            return 0;
        }
        let position = word32(memory, offset_of!(HostPage, egress_bell_position)).load(Ordering::Relaxed);
        let worker = word32(memory, offset_of!(HostPage, egress_bell_worker)).load(Ordering::Relaxed);
        let words: [u64; 8] =
            std::array::from_fn(|k| word64(memory, offset_of!(HostPage, egress_bell) + k * 8).load(Ordering::Relaxed));
        if bell::check(position, worker, &words) != check {
            return 0;
        }
        self.bell_seen = check;
        let Some(head) = self.head.get_mut(worker as usize).filter(|head| **head == position) else {
            return 0;
        };
        *head = head.wrapping_add(1);
        let head = *head;
        self.ahead[worker as usize] += 1;
        // Release: as behind `take`.
        word32(memory, offset_of!(HostPage, egress_head) + worker as usize * 4).store(head, Ordering::Release);
        self.hand_out(bytemuck::cast(words), &mut out[..1])
    }

    /// Gives an envelope out, or sets it aside if it is an event; how many were given out.
    fn hand_out(&mut self, envelope: Envelope, out: &mut [Envelope]) -> usize {
        if envelope.flags().has(Flags::CONTROL) && !envelope.flags().has(Flags::REPLY) {
            self.events.extend(event_of(&envelope));
            return 0;
        }
        out[0] = envelope;
        1
    }

    fn take<M: HostMemory>(&mut self, memory: &M, worker: usize, tail: u32, out: &mut [Envelope]) -> usize {
        let head = self.head[worker];
        // Acquire: pairs with the worker's system-scope fence before it published the tail.
        fence(Ordering::Acquire);
        let ready = tail.wrapping_sub(head);
        // No order holds between a tail and the bell of the next round.
        if head.wrapping_sub(tail) <= self.ahead[worker] {
            return 0;
        }
        self.ahead[worker] = 0;
        if ready > self.egress_slots {
            self.broken = true;
            return 0;
        }
        let ring = worker * self.egress_slots as usize;
        let (mut looked, mut taken) = (0, 0);
        while looked < ready && taken < out.len() {
            let at = (head.wrapping_add(looked) & (self.egress_slots - 1)) as usize;
            // SAFETY: a published slot that is not yet given back: the worker does not write it.
            let envelope = unsafe { memory.egress().at::<Envelope>(ring + at).read() };
            looked += 1;
            taken += self.hand_out(envelope, &mut out[taken..]);
        }
        self.head[worker] = head.wrapping_add(looked);
        // Release: our reads of these slots are over.
        word32(memory, offset_of!(HostPage, egress_head) + worker * 4).store(self.head[worker], Ordering::Release);
        taken
    }
}

/// Events that wait to be taken. One ring's worth more may come in the poll that passes this.
const EVENTS_MAX: usize = 4096;

/// What a control envelope of a worker that is no reply says: an actor has failed (`tell_failure` in `device/run.cuh`).
fn event_of(envelope: &Envelope) -> Option<Status> {
    let fault =
        u32::from_le_bytes([envelope.payload[0], envelope.payload[1], envelope.payload[2], envelope.payload[3]]);
    (envelope.kind == StatusOp::ActorFailed.code()).then(|| Status::ActorFailed { actor: envelope.from(), fault })
}

/// What a worker says it is finished with.
#[inline]
fn ingress_done<M: HostMemory>(memory: &M, worker: WorkerIndex) -> u64 {
    word64(memory, offset_of!(HostPage, ingress_done) + worker.0 as usize * 8).load(Ordering::Acquire)
}

/// C2: until when the device may act, in its own time.
pub fn set_lease<M: HostMemory>(memory: &M, deadline_ns: u64) {
    word64(memory, offset_of!(HostPage, lease_deadline_ns)).store(deadline_ns, Ordering::Release);
}

/// The deadline that was written last, in device time.
#[must_use]
pub fn lease_deadline<M: HostMemory>(memory: &M) -> u64 {
    word64(memory, offset_of!(HostPage, lease_deadline_ns)).load(Ordering::Acquire)
}

/// Wall clock less device time.
pub fn set_wall_offset<M: HostMemory>(memory: &M, offset_ns: u64) {
    word64(memory, offset_of!(HostPage, wall_offset_ns)).store(offset_ns, Ordering::Release);
}

/// Asks all blocks to end between two batches, or takes that back before a launch.
pub fn set_stop<M: HostMemory>(memory: &M, stop: bool) {
    word32(memory, offset_of!(HostPage, stop)).store(u32::from(stop), Ordering::Release);
}

/// Device time of the router's last look, 0 before its first.
#[must_use]
pub fn device_ns<M: HostMemory>(memory: &M) -> u64 {
    word64(memory, offset_of!(HostPage, device_ns)).load(Ordering::Acquire)
}

/// Says that sets, shards or routes have changed; the lowest bit says which route table holds.
pub fn set_tables_version<M: HostMemory>(memory: &M, version: u32) {
    word32(memory, offset_of!(HostPage, tables_version)).store(version, Ordering::Release);
}

/// The version of the tables that a worker has adopted.
#[must_use]
pub fn tables_seen<M: HostMemory>(memory: &M, worker: WorkerIndex) -> u32 {
    word32(memory, offset_of!(HostPage, tables_seen) + worker.0 as usize * 4).load(Ordering::Acquire)
}

/// The last version of which a worker has had every worker's marker.
#[must_use]
pub fn routes_flushed<M: HostMemory>(memory: &M, worker: WorkerIndex) -> u32 {
    word32(memory, offset_of!(HostPage, routes_flushed) + worker.0 as usize * 4).load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::shape::Shape;
    use crate::process::shared::SharedMap;

    const SHAPE: Shape = Shape {
        workers: 2,
        host_ingress_slots: 64,
        ingress_slots: 32,
        egress_slots: 32,
        control_slots: 16,
        status_slots: 16,
    };

    fn ingress(map: &SharedMap) -> IngressPort {
        let mut port = IngressPort::new(&map.shape().geometry(), SHAPE.host_ingress_slots);
        for n in 0..64_u16 {
            assert!(port.push(map, WorkerIndex(n % 2), &Envelope::default()));
        }
        port.publish(map);
        port
    }

    #[test]
    fn a_head_that_passes_the_tail_breaks_the_ingress() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = ingress(&map);
        assert!(!port.push(&map, WorkerIndex(0), &Envelope::default()) && !port.is_broken(), "full");
        word32(&map, offset_of!(HostPage, ingress_head)).store(65, Ordering::Relaxed);
        assert!(!port.push(&map, WorkerIndex(0), &Envelope::default()) && port.is_broken());
    }

    #[test]
    fn a_worker_that_is_done_with_more_than_it_was_given_breaks_the_ingress() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = ingress(&map);
        word32(&map, offset_of!(HostPage, ingress_head)).store(64, Ordering::Relaxed);
        let done = |count| word64(&map, offset_of!(HostPage, ingress_done) + 8).store(count, Ordering::Relaxed);
        done(32);
        assert!(port.push(&map, WorkerIndex(1), &Envelope::default()));
        done(34);
        assert_eq!((port.done(&map, WorkerIndex(1)), port.is_broken()), (32, true));
        done(33);
        assert_eq!(port.done(&map, WorkerIndex(1)), 32, "what it said last stands");
    }

    #[test]
    fn a_worker_that_takes_back_what_it_is_done_with_breaks_the_ingress() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = ingress(&map);
        let done = |count| word64(&map, offset_of!(HostPage, ingress_done)).store(count, Ordering::Relaxed);
        done(20);
        assert_eq!((port.done(&map, WorkerIndex(0)), port.is_broken()), (20, false));
        done(19);
        assert_eq!((port.done(&map, WorkerIndex(0)), port.is_broken()), (20, true));
        word32(&map, offset_of!(HostPage, ingress_head)).store(64, Ordering::Relaxed);
        done(32);
        assert!(!port.push(&map, WorkerIndex(0), &Envelope::default()), "nothing more is pushed");
    }

    #[test]
    fn a_tail_beyond_the_ring_breaks_the_egress() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = EgressPort::new(&map.shape().geometry());
        let mut out = [Envelope::default(); 64];
        let tail = |count| word32(&map, offset_of!(HostPage, egress_tail) + 4).store(count, Ordering::Relaxed);
        tail(32);
        assert_eq!((port.poll(&map, &mut out), port.is_broken()), (32, false));
        tail(32 + 33);
        assert_eq!((port.poll(&map, &mut out), port.is_broken()), (0, true));
    }

    /// Writes an envelope to a position of a worker's ring, and to the bell.
    fn ring_egress_bell(map: &SharedMap, worker: u32, position: u32, envelope: &Envelope) {
        if worker < u32::from(SHAPE.workers) {
            // SAFETY: within the memory; nobody else writes it.
            unsafe { map.egress().at::<Envelope>((worker * SHAPE.egress_slots + position) as usize).write(*envelope) };
        }
        let words: [u64; 8] = bytemuck::cast(*envelope);
        for (k, word) in words.iter().enumerate() {
            word64(map, offset_of!(HostPage, egress_bell) + k * 8).store(*word, Ordering::Relaxed);
        }
        word32(map, offset_of!(HostPage, egress_bell_position)).store(position, Ordering::Relaxed);
        word32(map, offset_of!(HostPage, egress_bell_worker)).store(worker, Ordering::Relaxed);
        let check = bell::check(position, worker, &words);
        word64(map, offset_of!(HostPage, egress_bell_check)).store(check, Ordering::Relaxed);
    }

    fn publish_egress(map: &SharedMap, worker: usize, tail: u32) {
        word32(map, offset_of!(HostPage, egress_tail) + worker * 4).store(tail, Ordering::Release);
    }

    fn keyed(to_key: u64) -> Envelope {
        Envelope { to_key, ..Envelope::default() }
    }

    #[test]
    fn what_comes_by_the_bell_comes_once_and_before_its_tail() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = EgressPort::new(&map.shape().geometry());
        let mut out = [Envelope::default(); 8];
        ring_egress_bell(&map, 1, 0, &keyed(7));
        assert_eq!((port.poll(&map, &mut []), port.poll(&map, &mut out), out[0].to_key), (0, 1, 7));
        assert_eq!((port.poll(&map, &mut out), port.is_broken()), (0, false), "its tail is on the way");
        publish_egress(&map, 1, 1);
        assert_eq!((port.poll(&map, &mut out), port.is_broken()), (0, false));
        // The same once more, by its tail first; then the bell says nothing new.
        ring_egress_bell(&map, 1, 1, &keyed(8));
        word64(&map, offset_of!(HostPage, egress_bell)).store(0, Ordering::Relaxed);
        assert_eq!(port.poll(&map, &mut out), 0, "a torn bell is not believed");
        publish_egress(&map, 1, 2);
        assert_eq!((port.poll(&map, &mut out), out[0].to_key), (1, 8));
        ring_egress_bell(&map, 1, 1, &keyed(8));
        assert_eq!((port.poll(&map, &mut out), port.is_broken()), (0, false));
    }

    #[test]
    fn a_bell_does_not_overtake_what_its_ring_holds() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = EgressPort::new(&map.shape().geometry());
        let mut out = [Envelope::default(); 8];
        ring_egress_bell(&map, 0, 0, &keyed(1));
        ring_egress_bell(&map, 0, 1, &keyed(2));
        assert_eq!(port.poll(&map, &mut out), 0, "position 0 comes first");
        publish_egress(&map, 0, 2);
        assert_eq!((port.poll(&map, &mut out), out[0].to_key, out[1].to_key), (2, 1, 2));
        ring_egress_bell(&map, 9, 0, &keyed(3));
        assert_eq!((port.poll(&map, &mut out), port.is_broken()), (0, false), "there is no worker 9");
    }

    #[test]
    fn a_bell_that_has_been_seen_is_not_taken_when_its_position_comes_again() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = EgressPort::new(&map.shape().geometry());
        let mut out = [Envelope::default(); 8];
        ring_egress_bell(&map, 0, 5, &keyed(1));
        assert_eq!(port.poll(&map, &mut out), 0);
        publish_egress(&map, 0, 5);
        assert_eq!(port.poll(&map, &mut out), 5);
        assert_eq!(port.poll(&map, &mut out), 0, "it has been lying there");
    }

    #[test]
    fn two_envelopes_may_come_by_the_bell_before_the_first_tail() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = EgressPort::new(&map.shape().geometry());
        let mut out = [Envelope::default(); 8];
        for position in 0..2 {
            ring_egress_bell(&map, 1, position, &keyed(7 + u64::from(position)));
            assert_eq!((port.poll(&map, &mut out), out[0].to_key), (1, 7 + u64::from(position)));
        }
        for tail in [1, 2] {
            publish_egress(&map, 1, tail);
            assert_eq!((port.poll(&map, &mut out), port.is_broken()), (0, false), "tail {tail}");
        }
        publish_egress(&map, 1, 1);
        assert_eq!((port.poll(&map, &mut out), port.is_broken()), (0, true), "it was level: it went back");
    }

    #[test]
    fn a_tail_that_goes_back_breaks_the_egress() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = EgressPort::new(&map.shape().geometry());
        let mut out = [Envelope::default(); 8];
        publish_egress(&map, 0, 2);
        assert_eq!(port.poll(&map, &mut out), 2);
        publish_egress(&map, 0, 1);
        assert_eq!((port.poll(&map, &mut out), port.is_broken()), (0, true));
    }

    #[test]
    fn the_bell_of_the_ingress_is_silent_once_more_than_one_envelope_is_published() {
        let map = SharedMap::create(SHAPE).expect("memory");
        let mut port = IngressPort::new(&map.shape().geometry(), SHAPE.host_ingress_slots);
        let check = || word64(&map, offset_of!(HostPage, bell_check)).load(Ordering::Relaxed);
        assert!(port.push(&map, WorkerIndex(0), &keyed(1)));
        port.publish(&map);
        assert_ne!(check(), 0);
        assert!(port.push(&map, WorkerIndex(0), &keyed(2)) && port.push(&map, WorkerIndex(1), &keyed(3)));
        port.publish(&map);
        assert_eq!(check(), 0, "its position comes again after 2^32 envelopes");
    }

    #[test]
    fn a_poll_that_leaves_a_verdict_behind_too_many_events_says_so() {
        let slots = 8192;
        let map = SharedMap::create(Shape { egress_slots: slots, ..SHAPE }).expect("memory");
        let mut port = EgressPort::new(&map.shape().geometry());
        let say = |worker: usize, envelopes: &[Envelope]| {
            for (at, envelope) in envelopes.iter().enumerate() {
                // SAFETY: within the memory; nobody else writes it.
                unsafe { map.egress().at::<Envelope>(worker * slots as usize + at).write(*envelope) };
            }
            let tail = word32(&map, offset_of!(HostPage, egress_tail) + worker * 4);
            tail.store(envelopes.len() as u32, Ordering::Release);
        };
        let mut failure = Envelope { kind: StatusOp::ActorFailed.code(), ..Envelope::default() };
        failure.set_flags(Flags::CONTROL);
        say(0, &vec![failure; EVENTS_MAX + 1]);
        say(1, &[Envelope { to_key: 7, ..Envelope::default() }]);
        let mut out = [Envelope::default(); 8];
        assert_eq!((port.poll(&map, &mut out), port.is_behind()), (0, true));
        assert_eq!((port.poll(&map, &mut out), port.is_behind()), (0, true), "nobody has taken events");
        let events = std::iter::from_fn(|| port.take_event()).count();
        assert_eq!(events, EVENTS_MAX + 1);
        assert_eq!((port.poll(&map, &mut out), port.is_behind(), out[0].to_key), (1, false, 7));
    }
}
